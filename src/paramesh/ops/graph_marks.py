"""What MindSpore's compiler calls operators and python has itself, and marks of networks.

`tuple_len` and its like are python's; summaries write nothing by themselves, as in MindSpore
without a SummaryRecord; flags are remembered.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.core
import jax.numpy as jnp

from paramesh import random
from paramesh.dtype import to_dtype
from paramesh.ops.array import ints
from paramesh.ops.table import Array, Dtype, Floating, function, primitive
from paramesh.tensor.argument_types import Ints, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.promotion import cast

# fmt: off
__all__ = [
    "make_range", "make_tuple", "tuple_getitem", "tuple_len", "list_len", "is_tensor",
    "add_flags", "mixed_precision_cast",
    "ScalarSummary", "TensorSummary", "HistogramSummary", "ImageSummary", "rand_like", "randn_like",
    "randint_like", "gumbel_softmax", "shuffle", "RandomShuffle", "dropout_gen_mask",
    "DropoutGenMask",
    "dropout_do_mask", "DropoutDoMask", "truncated_normal", "TruncatedNormal", "normal_like",
]
# fmt: on

tuple_len = list_len = len


def make_range(*limits: int) -> tuple[int, ...]:
    """A tuple of the numbers of python's `range`: (stop), or (start, stop, step)."""
    return tuple(range(*limits))


def make_tuple(*elements: object) -> tuple[object, ...]:
    """A tuple of its arguments."""
    return elements


def tuple_getitem(x: tuple[object, ...], index: int) -> object:
    """The element of a tuple."""
    return x[index]


def is_tensor(obj: object) -> bool:
    """Whether it is a Tensor; Parameters are."""
    return isinstance(obj, Tensor)


def add_flags(fn: Any = None, **flags: object) -> Any:
    """Flags remembered on a function or Cell, of no effect; without one, a decorator."""

    def decorate(fn: Any) -> Any:
        if hasattr(fn, "add_flags") and not isinstance(fn, type):
            return fn.add_flags(**flags)
        fn.__dict__.setdefault("_flags", {}).update(flags) if not isinstance(fn, type) else None
        return fn

    return decorate if fn is None else decorate(fn)


def mixed_precision_cast(dst_dtype: Any, x: Any) -> Any:
    """Floating Tensors of a nest in another element type; the rest as it is.

    Args:
        dst_dtype: a floating type.
        x: a Tensor, or Tensors in tuples, lists and dictionaries.
    """
    if isinstance(x, tuple | list):
        return type(x)(mixed_precision_cast(dst_dtype, part) for part in x)
    if isinstance(x, dict):
        return {key: mixed_precision_cast(dst_dtype, part) for key, part in x.items()}
    if isinstance(x, Tensor) and x.dtype.kind == "float":
        return wrap(cast(raw(x), to_dtype(dst_dtype)))
    return x


class _Summary:
    """A named value of a step, for a SummaryRecord that records one.

    Calls hand the value to every function of `listeners`; without one they do nothing.
    """

    kind = ""
    #: What shapes a value may have, for errors, and a function that knows it.
    fits: ClassVar[tuple[str, Callable[[tuple[int, ...]], bool]]]
    listeners: ClassVar[list[Callable[[str, str, Any], None]]] = []

    def __call__(self, name: str, value: object) -> None:
        """Record a value.

        Args:
            name: of the value.
            value: a Tensor; of one element for ScalarSummary, (n, c, h, w) for ImageSummary, of at
                least one axis for the others.

        Raises:
            TypeError: the name is not a str, or the value not a Tensor.
            ValueError: the name is empty, or the value has another shape.
        """
        who = f"ops.{type(self).__name__}"
        if not isinstance(name, str):
            raise TypeError(f"{who}: name must be a str, got {type(name).__name__}.")
        if not name:
            raise ValueError(f"{who}: name must not be empty.")
        if not isinstance(value, Tensor):
            raise TypeError(f"{who}: value must be a Tensor, got {type(value).__name__}.")
        wanted, fits = self.fits
        if not fits(tuple(value.shape)):
            raise ValueError(f"{who}: value must have {wanted}, got shape {tuple(value.shape)}.")
        for listen in self.listeners:
            if isinstance(raw(value), jax.core.Tracer):
                jax.debug.callback(lambda v, listen=listen: listen(self.kind, name, v), raw(value))
            else:
                listen(self.kind, name, raw(value))

    def add_prim_attr(self, name: str, value: object) -> Self:
        """Record an attribute for MindSpore's compiler: it changes nothing; returns self."""
        return self


_AXES = ("at least one axis", lambda shape: len(shape) > 0)


class ScalarSummary(_Summary):
    """A number of a step by its name; see SummaryRecord."""

    kind = "scalar"
    fits = ("one element", lambda shape: shape in ((), (1,)))


