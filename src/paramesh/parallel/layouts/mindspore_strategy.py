"""MindSpore's strategy files: its protobuf messages, and the same as JSON.

A file is a `ParallelStrategyMap`: for each operator its strategy, which paramesh does not need, and
for each Parameter a layout in three lists: device matrix, tensor map, and the split of a table of
embeddings that is not uniform. The messages are described here and built by protobuf at run time;
field numbers and types are those of MindSpore 2.10. JSON files have the same entries by name, and
the global shape besides.

The parallel optimizer's further sharding of axis 0 (`opt_weight_shard_step`,
`opt_weight_shard_size`) becomes part of the layout when it is read.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from paramesh.errors import CheckpointError, LayoutError
from paramesh.parallel.layouts.layout import Layout, Placed, replicated, subject
from paramesh.parallel.layouts.layout_tuple import merged, plain_map, with_optimizer_shards

_PACKAGE = "paramesh.mindspore_strategy"

#: Message -> its fields: (number, name, label, type). A type in capitals is another message.
_MESSAGES: dict[str, tuple[tuple[int, str, str, str], ...]] = {
    "ParallelStrategy": ((1, "dim", "repeated", "uint32"),),
    "ParallelStrategys": (
        (1, "stage", "required", "uint32"),
        (2, "parallel_strategy", "repeated", "ParallelStrategy"),
    ),
    "ParallelStrategyItem": (
        (1, "node_name", "required", "string"),
        (2, "parallel_strategys", "required", "ParallelStrategys"),
    ),
    "DevMatrix": ((1, "dim", "repeated", "uint32"),),
    "TensorMap": ((1, "dim", "repeated", "int32"),),
    "ParamSplitShape": ((1, "dim", "repeated", "int64"),),
    "IndicesOffset": ((1, "dim", "repeated", "int64"),),
    "ParallelLayouts": (
        (1, "dev_matrix", "repeated", "DevMatrix"),
        (2, "tensor_map", "repeated", "TensorMap"),
        (3, "param_split_shape", "repeated", "ParamSplitShape"),
        (4, "indices_offset", "repeated", "IndicesOffset"),
        (5, "field", "required", "int32"),
        (6, "opt_weight_shard_step", "required", "int32"),
        (7, "opt_weight_shard_size", "required", "int32"),
    ),
    "ParallelLayoutItem": (
        (1, "param_name", "required", "string"),
        (2, "parallel_layouts", "required", "ParallelLayouts"),
    ),
    "ParallelStrategyMap": (
        (1, "current_stage", "required", "uint32"),
        (2, "parallel_strategy_item", "repeated", "ParallelStrategyItem"),
        (3, "parallel_layout_item", "repeated", "ParallelLayoutItem"),
    ),
}


@functools.cache
def _strategy_map() -> Any:
    """The class of the message `ParallelStrategyMap`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="paramesh/mindspore_strategy.proto", package=_PACKAGE, syntax="proto2"
    )
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for number, name, label, kind in fields:
            field = message.field.add(name=name, number=number)
            field.label = field_type.Label.Value(f"LABEL_{label.upper()}")
            if kind in _MESSAGES:
                field.type, field.type_name = field_type.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = field_type.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"{_PACKAGE}.ParallelStrategyMap")
    )


def encode(
    params: Mapping[str, tuple[Sequence[int], Any, Layout | None]], device_num: int, as_json: bool
) -> bytes:
    """A file's content: layouts alone, no operators' strategies.

    Raises:
        LayoutError: a layout that device matrix and tensor map cannot say.
    """
    entries = {}
    for name, (shape, _, layout) in params.items():
        plain = merged(replicated(len(shape), device_num) if layout is None else layout, name)
        entries[name] = {
            "dev_matrix": list(plain.device_matrix),
            "tensor_map": plain_map(plain),
            "tensor_shape": list(shape),
            "field": 0,
            "opt_weight_shard_step": 0,
            "opt_weight_shard_size": 0,
        }
    if as_json:
        content = {
            "current_stage": 0,
            "parallel_strategy_item": {},
            "parallel_layout_item": entries,
        }
        return (json.dumps(content, ensure_ascii=False) + "\n").encode()
    message = _strategy_map()(current_stage=0)
    for name, entry in entries.items():
        layouts = message.parallel_layout_item.add(param_name=name).parallel_layouts
        layouts.dev_matrix.add(dim=entry["dev_matrix"])
        layouts.tensor_map.add(dim=entry["tensor_map"])
        layouts.param_split_shape.add()
        layouts.indices_offset.add()
        layouts.field = 0
        layouts.opt_weight_shard_step = 0
        layouts.opt_weight_shard_size = 0
    return message.SerializeToString(deterministic=True)


def decode_protobuf(content: bytes) -> dict[str, Placed]:
    """The layouts of a protobuf file.

    Raises:
        CheckpointError: the content is not such a message, or holds no layouts; a layout that
            paramesh does not have (see `_placed`).
    """
    from google.protobuf.message import DecodeError

    try:
        message = _strategy_map().FromString(content)
    except DecodeError as error:
        raise CheckpointError(
            "neither JSON nor MindSpore's protobuf of strategies; the file is damaged, or another "
            f"kind of file ({error})."
        ) from error
    found: dict[str, Placed] = {}
    for item in message.parallel_layout_item:
        layouts = item.parallel_layouts
        lists = [[list(e.dim) for e in part] for part in (layouts.dev_matrix, layouts.tensor_map)]
        if [len(part) for part in lists] != [1, 1]:
            raise CheckpointError(
                f"{subject(item.param_name)}expected one device matrix and one tensor map, got "
                f"{lists[0]} and {lists[1]}."
            )
        found[item.param_name] = _placed(
            item.param_name,
            lists[0][0],
            lists[1][0],
            None,
            any(e.dim for e in layouts.param_split_shape),
            layouts.opt_weight_shard_step,
            layouts.opt_weight_shard_size,
        )
    if not found:
        raise CheckpointError("the file holds no layouts of Parameters.")
    return found


def decode_json(content: dict[str, Any]) -> dict[str, Placed]:
    """The layouts of a JSON file.

    Raises:
        CheckpointError: a layout that paramesh does not have (see `_placed`).
        KeyError, TypeError, AttributeError: entries that are missing or of another kind.
    """
    return {
        name: _placed(
            name,
            entry["dev_matrix"],
            entry["tensor_map"],
            entry.get("tensor_shape"),
            bool(entry.get("param_split_shape")),
            entry["opt_weight_shard_step"],
            entry["opt_weight_shard_size"],
        )
        for name, entry in content["parallel_layout_item"].items()
    }


def _placed(
    name: str,
    matrix: list[int],
    tensor_map: list[int],
    shape: list[int] | None,
    uneven: bool,
    step: int,
    size: int,
) -> Placed:
    if uneven:
        raise CheckpointError(
            f"{subject(name)}the file splits it into shards of different sizes "
            "(param_split_shape), but a layout here has equal shards."
        )
    if step > 0 and size < 0:
        raise CheckpointError(
            f"{subject(name)}opt_weight_shard_size is {size}, so it is not known how many replicas "
            "the parallel optimizer shards it over."
        )
    try:
        layout = Layout.from_tensor_map(matrix, tensor_map, name=name)
        layout = with_optimizer_shards(layout, step, size, name)
        if shape is not None:
            layout.slice_shape(shape, name)
    except (LayoutError, TypeError) as error:
        about = "" if subject(name) in str(error) else subject(name)
        raise CheckpointError(f"{about}{error}") from error
    return Placed(None if shape is None else tuple(shape), None, layout)
