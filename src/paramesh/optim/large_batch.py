"""Optimizers for large batches, which scale each Parameter's update by norms: Lamb and LARS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jax import Array

from paramesh.nn.cell import Cell
from paramesh.optim import checks, rules
from paramesh.optim.groups import Parameters, WeightDecay
from paramesh.optim.optimizer import Gradients, Optimizer, work
from paramesh.optim.rates import LearningRate
from paramesh.optim.rule_optimizer import RuleOptimizer
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import RawNumber
from paramesh.tensor.base import wrap


class Lamb(RuleOptimizer):
    """LAMB (You et al. 2020): Adam's direction, as long as the Parameter.

    `r = m_hat / (sqrt(v_hat) + eps) + weight_decay * w; w -= lr * norm(w) / norm(r) * r`; the
    ratio is 1 where either norm is 0.

    Args:
        params: Parameters or groups, see `Optimizer`.
        learning_rate: see `Optimizer`.
        beta1, beta2: floats in (0, 1).
        eps: a float above 0.
        weight_decay: see `Optimizer`.

    Raises:
        TypeError, ValueError: as `Optimizer`, and for numbers out of range.
    """

    state_type = rules.LambState
    state_attributes: ClassVar[Mapping[str, str]] = {"count": "global_step"}
    decays_gradient = False

    def __init__(
        self,
        params: Parameters,
        learning_rate: LearningRate,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-6,
        weight_decay: WeightDecay = 0.0,
    ) -> None:
        super().__init__(learning_rate, params, weight_decay)
        self.set_betas(beta1, beta2, eps)
        self.add_slots("lamb_m", "lamb_v")

    def rule(self) -> optax.GradientTransformation:
        """LAMB with these numbers."""
        return rules.lamb(self.beta1, self.beta2, self.eps)


def _default_filter(param: Parameter) -> bool:
    return "LayerNorm" not in param.name and "bias" not in param.name


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman & Ginsburg 2017) around another optimizer.

    For a Parameter that the filter chooses, the other optimizer gets the gradient
    `ratio * (g + weight_decay * w)` with
    `ratio = coefficient * norm(w) / (norm(g) + weight_decay * norm(w) + epsilon)` (1 where either
    norm is 0), at most the learning rate's share if `use_clip`: `min(ratio / lr, 1)`. The weight
    decay is the other optimizer's, which no longer applies it. Parameters that are not chosen get
    their gradient as it is and, as in MindSpore, no decay.

    Args:
        optimizer: the one that updates; it is used through LARS only from now on.
        epsilon: at least 0, against division by 0.
        coefficient: how far a layer may move, as a share of its norm.
        use_clip: see above.
        lars_filter: a function of a Parameter; by default all but those with `LayerNorm` or `bias`
            in their names.

    Raises:
        TypeError: `optimizer` is not an Optimizer, or an argument is of the wrong type.
        ValueError: a negative number.
    """

    keeps_frozen = True  # the optimizer inside does

    def __init__(
        self,
        optimizer: Optimizer,
        epsilon: float = 1e-05,
        coefficient: float = 0.001,
        use_clip: bool = False,
        lars_filter: Callable[[Parameter], bool] = _default_filter,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                "LARS goes around an optimizer, e.g. LARS(nn.Momentum(params, 0.1, 0.9)); "
                f"got {type(optimizer).__name__}."
            )
        Cell.__init__(self, auto_prefix=False)
        self.__dict__["_by_name"] = {}
        self.epsilon = checks.not_negative("LARS", "epsilon", epsilon, allow_int=False)
        self.coefficient = checks.not_negative("LARS", "coefficient", coefficient, allow_int=False)
        self.use_clip = checks.boolean("LARS", "use_clip", use_clip)
        if not callable(lars_filter):
            raise TypeError(f"LARS: lars_filter must be a function, got {lars_filter!r}.")
        self.lars_flag = tuple(bool(lars_filter(p)) for p in optimizer.parameters)
        self.loss_scale = optimizer.loss_scale
        self.reciprocal_scale = optimizer.reciprocal_scale
        self.dynamic_lr = optimizer.dynamic_lr
        self.__dict__["_parameters"] = self.__dict__["parameters"] = optimizer.parameters
        self._preprocesses = True
        self.add_state("global_step", optimizer.global_step)
        optimizer._preprocesses = False
        self.opt = optimizer

    def __getattr__(self, name: str) -> Any:
        # Rates, groups and decay are those of the optimizer inside.
        try:
            return super().__getattr__(name)
        except AttributeError:
            inner = self.__dict__.get("_cells", {}).get("opt")
            if inner is None or name.startswith("__"):
                raise
            return getattr(inner, name)

    def construct(self, gradients: Gradients) -> Any:
        """One update, as `Optimizer`."""
        grads = self.check_gradients(gradients)
        if self.loss_scale != 1.0:
            grads = [g * self.reciprocal_scale for g in grads]
        rows = zip(grads, self._parameters, self._decays(), self._rates(), strict=True)
        scaled = [
            self._scaled(g, work(p), decay, rate) if chosen else g
            for chosen, (g, p, decay, rate) in zip(self.lars_flag, rows, strict=True)
        ]
        return self.opt(tuple(wrap(g) for g in scaled))

    def _scaled(self, g: Array, w: Array, decay: RawNumber, rate: RawNumber) -> Array:
        return _lars(g, w, decay, rate, self.coefficient, self.epsilon, clip=self.use_clip)


def _lars_ratio(
    g: Array,
    w: Array,
    decay: RawNumber,
    rate: RawNumber,
    coefficient: float,
    epsilon: float,
    clip: bool,
) -> Array:
    norm_w, norm_g = jnp.sqrt(jnp.sum(w * w)), jnp.sqrt(jnp.sum(g * g))
    ratio = coefficient * norm_w / (norm_g + decay * norm_w + epsilon)
    ratio = jnp.where((norm_w > 0) & (norm_g > 0), ratio, jnp.ones_like(ratio))
    if clip:
        ratio = jnp.minimum(ratio / rate, 1.0)
    return ratio * (g + decay * w)


_lars = jax.jit(_lars_ratio, static_argnames=("clip",))
