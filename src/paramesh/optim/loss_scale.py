"""Loss scales for Float16: a constant one, or one that follows the overflows.

The loss is multiplied by the scale before gradients are taken, so that small ones do not vanish in
Float16, and the gradients are divided by it (`loss_scale` of an optimizer). A manager is what a
training script holds; its update cell does the same over Parameters, for compiled programs.

The dynamic scale is divided by the factor at an overflow, but not below 1, and multiplied by it
after `scale_window` steps without one.
"""

from __future__ import annotations

import jax.numpy as jnp

from paramesh.nn.cell import Cell
from paramesh.optim import checks
from paramesh.optim.optimizer import store
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import Tensor, raw, wrap


class LossScaleManager:
    """Base of the managers."""

    def get_loss_scale(self) -> float:
        """The scale of the next step."""
        raise NotImplementedError(f"{type(self).__name__} has no get_loss_scale().")

    def update_loss_scale(self, overflow: bool) -> None:
        """Record whether the step's gradients overflowed."""
        raise NotImplementedError(f"{type(self).__name__} has no update_loss_scale(overflow).")

    def get_update_cell(self) -> Cell | None:
        """The Cell that does `update_loss_scale` in a program; None if there is nothing to do."""
        raise NotImplementedError(f"{type(self).__name__} has no get_update_cell().")


class FixedLossScaleManager(LossScaleManager):
    """A constant scale.

    Args:
        loss_scale: at least 1.
        drop_overflow_update: leave out the update of a step with an overflow. Without, the
            optimizer needs the same `loss_scale`.

    Raises:
        TypeError: not a number, or not a bool.
        ValueError: a scale below 1.
    """

    def __init__(self, loss_scale: float = 128.0, drop_overflow_update: bool = True) -> None:
        name = "FixedLossScaleManager"
        checks.real(name, "loss_scale", loss_scale, 1)
        self._scale = loss_scale
        self._drop = checks.boolean(name, "drop_overflow_update", drop_overflow_update)

    def get_loss_scale(self) -> float:
        """The scale."""
        return self._scale

    def get_drop_overflow_update(self) -> bool:
        """Whether a step with an overflow is left out."""
        return self._drop

    def update_loss_scale(self, overflow: bool) -> None:
        """Does nothing."""

    def get_update_cell(self) -> Cell | None:
        """A Cell that passes overflows on, or None if they are ignored."""
        return FixedLossScaleUpdateCell(self._scale) if self._drop else None


class DynamicLossScaleManager(LossScaleManager):
    """A scale as large as the gradients allow.

    Args:
        init_loss_scale: what it starts with, at least 1.
        scale_factor: by how much it moves, above 0.
        scale_window: steps without overflow after which it grows.

    Raises:
        TypeError: not a number, or a window that is not an int.
        ValueError: a number out of range.
    """

    def __init__(
        self, init_loss_scale: float = 2**24, scale_factor: float = 2, scale_window: int = 2000
    ) -> None:
        name = "DynamicLossScaleManager"
        checks.real(name, "init_loss_scale", init_loss_scale, 1)
        checks.positive(name, "scale_factor", scale_factor, allow_int=True)
        self.loss_scale = init_loss_scale
        self.scale_factor = scale_factor
        self.scale_window = checks.integer(name, "scale_window", scale_window, 1)
        self.cur_iter = 1
        self.last_overflow_iter = 0

    def get_loss_scale(self) -> float:
        """The scale of the next step."""
        return self.loss_scale

    def get_drop_overflow_update(self) -> bool:
        """True: a step with an overflow is left out."""
        return True

    def update_loss_scale(self, overflow: bool) -> None:
        """Move the scale."""
        if overflow:
            self.loss_scale = max(self.loss_scale / self.scale_factor, 1)
            self.last_overflow_iter = self.cur_iter
        elif self.cur_iter - self.last_overflow_iter >= self.scale_window:
            self.loss_scale *= self.scale_factor
            self.last_overflow_iter = self.cur_iter
        self.cur_iter += 1

    def get_update_cell(self) -> Cell:
        """A Cell that starts from the present scale."""
        return DynamicLossScaleUpdateCell(self.loss_scale, self.scale_factor, self.scale_window)


class FixedLossScaleUpdateCell(Cell):
    """`cell(loss_scale, overflow)` returns `overflow`; the scale stays."""

    def __init__(self, loss_scale_value: float) -> None:
        super().__init__()
        self.loss_scale_value = loss_scale_value

    def get_loss_scale(self) -> float:
        """The scale."""
        return self.loss_scale_value

    def construct(self, loss_scale: TensorLike, overflow: TensorLike) -> TensorLike:
        """`overflow`, as it came."""
        return overflow


class DynamicLossScaleUpdateCell(Cell):
    """`cell(loss_scale, overflow)` moves the Parameter `loss_scale` and returns `overflow`.

    Args:
        loss_scale_value: what the scale starts with.
        scale_factor, scale_window: as in `DynamicLossScaleManager`.
    """

    def __init__(self, loss_scale_value: float, scale_factor: float, scale_window: int) -> None:
        super().__init__()
        name = type(self).__name__
        self.loss_scale_value = loss_scale_value
        self.scale_factor = checks.positive(name, "scale_factor", scale_factor, allow_int=True)
        self.scale_window = checks.integer(name, "scale_window", scale_window, 1)
        self.cur_iter = Parameter(1, name="current_iterator_step")
        self.last_overflow_iter = Parameter(0, name="last_overflow_iterator_step")

    def get_loss_scale(self) -> float:
        """What the scale started with."""
        return self.loss_scale_value

    def construct(self, loss_scale: Parameter, overflow: TensorLike) -> Tensor:
        """Move the scale.

        Args:
            loss_scale: a Parameter of one Float32 element.
            overflow: Bool, of one element.

        Raises:
            TypeError: `loss_scale` is not a Parameter.
        """
        if not isinstance(loss_scale, Parameter):
            raise TypeError(
                f"DynamicLossScaleUpdateCell writes loss_scale: give a Parameter, "
                f"got {type(loss_scale).__name__}."
            )
        scale, hit = raw(loss_scale), jnp.asarray(raw(overflow), jnp.bool_)
        step, last = raw(self.cur_iter), raw(self.last_overflow_iter)
        flat_hit = hit.reshape(())
        grows = ~flat_hit & (step - last >= self.scale_window)
        lower = jnp.maximum(scale / self.scale_factor, 1.0)
        store(
            loss_scale,
            jnp.where(flat_hit, lower, jnp.where(grows, scale * self.scale_factor, scale)),
        )
        store(self.last_overflow_iter, jnp.where(flat_hit | grows, step, last))
        store(self.cur_iter, step + jnp.int32(1))
        return wrap(hit)
