"""How a MindRecord file (version 3.0) is laid out. The format is MindSpore's.

    header      8 bytes, the length of the JSON, and the JSON; filled up to `header_size`
    pages       each at header_size + page_size * number
        blob    for each row the length of what follows, and its blob fields: bytes and arrays
        raw     for each row the length of what follows, and its other fields, as a msgpack map

Lengths are 8 bytes, little endian. Blob fields come in the schema's order; where there are
several, each has its own length before it, 8 bytes in big endian. Beside the file, `FILE.db` is an
SQLite database with the places of each row, and a column for each index.

Arrays of ints are packed: their number (4 bytes, big endian), for each four of them a byte with
four codes of two bits, the highest bits first, then the numbers in 1, 2, 4 or 8 bytes, little
endian.

Glossary
    shard       one file of several that were written together
    row group   the rows of one blob page; their raw fields lie in one raw page
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.array_types import Json
from paramesh.dtype import DTypeLike
from paramesh.mindrecord.errors import MRMInvalidSchemaError, MRMOpenError

VERSION = "3.0"
HEADER_SIZE, PAGE_SIZE = 1 << 24, 1 << 25

#: Types of fields without a shape, and of those with one.
PLAIN = ("int32", "int64", "float32", "float64", "string", "bytes")
ARRAYS = ("int32", "int64", "float32", "float64")

Schema = dict[str, dict[str, Any]]


@dataclass
class Header:
    """What stands at the start of a file."""

    schema: Schema
    description: str = ""
    index_fields: list[str] = field(default_factory=list[str])
    pages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    shards: list[str] = field(default_factory=list[str])
    shard_id: int = 0
    header_size: int = HEADER_SIZE
    page_size: int = PAGE_SIZE
    saved: int = 0

    @property
    def blob_fields(self) -> list[str]:
        """Fields in blob pages, in their order."""
        return blob_fields(self.schema)

    def as_bytes(self) -> bytes:
        """The header as it stands in the file, without what fills it up."""
        index: Json = [{"index_field": name, "schema_id": 0} for name in self.index_fields]
        schema = {
            "blob_fields": self.blob_fields,
            "desc": self.description,
            "schema": {
                name: dict(sorted(self.schema[name].items())) for name in sorted(self.schema)
            },
        }
        whole = {
            "header_size": self.header_size,
            "index_fields": index or None,
            "page": self.pages,
            "page_size": self.page_size,
            "compression_size": self.saved,
            "schema": [schema],
            "shard_addresses": self.shards,
            "shard_id": self.shard_id,
            "statistics": None,
            "version": VERSION,
        }
        text = json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()
        return len(text).to_bytes(8, "little") + text


def blob_fields(schema: Schema) -> list[str]:
    """Fields of a schema that lie in blob pages, in their order."""
    return sorted(n for n, entry in schema.items() if "shape" in entry or entry["type"] == "bytes")


def read_header(path: Path) -> Header:
    """The header of a file.

    Raises:
        MRMOpenError: there is no such file, or it is none of MindRecord's.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= 1 << 28:
                raise ValueError("no length of a header")
            found = json.loads(file.read(length))
        entry = found["schema"][0]
        return Header(
            schema=entry["schema"],
            description=entry.get("desc", ""),
            index_fields=[each["index_field"] for each in found["index_fields"] or []],
            pages=found["page"] or [],
            shards=found["shard_addresses"],
            shard_id=found["shard_id"],
            header_size=found["header_size"],
            page_size=found["page_size"],
            saved=found.get("compression_size", 0),
        )
    except OSError as error:
        raise MRMOpenError(f"MindRecord file '{path}': {error.strerror}.") from None
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise MRMOpenError(
            f"'{path}' is no MindRecord file (or an encrypted one): "
            f"{type(error).__name__}: {error}."
        ) from None


def check_schema(content: Json) -> Schema:
    """A schema as a user gives it.

    Raises:
        MRMInvalidSchemaError: it is none.
    """
    if not isinstance(content, dict) or not content:
        raise MRMInvalidSchemaError(
            f"The schema must be a dict of fields, such as {{'label': {{'type': 'int32'}}}}, "
            f"got {content!r}."
        )
    for name, entry in content.items():
        if not isinstance(name, str) or not name.isascii() or not name.replace("_", "a").isalnum():
            raise MRMInvalidSchemaError(
                f"The schema's field {name!r}: names are of letters, digits and '_'."
            )
        if not isinstance(entry, dict) or not {"type"} <= entry.keys() <= {"type", "shape"}:
            raise MRMInvalidSchemaError(
                f"The schema's field '{name}' must be {{'type': …}} or {{'type': …, 'shape': …}}, "
                f"got {entry!r}."
            )
        types = ARRAYS if "shape" in entry else PLAIN
        if entry["type"] not in types:
            raise MRMInvalidSchemaError(
                f"The schema's field '{name}' has type {entry['type']!r}; "
                f"{'with a shape' if 'shape' in entry else 'it'} can be one of {list(types)}."
            )
        shape = entry.get("shape", [])
        if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
            raise MRMInvalidSchemaError(
                f"The schema's field '{name}': shape must be a list of ints, got {shape!r}."
            )
    return dict(content)


def pack_ints(values: np.ndarray[Any, Any]) -> bytes:
    """An array of ints, packed."""
    flat = values.ravel().astype(np.int64)
    count = len(flat)
    codes = np.zeros(-(-count // 4) * 4, np.uint8)
    for code, bits in ((1, 8), (2, 16), (3, 32)):
        edge = 1 << (bits - 1)
        codes[:count][(flat < -edge) | (flat >= edge)] = code
    a, b, c, d = codes.reshape(-1, 4).T
    tags = a << 6 | b << 4 | c << 2 | d
    octets = flat.astype("<i8").view(np.uint8).reshape(-1, 8)
    kept = np.arange(8) < (1 << codes[:count].astype(np.int64))[:, None]
    return count.to_bytes(4, "big") + tags.tobytes() + octets[kept].tobytes()


def unpack_ints(data: bytes, dtype: DTypeLike) -> np.ndarray[Any, Any]:
    """The array of packed ints.

    Raises:
        ValueError: the data is cut off.
    """
    count = int.from_bytes(data[:4], "big")
    octets = np.frombuffer(data, np.uint8, offset=min(4, len(data)))
    tags = octets[: -(-count // 4)]
    values = octets[len(tags) :]
    codes = (tags[:, None] >> np.array([6, 4, 2, 0], np.uint8) & 3).ravel()[:count]
    sizes = 1 << codes.astype(np.int64)
    if len(codes) != count or int(sizes.sum()) != len(values):
        raise ValueError(f"{len(values)} bytes of packed ints, {int(sizes.sum())} are expected")
    if not codes.any():
        return values.view(np.int8).astype(dtype)
    out = np.empty(count, dtype)
    starts = np.cumsum(sizes) - sizes
    for code in range(4):
        which = np.flatnonzero(codes == code)
        size = 1 << code
        picked = values[starts[which, None] + np.arange(size)]
        out[which] = np.ascontiguousarray(picked).view(f"<i{size}")[:, 0]
    return out
