"""Operators that are made of others: mapping, overloading by type, clipping, dependencies.

This is MindSpore's `composite` (`C`) module; `GradOperation` is found here too, by name.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from paramesh import context
from paramesh._compat.jax import outside_of_transforms
from paramesh.array_types import Tree
from paramesh.dtype import x64
from paramesh.ops.creation import ones_like as ones_like
from paramesh.ops.creation import zeros_like as zeros_like
from paramesh.ops.lazy import upper
from paramesh.ops.math import maximum, minimum
from paramesh.ops.multitype import MultitypeFuncGraph
from paramesh.tensor.argument_types import NumberLike, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap

# fmt: off
__all__ = [
    "HyperMap", "Map", "MultitypeFuncGraph", "Partial", "partial", "Depend", "depend",
    "StopGradient", "stop_gradient", "constexpr", "Print", "print_", "clip_by_value",
    "clip_by_global_norm", "clip_by_norm",
]
# fmt: on


#: MindSpore has modules below this one (see `compat`).
__path__: list[str] = []

T = TypeVar("T")

#: A Tensor, or several in a tuple or list.
Tensors = TensorLike | tuple[TensorLike, ...] | list[TensorLike]


def _is_sequence(value: object) -> bool:
    """Tuples and lists of every kind, and Cells that are lists of Cells."""
    return isinstance(value, tuple | list) or getattr(type(value), "is_list_of_cells", False)


def _lists_stay_lists() -> bool:
    """Whether maps of lists are lists: in the compiled programs of graph mode, as in MindSpore."""
    return not outside_of_transforms() and context.get_context("mode") == context.GRAPH_MODE


def _counted(value: Tree) -> str:
    kind = type(value).__name__
    return f"a {kind} of {len(value)}" if _is_sequence(value) else f"a {kind}"


class HyperMap:
    """Calls a function on corresponding elements of sequences, through all levels of nesting.

    Sequences are tuples (`ParameterTuple` among them), lists and `CellList`, and may be mixed. What
    the first argument is decides: where it is not a sequence, the function is called.

    Args:
        ops: the function; None: it is the first argument of the call.
        reverse: from the last element to the first.
    """

    nested = True

    def __init__(self, ops: Callable[..., Any] | None = None, reverse: bool = False) -> None:
        self.ops, self.reverse = ops, reverse

    def __call__(self, *args: object) -> Any:
        """The results, in a tuple.

        In a compiled program of graph mode they are in a list if all sequences are lists, as in
        MindSpore.

        Raises:
            TypeError: the function or the sequences are missing; some are sequences and some are
                not.
            ValueError: the sequences have different lengths.
        """
        name = type(self).__name__
        fn, sequences = self.ops, args
        if fn is None and args:
            fn, sequences = args[0], args[1:]
        if not callable(fn) or not sequences:
            raise TypeError(f"{name} needs a function and at least one sequence.")
        return self._map(name, fn, sequences, "")

    def _map(self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], at: str) -> Any:
        if not _is_sequence(args[0]):
            return fn(*args)
        where = f" at {at}" if at else ""
        if not all(map(_is_sequence, args)):
            raise TypeError(
                f"{name}: sequences and single values are mixed{where}: "
                f"{', '.join(map(_counted, args))}. Bind a value that is the same for all "
                "elements: ops.partial(function, value)."
            )
        if len({len(arg) for arg in args}) > 1:
            raise ValueError(
                f"{name}: sequences of different lengths{where}: {', '.join(map(_counted, args))}."
            )
        rows = list(enumerate(zip(*args, strict=True)))
        results = [
            self._map(name, fn, row, f"{at}[{i}]") if self.nested else fn(*row)
            for i, row in (rows[::-1] if self.reverse else rows)
        ]
        results = results[::-1] if self.reverse else results
        lists = all(isinstance(arg, list) for arg in args)
        return results if lists and _lists_stay_lists() else tuple(results)


class Map(HyperMap):
    """Calls a function on corresponding elements of sequences, on the first level alone."""

    nested = False


#: `partial(fn, *args)`: a function with its first arguments given.
partial = functools.partial


class Partial:
    """Class form of `partial`."""

    def __call__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A function with its first arguments given."""
        return functools.partial(fn, *args, **kwargs)


def depend(value: T, expr: object) -> T:
    """`value` itself: what a program computes is ordered by what it needs."""
    return value


class Depend:
    """Class form of `depend`."""

    def __call__(self, value: T, expr: object) -> T:
        """`value` itself."""
        return value


def stop_gradient(value: Tree) -> Any:
    """The same values, through which no gradient flows: a Tensor, or a nest of them."""
    if isinstance(value, tuple | list):
        return type(value)(stop_gradient(item) for item in value)
    array = raw(value)
    with x64(array):
        return wrap(jax.lax.stop_gradient(array))


class StopGradient:
    """Class form of `stop_gradient`."""

    def __call__(self, value: Tree) -> Any:
        """The same values, through which no gradient flows."""
        return stop_gradient(value)


