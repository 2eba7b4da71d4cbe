"""The values of several Parameters at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from paramesh.parameter.parameter import Parameter
from paramesh.parameter.parameter_tuple import ParameterTuple
from paramesh.parameter.value import materialise
from paramesh.state import storage
from paramesh.tensor.base import Tensor


def snapshot(parameters: Any) -> dict[str, Tensor]:
    """The values of Parameters, all of one step, whatever other threads train meanwhile.

    The arrays are not copied; the next step that would reuse their memory copies them instead.
    Recipes are run.

    Args:
        parameters: a Cell, an optimizer, or Parameters.

    Returns:
        {name: Tensor}, in the order given; later steps do not change them.

    Raises:
        TypeError: there is something else among them.
        DuplicateNameError: two different Parameters have one name.
    """
    found: Iterable[Any] = parameters
    if hasattr(parameters, "get_parameters"):
        found = parameters.get_parameters()
    elif isinstance(parameters, Parameter):
        found = (parameters,)
    params = ParameterTuple(dict.fromkeys(found))
    materialise(params)
    return dict(zip((p.name for p in params), storage.still(params, Parameter.value), strict=True))
