"""Adam with one second moment for each row: a table's state costs little more than its rows."""

from __future__ import annotations

import functools
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_types import Array
from paramesh.initializer import initializer
from paramesh.initializer.structured import Constant
from paramesh.optim.adam import Adam
from paramesh.optim.groups import Parameters, WeightDecay
from paramesh.optim.rates import LearningRate
from paramesh.optim.rules import AdamState, Rule, Tree, adam, over, spread
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.tensor.argument_types import RawNumber


def _mean_squares(g: Array) -> Any:
    return jnp.mean(g * g, axis=tuple(range(1, g.ndim)), keepdims=True)


@functools.cache
def rowwise_adam(b1: float, b2: float, eps: float) -> Rule:
    """Adam whose second moment is that of the mean square of a row; the first axis has the rows."""
    c1, c2 = (float(np.float32(1) - np.float32(b)) for b in (b1, b2))

    @jax.jit
    def leaf(g: Array, m: Array, v: Array, rate: RawNumber) -> tuple[Any, ...]:
        m = b1 * m + c1 * g
        v = b2 * v + c2 * _mean_squares(g)
        return -rate * (m / (jnp.sqrt(v) + eps)), m, v

    def init(params: Tree) -> AdamState:
        state = adam(b1, b2, eps).init(params)
        rows = jax.tree.map(lambda w: jnp.zeros_like(_mean_squares(w)), params)
        return state._replace(moment2=rows)  # pyright: ignore[reportAttributeAccessIssue]

    def update(grads: Tree, state: AdamState, params: Tree = None, *, learning_rate: Tree) -> Any:
        power1, power2 = state.beta1_power * b1, state.beta2_power * b2
        correction = jnp.sqrt(1.0 - power2) / (1.0 - power1)
        rates = spread(learning_rate, grads, lambda rate: rate * correction)
        updates, m, v = over(leaf, grads, state.moment1, state.moment2, rates)
        return updates, AdamState(power1, power2, m, v)

    return Rule(init, update)  # type: ignore[arg-type]


class RowwiseAdam(Adam):
    """Row-wise Adam: `Adam` with `moment2` of the mean of `g**2` over each row.

    A table of width d keeps d + 1 numbers for each row, where `Adam` keeps 2 d (FBGEMM's
    `PARTIAL_ROWWISE_ADAM`, with which TorchRec trains tables). Rows are along the first axis. On
    servers it trains tables alone, and the moments of a row move only when it is looked up.
    MindSpore has no such optimizer.

    Args:
        params: Parameters or groups, see `Optimizer`; of one axis or more.
        learning_rate: see `Optimizer`.
        beta1, beta2: floats in (0, 1).
        eps: a float above 0, added to the root.
        weight_decay, loss_scale: see `Optimizer`; the decay is added to the gradient.

    Raises:
        TypeError, ValueError: as `Optimizer`, and for numbers out of range.
        ValueError: a Parameter without axes.
    """

    elementwise = False

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: WeightDecay = 0.0,
        loss_scale: float = 1.0,
    ) -> None:
        super().__init__(
            params,
            learning_rate,
            beta1,
            beta2,
            eps,
            weight_decay=weight_decay,
            loss_scale=loss_scale,
        )

    def _add_moments(self) -> None:
        self.add_slots("moment1")
        self.add_state("moment2", ParameterTuple([self._of_rows(p) for p in self._parameters]))

    def _of_rows(self, param: Parameter) -> Parameter:
        if not param.shape:
            raise ValueError(
                f"RowwiseAdam: Parameter '{param.name}' has no axes, and no rows. Put it into "
                "another optimizer."
            )
        shape = (param.shape[0], *[1] * (len(param.shape) - 1))
        init = initializer(Constant(0.0), shape, param.dtype)
        state = Parameter(init, name=f"moment2.{param.name}", requires_grad=False)
        state._original = weakref.ref(param)
        return state

    def rule(self) -> Any:
        """Row-wise Adam with these numbers."""
        return rowwise_adam(self.beta1, self.beta2, self.eps)
