"""FileWriter: rows to MindRecord files."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, BinaryIO, Self

from paramesh.mindrecord.errors import (
    MRMAddSchemaError,
    MRMDefineIndexError,
    MRMGetMetaError,
    MRMInvalidHeaderSizeError,
    MRMInvalidPageSizeError,
    MRMOpenError,
    MRMOpenForAppendError,
    MRMWriteDatasetError,
    ParamTypeError,
    ParamValueError,
)
from paramesh.mindrecord.layout import Header, Schema, check_schema, read_header
from paramesh.mindrecord.rows import Coder

_MOST_SHARDS = 1000

_PLACES = (
    "ROW_ID",
    "PAGE_ID_RAW",
    "PAGE_OFFSET_RAW",
    "PAGE_OFFSET_RAW_END",
    "ROW_GROUP_ID",
    "PAGE_ID_BLOB",
    "PAGE_OFFSET_BLOB",
    "PAGE_OFFSET_BLOB_END",
)

_SQL_TYPES = {"int32": "INTEGER", "int64": "INTEGER", "string": "TEXT"}


class _Shard:
    """One file that is being written: a blob page and a raw page wait until they are full."""

    def __init__(self, path: Path, header: Header, coder: Coder, append: bool) -> None:
        self.path, self.header, self.coder = path, header, coder
        self.file: BinaryIO = path.open("r+b" if append else "wb")
        self.rows = 0
        self.places: list[tuple[int, ...]] = []
        self.indexes: list[list[Any]] = []
        self.group = -1
        if append:
            blobs = [page for page in header.pages if page["page_type"] == "BLOB_DATA"]
            self.rows = max((page["end_row_id"] for page in blobs), default=0)
            self.group = max((page["page_type_id"] for page in blobs), default=-1)
        self._blob, self._blob_page = bytearray(), -1
        self._raw, self._raw_page = bytearray(), -1
        self._group_raw = bytearray()

    def _page(self, kind: str, number: int) -> int:
        self.header.pages.append(
            {
                "end_row_id": 0,
                "page_id": len(self.header.pages),
                "page_size": 0,
                "page_type": kind,
                "page_type_id": number,
                "row_group_ids": [],
                "shard_id": self.header.shard_id,
                "start_row_id": 0,
            }
        )
        return len(self.header.pages) - 1

    def add(self, row: dict[str, Any]) -> None:
        """Put a row into the pages.

        Raises:
            MRMWriteDatasetError: it is larger than a page.
        """
        parts = [self.coder.raw(row), self.coder.blob(row)]
        raw, blob = (len(part).to_bytes(8, "little") + part for part in parts)
        most = self.header.page_size
        if max(len(raw), len(blob)) > most:
            raise MRMWriteDatasetError(
                f"'{self.path}': a row has {max(len(raw), len(blob))} bytes, a page {most}. "
                "set_page_size makes pages larger."
            )
        full = len(self._blob) + len(blob) > most
        if full or len(self._group_raw) + len(raw) > most or self._blob_page < 0:
            self._end_group()
            self.group += 1
            self._blob_page = self._page("BLOB_DATA", self.group)
            page = self.header.pages[self._blob_page]
            page["row_group_ids"].append({"id": 0, "offset": 0})
            page["start_row_id"] = self.rows
        # Which raw page the group gets is known at its end.
        self.places.append(
            (self.rows, self.group, len(self._group_raw), len(self._group_raw) + len(raw),
             self._blob_page, len(self._blob), len(self._blob) + len(blob))
        )  # fmt: skip
        self.indexes.append([row[name] for name in self.header.index_fields])
        self._group_raw += raw
        self._blob += blob
        self.rows += 1

    def _end_group(self) -> None:
        if self._blob_page < 0:
            return
        page = self.header.pages[self._blob_page]
        page["end_row_id"], page["page_size"] = self.rows, len(self._blob)
        self._write(self._blob_page, self._blob)
        self._blob = bytearray()
        if self._raw_page < 0 or len(self._raw) + len(self._group_raw) > self.header.page_size:
            self._end_raw()
            raws = [p for p in self.header.pages if p["page_type"] == "RAW_DATA"]
            self._raw_page = self._page("RAW_DATA", len(self.header.pages) if raws else 0)
        start = len(self._raw)
        groups = self.header.pages[self._raw_page]["row_group_ids"]
        groups.append({"id": self.group, "offset": start})
        first = self.header.pages[self._blob_page]["start_row_id"]
        kept = len(self.places) - (self.rows - first)
        self.places[kept:] = [
            (row, self._raw_page, start + a, start + b, *rest)
            for row, group, a, b, *blob in self.places[kept:]
            for rest in [(group, *blob)]
        ]
        self._raw += self._group_raw
        self._group_raw = bytearray()
        self._blob_page = -1

    def _end_raw(self) -> None:
        if self._raw_page >= 0:
            self.header.pages[self._raw_page]["page_size"] = len(self._raw)
            self._write(self._raw_page, self._raw)
        self._raw, self._raw_page = bytearray(), -1

    def _write(self, page: int, data: bytearray) -> None:
        self.file.seek(self.header.header_size + self.header.page_size * page)
        self.file.write(data)

    def finish(self, append: bool) -> None:
        """Write what waits, the header and the database.

        Raises:
            MRMWriteDatasetError: the header does not hold all pages.
        """
        self._end_group()
        self._end_raw()
        self.header.saved += self.coder.saved
        head = self.header.as_bytes()
        if len(head) > self.header.header_size:
            raise MRMWriteDatasetError(
                f"'{self.path}': the header needs {len(head)} bytes, it has "
                f"{self.header.header_size}. set_header_size makes it larger."
            )
        self.file.seek(0)
        self.file.write(head)
        if not self.header.pages:
            self.file.truncate(self.header.header_size)
        self.file.close()
        self._index(append)

    def _index(self, append: bool) -> None:
        path = Path(f"{self.path}.db")
        if not append:
            path.unlink(missing_ok=True)
        names = self.header.index_fields
        columns = [f"{name} INT NOT NULL" for name in _PLACES]
        keys = ["ROW_ID"]
        for at, name in enumerate(names):
            kind = _SQL_TYPES.get(self.header.schema[name]["type"], "NUMERIC")
            columns += [f"INC_{at} INT", f"{name}_0 {kind}"]
            keys.append(f"INC_{at}")
        rows = [
            (*place, *(part for value in index for part in (0, _sql(value))))
            for place, index in zip(self.places, self.indexes, strict=True)
        ]
        base = sqlite3.connect(path)
        try:
            with base:
                if not append:
                    base.execute(
                        f"CREATE TABLE INDEXES({', '.join(columns)}, PRIMARY KEY({','.join(keys)}))"
                    )
                    base.execute("CREATE TABLE SHARD_NAME(NAME TEXT NOT NULL)")
                    base.execute("INSERT INTO SHARD_NAME VALUES(?)", (self.path.name,))
                marks = ",".join("?" * (len(_PLACES) + 2 * len(names)))
                base.executemany(f"INSERT INTO INDEXES VALUES({marks})", rows)
        finally:
            base.close()


def _sql(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


class FileWriter:
    """Writes rows to MindRecord files, which MindSpore reads too.

    Args:
        file_name: of the file; with several shards they are called `file_name0`, `file_name1`, …
        shard_num: files to deal the rows to, at most 1,000.
        overwrite: replace files that are there.

    Raises:
        ParamValueError, ParamTypeError: an argument of another kind.
    """

    def __init__(self, file_name: str, shard_num: int = 1, overwrite: bool = False) -> None:
        if not isinstance(file_name, str) or not file_name:
            raise ParamTypeError(f"FileWriter: file_name must be a path, got {file_name!r}.")
        if not isinstance(shard_num, int) or isinstance(shard_num, bool):
            raise ParamValueError(f"FileWriter: shard_num must be an int, got {shard_num!r}.")
        if not 1 <= shard_num <= _MOST_SHARDS:
            raise ParamValueError(
                f"FileWriter: shard_num must be in [1, {_MOST_SHARDS}], got {shard_num}."
            )
        if not isinstance(overwrite, bool):
            raise ParamValueError(f"FileWriter: overwrite must be a bool, got {overwrite!r}.")
        width = len(str(shard_num - 1))
        self._paths = [Path(file_name).absolute()]
        if shard_num > 1:
            self._paths = [Path(f"{file_name}{i:0{width}}").absolute() for i in range(shard_num)]
        self._overwrite, self._append = overwrite, False
        self._schema: Schema | None = None
        self._description, self._index = "", list[str]()
        self._header_size, self._page_size = 0, 0
        self._shards: list[_Shard] | None = None
        self._written = self._committed = False

    @classmethod
    def open_for_append(cls, file_name: str) -> Self:
        """A writer that adds rows to files that are there.

        Raises:
            MRMOpenForAppendError: it is no MindRecord file.
        """
        try:
            header = read_header(Path(file_name))
        except MRMOpenError as error:
            raise MRMOpenForAppendError(str(error)) from None
        made = cls(file_name)
        folder = Path(file_name).absolute().parent
        made._paths = [folder / name for name in header.shards]
        made._schema, made._append = header.schema, True
        return made

    def add_schema(self, content: Schema, desc: str | None = None) -> int:
        """The fields of a row.

        Args:
            content: {field: {"type": …}} of "int32", "int64", "float32", "float64", "string" and
                "bytes", or {field: {"type": …, "shape": […]}} for arrays; -1 is any size.
            desc: what the data is.

        Raises:
            MRMInvalidSchemaError: it is no schema. MRMAddSchemaError: there is one already.
        """
        if self._schema is not None:
            raise MRMAddSchemaError("FileWriter.add_schema: there is a schema already.")
        self._schema, self._description = check_schema(content), desc or ""
        return 0

    def add_index(self, index_fields: list[str]) -> None:
        """Fields that get a column in the database; without, all that are numbers or strings.

        Raises:
            ParamTypeError: no list of names. MRMDefineIndexError: bytes, arrays, or no field.
            MRMGetMetaError: there is no schema yet.
        """
        if not isinstance(index_fields, list) or not index_fields:
            raise ParamTypeError(
                f"FileWriter.add_index: must be a list of names, got {index_fields!r}."
            )
        if self._schema is None:
            raise MRMGetMetaError("FileWriter.add_index: call add_schema before.")
        plain = Coder(self._schema).plain
        for name in index_fields:
            if not isinstance(name, str):
                raise ParamTypeError(f"FileWriter.add_index: {name!r} is no name.")
            if name not in plain:
                raise MRMDefineIndexError(
                    f"FileWriter.add_index: '{name}' is none of the fields {plain} that can have "
                    "an index."
                )
        self._index = list(index_fields)

    def set_header_size(self, header_size: int) -> None:
        """Bytes for the header of each file, from 16 KiB to 128 MiB, a multiple of 4.

        Raises:
            MRMInvalidHeaderSizeError: out of range.
        """
        if not _fits(header_size, 1 << 14, 1 << 27):
            raise MRMInvalidHeaderSizeError(
                "FileWriter.set_header_size: must be an int in [16384, 134217728] and a multiple "
                f"of 4, got {header_size!r}."
            )
        self._header_size = header_size

    def set_page_size(self, page_size: int) -> None:
        """Bytes of a page, from 32 KiB to 256 MiB, a multiple of 4; a row has to fit into one.

        Raises:
            MRMInvalidPageSizeError: out of range.
        """
        if not _fits(page_size, 1 << 15, 1 << 28):
            raise MRMInvalidPageSizeError(
                "FileWriter.set_page_size: must be an int in [32768, 268435456] and a multiple of "
                f"4, got {page_size!r}."
            )
        self._page_size = page_size

    def write_raw_data(self, raw_data: list[dict[str, Any]], parallel_writer: bool = False) -> None:
        """Write rows; they are dealt to the shards in equal parts.

        Args:
            raw_data: a list of {field: value}.
            parallel_writer: MindSpore's; of no effect.

        Raises:
            ParamTypeError: no list. MRMGetMetaError: there is no schema yet.
            MRMValidateDataError: a row that does not fit the schema; none of the list is written.
            MRMOpenError: a file is there already. RuntimeError: after `commit`.
        """
        if not isinstance(raw_data, list):
            raise ParamTypeError(
                "FileWriter.write_raw_data: must be a list of dicts, "
                f"got {type(raw_data).__name__}."
            )
        if self._committed:
            raise RuntimeError("FileWriter.write_raw_data: the files are committed already.")
        if self._schema is None:
            raise MRMGetMetaError("FileWriter: call add_schema before rows are written.")
        coder = Coder(self._schema)
        for at, row in enumerate(raw_data):
            coder.check(row, f"FileWriter.write_raw_data: row {at}")
        shards = self._opened()
        start = 0
        each, over = divmod(len(raw_data), len(shards))
        # What does not divide goes to the shards that have the fewest rows.
        fullest = sorted(range(len(shards)), key=lambda i: (shards[i].rows, -i))
        for at, shard in enumerate(shards):
            stop = start + each + (1 if at in fullest[:over] else 0)
            for row in raw_data[start:stop]:
                shard.add(row)
            start = stop

    def _opened(self) -> list[_Shard]:
        if self._shards is not None:
            return self._shards
        if self._schema is None:
            raise MRMGetMetaError("FileWriter: call add_schema before rows are written.")
        for path in self._paths:
            if not self._append and not self._overwrite and path.exists():
                raise MRMOpenError(
                    f"FileWriter: '{path}' is there already. Remove it, or pass overwrite=True."
                )
        made: list[_Shard] = []
        for at, path in enumerate(self._paths):
            if self._append:
                header = read_header(path)
            else:
                header = Header(
                    self._schema,
                    self._description,
                    self._index or Coder(self._schema).plain,
                    shards=[os.fspath(each.name) for each in self._paths],
                    shard_id=at,
                )
                header.header_size = self._header_size or header.header_size
                header.page_size = self._page_size or header.page_size
            made.append(_Shard(path, header, Coder(header.schema), self._append))
        self._shards = made
        return made

    def commit(self) -> None:
        """Write what waits, the headers and the databases.

        Raises:
            MRMWriteDatasetError: a header does not hold all pages.
        """
        if self._committed:
            return
        for shard in self._opened():
            shard.finish(self._append)
        self._committed = True


def _fits(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and low <= value <= high and value % 4 == 0
