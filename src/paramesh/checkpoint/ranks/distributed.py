"""MindSpore's calls for sliced Parameters: merging slices, and loading per-rank files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paramesh import context
from paramesh.checkpoint.formats.boxes import full_box, within
from paramesh.checkpoint.load import load_source
from paramesh.checkpoint.ranks.source import RankSource
from paramesh.checkpoint.ranks.strategy import RankStrategy, layouts_in, load_file, read_strategy
from paramesh.errors import ParameterShapeError
from paramesh.nn.cell import Cell
from paramesh.parallel.layouts.layout import Layout, Placed
from paramesh.parallel.processes.full_value import whole
from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor


def build_searched_strategy(strategy_filename: str | os.PathLike[str]) -> dict[str, Placed]:
    """The layouts of a strategy file, for `merge_sliced_parameter` and others.

    Args:
        strategy_filename: paramesh's strategy file, or MindSpore's in protobuf or JSON.

    Returns:
        {name: (shape, dtype, layout)}; None for what the file does not contain. For a replicated
        Parameter, the layout is None in paramesh's files, and one without sharded axes in
        MindSpore's.

    Raises:
        TypeError: `strategy_filename` is not a path.
        StrategyFileError: the file does not exist or is not valid (it is also a ValueError).
    """
    if not isinstance(strategy_filename, str | os.PathLike):
        raise TypeError(
            f"build_searched_strategy: strategy_filename must be a path, got {strategy_filename!r}."
        )
    return load_file(strategy_filename)[0]


def merge_sliced_parameter(
    sliced_parameters: list[Parameter], strategy: Mapping[str, Any] | None = None
) -> Parameter:
    """Merge the slices of a Parameter.

    Args:
        sliced_parameters: the slice of each rank, in the order of ranks.
        strategy: {name: layout}: of `build_searched_strategy`, or with values that are `Layout`s or
            MindSpore's (device matrix, tensor map, slice shape). None: the slices are concatenated
            along axis 0.

    Returns:
        A new Parameter with the same name, `requires_grad` and `layerwise_parallel`.

    Raises:
        TypeError: not a list of Parameters, or not a dict.
        ValueError: no slices; not one slice per device; slices of different names, shapes or
            element types; a layout that does not fit them.
        KeyError: the strategy has no entry for the name of the Parameter.
    """
    call = "merge_sliced_parameter"
    if not isinstance(sliced_parameters, list):
        raise TypeError(
            f"{call}: sliced_parameters must be a list, got {type(sliced_parameters).__name__}."
        )
    if strategy is not None and not isinstance(strategy, Mapping):
        raise TypeError(
            f"{call}: strategy must be {{name: layout}} or None, got {type(strategy).__name__}."
        )
    for i, part in enumerate(sliced_parameters):
        if not isinstance(part, Parameter):
            raise TypeError(
                f"{call}: sliced_parameters[{i}] must be a Parameter, got {type(part).__name__}."
            )
    if not sliced_parameters:
        raise ValueError(f"{call}: sliced_parameters is empty.")
    first = sliced_parameters[0]
    _check_alike(call, sliced_parameters, along_rows=strategy is None)
    values = [np.asarray(whole(part)) for part in sliced_parameters]
    if strategy is None:
        merged = np.concatenate(values) if first.shape else _one(call, first.name, values)
    else:
        if first.name not in strategy:
            raise KeyError(
                f"{call}: strategy has no entry '{first.name}'; it has {len(strategy)} others."
            )
        layout = layouts_in({first.name: strategy[first.name]})[first.name]
        merged = _merged(call, first.name, values, layout)
    return Parameter(
        Tensor(merged),
        name=first.name,
        requires_grad=first.requires_grad,
        layerwise_parallel=first.layerwise_parallel,
    )


def _check_alike(call: str, slices: Sequence[Parameter], along_rows: bool) -> None:
    first, skip = slices[0], int(along_rows)
    for i, part in enumerate(slices):
        shapes = part.shape[skip:] == first.shape[skip:] and part.ndim == first.ndim
        if not shapes or (part.name, part.dtype) != (first.name, first.dtype):
            raise ParameterShapeError(
                f"{call}: the slices must have one name, element type and shape"
                f"{' except along axis 0' if along_rows else ''}; slice 0 is '{first.name}' "
                f"{first.dtype}{list(first.shape)}, slice {i} '{part.name}' "
                f"{part.dtype}{list(part.shape)}."
            )


def _one(call: str, name: str, values: Sequence[Any]) -> Any:
    if len(values) > 1:
        raise ParameterShapeError(
            f"{call}: '{name}' has no axis along which {len(values)} slices could be "
            "concatenated: give a strategy."
        )
    return values[0]


def _merged(call: str, name: str, values: Sequence[Any], layout: Layout | None) -> Any:
    rules = RankStrategy({name: layout}, f"{call}: strategy")
    if layout is not None and len(values) != layout.device_num:
        raise ValueError(
            f"{call}: '{name}' has {len(values)} slices, but its strategy is for "
            f"{layout.device_num} devices."
        )
    shape = rules.shape_of(name, values[0].shape)
    found = np.empty(shape, values[0].dtype)
    for box, holders in rules.boxes(name, shape).items():
        found[(*within(box, full_box(shape)), ...)] = values[holders[0]]
    return found


def load_distributed_checkpoint(
    network: Cell,
    checkpoint_filenames: Sequence[str | os.PathLike[str]],
    predict_strategy: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    train_strategy_filename: str | os.PathLike[str] | None = None,
    strict_load: bool = False,
    dec_key: bytes | None = None,
    dec_mode: str = "AES-GCM",
    format: str | None = None,
) -> tuple[list[str], list[str]]:
    """Load the files of all ranks into a network, for any number of devices.

    Of Parameters that are sharded in the network, only the shards of this process's devices are
    read.

    Args:
        network: a Cell.
        checkpoint_filenames: the files, in the order of ranks.
        predict_strategy: the layouts of the network's Parameters: {name: layout} as in
            `merge_sliced_parameter`, or a strategy file. They become their `Parameter.layout`.
            None: they are unchanged.
        train_strategy_filename: the strategy file under which the files were saved; None: that of
            the setting `strategy_ckpt_load_file`.
        strict_load: as in `load_param_into_net`.
        dec_key: MindSpore's; None, since encrypted files are not read.
        dec_mode: MindSpore's; ignored.
        format: "ckpt" or "safetensors", which the files must have; None for any.

    Returns:
        (names in the network without a value, names in the files without a Parameter).

    Raises:
        TypeError: an argument has another type.
        ValueError: no strategy file; not one file per rank of the strategy; an encryption key.
        StrategyFileError: a strategy is missing or not valid, or does not fit the files.
        CheckpointError: a file is not valid or not of the same checkpoint as the others, or they do
            not fit the network; nothing was loaded.
    """
    call = "load_distributed_checkpoint"
    if not isinstance(network, Cell):
        raise TypeError(f"{call}: network must be a Cell, got {type(network).__name__}.")
    if isinstance(checkpoint_filenames, str) or not isinstance(checkpoint_filenames, Sequence):
        raise TypeError(
            f"{call}: checkpoint_filenames must be a list of paths, got {checkpoint_filenames!r}."
        )
    if dec_key is not None:
        raise ValueError(
            f"{call}: dec_key is given, but paramesh does not decrypt. Save the files again "
            "without enc_key in MindSpore."
        )
    if format not in (None, "ckpt", "safetensors"):
        raise ValueError(f"{call}: format must be 'ckpt' or 'safetensors', got {format!r}.")
    named = train_strategy_filename or context.place("strategy_ckpt_load_file")
    strategy = read_strategy("train_strategy_filename", named or None)
    if strategy is None:
        raise ValueError(
            f"{call}: train_strategy_filename is needed: the strategy file under which the "
            "checkpoint was saved. Load a checkpoint in one file with load_checkpoint."
        )
    files = {rank: _path(call, rank, file) for rank, file in enumerate(checkpoint_filenames)}
    if len(files) != strategy.device_num:
        raise ValueError(
            f"{call}: {len(files)} files are given, but {strategy.where} is for "
            f"{strategy.device_num} devices."
        )
    layouts = _layouts(network, predict_strategy)
    with RankSource(Path(call), files, strategy) as source:
        for part in source.parts():
            if format is not None and part.format != format:
                raise ValueError(f"{call}: '{part.path}' is a {part.format} file, not {format}.")
        before = {param: param._strategy for param in layouts}
        try:
            for param, layout in layouts.items():
                param.layout = layout
            return load_source(source, network, strict_load, call)
        except BaseException:
            for param, layout in before.items():
                param.layout = layout
            raise


def _layouts(
    network: Cell, predict_strategy: Mapping[str, Any] | str | os.PathLike[str] | None
) -> dict[Parameter, Layout]:
    if predict_strategy is None:
        return {}
    if isinstance(predict_strategy, str | os.PathLike):
        given: Mapping[str, Any] = load_file(predict_strategy)[0]
    elif isinstance(predict_strategy, Mapping):
        given = predict_strategy
    else:
        raise TypeError(
            "load_distributed_checkpoint: predict_strategy must be {name: layout}, a strategy file "
            f"or None, got {type(predict_strategy).__name__}."
        )
    mine = network.parameters_dict()
    layouts = layouts_in({name: value for name, value in given.items() if name in mine})
    return {mine[name]: layout for name, layout in layouts.items() if layout is not None}


def _path(call: str, rank: int, file: object) -> Path:
    if not isinstance(file, str | os.PathLike):
        raise TypeError(f"{call}: checkpoint_filenames[{rank}] must be a path, got {file!r}.")
    if not Path(file).is_file():
        raise ValueError(f"{call}: there is no file '{file}' of rank {rank}.")
    return Path(file)
