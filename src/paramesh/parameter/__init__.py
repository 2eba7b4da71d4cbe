"""Parameters: Tensors with a name, a recipe, a value and a place."""

from paramesh.parameter.collection import ParameterTuple
from paramesh.parameter.contents import check_storable
from paramesh.parameter.names import DEFAULT_NAME, check_name
from paramesh.parameter.parameter import HookHandle, Parameter, materialise

__all__ = [
    "DEFAULT_NAME",
    "HookHandle",
    "Parameter",
    "ParameterTuple",
    "check_name",
    "check_storable",
    "materialise",
]
