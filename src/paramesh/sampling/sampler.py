"""The sampler: random numbers and indices of the elements of one slice, for sampling functions."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from paramesh.array_types import ArrayLike
from paramesh.sampling import philox

Array = jax.Array


class Sampler:
    """The random numbers and the indices of the elements of one slice.

    Each call of `bits`, `uniform`, `normal` or `cut_normal` returns fresh numbers, independent of
    those of earlier calls. The numbers of an element depend on the recipe's key, the element's
    place in the full array and the number of earlier calls, and on nothing else.

    Attributes:
        shape: shape of the slice, and of all that the methods return.
        full_shape: shape of the full array (None in a sampling function that is `elementwise`).
        dtype: numpy dtype in which to compute: float64 if the result has 64-bit floats, otherwise
            float32. What a sampling function returns is cast to the dtype of the result.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        full_shape: tuple[int, ...] | None,
        dtype: np.dtype[np.floating],
        key: Sequence[Array],
        zero: Array,
        place: tuple[Array, Array],
        starts: Sequence[ArrayLike] = (),
    ) -> None:
        self.shape = shape
        self.full_shape = full_shape
        self.dtype = dtype
        self._key = key
        self._zero = zero
        self._place = place
        self._starts = starts
        self._calls = 0

    @property
    def whole(self) -> tuple[int, ...] | None:
        """`full_shape`, by its name in version 0.1."""
        return self.full_shape

    def _words(self) -> philox.Words:
        stream = self._calls
        self._calls += 1
        counter = (*self._place, self._key[2], jnp.uint32(stream))
        return philox.philox4x32(counter, (self._key[0], self._key[1]))

    def _number(self, value: ArrayLike) -> Array:
        return jnp.asarray(value).astype(self.dtype)

    def _affine(self, offset: ArrayLike, scale: ArrayLike, values: Array) -> Array:
        return self.rounded(values * self._number(scale)) + self._number(offset)

    def rounded(self, product: Array) -> Array:
        """`product`, kept apart from a sum or difference that follows.

        Compilers may join `a * b + c` into one operation that rounds once, in one program and not
        in another. A function that writes `bits.rounded(a * b) + c` gives the same bits everywhere.
        """
        return philox.rounded(product, self._zero)

    def bits(self) -> Array:
        """Uniform uint32 words."""
        return jnp.broadcast_to(self._words()[0], self.shape)

    def uniform(self, low: ArrayLike = 0.0, high: ArrayLike = 1.0) -> Array:
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

    def normal(self, mean: ArrayLike = 0.0, sigma: ArrayLike = 1.0) -> Array:
        """Normal with this mean and standard deviation, by inversion."""
        words = self._words()
        return self._affine(mean, sigma, self._standard(words[0], words[1]))

    def cut_normal(
        self, mean: ArrayLike, sigma: ArrayLike, low: ArrayLike, width: ArrayLike
    ) -> Array:
        """Normal, truncated to the values between two probabilities in units of 2^-32.

        These are `low` and `low + width`, integers with 0 < width and low + width <= 2^32.
        """
        words = self._words()
        if self.dtype == np.float64:
            z = self._standard(*philox.truncated64(words[0], words[1], low, width))
        else:
            z = self._standard(philox.truncated32(words[0], low, width), words[1])
        return self._affine(mean, sigma, z)

    def _standard(self, word: Array, second: Array) -> Array:
        if self.dtype == np.float64:
            return philox.normal64(word, second, self._zero)
        return philox.normal32(word, self._zero)

    def index(self, axis: int) -> Array:
        """The elements' indices along one axis of the full array, int64, broadcastable to
        `shape`.
        """
        axis = range(len(self.shape))[axis]
        sizes = [1] * len(self.shape)
        sizes[axis] = self.shape[axis]
        along = lax.iota(jnp.int64, self.shape[axis]).reshape(sizes)
        return jnp.asarray(self._starts[axis]).astype(jnp.int64) + along
