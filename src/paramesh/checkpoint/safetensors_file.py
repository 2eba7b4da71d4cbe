"""Records as a safetensors file.

The file's metadata says `format: paramesh`. `append_dict` is JSON in it, and so is a list of the
arrays whose element type the format does not have: complex128, kept as pairs of float64.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from paramesh.atomic import write_atomically
from paramesh.checkpoint.records import Choice, Records
from paramesh.errors import CheckpointError

_FORMAT = "paramesh"
_APPENDED = "append_dict"
_PAIRS = "complex128"


def write(path: Path, records: Records) -> None:
    """Write a file, atomically.

    Raises:
        OSError: from the file system.
    """
    metadata = {"format": _FORMAT}
    arrays = dict(records.arrays)
    pairs = [name for name, array in arrays.items() if array.dtype == np.complex128]
    for name in pairs:
        whole = arrays[name]
        arrays[name] = np.stack([whole.real, whole.imag], axis=-1)
    if pairs:
        metadata[_PAIRS] = json.dumps(pairs)
    if records.appended:
        metadata[_APPENDED] = json.dumps(records.appended)

    def save(beside: Path) -> None:
        try:
            save_file(arrays, beside, metadata=metadata)
        except SafetensorError as error:
            raise OSError(f"Cannot write checkpoint '{path}': {error}") from error

    write_atomically(path, save)


def read(path: Path, choice: Choice) -> Records:
    """The arrays that `choice(name)` wants, and all appended entries.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is no safetensors file, or a damaged one.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no checkpoint '{path}'" + (": it is a folder." if path.is_dir() else ".")
        )
    records = Records()
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            mine = metadata.get("format") == _FORMAT
            pairs = _json(metadata, _PAIRS, list) if mine else []
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                if choice(name):
                    array = file.get_tensor(name)
                    records.arrays[name] = _complex(array) if name in pairs else array
            if mine:
                records.appended = _json(metadata, _APPENDED, dict)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"Checkpoint '{path}' is damaged or no safetensors file: {error}. Nothing was loaded."
        ) from error
    return records


def _json(metadata: dict[str, str], key: str, kind: type[Any]) -> Any:
    found = json.loads(metadata[key]) if key in metadata else kind()
    if not isinstance(found, kind):
        raise ValueError(f"its metadata '{key}' is no {kind.__name__}")
    return found


def _complex(pairs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if pairs.dtype != np.float64 or pairs.shape[-1:] != (2,):
        raise ValueError("complex numbers that are no pairs")
    whole = np.empty(pairs.shape[:-1], np.complex128)
    whole.real, whole.imag = pairs[..., 0], pairs[..., 1]
    return whole
