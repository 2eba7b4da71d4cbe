"""Optimizers with a rate for each element: Adagrad, ProximalAdagrad, RMSProp, Adadelta, FTRL."""

from __future__ import annotations

import optax
from jax import Array

from paramesh.array_types import Tree
from paramesh.optim import checks, rules_adaptive
from paramesh.optim.groups import Parameters, WeightDecay
from paramesh.optim.rates import LearningRate
from paramesh.optim.rule_optimizer import RuleOptimizer, Slots, same
from paramesh.tensor.argument_types import RawNumber


class Adagrad(RuleOptimizer):
    """Adagrad (Duchi et al. 2011): `accum += g**2; w -= lr * g / sqrt(accum)`.

    Args:
        params: Parameters or groups, see `Optimizer`.
        accum: initial value of the sums of squares, at least 0.
        learning_rate: see `Optimizer`.
        update_slots: False leaves the sums as they are.
        loss_scale, weight_decay: see `Optimizer`; the decay is added to the gradient.

    Raises:
        TypeError, ValueError: as `Optimizer`; `accum` is not a float or negative.
    """

    elementwise = True
    takes_rate = False

    def __init__(
        self,
        params: Parameters,
        accum: float = 0.1,
        learning_rate: LearningRate = 0.001,
        update_slots: bool = True,
        loss_scale: float = 1.0,
        weight_decay: WeightDecay = 0.0,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        self.first_accum = checks.not_negative("Adagrad", "accum", accum, allow_int=False)
        self.update_slots = checks.boolean("Adagrad", "update_slots", update_slots)
        self.add_slots("accum", init=self.first_accum)

    def rule(self) -> optax.GradientTransformation:
        """`optax.scale_by_rss`, or the one that leaves the sums."""
        return optax.scale_by_rss(eps=0.0) if self.update_slots else rules_adaptive.adagrad_frozen()

    def slots(self) -> Slots:
        """The update rule's state, and the attributes that hold it."""
        return optax.ScaleByRssState, {"sum_of_squares": "accum"}


class ProximalAdagrad(RuleOptimizer):
    """Adagrad whose every step is followed by the proximal one for L1 and L2 penalties.

    Args:
        params: Parameters or groups, see `Optimizer`.
        accum: initial value of the sums of squares, at least 0.
        learning_rate: see `Optimizer`.
        l1, l2: the penalties, at least 0.
        use_locking: has no effect: an update is one program.
        loss_scale, weight_decay: see `Optimizer`; the decay is added to the gradient.

    Raises:
        TypeError, ValueError: as `Optimizer`, and for numbers out of range.
    """

    state_type = rules_adaptive.AccumState
    elementwise = True

    def __init__(
        self,
        params: Parameters,
        accum: float = 0.1,
        learning_rate: LearningRate = 0.001,
        l1: float = 0.0,
        l2: float = 0.0,
        use_locking: bool = False,
        loss_scale: float = 1.0,
        weight_decay: WeightDecay = 0.0,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        name = "ProximalAdagrad"
        accum = checks.not_negative(name, "accum", accum, allow_int=False)
        self.l1 = checks.not_negative(name, "l1", l1, allow_int=False)
        self.l2 = checks.not_negative(name, "l2", l2, allow_int=False)
        checks.boolean(name, "use_locking", use_locking)
        self.add_slots("accum", init=accum)

    def rule(self) -> optax.GradientTransformation:
        """Proximal Adagrad with these penalties."""
        return rules_adaptive.proximal_adagrad(l1=self.l1, l2=self.l2)


class RMSProp(RuleOptimizer):
    """RMSProp, plain or centered, with momentum.

    `moment = momentum * moment + lr * g / sqrt(mean_square + epsilon); w -= moment`; centered,
    `mean_square - mean_grad**2` stands under the root. The mean square starts at 1.

    Args:
        params: Parameters or groups, see `Optimizer`.
        learning_rate: see `Optimizer`.
        decay: of the means, at least 0.
        momentum: at least 0.
        epsilon: above 0, inside the root.
        use_locking: has no effect: an update is one program.
        centered: subtract the square of the mean gradient.
        loss_scale, weight_decay: see `Optimizer`; the decay is added to the gradient.

    Raises:
        TypeError, ValueError: as `Optimizer`, and for numbers out of range.
    """

    elementwise = True

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate = 0.1,
        decay: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-10,
        use_locking: bool = False,
        centered: bool = False,
        loss_scale: float = 1.0,
        weight_decay: WeightDecay = 0.0,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        self.decay = checks.not_negative("RMSProp", "decay", decay, allow_int=False)
        self.momentum = checks.not_negative("RMSProp", "momentum", momentum, allow_int=False)
        self.epsilon = checks.positive("RMSProp", "epsilon", epsilon)
        checks.boolean("RMSProp", "use_locking", use_locking)
        self.centered = checks.boolean("RMSProp", "centered", centered)
        if centered:
            self.add_slots("mean_grad")
        self.add_slots("mean_square", init="ones")
        self.add_slots("moment")

    def rule(self) -> optax.GradientTransformation:
        """RMSProp with these numbers."""
        return rules_adaptive.rmsprop(self.decay, self.momentum, self.epsilon, self.centered)

    def slots(self) -> Slots:
        """The update rule's state, and the attributes that hold it."""
        if self.centered:
            return same(rules_adaptive.CenteredRMSPropState)
        return same(rules_adaptive.RMSPropState)


class Adadelta(RuleOptimizer):
    """Adadelta (Zeiler 2012), `optax.scale_by_adadelta`.

    Args:
        params: Parameters or groups, see `Optimizer`.
        learning_rate: see `Optimizer`.
        rho: decay of the means, in [0, 1].
        epsilon: at least 0.
        loss_scale, weight_decay: see `Optimizer`; the decay is added to the gradient.

    Raises:
        TypeError, ValueError: as `Optimizer`, and for numbers out of range.
    """

    elementwise = True
    takes_rate = False

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate = 1.0,
        rho: float = 0.9,
        epsilon: float = 1e-6,
        loss_scale: float = 1.0,
        weight_decay: WeightDecay = 0.0,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        self.rho = checks.real("Adadelta", "rho", rho, 0, 1, allow_int=False)
        self.epsilon = checks.not_negative("Adadelta", "epsilon", epsilon, allow_int=False)
        self.add_slots("accum", "accum_update")

    def rule(self) -> optax.GradientTransformation:
        """`optax.scale_by_adadelta`."""
        return optax.scale_by_adadelta(self.rho, self.epsilon)

    def slots(self) -> Slots:
        """The update rule's state, and the attributes that hold it."""
        return optax.ScaleByAdaDeltaState, {"e_g": "accum", "e_x": "accum_update"}


class FTRL(RuleOptimizer):
    """FTRL-Proximal (McMahan et al. 2013), whose weights are sparse with `l1`.

    `w = (sign(z) * l1 - z) / (accum**-lr_power / lr + 2 * l2)` where `|z| > l1`, otherwise 0.

    Args:
        params: Parameters, or groups that share the learning rate.
        initial_accum: initial value of the sums of squares (`moments`), at least 0.
        learning_rate: one number: z adds up terms of one rate.
        lr_power: at most 0.
        l1, l2: the penalties, at least 0.
        use_locking: has no effect: an update is one program.
        loss_scale, weight_decay: see `Optimizer`; the decay is added to the gradient.

    Raises:
        TypeError, ValueError: as `Optimizer`, for numbers out of range, and for a learning rate
            that moves or differs between groups.
    """

    state_type = rules_adaptive.FTRLState
    elementwise = True

    def __init__(
        self,
        params: Parameters,
        initial_accum: float = 0.1,
        learning_rate: LearningRate = 0.001,
        lr_power: float = -0.5,
        l1: float = 0.0,
        l2: float = 0.0,
        use_locking: bool = False,
        loss_scale: float = 1.0,
        weight_decay: WeightDecay = 0.0,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        if self.dynamic_lr or self.is_group_lr:
            raise ValueError(
                "FTRL: the learning rate must be one number for all steps and all Parameters."
            )
        first = checks.not_negative("FTRL", "initial_accum", initial_accum, allow_int=False)
        self.first_accum = first
        self.lr_power = checks.real("FTRL", "lr_power", lr_power, high=0, allow_int=False)
        self.l1 = checks.not_negative("FTRL", "l1", l1, allow_int=False)
        self.l2 = checks.not_negative("FTRL", "l2", l2, allow_int=False)
        checks.boolean("FTRL", "use_locking", use_locking)
        self.add_slots("moments", init=first)
        self.add_slots("linear")

    def rule(self) -> optax.GradientTransformation:
        """The state of FTRL."""
        return rules_adaptive.ftrl(lr_power=self.lr_power)

    def new_values(
        self, params: list[Array], updates: list[Array], state: Tree, rates_: list[RawNumber]
    ) -> list[Array]:
        """The weights, which follow from the state alone."""
        weights = rules_adaptive.ftrl_weights(self.lr_power, self.l1, self.l2)
        rows = zip(state.moments, state.linear, rates_, strict=True)
        return [weights(*row) for row in rows]
