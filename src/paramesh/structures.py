"""The initializers that give an array a structure: constants, identities, orthogonal and sparse.

Arguments, defaults and numbers are those of MindSpore 2.10. All raise at construction what can
never work, as those of `distributions` do.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.distributions import Normal, Shape, not_negative, real_number
from paramesh.dtype import DType, bool_, float32, float64
from paramesh.recipe import Draw, Initializer, Key, Law, Recipe, cast_on_host

_Host = np.ndarray[Any, Any]


class Constant(Initializer):
    """The same number everywhere.

    Args:
        value: int, float or bool, or a numpy or 0-d array number. Cast to integers as numpy does:
            the fraction is cut, and what does not fit wraps around.
    """

    value: Any

    def __init__(self, value: Any) -> None:
        if isinstance(value, np.ndarray | np.generic) and value.ndim == 0:
            value = value.item()
        if not isinstance(value, bool | int | float):
            raise ValueError(
                f"Constant(value): expected one number, got {value!r} ({type(value).__name__}). "
                "Give an array as Tensor(array) instead of an initializer."
            )
        super().__init__(value=value)

    def constant(self, dtype: DType) -> _Host:
        """The value in an element type, as numpy casts it."""
        value = self.value
        if dtype is bool_:
            return np.array(bool(value))
        if not dtype.is_integer():
            return np.array(value, np.complex128 if dtype.is_complex() else np.float64).astype(
                dtype.np_dtype
            )
        if not math.isfinite(value):
            raise ValueError(
                f"{self!r} has no value of element type {dtype}; expected a finite one."
            )
        unsigned = int(value) % (1 << (8 * dtype.itemsize))
        return np.array(unsigned, f"u{dtype.itemsize}").view(dtype.np_dtype)


class Zero(Constant):
    """0 everywhere."""

    def __init__(self) -> None:
        super().__init__(0)

    def __repr__(self) -> str:
        return "Zero()"


class One(Constant):
    """1 everywhere."""

    def __init__(self) -> None:
        super().__init__(1)

    def __repr__(self) -> str:
        return "One()"


def _identity(bits: Draw) -> jax.Array:
    return bits.index(0) == bits.index(1)


def _dirac(bits: Draw, per_group: Any, ones: Any) -> jax.Array:
    whole = bits.whole
    assert whole is not None
    along_out = bits.index(0) % per_group.astype(jnp.int64)
    hit = (along_out == bits.index(1)) & (along_out < ones.astype(jnp.int64))
    for axis in range(2, len(whole)):
        hit = hit & (bits.index(axis) == jnp.int64(whole[axis] // 2))
    return hit


class Identity(Initializer):
    """1 where both indices are equal, 0 elsewhere; for shapes of 2 axes."""

    def __init__(self) -> None:
        super().__init__()

    def check(self, shape: Shape) -> None:
        """Exactly 2 axes."""
        if len(shape) != 2:
            raise ValueError(f"Identity() needs a shape of 2 axes, got {shape}.")

    def law(self, shape: Shape) -> Law:
        """Whether the indices are equal."""
        return Law(_identity, elementwise=False)


class Dirac(Initializer):
    """Convolution kernels that pass their input on: 1 in the middle of kernel (i, i), 0 elsewhere.

    For shapes (out, in, *kernel) of 3 to 5 axes. Where `out` is larger than `in`, the further
    outputs are 0.

    Args:
        groups: number of groups into which `out` is divided, each passing on the first inputs.
    """

    groups: int

    def __init__(self, groups: int = 1) -> None:
        if isinstance(groups, bool) or not isinstance(groups, numbers.Real):
            raise TypeError(
                f"Dirac(groups): expected an int, got {groups!r} ({type(groups).__name__})."
            )
        if not isinstance(groups, int | np.integer) or groups < 1:
            raise ValueError(f"Dirac(groups): expected an int >= 1, got {groups!r}.")
        super().__init__(groups=int(groups))

    def check(self, shape: Shape) -> None:
        """3 to 5 axes, the first divisible by `groups`."""
        if not 3 <= len(shape) <= 5:
            raise ValueError(
                f"{self!r} needs a shape (out, in, *kernel) of 3 to 5 axes, got {shape}."
            )
        if shape[0] % self.groups:
            raise ValueError(
                f"{self!r} needs a shape whose first axis is a multiple of groups={self.groups}, "
                f"got {shape}."
            )

    def law(self, shape: Shape) -> Law:
        """Whether the indices are those of a middle."""
        per_group = shape[0] // self.groups
        return Law(_dirac, (), (per_group, min(per_group, shape[1])), elementwise=False)


class Orthogonal(Initializer):
    """A matrix with orthonormal rows (or columns, if there are fewer of them), times `gain`.

    A shape of more than 2 axes counts as the matrix (first axis, all others). Not sliceable.
    Distributed uniformly: the orthogonal factor of a normal matrix, with signs that make the
    triangular factor's diagonal positive. Computed on the host in float64; the last bit may depend
    on the LAPACK in use.

    Source: A. Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", ICLR 2014.

    Args:
        gain: factor.
    """

    gain: float

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(gain=real_number("Orthogonal", "gain", gain))

    def check(self, shape: Shape) -> None:
        """At least 2 axes."""
        if len(shape) < 2:
            raise ValueError(f"{self!r} needs a shape of at least 2 axes, got {shape}.")

    def whole(self, key: Key, shape: Shape, dtype: DType) -> _Host:
        """The matrix, in its shape."""
        rows, columns = shape[0], math.prod(shape[1:])
        tall = (max(rows, columns), min(rows, columns))
        normal = np.asarray(Recipe(Normal(1.0), key, tall, float32).compute(), np.float64)
        q, r = np.linalg.qr(normal)
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        matrix = q if rows >= columns else q.T
        return cast_on_host(np.ascontiguousarray(self.gain * matrix).reshape(shape), dtype)


class Sparse(Initializer):
    """Normal numbers, with the share `sparsity` of each column set to 0; for shapes of 2 axes.

    The number of zeros in a column is rounded up; which they are is random. Not sliceable.

    Args:
        sparsity: from 0 to 1.
        sigma: standard deviation of the other numbers, >= 0.
    """

    sparsity: float
    sigma: float

    def __init__(self, sparsity: float, sigma: float = 0.01) -> None:
        super().__init__(
            sparsity=not_negative("Sparse", "sparsity", sparsity),
            sigma=not_negative("Sparse", "sigma", sigma),
        )
        if self.sparsity > 1:
            raise ValueError(
                f"Sparse(sparsity): expected a share from 0 to 1, got {self.sparsity}."
            )

    def check(self, shape: Shape) -> None:
        """Exactly 2 axes."""
        if len(shape) != 2:
            raise ValueError(f"{self!r} needs a shape of 2 axes, got {shape}.")

    def whole(self, key: Key, shape: Shape, dtype: DType) -> _Host:
        """The matrix."""
        computing = float64 if dtype.itemsize >= 8 else float32
        values = np.array(Recipe(Normal(self.sigma), key, shape, computing).compute())
        order = np.asarray(Recipe(_Lottery(), key, shape, float32).compute())
        zeros = math.ceil(self.sparsity * shape[0])
        lots = np.argsort(order, axis=0, kind="stable")[:zeros]
        np.put_along_axis(values, lots, 0, axis=0)
        return cast_on_host(values, dtype)


class _Lottery(Initializer):
    """Uniform numbers that are independent of what other initializers draw under the same key."""

    def draw(self, bits: Draw) -> jax.Array:
        bits.bits()
        return bits.uniform()
