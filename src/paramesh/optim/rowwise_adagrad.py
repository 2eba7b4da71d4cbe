"""Adagrad with one sum of squares for each row: the state of a table costs a number per row."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from paramesh.array_types import Array
from paramesh.optim import checks
from paramesh.optim.groups import Parameters, WeightDecay
from paramesh.optim.rates import LearningRate
from paramesh.optim.row_states import mean_squares, state_of_rows
from paramesh.optim.rule_optimizer import RuleOptimizer, Slots, same
from paramesh.optim.rules import Rule, Tree, over
from paramesh.parameter import ParameterTuple


class RowwiseAdagradState(NamedTuple):
    """The sums of the mean squares of the rows, (rows, 1, …)."""

    row_accum: Tree


@functools.cache
def rowwise_adagrad(eps: float) -> Rule:
    """The direction of row-wise Adagrad; the first axis has the rows."""

    @jax.jit
    def leaf(g: Array, total: Array) -> Any:
        total = total + mean_squares(g)
        return g / (jnp.sqrt(total) + eps), total

    def init(params: Tree) -> RowwiseAdagradState:
        return RowwiseAdagradState(jax.tree.map(lambda w: jnp.zeros_like(mean_squares(w)), params))

    def update(grads: Tree, state: RowwiseAdagradState, params: Tree = None) -> Any:
        updates, total = over(leaf, grads, state.row_accum)
        return updates, RowwiseAdagradState(total)

    return Rule(init, update)  # type: ignore[arg-type]


class RowwiseAdagrad(RuleOptimizer):
    """Row-wise Adagrad: `accum += mean(g**2)` of each row; `w -= lr * g / (sqrt(accum) + eps)`.

    As recommenders train their tables (Mudigere et al. 2022, "Software-hardware co-design for fast
    and scalable training of deep learning recommendation models"). Rows are along the first axis.
    On servers it trains tables alone. MindSpore has no such optimizer.

    Args:
        params: Parameters or groups, see `Optimizer`; of one axis or more.
        learning_rate: see `Optimizer`.
        accum: what the sums start at, at least 0.
        epsilon: above 0, outside of the root.
        loss_scale, weight_decay: see `Optimizer`; the decay is added to the gradient.

    Raises:
        TypeError, ValueError: as `Optimizer`, and for numbers out of range.
        ValueError: a Parameter without axes.
    """

    takes_rate = False

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate = 0.01,
        accum: float = 0.0,
        epsilon: float = 1e-8,
        loss_scale: float = 1.0,
        weight_decay: WeightDecay = 0.0,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        self.first_accum = checks.not_negative("RowwiseAdagrad", "accum", accum, allow_int=False)
        self.epsilon = checks.positive("RowwiseAdagrad", "epsilon", epsilon)
        rows = [
            state_of_rows("RowwiseAdagrad", "row_accum", param, self.first_accum)
            for param in self._parameters
        ]
        self.add_state("row_accum", ParameterTuple(rows))

    def rule(self) -> Any:
        """Row-wise Adagrad with this number."""
        return rowwise_adagrad(self.epsilon)

    def slots(self) -> Slots:
        """What the rule keeps, and where."""
        return same(RowwiseAdagradState)
