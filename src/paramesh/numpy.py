"""MindSpore's `numpy`: numpy's functions over Tensors, as one table over `jax.numpy`.

They take Tensors, Parameters, arrays and numbers, also in tuples and lists, and element types of
any kind, and give Tensors. Numbers without a type of their own are Float32 and Int32; 64-bit data
keeps 64 bits. They work in eager mode, in compiled programs and under gradients.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh import dtype as _dtype
from paramesh import lazy_names, numpy_functions, ops
from paramesh.array_sizes import check_countable, check_matrix
from paramesh.dtype import DType, DTypeLike, to_dtype, x64
from paramesh.numpy_functions import *  # noqa: F403
from paramesh.tensor import method_errors
from paramesh.tensor.base import Tensor, raw, wrap

_NAMES = """
    abs absolute add all amax amin any append arange arccos arccosh arcsin arcsinh arctan arctan2
    arctanh argmax argmin argsort around array array_equal array_equiv array_split asarray
    atleast_1d atleast_2d atleast_3d average bartlett bincount bitwise_and bitwise_not bitwise_or
    bitwise_xor blackman broadcast_arrays broadcast_to cbrt ceil choose clip column_stack
    concatenate convolve copy copysign corrcoef correlate cos cosh count_nonzero cov cross cumprod
    cumsum deg2rad degrees diag diag_indices diagflat diagonal diff digitize divide divmod dot
    dsplit dstack ediff1d empty empty_like equal exp exp2 expand_dims expm1 eye fix flip fliplr
    flipud float_power floor floor_divide fmod full full_like gcd geomspace gradient greater
    greater_equal hamming hanning heaviside histogram histogram2d histogram_bin_edges histogramdd
    hsplit hstack hypot identity in1d indices inner interp intersect1d invert isclose isfinite isin
    isinf isnan isneginf isposinf ix_ kron lcm less less_equal linspace log log10 log1p log2
    logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logspace matmul matrix_power
    max maximum mean meshgrid min minimum mod moveaxis multi_dot multiply nancumsum nanmax nanmean
    nanmin nanstd nansum nanvar negative nonzero norm not_equal ones ones_like outer pad polyadd
    polyder polyint polymul polysub polyval positive power prod ptp rad2deg radians ravel
    ravel_multi_index reciprocal remainder repeat reshape rint roll rollaxis rot90 round
    searchsorted select setdiff1d sign signbit sin sinh size sort split sqrt square squeeze stack
    std subtract sum swapaxes take take_along_axis tan tanh tensordot tile trace transpose trapezoid
    trapz tri tril tril_indices tril_indices_from triu triu_indices triu_indices_from true_divide
    trunc unique unravel_index unwrap vander var vsplit vstack where zeros zeros_like
