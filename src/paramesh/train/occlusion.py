"""`OcclusionSensitivity`: which parts of an image a classification depends on.

Sources: Zeiler and Fergus 2014; MindSpore's metric of this name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paramesh.nn.cell import Cell
from paramesh.tensor.base import Tensor
from paramesh.train.metrics import HostArray, Metric, rearrange_inputs


class OcclusionSensitivity(Metric):
    """How much an output falls while the surroundings of one element of the input are hidden.

    Args:
        pad_val: what hidden elements are set to.
        margin: hidden are `margin` elements before an element, and `margin - 1` after it, along
            each axis.
        n_batch: images in one call of the network.
        b_box: [min, max, min, max, …] for each axis but the first: the elements that are looked
            at, both ends included; below 0: the first, or last. None: all.

    Raises:
        TypeError: an argument of another type. ValueError: `margin` or `n_batch` is below 1.
    """

    def __init__(
        self,
        pad_val: float = 0.0,
        margin: int | Sequence[int] = 2,
        n_batch: int = 128,
        b_box: list[int] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(pad_val, float):
            raise TypeError(f"OcclusionSensitivity: pad_val must be a float, got {pad_val!r}.")
        margins: list[Any] = list(margin) if isinstance(margin, list | tuple) else [margin]
        for name, value in (("margin", margins), ("n_batch", [n_batch])):
            if not all(isinstance(v, int) and not isinstance(v, bool) for v in value):
                raise TypeError(f"OcclusionSensitivity: {name} must be an int, got {value!r}.")
            if not value or min(value) < 1:
                raise ValueError(f"OcclusionSensitivity: {name} must be at least 1, got {value!r}.")
        if b_box is not None and not isinstance(b_box, list):
            raise TypeError(f"OcclusionSensitivity: b_box must be a list, got {b_box!r}.")
        self.pad_val, self.margin, self.n_batch, self.b_box = pad_val, margin, n_batch, b_box
        self.clear()

    def clear(self) -> None:
        """Forget the image."""
        self._falls: HostArray | None = None

    @rearrange_inputs
    def update(self, *inputs: object) -> None:
        """Take (network, image, label), instead of those before.

        Args:
            *inputs: a Cell; one image (1, …) that it takes; and which of its outputs (N, C) is
                looked at.

        Raises:
            ValueError: not three inputs, or a box or margins that do not fit the image.
            TypeError: the first is not a Cell. RuntimeError: more than one image, or label.
        """
        if len(inputs) != 3:
            raise ValueError(
                f"OcclusionSensitivity takes (network, image, label), got {len(inputs)} inputs."
            )
        network, image, label = inputs[0], np.asarray(inputs[1]), np.asarray(inputs[2])
        if not isinstance(network, Cell):
            raise TypeError(f"OcclusionSensitivity: the first input must be a Cell: {network!r}.")
        if image.shape[:1] != (1,) or label.size != 1:
            raise RuntimeError(
                f"OcclusionSensitivity takes one image (1, …) and one label, got shapes "
                f"{image.shape} and {label.shape}."
            )
        chosen = int(label.reshape(()))
        low, high = self._box(image.shape[1:])
        hidden = [self._hidden(image, at, low) for at in np.ndindex(*(high - low))]
        outputs = [
            np.asarray(network(Tensor(np.concatenate(hidden[i : i + self.n_batch]))))[:, chosen]
            for i in range(0, len(hidden), self.n_batch)
        ]
        baseline = np.asarray(network(Tensor(image)))[0, chosen]
        self._falls = baseline - np.concatenate(outputs).reshape(high - low)

    def _box(self, shape: tuple[int, ...]) -> tuple[HostArray, HostArray]:
        """The first element that is looked at along each axis, and the end."""
        size = np.array(shape)
        if self.b_box is None:
            return np.zeros_like(size), size
        if len(self.b_box) != 2 * len(shape):
            raise ValueError(
                f"OcclusionSensitivity: b_box must have {2 * len(shape)} numbers for an image of "
                f"shape (1, {', '.join(map(str, shape))}), got {self.b_box}."
            )
        low, high = np.array(self.b_box[::2]), np.array(self.b_box[1::2])
        low = np.maximum(low, 0)
        high = np.where(high < 0, size - 1, high)
        if (high >= size).any() or (low > high).any():
            raise ValueError(
                f"OcclusionSensitivity: b_box {self.b_box} is not inside of the image {shape}, or "
                "has a minimum above its maximum."
            )
        return low, high + 1

    def _hidden(self, image: HostArray, at: tuple[int, ...], low: HostArray) -> HostArray:
        margins = [self.margin] * len(at) if isinstance(self.margin, int) else list(self.margin)
        if len(margins) != len(at):
            raise ValueError(
                f"OcclusionSensitivity: {len(margins)} margins for an image with {len(at)} axes."
            )
        middle = low + np.array(at)
        part = [slice(max(0, i - m), i + m) for i, m in zip(middle, margins, strict=True)]
        found = image.copy()
        found[(slice(None), *part)] = self.pad_val
        return found

    def eval(self) -> HostArray:
        """The falls, of the image's shape or the box's, without axes of length 1.

        Raises:
            RuntimeError: no image yet.
        """
        if self._falls is None:
            raise RuntimeError("OcclusionSensitivity: eval() before any update(): no image yet.")
        return self._falls.squeeze()
