"""Optimizers with groups and their schedulers: the cases, and what records them.

`PYTHON tests/support/group_optimizer_cases.py torch|mindspore` prints what torch (of the optimizers
of `mint`) or MindSpore (of `experimental.optim` and the schedulers) computes, which
`tests/golden/group_optimizers.json` has under these names.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

STEPS = 5

#: Of `mint.optim`, with `p` for [w, b]; torch has the same classes.
OF_TORCH = [
    "Adam(p, lr=0.05)",
    "Adam(p, lr=0.05, betas=(0.8, 0.95), eps=0.01, weight_decay=0.1)",
    "Adam(p, lr=0.05, amsgrad=True, maximize=True)",
    "AdamW(p, lr=0.05)",
    "AdamW(p, lr=0.05, weight_decay=0.2, amsgrad=True)",
    "AdamW([{'params': [p[1]], 'lr': 0.5, 'weight_decay': 0.0}, {'params': [p[0]]}], lr=0.05)",
    "SGD(p, lr=0.1)",
    "SGD(p, lr=0.1, weight_decay=0.1, maximize=True)",
    "SGD(p, lr=0.1, momentum=0.9, dampening=0.3)",
    "SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05)",
]

#: Of `experimental.optim`.
OF_MINDSPORE = [
    "Adam(p, lr=0.05)",
    "Adam(p, lr=0.05, betas=(0.8, 0.95), eps=0.01, weight_decay=0.1, maximize=True)",
    "AdamW(p, lr=0.05)",
    "AdamW(p, lr=0.05, weight_decay=0.2, amsgrad=True)",
    "SGD(p, lr=0.1)",
    "SGD(p, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.1)",
    "SGD(p, lr=0.1, momentum=0.9, nesterov=True)",
    "SGD([{'params': [p[1]], 'lr': 0.5}, {'params': [p[0]]}], lr=0.1, momentum=0.9)",
    "Adagrad(p, lr=0.1, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.2)",
    "Adadelta(p, lr=0.5, rho=0.8, weight_decay=0.1)",
    "Adamax(p, lr=0.05, weight_decay=0.1, maximize=True)",
    "RMSprop(p, lr=0.05)",
    "RMSprop(p, lr=0.05, centered=True, momentum=0.5, weight_decay=0.1)",
    "Rprop(p, lr=0.05)",
    "RAdam(p, lr=0.05, betas=(0.8, 0.6), weight_decay=0.1)",
    "NAdam(p, lr=0.05, weight_decay=0.1)",
    "ASGD(p, lr=0.05, lambd=0.01, t0=2.0, weight_decay=0.1)",
]

#: Schedulers, with `o` for SGD of two groups whose rates are 0.5 and 0.1.
SCHEDULERS = [
    "StepLR(o, 3, gamma=0.5)",
    "MultiStepLR(o, [2, 5, 5], gamma=0.5)",
    "ConstantLR(o, factor=0.5, total_iters=4)",
    "LinearLR(o, start_factor=0.2, end_factor=0.8, total_iters=4)",
    "ExponentialLR(o, 0.9)",
    "PolynomialLR(o, total_iters=6, power=2.0)",
    "LambdaLR(o, [lambda e: 0.9**e, lambda e: 1 / (1 + e)])",
    "MultiplicativeLR(o, lambda e: 0.9)",
    "CosineAnnealingLR(o, T_max=4, eta_min=0.01)",
    "CosineAnnealingWarmRestarts(o, 3, 2, eta_min=0.01)",
    "CyclicLR(o, 0.01, 0.1, step_size_up=2, step_size_down=3)",
    "CyclicLR(o, 0.01, [0.1, 0.2], step_size_up=2, mode='triangular2')",
    "CyclicLR(o, 0.01, 0.1, step_size_up=3, mode='exp_range', gamma=0.9)",
    "SequentialLR(o, [ConstantLR(o, 0.1, 2), ExponentialLR(o, 0.9)], [3])",
]
SCHEDULER_STEPS = 12

#: Plateau schedulers, which get `METRICS`.
PLATEAUS = [
    "ReduceLROnPlateau(o, 'min', factor=0.5, patience=1)",
    "ReduceLROnPlateau(o, 'max', factor=0.5, patience=1, threshold=0.05, threshold_mode='abs')",
    "ReduceLROnPlateau(o, 'min', patience=0, cooldown=2, min_lr=[0.2, 0.01])",
]
METRICS = [1.0, 0.9, 0.9, 0.95, 0.7, 0.7, 0.71, 0.69999, 0.8, 0.9, 0.9, 0.9]

#: Epochs at which a scheduler is placed.
PLACED = [
    "StepLR(o, 3, gamma=0.5)",
    "ExponentialLR(o, 0.9)",
    "LinearLR(o, start_factor=0.2, end_factor=0.8, total_iters=4)",
    "PolynomialLR(o, total_iters=6, power=2.0)",
    "CosineAnnealingLR(o, T_max=4, eta_min=0.01)",
    "ConstantLR(o, factor=0.5, total_iters=4)",
]
PLACES = [5, 2, 7]


def start() -> list[np.ndarray]:
    """The values of w and b at the beginning."""
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape).astype(np.float32) for shape in ((3, 2), (2,))]


def gradients() -> list[list[np.ndarray]]:
    """For each step those of w and b."""
    rng = np.random.default_rng(2)
    return [
        [rng.normal(size=shape).astype(np.float32) for shape in ((3, 2), (2,))]
        for _ in range(STEPS)
    ]


def _of_torch() -> dict[str, Any]:
    import torch  # pyright: ignore[reportMissingImports]

    found: dict[str, Any] = {}
    for case in OF_TORCH:
        p = [torch.nn.Parameter(torch.tensor(value)) for value in start()]
        optimizer = eval(case, {**vars(torch.optim), "p": p})
        for grads in gradients():
            for param, grad in zip(p, grads, strict=True):
                param.grad = torch.tensor(grad)
            optimizer.step()
        found[case] = [param.detach().numpy().tolist() for param in p]
    return {"torch": found}


def _of_mindspore() -> dict[str, Any]:
    import mindspore as ms  # pyright: ignore[reportMissingImports]
    from mindspore.experimental import optim  # pyright: ignore[reportMissingImports]

    found: dict[str, Any] = {}
    for case in OF_MINDSPORE:
        p = [ms.Parameter(ms.Tensor(v), name=n) for v, n in zip(start(), "wb", strict=True)]
        optimizer = eval(case, {**vars(optim), "p": p})
        by_id = {id(param): i for i, param in enumerate(p)}
        order = [by_id[id(param)] for param in optimizer.parameters]
        for grads in gradients():
            optimizer(tuple(ms.Tensor(grads[i]) for i in order))
        found[case] = [param.asnumpy().tolist() for param in p]
    return {"mindspore": found, **scheduled(ms, optim)}


def scheduled(ms: Any, optim: Any) -> dict[str, Any]:
    """The rates of both groups after each step of each scheduler, of MindSpore or of paramesh."""

    def make(case: str) -> tuple[Any, Any]:
        p = [ms.Parameter(ms.Tensor(v), name=n) for v, n in zip(start(), "wb", strict=True)]
        o = optim.SGD([{"params": [p[0]], "lr": 0.5}, {"params": [p[1]]}], lr=0.1)
        return o, eval(case, {**vars(optim.lr_scheduler), "o": o})

    def rates(o: Any) -> list[float]:
        return [float(group["lr"].asnumpy()) for group in o.param_groups]

    stepped: dict[str, Any] = {}
    for case in SCHEDULERS:
        o, scheduler = make(case)
        rows = [rates(o)]
        for _ in range(SCHEDULER_STEPS):
            scheduler.step()
            rows.append(rates(o))
        stepped[case] = rows
    plateaus: dict[str, Any] = {}
    for case in PLATEAUS:
        o, scheduler = make(case)
        plateaus[case] = []
        for metric in METRICS:
            scheduler.step(ms.Tensor(metric, ms.float32))
            plateaus[case].append(rates(o))
    placed: dict[str, Any] = {}
    for case in PLACED:
        o, scheduler = make(case)
        placed[case] = []
        for epoch in PLACES:
            scheduler.step(ms.Tensor(float(epoch), ms.float32))
            placed[case].append(rates(o))
    return {"stepped": stepped, "plateaus": plateaus, "placed": placed}


if __name__ == "__main__":
    recorded = _of_torch() if sys.argv[1] == "torch" else _of_mindspore()
    print(json.dumps(recorded))
