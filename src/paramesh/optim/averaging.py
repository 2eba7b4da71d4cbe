"""ASGD, Rprop and AdaFactor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import optax

from paramesh.dtype import float16, float32
from paramesh.initializer.factory import initializer
from paramesh.optim import checks, rules_adaptive
from paramesh.optim.groups import Parameters, WeightDecay
from paramesh.optim.rates import LearningRate
from paramesh.optim.rule_optimizer import RuleOptimizer
from paramesh.parameter import Parameter, ParameterTuple


class ASGD(RuleOptimizer):
    """Averaged stochastic gradient descent; the averages are the state `ax_`.

    Args:
        params: Parameters or groups, see `Optimizer`.
        learning_rate: see `Optimizer`.
        lambd: decay of the weights.
        alpha: power by which the rate falls.
        t0: step at which the averaging starts.
        weight_decay: see `Optimizer`; added to the gradient.

    Raises:
        TypeError, ValueError: as `Optimizer`; a number that is not a float.
    """

    state_type = rules_adaptive.ASGDState
    state_attributes: ClassVar[Mapping[str, str]] = {"count": "global_step"}

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate = 0.1,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: WeightDecay = 0.0,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay)
        self.lambd = checks.real("ASGD", "lambd", lambd, allow_int=False)
        self.alpha = checks.real("ASGD", "alpha", alpha, allow_int=False)
        self.t0 = checks.real("ASGD", "t0", t0, allow_int=False)
        for prefix, start in (("mu", 1.0), ("eta", 0.0)):
            scalars = [Parameter(start, name=f"{prefix}_{p.name}") for p in self._parameters]
            self.add_state(prefix, ParameterTuple(scalars))
        self.add_state("ax", self.clone_parameters("ax_"))

    def rule(self) -> optax.GradientTransformation:
        """ASGD with these numbers."""
        return rules_adaptive.asgd(self.lambd, self.alpha, self.t0)


class Rprop(RuleOptimizer):
    """Resilient backpropagation, for gradients of full data sets: only their signs count.

    Args:
        params: Parameters or groups, see `Optimizer`.
        learning_rate: the first size of every step; see `Optimizer`.
        etas: (factor below 1 where the sign turns, factor above 1 where it stays).
        step_sizes: (smallest, largest) size of a step.
        weight_decay: see `Optimizer`; added to the gradient.

    Raises:
        TypeError, ValueError: as `Optimizer`; `etas` or `step_sizes` is not such a pair of floats.
    """

    state_type = rules_adaptive.RpropState
    elementwise = True

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate = 0.1,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        weight_decay: WeightDecay = 0.0,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay)
        minus, plus = checks.pair("Rprop", "etas", etas)
        smallest, largest = checks.pair("Rprop", "step_sizes", step_sizes)
        self.etas = (
            checks.fraction("Rprop", "etas[0]", minus),
            checks.real("Rprop", "etas[1]", plus, 1, open_low=True, allow_int=False),
        )
        self.step_sizes = (
            checks.not_negative("Rprop", "step_sizes[0]", smallest, allow_int=False),
            checks.not_negative("Rprop", "step_sizes[1]", largest, allow_int=False),
        )
        if smallest > largest:
            raise ValueError(
                f"Rprop: step_sizes must be (smallest, largest), got {smallest} > {largest}."
            )
        self.add_slots("prev", "step_size")

    def rule(self) -> optax.GradientTransformation:
        """Rprop with these numbers."""
        return rules_adaptive.rprop(*self.etas, *self.step_sizes)


class AdaFactor(RuleOptimizer):
    """Adafactor (Shazeer & Stern 2018): second moments by rows and columns.

    The rate is `min(1e-2, 1 / sqrt(t))` with `relative_step`, otherwise `learning_rate`; times the
    root mean square of the Parameter with `scale_parameter`.

    Args:
        params: Parameters or groups, see `Optimizer`.
        learning_rate: None with `relative_step`; otherwise see `Optimizer`.
        eps: (added to squares of gradients, smallest root mean square of a Parameter).
        clip_threshold: root mean square above which an update is scaled down.
        decay_rate: power by which the decay of the second moments approaches 1.
        beta1: decay of the first moment, in [0, 1); None or 0 for no first moment.
        weight_decay: see `Optimizer`; the Parameter shrinks by rate times decay.
        scale_parameter, relative_step: see above.
        warmup_init: start the relative rate at 1e-6 * t.
        compression: keep second moments that are not factored in Float16.
        loss_scale: see `Optimizer`.

    Raises:
        TypeError, ValueError: as `Optimizer`; numbers out of range; `learning_rate` together with
            `relative_step`, or neither; `warmup_init` without `relative_step`.
    """

    state_type = rules_adaptive.AdaFactorState
    state_attributes: ClassVar[Mapping[str, str]] = {"afactor_step": "step"}
    decays_gradient = False

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate | None = None,
        eps: tuple[float, float] = (1e-30, 1e-3),
        clip_threshold: float = 1.0,
        decay_rate: float = 0.8,
        beta1: float | None = 0.9,
        weight_decay: WeightDecay = 0.0,
        scale_parameter: bool = True,
        relative_step: bool = True,
        warmup_init: bool = False,
        compression: bool = False,
        loss_scale: float = 1.0,
    ) -> None:
        name = "AdaFactor"
        self_relative = checks.boolean(name, "relative_step", relative_step)
        if (learning_rate is not None) == self_relative:
            raise ValueError(
                f"{name}: give a learning_rate or relative_step=True, not both and not neither; "
                f"got learning_rate={learning_rate!r}, relative_step={relative_step}."
            )
        super().__init__(0.0 if self_relative else learning_rate, params, weight_decay, loss_scale)
        self.relative_step = self_relative
        self.scale_parameter = checks.boolean(name, "scale_parameter", scale_parameter)
        self.warmup_init = checks.boolean(name, "warmup_init", warmup_init)
        if warmup_init and not relative_step:
            raise ValueError(f"{name}: warmup_init=True needs relative_step=True.")
        low, high = checks.pair(name, "eps", eps)
        self.eps = (
            checks.not_negative(name, "eps[0]", low, allow_int=False),
            checks.not_negative(name, "eps[1]", high, allow_int=False),
        )
        self.clip_threshold = checks.positive(
            name, "clip_threshold", clip_threshold, allow_int=True
        )
        self.decay_rate = checks.not_negative(name, "decay_rate", decay_rate)
        self.beta1 = (
            None
            if beta1 is None
            else checks.real(name, "beta1", beta1, 0, 1, open_high=True, allow_int=False)
        )
        self.exp_avg = None
        if self.beta1:
            self.add_slots("exp_avg")
        self._add_squares(checks.boolean(name, "compression", compression))
        self.add_state("step", Parameter([0.0], name="afactor_step"))

    def _add_squares(self, compression: bool) -> None:
        for which, prefix in enumerate(("exp_avg_sq_row", "exp_avg_sq_col", "exp_avg_sq")):
            squares: list[Parameter] = []
            for param in self._parameters:
                shape = rules_adaptive.factored_shapes(param.shape)[which]
                half = compression and prefix == "exp_avg_sq" and len(param.shape) < 2
                zeros = initializer("zeros", shape, float16 if half else float32)
                squares.append(Parameter(zeros, name=f"{prefix}_{param.name}"))
            self.add_state(prefix, ParameterTuple(squares))

    def rule(self) -> optax.GradientTransformation:
        """Adafactor with these numbers."""
        return rules_adaptive.adafactor(
            self.eps,
            self.clip_threshold,
            self.decay_rate,
            self.beta1,
            self.scale_parameter,
            self.relative_step,
            self.warmup_init,
        )
