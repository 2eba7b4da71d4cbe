"""Cells: layers, losses and networks that own Parameters."""

from paramesh.nn.cell import Cell, no_init_parameters
from paramesh.nn.containers import CellDict, CellList, SequentialCell

__all__ = ["Cell", "CellDict", "CellList", "SequentialCell", "no_init_parameters"]
