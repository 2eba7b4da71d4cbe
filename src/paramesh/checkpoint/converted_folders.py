"""`ckpt_to_safetensors` and `safetensors_to_ckpt`: a file, or all files of a folder of ranks."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from paramesh.checkpoint.conversion.converter import Conversion, convert
from paramesh.checkpoint.conversion.renaming import Renaming

Where = str | os.PathLike[str]


def ckpt_to_safetensors(
    file_path: Where,
    save_path: Where | None = None,
    name_map: Mapping[str, str] | None = None,
    file_name_regex: str | None = None,
    processes_num: int = 1,
) -> None:
    """Write checkpoints of MindSpore's `.ckpt` as safetensors files.

    Args:
        file_path: a file, or a folder; of a folder, the files of the folders in it, such as
            `rank_0`, are converted, too.
        save_path: the folder for the new files, which is made; None: where the old ones are.
        name_map: {name: new name}.
        file_name_regex: of a folder, files that it matches alone.
        processes_num: MindSpore's; files are converted one after the other.

    Raises:
        ValueError: there is no such file or folder, or the file is of another kind.
        TypeError: `name_map` is not a dict.
        CheckpointError: a file is not valid.
    """
    _converted("ckpt_to_safetensors", file_path, save_path, name_map, file_name_regex,
               ".ckpt", ".safetensors")  # fmt: skip


def safetensors_to_ckpt(
    file_path: Where,
    save_path: Where | None = None,
    name_map: Mapping[str, str] | None = None,
    file_name_regex: str | None = None,
    processes_num: int = 1,
) -> None:
    """Write safetensors files as MindSpore's `.ckpt`; arguments and errors as the other way."""
    _converted("safetensors_to_ckpt", file_path, save_path, name_map, file_name_regex,
               ".safetensors", ".ckpt")  # fmt: skip


def _converted(
    call: str,
    file_path: Where,
    save_path: Where | None,
    name_map: Mapping[str, str] | None,
    file_name_regex: str | None,
    old: str,
    new: str,
) -> None:
    source = Path(file_path)
    if not source.exists():
        raise ValueError(f"{call}: there is no file or folder {str(source)!r}.")
    if source.is_file() and source.suffix != old:
        raise ValueError(
            f"{call}: file_path must be a {old} file or a folder, got {str(source)!r}."
        )
    if name_map is not None and not isinstance(name_map, Mapping):
        raise TypeError(f"{call}: name_map must be a dict of names, got {name_map!r}.")
    found = [source] if source.is_file() else sorted(source.rglob(f"*{old}"))
    if file_name_regex is not None and source.is_dir():
        found = [file for file in found if re.search(file_name_regex, file.name)]
    if not found:
        raise ValueError(f"{call}: {str(source)!r} has no {old} files to convert.")
    top = source.parent if source.is_file() else source
    for file in found:
        folder = top if save_path is None else Path(save_path)
        target = (folder / file.relative_to(top)).with_suffix(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        rename = Renaming([f"{before}={after}" for before, after in (name_map or {}).items()])
        convert(file, target, Conversion(rename=rename, overwrite=True))
