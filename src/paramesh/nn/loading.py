"""Whether values fit the Parameters that they are to be loaded into, asked before any is loaded."""

from __future__ import annotations

from collections.abc import Mapping

from paramesh.errors import ParameterDtypeError, ParameterShapeError
from paramesh.parameter import Parameter
from paramesh.parameter.data import check_storable
from paramesh.tensor.base import Tensor


def check_all(owner: str, params: Mapping[str, Parameter], values: Mapping[str, object]) -> None:
    """Raise unless every value can be given to the Parameter of its path.

    Args:
        owner: who loads, for the message.
        params: {path: Parameter}.
        values: {path: value}; paths without a Parameter are not looked at.

    Raises:
        TypeError: a value is neither a Tensor nor a number.
        ParameterShapeError, ParameterDtypeError: values do not fit; all of them are listed.
    """
    lines: list[str] = []
    kind: type[ParameterShapeError] | type[ParameterDtypeError] = ParameterDtypeError
    for path, param in params.items():
        value = values.get(path)
        if path not in values or isinstance(value, int | float):
            continue
        if not isinstance(value, Tensor):
            what = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
            raise TypeError(
                f"{owner} takes Tensors, but '{path}' is {what.removeprefix('builtins.')}. "
                "Arrays of numpy, JAX and torch become Tensors with "
                "{path: Tensor(value) for path, value in state.items()}. Nothing was loaded."
            )
        if value.shape != param.shape:
            kind = ParameterShapeError
            lines.append(f"  {path}: shape {value.shape}, but the Parameter has {param.shape}")
            continue
        try:
            check_storable(param.name, param.dtype, value.dtype)
        except ParameterDtypeError as error:
            lines.append(f"  {path}: {error}")
    if lines:
        head = f"{owner}: these values do not fit, and nothing was loaded."
        raise kind("\n".join([head, *lines]))
