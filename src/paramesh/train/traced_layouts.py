"""The layouts of a network's Parameters in a program that is traced and not run."""

from __future__ import annotations

from typing import Any

from paramesh import context
from paramesh.errors import ContextError
from paramesh.nn.cell import Cell

_MODES = ("semi_auto_parallel", "auto_parallel")


def traced_layouts(network: Cell, inputs: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """{name: layout} of `Cell.parameter_layout_dict`, once the network was traced on its inputs.

    Raises:
        ContextError: a mode in which programs do not decide layouts.
    """
    mode = context.get_auto_parallel_context("parallel_mode")
    if mode not in _MODES:
        raise ContextError(
            "layouts of Parameters are inferred with parallel_mode="
            f"{' or '.join(map(repr, _MODES))}, but it is {mode!r}. In other modes each device "
            "holds all of them."
        )
    if context.get_context("mode") == context.PYNATIVE_MODE:
        raise ContextError(
            "layouts of Parameters are inferred from a compiled program. Set "
            "paramesh.set_context(mode=paramesh.GRAPH_MODE)."
        )
    network.compile(*inputs)
    return network.parameter_layout_dict
