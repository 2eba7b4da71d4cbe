"""Writing sharded checkpoints in one process, from arrays that are given one at a time.

`writer.py` writes arrays on devices, in all processes together; this module writes the arrays of
another checkpoint, into any number of part files.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from paramesh.checkpoint.formats.boxes import Box, full_box, sizes, within
from paramesh.checkpoint.formats.interface import Appended, Array, Entry, Sink
from paramesh.checkpoint.formats.safetensors_file import SafetensorsSink
from paramesh.checkpoint.sharded.index import (
    IndexSlice,
    index_bytes,
    is_leftover,
    make_mark,
    new_token,
    part_name,
    remove_marks,
    remove_others,
)
from paramesh.checkpoint.sharded.source import FORMAT, INDEX, is_sharded
from paramesh.files.atomic import directory_to_disk, write_atomically

#: The part file (by index) and the box of each slice of an array; the boxes form a grid.
Slices = Sequence[tuple[int, Box]]


class ShardedSink(Sink):
    """A sharded checkpoint being written.

    Existing contents of the folder stay until the index is renamed into place, and are then
    removed.

    Args:
        path: the folder; created if missing.
        entries: all arrays, in the order in which they will be written.
        appended: the entries of `append_dict`.
        metadata: strings to store.
        checksums: store checksums of all slices.
        slices: the slices of each array, and their files; None: one file has the full arrays.

    Raises:
        OSError: from the file system.
    """

    format = FORMAT

    def __init__(
        self,
        path: Path,
        entries: Sequence[Entry],
        appended: Mapping[str, Appended],
        metadata: Mapping[str, str],
        checksums: bool = False,
        slices: Mapping[str, Slices] | None = None,
    ) -> None:
        slicing = {e.name: [(0, full_box(e.shape))] for e in entries} if slices is None else slices
        mine: dict[int, list[Entry]] = {}
        for entry in entries:
            for i, (file, box) in enumerate(slicing[entry.name]):
                part = Entry.of(f"{entry.name}/{i}", entry.dtype, sizes(box))
                mine.setdefault(file, []).append(part)
        token = new_token().hex()
        names = {file: part_name(token, file) for file in sorted(mine)}
        at = {file: i for i, file in enumerate(names)}
        listed = [
            (
                e,
                [
                    IndexSlice(at[f], f"{e.name}/{i}", box)
                    for i, (f, box) in enumerate(slicing[e.name])
                ],
            )
            for e in entries
        ]
        self._slicings = slicing
        index = index_bytes([*names.values()], listed, appended, metadata)
        self._folder = SinkFolder(path, token, index)
        super().__init__(path, entries, self._folder)
        try:
            for file, name in names.items():
                self._folder.parts[file] = SafetensorsSink(
                    path / name, mine[file], {}, {}, checksums
                )
        except BaseException:
            self._folder.discard()
            raise

    def write(self, name: str, array: Array) -> None:
        """Write the next entry; see `Sink.write`."""
        self._check(name, array.dtype, array.shape)
        self.write_slices(
            name, lambda box: array[(*within(box, full_box(array.shape)), ...)] if box else array
        )

    def write_slices(self, name: str, read: Callable[[Box], Array]) -> None:
        """Write the next entry, slice by slice.

        Args:
            name: of the entry.
            read: returns the elements in a box.

        Raises:
            ValueError: it is not the next one; a slice has another element type or shape.
            OSError: from the file system.
        """
        entry = self._check(name)
        for i, (file, box) in enumerate(self._slicings[entry.name]):
            self._folder.parts[file].write(f"{name}/{i}", read(box))
        self._done += 1

    def _write(self, entry: Entry, data: memoryview) -> None:
        raise AssertionError("slices are written by write_slices")

    def _finish(self) -> None:
        return


class SinkFolder:
    """The part files and the index, which appear together; the `AtomicFile` of a folder."""

    def __init__(self, path: Path, token: str, index: bytes) -> None:
        self._path, self._token = path, token
        self._index = index
        self._new = not path.exists()
        self.parts: dict[int, SafetensorsSink] = {}
        path.mkdir(exist_ok=True)
        try:
            self._mark = make_mark(path, token)
        except BaseException:
            if self._new:
                with contextlib.suppress(OSError):
                    path.rmdir()
            raise

    def commit(self) -> None:
        """Write the parts to disk, then the index; remove old files."""
        for part in self.parts.values():
            part.__exit__(None, None, None)
        directory_to_disk(self._path.parent)
        write_atomically(self._path / INDEX, self._index)
        self._unlock()
        remove_others(self._path, self._token)

    def discard(self) -> None:
        """Remove what was written."""
        error = OSError("the checkpoint was discarded")
        for part in self.parts.values():
            part.__exit__(OSError, error, None)
            if not self._committed(part.path.name):
                with contextlib.suppress(OSError):
                    part.path.unlink(missing_ok=True)
        self._unlock()
        remove_marks(self._path, self._token)
        if self._new:
            with contextlib.suppress(OSError):
                self._path.rmdir()

    def _unlock(self) -> None:
        mark, self._mark = self._mark, -1
        if mark >= 0:
            os.close(mark)

    def _committed(self, name: str) -> bool:
        """Whether the index names a part: an error after the commit removes nothing."""
        try:
            return name in (self._path / INDEX).read_text()
        except OSError:
            return False


def check_folder(path: Path, overwrite: bool) -> None:
    """Check that a sharded checkpoint can be written there, before anything is written.

    Raises:
        FileNotFoundError: there is no folder for it.
        FileExistsError: the path exists, and is not a checkpoint, or may not be replaced.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder '{path.parent}'; create it first.")
    if not path.exists():
        return
    if not path.is_dir():
        raise FileExistsError(f"'{path}' is a file, but a sharded checkpoint is a folder.")
    if is_sharded(path):
        if not overwrite:
            raise FileExistsError(f"'{path}' already exists, and was left unchanged.")
    elif not all(is_leftover(place.name) for place in path.iterdir()):
        raise FileExistsError(f"'{path}' is a folder with other files in it: give a new name.")
