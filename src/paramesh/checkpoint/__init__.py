"""Checkpoints: Parameters at rest, in files keyed by their names."""

from paramesh.checkpoint.background import SaveHandle
from paramesh.checkpoint.load import load_checkpoint, load_param_into_net
from paramesh.checkpoint.records import AppendedNumber
from paramesh.checkpoint.save import save_checkpoint

__all__ = [
    "AppendedNumber",
    "SaveHandle",
    "load_checkpoint",
    "load_param_into_net",
    "save_checkpoint",
]
