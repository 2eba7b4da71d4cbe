"""Schema: names, types and shapes of the columns of records.

Source: MindSpore's `mindspore.dataset.Schema`, and its JSON files.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.dtype import DType, DTypeLike, to_dtype


class Schema:
    """The columns of records.

    Args:
        schema_file: a JSON file with `columns`, a list of {name, type, shape} or a dict; None: the
            columns follow by `add_column`.

    Raises:
        TypeError, ValueError, RuntimeError: it is no such file.
    """

    def __init__(self, schema_file: str | os.PathLike[str] | None = None) -> None:
        self.columns: list[dict[str, Any]] = []
        self.dataset_type, self.num_rows = "", 0
        if schema_file is None:
            return
        if not isinstance(schema_file, str | os.PathLike):
            raise TypeError(f"Schema: schema_file must be a path, got {schema_file!r}.")
        path = Path(schema_file)
        if not path.is_file():
            raise ValueError(f"Schema: there is no file '{path}'.")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RuntimeError(f"Schema: '{path}' is no JSON: {error}.") from None
        self.from_json(found)

    def add_column(self, name: str, de_type: DTypeLike, shape: list[int] | None = None) -> None:
        """One more column.

        Args:
            name: of the column.
            de_type: a dtype of paramesh's, or the name of one.
            shape: of a row; -1 for an axis that varies; None: any.

        Raises:
            TypeError, ValueError: an argument of another kind.
        """
        if not isinstance(name, str) or not name:
            raise TypeError(f"Schema.add_column: name must be a str, got {name!r}.")
        if shape is not None and not (
            isinstance(shape, list) and all(isinstance(size, int) for size in shape)
        ):
            raise TypeError(f"Schema.add_column: shape must be a list of ints, got {shape!r}.")
        column: dict[str, Any] = {"name": name, "type": _type_name(de_type), "rank": 1}
        if shape is not None:
            column["shape"], column["rank"] = list(shape), len(shape)
        self.columns.append(column)

    def from_json(self, json_obj: dict[str, Any]) -> None:
        """Take the columns from a dict.

        Raises:
            RuntimeError: it is no schema. TypeError: no dict.
        """
        if not isinstance(json_obj, dict):
            raise TypeError(f"Schema.from_json: must be a dict, got {type(json_obj).__name__}.")
        if "columns" not in json_obj:
            raise RuntimeError("Schema: 'columns' is missing.")
        self.dataset_type = json_obj.get("datasetType", "")
        self.num_rows = int(json_obj.get("numRows", 0))
        self.columns = []
        self.parse_columns(json_obj["columns"])

    def parse_columns(self, columns: list[dict[str, Any]] | dict[str, dict[str, Any]]) -> None:
        """Columns as a list of {name, type, shape}, or a dict {name: {type, shape}}.

        Raises:
            TypeError: something else. RuntimeError: a column without name or type.
        """
        if isinstance(columns, dict):
            columns = [{"name": name, **entry} for name, entry in sorted(columns.items())]
        if not isinstance(columns, list):
            raise TypeError("Schema.parse_columns: columns must be a list or a dict.")
        for entry in columns:
            for key in ("name", "type"):
                if key not in entry:
                    raise RuntimeError(f"Schema: a column has no {key}: {entry}.")
            shape = entry.get("shape")
            if shape is None and entry.get("rank") == 0:
                shape = []
            self.add_column(entry["name"], entry["type"], shape)

    def to_json(self) -> str:
        """The schema as the text of a JSON file."""
        whole: dict[str, Any] = {}
        if self.dataset_type:
            whole["datasetType"] = self.dataset_type
        if self.num_rows:
            whole["numRows"] = self.num_rows
        whole["columns"] = self.columns
        return json.dumps(whole, indent=2)

    def __str__(self) -> str:
        return self.to_json()


def _type_name(de_type: DTypeLike) -> str:
    if isinstance(de_type, str):
        name = de_type.lower()
        if name in ("string", "str"):
            return "string"
        try:
            return np.dtype(name).name
        except TypeError:
            raise ValueError(f"Schema: {de_type!r} is no type.") from None
    if isinstance(de_type, DType):
        return de_type.np_dtype.name
    if de_type is str or getattr(de_type, "__name__", "") in ("str", "str_", "string"):
        return "string"
    return to_dtype(de_type).np_dtype.name
