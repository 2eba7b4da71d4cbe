"""Operators that old scripts take from the inside of MindSpore, or that MindSpore 2.10 deprecates.

They have no function form there. `CombinedNonMaxSuppression` and `MatrixLogarithm` are computed by
the host, from values that are known, as in MindSpore's own kernels for a CPU.

Source: MindSpore's classes of these names; Adafactor (Shazeer and Stern 2018); the inverse scaling
and squaring of `scipy.linalg.logm` (Al-Mohy and Higham 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import int32, to_dtype
from paramesh.ops.updates import write
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import NumberLike, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.known import known_values

# fmt: off
__all__ = [
    "CombinedNonMaxSuppression", "ConcatOffsetV1", "FusedAdaFactor", "FusedAdaFactorWithGlobalNorm",
    "MatrixLogarithm", "UpdateCache",
]
# fmt: on

Values = np.ndarray[Any, Any]


def _one(value: object, name: str) -> Values:
    """A number without axes that is known."""
    found = known_values(value, f"the shape of the result, or what it has, hangs on {name}")
    if found.shape != ():
        raise ValueError(f"{name} must be a number or a Tensor of shape (), got {found.shape}.")
    return found


class CombinedNonMaxSuppression:
    """The boxes with the highest scores of all classes, without those that better ones overlap.

    Args:
        pad_per_class: the result has as many places as all classes can give, if `max_total_size`
            is more.
        clip_boxes: the boxes of the result are cut to 0 to 1.
    """

    def __init__(self, pad_per_class: bool = False, clip_boxes: bool = True) -> None:
        for name, value in (("pad_per_class", pad_per_class), ("clip_boxes", clip_boxes)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be a bool, got {type(value).__name__}.")
        self.pad_per_class, self.clip_boxes = pad_per_class, clip_boxes

    def __call__(
        self,
        boxes: TensorLike,
        scores: TensorLike,
        max_output_size_per_class: NumberLike,
        max_total_size: NumberLike,
        iou_threshold: NumberLike,
        score_threshold: NumberLike,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(boxes (n, k, 4), scores (n, k), classes (n, k) as Float32, how many there are (n,)).

        Args:
            boxes: Float32 (n, m, 1, 4), or (n, m, classes, 4): two opposite corners of each.
            scores: Float32 (n, m, classes).
            max_output_size_per_class: of one class and image, above 0.
            max_total_size: k, above 0.
            iou_threshold: what a box may share with a better one of its class, 0 to 1, as a part of
                what both cover.
            score_threshold: boxes with this score or less are left out.

        Raises:
            TypeError: other element types. ValueError: other shapes, or numbers outside.
            ValueNeededError: in a compiled program.
        """
        what = "which boxes are kept hangs on their values"
        corners, marks = known_values(boxes, what), known_values(scores, what)
        for name, given in (("boxes", corners), ("scores", marks)):
            if given.dtype != np.float32:
                raise TypeError(f"{name} must be Float32, got {to_dtype(given.dtype)}.")
        if corners.ndim != 4 or corners.shape[3] != 4 or marks.ndim != 3:
            raise ValueError(
                f"boxes must be (n, m, 1 or classes, 4) and scores (n, m, classes), got "
                f"{corners.shape} and {marks.shape}."
            )
        classes = marks.shape[2]
        if corners.shape[:2] != marks.shape[:2] or corners.shape[2] not in (1, classes):
            raise ValueError(f"boxes {corners.shape} and scores {marks.shape} do not fit together.")
        each = int(_one(max_output_size_per_class, "max_output_size_per_class"))
        total = int(_one(max_total_size, "max_total_size"))
        share = float(_one(iou_threshold, "iou_threshold"))
        least = float(_one(score_threshold, "score_threshold"))
        if each <= 0 or total <= 0:
            raise ValueError(
                f"max_output_size_per_class and max_total_size must be above 0, got {each}, {total}"
            )
        if not 0 <= share <= 1:
            raise ValueError(f"iou_threshold must be between 0 and 1, got {share}.")
        places = min(each * classes, total) if self.pad_per_class else total
        found = np.zeros((len(corners), places, 6), np.float32)
        counts = np.zeros(len(corners), np.int32)
        for at in range(len(corners)):
            rows: list[tuple[float, int, int, Values]] = []
            for kind in range(classes):
                mine = corners[at, :, min(kind, corners.shape[2] - 1)]
                kept = _best(mine, marks[at, :, kind], each, share, least)
                rows += [(-marks[at, i, kind], kind, i, mine[i]) for i in kept]
            rows.sort(key=lambda row: row[:3])
            counts[at] = min(len(rows), places)
            for place, (mark, kind, _, box) in enumerate(rows[:places]):
                found[at, place] = [*(np.clip(box, 0, 1) if self.clip_boxes else box), -mark, kind]
        parts = found[..., :4], found[..., 4], found[..., 5], counts
        return tuple(Tensor(np.ascontiguousarray(part)) for part in parts)  # type: ignore[return-value]


