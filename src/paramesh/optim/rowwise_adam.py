"""Adam with one second moment for each row: a table's state costs little more than its rows."""

from __future__ import annotations

import optax

from paramesh.optim.adam import Adam
from paramesh.optim.groups import Parameters, WeightDecay
from paramesh.optim.rates import LearningRate
from paramesh.optim.row_states import mean_squares, state_of_rows
from paramesh.optim.rules import adam
from paramesh.parameter import ParameterTuple


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
        rows = [state_of_rows("RowwiseAdam", "moment2", p, 0.0) for p in self._parameters]
        self.add_state("moment2", ParameterTuple(rows))

    def rule(self) -> optax.GradientTransformation:
        """Row-wise Adam with these numbers."""
        return adam(self.beta1, self.beta2, self.eps, squares=mean_squares)
