"""Conversion of checkpoints: format, element type, names and layouts of weights."""

from paramesh.checkpoint.conversion.converter import Conversion, Converted, convert
from paramesh.checkpoint.conversion.layer_kinds import kinds_of
from paramesh.checkpoint.conversion.renaming import Renaming

__all__ = ["Conversion", "Converted", "Renaming", "convert", "kinds_of"]
