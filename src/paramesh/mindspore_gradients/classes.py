"""How an operator of gradients comes from a computation, and derivatives of operators.

Each class is made with its settings and called with Tensors, like those of `paramesh.ops`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.ops.table import Kind, Operator, Primitive, operator_of


def no_settings() -> dict[str, Any]:
    """The settings of a class that takes none."""
    return {}


def gradient(
    module: dict[str, Any],
    name: str,
    compute: Callable[..., Any],
    init: Callable[..., dict[str, Any]] = no_settings,
) -> None:
    """Offer a class; it is not in the table of operators, since it is no public operator.

    Args:
        module: the globals of the module that it is in, with its `__all__`.
        name: of the class.
        compute: its computation on raw values.
        init: takes the class's settings and gives the keyword arguments of `compute`.
    """
    kinds = {
        parameter: mark
        for parameter, hint in compute.__annotations__.items()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, Kind)
    }
    module[name] = type(
        name,
        (Primitive,),
        {
            "__module__": module["__name__"],
            "__doc__": compute.__doc__,
            "operator": Operator(name, compute, kinds),
            "_init": staticmethod(init),
        },
    )
    module["__all__"].append(name)


def pulled(fn: Callable[..., Any], dy: jax.Array, *at: jax.Array) -> Any:
    """`dy` times the derivatives of `fn` by each argument; one value for one argument."""
    out, back = jax.vjp(fn, *at)
    if tuple(out.shape) != tuple(dy.shape):
        raise ValueError(
            f"the gradient must be of the output's shape {tuple(out.shape)}, got {tuple(dy.shape)}."
        )
    # Of complex numbers MindSpore has the conjugate derivative.
    found = [jnp.conj(each) for each in back(jnp.conj(dy.astype(out.dtype)))]
    return found[0] if len(found) == 1 else tuple(found)


def computation(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The computation of an operator on raw values."""
    return operator_of(fn).compute
