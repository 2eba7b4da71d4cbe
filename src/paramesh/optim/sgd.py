"""SGD and Momentum."""

from __future__ import annotations

from typing import Any

import optax

from paramesh.optim import checks, rules
from paramesh.optim.groups import Parameters, WeightDecay
from paramesh.optim.rates import LearningRate
from paramesh.optim.rule_optimizer import RuleOptimizer, Slots, same
from paramesh.parameter import Parameter


class SGD(RuleOptimizer):
    """Stochastic gradient descent, with momentum, dampening and Nesterov's variant.

    `accum = momentum * accum + (1 - dampening) * g` (the first step is not dampened), then
    `w -= lr * accum`, or `w -= lr * (g + momentum * accum)` with `nesterov`. The decay is added to
    the gradient. Without momentum its state is never used and stays weightless.

    Args:
        params: Parameters or groups, see `Optimizer`.
        learning_rate: see `Optimizer`.
        momentum: at least 0. Kept in the Parameter `momentum`.
        dampening: at least 0.
        weight_decay: see `Optimizer`.
        nesterov: needs momentum and no dampening.
        loss_scale: see `Optimizer`.

    Raises:
        TypeError, ValueError: as `Optimizer`, and for numbers out of range.
    """

    elementwise = True

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate = 0.1,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: WeightDecay = 0.0,
        nesterov: bool = False,
        loss_scale: float = 1.0,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        momentum = checks.not_negative("SGD", "momentum", momentum)
        self.dampening = checks.not_negative("SGD", "dampening", dampening)
        self.nesterov = checks.boolean("SGD", "nesterov", nesterov)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(
                "SGD: nesterov=True needs momentum above 0 and dampening 0, "
                f"got momentum={momentum} and dampening={dampening}."
            )
        self._has_momentum = momentum > 0
        self.add_state("momentum", Parameter(momentum, name="momentum"))
        self.add_slots("accum")
        self.add_slots("stat", init="ones")
        self.takes_rate = self._has_momentum

    def rule(self) -> optax.GradientTransformation:
        """Momentum by `rules.sgd`, or nothing to be done to the gradient."""
        if not self._has_momentum:
            return optax.identity()
        return rules.sgd(self.dampening, self.nesterov)

    def slots(self) -> Slots:
        """The update rule's state, and the attributes that hold it."""
        return same(rules.SGDState) if self._has_momentum else (optax.EmptyState, {})

    def extra(self) -> dict[str, Any]:
        """The momentum, which can be changed between steps."""
        return {"momentum": self.momentum._get()} if self._has_momentum else {}


class Momentum(RuleOptimizer):
    """Gradient descent with momentum (`optax.trace`).

    `moments = momentum * moments + g`, then `w -= lr * moments`, or, with `use_nesterov`,
    `w -= lr * (g + momentum * moments)`. The decay is added to the gradient.

    Args:
        params: Parameters or groups, see `Optimizer`.
        learning_rate: see `Optimizer`.
        momentum: a float of at least 0. Kept in the Parameter `momentum`.
        weight_decay, loss_scale: see `Optimizer`.
        use_nesterov: look ahead by one step of the momentum.

    Raises:
        TypeError, ValueError: as `Optimizer`; `momentum` is not a float or negative.
    """

    elementwise = True
    takes_rate = False

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate,
        momentum: float,
        weight_decay: WeightDecay = 0.0,
        loss_scale: float = 1.0,
        use_nesterov: bool = False,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        momentum = checks.not_negative("Momentum", "momentum", momentum, allow_int=False)
        self.use_nesterov = checks.boolean("Momentum", "use_nesterov", use_nesterov)
        self.add_state("momentum", Parameter(momentum, name="momentum"))
        self.add_slots("moments")

    def rule(self) -> optax.GradientTransformation:
        """`optax.trace`, with the momentum as it is now."""
        return optax.trace(self.momentum._get(), nesterov=self.use_nesterov)

    def slots(self) -> Slots:
        """The update rule's state, and the attributes that hold it."""
        return optax.TraceState, {"trace": "moments"}
