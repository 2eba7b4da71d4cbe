"""The initializers that give an array a structure: constants, identities, orthogonal and sparse.

Arguments, defaults and numbers are those of MindSpore 2.10. All reject at
construction what can never work, as those of `random` do.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_types import HostArray
from paramesh.dtype import DType, bool_, float32, float64
from paramesh.initializer.arguments import (
    Axes,
    Shape,
    axes_given,
    layer_axes,
    not_negative,
    real_number,
)
from paramesh.initializer.random import Normal
from paramesh.sampling.recipe import (
    DistributionSpec,
    Initializer,
    Key,
    Recipe,
    Sampler,
    cast_on_host,
)

_Host = HostArray


class Constant(Initializer):
    """The same number everywhere.

    Args:
        value: int, float or bool, or a numpy or 0-d array number. Cast to integers as numpy does:
            the fraction is truncated, and what does not fit wraps around.
    """

    value: bool | int | float

    def __init__(self, value: float | np.generic | HostArray) -> None:
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
                f"{self!r} has no value of element type {dtype}; expected a finite number."
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


@functools.cache
def _identity(rows: int, columns: int) -> Callable[[Sampler], jax.Array]:
    """The sampling function of identities along two axes: one for each pair, which programs
    share.
    """

    def sample(bits: Sampler) -> jax.Array:
        return bits.index(rows) == bits.index(columns)

    return sample


@functools.cache
def _dirac(axes: tuple[int, ...]) -> Callable[..., jax.Array]:
    """The sampling function of kernels that pass their input on, with axes (out, in, *kernel)."""
    first, second, *kernel = axes

    def sample(bits: Sampler, per_group: jax.Array, ones: jax.Array) -> jax.Array:
        full_shape = bits.full_shape
        assert full_shape is not None
        along_out = bits.index(first) % per_group.astype(jnp.int64)
        hit = (along_out == bits.index(second)) & (along_out < ones.astype(jnp.int64))
        for axis in kernel:
            hit = hit & (bits.index(axis) == jnp.int64(full_shape[axis] // 2))
        return hit

    return sample


class _Stacked(Initializer):
    """Base of the initializers that make one matrix, or a stack of them along `batch_axis`."""

    batch_axis: tuple[int, ...] = ()

    def __init__(self, batch_axis: Axes, **arguments: object) -> None:
        axes = axes_given(type(self).__name__, "batch_axis", batch_axis)
        # One that is not given is not shown by `repr`.
        super().__init__(**arguments, **({"batch_axis": axes} if axes else {}))

    def _axes(self, shape: Shape) -> list[int]:
        """The axes of one matrix."""
        return layer_axes(self, shape, self.batch_axis)

    def _wrong(self, expected: str, shape: Shape) -> ValueError:
        besides = f" besides batch_axis={self.batch_axis}" if self.batch_axis else ""
        return ValueError(f"{self!r} needs a shape {expected}{besides}, got {shape}.")


class Identity(_Stacked):
    """1 where both indices are equal, 0 elsewhere; for shapes of 2 axes.

    Args:
        batch_axis: axes along which matrices are stacked, each of which is one by itself.
    """

    def __init__(self, *, batch_axis: Axes = ()) -> None:
        super().__init__(batch_axis)

    def check(self, shape: Shape) -> None:
        """Exactly 2 axes."""
        if len(self._axes(shape)) != 2:
            raise self._wrong("of 2 axes", shape)

    def law(self, shape: Shape) -> DistributionSpec:
        """Whether the indices are equal."""
        return DistributionSpec(_identity(*self._axes(shape)), elementwise=False)


class Dirac(_Stacked):
    """Convolution kernels that pass their input on: 1 in the middle of kernel (i, i), 0 elsewhere.

    For shapes (out, in, *kernel) of 3 to 5 axes. Where `out` is larger than `in`, the further
    outputs are 0.

    Args:
        groups: number of groups into which `out` is divided, each passing on the first inputs.
        batch_axis: axes along which kernels are stacked, each of which is one by itself.
    """

    groups: int

    def __init__(self, groups: int = 1, *, batch_axis: Axes = ()) -> None:
        if isinstance(groups, bool) or not isinstance(groups, numbers.Real):
            raise TypeError(
                f"Dirac(groups): expected an int, got {groups!r} ({type(groups).__name__})."
            )
        if not isinstance(groups, int | np.integer) or groups < 1:
            raise ValueError(f"Dirac(groups): expected an int >= 1, got {groups!r}.")
        super().__init__(batch_axis, groups=int(groups))

    def check(self, shape: Shape) -> None:
        """3 to 5 axes, the first divisible by `groups`."""
        axes = self._axes(shape)
        if not 3 <= len(axes) <= 5:
            raise self._wrong("(out, in, *kernel) of 3 to 5 axes", shape)
        if shape[axes[0]] % self.groups:
            raise ValueError(
                f"{self!r} needs a shape whose first axis (out) is a multiple of "
                f"groups={self.groups}, got {shape}."
            )

    def law(self, shape: Shape) -> DistributionSpec:
        """Whether the indices are those of a middle."""
        axes = self._axes(shape)
        per_group = shape[axes[0]] // self.groups
        ones = min(per_group, shape[axes[1]])
        return DistributionSpec(_dirac(tuple(axes)), (), (per_group, ones), elementwise=False)


class Orthogonal(_Stacked):
    """A matrix with orthonormal rows (or columns, if there are fewer of them), times `gain`.

    A shape of more than 2 axes counts as the matrix (first axis, all others). Not sliceable.
    Distributed uniformly: the orthogonal factor of a normal matrix, with signs that make the
    triangular factor's diagonal positive. Computed on the host in float64; the last bit may depend
    on the LAPACK in use.

    Source: A. Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", ICLR 2014.

    Args:
        gain: factor.
        batch_axis: axes along which matrices are stacked, each of which is one by itself.
    """

    gain: float

    def __init__(self, gain: float = 1.0, *, batch_axis: Axes = ()) -> None:
        super().__init__(batch_axis, gain=real_number("Orthogonal", "gain", gain))

    def check(self, shape: Shape) -> None:
        """At least 2 axes."""
        if len(self._axes(shape)) < 2:
            raise self._wrong("of at least 2 axes", shape)

    def whole(self, key: Key, shape: Shape, dtype: DType) -> _Host:
        """The matrix, or matrices, in their shape."""
        axes = self._axes(shape)
        stacked = [axis for axis in range(len(shape)) if axis not in axes]
        count = [shape[axis] for axis in stacked]
        sizes = [shape[axis] for axis in axes]
        rows, columns = sizes[0], math.prod(sizes[1:])
        tall = (*count, max(rows, columns), min(rows, columns))
        normal = np.asarray(Recipe(Normal(1.0), key, tall, float32).compute(), np.float64)
        q, r = np.linalg.qr(normal)
        signs = np.where(np.diagonal(r, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
        q = q * signs[..., None, :]
        matrices = q if rows >= columns else np.swapaxes(q, -1, -2)
        values = (self.gain * matrices).reshape(*count, *sizes)
        back = np.argsort([*stacked, *axes])
        return cast_on_host(np.ascontiguousarray(values.transpose(back)), dtype)


class Sparse(_Stacked):
    """Normal numbers, with the share `sparsity` of each column set to 0; for shapes of 2 axes.

    The number of zeros in a column is rounded up; which they are is random. Not sliceable.

    Args:
        sparsity: from 0 to 1.
        sigma: standard deviation of the other numbers, >= 0.
        batch_axis: axes along which matrices are stacked, each of which is one by itself.
    """

    sparsity: float
    sigma: float

    def __init__(self, sparsity: float, sigma: float = 0.01, *, batch_axis: Axes = ()) -> None:
        super().__init__(
            batch_axis,
            sparsity=not_negative("Sparse", "sparsity", sparsity),
            sigma=not_negative("Sparse", "sigma", sigma),
        )
        if self.sparsity > 1:
            raise ValueError(
                f"Sparse(sparsity): expected a share from 0 to 1, got {self.sparsity}."
            )

    def check(self, shape: Shape) -> None:
        """Exactly 2 axes."""
        if len(self._axes(shape)) != 2:
            raise self._wrong("of 2 axes", shape)

    def whole(self, key: Key, shape: Shape, dtype: DType) -> _Host:
        """The matrix."""
        computing = float64 if dtype.itemsize >= 8 else float32
        values = np.array(Recipe(Normal(self.sigma), key, shape, computing).compute())
        order = np.asarray(Recipe(_RandomOrder(), key, shape, float32).compute())
        rows = self._axes(shape)[0]
        zeros = math.ceil(self.sparsity * shape[rows])
        chosen = np.take(np.argsort(order, axis=rows, kind="stable"), range(zeros), axis=rows)
        np.put_along_axis(values, chosen, 0, axis=rows)
        return cast_on_host(values, dtype)


class _RandomOrder(Initializer):
    """Uniform numbers that are independent of what other initializers sample under the same key."""

    def draw(self, bits: Sampler) -> jax.Array:
        bits.bits()
        return bits.uniform()
