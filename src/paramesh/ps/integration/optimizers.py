"""Optimizers that servers support: the update rule is sent once, hyperparameters in every push."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from paramesh.array_types import Array
from paramesh.errors import OptimizerError
from paramesh.optim import (
    FTRL,
    SGD,
    Adagrad,
    Adam,
    AdamWeightDecay,
    Lion,
    Momentum,
    RMSProp,
    RowwiseAdagrad,
    RowwiseAdam,
)
from paramesh.optim.adam import AdamOffload, LazyAdam
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.ps.specification.specs import is_table
from paramesh.tensor.base import raw


def _adam(opt: Adam | LazyAdam | AdamOffload) -> dict[str, Any]:
    return {
        "rule": "Adam",
        "b1": opt.beta1,
        "b2": opt.beta2,
        "eps": opt.eps,
        "nesterov": opt.use_nesterov,
        "amsgrad": opt.use_amsgrad,
    }


_RULES: dict[type, Callable[[Any], dict[str, Any]]] = {
    SGD: lambda opt: {
        "rule": "SGD",
        "momentum": opt._has_momentum,
        "dampening": opt.dampening,
        "nesterov": opt.nesterov,
    },
    Momentum: lambda opt: {"rule": "Momentum", "nesterov": opt.use_nesterov},
    Adam: _adam,
    LazyAdam: _adam,
    AdamOffload: _adam,
    AdamWeightDecay: lambda opt: {
        "rule": "AdamWeightDecay",
        "b1": opt.beta1,
        "b2": opt.beta2,
        "eps": opt.eps,
    },
    Adagrad: lambda opt: {
        "rule": "Adagrad",
        "accum": opt.first_accum,
        "update_slots": opt.update_slots,
    },
    RMSProp: lambda opt: {
        "rule": "RMSProp",
        "decay": opt.decay,
        "momentum": opt.momentum,
        "eps": opt.epsilon,
        "centered": opt.centered,
    },
    RowwiseAdagrad: lambda opt: {
        "rule": "RowwiseAdagrad",
        "accum": opt.first_accum,
        "eps": opt.epsilon,
    },
    RowwiseAdam: lambda opt: {
        "rule": "RowwiseAdam",
        "b1": opt.beta1,
        "b2": opt.beta2,
        "eps": opt.eps,
    },
    Lion: lambda opt: {"rule": "Lion", "b1": opt.beta1, "b2": opt.beta2},
    FTRL: lambda opt: {
        "rule": "FTRL",
        "initial_accum": opt.first_accum,
        "lr_power": opt.lr_power,
        "l1": opt.l1,
        "l2": opt.l2,
    },
}


def states_of(optimizer: Any, at: int) -> dict[str, Parameter]:
    """The Parameters on this worker that would hold the state for a Parameter, by slot."""
    found: dict[str, Parameter] = {}
    for slot in optimizer.slots()[1].values():
        state = getattr(optimizer, slot)
        if isinstance(state, ParameterTuple):
            found[slot] = state[at]
    return found


def check_optimizer(optimizer: Any, params: list[Parameter]) -> None:
    """Raise if no server can update these Parameters as the optimizer would.

    Raises:
        OptimizerError: there are some, and servers do not support the optimizer, or it centralizes
            the gradient of one.
    """
    if params and type(optimizer) not in _RULES:
        raise OptimizerError(
            f"{type(optimizer).__name__} trains Parameter '{params[0].name}', which lives on the "
            "parameter server, and the server does not have this optimizer. It has "
            f"{', '.join(kind.__name__ for kind in _RULES)}."
        )
    for param in params:
        if isinstance(optimizer, RowwiseAdagrad | RowwiseAdam) and not is_table(param):
            raise OptimizerError(
                f"{type(optimizer).__name__} trains Parameter '{param.name}', which lives on the "
                "parameter server and is not a table: pieces of it on servers have no rows. Use "
                "set_param_ps(init_in_server=True) for tables, and another optimizer (such as "
                "Adagrad) for this Parameter."
            )
    served = set(params)
    for param, centralize in zip(optimizer._parameters, optimizer._centralize, strict=True):
        # Of fewer axes there is nothing to centralize (`optim.optimizer.centralized`).
        if centralize and param in served and len(param.shape) >= 3:
            raise OptimizerError(
                f"Parameter '{param.name}' lives on the parameter server, which does not "
                "centralize gradients: leave grad_centralization out of its group."
            )


def update_rule_spec(optimizer: Any, at: int) -> dict[str, Any]:
    """The optimizer's spec (see `rules.make_update_rule`) for its Parameter at an index."""
    spec = _RULES[type(optimizer)](optimizer)
    return spec | {"group": group_name(optimizer, at), "decays": bool(optimizer.decay_flags[at])}


def group_name(optimizer: Any, at: int) -> str:
    """By what name a group's numbers go: that of its first Parameter."""
    first = optimizer._group_of.index(optimizer._group_of[at])
    return optimizer._parameters[first].name


def numbers(optimizer: Any, indices: list[int]) -> tuple[list[str], Any]:
    """The numbers of a push, by name, and their values as one raw Float32 vector; traceable."""
    rates, decays = optimizer._rates(), optimizer._decays()
    found: dict[str, Any] = {"global_step": raw(optimizer.global_step)[0]}
    for at in indices:
        group = group_name(optimizer, at)
        found[f"learning_rate.{group}"] = rates[at]
        if optimizer.decay_flags[at]:
            found[f"weight_decay.{group}"] = decays[at]
        momentum = getattr(optimizer, "momentum", None)
        if isinstance(momentum, Parameter):
            found[f"momentum.{group}"] = raw(momentum)
    values = [jnp.asarray(value, jnp.float32).reshape(()) for value in found.values()]
    return list(found), jnp.stack(values)


def prepared(optimizer: Any, at: int, grad: Array, workers: int) -> Any:
    """A raw gradient as it is pushed: no loss scale, a worker's share of the mean; traceable."""
    factor = optimizer.reciprocal_scale if optimizer._preprocesses else 1.0
    factor /= workers
    return grad if factor == 1.0 else grad * factor
