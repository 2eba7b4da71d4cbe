"""Rows of MindRecord files: to bytes, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from paramesh.mindrecord.errors import MRMValidateDataError
from paramesh.mindrecord.layout import Schema, blob_fields, pack_ints, unpack_ints

_PYTHON = {
    "int32": (int, np.integer),
    "int64": (int, np.integer),
    "float32": (float, np.floating),
    "float64": (float, np.floating),
    "string": (str,),
    "bytes": (bytes, bytearray),
}


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError:
        raise RuntimeError(
            "MindRecord files need msgpack: pip install 'paramesh[dataset]'."
        ) from None
    return msgpack


class Coder:
    """Turns rows into the two parts that lie in a file, and back."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.blobs = blob_fields(schema)
        self.plain = sorted(name for name in schema if name not in self.blobs)
        self.saved = 0
        self._msgpack = _msgpack()

    def check(self, row: Any, where: str) -> None:
        """Refuse a row that does not fit the schema.

        Raises:
            MRMValidateDataError: with the field, what it has and what the schema says.
        """
        if not isinstance(row, dict):
            raise MRMValidateDataError(f"{where} must be a dict, got {type(row).__name__}.")
        for name, entry in self.schema.items():
            if name not in row:
                raise MRMValidateDataError(f"{where} has no field '{name}'; it has {list(row)}.")
            value, kind = row[name], entry["type"]
            if "shape" not in entry:
                if isinstance(value, bool) or not isinstance(value, _PYTHON[kind]):
                    raise MRMValidateDataError(
                        f"{where}: field '{name}' is {type(value).__name__} ({str(value)[:60]}), "
                        f"the schema says {kind}."
                    )
                if kind == "int32" and not -(2**31) <= int(value) < 2**31:
                    raise MRMValidateDataError(
                        f"{where}: field '{name}' is {value}, which is no int32. Use int64."
                    )
                continue
            if not isinstance(value, np.ndarray) or value.dtype != kind:
                given = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
                raise MRMValidateDataError(
                    f"{where}: field '{name}' is {given}, the schema says an array of {kind}."
                )
            try:
                value.reshape(entry["shape"])
            except ValueError:
                raise MRMValidateDataError(
                    f"{where}: field '{name}' is of shape {value.shape}, the schema says "
                    f"{entry['shape']}."
                ) from None

    def raw(self, row: dict[str, Any]) -> bytes:
        """The fields of a raw page."""
        fields = {name: self._scalar(name, row[name]) for name in self.plain} or {"id": 0}
        packer = self._msgpack.Packer(use_bin_type=True)
        parts = [packer.pack_map_header(len(fields))]
        for name, value in fields.items():
            short = isinstance(value, float) and float(np.float32(value)) == value
            parts += [
                packer.pack(name),
                b"\xca" + np.array(value, ">f4").tobytes() if short else packer.pack(value),
            ]
        return b"".join(parts)

    def _scalar(self, name: str, value: Any) -> Any:
        kind = self.schema[name]["type"]
        if kind == "string":
            return value
        return int(value) if kind.startswith("int") else float(value)

    def blob(self, row: dict[str, Any]) -> bytes:
        """The fields of a blob page."""
        if not self.blobs:
            return bytes(4)
        parts: list[bytes] = []
        for name in self.blobs:
            value, kind = row[name], self.schema[name]["type"]
            if kind == "bytes":
                data = bytes(value)
            elif kind.startswith("int"):
                data = pack_ints(value)
                self.saved += value.nbytes - len(data)
            else:
                data = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes()
            if len(self.blobs) > 1:
                parts.append(len(data).to_bytes(8, "big"))
            parts.append(data)
        return b"".join(parts)

    def plain_fields(self, data: bytes) -> dict[str, Any]:
        """The fields of a raw page, as Python's numbers and strings."""
        return self._msgpack.unpackb(data, raw=False)

    def row(self, raw: bytes, blob: bytes) -> dict[str, Any]:
        """A row: numbers and strings of Python's, bytes, and arrays."""
        found = self.plain_fields(raw)
        if not self.plain:
            found = {}
        at = 0
        for name in self.blobs:
            if len(self.blobs) > 1:
                length = int.from_bytes(blob[at : at + 8], "big")
                at += 8
            else:
                length = len(blob)
            found[name] = self._array(name, blob[at : at + length])
            at += length
        return found

    def _array(self, name: str, data: bytes) -> Any:
        entry = self.schema[name]
        kind = entry["type"]
        if kind == "bytes":
            return data
        if kind.startswith("int"):
            array = unpack_ints(data, kind)
        else:
            array = np.frombuffer(bytearray(data), np.dtype(kind).newbyteorder("<")).astype(
                kind, copy=False
            )
        return array.reshape(entry["shape"])
