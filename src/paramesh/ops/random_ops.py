"""Random numbers, and dropout, from the default generator of `paramesh.random`.

Every call draws other numbers, in compiled programs too; `paramesh.set_seed` repeats them all. A
`seed` gives a call a stream of its own within that: it is mixed into the generator's key, and does
not make the call repeat its numbers.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh import random
from paramesh.array_sizes import check_countable
from paramesh.dtype import DType, float32, int32, int64, x64
from paramesh.ops.array import ints
from paramesh.ops.table import Dtype, Floating, function, primitive, tuple_function
from paramesh.tensor.argument_types import Ints, NumberLike, RawNumber
from paramesh.tensor.base import raw
from paramesh.tensor.kept_calls import as_one
from paramesh.tensor.promotion import cast

# fmt: off
__all__ = [
    "standard_normal", "normal", "uniform", "randint", "rand", "randn", "randperm", "bernoulli",
    "multinomial", "random_categorical", "StandardNormal", "UniformReal", "UniformInt",
    "Multinomial", "RandomCategorical", "dropout", "dropout_with_mask", "Dropout",
]
# fmt: on


def key_of(seed: int | None) -> jax.Array:
    key = random.next_key()
    if not seed:
        return key
    return jax.random.fold_in(key, np.uint32(operator.index(seed) & 0xFFFFFFFF))


def _rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with all axes but the first joined; its numbers are the same in the same order.

    XLA takes seconds to compile the generator for four axes on a CPU, ten times as long as for two.
    """
    return (shape[0], math.prod(shape[1:])) if len(shape) > 2 else shape


def _drawn(draw: Callable[..., jax.Array], key: jax.Array, shape: Ints, dtype: DType) -> jax.Array:
    sizes = ints(shape)
    with x64(dtype):
        return draw(key, _rows(sizes), dtype.np_dtype).reshape(sizes)


def _float_dtype(dtype: DType | None) -> DType:
    wanted = dtype or float32
    if wanted.kind != "float":
        raise TypeError(f"dtype must be a floating type, got {wanted}.")
    return wanted


@function
def standard_normal(shape: Ints, seed: int | None = None) -> Any:
    """Float32 numbers of the normal distribution with mean 0 and deviation 1: -> shape."""
    return _drawn(jax.random.normal, key_of(seed), shape, float32)


@function
def normal(shape: Ints, mean: Floating, stddev: Floating, seed: int | None = None) -> Any:
    """Numbers of a normal distribution.

    Args:
        shape: of the result, with which `mean` and `stddev` broadcast.
        mean: its mean.
        stddev: its standard deviation.
        seed: for a stream of its own.
    """
    sizes = ints(jnp.broadcast_shapes(ints(shape), mean.shape, stddev.shape))
    return _drawn(jax.random.normal, key_of(seed), sizes, float32) * stddev + mean


@function
def uniform(
    shape: Ints,
    minval: NumberLike,
    maxval: NumberLike,
    seed: int | None = None,
    dtype: Dtype = float32,
) -> Any:
    """Numbers that are equally likely in [minval, maxval).

    Args:
        shape: of the result, with which the bounds broadcast.
        minval: lower bound, inclusive.
        maxval: upper bound, exclusive.
        seed: for a stream of its own.
        dtype: a floating type, or Int32 or Int64 for integers.
    """
    wanted = dtype or float32
    low, high = raw(minval), raw(maxval)
    sizes = ints(jnp.broadcast_shapes(ints(shape), jnp.shape(low), jnp.shape(high)))
    if wanted.is_integer():
        return _integers(key_of(seed), sizes, low, high, wanted)
    numbers = _drawn(jax.random.uniform, key_of(seed), sizes, _float_dtype(wanted))
    with x64(wanted):
        low, high = (jnp.asarray(bound, wanted.np_dtype) for bound in (low, high))
        return numbers * (high - low) + low


def _integers(
    key: jax.Array, shape: tuple[int, ...], low: RawNumber, high: RawNumber, dtype: DType
) -> jax.Array:
    with x64(dtype):
        return jax.random.randint(key, shape, low, high, dtype.np_dtype)


@function
def randint(
    low: int, high: int, size: Ints, seed: int | None = None, *, dtype: Dtype = None
) -> Any:
    """Integers that are equally likely in [low, high): -> size; Int64 unless `dtype`."""
    if not low < high:
        raise ValueError(f"low must be below high, got low={low}, high={high}.")
    return _integers(key_of(seed), ints(size), low, high, dtype or int64)


@function
def rand(*size: Ints, dtype: Dtype = None, seed: int | None = None) -> Any:
    """Numbers that are equally likely in [0, 1), of the given sizes; Float32 unless `dtype`."""
    return _drawn(jax.random.uniform, key_of(seed), _sizes(size), _float_dtype(dtype))


@function
def randn(*size: Ints, dtype: Dtype = None, seed: int | None = None) -> Any:
    """Normal numbers with mean 0 and deviation 1, of the given sizes; Float32 unless `dtype`."""
    return _drawn(jax.random.normal, key_of(seed), _sizes(size), _float_dtype(dtype))


def _sizes(size: tuple[Any, ...]) -> tuple[int, ...]:
    sizes = ints(size[0] if len(size) == 1 else size)
    if min(sizes, default=0) < 0:
        raise ValueError(f"size must have numbers from 0 on, got {sizes}.")
    check_countable(sizes, "size")
    return sizes


