"""`save_checkpoint`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from paramesh.checkpoint.records import Choice, Records, append, host, records_of
from paramesh.checkpoint.source import FORMATS, Format, format_named, open_sink


def save_checkpoint(
    save_obj: Any,
    ckpt_file_name: str | os.PathLike[str],
    choice_func: Choice | None = None,
    append_dict: dict[str, Any] | None = None,
    format: str | None = None,
) -> Path:
    """Save Parameters by name, so that the file is there as a whole or not at all.

    A Parameter that several Cells share is saved once. One that has no data yet is computed. Of a
    layerwise-parallel Parameter the values of all devices of this process are saved, as one array
    with the devices as first axis, by rank.

    Args:
        save_obj: a Cell, a dict {name: Tensor}, or a list of {"name": str, "data": Tensor}.
        ckpt_file_name: where; `.safetensors` is added if the name does not end with it.
        choice_func: saves those names alone for which it returns True.
        append_dict: numbers, bools, strings and Tensors to keep in the file.
        format: "safetensors". MindSpore's "ckpt" is not written yet.

    Returns:
        The path of the file.

    Raises:
        TypeError: `save_obj`, a name or an entry of `append_dict` is of another kind.
        DuplicateNameError: two different Parameters have one name.
        ValueError: another format.
        OSError: from the file system; the old file, if there was one, is untouched.
    """
    if not isinstance(ckpt_file_name, str | os.PathLike) or not os.fspath(ckpt_file_name):
        raise TypeError(
            f"save_checkpoint: ckpt_file_name must be the path of a file, got {ckpt_file_name!r}."
        )
    path = Path(ckpt_file_name)
    kind = format_of(format, path)
    if path.suffix != kind.suffix:
        path = path.with_name(path.name + kind.suffix)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"save_checkpoint: there is no folder '{path.parent}' for '{path.name}'; make it first."
        )
    records = records_of(save_obj, choice_func)
    append(records, append_dict)
    write(path, kind, records)
    return path


def write(path: Path, kind: Format, records: Records) -> None:
    """Write a file, one array after another."""
    with open_sink(path, kind.name, records.entries(), records.appended) as sink:
        for name, tensor in records.tensors.items():
            sink.write(name, host(tensor))


def format_of(format: str | None, path: Path) -> Format:
    """The format that the argument, or else the name of the file, asks for.

    Raises:
        ValueError: it asks for one that cannot be read or written yet.
    """
    if format == "ckpt" or path.suffix == ".ckpt":
        raise ValueError(
            f"'{path}': MindSpore's ckpt format is not supported yet. Use "
            "format='safetensors' and a name that ends with .safetensors."
        )
    return FORMATS[0] if format is None else format_named(format)
