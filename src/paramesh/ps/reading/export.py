"""Trained rows and values of a run as files for other programs.

    safetensors   one file: NAME.ids and NAME.rows of each table, NAME of every other Parameter
    parquet       a folder: NAME.parquet of each table, with the columns `id` (int64) and `vector`
                  (a list of fixed size); Parameters that are not tables are left out

Rows are read and written in blocks.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.formats.safetensors_file import SafetensorsSink
from paramesh.dtype import int64, to_dtype
from paramesh.errors import ParameterServerError, ParameterStateError
from paramesh.ps.reading.reader import RunReader

Array = np.ndarray[Any, Any]

FORMATS = ("safetensors", "parquet")
#: Rows of a block.
_BLOCK = 1 << 16


class Exported(NamedTuple):
    """What was written.

    Attributes:
        version: of the values.
        rows: of each table, by name.
        values: the names of the other Parameters.
        path: the file or folder.
    """

    version: int
    rows: dict[str, int]
    values: list[str]
    path: Path


def export(
    run: RunReader,
    path: str | os.PathLike[str],
    *,
    format: str = "safetensors",
    names: Sequence[str] | None = None,
) -> Exported:
    """Write what a run has trained.

    Args:
        run: made by `connect`; do not call its `refresh` meanwhile.
        path: of the file (safetensors) or folder (parquet); it appears when it is complete. A file
            is replaced, a folder must not exist.
        format: "safetensors" or "parquet" (needs pyarrow: `pip install 'paramesh[parquet]'`).
        names: of the Parameters; None for all (parquet: for all tables).

    Raises:
        ParameterServerError: pyarrow is missing.
        ParameterStateError: no such Parameter, or (parquet) one that is not a table.
        FileExistsError: the folder exists.
        TypeError: `run` is not a reader, or `names` is one name.
        ValueError: no such format.
        OSError: from the file system.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {FORMATS}, got {format!r}.")
    if not isinstance(run, RunReader):
        raise TypeError(f"export takes a reader from ps.connect, got {type(run).__name__} {run!r}.")
    if isinstance(names, str):
        raise TypeError(f"names must be a list of names, got {names!r}: pass [{names!r}].")
    wanted = list(dict.fromkeys(run.names if names is None else names))
    unknown = [name for name in wanted if name not in run.names]
    if unknown:
        raise ParameterStateError(
            f"Parameter '{unknown[0]}' does not exist in this run, which has "
            f"{', '.join(run.names) or 'none yet'}."
        )
    tables = [name for name in wanted if name in run.tables]
    others = [name for name in wanted if name not in tables]
    if format == "safetensors":
        return _to_safetensors(run, Path(path), tables, others)
    if names is not None and others:
        raise ParameterStateError(
            f"Parameter '{others[0]}' is not a table of rows, and Parquet files are for tables: "
            "use format='safetensors'."
        )
    return _to_parquet(run, Path(path), tables)


def _to_safetensors(run: RunReader, path: Path, tables: list[str], others: list[str]) -> Exported:
    counts = {name: len(run.ids(name)) for name in tables}
    entries: list[Entry] = []
    for name in tables:
        row = run.shape(name)[1:]
        entries.append(Entry.of(f"{name}.ids", int64, (counts[name],)))
        entries.append(Entry.of(f"{name}.rows", run.dtype(name), (counts[name], *row)))
    entries += [Entry.of(name, run.dtype(name), run.shape(name)) for name in others]
    metadata = {"version": str(run.version)}
    with SafetensorsSink(path, entries, {}, metadata) as sink:
        for name in tables:
            sink.write_parts(f"{name}.ids", (ids for ids, _ in run.items(name, _BLOCK)))
            sink.write_parts(f"{name}.rows", (rows for _, rows in run.items(name, _BLOCK)))
        for name in others:
            sink.write(name, run.value(name))
    return Exported(run.version, counts, others, path)


def _to_parquet(run: RunReader, path: Path, tables: list[str]) -> Exported:
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ParameterServerError(
            "Parquet files need pyarrow, which is not installed: pip install 'paramesh[parquet]'."
        ) from None
    if path.exists():
        raise FileExistsError(f"'{path}' exists already: choose another folder, or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        counts = {}
        for name in tables:
            counts[name] = 0
            width = int(np.prod(run.shape(name)[1:]))
            kind = arrow.from_numpy_dtype(_arrow_dtype(run, name))
            schema = arrow.schema([("id", arrow.int64()), ("vector", arrow.list_(kind, width))])
            file = made / f"{quote(name, safe='')}.parquet"
            with parquet.ParquetWriter(file, schema) as writer:
                for ids, vectors in _vectors(run, name):
                    flat = arrow.array(vectors.reshape(-1))
                    columns = [
                        arrow.array(ids),
                        arrow.FixedSizeListArray.from_arrays(flat, width),
                    ]
                    writer.write_table(arrow.table(columns, schema=schema))
                    counts[name] += len(ids)
        made.chmod(0o755)
        made.rename(path)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return Exported(run.version, counts, [], path)


def _arrow_dtype(run: RunReader, name: str) -> np.dtype[Any]:
    # Arrow has no bfloat16: every value of it is a float32.
    dtype = run.dtype(name)
    return np.dtype(np.float32) if dtype is to_dtype("bfloat16") else dtype.np_dtype


def _vectors(run: RunReader, name: str) -> Iterator[tuple[Array, Array]]:
    dtype = _arrow_dtype(run, name)
    for ids, rows in run.items(name, _BLOCK):
        yield ids, rows.reshape(len(ids), -1).astype(dtype, copy=False)
