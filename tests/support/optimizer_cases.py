"""What the optimizers' tests share: golden trajectories and a table of every optimizer."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

import goldens
import paramesh.dtype as mstype
from paramesh import optim
from paramesh.mint import optim as mint_optim
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.tensor import Tensor

GOLDEN = goldens.load("optimizers")
ARRAYS = goldens.arrays("optimizers")
STEPS = GOLDEN["meta"]["steps"]
DIFFERENCES = {(d["area"], d["case"]) for d in goldens.load("differences_optimizers")}
CASES = {k: v for k, v in GOLDEN["cases"].items() if "error" not in v}

#: One expression for every optimizer and variant with code of its own; `p` is [w, b].
EVERY = {
    "SGD": "nn.SGD(p, 0.1)",
    "SGD momentum": "nn.SGD(p, 0.1, momentum=0.9, dampening=0.3, weight_decay=0.05)",
    "SGD nesterov": "nn.SGD(p, 0.1, momentum=0.9, nesterov=True)",
    "Momentum": "nn.Momentum(p, 0.1, 0.9)",
    "Momentum nesterov": "nn.Momentum(p, 0.1, 0.9, use_nesterov=True, loss_scale=8.0)",
    "Adam": "nn.Adam(p, 0.05)",
    "Adam amsgrad": "nn.Adam(p, 0.05, use_nesterov=True, use_amsgrad=True)",
    "AdamWeightDecay": "nn.AdamWeightDecay(p, 0.05, weight_decay=0.1)",
    "AdaMax": "nn.AdaMax(p, 0.05)",
    "Adagrad": "nn.Adagrad(p, learning_rate=0.1)",
    "Adagrad frozen": "nn.Adagrad(p, learning_rate=0.1, update_slots=False)",
    "ProximalAdagrad": "nn.ProximalAdagrad(p, learning_rate=0.1, l1=0.01, l2=0.02)",
    "RMSProp": "nn.RMSProp(p, 0.05, momentum=0.9)",
    "RMSProp centered": "nn.RMSProp(p, 0.05, centered=True)",
    "Adadelta": "nn.Adadelta(p, 0.5)",
    "FTRL": "nn.FTRL(p, learning_rate=0.1, l1=0.01, l2=0.02)",
    "ASGD": "nn.ASGD(p, 0.05, lambd=0.01, t0=2.0)",
    "Rprop": "nn.Rprop(p, 0.05)",
    "AdaFactor": "nn.AdaFactor(p)",
    "AdaFactor plain": "nn.AdaFactor(p, 0.05, beta1=None, scale_parameter=False, "
    "relative_step=False)",
    "Lamb": "nn.Lamb(p, 0.05, weight_decay=0.1)",
    "Lion": "nn.Lion(p, 0.05, weight_decay=0.1, loss_scale=4.0)",
    "RowwiseAdagrad": "nn.RowwiseAdagrad(p, 0.05, 0.1, weight_decay=0.1)",
    "RowwiseAdam": "nn.RowwiseAdam(p, 0.05, weight_decay=0.1)",
    "LARS": "nn.LARS(nn.Momentum(p, 0.1, 0.9, weight_decay=0.05), coefficient=0.02)",
    "groups": "nn.Momentum([{'params': [p[1]], 'lr': [0.1, 0.05, 0.02, 0.01, 0.01, 0.01]},"
    " {'params': [p[0]], 'weight_decay': 0.1}, {'order_params': p}], 0.1, 0.9)",
    "schedules": "nn.SGD(p, nn.WarmUpLR(0.1, 3), weight_decay=nn.ExponentialDecayLR(0.1, 0.5, 2))",
    "mint.Adam": "mint.Adam(p, 0.05, weight_decay=0.1, amsgrad=True)",
    "mint.AdamW groups": "mint.AdamW([{'params': [p[0]], 'lr': 0.1, 'betas': (0.8, 0.9)},"
    " {'params': [p[1]]}], 0.05)",
    "mint.SGD": "mint.SGD(p, 0.1, momentum=0.9, dampening=0.3, weight_decay=0.05)",
    "from_optax": "nn.from_optax(optax.adamw(optax.cosine_decay_schedule(0.1, 9)), p)",
    "from_optax rate": "nn.from_optax(optax.chain(optax.clip_by_global_norm(1.0), "
    "optax.scale_by_lion()), p, learning_rate=0.01, weight_decay=0.1)",
}


def make(expr: str, params: Any) -> Any:
    """The optimizer of an expression over Parameters."""
    import optax

    scope = {
        "nn": optim,
        "mint": mint_optim,
        "p": params,
        "np": np,
        "ms": mstype,
        "optax": optax,
        "Tensor": Tensor,
        "Parameter": Parameter,
        "ParameterTuple": ParameterTuple,
    }
    return eval(expr, scope)


def start(names: Any = ("w", "b")) -> list[Parameter]:
    """The two Parameters from which the golden trajectories start."""
    values = (ARRAYS["w0"], ARRAYS["b0"])
    return [Parameter(Tensor(v), name=n) for v, n in zip(values, names, strict=True)]


def gradients(step: int, optimizer: Any, params: list[Parameter], scale: float = 1.0) -> Any:
    """The golden gradients of a step in the order of the optimizer."""
    by_id = {id(params[0]): "gw", id(params[1]): "gb"}
    return tuple(
        Tensor(ARRAYS[by_id[id(p)]][step] * np.float32(scale)) for p in optimizer.parameters
    )


class Run(NamedTuple):
    """Values after each step, and the state after the last."""

    optimizer: Any
    before: dict[str, Any]
    values: dict[str, np.ndarray]
    state: dict[str, np.ndarray]


def states(optimizer: Any, params: Any) -> dict[str, Parameter]:
    """{attribute path: state Parameter}."""
    own = set(params)
    return {k: q for k, q in optimizer.parameters_and_names() if q not in own}


def follow(expr: str, names: Any = ("w", "b"), scale: float = 1.0, steps: int = STEPS) -> Run:
    """Run an expression along the golden gradients."""
    params = start(names)
    optimizer = make(expr, params)
    before = {
        k: (q.name, q.shape, str(q.dtype), q.requires_grad, q.has_init)
        for k, q in states(optimizer, params).items()
    }
    values: dict[str, list[np.ndarray]] = {"w": [], "b": []}
    for step in range(steps):
        optimizer(gradients(step, optimizer, params, scale))
        for key, param in zip(values, params, strict=True):
            values[key].append(param.asnumpy())
    after = {q.name: q.asnumpy() for q in states(optimizer, params).values()}
    return Run(optimizer, before, {k: np.stack(v) for k, v in values.items()}, after)


@functools.cache
def golden_run(case: str) -> Run:
    """The run of a golden case."""
    record = GOLDEN["cases"][case]
    scale = 1024.0 if "loss_scale" in case else 1.0
    return follow(record["expr"], tuple(record.get("names", ("w", "b"))), scale)


def close(actual: Any, expected: Any, tolerance: float = 1e-6) -> None:
    """Equal within a tolerance relative to the largest element."""
    expected = np.asarray(expected, np.float64)
    reach = max(np.abs(expected).max(initial=0.0), 1e-30)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * reach)
