"""Element types: MindSpore's names and printed forms over numpy's and JAX's.

Glossary
    DType       one element type, a singleton: `float32`, `int64`, …
    64-bit      having 64-bit elements; JAX truncates such data unless its 64-bit mode is on
    x64         the context manager that turns that mode on for one thread, only where it is needed

A DType is accepted wherever numpy or jax.numpy take a dtype, because it has the `dtype` attribute
that both look for. It compares equal to DTypes only, as in MindSpore: `float32 == np.float32` is
False; `to_dtype` converts.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from typing import Any, Protocol, TypeAlias

import jax
import ml_dtypes
import numpy as np

from paramesh._compat.jax import Forks, check_not_forked
from paramesh._compat.unbroken import switched


class DType:
    """One element type. Not constructed by users: take the module's singletons.

    `str()` gives MindSpore's printed form (`Float32`), `repr()` the qualified name
    (`paramesh.float32`). Hashable, picklable and copyable without losing identity.
    """

    __slots__ = ("__weakref__", "_long_name", "_printed", "dtype", "kind")

    def __init__(self, long_name: str, printed: str, np_type: type, kind: str) -> None:
        self._long_name = long_name
        self._printed = printed
        self.dtype = np.dtype(np_type)
        self.kind = kind

    @property
    def np_dtype(self) -> np.dtype[Any]:
        """The numpy dtype (bfloat16 is the one of `ml_dtypes`)."""
        return self.dtype

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def long_name(self) -> str:
        """The name in code: `float32`, `bool`."""
        return self._long_name

    def is_floating(self) -> bool:
        """True for float16, bfloat16, float32 and float64."""
        return self.kind == "float"

    def is_complex(self) -> bool:
        """True for complex64 and complex128."""
        return self.kind == "complex"

    def is_integer(self) -> bool:
        """True for the signed and unsigned integers; bool is not an integer."""
        return self.kind in ("int", "uint")

    def is_64bit(self) -> bool:
        """True if JAX would truncate it outside its 64-bit mode."""
        return self in _64BIT

    def __str__(self) -> str:
        return self._printed

    def __repr__(self) -> str:
        return f"paramesh.{self._long_name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_by_long_name, (self._long_name,))

    def __copy__(self) -> DType:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> DType:
        return self


bool_ = DType("bool", "Bool", np.bool_, "bool")
int8 = DType("int8", "Int8", np.int8, "int")
int16 = DType("int16", "Int16", np.int16, "int")
int32 = DType("int32", "Int32", np.int32, "int")
int64 = DType("int64", "Int64", np.int64, "int")
uint8 = DType("uint8", "UInt8", np.uint8, "uint")
uint16 = DType("uint16", "UInt16", np.uint16, "uint")
uint32 = DType("uint32", "UInt32", np.uint32, "uint")
uint64 = DType("uint64", "UInt64", np.uint64, "uint")
float16 = DType("float16", "Float16", np.float16, "float")
bfloat16 = DType("bfloat16", "BFloat16", ml_dtypes.bfloat16, "float")
float32 = DType("float32", "Float32", np.float32, "float")
float64 = DType("float64", "Float64", np.float64, "float")
complex64 = DType("complex64", "Complex64", np.complex64, "complex")
complex128 = DType("complex128", "Complex128", np.complex128, "complex")

byte = int8
short = int16
intc = int32
intp = int64
ubyte = uint8
ushort = uint16
uintc = uint32
uintp = uint64
half = float16
single = float32
double = float64

#: In the order in which MindSpore 1.x ranks element types for `set_data`.
ALL: tuple[DType, ...] = (
    bool_,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
    float16,
    bfloat16,
    float32,
    float64,
    complex64,
    complex128,
)

int_type = (int8, int16, int32, int64)
uint_type = (uint8, uint16, uint32, uint64)
float_type = (float16, float32, float64, bfloat16)
complex_type = (complex64, complex128)
number_type = (*int_type, *uint_type, *float_type, *complex_type)
number = number_type

_64BIT = frozenset((int64, uint64, float64, complex128))
_NP_64BIT = frozenset(d.np_dtype for d in _64BIT)
_BY_NP: dict[object, DType] = {d.np_dtype: d for d in ALL}
_BY_NAME = {d.long_name: d for d in ALL} | {"bool_": bool_} | {str(d): d for d in ALL}
_BY_PYTYPE: dict[type, DType] = {bool: bool_, int: int64, float: float64, complex: complex128}


class HasDType(Protocol):
    """An array, or a type of `jax.numpy`."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its numpy dtype."""
        ...


#: What `to_dtype` takes.
DTypeLike: TypeAlias = DType | np.dtype[Any] | type | str | HasDType


