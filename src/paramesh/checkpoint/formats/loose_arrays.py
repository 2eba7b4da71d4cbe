"""A Source whose arrays may lie in any order of elements, or compressed, in one file.

What lies in row-major order and uncompressed is a view of the file's map, as everywhere. The rest
is read a few rows at a time where the order allows it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.array_types import Tree
from paramesh.checkpoint.formats.interface import Appended, Array, Entry, MappedSource, frozen
from paramesh.dtype import DType

#: Names are joined by dots; so many levels are gone down, and so many leaves looked at: a small
#: file can say that a list holds another one twice, and so on.
_DEEPEST, _MOST_LEAVES = 64, 5_000_000


class LooseSource(MappedSource):
    """See the module."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._views: dict[str, Callable[[], Array]] = {}

    def _add_array(
        self,
        name: str,
        dtype: DType,
        shape: tuple[int, ...],
        at: int,
        strides: tuple[int, ...] | None = None,
    ) -> None:
        """An array whose first element is at byte `at`; strides in elements, None: row-major."""
        entry = Entry.of(name, dtype, shape, at)
        if strides is None or _row_major(shape, strides):
            if at < 0 or at + entry.nbytes > self.nbytes:
                raise self.damage("it ends behind the end of the file", name, at)
            self._add(entry, ((at, entry.nbytes),))
            return
        self._add(entry, ())
        steps = tuple(step * dtype.itemsize for step in strides)
        last = at + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
        if 0 not in shape and last + dtype.itemsize > self.nbytes:
            raise self.damage("it ends behind the end of the file", name, at)

        def view() -> Array:
            return np.ndarray(shape, dtype.np_dtype, self._map, at, steps)

        self._views[name] = view

    def _add_made(
        self, name: str, dtype: DType, shape: tuple[int, ...], make: Callable[[], Array]
    ) -> None:
        """An array that has to be decoded as a whole."""
        self._add(Entry.of(name, dtype, shape), ())
        self._views[name] = make

    def read_flat(self, name: str, start: int, stop: int) -> Array:
        """Elements `start` to `stop`; see `Source.read_flat`."""
        make = self._views.get(name)
        if make is None or self._closed:
            return super().read_flat(name, start, stop)
        entry = self._with_elements(name, start, stop)
        if start == stop:
            return frozen(np.empty(0, entry.dtype.np_dtype))
        array = make()
        if not entry.shape:
            return frozen(np.array(array).reshape(1))
        below = math.prod(entry.shape[1:])
        first, last = start // below, -(-stop // below)
        rows = np.ascontiguousarray(array[first:last]).reshape(-1)
        found = rows[start - first * below : stop - first * below]
        return frozen(found.copy() if np.may_share_memory(found, array) else found)

    def _gathered(self, entry: Entry, box: Any) -> Array:
        if entry.name not in self._views:
            return super()._gathered(entry, box)
        index = tuple(slice(start, stop) for start, stop in box)
        return frozen(np.ascontiguousarray(self._views[entry.name]()[index]))

    def verify(self) -> bool:
        """These files have no checksums that are compared."""
        return False

    def _take_tree(self, tree: Tree, leaf: Callable[[str, Any], bool]) -> None:
        """The arrays and numbers of nested dicts and lists, by their keys joined by dots.

        Args:
            tree: dicts, lists and tuples.
            leaf: adds an array of that name, and says whether it was one.

        Raises:
            CheckpointError: two of one name, or more than any network has.
        """
        appended: dict[str, Appended] = {}
        for path, value in _leaves(tree, self._too_deep):
            if leaf(path, value) or value is None:
                continue
            if isinstance(value, bool | int | float | str):
                appended[path] = value
        taken = set(appended) & set(self._entries)
        if taken:
            raise self.damage(f"the name '{min(taken)}' is there twice")
        self.appended = appended

    def _too_deep(self) -> Exception:
        return self.damage(f"its objects are nested more than {_DEEPEST} deep, or are too many")


def _row_major(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    step = 1
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and stride != step:
            return 0 in shape
        step *= n
    return True


def _leaves(tree: Tree, too_deep: Callable[[], Exception]) -> Iterable[tuple[str, Any]]:
    """(keys joined by dots, leaf) of nested containers."""
    waiting: list[tuple[str, Any, int]] = [("", tree, 0)]
    looked_at = 0
    while waiting:
        path, value, depth = waiting.pop()
        looked_at += 1
        if depth > _DEEPEST or looked_at > _MOST_LEAVES:
            raise too_deep()
        if isinstance(value, Mapping):
            inside = [(str(key), each) for key, each in value.items()]
        elif isinstance(value, list | tuple):
            inside = [(str(at), each) for at, each in enumerate(value)]
        else:
            yield path, value
            continue
        for key, each in reversed(inside):
            waiting.append((f"{path}.{key}" if path else key, each, depth + 1))


def inflated(data: memoryview, size: int) -> bytes:
    """Raw deflate data, as zip archives have it; never more than `size` bytes.

    Raises:
        ValueError: it is damaged, or has another size.
    """
    machine = zlib.decompressobj(-15)
    try:
        found = machine.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(f"its compressed data is damaged ({error})") from error
    if len(found) != size:
        raise ValueError(f"its compressed data has not {size} bytes")
    return found
