"""The pickles in PyTorch's files, read without running anything that they ask for.

A pickle is a program: it names functions, and the reader calls them. The reader here knows a short
list of names (`_ALLOWED`), and each stands for an inert function or class of this module, never for
the thing of that name. A pickle that names anything else is refused before that is looked up. What
comes out are dicts, lists, numbers, strings, and `Stored` arrays that say where their elements lie.

Glossary
    storage     a run of elements in a file, which several arrays may share
    key         the name of a storage
"""

from __future__ import annotations

import collections
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paramesh import dtype as types
from paramesh.checkpoint.formats import storage_dtypes
from paramesh.dtype import DType

#: Element types by the names of PyTorch's typed storages.
_STORAGES: dict[str, DType] = {
    "FloatStorage": types.float32,
    "DoubleStorage": types.float64,
    "HalfStorage": types.float16,
    "BFloat16Storage": types.bfloat16,
    "LongStorage": types.int64,
    "IntStorage": types.int32,
    "ShortStorage": types.int16,
    "CharStorage": types.int8,
    "ByteStorage": types.uint8,
    "BoolStorage": types.bool_,
    "ComplexFloatStorage": types.complex64,
    "ComplexDoubleStorage": types.complex128,
}
#: Element types by PyTorch's names of them.
_DTYPES: dict[str, DType] = {
    "float32": types.float32,
    "float64": types.float64,
    "float16": types.float16,
    "bfloat16": types.bfloat16,
    "int64": types.int64,
    "int32": types.int32,
    "int16": types.int16,
    "int8": types.int8,
    "uint8": types.uint8,
    "uint16": types.uint16,
    "uint32": types.uint32,
    "uint64": types.uint64,
    "bool": types.bool_,
    "complex64": types.complex64,
    "complex128": types.complex128,
    "float8_e4m3fn": storage_dtypes.float8_e4m3fn,
    "float8_e5m2": storage_dtypes.float8_e5m2,
    "float8_e8m0fnu": storage_dtypes.float8_e8m0fnu,
    "float8_e4m3fnuz": storage_dtypes.float8_e4m3fnuz,
    "float8_e5m2fnuz": storage_dtypes.float8_e5m2fnuz,
}


class RefusedError(Exception):
    """The pickle asks for what is not allowed, or says what cannot be; the message says what."""


@dataclass(frozen=True)
class Storage:
    """A storage.

    Args:
        key: its name.
        dtype: of its elements; None for bytes, whose arrays say their element type.
        size: how many elements.
        offset: of a view of another storage, in elements.
    """

    key: str
    dtype: DType | None
    size: int
    offset: int = 0


@dataclass(frozen=True)
class Stored:
    """An array: elements of a storage.

    Args:
        storage: where they are.
        offset: the first element, counted from the storage's first.
        shape: sizes of the axes.
        strides: elements from one to the next along each axis.
        dtype: the element type.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: DType


def _array(storage: object, offset: object, shape: object, strides: object, *_: object) -> Stored:
    if not isinstance(storage, Storage) or storage.dtype is None:
        raise RefusedError("an array without a storage")
    return _checked(storage, offset, shape, strides, storage.dtype)


def _array_of_bytes(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    _: object,
    __: object,
    dtype: object,
    *___: object,
) -> Stored:
    if not isinstance(storage, Storage) or not isinstance(dtype, DType):
        raise RefusedError("an array without a storage or an element type")
    return _checked(storage, offset, shape, strides, dtype)


def _checked(storage: Storage, offset: Any, shape: Any, strides: Any, dtype: DType) -> Stored:
    """An array whose elements all lie in its storage."""
    numbers = (offset, *shape, *strides) if _tuples(shape, strides) else (None,)
    if not all(type(n) is int and n >= 0 for n in numbers) or len(shape) != len(strides):
        raise RefusedError(f"an array of shape {shape!r} and strides {strides!r}")
    size = storage.size
    if storage.dtype is None:  # bytes
        size //= dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if 0 not in shape and last >= size:
        raise RefusedError(f"an array of shape {shape} that ends behind its storage of {size}")
    return Stored(storage, storage.offset + offset, tuple(shape), tuple(strides), dtype)


def _tuples(*values: object) -> bool:
    return all(isinstance(value, tuple) for value in values)


def _parameter(data: object, *_: object) -> Any:
    return data


def _size(*sizes: object) -> Any:
    return sizes[0] if len(sizes) == 1 else tuple(sizes)


def _nothing(*_: object) -> None:
    return None


#: Whatever a pickle may name, and what is called instead.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("torch._utils", "_rebuild_tensor"): _array,
    ("torch._utils", "_rebuild_tensor_v2"): _array,
    ("torch._utils", "_rebuild_tensor_v3"): _array_of_bytes,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): _nothing,
    ("torch.serialization", "_get_layout"): _nothing,
    ("torch.storage", "UntypedStorage"): None,
    ("torch", "UntypedStorage"): None,
    **{("torch", name): kind for name, kind in _STORAGES.items()},
    **{("torch.storage", name): kind for name, kind in _STORAGES.items()},
    **{("torch", name): kind for name, kind in _DTYPES.items()},
}


class InertUnpickler(pickle.Unpickler):
    """Reads one pickle; see the module."""

    def find_class(self, module: str, name: str) -> Any:
        """What is called instead of what the pickle names.

        Raises:
            RefusedError: it is not allowed.
        """
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise RefusedError(
                f"it names {module}.{name}, which would have to be run: it holds more than arrays"
            ) from None

    def persistent_load(self, pid: object) -> Storage:
        """A storage, which lies outside of the pickle.

        Raises:
            RefusedError: it is none.
        """
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise RefusedError("it speaks of something outside that is no storage")
        _, dtype, key, _, size, *view = pid
        if not isinstance(dtype, DType | None) or not isinstance(key, str):
            raise RefusedError("it speaks of a storage of an unknown kind")
        if type(size) is not int or size < 0:
            raise RefusedError(f"it speaks of a storage of {size!r} elements")
        if view and view[0] is not None:
            if not isinstance(view[0], tuple) or len(view[0]) != 3:
                raise RefusedError("it speaks of a view of a storage that is none")
            _, offset, size = view[0]
            if type(offset) is not int or type(size) is not int or offset < 0 or size < 0:
                raise RefusedError("it speaks of a view of a storage that is none")
            return Storage(key, dtype, size, offset)
        return Storage(key, dtype, size)


def loads(read: Callable[[int], bytes], readline: Callable[[], bytes]) -> Any:
    """What one pickle holds; not a byte behind it is read.

    Args:
        read: gives so many bytes.
        readline: gives bytes up to the end of a line.

    Raises:
        RefusedError: it asks for what is not allowed, or is no pickle.
    """
    try:
        return InertUnpickler(_Bare(read, readline), encoding="utf-8").load()  # type: ignore[arg-type]
    except RefusedError:
        raise
    # A pickle that is damaged fails in any way.
    except Exception as error:
        raise RefusedError(f"its pickle is damaged ({type(error).__name__}: {error})") from error


class _Bare:
    """A file that has no more than these: pickle would read ahead with others."""

    def __init__(self, read: Callable[[int], bytes], readline: Callable[[], bytes]) -> None:
        self.read, self.readline = read, readline


def loads_bytes(data: bytes) -> Any:
    """What the pickle at the beginning of some bytes holds.

    Raises:
        RefusedError: as `loads`.
    """
    file = io.BytesIO(data)
    return loads(file.read, file.readline)