def _best(boxes: Values, marks: Values, most: int, share: float, least: float) -> list[int]:
    """Places of at most `most` boxes (m, 4), the best first, that no better one overlaps."""
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    areas = (high - low).prod(1)
    left = [int(i) for i in np.argsort(-marks, kind="stable") if marks[i] > least]
    kept: list[int] = []
    while left and len(kept) < most:
        best, *others = left
        kept.append(best)
        sides = np.minimum(high[best], high[others]) - np.maximum(low[best], low[others])
        shared = sides.clip(0).prod(1)
        both = areas[best] + areas[others] - shared
        # A box without an area shares nothing.
        parts = np.divide(shared, both, out=np.zeros_like(both), where=(both > 0) & (shared > 0))
        left = [i for i, part in zip(others, parts, strict=True) if part <= share]
    return kept


class ConcatOffsetV1:
    """Where each of the arrays begins that are put one behind the other."""

    def __call__(self, axis: NumberLike, x: Sequence[TensorLike]) -> tuple[Tensor, ...]:
        """A position Int32 (axes,) for each.

        Args:
            axis: along which they are put.
            x: the shapes of the arrays, each Int32 (axes,).

        Raises:
            ValueError: fewer than two shapes, shapes that differ along another axis, or an axis
                that there is not. TypeError: shapes that are not Int32.
        """
        shapes = [known_values(shape, "ConcatOffsetV1 reads shapes") for shape in x]
        if len(shapes) < 2 or any(s.ndim != 1 or s.shape != shapes[0].shape for s in shapes):
            raise ValueError(
                f"x must be two or more shapes of as many axes, got {[s.tolist() for s in shapes]}."
            )
        for shape in shapes:
            if shape.dtype != np.int32:
                raise TypeError(f"x must be Int32, got {to_dtype(shape.dtype)}.")
        at, axes = int(_one(axis, "axis")), len(shapes[0])
        if not -axes <= at < axes:
            raise ValueError(f"axis must be from {-axes} to {axes - 1}, got {at}.")
        sizes = np.stack(shapes)
        others = np.delete(sizes, at % axes, axis=1)
        if (others != others[0]).any():
            raise ValueError(f"the shapes {sizes.tolist()} differ along another axis than {at}.")
        begins = np.zeros_like(sizes)
        begins[1:, at] = np.cumsum(sizes[:-1, at])
        return tuple(Tensor(begin, int32) for begin in begins)


class MatrixLogarithm:
    """The logarithms of square matrices, whose eigenvalues have an argument in (-pi, pi]."""

    def __call__(self, x: TensorLike) -> Tensor:
        """Complex (..., m, m) -> (..., m, m); that of a matrix without an inverse is not a number.

        Raises:
            TypeError: elements that are not complex. ValueError: not square matrices.
            ValueNeededError: in a compiled program.
        """
        import scipy.linalg

        given = known_values(x, "MatrixLogarithm is computed by the host")
        if given.dtype not in (np.complex64, np.complex128):
            raise TypeError(f"x must be Complex64 or Complex128, got {to_dtype(given.dtype)}.")
        if given.ndim < 2 or given.shape[-1] != given.shape[-2]:
            raise ValueError(f"x must be (..., m, m), got {given.shape}.")
        flat = given.reshape(-1, *given.shape[-2:]).astype(np.complex128)
        out = np.full_like(flat, complex(np.nan, np.nan))
        for at, matrix in enumerate(flat):
            if np.linalg.slogdet(matrix)[0] != 0:
                out[at] = scipy.linalg.logm(matrix)
        return Tensor(out.reshape(given.shape).astype(given.dtype))


class UpdateCache:
    """Writes rows of a Parameter; positions outside are left out."""

    def __call__(
        self, input_x: Parameter, indices: TensorLike, updates: TensorLike, max_num: NumberLike
    ) -> Tensor:
        """A Tensor (1,) of no meaning.

        Args:
            input_x: (n, ...), which is written.
            indices: whole numbers (k,); those below 0 and from `max_num` on are left out.
            updates: (k, ...).
            max_num: a number, or a Tensor of one.

        Raises:
            TypeError: `input_x` is not a Parameter, or indices are not whole numbers.
            ValueError: other shapes.
        """
        value, at, rows = raw(input_x), jnp.asarray(raw(indices)).reshape(-1), raw(updates)
        if not jnp.issubdtype(at.dtype, jnp.integer):
            raise TypeError(f"indices must be whole numbers, got {to_dtype(at.dtype)}.")
        if rows.shape != (*at.shape, *value.shape[1:]):
            raise ValueError(
                f"updates must have a row for each index, {(*at.shape, *value.shape[1:])}, got "
                f"{rows.shape}."
            )
        count = value.shape[0]
        inside = (at >= 0) & (at < jnp.asarray(raw(max_num)).reshape(()))
        write((input_x, value.at[jnp.where(inside, at, count)].set(rows, mode="drop")))
        return Tensor(jnp.zeros(1, value.dtype))


def _rms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(x * x))


