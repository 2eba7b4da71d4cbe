"""MindSpore's calls that transform per-rank checkpoints from one strategy to another.

A strategy file may be paramesh's or MindSpore's, in protobuf or JSON; None means no sharding: rank
0 has the full arrays.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from paramesh.checkpoint.ranks.source import SUFFIXES, RankSource, rank_files
from paramesh.checkpoint.ranks.strategy import read_strategy
from paramesh.checkpoint.ranks.write import StagedRanks, write_ranks

_FORMATS = tuple(suffix[1:] for suffix in SUFFIXES)


def rank_list_for_transform(
    rank_id: int,
    src_strategy_file: str | os.PathLike[str] | None = None,
    dst_strategy_file: str | os.PathLike[str] | None = None,
) -> list[int]:
    """The ranks whose files `transform_checkpoint_by_rank` needs for the file of one rank.

    Args:
        rank_id: of the new checkpoint.
        src_strategy_file: the strategy of the source files; None: rank 0 has the full arrays.
        dst_strategy_file: the strategy of the new files; None: rank 0 gets the full arrays.

    Returns:
        Ranks of the source checkpoint, ascending, as few as possible. (MindSpore often also lists
        ranks with copies.)

    Raises:
        TypeError: an argument has another type.
        ValueError: the new strategy has no such rank.
        StrategyFileError: a strategy file is missing or not valid (it is also a ValueError).
    """
    _check_rank("rank_list_for_transform", rank_id)
    source = read_strategy("src_strategy_file", src_strategy_file)
    target = read_strategy("dst_strategy_file", dst_strategy_file)
    if target is not None:
        target.check_rank(rank_id)
    if source is None:
        return [0]
    return source.needed_by(rank_id if target is not None else 0, target)


def transform_checkpoint_by_rank(
    rank_id: int,
    checkpoint_files_map: Mapping[int, str | os.PathLike[str]],
    save_checkpoint_file_name: str | os.PathLike[str],
    src_strategy_file: str | os.PathLike[str] | None = None,
    dst_strategy_file: str | os.PathLike[str] | None = None,
) -> None:
    """Write the file of one rank of a new checkpoint.

    Args:
        rank_id: of the new checkpoint.
        checkpoint_files_map: {rank: file} of the source: those of `rank_list_for_transform`, or
            others with the same slices.
        save_checkpoint_file_name: the new file; its suffix (.ckpt or .safetensors) is the format.
        src_strategy_file: the strategy of the source files; None: rank 0 has the full arrays.
        dst_strategy_file: the strategy of the new files; None: rank 0 gets the full arrays.

    Raises:
        TypeError: an argument has another type.
        ValueError: an unknown suffix; there is no such rank; a needed file is missing.
        StrategyFileError: a strategy file is missing or not valid, or does not fit the files.
        CheckpointError: a file is not valid, or not of the same checkpoint as the others.
        OSError: from the file system.
    """
    call = "transform_checkpoint_by_rank"
    _check_rank(call, rank_id)
    if not isinstance(checkpoint_files_map, Mapping):
        raise TypeError(
            f"{call}: checkpoint_files_map must be {{rank: file}}, got "
            f"{type(checkpoint_files_map).__name__}."
        )
    place = _path(call, "save_checkpoint_file_name", save_checkpoint_file_name)
    if place.suffix not in SUFFIXES:
        raise ValueError(
            f"{call}: save_checkpoint_file_name must end with {' or '.join(SUFFIXES)}, got "
            f"'{place}'."
        )
    files: dict[int, Path] = {}
    for rank, file in checkpoint_files_map.items():
        _check_rank(f"{call}: checkpoint_files_map", rank)
        files[rank] = _path(call, f"checkpoint_files_map[{rank}]", file)
        if not files[rank].is_file():
            raise ValueError(f"{call}: there is no file '{file}' of rank {rank}.")
    source = read_strategy("src_strategy_file", src_strategy_file)
    target = read_strategy("dst_strategy_file", dst_strategy_file)
    if target is not None:
        target.check_rank(rank_id)
    with RankSource(Path(call), files, source, partial=True) as opened:
        write_ranks(opened, target, {rank_id: place}, place.suffix[1:])


def transform_checkpoints(
    src_checkpoints_dir: str | os.PathLike[str],
    dst_checkpoints_dir: str | os.PathLike[str],
    ckpt_prefix: str,
    src_strategy_file: str | os.PathLike[str] | None = None,
    dst_strategy_file: str | os.PathLike[str] | None = None,
    process_num: int = 1,
    output_format: str = "ckpt",
) -> None:
    """Transform the files of all ranks from one strategy to another.

    The new files appear when all are complete. Only one slice is in memory at a time.

    Args:
        src_checkpoints_dir: has a folder `rank_N` for each rank, with its file in it. Of several
            files, the latest epoch and step that all ranks have is used, or else the last by name,
            in natural order.
        dst_checkpoints_dir: folder of the new `rank_N/<ckpt_prefix>N.ckpt`; created if missing.
        ckpt_prefix: prefix of the names of the new files.
        src_strategy_file: the strategy of the source files; None: rank 0 has the full arrays.
        dst_strategy_file: the strategy of the new files; None: rank 0 gets the full arrays. What it
            does not name is left out, with a `LeftOutWarning`, except numbers of shape ().
        process_num: MindSpore's; ignored.
        output_format: "ckpt" or "safetensors".

    Raises:
        TypeError: an argument has another type.
        NotADirectoryError: there is no such folder.
        ValueError: the file of a rank is missing; an unknown format; the folders are the same.
        StrategyFileError: a strategy file is missing or not valid, or does not fit the files.
        CheckpointError: a file is not valid, or not of the same checkpoint as the others.
        OSError: from the file system.
    """
    call = "transform_checkpoints"
    folder = _path(call, "src_checkpoints_dir", src_checkpoints_dir)
    new = _path(call, "dst_checkpoints_dir", dst_checkpoints_dir)
    if not isinstance(ckpt_prefix, str) or Path(ckpt_prefix).name != ckpt_prefix:
        raise TypeError(
            f"{call}: ckpt_prefix must be a str that file names can begin with, got "
            f"{ckpt_prefix!r}."
        )
    if output_format not in _FORMATS:
        raise ValueError(
            f"{call}: output_format must be {' or '.join(map(repr, _FORMATS))}, got "
            f"{output_format!r}."
        )
    for place in (folder, new if new.exists() else new.parent):
        if not place.is_dir():
            raise NotADirectoryError(f"{call}: '{place}' is not a folder.")
    if new.exists() and folder.samefile(new):
        raise ValueError(f"{call}: '{new}' is the source folder: give another folder.")
    source = read_strategy("src_strategy_file", src_strategy_file)
    target = read_strategy("dst_strategy_file", dst_strategy_file)
    files = rank_files(folder)
    names = {
        rank: f"{ckpt_prefix}{rank}.{output_format}"
        for rank in (range(1) if target is None else target.ranks)
    }
    with RankSource(folder, files, source) as opened, StagedRanks(new, names) as staged:
        write_ranks(opened, target, staged, output_format)


def _check_rank(call: str, rank: object) -> None:
    if isinstance(rank, bool) or not isinstance(rank, int):
        raise TypeError(f"{call}: a rank must be an int, got {rank!r}.")


def _path(call: str, argument: str, path: object) -> Path:
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise TypeError(f"{call}: {argument} must be a path, got {path!r}.")
    return Path(path)
