"""Loss scales as objects of a training loop of one's own: `amp.DynamicLossScaler` and its like.

Source: MindSpore's `mindspore.amp`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from paramesh.array_types import Array, Tree
from paramesh.dtype import float32, int32
from paramesh.optim import checks
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.trees import unpack

__all__ = ["DynamicLossScaler", "LossScaler", "StaticLossScaler"]


class LossScaler:
    """Base of the scalers: write `scale`, `unscale` and `adjust`."""

    def scale(self, inputs: Tree) -> Any:
        """Multiply a Tensor, or Tensors in tuples, by the scale."""
        raise NotImplementedError(f"{type(self).__name__} has no scale(inputs).")

    def unscale(self, inputs: Tree) -> Any:
        """Divide a Tensor, or Tensors in tuples, by the scale."""
        raise NotImplementedError(f"{type(self).__name__} has no unscale(inputs).")

    def adjust(self, grads_finite: TensorLike) -> Any:
        """Move the scale by whether the gradients are finite."""
        raise NotImplementedError(f"{type(self).__name__} has no adjust(grads_finite).")


def _times(inputs: Tree, factor: Array) -> Any:
    leaves, nest = unpack(inputs)
    return nest.build([leaf * factor.astype(leaf.dtype) for leaf in leaves])


class StaticLossScaler(LossScaler):
    """A scale that stays.

    Args:
        scale_value: the scale, at least 1.

    Raises:
        TypeError, ValueError: no number, or below 1.
    """

    def __init__(self, scale_value: float) -> None:
        checks.real("StaticLossScaler", "scale_value", scale_value, 1)
        self.scale_value = Parameter(Tensor(scale_value, float32), name="scale_value")

    def scale(self, inputs: Tree) -> Any:
        """Multiply a Tensor, or Tensors in tuples, by the scale."""
        return _times(inputs, raw(self.scale_value))

    def unscale(self, inputs: Tree) -> Any:
        """Divide a Tensor, or Tensors in tuples, by the scale."""
        return _times(inputs, 1 / raw(self.scale_value))

    def adjust(self, grads_finite: TensorLike) -> bool:
        """False: the scale stays."""
        return False


class DynamicLossScaler(StaticLossScaler):
    """A scale as large as the gradients allow; in compiled functions too, for it is a Parameter.

    Args:
        scale_value: what it starts with, at least 1.
        scale_factor: by how much it moves, above 0.
        scale_window: steps with finite gradients after which it grows.

    Raises:
        TypeError, ValueError: no number, or one out of range.
    """

    def __init__(self, scale_value: float, scale_factor: float, scale_window: int) -> None:
        super().__init__(scale_value)
        name = "DynamicLossScaler"
        self.scale_factor = checks.positive(name, "scale_factor", scale_factor, allow_int=True)
        self.scale_window = checks.integer(name, "scale_window", scale_window, 1)
        self.counter = Parameter(Tensor(0, int32), name="counter")

    def adjust(self, grads_finite: TensorLike) -> Any:
        """Move the scale: divided by the factor, but not below 1, or multiplied when it is time.

        Args:
            grads_finite: Bool, of one element: what `all_finite` gives.

        Returns:
            True, as MindSpore's gives.
        """
        finite = jnp.asarray(raw(grads_finite), jnp.bool_).reshape(())
        scale, count = raw(self.scale_value), raw(self.counter)
        full = count == self.scale_window - 1
        grown = jnp.where(full, scale * self.scale_factor, scale)
        # A scale that is no longer finite does not grow.
        grown = jnp.where(jnp.isfinite(grown), grown, scale)
        lower = jnp.maximum(scale / self.scale_factor, 1.0)
        self.scale_value.assign(jnp.where(finite, grown, lower).astype(jnp.float32))
        following = jnp.where(finite & ~full, count + 1, 0)
        self.counter.assign(following.astype(jnp.int32))
        return wrap(jnp.asarray(True))