def _by_long_name(name: str) -> DType:
    return _BY_NAME[name]


def to_dtype(value: DTypeLike | None) -> DType:
    """The DType meant by a DType, a numpy or jax.numpy dtype, a name or a python type.

    Python types map as in MindSpore's `pytype_to_dtype`: int is Int64, float is Float64.

    Raises:
        TypeError: nothing in paramesh has this element type; the message lists those that exist.
    """
    if isinstance(value, DType):
        return value
    try:
        found = _BY_NP.get(value)
        if found is not None:
            return found
    except TypeError:  # unhashable
        pass
    if isinstance(value, str) and value in _BY_NAME:
        return _BY_NAME[value]
    if isinstance(value, type) and value in _BY_PYTYPE:
        return _BY_PYTYPE[value]
    if value is not None:
        try:
            found = _BY_NP.get(np.dtype(value))
        except TypeError:
            found = None
        if found is not None:
            return found
    raise TypeError(
        f"{value!r} is not an element type that paramesh has. Expected one of "
        f"{', '.join(d.long_name for d in ALL)} (a paramesh, numpy or jax.numpy dtype, or a name)."
    )


def dtype_to_nptype(dtype: DType) -> type:
    """The numpy scalar type of a DType (`numpy.float32` for `float32`).

    Raises:
        TypeError: `dtype` is not an element type.
    """
    return to_dtype(dtype).np_dtype.type


def pytype_to_dtype(pytype: type) -> DType:
    """The DType of a python type: bool, int (Int64), float (Float64), complex (Complex128).

    Raises:
        TypeError: no element type stands for `pytype`.
    """
    try:
        return _BY_PYTYPE[pytype]
    except (KeyError, TypeError):
        raise TypeError(
            f"{pytype!r} has no element type. Expected bool, int, float or complex."
        ) from None


def dtype_to_pytype(dtype: DType) -> type:
    """The python type that one element of a DType becomes: bool, int, float or complex.

    Raises:
        TypeError: `dtype` is not an element type.
    """
    kind = to_dtype(dtype).kind
    return {"bool": bool, "int": int, "uint": int, "float": float, "complex": complex}[kind]


class _Marks(threading.local):
    """Whether 64-bit data was met on this thread since `watch_64bit` was entered."""

    met_64bit = False


_marks = _Marks()


@contextlib.contextmanager
def watch_64bit() -> Generator[_Marks]:
    """Watch for 64-bit data while something is traced; `.met_64bit` of the result tells.

    A program that touches 64-bit data has to be traced, lowered and compiled in JAX's 64-bit mode
    as a whole: JAX consults the mode again when it lowers each operation.
    """
    outer = _marks.met_64bit
    _marks.met_64bit = False
    try:
        yield _marks
    finally:
        _marks.met_64bit = _marks.met_64bit or outer


def meets_64bit() -> None:
    """Mark for `watch_64bit` that 64-bit data is there."""
    _marks.met_64bit = True


def x64_enabled() -> bool:
    """Whether JAX keeps 64-bit data on this thread now."""
    # The attribute is created at run time, so type checkers do not know it.
    return bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]


def x64_set(on: bool) -> contextlib.AbstractContextManager[object]:
    """A context in which JAX keeps 64-bit data on this thread, or does not.

    As `jax.enable_x64`, which an exception from outside can leave on.
    """
    return switched(jax.enable_x64, on)


_NOTHING = contextlib.nullcontext()


def x64_if(needed: bool) -> contextlib.AbstractContextManager[object]:
    """A context in JAX's 64-bit mode if `needed`, otherwise one that changes nothing.

    For what is known to need the mode; `x64` looks at data, and marks it for `watch_64bit`.
    """
    return x64_set(True) if needed and not x64_enabled() else _NOTHING


def is_64bit(value: object) -> bool:
    """True if `value` (a DType, a numpy dtype, or anything with a `dtype`) has 64-bit elements."""
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        dtype = value
    try:
        return dtype in _NP_64BIT
    except TypeError:
        return False


def x64(*values: object) -> contextlib.AbstractContextManager[object]:
    """A context in which the given arrays and dtypes keep 64 bits.

    Turns on JAX's 64-bit mode on this thread alone, and only if one of `values` (arrays, DTypes or
    numpy dtypes) has 64-bit elements; otherwise it does nothing. Users' own JAX code is never
    affected.

    Raises:
        RuntimeError: there is an array among the values, and this process was forked from one that
            had computed.
    """
    if Forks.lame and any(isinstance(value, jax.Array | np.ndarray) for value in values):
        check_not_forked()
    for value in values:
        if is_64bit(value):
            _marks.met_64bit = True
            return _NOTHING if x64_enabled() else x64_set(True)
    return _NOTHING
