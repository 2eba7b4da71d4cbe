"""Parameters: Tensors with a name, a recipe, a value and a place."""

from paramesh.parameter.data import check_storable
from paramesh.parameter.hooks import HookHandle
from paramesh.parameter.names import DEFAULT_NAME, check_name
from paramesh.parameter.parameter import Parameter
from paramesh.parameter.parameter_tuple import ParameterTuple
from paramesh.parameter.pool import (
    Dissolved,
    FlatLayout,
    Pool,
    form_waiting,
    forming,
    is_fully_replicated,
    ranks_of,
    state_of,
    waiting,
)
from paramesh.parameter.slicing import check_strategy
from paramesh.parameter.snapshot import snapshot
from paramesh.parameter.value import materialise

__all__ = [
    "DEFAULT_NAME",
    "Dissolved",
    "HookHandle",
    "Parameter",
    "ParameterTuple",
    "FlatLayout",
    "Pool",
    "check_name",
    "check_storable",
    "check_strategy",
    "form_waiting",
    "forming",
    "is_fully_replicated",
    "materialise",
    "ranks_of",
    "snapshot",
    "state_of",
    "waiting",
]