@function
def randperm(n: int, seed: int | None = None, dtype: Dtype = int64) -> Any:
    """The numbers 0 to n - 1 in random order: -> (n,)."""
    places = jax.random.permutation(key_of(seed), operator.index(n), independent=False)
    return cast(places, dtype)


@function
def bernoulli(input: Floating, p: NumberLike = 0.5, seed: int | None = None) -> Any:
    """1 with probability p and 0 otherwise, of the shape and type of the input."""
    chance = jnp.broadcast_to(jnp.asarray(raw(p), jnp.float32), input.shape)
    return jax.random.bernoulli(key_of(seed), chance).astype(input.dtype)


@function
def multinomial(
    input: Floating,
    num_samples: int,
    replacement: bool = True,
    seed: int | None = None,
    *,
    dtype: Dtype = int32,
) -> Any:
    """Classes drawn by weight: (..., c) -> (..., num_samples), Int32.

    Args:
        input: weights of the classes, not negative; they need not add up to 1.
        num_samples: how many to draw of each row.
        replacement: whether a class may come twice.
        seed: for a stream of its own.
        dtype: element type of the result.

    Raises:
        ValueError: more samples than classes without replacement.
    """
    count, classes = operator.index(num_samples), input.shape[-1]
    logits = jnp.log(input)
    if replacement:
        shape = (count, *input.shape[:-1])
        drawn = jax.random.categorical(key_of(seed), logits, shape=shape)
        return cast(jnp.moveaxis(drawn, 0, -1), dtype)
    if count > classes:
        raise ValueError(f"{count} samples of {classes} classes need replacement=True.")
    # The largest of log-weight + Gumbel noise are a sample without replacement.
    noise = jax.random.gumbel(key_of(seed), input.shape, input.dtype)
    return cast(jax.lax.top_k(logits + noise, count)[1], dtype)


@function
def random_categorical(
    logits: Floating, num_sample: int, seed: int | None = None, dtype: Dtype = int64
) -> Any:
    """Classes drawn by unnormalised log-probability: (n, c) -> (n, num_sample)."""
    shape = (operator.index(num_sample), *logits.shape[:-1])
    drawn = jax.random.categorical(key_of(seed), logits, shape=shape)
    return cast(jnp.moveaxis(drawn, 0, -1), dtype)


def _seeds(seed: int = 0, seed2: int = 0) -> dict[str, Any]:
    return {"seed": both_seeds(seed, seed2)}


def both_seeds(seed: int, seed2: int) -> int | None:
    """One seed for the two that MindSpore's classes take."""
    return (seed * 0x9E3779B1 + seed2) & 0xFFFFFFFF if seed2 else seed


StandardNormal = primitive("StandardNormal", standard_normal, _seeds)
UniformReal = primitive(
    "UniformReal", uniform, lambda seed=0, seed2=0: _seeds(seed, seed2) | {"minval": 0, "maxval": 1}
)
UniformInt = primitive(
    "UniformInt", uniform, lambda seed=0, seed2=0: _seeds(seed, seed2) | {"dtype": int32}
)
Multinomial = primitive(
    "Multinomial",
    multinomial,
    lambda seed=0, seed2=0, dtype=int32: _seeds(seed, seed2) | {"dtype": dtype},
)
RandomCategorical = primitive(
    "RandomCategorical", random_categorical, lambda dtype=int64: {"dtype": dtype}
)

# Dropout.


@function
def dropout(input: Floating, p: float = 0.5, training: bool = True, seed: int | None = None) -> Any:
    """Zero with probability p, and x / (1 - p) otherwise (Srivastava et al. 2014).

    Args:
        input: (...).
        p: from 0 to 1, without 1.
        training: False: the input unchanged.
        seed: for a stream of its own.

    Raises:
        ValueError: p is out of range.
    """
    if not 0 <= p < 1:
        raise ValueError(f"p must be in [0, 1), got {p}.")
    if not training or p == 0:
        return input
    return _dropped(input, 1 - p, seed)[0]


def _dropped(x: jax.Array, keep: float, seed: int | None) -> tuple[jax.Array, jax.Array]:
    return as_one(_dropped_by, key_of(seed), x, keep)


def _dropped_by(key: jax.Array, x: jax.Array, keep: float) -> tuple[jax.Array, jax.Array]:
    kept = jax.random.bernoulli(key, np.float32(keep), _rows(x.shape)).reshape(x.shape)
    return jnp.where(kept, x / keep, jnp.zeros_like(x)), kept.astype(x.dtype)


@tuple_function
def dropout_with_mask(x: Floating, keep_prob: float = 0.5, seed: int | None = None) -> Any:
    """Zero with probability 1 - keep_prob, and x / keep_prob otherwise; and which were kept.

    Returns:
        (output, mask): both of the input's shape and type, the mask 1 where an element was kept.

    Raises:
        ValueError: `keep_prob` is not in (0, 1].
    """
    if not 0 < keep_prob <= 1:
        raise ValueError(f"keep_prob must be in (0, 1], got {keep_prob}.")
    return _dropped(x, keep_prob, seed)


Dropout = primitive(
    "Dropout",
    dropout_with_mask,
    lambda keep_prob=0.5, Seed0=0, Seed1=0: {
        "keep_prob": keep_prob,
        "seed": both_seeds(Seed0, Seed1),
    },
)
