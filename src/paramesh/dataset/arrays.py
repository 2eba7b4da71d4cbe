"""What is in a row: numpy arrays, and how values become them.

Glossary
    row         a tuple with one array (or a dict of Python's) for each column
    own         memory that the pipeline has allocated and nobody else writes to: it starts at a
                multiple of 64 bytes, so that JAX on a CPU takes it as it is, without a copy
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Row = tuple[Any, ...]

#: What JAX asks of memory that it takes over on a CPU.
ALIGNMENT = 64


def aligned(size: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


_SCALARS = (int, float, str, bytes, np.ndarray, np.generic, bool)


def to_array(value: Any, what: str) -> Any:
    """A value of a column as an array; a dict is kept as it is.

    Args:
        value: a number, a string, an array, a Tensor, or lists of these.
        what: begins the error.

    Raises:
        TypeError: numpy would make an array of objects of it.
    """
    if isinstance(value, np.ndarray):
        array = value
    elif isinstance(value, dict):
        return value
    elif hasattr(value, "asnumpy"):
        array = value.asnumpy()
    else:
        try:
            array = np.asarray(value)
        except ValueError:
            raise TypeError(
                f"{what} must be numbers or strings of one shape, got rows of different lengths: "
                f"{str(value)[:100]}. Pad them, or give one array for each."
            ) from None
    if array.dtype.kind == "O":
        raise TypeError(
            f"{what} must be an int, a float, a str, or an array of them, "
            f"got {type(value).__name__} ({str(value)[:100]}), of which numpy makes objects."
        )
    return array


def to_row(value: Any, what: str) -> Row:
    """What a source gave as a row.

    Raises:
        TypeError: it is None, or a column of it is no array.
    """
    if isinstance(value, (*_SCALARS, dict)) or hasattr(value, "asnumpy"):
        return (to_array(value, what),)
    if value is None:
        raise TypeError(f"{what} is None; is a `return` missing?")
    try:
        items = tuple(value)
    except TypeError:
        raise TypeError(
            f"{what} must be a tuple with one item for each column, got {type(value).__name__}."
        ) from None
    return tuple(
        item
        if type(item) is np.ndarray and item.dtype.kind != "O"
        else to_array(item, f"{what}, item {i}")
        for i, item in enumerate(items)
    )


class Memory:
    """Memory of the pipeline's own; arrays over it have it as their base."""

    __slots__ = ("__array_interface__", "holder")

    def __init__(self, holder: object, array: Array) -> None:
        self.holder = holder
        self.__array_interface__ = array.__array_interface__


#: Batches of so many bytes are kept when nobody has them any more: to get zeroed pages from the
#: system for the next one takes longer than to fill it.
_KEPT = range(1 << 17, 1 << 26)

#: Its operations are atomic; a lock could be held by the thread in which memory is let go.
_spare: collections.deque[Array] = collections.deque(maxlen=3)


class _Lent(Memory):
    """Memory that is used again when the last array over it is gone."""

    __slots__ = ()

    def __del__(self) -> None:
        _spare.append(self.holder)  # type: ignore[arg-type]


def _spared(size: int) -> Array | None:
    for _ in range(len(_spare)):
        try:
            raw = _spare.popleft()
        except IndexError:
            return None
        if raw.size == size:
            return raw
        _spare.append(raw)
    return None


_take: Callable[[int], Memory] | None = None


def take_from(take: Callable[[int], Memory]) -> None:
    """Let large batches lie in memory that a function gives, aligned for JAX."""
    global _take
    _take = take


def let_go() -> None:
    """Give the memory that waits for use back to the system."""
    _spare.clear()


def own(shape: Sequence[int], dtype: np.dtype[Any], batch: bool = False) -> Array:
    """Uninitialised memory of the pipeline's own, aligned for JAX.

    Args:
        shape: of the array.
        dtype: likewise.
        batch: in a worker process, shared with the pipeline if it is large.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    kept = size in _KEPT
    if batch and kept and _take is not None:
        return np.asarray(_take(size)).view(dtype).reshape(shape)
    raw = _spared(size + ALIGNMENT) if kept else None
    if raw is None:
        raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    memory = np.asarray((_Lent if kept else Memory)(raw, raw[start : start + size]))
    return memory.view(dtype).reshape(shape)


def owned(memory: memoryview, shape: Sequence[int], dtype: np.dtype[Any] | str) -> Array:
    """An array over a buffer that nobody else writes to, which it keeps alive."""
    flat = np.frombuffer(memory, np.uint8)
    return np.asarray(Memory(memory, flat)).view(np.dtype(dtype)).reshape(shape)


def is_own(array: Array) -> bool:
    """Whether nobody but the pipeline can have written to this memory, and JAX can take it."""
    if not array.flags.c_contiguous or array.ctypes.data % ALIGNMENT or array.dtype.kind in "USO":
        return False
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
        if isinstance(base, memoryview):
            base = base.obj
    return isinstance(base, Memory)


def stack(
    values: Sequence[Any],
    column: str,
    memory: Array | None = None,
    written: Collection[int] = (),
) -> Any:
    """One column of a batch.

    Args:
        values: of the rows.
        column: its name, for errors.
        memory: of the batch; None: it is allocated.
        written: the rows whose values lie in their places of `memory` already.

    Raises:
        RuntimeError: shapes or dtypes differ, as in MindSpore.
    """
    first = values[0]
    if isinstance(first, dict):
        return {key: stack([value[key] for value in values], f"{column}.{key}") for key in first}
    if first.dtype.kind in "US":
        _same_shapes(values, column)
        return np.stack(values)
    out = own((len(values), *first.shape), first.dtype, batch=True) if memory is None else memory
    for i, value in enumerate(values):
        if value.shape != first.shape or value.dtype != first.dtype:
            _same_shapes(values, column)
            raise RuntimeError(
                f"batch: column '{column}' has rows of different types, {first.dtype} in row 0 and "
                f"{value.dtype} in row {i} of the batch. Cast them in a map before the batch."
            )
        if i not in written:
            out[i] = value
    return out


def _same_shapes(values: Sequence[Array], column: str) -> None:
    for i, value in enumerate(values):
        if value.shape != values[0].shape:
            raise RuntimeError(
                f"batch: column '{column}' has rows of different shapes, {values[0].shape} in row "
                f"0 and {value.shape} in row {i} of the batch. Make them equal in a map before the "
                "batch, or use padded_batch."
            )


def pad(value: Array, shape: Sequence[int | None], fill: object, column: str) -> Array:
    """A value of a column, filled up at the end of each axis; what is longer is cut off there.

    Args:
        value: of any shape.
        shape: what comes out; None keeps an axis.
        fill: a number, or a str for strings.
        column: for the error.

    Raises:
        RuntimeError: another number of axes.
    """
    if len(shape) != value.ndim:
        raise RuntimeError(
            f"padded_batch: column '{column}' has rows of shape {value.shape}, pad_info has "
            f"{len(shape)} axes: {list(shape)}."
        )
    wanted = tuple(n if s is None else s for s, n in zip(shape, value.shape, strict=True))
    if wanted == value.shape:
        return value
    value = value[tuple(map(slice, wanted))]
    if value.dtype.kind in "US":
        kind = "U" if value.dtype.kind == "U" else "S"
        filler = np.asarray(fill, value.dtype.kind) if fill is not None else np.asarray("", kind)
        out = np.full(wanted, filler, np.promote_types(value.dtype, filler.dtype))
    else:
        out = np.full(wanted, 0 if fill is None else fill, value.dtype)
    out[tuple(slice(n) for n in value.shape)] = value
    return out
