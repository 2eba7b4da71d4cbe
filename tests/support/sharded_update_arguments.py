"""Arguments for operators that write Parameters, large enough to shard over eight devices."""

from __future__ import annotations

from typing import Any

import numpy as np

from sharded_arguments import X, Y, f, i

_RATES = (0.9, 0.999, 0.01, 0.9, 0.999, 1e-8)
#: Eight rows are written in four places, one of them twice.
_ROWS = np.array([0, 2, 2, 7], np.int32)


def state(count: int) -> tuple[np.ndarray, ...]:
    """Values of so many Parameters; all but the first are far from zero."""
    return (X, *(f(8, 16) + 0.1 for _ in range(count - 1)))


#: Class name -> (how many of the first operands it writes, arguments, settings).
WRITING: dict[str, tuple[int, tuple[Any, ...], dict[str, Any]]] = {
    **{name: (1, (X, f(8, 16)), {}) for name in ("Assign", "AssignAdd", "AssignSub")},
    # Steps of optimizers.
    "Adam": (3, (*state(3), *_RATES, Y), {}),
    "AdamWeightDecay": (3, (*state(3), 0.01, 0.9, 0.999, 1e-8, 0.1, Y), {}),
    "ApplyAdaMax": (3, (*state(3), 0.81, 0.1, 0.9, 0.99, 1e-3, Y), {}),
    "ApplyAdadelta": (3, (*state(3), 0.1, 0.9, 1e-3, Y), {}),
    "ApplyAdagrad": (2, (*state(2), 0.01, Y), {}),
    "ApplyAdagradV2": (2, (*state(2), 0.1, Y), {"epsilon": 1e-3}),
    "ApplyAdamWithAmsgrad": (4, (*state(4), 0.81, 0.98, 0.1, Y), {}),
    "ApplyAddSign": (2, (*state(2), 0.1, 1.5, 0.7, 0.9, Y), {}),
    "ApplyCenteredRMSProp": (4, (X, f(8, 16) / 9, *state(3)[1:], Y, 0.1, 0.9, 0.5, 1.0), {}),
    "ApplyFtrl": (3, (*state(3), Y, 0.1, 0.3, 0.2, -0.5), {}),
    "ApplyGradientDescent": (1, (X, 0.01, Y), {}),
    "ApplyMomentum": (2, (*state(2), 0.01, Y, 0.9), {"use_nesterov": True}),
    "ApplyPowerSign": (2, (*state(2), 0.1, 1.5, 0.7, 0.9, Y), {}),
    "ApplyProximalAdagrad": (2, (*state(2), 0.1, 0.3, 0.2, Y), {}),
    "ApplyProximalGradientDescent": (1, (X, 0.1, 0.3, 0.2, Y), {}),
    "ApplyRMSProp": (3, (*state(3), 0.01, Y, 0.9, 0.5, 1e-6), {}),
    # Steps on some rows.
    "FusedSparseAdam": (3, (*state(3), *_RATES, f(4, 16), _ROWS), {}),
    "FusedSparseFtrl": (
        3,
        (*state(3), f(4, 16), _ROWS),
        {"lr": 0.1, "l1": 0.3, "l2": 0.2, "lr_power": -0.5},
    ),
    "FusedSparseLazyAdam": (3, (*state(3), *_RATES, f(4, 16), _ROWS), {}),
    "FusedSparseProximalAdagrad": (2, (*state(2), 0.1, 0.3, 0.2, f(4, 16), _ROWS), {}),
    "SparseApplyAdagrad": (2, (*state(2), f(4, 16), _ROWS), {"lr": 0.1}),
    "SparseApplyAdagradV2": (2, (*state(2), f(4, 16), _ROWS), {"lr": 0.1, "epsilon": 1e-3}),
    "SparseApplyFtrl": (
        3,
        (*state(3), f(4, 16), _ROWS),
        {"lr": 0.1, "l1": 0.3, "l2": 0.2, "lr_power": -0.5},
    ),
    "SparseApplyProximalAdagrad": (2, (*state(2), 0.1, 0.3, 0.2, f(4, 16), _ROWS), {}),
    "SparseApplyRMSProp": (
        3,
        (*state(3), 0.1, f(4, 16), _ROWS),
        {"rho": 0.9, "momentum": 0.5, "epsilon": 1e-3},
    ),
    # What writes at places.
    "InplaceIndexAdd": (1, (X, _ROWS, f(4, 16)), {"axis": 0}),
    **{
        f"Scatter{how}": (1, (X, i(8, 4), f(4, 16)), {})
        for how in ("Add", "Div", "Max", "Min", "Mul", "Sub", "Update")
    },
    **{
        f"ScatterNd{how}": (1, (X, i(8, 4, 1), f(4, 16)), {})
        for how in ("Add", "Div", "Max", "Min", "Mul", "Sub", "Update")
    },
}
