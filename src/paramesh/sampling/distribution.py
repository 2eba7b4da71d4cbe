"""Laws: what elements are computed from, and by which rule.

Glossary
    rule        a function of a `Sampler` and some numbers that gives the elements of a slice
    law         a rule with its numbers (sigma, bounds, …), for one whole shape
    Sampler        what a rule draws from: the random numbers and the indices of a slice's elements
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from paramesh.dtype import DType, bool_
from paramesh.errors import RecipeError
from paramesh.sampling import philox
from paramesh.sampling.seed import Key

Array = jax.Array

_CPU_OPTIONS = {
    # On processors with registers of 512 bits, LLVM uses 256 of them unless it is told otherwise.
    # With all of them the programs run up to 1.7 times as fast, and give the same bits.
    "xla_cpu_prefer_vector_width": 512,
    # Reordered sums would give other bits, whatever XLA_FLAGS asks of the user's own programs.
    "xla_cpu_enable_fast_math": False,
}
#: What every header of arguments begins with: three words of the key, and zero.
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

        def on_host(*args: Any) -> Any:
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
    """A rule with its numbers.

    `elementwise` says that the rule looks at nothing but the random numbers of an element: not at
    indices or shapes, so that the elements may be computed in an arrangement of any shape.
    """

    rule: Callable[..., Array]
    reals: tuple[float, ...] = ()
    integers: tuple[int, ...] = ()
    elementwise: bool = True


class Sampler:
    """The random numbers and the indices of the elements of one slice.

    Each call of `bits`, `uniform`, `normal` or `cut_normal` gives fresh numbers, independent of
    those of the calls before. The numbers of an element depend on the recipe's key, the element's
    place in the whole array and the number of calls before, and on nothing else.

    Attributes:
        shape: shape of the slice, and of all that the methods return.
        whole: shape of the whole array (None in a rule that is `elementwise`).
        dtype: numpy dtype in which to compute: float64 if the result has 64-bit floats, otherwise
            float32. What a rule returns is cast to the dtype of the result.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        whole: tuple[int, ...] | None,
        dtype: np.dtype[Any],
        key: Sequence[Array],
        zero: Array,
        place: tuple[Array, Array],
        starts: Sequence[Any] = (),
    ) -> None:
        self.shape = shape
        self.whole = whole
        self.dtype = dtype
        self._key = key
        self._zero = zero
        self._place = place
        self._starts = starts
        self._calls = 0

    def _words(self) -> philox.Words:
        stream = self._calls
        self._calls += 1
        counter = (*self._place, self._key[2], jnp.uint32(stream))
        return philox.philox4x32(counter, (self._key[0], self._key[1]))

    def _number(self, value: Any) -> Array:
        return jnp.asarray(value).astype(self.dtype)

    def _affine(self, offset: Any, scale: Any, values: Array) -> Array:
        return self.rounded(values * self._number(scale)) + self._number(offset)

    def rounded(self, product: Array) -> Array:
        """`product`, kept apart from a sum or difference that follows.

        Compilers may join `a * b + c` into one operation that rounds once, in one program and not
        in another. A rule that writes `bits.rounded(a * b) + c` gives the same bits everywhere.
        """
        return philox.rounded(product, self._zero)

    def bits(self) -> Array:
        """Uniform uint32 words."""
        return jnp.broadcast_to(self._words()[0], self.shape)

    def uniform(self, low: Any = 0.0, high: Any = 1.0) -> Array:
        """Uniform on [low, high); rounding may give `high` itself."""
        words = self._words()
        if self.dtype == np.float64:
            unit = philox.uniform64(words[0], words[1])
        else:
            unit = philox.uniform32(words[0])
        if isinstance(low, float) and isinstance(high, float) and (low, high) == (0.0, 1.0):
            return unit
        low, high = self._number(low), self._number(high)
        return self._affine(low, high - low, unit)

    def normal(self, mean: Any = 0.0, sigma: Any = 1.0) -> Array:
        """Normal with this mean and standard deviation, by inversion."""
        words = self._words()
        return self._affine(mean, sigma, self._standard(words[0], words[1]))

    def cut_normal(self, mean: Any, sigma: Any, low: Any, width: Any) -> Array:
        """Normal, cut to the values between two probabilities in units of 2^-32.

        These are `low` and `low + width`, integers with 0 < width and low + width <= 2^32.
        """
        words = self._words()
        if self.dtype == np.float64:
            z = self._standard(*philox.cut64(words[0], words[1], low, width))
        else:
            z = self._standard(philox.cut32(words[0], low, width), words[1])
        return self._affine(mean, sigma, z)

    def _standard(self, word: Array, second: Array) -> Array:
        if self.dtype == np.float64:
            return philox.normal64(word, second, self._zero)
        return philox.normal32(word, self._zero)

    def index(self, axis: int) -> Array:
        """The elements' indices along one axis of the whole, int64, broadcastable to `shape`."""
        axis = range(len(self.shape))[axis]
        sizes = [1] * len(self.shape)
        sizes[axis] = self.shape[axis]
        along = lax.iota(jnp.int64, self.shape[axis]).reshape(sizes)
        return jnp.asarray(self._starts[axis]).astype(jnp.int64) + along


def key_words(key: Key) -> tuple[int, int, int]:
    """A key as three words: the seed, and the counter with its lower word first."""
    seed, counter = key
    return seed, counter & 0xFFFFFFFF, counter >> 32


def computing_dtype(dtype: DType) -> np.dtype[Any]:
    """The type in which the elements of an array of this type are computed."""
    return np.dtype(np.float64 if str(dtype) in ("Float64", "Complex128") else np.float32)


def cast(values: Array, dtype: DType) -> Array:
    """`values` in another element type, by numpy's rules: to integers by cutting and wrapping."""
    values = jnp.asarray(values)
    if dtype is bool_:
        return values != jnp.zeros((), values.dtype)
    if dtype.is_integer() and jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype(jnp.int64)
    if dtype.is_complex() and not jnp.issubdtype(values.dtype, jnp.complexfloating):
        part = jnp.float64 if dtype.itemsize == 16 else jnp.float32
        values = values.astype(part)
        return lax.complex(values, jnp.zeros_like(values))
    return values.astype(dtype.np_dtype)


def evaluated(
    rule: Callable[..., Array],
    draw: Sampler,
    reals: Sequence[Any],
    integers: Sequence[Any],
    dtype: DType,
) -> Array:
    """What a rule gives, of the slice's shape and in the element type of the result.

    Raises:
        RecipeError: it gives values of another shape.
    """
    values = jnp.asarray(rule(draw, *reals, *integers))
    try:
        return cast(jnp.broadcast_to(values, draw.shape), dtype)
    except ValueError:
        raise RecipeError(
            f"{rule!r} gave values of shape {values.shape} for a slice of shape {draw.shape}. "
            "Expected an array of the slice's shape (`bits.shape`), or one that broadcasts to it."
        ) from None