class FusedAdaFactor:
    """A step of Adafactor.

    Args:
        enable_scale_parameter: the rate is multiplied by the root of the Parameter's mean square,
            or the second epsilon if that is more.
        enable_first_moment: steps are a moving average.
        enable_weight_decay: the Parameter falls by `learning_rate * weight_decay` of itself.
    """

    def __init__(
        self,
        enable_scale_parameter: bool = False,
        enable_first_moment: bool = False,
        enable_weight_decay: bool = False,
    ) -> None:
        self.enable_scale_parameter = enable_scale_parameter
        self.enable_first_moment = enable_first_moment
        self.enable_weight_decay = enable_weight_decay

    def __call__(
        self,
        epsilon: TensorLike | Sequence[float],
        clip_threshold: NumberLike,
        beta1: NumberLike,
        beta2: NumberLike,
        weight_decay: NumberLike,
        learning_rate: NumberLike,
        gradient: TensorLike,
        param: Parameter,
        exp_avg: Parameter,
        exp_avg_sq_row: Parameter,
        exp_avg_sq_col: Parameter,
        exp_avg_sq: Parameter,
    ) -> tuple[Tensor]:
        """The Parameter after the step, in a tuple.

        Args:
            epsilon: two numbers: one that is added to squares, and the least factor of the rate.
            clip_threshold: the most that the root of the mean square of a change may be, before
                the rate.
            beta1: of the average of changes.
            beta2: of the averages of squares.
            weight_decay: see above.
            learning_rate: see above.
            gradient: of the shape of `param`.
            param: (..., n, m), or (n,).
            exp_avg: of the shape of `param`; written with `enable_first_moment` alone.
            exp_avg_sq_row: (..., n), the mean squares of rows; written if there are two axes.
            exp_avg_sq_col: (..., m), those of columns; written if there are two axes.
            exp_avg_sq: of the shape of `param`; written if there is one axis.

        Raises:
            TypeError: Parameters are expected. ValueError: other shapes.
        """
        value, g = raw(param).astype(np.float32), raw(gradient).astype(np.float32)
        shape = value.shape
        states = {"gradient": (gradient, shape), "exp_avg": (exp_avg, shape)}
        if len(shape) > 1:
            states["exp_avg_sq_row"] = (exp_avg_sq_row, shape[:-1])
            states["exp_avg_sq_col"] = (exp_avg_sq_col, shape[:-2] + shape[-1:])
        else:
            states["exp_avg_sq"] = (exp_avg_sq, shape)
        for name, (state, wanted) in states.items():
            if tuple(state.shape) != wanted:
                raise ValueError(
                    f"FusedAdaFactor: {name} must be {wanted} for param {shape}, got "
                    f"{tuple(state.shape)}."
                )
        small = jnp.asarray(raw(epsilon) if isinstance(epsilon, Tensor) else epsilon, np.float32)
        keep, rate = raw(beta2), raw(learning_rate)
        if self.enable_scale_parameter:
            rate = rate * jnp.maximum(small[1], _rms(value))
        squares = g * g + small[0]
        if len(shape) > 1:
            row, col = (
                keep * raw(state).astype(np.float32) + (1 - keep) * squares.mean(axis)
                for state, axis in ((exp_avg_sq_row, -1), (exp_avg_sq_col, -2))
            )
            write((exp_avg_sq_row, row), (exp_avg_sq_col, col))
            size = (row / row.mean(-1, keepdims=True))[..., None] * col[..., None, :]
        else:
            size = keep * raw(exp_avg_sq).astype(np.float32) + (1 - keep) * squares
            write((exp_avg_sq, size))
        change = g / jnp.sqrt(size)
        change = change / jnp.maximum(1.0, _rms(change) / raw(clip_threshold)) * rate
        if self.enable_first_moment:
            change = raw(beta1) * raw(exp_avg).astype(np.float32) + (1 - raw(beta1)) * change
            write((exp_avg, change))
        if self.enable_weight_decay:
            value = value * (1 - raw(weight_decay) * rate)
        return (Tensor(write((param, value - change))),)


class FusedAdaFactorWithGlobalNorm(FusedAdaFactor):
    """A step of Adafactor with a gradient that is divided by a norm."""

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride] - one argument more
        self,
        epsilon: TensorLike | Sequence[float],
        clip_threshold: NumberLike,
        beta1: NumberLike,
        beta2: NumberLike,
        weight_decay: NumberLike,
        learning_rate: NumberLike,
        gradient: TensorLike,
        param: Parameter,
        exp_avg: Parameter,
        exp_avg_sq_row: Parameter,
        exp_avg_sq_col: Parameter,
        exp_avg_sq: Parameter,
        global_norm: NumberLike,
    ) -> tuple[Tensor]:
        """The Parameter after the step, in a tuple; `global_norm` is what divides the gradient.

        Raises:
            TypeError, ValueError: as `FusedAdaFactor`.
        """
        states = (param, exp_avg, exp_avg_sq_row, exp_avg_sq_col, exp_avg_sq)
        settings = (epsilon, clip_threshold, beta1, beta2, weight_decay, learning_rate)
        return super().__call__(*settings, wrap(raw(gradient) / raw(global_norm)), *states)