class TensorSummary(_Summary):
    """A Tensor of a step by its name; see SummaryRecord."""

    kind = "tensor"
    fits = _AXES


class HistogramSummary(_Summary):
    """The distribution of a Tensor of a step by its name; see SummaryRecord."""

    kind = "histogram"
    fits = _AXES


class ImageSummary(_Summary):
    """Images of a step by their name; see SummaryRecord."""

    kind = "image"
    fits = ("the shape (n, c, h, w)", lambda shape: len(shape) == 4)


#: What summaries of a program are handed to.
listeners = _Summary.listeners

# Random numbers like a Tensor.


def _key(seed: int | None) -> Any:
    key = random.next_key()
    return jax.random.fold_in(key, int(seed)) if seed else key


@function
def rand_like(input: Array, seed: int | None = None, *, dtype: Dtype = None) -> Any:
    """Uniform in [0, 1), of the shape and element type of a Tensor."""
    kind = input.dtype if dtype is None else dtype.np_dtype
    return jax.random.uniform(_key(seed), tuple(input.shape), kind)


@function
def randn_like(input: Array, seed: int | None = None, *, dtype: Dtype = None) -> Any:
    """Standard normal, of the shape and element type of a Tensor."""
    kind = input.dtype if dtype is None else dtype.np_dtype
    return jax.random.normal(_key(seed), tuple(input.shape), kind)


@function
def randint_like(
    input: Array, low: int, high: int, seed: int | None = None, *, dtype: Dtype = None
) -> Any:
    """Integers in [low, high), of the shape and element type of a Tensor."""
    drawn = jax.random.randint(_key(seed), tuple(input.shape), low, high)
    return cast(drawn, dtype or to_dtype(input.dtype))


@function
def normal_like(input: Floating, mean: float = 0.0, std: float = 1.0) -> Any:
    """Normal numbers of the shape and element type of a Tensor."""
    return mean + std * jax.random.normal(_key(None), input.shape, input.dtype)


@function
def gumbel_softmax(logits: Floating, tau: float = 1.0, hard: bool = False, dim: int = -1) -> Any:
    """A softmax of logits with Gumbel's noise (Jang et al. 2017).

    Args:
        logits: (...).
        tau: the temperature.
        hard: one-hot values, with the gradient of the soft ones.
        dim: the axis.
    """
    noise = jax.random.gumbel(_key(None), logits.shape, logits.dtype)
    soft = jax.nn.softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    classes = soft.shape[dim]
    chosen = jax.nn.one_hot(soft.argmax(dim), classes, axis=dim, dtype=soft.dtype)
    return jax.lax.stop_gradient(chosen - soft) + soft


@function
def shuffle(x: TensorLike, seed: int | None = None) -> Any:
    """The rows of a Tensor in an order by chance."""
    return jax.random.permutation(_key(seed), raw(x))


RandomShuffle = primitive("RandomShuffle", shuffle, lambda seed=0, seed2=0: {"seed": seed or seed2})


@function
def truncated_normal(shape: Ints, dtype: Dtype = None, seed: int = 0, seed2: int = 0) -> Any:
    """Standard normal, drawn anew outside of [-2, 2]: (shape)."""
    kind = jnp.float32 if dtype is None else dtype.np_dtype
    return jax.random.truncated_normal(_key(seed or seed2), -2, 2, ints(shape), kind)


TruncatedNormal = primitive(
    "TruncatedNormal",
    truncated_normal,
    lambda dtype=None, seed=0, seed2=0: dict(dtype=dtype, seed=seed, seed2=seed2),
)


@function
def dropout_gen_mask(shape: Ints, keep_prob: float | Tensor, seed0: int = 0, seed1: int = 0) -> Any:
    """A mask for `dropout_do_mask`: UInt8, 1 where an element is kept, of this shape.

    MindSpore packs eight elements into a number; here each has its own.
    """
    kept = jax.random.bernoulli(_key(seed0 or seed1), raw(keep_prob), ints(shape))
    return kept.astype(jnp.uint8)


@function
def dropout_do_mask(x: Floating, mask: TensorLike, keep_prob: float | Tensor) -> Any:
    """X / keep_prob where the mask is 1, zeros elsewhere."""
    keep = jnp.asarray(raw(keep_prob), x.dtype)
    return jnp.where(raw(mask).astype(bool), x / keep, jnp.zeros((), x.dtype))


DropoutGenMask = primitive(
    "DropoutGenMask", dropout_gen_mask, lambda Seed0=0, Seed1=0: {"seed0": Seed0, "seed1": Seed1}
)
DropoutDoMask = primitive("DropoutDoMask", dropout_do_mask)
