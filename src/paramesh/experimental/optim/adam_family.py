"""Adam and its relatives, with groups: their arguments, and the rule and state of each.

All take `params` (Parameters, or dicts with `params` and options of their own), `lr` (a number or a
Tensor of shape (); a Parameter of its own in `param_groups[i]["lr"]`), and `maximize`, which turns
the gradients around. A call takes the gradients in the order of `parameters`, and gives True for
each.

All raise TypeError for an argument of the wrong type, and ValueError for a number out of range, no
Parameters, or a Parameter in two groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from paramesh.dtype import int32
from paramesh.experimental.optim import rules
from paramesh.experimental.optim.group_optimizer import Group, GroupRule, Params
from paramesh.optim import checks
from paramesh.tensor.base import Tensor

#: What `lr` may be.
Rate = float | Tensor


def check_betas(name: str, group: Group) -> None:
    """Two numbers in [0, 1)."""
    betas = group["betas"]
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise TypeError(f"{name}: betas must be two numbers, such as (0.9, 0.999), got {betas!r}.")
    for i, beta in enumerate(betas):
        checks.real(name, f"betas[{i}]", beta, 0, 1, open_high=True)


def check_numbers(name: str, group: Group, *keys: str, positive: bool = False) -> None:
    """Numbers of at least 0, or above 0."""
    for key in keys:
        checks.real(name, key, group[key], 0, open_low=positive)


class AdamFamily(GroupRule):
    """What Adam and AdamW have in common: their options and state."""

    columns = ("exp_avg", "exp_avg_sq")
    counter = "state_step"
    counter_kind = (int32, (), 0)
    #: Whether there is the largest second moment in any case; otherwise only where it is used.
    always_largest: ClassVar[bool] = False

    def __init__(
        self,
        params: Params,
        lr: Rate,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        amsgrad: bool,
        maximize: bool,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
            },
        )

    def _columns(self) -> tuple[str, ...]:
        wanted = self.always_largest or any(group["amsgrad"] for group in self.param_groups)
        return (*self.columns, *(["max_exp_avg_sq"] if wanted else []))

    def check_options(self, name: str, group: Group) -> None:
        """Betas in [0, 1), `eps` of at least 0, and bools."""
        check_betas(name, group)
        check_numbers(name, group, "eps")
        checks.boolean(name, "amsgrad", group["amsgrad"])
        checks.boolean(name, "maximize", group["maximize"])


class Adam(AdamFamily):
    """Adam; the decay is added to the gradient.

    `p -= lr * sqrt(1 - b2**t) / (1 - b1**t) * m / (sqrt(v) + eps)`. (`mint.optim.Adam` adds `eps`
    to the corrected root.)

    Args:
        params, lr, maximize: see the module.
        betas: two numbers in [0, 1).
        eps: at least 0.
        weight_decay: at least 0.
        amsgrad: the largest second moment so far in place of the present one. MindSpore 2.10 takes
            the argument, and computes without it.
    """

    leaf = rules.adam_uncorrected
    always_largest = True

    def __init__(
        self,
        params: Params,
        lr: Rate = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize)


class AdamW(AdamFamily):
    """Adam with decay apart from the gradient: `p -= lr * weight_decay * p` besides.

    Arguments as of `Adam`.
    """

    leaf = rules.adamw
    always_largest = True

    def __init__(
        self,
        params: Params,
        lr: Rate = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize)


class Adamax(GroupRule):
    """Adam with the infinity norm of the gradients.

    Args:
        params, lr, maximize: see the module.
        betas: two numbers in [0, 1).
        eps: above 0, added to the gradient's size.
        weight_decay: at least 0; added to the gradient.
    """

    leaf = rules.adamax
    columns = ("exp_avg", "exp_inf")

    def __init__(
        self,
        params: Params,
        lr: Rate = 0.002,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
            },
        )

    def check_options(self, name: str, group: Group) -> None:
        """Betas in [0, 1), `eps` above 0."""
        check_betas(name, group)
        check_numbers(name, group, "eps", positive=True)
        checks.boolean(name, "maximize", group["maximize"])


class RAdam(GroupRule):
    """Adam whose second moment is used once its variance is known.

    Args:
        params, lr: see the module.
        betas: two numbers in [0, 1).
        eps: above 0, beside the root.
        weight_decay: at least 0; added to the gradient.
    """

    leaf = rules.radam
    columns = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: Rate = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def check_options(self, name: str, group: Group) -> None:
        """Betas in [0, 1), `eps` above 0."""
        check_betas(name, group)
        check_numbers(name, group, "eps", positive=True)


class NAdam(GroupRule):
    """Adam with Nesterov's momentum.

    Args:
        params, lr: see the module.
        betas: two numbers in [0, 1).
        eps: above 0, beside the root.
        weight_decay: at least 0; added to the gradient.
        momentum_decay: at least 0.
    """

    leaf = rules.nadam
    columns = ("exp_avg", "exp_avg_sq", "mu_product")
    starts: ClassVar[Mapping[str, float]] = {"mu_product": 1.0}

    def __init__(
        self,
        params: Params,
        lr: Rate = 0.002,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 0.004,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
            },
        )

    def check_options(self, name: str, group: Group) -> None:
        """Betas in [0, 1), `eps` above 0."""
        check_betas(name, group)
        check_numbers(name, group, "momentum_decay")
        check_numbers(name, group, "eps", positive=True)
