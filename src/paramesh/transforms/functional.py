"""JAX transforms over Cells and functions that use Parameters.

Reading Parameters inside `jax.vmap`, `jax.lax.scan` and the like needs nothing. Writing them
(moving averages) does: use the functions here, or make the network pure with `functional_call`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from paramesh.errors import HOW_TO_RENAME, DuplicateNameError
from paramesh.parameter import Parameter, Pool
from paramesh.state import tracing
from paramesh.tensor.base import TensorInput, as_value, raw, wrap
from paramesh.tensor.promotion import scalar_kind
from paramesh.transforms.bodies import lifted
from paramesh.transforms.reachability import parameters_of


@tracing.public_call
def functional_call(
    fn: Callable[..., Any],
    values: Mapping[str, TensorInput],
    *args: object,
    mutable: bool = False,
    **kwargs: object,
) -> Any:
    """Call a Cell (or function) with other values for its Parameters, which stay as they are.

    Args:
        fn: a Cell, or a function from which Parameters are reachable.
        values: {full name: Tensor or array}; Parameters not named keep their present values.
        *args: of the call.
        **kwargs: of the call.
        mutable: also return what the call wrote: (output, {full name: Tensor}).

    Returns:
        The output, a pure function of `values` and the arguments: safe under any JAX transform.

    Raises:
        TypeError: `values` is not a mapping.
        KeyError: `values` names no Parameter of `fn`; the message lists the names.
        ValueError: a value has another shape than its Parameter.
    """
    if not isinstance(values, Mapping):
        raise TypeError(
            f"functional_call: values must be {{full name: Tensor or array}}, got "
            f"{type(values).__name__}. The arguments are functional_call(fn, values, *inputs); "
            "{} stands for the present values."
        )
    by_name: dict[str, Parameter] = {}
    for param in parameters_of(fn):
        other = by_name.setdefault(param.name, param)
        if other is not param:
            raise DuplicateNameError(
                f"functional_call: two different Parameters are named '{param.name}'. "
                f"{HOW_TO_RENAME}"
            )
    overlay: dict[Parameter, Any] = {}
    for name, value in values.items():
        if name not in by_name:
            raise KeyError(
                f"functional_call: there is no Parameter '{name}'. "
                f"Names: {', '.join(sorted(by_name)) or '(none)'}."
            )
        param = by_name[name]
        array = raw(value) if scalar_kind(value) is None else as_value(value, param.dtype)
        if tuple(array.shape) != param.shape:
            raise ValueError(
                f"functional_call: Parameter '{name}' has shape {param.shape}, "
                f"got {tuple(array.shape)}."
            )
        overlay[param] = array
    with tracing.overlay(overlay) as frame:
        out = fn(*args, **kwargs)
    if not mutable:
        return out
    written: dict[Parameter, None] = {}
    for state in frame.written:
        params: list[Any] = [p for _, p in state.entries()] if isinstance(state, Pool) else [state]
        written.update(dict.fromkeys(params))
    return out, {p.name: wrap(frame.get(p)) for p in written}


def remat(fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.checkpoint` (rematerialisation) of a Cell or function that may write Parameters.

    Args:
        fn: a Cell or function.
        options: passed to `jax.checkpoint` (`policy`, `prevent_cse`, …).
    """
    return lifted(lambda pure: jax.checkpoint(pure, **options), fn)
