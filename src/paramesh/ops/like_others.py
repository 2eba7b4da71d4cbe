"""Tensors made to fit others: their shape, their element type, their precision."""

from typing import Any

import jax.numpy as jnp

from paramesh.dtype import int64, to_dtype, x64
from paramesh.ops.table import Array, function, other_function, primitive
from paramesh.tensor.argument_types import Ints, NumberLike
from paramesh.tensor.base import raw
from paramesh.tensor.known import known_values
from paramesh.tensor.promotion import cast

# fmt: off
__all__ = [
    "expand_as", "view_as", "type_as", "fills", "eps", "move_to", "is_nonzero", "sum_to_size",
    "Eps", "Fills",
]
# fmt: on


@function
def expand_as(input: Array, other: Array) -> Any:
    """`input` broadcast to the shape of `other`."""
    return jnp.broadcast_to(input, other.shape)


@function
def view_as(input: Array, other: Array) -> Any:
    """The elements of `input` in the shape of `other`."""
    return jnp.reshape(input, other.shape)


@function
def type_as(input: Array, other: Array) -> Any:
    """`input` cast to the element type of `other`."""
    return cast(input, to_dtype(other.dtype))


@function
def fills(x: Array, value: NumberLike) -> Any:
    """A Tensor like `x` with one number everywhere.

    Raises:
        ValueError: `value` is a Tensor of several elements.
    """
    number = jnp.asarray(raw(value), x.dtype)
    if number.ndim:
        raise ValueError(f"value must be one number, got the shape {tuple(number.shape)}.")
    return jnp.full_like(x, number)


@function
def eps(x: Array) -> Any:
    """The distance from 1 to the next number of the element type, in the shape of `x`.

    Raises:
        TypeError: `x` is not of floating numbers.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"x must be of a floating type, got {to_dtype(x.dtype)}.")
    return jnp.full_like(x, jnp.finfo(x.dtype).eps)


@function
def move_to(input: Array, to: str = "CPU", blocking: bool = True) -> Any:
    """The Tensor itself: values lie where the program runs (`paramesh.device_put` moves them).

    Args:
        input: (...).
        to: `CPU`, `GPU`, `TPU`, `Ascend` or `NPU`, as a script names its devices.
        blocking: without effect.

    Raises:
        ValueError: `to` is no kind of device.
    """
    kinds = ("CPU", "GPU", "TPU", "ASCEND", "NPU")
    if str(to).partition(":")[0].upper() not in kinds:
        raise ValueError(f"to must be one of {', '.join(kinds)}, got {to!r}.")
    return input


@other_function
def is_nonzero(input: Array) -> Any:
    """bool: whether the one element is not 0; outside of programs only.

    Raises:
        ValueError: `input` does not have one element.
    """
    if input.size != 1:
        raise ValueError(f"input must have one element, got the shape {tuple(input.shape)}.")
    return bool(known_values(input, "the answer is the value of a Tensor").reshape(())[()])


@function
def sum_to_size(input: Array, *size: Ints) -> Any:
    """The sums over axes that bring a Tensor to a shape that broadcasts to its own.

    Truths and whole numbers are summed as Int64.

    Args:
        input: (...).
        size: the shape: ints, or a tuple.

    Raises:
        ValueError: the shape does not broadcast to that of `input`.
    """
    given = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
    wanted: Any = tuple(raw(n) for n in given) if isinstance(given, tuple | list) else given
    shape = tuple(input.shape)
    more = len(shape) - len(wanted)
    fits = more >= 0 and all(n in (1, m) for n, m in zip(wanted, shape[more:], strict=True))
    if not fits:
        raise ValueError(f"the shape {tuple(wanted)} does not broadcast to {shape}.")
    if jnp.issubdtype(input.dtype, jnp.integer) or input.dtype == bool:
        input = cast(input, int64)
    alone = [i + more for i, n in enumerate(wanted) if n == 1 and shape[i + more] != 1]
    with x64(input):
        return jnp.sum(jnp.sum(input, alone, keepdims=True), tuple(range(more)))


Eps = primitive("Eps", eps)
Fills = primitive("Fills", fills)
