"""Checkpoints: Parameters stored in files, by name."""

from paramesh.checkpoint.background import SaveHandle
from paramesh.checkpoint.exported import ExportedProgram, export, load_exported
from paramesh.checkpoint.left_out import LeftOutWarning
from paramesh.checkpoint.load import load_checkpoint, load_param_into_net
from paramesh.checkpoint.ranks.distributed import (
    build_searched_strategy,
    load_distributed_checkpoint,
    merge_sliced_parameter,
)
from paramesh.checkpoint.ranks.transform import (
    rank_list_for_transform,
    transform_checkpoint_by_rank,
    transform_checkpoints,
)
from paramesh.checkpoint.records import AppendedNumber
from paramesh.checkpoint.save import save_checkpoint

__all__ = [
    "AppendedNumber",
    "ExportedProgram",
    "LeftOutWarning",
    "SaveHandle",
    "export",
    "load_checkpoint",
    "load_exported",
    "load_param_into_net",
    "save_checkpoint",
    "build_searched_strategy",
    "load_distributed_checkpoint",
    "merge_sliced_parameter",
    "rank_list_for_transform",
    "transform_checkpoint_by_rank",
    "transform_checkpoints",
]
