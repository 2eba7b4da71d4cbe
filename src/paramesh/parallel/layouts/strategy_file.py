"""Strategy files: the layout of every Parameter, by name, at rest.

Three formats are read, whichever a file is in:

    paramesh    JSON: {"format": "paramesh.strategy", "version": 1, "device_num": 8, "parameters":
                {name: {"shape", "dtype", "layout": null or {"device_matrix", "alias_name",
                "tensor_map", "rank_list"}}}}; ranks in order are left out
    MindSpore   what its `strategy_ckpt_config` saves: a protobuf `ParallelStrategyMap`, or the same
                as JSON where the file's name ends in .json (see `mindspore_strategy`)

MindSpore keeps no element types, and no shapes in protobuf; what is unknown is None.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from paramesh.dtype import to_dtype
from paramesh.errors import (
    CheckpointError,
    LayoutError,
    ParameterNameError,
    StrategyFileError,
)
from paramesh.files.atomic import write_atomically
from paramesh.parallel.layouts import mindspore_strategy
from paramesh.parallel.layouts.layout import Layout, Placed, subject
from paramesh.parameter.names import reason_not_saveable, shortened

FORMAT = "paramesh.strategy"
VERSION = 1

Params = Mapping[str, tuple[Sequence[int], Any, Layout | None]]


def save_strategy(
    path: str | os.PathLike[str],
    params: Params,
    device_num: int,
    format: Literal["paramesh", "mindspore"] = "paramesh",
) -> Path:
    """Write the layout of every Parameter, atomically.

    Args:
        path: of the file. In MindSpore's format the suffix .json chooses JSON, any other
            protobuf, as MindSpore itself reads them.
        params: full name -> (shape, element type, layout); the layout None for a Parameter that
            is replicated.
        device_num: how many devices there are.
        format: "paramesh" keeps everything; "mindspore" is for MindSpore's tools.

    Returns:
        The path.

    Raises:
        LayoutError: a layout that does not fit its shape, is for another number of devices, or
            cannot be said in MindSpore's format (a rank list of its own; axes of devices that shard
            one axis together without being neighbours). Nothing is written.
        TypeError: no element type. ValueError: another format. OSError: from the file system.
    """
    target = Path(path)
    for name in params:
        why = reason_not_saveable(name)
        if why is not None:
            raise ParameterNameError(f"Cannot write {shortened(name)} to '{target}': {why}.")
    for name, (shape, _, layout) in params.items():
        if layout is not None:
            layout.slice_shape(shape, name)
            if layout.device_num != device_num:
                raise LayoutError(
                    f"{subject(name)}{layout!r} is for {layout.device_num} devices, but the "
                    f"strategy for {device_num}."
                )
    if format == "paramesh":
        content = _to_json(params, device_num)
    elif format == "mindspore":
        content = mindspore_strategy.encode(params, device_num, target.suffix == ".json")
    else:
        raise ValueError(f"save_strategy: format must be paramesh or mindspore, got {format!r}.")
    write_atomically(target, content)
    return target


def load_strategy(path: str | os.PathLike[str]) -> dict[str, Placed]:
    """The layouts of a strategy file of any of the three formats, by name.

    Raises:
        FileNotFoundError: there is no such file.
        StrategyFileError: it is damaged, of a newer version, or an entry is not a layout; the
            message names the Parameter.
    """
    return load_strategy_for(path)[0]


def load_strategy_for(path: str | os.PathLike[str]) -> tuple[dict[str, Placed], int | None]:
    """The layouts of a strategy file, and how many devices it says that it is for, if it does.

    Raises:
        FileNotFoundError, StrategyFileError: as `load_strategy`.
    """
    found, device_num = _decoded(path, Path(path).read_bytes())
    for name in found:
        why = reason_not_saveable(name)
        if why is not None:
            raise StrategyFileError(f"{path} has the name {shortened(name)}: {why}.")
    return found, device_num


def _decoded(path: str | os.PathLike[str], content: bytes) -> tuple[dict[str, Placed], int | None]:
    try:
        if not content.lstrip().startswith(b"{"):
            return mindspore_strategy.decode_protobuf(content), None
        found = json.loads(content)
        if "parallel_layout_item" in found:
            return mindspore_strategy.decode_json(found), None
        return _from_json(found), _device_num(found)
    except CheckpointError as error:
        raise StrategyFileError(f"{path}: {error}") from error
    except (LayoutError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise StrategyFileError(
            f"{path} is not a strategy file, or it is damaged: {type(error).__name__}: {error}"
        ) from error


def _to_json(params: Params, device_num: int) -> bytes:
    entries: dict[str, Any] = {}
    for name, (shape, dtype, layout) in params.items():
        entry: dict[str, Any] = {"shape": list(shape), "dtype": to_dtype(dtype).long_name}
        entry["layout"] = None if layout is None else _layout_entry(layout)
        entries[name] = entry
    content = {
        "format": FORMAT,
        "version": VERSION,
        "device_num": device_num,
        "parameters": entries,
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _layout_entry(layout: Layout) -> dict[str, Any]:
    entry = layout.to_dict()
    del entry["interleaved_parallel"]
    if layout.in_order:
        del entry["rank_list"]
    return entry


def _device_num(content: dict[str, Any]) -> int:
    count = content["device_num"]
    if type(count) is not int or count < 1:
        raise CheckpointError(f"'device_num' must be a positive int, got {count!r}.")
    return count


def _from_json(content: dict[str, Any]) -> dict[str, Placed]:
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"this JSON is not a strategy file: 'format' is {content.get('format')!r}, expected "
            f"{FORMAT!r}."
        )
    version = content.get("version")
    if version != VERSION:
        raise CheckpointError(
            f"the strategy file has version {version!r}; this paramesh reads version {VERSION}."
        )
    found: dict[str, Placed] = {}
    for name, entry in content["parameters"].items():
        shape = tuple(entry["shape"])
        layout = None
        if entry["layout"] is not None:
            layout = Layout.from_dict(entry["layout"], name)
            layout.slice_shape(shape, name)
            if layout.device_num != content["device_num"]:
                raise CheckpointError(
                    f"{subject(name)}{layout!r} is for {layout.device_num} devices, but the file "
                    f"for {content['device_num']}."
                )
        found[name] = Placed(shape, to_dtype(entry["dtype"]), layout)
    return found
