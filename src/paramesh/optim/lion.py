"""Lion: steps of one size in the direction of a sign."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from paramesh.array_types import Array
from paramesh.optim import checks
from paramesh.optim.groups import Parameters, WeightDecay
from paramesh.optim.rates import LearningRate
from paramesh.optim.rule_optimizer import RuleOptimizer, Slots, same
from paramesh.optim.rules import Rule, Tree, full, over, spread
from paramesh.tensor.argument_types import RawNumber


class LionState(NamedTuple):
    """The moving average of the gradients."""

    moments: Tree


@functools.cache
def lion(b1: float = 0.9, b2: float = 0.99) -> Rule:
    """Lion with these numbers; `update` takes `learning_rate=` and `weight_decay=`."""

    @jax.jit
    def leaf(g: Array, m: Array, w: Array, rate: RawNumber, decay: RawNumber) -> Any:
        top = jnp.sign(b1 * m + (1.0 - b1) * g)
        return -rate * (top + decay * w), b2 * m + (1.0 - b2) * g

    def init(params: Tree) -> LionState:
        return LionState(full(params, 0.0))

    def update(
        grads: Tree,
        state: LionState,
        params: Tree,
        *,
        learning_rate: Tree,
        weight_decay: Tree = 0.0,
    ) -> Any:
        rates, decays = spread(learning_rate, grads), spread(weight_decay, grads)
        updates, moments = over(leaf, grads, state.moments, params, rates, decays)
        return updates, LionState(moments)

    return Rule(init, update)  # type: ignore[arg-type]


class Lion(RuleOptimizer):
    """Lion (Chen et al. 2023): `w -= lr * (sign(b1 * m + (1 - b1) * g) + weight_decay * w)`.

    Then `m = b2 * m + (1 - b2) * g`. MindSpore has no such optimizer.

    Args:
        params: Parameters or groups, see `Optimizer`.
        learning_rate: see `Optimizer`; the paper takes three to ten times less than for Adam.
        beta1, beta2: floats in (0, 1).
        weight_decay: see `Optimizer`; apart from the gradient.
        loss_scale: see `Optimizer`.

    Raises:
        TypeError, ValueError: as `Optimizer`, and for numbers out of range.
    """

    elementwise = True
    decays_gradient = False

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate = 1e-4,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: WeightDecay = 0.0,
        loss_scale: float = 1.0,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        self.beta1 = checks.fraction("Lion", "beta1", beta1)
        self.beta2 = checks.fraction("Lion", "beta2", beta2)
        self.add_state("moments", self.clone_parameters("moments"))

    def rule(self) -> Any:
        """Lion with these numbers."""
        return lion(self.beta1, self.beta2)

    def slots(self) -> Slots:
        """What the rule keeps, and where."""
        return same(LionState)
