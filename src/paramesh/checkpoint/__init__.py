"""Checkpoints: Parameters stored in files, by name."""

from typing import TYPE_CHECKING

from paramesh import lazy_names

if TYPE_CHECKING:
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
    from paramesh.checkpoint.stacks import by_layer

__all__ = [
    "AppendedNumber",
    "ExportedProgram",
    "LeftOutWarning",
    "SaveHandle",
    "by_layer",
    "ckpt_to_safetensors",
    "export",
    "load_checkpoint",
    "load_exported",
    "load_param_into_net",
    "safetensors_to_ckpt",
    "save_checkpoint",
    "build_searched_strategy",
    "load_distributed_checkpoint",
    "merge_sliced_parameter",
    "rank_list_for_transform",
    "transform_checkpoint_by_rank",
    "transform_checkpoints",
]

#: Servers read and write the formats alone, and start without the rest.
__getattr__ = lazy_names.opened(
    __name__,
    lazy_names.homes(
        {
            "paramesh.checkpoint.background": "SaveHandle",
            "paramesh.checkpoint.converted_folders": "ckpt_to_safetensors safetensors_to_ckpt",
            "paramesh.checkpoint.exported": "ExportedProgram export load_exported",
            "paramesh.checkpoint.left_out": "LeftOutWarning",
            "paramesh.checkpoint.load": "load_checkpoint load_param_into_net",
            "paramesh.checkpoint.ranks.distributed": (
                "build_searched_strategy load_distributed_checkpoint merge_sliced_parameter"
            ),
            "paramesh.checkpoint.ranks.transform": (
                "rank_list_for_transform transform_checkpoint_by_rank transform_checkpoints"
            ),
            "paramesh.checkpoint.records": "AppendedNumber",
            "paramesh.checkpoint.save": "save_checkpoint",
            "paramesh.checkpoint.stacks": "by_layer",
        }
    ),
    lambda: __all__,
)
