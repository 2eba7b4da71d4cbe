"""The values of several Parameters at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from paramesh.parameter.parameter import Parameter
from paramesh.parameter.parameter_tuple import ParameterTuple
from paramesh.parameter.value import materialise
from paramesh.state import storage
from paramesh.tensor.base import Tensor


@runtime_checkable
class HasParameters(Protocol):
    """A Cell or an optimizer."""

    def get_parameters(self) -> Iterable[Parameter]:
        """Its Parameters."""
        ...


def snapshot(parameters: Parameter | HasParameters | Iterable[Parameter]) -> dict[str, Tensor]:
    """The values of Parameters, all of the same step, even while other threads train.

    The arrays are not copied; the next step that would reuse their memory copies them instead.
    Declared Parameters are materialised.

    Args:
        parameters: a Cell, an optimizer, or Parameters.

    Returns:
        {name: Tensor}, in the order given; later steps do not change them.

    Raises:
        TypeError: one is not a Parameter.
        DuplicateNameError: two different Parameters have one name.
    """
    if isinstance(parameters, Parameter):
        found: Iterable[Parameter] = (parameters,)
    elif isinstance(parameters, HasParameters):
        found = parameters.get_parameters()
    else:
        found = parameters
    params = ParameterTuple(dict.fromkeys(found))
    materialise(params)
    return dict(zip((p.name for p in params), storage.still(params, Parameter.value), strict=True))
