# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from typing import Any as Any
__all__ = ['AppendedNumber', 'ExportedProgram', 'LeftOutWarning', 'SaveHandle', 'build_searched_strategy', 'by_layer', 'export', 'load_checkpoint', 'load_distributed_checkpoint', 'load_exported', 'load_param_into_net', 'merge_sliced_parameter', 'rank_list_for_transform', 'save_checkpoint', 'transform_checkpoint_by_rank', 'transform_checkpoints']
from paramesh import lazy_names as lazy_names
from paramesh.checkpoint import background as background
from paramesh.checkpoint import compare as compare
from paramesh.checkpoint import conversion as conversion
from paramesh.checkpoint import exported as exported
from paramesh.checkpoint import formats as formats
from paramesh.checkpoint import gc_pause as gc_pause
from paramesh.checkpoint import left_out as left_out
from paramesh.checkpoint import load as load
from paramesh.checkpoint import onnx_model as onnx_model
from paramesh.checkpoint import opening as opening
from paramesh.checkpoint import ranks as ranks
from paramesh.checkpoint import records as records
from paramesh.checkpoint import removal as removal
from paramesh.checkpoint import save as save
from paramesh.checkpoint import sharded as sharded
from paramesh.checkpoint import stacks as stacks
from paramesh.checkpoint import staging as staging
from paramesh.checkpoint.background import SaveHandle as SaveHandle
from paramesh.checkpoint.exported import ExportedProgram as ExportedProgram
from paramesh.checkpoint.exported import export as export
from paramesh.checkpoint.exported import load_exported as load_exported
from paramesh.checkpoint.left_out import LeftOutWarning as LeftOutWarning
from paramesh.checkpoint.load import load_checkpoint as load_checkpoint
from paramesh.checkpoint.load import load_param_into_net as load_param_into_net
from paramesh.checkpoint.ranks.distributed import build_searched_strategy as build_searched_strategy
from paramesh.checkpoint.ranks.distributed import load_distributed_checkpoint as load_distributed_checkpoint
from paramesh.checkpoint.ranks.distributed import merge_sliced_parameter as merge_sliced_parameter
from paramesh.checkpoint.ranks.transform import rank_list_for_transform as rank_list_for_transform
from paramesh.checkpoint.ranks.transform import transform_checkpoint_by_rank as transform_checkpoint_by_rank
from paramesh.checkpoint.ranks.transform import transform_checkpoints as transform_checkpoints
from paramesh.checkpoint.records import AppendedNumber as AppendedNumber
from paramesh.checkpoint.save import save_checkpoint as save_checkpoint
from paramesh.checkpoint.stacks import by_layer as by_layer
