"""Distances between the edges of two masks: HausdorffDistance, MeanSurfaceDistance and the like.

The edge of a mask is what a binary erosion takes away. Source: MindSpore's metrics of these names.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from paramesh.train.metrics import HostArray, Metric, rearrange_inputs

_DISTANCES = ("euclidean", "chessboard", "taxicab")


def _check_flag(metric: Metric, name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{type(metric).__name__}: {name} must be a bool, got {value!r}.")


class _OfEdges(Metric):
    """The edges of the last pair of masks, and distances from one to the other."""

    def __init__(self, distance_metric: str) -> None:
        super().__init__()
        if not isinstance(distance_metric, str):
            raise TypeError(
                f"{type(self).__name__}: distance_metric must be a str, got {distance_metric!r}."
            )
        if distance_metric not in _DISTANCES:
            raise ValueError(
                f"{type(self).__name__}: distance_metric must be one of {_DISTANCES}, got "
                f"{distance_metric!r}."
            )
        self.distance_metric = distance_metric
        self.clear()

    def clear(self) -> None:
        """Forget the masks."""
        self._edges: tuple[HostArray, HostArray] | None = None

    @rearrange_inputs
    def update(self, *inputs: object) -> None:
        """Take (predictions, label, label_idx), instead of those before.

        Args:
            *inputs: two arrays of one shape, and the value that the masks consist of. Arrays of
                bools are masks themselves.

        Raises:
            ValueError: not three inputs, different or empty shapes, or a value that is no number
                or in neither array.
        """
        name = type(self).__name__
        if len(inputs) != 3:
            raise ValueError(
                f"{name} takes (predictions, label, label_idx), got {len(inputs)} inputs."
            )
        outputs, label = (np.asarray(x) for x in inputs[:2])
        chosen = inputs[2]
        if not isinstance(chosen, int | float):
            raise ValueError(f"{name}: label_idx must be a number, got {chosen!r}.")
        if outputs.shape != label.shape or not outputs.size:
            raise ValueError(
                f"{name}: predictions {outputs.shape} and label {label.shape} must have one shape, "
                "and elements."
            )
        if chosen not in outputs and chosen not in label:
            raise ValueError(f"{name}: label_idx {chosen!r} is in neither of the two arrays.")
        masks = [x if x.dtype == bool else x == chosen for x in (outputs, label)]
        self._edges = self._edges_of(*masks)

    def _edges_of(self, outputs: HostArray, label: HostArray) -> tuple[HostArray, HostArray]:
        return outputs ^ ndimage.binary_erosion(outputs), label ^ ndimage.binary_erosion(label)

    def _both(self) -> tuple[HostArray, HostArray]:
        if self._edges is None:
            raise RuntimeError(f"{type(self).__name__}: eval() before any update(): no masks yet.")
        return self._edges

    def _distances(self, start: HostArray, end: HostArray) -> HostArray:
        """For each element of one edge, how far the other is; empty without the first edge."""
        if not start.any():
            return np.zeros(0)
        if not end.any():
            return np.full(int(start.sum()), np.inf)
        if self.distance_metric == "euclidean":
            return np.asarray(ndimage.distance_transform_edt(~end))[start]
        distances = ndimage.distance_transform_cdt(~end, metric=self.distance_metric)
        return np.asarray(distances)[start]


class HausdorffDistance(_OfEdges):
    """How far an element of one edge is from the other edge, at most (Huttenlocher et al. 1993).

    Args:
        distance_metric: "euclidean", "chessboard" or "taxicab".
        percentile: of the distances, 0 to 100, instead of the largest.
        directed: whether only distances from predictions to labels count.
        crop: whether both are cut to the box that holds them first. Masks that end at the box
            have no edge there.

    Raises:
        TypeError: an argument of another type. ValueError: another distance, or percentile.
    """

    def __init__(
        self,
        distance_metric: str = "euclidean",
        percentile: float | None = None,
        directed: bool = False,
        crop: bool = True,
    ) -> None:
        if percentile is not None and not isinstance(percentile, float):
            raise TypeError(f"HausdorffDistance: percentile must be a float, got {percentile!r}.")
        if percentile is not None and not 0 <= percentile <= 100:
            raise ValueError(f"HausdorffDistance: percentile must be 0 to 100, got {percentile}.")
        _check_flag(self, "directed", directed)
        _check_flag(self, "crop", crop)
        self.percentile, self.directed, self.crop = percentile, directed, crop
        super().__init__(distance_metric)

    def _edges_of(self, outputs: HostArray, label: HostArray) -> tuple[HostArray, HostArray]:
        if self.crop and (outputs | label).any():
            (box,) = ndimage.find_objects((outputs | label).astype(np.int8))
            outputs, label = outputs[box].squeeze(), label[box].squeeze()
        return super()._edges_of(outputs, label)

    def _furthest(self, start: HostArray, end: HostArray) -> float:
        distances = self._distances(start, end)
        if not distances.size:
            return np.float64(np.inf)
        if not self.percentile:
            return np.float64(distances.max())
        return np.float64(np.percentile(distances, self.percentile))

    def eval(self) -> float:
        """The distance, in elements; infinite if a mask is empty.

        Raises:
            RuntimeError: no masks yet.
        """
        outputs, label = self._both()
        there = self._furthest(outputs, label)
        return there if self.directed else max(there, self._furthest(label, outputs))


class _MeanOfEdges(_OfEdges):
    """A mean of the distances from predictions to labels, and both ways if `symmetric`."""

    def __init__(self, symmetric: bool = False, distance_metric: str = "euclidean") -> None:
        _check_flag(self, "symmetric", symmetric)
        self.symmetric = symmetric
        super().__init__(distance_metric)

    def _means(self, power: int) -> list[float]:
        """The mean of the distances' power: one way, or two."""
        outputs, label = self._both()
        ways = [(outputs, label), (label, outputs)][: 2 if self.symmetric else 1]
        found = [self._distances(*way) for way in ways]
        return [np.float64((x.astype(float) ** power).mean() if x.size else np.inf) for x in found]


class MeanSurfaceDistance(_MeanOfEdges):
    """How far the edge of the predictions is from the edge of the labels, on average.

    Args:
        symmetric: whether the mean with the distances the other way is taken.
        distance_metric: "euclidean", "chessboard" or "taxicab".

    Raises:
        TypeError: an argument of another type. ValueError: another distance.
    """

    def eval(self) -> float:
        """The distance, in elements; infinite if a mask is empty.

        Raises:
            RuntimeError: no masks yet.
        """
        return np.float64(np.mean(self._means(1)))


class RootMeanSquareDistance(_MeanOfEdges):
    """The mean square of the distances from the predictions' edge to the labels'.

    Args:
        symmetric: whether distances the other way count as well. Only then MindSpore takes the
            root, and so does this.
        distance_metric: "euclidean", "chessboard" or "taxicab".

    Raises:
        TypeError: an argument of another type. ValueError: another distance.
    """

    def eval(self) -> float:
        """The mean square, or with `symmetric` its root; infinite if a mask is empty.

        Raises:
            RuntimeError: no masks yet.
        """
        squares = self._means(2)
        return np.float64(np.sqrt(np.mean(squares))) if self.symmetric else squares[0]