"""
#: What `jax.numpy` calls otherwise.
_THEIRS = {
    "bitwise_not": "invert",
    "in1d": "isin",
    "fix": "trunc",
    "matrix_power": "linalg.matrix_power",
    "amax": "max",
    "amin": "min",
    "multi_dot": "linalg.multi_dot",
    "norm": "linalg.norm",
    "trapz": "trapezoid",
}
#: What MindSpore calls the first argument where numpy calls it `ary`.
_FIRST: dict[str, str] = dict.fromkeys(("array_split", "dsplit", "hsplit", "split", "vsplit"), "x")
_Shape = int | Sequence[int]
#: Whose arrays MindSpore takes with any number of axes, as if they had one.
_FLAT = frozenset(["meshgrid"])
#: Who makes a matrix, and of which arguments.
_MATRICES = {"eye": ("N", "M"), "identity": ("n",), "tri": ("N", "M")}
_TYPES = "bool_ float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64"


def _inside(value: Any, wide: list[Any]) -> Any:
    """An argument as `jax.numpy` takes it; what may have 64 bits is added to `wide`."""
    if isinstance(value, Tensor):
        value = raw(value)
    elif isinstance(value, DType):
        wide.append(value)
        return value.np_dtype
    elif type(value) in (tuple, list):
        check_countable(value, "argument")
        return type(value)(_inside(part, wide) for part in value)
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        wide.append(value)
    return value


def _array(value: object) -> Any:
    """A list of numbers as an array; other values as they are."""
    return jnp.asarray(value) if isinstance(value, list | tuple) else value


def _outside(result: Any) -> Any:
    if isinstance(result, jax.Array):
        # With its type given, the result is no longer one that gives way to other types.
        return wrap(jnp.asarray(result, result.dtype))
    if isinstance(result, tuple | list):
        parts = [_outside(part) for part in result]
        return parts if isinstance(result, list) else tuple(parts)
    return result


def _over(name: str) -> Callable[..., Any]:
    theirs = _THEIRS.get(name, name)
    compute: Any = jnp
    for part in theirs.split("."):
        compute = getattr(compute, part)

    first = _FIRST.get(name)
    signature = inspect.signature(compute)
    listed = list(signature.parameters.values())
    # MindSpore takes every argument by its name; `jax.numpy` has some by their place alone.
    unnamed = [p.name for p in listed if p.kind is p.POSITIONAL_ONLY]

    def run(*args: object, **kwargs: object) -> Any:
        wide: list[Any] = []
        if kwargs.get("out") is not None:
            raise TypeError(f"numpy.{name} takes no `out`: Tensors are not written into.")
        if first in kwargs:
            kwargs = {"ary" if key == first else key: value for key, value in kwargs.items()}
        for each in unnamed[len(args) :]:
            if each not in kwargs:
                break
            args = *args, kwargs.pop(each)
        if name in _MATRICES:
            sizes = dict(zip(_MATRICES[name], args, strict=False)) | kwargs
            check_matrix(*map(sizes.get, _MATRICES[name]))
        inside = [_inside(value, wide) for value in args]
        named = {key: _inside(value, wide) for key, value in kwargs.items()}
        with x64(*wide):
            if name in _FLAT:
                inside = [jnp.ravel(jnp.asarray(value)) for value in inside]
            try:
                return _outside(compute(*inside, **named))
            except TypeError:
                # MindSpore takes lists of numbers where JAX takes arrays.
                lists = [v for v in [*inside, *named.values()] if isinstance(v, list | tuple)]
                if not lists:
                    raise
                given = [_array(value) for value in inside]
                return _outside(compute(*given, **{k: _array(v) for k, v in named.items()}))

    @functools.wraps(compute)
    def call(*args: object, **kwargs: object) -> Any:
        try:
            return run(*args, **kwargs)
        except Exception as error:
            better = method_errors.named(error, f"numpy.{name}", f"numpy.{name}", args, kwargs)
            if better is None:
                raise
            raise better from error

    if first is not None:
        listed[0] = listed[0].replace(name=first)
    named = [p.replace(kind=p.POSITIONAL_OR_KEYWORD) if p.name in unnamed else p for p in listed]
    call.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
    call.__module__, call.__qualname__ = __name__, name
    call.__doc__ = f"`jax.numpy.{theirs}` over Tensors."
    return call


globals().update({name: _over(name) for name in _NAMES.split()})
globals().update({name: getattr(_dtype, name) for name in _TYPES.split()})
_interp, _cumsum, _cumprod = map(_over, ("interp", "cumsum", "cumprod"))


def interp(x: object, xp: object, fp: object, left: object = None, right: object = None) -> Any:
    """Values between given points, on the lines that connect them.

    Args:
        x: where, of any shape.
        xp: (n,): where the points are, rising.
        fp: (n,): their values.
        left: the value below the first point; None: that of the point.
        right: the value above the last; None: that of the point.
    """
    # Both are always given: jax.numpy.interp (0.10) takes `left` for `right` where it has been
    # called with the other one before.
    fp = wrap(_array(_inside(fp, [])))
    return _interp(x, xp, fp, fp[0] if left is None else left, fp[-1] if right is None else right)


def cumsum(a: object, axis: int | None = None, dtype: DTypeLike | None = None) -> Any:
    """Sums of the elements up to each; integers of fewer than 32 bits become Int32."""
    return _cumsum(a, axis, _summing(a, _dtype.int32) if dtype is None else dtype)


def cumprod(a: object, axis: int | None = None, dtype: DTypeLike | None = None) -> Any:
    """Products of the elements up to each; of fewer than 32 bits they become Int32 or UInt32."""
    return _cumprod(a, axis, _summing(a, _dtype.uint32) if dtype is None else dtype)


def _summing(a: object, of_unsigned: DType) -> DType | None:
    given = getattr(a, "dtype", None)
    dtype = None if given is None else to_dtype(given)
    if dtype is None or dtype.itemsize >= 4 or dtype.kind not in ("int", "uint"):
        return None
    return of_unsigned if dtype.kind == "uint" else _dtype.int32


def rand(*shape: _Shape, dtype: DType = _dtype.float32) -> Any:
    """Numbers that are equally likely in [0, 1), of a shape."""
    return ops.rand(*shape, dtype=dtype)


def randn(*shape: _Shape, dtype: DType = _dtype.float32) -> Any:
    """Normal numbers with mean 0 and deviation 1, of a shape."""
    return ops.randn(*shape, dtype=dtype)


def randint(
    minval: int,
    maxval: int | None = None,
    shape: _Shape | None = None,
    dtype: DType = _dtype.int32,
) -> Any:
    """Integers that are equally likely in [minval, maxval), or below `minval` alone."""
    low, high = (0, minval) if maxval is None else (minval, maxval)
    sizes = () if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
    return ops.randint(low, high, sizes, dtype=dtype)


pi, e, inf, nan, newaxis = np.pi, np.e, np.inf, np.nan, None

_DRAWN = ("rand", "randint", "randn")
_NUMBERS = ("pi", "e", "inf", "nan", "newaxis")
_ALL = sorted([*_NAMES.split(), *_DRAWN, *_TYPES.split(), *_NUMBERS, *numpy_functions.__all__])
globals()["__all__"] = _ALL  # checkers read no computed one


def __getattr__(name: str) -> Any:
    raise AttributeError(lazy_names.missing(f"module '{__name__}'", name, lambda: _ALL))
