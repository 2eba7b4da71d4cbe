"""HuggingFace's folders, to write: shards of at most 5 GB, and the index that says what is where.

    model.safetensors                       if everything fits into one file; otherwise
    model-00001-of-00002.safetensors, …     shards, and
    model.safetensors.index.json

The folder is written beside its place and renamed. Of a folder that was there and holds other files
(`config.json`, a tokenizer), these are taken over; its old arrays are not.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from paramesh.checkpoint.formats.huggingface import FORMAT
from paramesh.checkpoint.formats.interface import Appended, Entry, Sink
from paramesh.checkpoint.formats.safetensors_file import SafetensorsSink
from paramesh.files.atomic import directory_to_disk, write_atomically

#: Bytes of a shard; what `save_pretrained` has by default.
SHARD_BYTES = 5_000_000_000
#: What the names of files of arrays and their indexes end with.
_OLD = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".msgpack")


class HuggingFaceSink(Sink):
    """A folder being written.

    Args:
        path: the folder.
        entries: all arrays, in the order in which they will be written.
        appended: the entries of `append_dict`; they are kept in the first file.
        metadata: strings to keep, in each file.
        checksums: keep checksums of the arrays.

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
    ) -> None:
        self._shards = shards_of(entries)
        count = len(self._shards)
        self._names = (
            ["model.safetensors"]
            if count == 1
            else [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
        )
        self._appended, self._checksums = appended, checksums
        self._metadata = dict(metadata)
        self._folder = _Folder(path)
        self._shard = -1
        self._file: SafetensorsSink | None = None
        super().__init__(path, entries, self._folder)

    def _write(self, entry: Entry, data: memoryview) -> None:
        while self._file is None or self._file._done == len(self._file._expected):
            self._next()
        self._file._write(entry, data)
        self._file._done += 1

    def _next(self) -> None:
        self._close()
        self._shard += 1
        first = self._shard == 0
        self._file = SafetensorsSink(
            self._folder.beside / self._names[self._shard],
            self._shards[self._shard],
            self._appended if first else {},
            self._metadata,
            self._checksums,
        )

    def _close(self) -> None:
        if self._file is not None:
            self._file.__exit__(None, None, None)
            self._file = None

    def _finish(self) -> None:
        if self._file is None and self._shard < 0:
            self._next()  # no array at all
        self._close()
        if len(self._names) == 1:
            return
        where = {
            entry.name: name
            for name, shard in zip(self._names, self._shards, strict=True)
            for entry in shard
        }
        total = sum(entry.nbytes for shard in self._shards for entry in shard)
        index = {"metadata": {"total_size": total}, "weight_map": where}
        text = json.dumps(index, indent=2) + "\n"
        write_atomically(self._folder.beside / "model.safetensors.index.json", text.encode())


def check_folder(path: Path, overwrite: bool) -> None:
    """Refuse what cannot become such a folder, before anything is written.

    Raises:
        FileNotFoundError: there is no folder for it.
        FileExistsError: it is a file, or has arrays that are not to be replaced.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder '{path.parent}'; make it first.")
    if not path.exists():
        return
    if not path.is_dir():
        raise FileExistsError(f"'{path}' is a file, but HuggingFace's checkpoints are folders.")
    if not overwrite and any(place.name.endswith(_OLD) for place in path.iterdir()):
        raise FileExistsError(f"'{path}' is there already, and was left as it is.")


def shards_of(entries: Sequence[Entry], most: int | None = None) -> list[list[Entry]]:
    """Entries in their order, in shards of at most so many bytes (or of one larger array)."""
    most = SHARD_BYTES if most is None else most
    found: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if found[-1] and size + entry.nbytes > most:
            found.append([])
            size = 0
        found[-1].append(entry)
        size += entry.nbytes
    return found


class _Folder:
    """A folder on its way to its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            self.beside.mkdir()
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(path)) from None

    def commit(self) -> None:
        """Let it appear."""
        old = None
        if self._path.is_dir():
            for place in self._path.iterdir():
                if not place.name.endswith(_OLD) and not (self.beside / place.name).exists():
                    (shutil.copytree if place.is_dir() else shutil.copy2)(
                        place, self.beside / place.name
                    )
            old = self.beside.with_name(self.beside.name + ".old")
            os.replace(self._path, old)
        os.replace(self.beside, self._path)
        directory_to_disk(self._path.parent)
        if old is not None:
            shutil.rmtree(old)

    def discard(self) -> None:
        """Leave everything as it was."""
        shutil.rmtree(self.beside, ignore_errors=True)
