"""The Adam family: Adam, LazyAdam, AdamOffload, AdamWeightDecay, AdaMax."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import numpy as np
import optax

from paramesh.nn.unknown_arguments import message
from paramesh.optim import checks, rules
from paramesh.optim.groups import Parameters, WeightDecay
from paramesh.optim.rates import LearningRate
from paramesh.optim.rule_optimizer import RuleOptimizer, Slots, same
from paramesh.parameter import Parameter


class Adam(RuleOptimizer):
    """Adam, with Nesterov's and the AMSGrad variant.

    `w -= lr * sqrt(1 - beta2**t) / (1 - beta1**t) * moment1 / (sqrt(moment2) + eps)`. The decay is
    added to the gradient.

    Args:
        params: Parameters or groups, see `Optimizer`.
        learning_rate: see `Optimizer`.
        beta1, beta2: floats in (0, 1).
        eps: a float above 0, added to the root.
        use_locking: has no effect: an update is one program.
        use_nesterov: `beta1 * moment1 + (1 - beta1) * g` in place of `moment1`.
        weight_decay, loss_scale: see `Optimizer`.
        use_amsgrad: the largest `moment2` so far, kept as `vhat`, in place of `moment2`.
        kwargs: `use_lazy` and `use_offload`, at most one of them and not with `use_amsgrad`. They
            have no effect: gradients are dense, and state lives where its Parameter lives.

    Raises:
        KeyError: another keyword.
        TypeError, ValueError: as `Optimizer`, and for numbers out of range.
    """

    elementwise = True
    _power: ClassVar[float | list[object]] = 1.0

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        use_locking: bool = False,
        use_nesterov: bool = False,
        weight_decay: WeightDecay = 0.0,
        loss_scale: float = 1.0,
        use_amsgrad: bool = False,
        **kwargs: bool,
    ) -> None:
        name = type(self).__name__
        for key in kwargs:
            if key not in ("use_lazy", "use_offload"):
                known = (*inspect.signature(type(self)).parameters, "use_lazy", "use_offload")
                raise KeyError(message(name, key, [word for word in known if word != "kwargs"]))
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        self.set_betas(beta1, beta2, eps)
        checks.boolean(name, "use_locking", use_locking)
        self.use_nesterov = checks.boolean(name, "use_nesterov", use_nesterov)
        self.use_amsgrad = checks.boolean(name, "use_amsgrad", use_amsgrad)
        variants = [key for key, value in kwargs.items() if checks.boolean(name, key, value)]
        if len(variants) > 1 or (variants and use_amsgrad):
            chosen = [*variants, *(["use_amsgrad"] if use_amsgrad else [])]
            raise ValueError(f"{name}: {' and '.join(chosen)} exclude each other; choose one.")
        self.add_state("beta1_power", Parameter(self._power, name="beta1_power"))
        self.add_state("beta2_power", Parameter(self._power, name="beta2_power"))
        self._add_moments()
        if use_amsgrad:
            self.add_slots("vhat")

    def _add_moments(self) -> None:
        self.add_slots("moment1", "moment2")

    def rule(self) -> optax.GradientTransformation:
        """Adam with these numbers."""
        return rules.adam(self.beta1, self.beta2, self.eps, self.use_nesterov, self.use_amsgrad)

    def later(self, steps: int) -> dict[Parameter, np.ndarray[Any, Any]]:
        """As in `Optimizer`, and the powers of the betas."""
        found = super().later(steps)
        for power, beta in ((self.beta1_power, self.beta1), (self.beta2_power, self.beta2)):
            # One product after another, as in the steps.
            factors = np.full(steps + 1, beta, np.float32)
            factors[0] = power.asnumpy().reshape(())
            found[power] = np.multiply.accumulate(factors)[-1].reshape(power.shape)
        return found

    def slots(self) -> Slots:
        """The update rule's state, and the attributes that hold it."""
        return same(rules.AmsgradState if self.use_amsgrad else rules.AdamState)


class LazyAdam(Adam):
    """Adam by another name: gradients here are dense, for which MindSpore's two are the same.

    Arguments as in `Adam`, without `use_amsgrad`.
    """

    _power: ClassVar[float | list[object]] = [1.0]  # of shape (1,), as recorded

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        use_locking: bool = False,
        use_nesterov: bool = False,
        weight_decay: WeightDecay = 0.0,
        loss_scale: float = 1.0,
    ) -> None:
        super().__init__(
            params,
            learning_rate,
            beta1,
            beta2,
            eps,
            use_locking,
            use_nesterov,
            weight_decay,
            loss_scale,
        )


class AdamOffload(LazyAdam):
    """Adam by another name: state lives where its Parameter lives.

    Arguments as in `LazyAdam`.
    """


class AdamWeightDecay(RuleOptimizer):
    """Adam without bias correction, with decay apart from the gradient (as BERT is trained).

    `w -= lr * (m / (sqrt(v) + eps) + weight_decay * w)`.

    Args:
        params: Parameters or groups, see `Optimizer`.
        learning_rate: see `Optimizer`.
        beta1, beta2: floats in (0, 1).
        eps: a float above 0.
        weight_decay: see `Optimizer`.

    Raises:
        TypeError, ValueError: as `Optimizer`, and for numbers out of range.
    """

    state_type = rules.AdamWeightDecayState
    elementwise = True
    decays_gradient = False

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-6,
        weight_decay: WeightDecay = 0.0,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay)
        self.set_betas(beta1, beta2, eps)
        self.add_slots("adam_m", "adam_v")

    @property
    def moments1(self) -> Any:
        """`adam_m`, by the attribute that MindSpore has."""
        return self.adam_m

    @property
    def moments2(self) -> Any:
        """`adam_v`, by the attribute that MindSpore has."""
        return self.adam_v

    def rule(self) -> optax.GradientTransformation:
        """Adam with these numbers."""
        return rules.adam_weight_decay(self.beta1, self.beta2, self.eps)


class AdaMax(RuleOptimizer):
    """Adam with the infinity norm of the gradients.

    `w -= lr / (1 - beta1**t) * moment1 / (moment2 + eps)`. The decay is added to the gradient.

    Args:
        params: Parameters or groups, see `Optimizer`.
        learning_rate: see `Optimizer`.
        beta1, beta2: floats in (0, 1).
        eps: a float above 0.
        weight_decay, loss_scale: see `Optimizer`.

    Raises:
        TypeError, ValueError: as `Optimizer`, and for numbers out of range.
    """

    state_type = rules.AdaMaxState
    elementwise = True

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: WeightDecay = 0.0,
        loss_scale: float = 1.0,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        self.set_betas(beta1, beta2, eps)
        self.add_state("beta1_power", Parameter([1.0], name="beta1_power"))
        self.add_slots("moment1", "moment2")

    def rule(self) -> optax.GradientTransformation:
        """AdaMax with these numbers."""
        return rules.adamax(self.beta1, self.beta2, self.eps)
