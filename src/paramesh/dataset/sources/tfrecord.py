"""TFRecord files of `tf.train.Example`, read without TensorFlow.

Sources: TensorFlow's documentation of the two formats. A record is its length (8 bytes, little
endian), 4 bytes of checksum, the data, 4 bytes of checksum; checksums are not looked at, as in
MindSpore. The message is made by protobuf from the descriptor below.
"""

from __future__ import annotations

import functools
import gzip
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import ColumnNames, FilePaths
from paramesh.dataset.operations.columns import as_names
from paramesh.dataset.samplers import Shuffle
from paramesh.dataset.sources.files import RecordFiles, matching_files
from paramesh.dataset.sources.schema import Schema

_WHO = "TFRecordDataset"


@functools.cache
def example_class() -> Any:
    """The class of the message `Example`: features.feature[name].int64_list.value and the like."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="paramesh/example.proto", package="paramesh.example", syntax="proto3"
    )

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> Any:
        made = file.message_type.add(name=name)
        for title, number, label, kind, of in fields:
            named = {"type_name": f".paramesh.example.{of}"} if of else {}
            made.field.add(name=title, number=number, label=label, type=kind, **named)
        return made

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    message("BytesList", ("value", 1, many, field.TYPE_BYTES, ""))
    message("FloatList", ("value", 1, many, field.TYPE_FLOAT, ""))
    message("Int64List", ("value", 1, many, field.TYPE_INT64, ""))
    feature = message(
        "Feature",
        ("bytes_list", 1, one, field.TYPE_MESSAGE, "BytesList"),
        ("float_list", 2, one, field.TYPE_MESSAGE, "FloatList"),
        ("int64_list", 3, one, field.TYPE_MESSAGE, "Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for each in feature.field:
        each.oneof_index = 0
    features = message(
        "Features", ("feature", 1, many, field.TYPE_MESSAGE, "Features.FeatureEntry")
    )
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=one, type=field.TYPE_STRING)
    entry.field.add(
        name="value", number=2, label=one, type=field.TYPE_MESSAGE,
        type_name=".paramesh.example.Feature",
    )  # fmt: skip
    message("Example", ("features", 1, one, field.TYPE_MESSAGE, "Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("paramesh.example.Example"))


class Records:
    """The records of files by number; the places are noted, the data stays in the files.

    Compressed files are unpacked into memory.

    Raises:
        RuntimeError: a file is cut off, or not compressed as said.
    """

    def __init__(self, files: Sequence[str], compression: str | None) -> None:
        self.files = list(files)
        self.unpacked: list[bytes | None] = [_unpacked(f, compression) for f in self.files]
        self.spans = [_spans(f, d) for f, d in zip(self.files, self.unpacked, strict=True)]
        self.counts = [len(spans) for spans in self.spans]
        self._starts = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    def __call__(self, index: int) -> bytes:
        """A record."""
        at = int(np.searchsorted(self._starts, index, "right")) - 1
        start, length = self.spans[at][index - self._starts[at]].tolist()
        data = self.unpacked[at]
        if data is not None:
            return data[start : start + length]
        with open(self.files[at], "rb") as file:
            file.seek(start)
            return file.read(length)

    def path_of(self, index: int) -> str:
        """The file of a record."""
        return self.files[int(np.searchsorted(self._starts, index, "right")) - 1]


def _unpacked(path: str, compression: str | None) -> bytes | None:
    if compression is None:
        return None
    try:
        with open(path, "rb") as file:
            data = file.read()
        return gzip.decompress(data) if compression == "GZIP" else zlib.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise RuntimeError(
            f"{_WHO}: '{path}' is not compressed by {compression}: {error}."
        ) from None


def _spans(path: str, data: bytes | None) -> np.ndarray[Any, Any]:
    found: list[tuple[int, int]] = []
    size = os.path.getsize(path) if data is None else len(data)
    at = 0
    with open(path, "rb") as file:
        while at < size:
            if data is None:
                file.seek(at)
                head = file.read(12)
            else:
                head = data[at : at + 12]
            length = int.from_bytes(head[:8], "little")
            if len(head) < 12 or at + 16 + length > size:
                raise RuntimeError(
                    f"{_WHO}: '{path}' is no TFRecord file, or cut off: the record at byte {at} "
                    f"would end behind the file's {size} bytes."
                )
            found.append((at + 12, length))
            at += 16 + length
    return np.array(found, np.int64).reshape(-1, 2)


class _Row:
    """Reads the columns of a record."""

    def __init__(self, records: Records, columns: list[dict[str, Any]]) -> None:
        self.records, self.columns = records, columns

    def __call__(self, index: int) -> Any:
        try:
            features = example_class().FromString(self.records(index)).features.feature
        except Exception as error:
            raise RuntimeError(
                f"{_WHO}: record {index} (in '{self.records.path_of(index)}') is no Example: "
                f"{error}."
            ) from None
        return tuple(self._value(features, column, index) for column in self.columns)

    def _value(self, features: Mapping[str, Any], column: dict[str, Any], index: int) -> Any:
        name = column["name"]
        kind = features[name].WhichOneof("kind") if name in features else None
        if kind is None:
            raise RuntimeError(
                f"{_WHO}: record {index} (in '{self.records.path_of(index)}') has no feature "
                f"'{name}'; it has {sorted(features)}."
            )
        values = getattr(features[name], kind).value
        wanted = column.get("type")
        if kind == "bytes_list":
            array = _of_bytes(values, wanted)
        else:
            array = np.array(values, np.int64 if kind == "int64_list" else np.float32)
            if wanted not in (None, "string"):
                array = array.astype(wanted)
        shape = column.get("shape")
        if shape is None:
            return array
        try:
            return array.reshape(shape)
        except ValueError:
            raise RuntimeError(
                f"{_WHO}: record {index}: feature '{name}' has {array.size} values, which are not "
                f"of shape {shape} as the schema says."
            ) from None


def _of_bytes(values: Sequence[bytes], wanted: str | None) -> np.ndarray[Any, Any]:
    """Bytes as strings or numbers, as the schema says; without one as UInt8.

    Several values are then filled up with spaces to one length, as in MindSpore.
    """
    if wanted == "string":
        return np.array([value.decode("utf-8") for value in values])
    longest = max(map(len, values), default=0)
    joined = np.frombuffer(bytearray(b"".join(v.ljust(longest) for v in values)), np.uint8)
    return joined if wanted in (None, "uint8") else joined.view(wanted)


class TFRecordDataset(RecordFiles):
    """The records of TFRecord files.

    Args:
        dataset_files: paths or patterns; the files are read in the order of their names.
        schema: a `Schema` or the path of one: names, types and shapes. None: all features of the
            first record, as one axis of Int64 or Float32.
        columns_list: the features to read, in this order; None: all.
        num_samples: at most so many records; None: all (or the schema's `numRows`).
        num_parallel_workers: as in MnistDataset.
        shuffle: True or Shuffle.GLOBAL: all records; Shuffle.FILES: files; False: neither.
        num_shards, shard_id: files are dealt to the shards.
        shard_equal_rows: deal records instead, so that all shards have the same number.
        cache: MindSpore's `DatasetCache`; of no effect.
        compression_type: "GZIP", "ZLIB", or "" (None: the same).

    Raises:
        TypeError, ValueError, RuntimeError: an argument of another kind; no such file; a damaged
            one; when rows are asked for: a record without one of the features.
    """

    def __init__(
        self,
        dataset_files: FilePaths,
        schema: Schema | str | None = None,
        columns_list: ColumnNames | None = None,
        num_samples: int | None = None,
        num_parallel_workers: int | None = None,
        shuffle: bool | Shuffle | None = Shuffle.GLOBAL,
        num_shards: int | None = None,
        shard_id: int | None = None,
        shard_equal_rows: bool = False,
        cache: object = None,
        compression_type: str | None = None,
    ) -> None:
        files = matching_files(_WHO, dataset_files)
        if not isinstance(shard_equal_rows, bool):
            raise TypeError(f"{_WHO}: shard_equal_rows must be a bool, got {shard_equal_rows!r}.")
        if compression_type not in (None, "", "GZIP", "ZLIB"):
            raise ValueError(
                f"{_WHO}: compression_type must be 'GZIP', 'ZLIB' or '', got {compression_type!r}."
            )
        by_file = num_shards is not None and shard_id is not None and not shard_equal_rows
        if by_file:
            if len(files) < (num_shards or 0):
                raise RuntimeError(
                    f"{_WHO}: {len(files)} files cannot be dealt to {num_shards} shards. Pass "
                    "shard_equal_rows=True to deal records."
                )
            files = files[shard_id::num_shards]  # type: ignore[misc]
        self._records = Records(files, compression_type or None)
        if schema is not None and not isinstance(schema, Schema):
            schema = Schema(schema)
        if num_samples is None and schema is not None and schema.num_rows:
            num_samples = schema.num_rows
        super().__init__(
            self._records.counts, shuffle, num_samples, num_parallel_workers,
            None if by_file else num_shards, None if by_file else shard_id, cache,
        )  # fmt: skip
        self._by_file = by_file
        columns: list[dict[str, Any]] = self._found() if schema is None else schema.columns
        if columns_list:
            wanted = as_names(columns_list, f"{_WHO}: columns_list")
            known = {column["name"]: column for column in columns}
            for name in wanted:
                if name not in known:
                    raise RuntimeError(
                        f"{_WHO}: there is no column '{name}'; there are {list(known)}."
                    )
            columns = [known[name] for name in wanted]
        self._columns = columns

    def _found(self) -> list[dict[str, Any]]:
        if not self._source_length():
            raise RuntimeError(f"{_WHO}: the files have no records.")
        try:
            first = example_class().FromString(self._records(0))
        except Exception as error:
            raise RuntimeError(
                f"{_WHO}: the first record of '{self._records.files[0]}' is no Example: {error}."
            ) from None
        return [{"name": name} for name in sorted(first.features.feature)]

    def _names(self) -> list[str]:
        return [column["name"] for column in self._columns]

    def _fetch(self) -> Callable[[int], Any]:
        return _Row(self._records, self._columns)

    def is_sharded(self) -> bool:
        """Whether it reads one shard."""
        return self._by_file or super().is_sharded()

    def _detail(self) -> Any:
        return [self._names(), self._counts]
