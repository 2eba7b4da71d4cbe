"""Rows of MindRecord files: by number (`Rows`), and one after the other (`FileReader`)."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.mindrecord.errors import MRMOpenError, ParamTypeError
from paramesh.mindrecord.layout import Schema, read_header
from paramesh.mindrecord.rows import Coder


def shards_of(file_name: object) -> list[Path]:
    """The files of one of them, or those of a list.

    Raises:
        ParamTypeError: no path. MRMOpenError: a file is missing, or none of MindRecord's.
    """
    if isinstance(file_name, list | tuple):
        return [Path(each).absolute() for each in file_name]
    if not isinstance(file_name, str | os.PathLike):
        raise ParamTypeError(f"A MindRecord file is given by its path, got {file_name!r}.")
    path = Path(file_name).absolute()
    return [path.parent / name for name in read_header(path).shards]


class Rows:
    """The rows of files by number; safe in threads, and can be pickled.

    Args:
        file_name: one of the files that were written together, or a list of files.

    Raises:
        ParamTypeError: no path. MRMOpenError: a file (or its `.db`) is missing or damaged, or files
            have different schemas.
    """

    def __init__(self, file_name: object) -> None:
        self.paths = shards_of(file_name)
        if not self.paths:
            raise MRMOpenError("There is no MindRecord file in the list.")
        self.schema: Schema = {}
        places: list[np.ndarray[Any, Any]] = []
        for path in self.paths:
            header = read_header(path)
            if self.schema and header.schema != self.schema:
                raise MRMOpenError(
                    f"'{path}' has another schema than '{self.paths[0]}': {header.schema} and "
                    f"{self.schema}."
                )
            self.schema = header.schema
            found = _places(path)
            # From pages to bytes of the file.
            for page, first, last in ((0, 1, 2), (3, 4, 5)):
                start = header.header_size + header.page_size * found[:, page]
                found[:, first] += start
                found[:, last] += start
            places.append(found)
        self._counts = [len(found) for found in places]
        self._starts = np.concatenate([[0], np.cumsum(self._counts)])
        self._places = np.concatenate(places)
        self._coder = Coder(self.schema)
        self._files: dict[int, int] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_coder", "_files", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._coder, self._files, self._lock = Coder(self.schema), {}, threading.Lock()

    def __len__(self) -> int:
        return len(self._places)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; reading opens them again."""
        for descriptor in getattr(self, "_files", {}).values():
            os.close(descriptor)
        self._files = {}

    def _descriptor(self, at: int) -> int:
        with self._lock:
            if at not in self._files:
                self._files[at] = os.open(self.paths[at], os.O_RDONLY)
            return self._files[at]

    def _parts(self, index: int, blob: bool) -> tuple[bytes, bytes]:
        at = int(np.searchsorted(self._starts, index, "right")) - 1
        _, raw, raw_end, _, start, end = self._places[index].tolist()
        file = self._descriptor(at)
        found = [os.pread(file, raw_end - raw, raw)]
        found.append(os.pread(file, end - start, start) if blob else b"")
        if len(found[0]) != raw_end - raw or (blob and len(found[1]) != end - start):
            raise MRMOpenError(
                f"'{self.paths[at]}' is cut off: row {index - self._starts[at]} would lie at bytes "
                f"{start} to {max(end, raw_end)}."
            )
        return found[0][8:], found[1][8:]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A row: numbers and strings of Python's, bytes, and arrays."""
        return self._coder.row(*self._parts(index, bool(self._coder.blobs)))

    def plain(self, index: int) -> dict[str, Any]:
        """The numbers and strings of a row; its blobs are not read."""
        return self._coder.plain_fields(self._parts(index, False)[0])


def _places(path: Path) -> np.ndarray[Any, Any]:
    """Of each row: raw page, its first and last byte there; the same of the blob page."""
    base = Path(f"{path}.db")
    if not base.is_file():
        raise MRMOpenError(f"'{base}' is missing: it belongs to '{path}'.")
    link = sqlite3.connect(f"file:{base}?mode=ro", uri=True)
    try:
        rows: Sequence[Any] = link.execute(
            "SELECT PAGE_ID_RAW, PAGE_OFFSET_RAW, PAGE_OFFSET_RAW_END, PAGE_ID_BLOB, "
            "PAGE_OFFSET_BLOB, PAGE_OFFSET_BLOB_END FROM INDEXES ORDER BY ROW_ID"
        ).fetchall()
    except sqlite3.Error as error:
        raise MRMOpenError(f"'{base}' is no index of a MindRecord file: {error}.") from None
    finally:
        link.close()
    return np.array(rows, np.int64).reshape(-1, 6)


class FileReader:
    """Reads rows of MindRecord files, one after the other.

    Args:
        file_name: one of the files that were written together, or a list of files.
        num_consumer: MindSpore's; of no effect.
        columns: fields to read; None: all.
        operator: MindSpore's; of no effect.

    Raises:
        ParamTypeError: an argument of another kind. MRMOpenError: a file is missing or damaged.
        RuntimeError: there is no such field.
    """

    def __init__(
        self,
        file_name: object,
        num_consumer: int = 4,
        columns: list[str] | None = None,
        operator: object = None,
    ) -> None:
        if columns is not None and not isinstance(columns, list):
            raise ParamTypeError(f"FileReader: columns must be a list of names, got {columns!r}.")
        self._rows = Rows(file_name)
        for name in columns or []:
            if name not in self._rows.schema:
                raise RuntimeError(
                    f"FileReader: there is no field '{name}'; "
                    f"there are {sorted(self._rows.schema)}."
                )
        self._columns = columns

    def get_next(self) -> Iterator[dict[str, Any]]:
        """The rows, as {field: value}."""
        for index in range(len(self._rows)):
            row = self._rows[index]
            yield row if not self._columns else {name: row[name] for name in self._columns}

    def schema(self) -> Schema:
        """The schema of the files."""
        return self._rows.schema

    def len(self) -> int:
        """Rows of all files."""
        return len(self._rows)

    def close(self) -> None:
        """Close the files."""
        self._rows.close()
