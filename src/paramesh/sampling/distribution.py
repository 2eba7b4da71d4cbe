"""Distribution specs: which sampling function computes the elements, and with which numbers.

Glossary
    sampling function   a function of a `Sampler` and some numbers that gives the elements of a
    slice distribution spec   a sampling function with its numbers (sigma, bounds, …), for one full
    shape
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from paramesh.array_types import ArrayLike
from paramesh.dtype import DType, bool_
from paramesh.errors import RecipeError
from paramesh.sampling.sampler import Sampler
from paramesh.sampling.seed import Key

Array = jax.Array

_CPU_OPTIONS = {
    # On processors with registers of 512 bits, LLVM uses 256 of them unless it is told otherwise.
    # With all of them the programs run up to 1.7 times as fast, and give the same bits.
    "xla_cpu_prefer_vector_width": 512,
    # Reordered sums would give other bits, whatever XLA_FLAGS asks of the user's own programs.
    "xla_cpu_enable_fast_math": False,
}
#: Length of what every header of arguments begins with: three words of the key, and zero.
HEADER = 4


def compiled(
    function: Callable[..., Array], platform: str, dtype: DType | None = None
) -> Callable[..., Array]:
    """A program for the devices of a platform.

    Args:
        function: of arrays.
        platform: of the default device.
        dtype: of its result, if that may have 64-bit floats: TPUs have none with the bits of
            IEEE 754, so that the numbers are computed on the host.
    """
    if platform == "tpu" and dtype is not None and not computed_on(platform, dtype):
        program = jax.jit(function, compiler_options=_CPU_OPTIONS)

        def on_host(*args: ArrayLike) -> Array:
            with jax.default_device(jax.local_devices(backend="cpu")[0]):
                values = np.asarray(program(*args))
            return jax.device_put(values)

        return on_host
    return jax.jit(function, compiler_options=_CPU_OPTIONS if platform == "cpu" else None)


def computed_on(platform: str, dtype: DType) -> bool:
    """Whether numbers of an element type can be computed on the devices of a platform."""
    return platform != "tpu" or computing_dtype(dtype) != np.float64


def default_platform() -> str:
    """The platform of the default device."""
    device = jax.config.values["jax_default_device"]
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


class DistributionSpec(NamedTuple):
    """A sampling function with its numbers.

    `elementwise` says that the function uses nothing but the random numbers of an element, neither
    indices nor shapes, so the elements can be computed in an arrangement of any shape.
    """

    sample_fn: Callable[..., Array]
    reals: tuple[float, ...] = ()
    integers: tuple[int, ...] = ()
    elementwise: bool = True


def key_words(key: Key) -> tuple[int, int, int]:
    """A key as three words: the seed, and the counter with its lower word first."""
    seed, counter = key
    return seed, counter & 0xFFFFFFFF, counter >> 32


def computing_dtype(dtype: DType) -> np.dtype[np.floating]:
    """The type in which the elements of an array of this type are computed."""
    return np.dtype(np.float64 if str(dtype) in ("Float64", "Complex128") else np.float32)


def cast(values: Array, dtype: DType) -> Array:
    """`values` in another element type, by numpy's rules: to integers by truncating and
    wrapping.
    """
    values = jnp.asarray(values)
    if dtype is bool_:
        return values != jnp.zeros((), values.dtype)
    if dtype.is_integer() and jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype(jnp.int64)
    if dtype.is_complex() and not jnp.issubdtype(values.dtype, jnp.complexfloating):
        component = jnp.float64 if dtype.itemsize == 16 else jnp.float32
        values = values.astype(component)
        return lax.complex(values, jnp.zeros_like(values))
    return values.astype(dtype.np_dtype)


def evaluated(
    sample_fn: Callable[..., Array],
    sampler: Sampler,
    reals: Sequence[ArrayLike],
    integers: Sequence[ArrayLike],
    dtype: DType,
) -> Array:
    """What a sampling function returns, in the slice's shape and the element type of the result.

    Raises:
        RecipeError: it returns values of another shape.
    """
    values = jnp.asarray(sample_fn(sampler, *reals, *integers))
    try:
        return cast(jnp.broadcast_to(values, sampler.shape), dtype)
    except ValueError:
        raise RecipeError(
            f"{sample_fn!r} returned values of shape {values.shape} for a slice of shape "
            f"{sampler.shape}. "
            "Expected an array of the slice's shape (`bits.shape`), or one that broadcasts to it."
        ) from None