def constexpr(fn: Callable[..., Any] | None = None, **options: object) -> Any:
    """A function of plain values: python runs it while the program is traced, as it is.

    Used with or without arguments, which are accepted as in MindSpore.
    """
    return fn if fn is not None else constexpr


def print_(*values: object) -> None:
    """Print values, in compiled programs each time they run."""
    if any(isinstance(raw(v), jax.core.Tracer) for v in values if isinstance(v, Tensor)):
        text = " ".join("{}" for _ in values)
        jax.debug.print(text, *(raw(v) if isinstance(v, Tensor) else v for v in values))
    else:
        print(*values)


class Print:
    """Class form of `print_`."""

    def __call__(self, *values: object) -> None:
        """Print values, in compiled programs each time they run."""
        print_(*values)


# Clipping.


def clip_by_value(
    x: Tensors, clip_value_min: NumberLike | None = None, clip_value_max: NumberLike | None = None
) -> Any:
    """Elements cut to an interval, of a Tensor or of each Tensor of a tuple or list.

    Args:
        x: Tensor, or a tuple or list of Tensors.
        clip_value_min: a number or Tensor, or None for open.
        clip_value_max: a number or Tensor, or None for open.

    Raises:
        ValueError: both bounds are None.
    """
    if isinstance(x, tuple | list):
        return type(x)(clip_by_value(item, clip_value_min, clip_value_max) for item in x)
    if clip_value_min is None and clip_value_max is None:
        raise ValueError("clip_value_min and clip_value_max are both None: give at least one.")
    # As MindSpore makes it: at a bound it halves the gradient, which `clamp` does not.
    above = x if clip_value_min is None else maximum(x, clip_value_min)
    return above if clip_value_max is None else minimum(above, clip_value_max)


def _floats(name: str, x: Tree) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Any]]:
    """Raw values of a Tensor or of a tuple or list, and how to put results back."""
    many = isinstance(x, tuple | list)
    items = x if isinstance(x, tuple | list) else (x,)
    for item in items:
        if not isinstance(item, Tensor | jax.Array | np.ndarray):
            raise TypeError(f"{name} needs floating Tensors, got {item!r} ({type(item).__name__}).")
    values = [raw(item) for item in items]
    for value in values:
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"{name} needs floating Tensors, got {value.dtype}.")

    def put_back(results: list[jax.Array]) -> Any:
        wrapped = [wrap(result) for result in results]
        return type(x)(wrapped) if many else wrapped[0]

    return values, put_back


def clip_by_global_norm(
    x: Tensors, clip_norm: float = 1.0, use_norm: NumberLike | None = None
) -> Any:
    """Tensors scaled down together so that the norm of all is at most `clip_norm`.

    Args:
        x: tuple or list of floating Tensors.
        clip_norm: the largest norm, positive.
        use_norm: a norm that is known already; None: it is computed.

    Returns:
        A tuple (or list) of Tensors of the same shapes and element types.

    Raises:
        TypeError: a Tensor is not of a floating type. ValueError: `clip_norm` is not positive.
    """
    if not isinstance(clip_norm, numbers.Real) and getattr(clip_norm, "shape", None) != ():
        raise TypeError(f"clip_by_global_norm: clip_norm must be a number, got {clip_norm!r}.")
    if clip_norm <= 0:
        raise ValueError(f"clip_by_global_norm: clip_norm must be positive, got {clip_norm}.")
    values, put_back = _floats("clip_by_global_norm", x)
    with x64(*values):
        if use_norm is None:
            total = sum(jnp.sum(jnp.square(_at_least_float32(v))) for v in values)
            norm = jnp.sqrt(total)
        else:
            norm = jnp.asarray(raw(use_norm))
        scale = clip_norm / jnp.maximum(norm, clip_norm)
        return put_back([(v * scale.astype(v.dtype)) for v in values])


def clip_by_norm(x: Tensors, max_norm: float, norm_type: float = 2.0) -> Any:
    """A Tensor scaled down so that its norm is at most `max_norm`; several, together.

    Args:
        x: floating Tensor, or a tuple or list of them.
        max_norm: the largest norm.
        norm_type: which norm: p, or `float("inf")` for the largest absolute value.

    Raises:
        TypeError: a Tensor is not of a floating type.
    """
    values, put_back = _floats("clip_by_norm", x)
    with x64(*values):
        sizes = [jnp.abs(_at_least_float32(v)) for v in values]
        if norm_type == float("inf"):
            norm = functools.reduce(jnp.maximum, [jnp.max(s) for s in sizes])
        else:
            norm = sum(jnp.sum(s**norm_type) for s in sizes) ** (1.0 / norm_type)
        scale = jnp.minimum(max_norm / (norm + 1e-6), 1.0)
        return put_back([v * scale.astype(v.dtype) for v in values])


def _at_least_float32(value: jax.Array) -> jax.Array:
    return value if value.dtype.itemsize >= 4 else value.astype(jnp.float32)


__getattr__ = upper(__name__, ("GradOperation", "grad", "value_and_grad"), __all__)
