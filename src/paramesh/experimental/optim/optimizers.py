"""The other optimizers with groups: their arguments, and the rule and state of each.

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

from paramesh.experimental.optim import rules
from paramesh.experimental.optim.adam_family import Rate, check_numbers
from paramesh.experimental.optim.group_optimizer import Group, GroupRule, Params
from paramesh.optim import checks


class SGD(GroupRule):
    """Gradient descent with momentum, whose buffer starts as the first gradient.

    Args:
        params, lr, maximize: see the module.
        momentum: at least 0.
        dampening: what the gradient's part of the buffer is diminished by.
        weight_decay: at least 0; added to the gradient.
        nesterov: look ahead by one step of the momentum; needs momentum, and no dampening.
    """

    leaf = rules.sgd_with_stat
    columns = ("accum", "stat")
    counter = ""
    starts: ClassVar[Mapping[str, float]] = {"stat": 1.0}

    def __init__(
        self,
        params: Params,
        lr: Rate,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def check_options(self, name: str, group: Group) -> None:
        """Numbers, bools, and Nesterov's variant with momentum alone."""
        check_numbers(name, group, "momentum")
        checks.real(name, "dampening", group["dampening"])
        checks.boolean(name, "maximize", group["maximize"])
        if checks.boolean(name, "nesterov", group["nesterov"]) and (
            group["momentum"] <= 0 or group["dampening"] != 0
        ):
            raise ValueError(
                f"{name}: nesterov=True needs momentum above 0 and dampening 0, got "
                f"momentum={group['momentum']} and dampening={group['dampening']}."
            )


class Adagrad(GroupRule):
    """Adagrad: `p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(accum) + eps)`.

    Args:
        params, lr, maximize: see the module.
        lr_decay: at least 0.
        weight_decay: at least 0; added to the gradient.
        initial_accumulator_value: what `accum` starts from, at least 0.
        eps: above 0.
    """

    leaf = rules.adagrad
    columns = ("accum",)

    def __init__(
        self,
        params: Params,
        lr: Rate = 0.01,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "maximize": maximize,
            },
        )

    def _start(self, column: str) -> str | float:
        return float(self.defaults["initial_accumulator_value"])

    def check_options(self, name: str, group: Group) -> None:
        """Numbers of at least 0, and `eps` above 0."""
        check_numbers(name, group, "lr_decay", "initial_accumulator_value")
        check_numbers(name, group, "eps", positive=True)
        checks.boolean(name, "maximize", group["maximize"])


class Adadelta(GroupRule):
    """Adadelta, which scales the gradient by the changes that it led to.

    Args:
        params, lr, maximize: see the module.
        rho: the share of the past in both means, in [0, 1].
        eps: above 0, inside of the roots.
        weight_decay: at least 0; added to the gradient.
    """

    leaf = rules.adadelta
    columns = ("accum", "accum_update")
    counter = ""

    def __init__(
        self,
        params: Params,
        lr: Rate = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize},
        )

    def check_options(self, name: str, group: Group) -> None:
        """`rho` in [0, 1], `eps` above 0."""
        checks.real(name, "rho", group["rho"], 0, 1)
        check_numbers(name, group, "eps", positive=True)
        checks.boolean(name, "maximize", group["maximize"])


class RMSprop(GroupRule):
    """RMSprop, from a mean square of 0.

    Args:
        params, lr, maximize: see the module.
        alpha: the share of the past in the means, at least 0.
        eps: above 0, beside the root.
        weight_decay: at least 0; added to the gradient.
        momentum: at least 0.
        centered: divide by the standard deviation of the gradients.
    """

    leaf = rules.rmsprop
    columns = ("mean_grad", "mean_square", "moment")
    counter = ""

    def __init__(
        self,
        params: Params,
        lr: Rate = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "maximize": maximize,
            },
        )

    def check_options(self, name: str, group: Group) -> None:
        """Numbers of at least 0, and `eps` above 0."""
        check_numbers(name, group, "alpha", "momentum")
        check_numbers(name, group, "eps", positive=True)
        checks.boolean(name, "centered", group["centered"])
        checks.boolean(name, "maximize", group["maximize"])


class Rprop(GroupRule):
    """Rprop: steps of a size of their own for each element, by the signs of the gradients.

    Args:
        params, lr, maximize: see the module; `lr` is the first size.
        etas: what a size is multiplied by after a turn, in (0, 1), and without one, above 1.
        step_sizes: the smallest and the largest size.
    """

    leaf = rules.rprop
    columns = ("prev", "step_size")

    def __init__(
        self,
        params: Params,
        lr: Rate = 0.01,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize}
        )

    def check_options(self, name: str, group: Group) -> None:
        """Two factors around 1, and two sizes."""
        for key in ("etas", "step_sizes"):
            if not isinstance(group[key], tuple | list) or len(group[key]) != 2:
                raise TypeError(f"{name}: {key} must be two numbers, got {group[key]!r}.")
        checks.real(name, "etas[0]", group["etas"][0], 0, 1, open_low=True, open_high=True)
        checks.real(name, "etas[1]", group["etas"][1], 1, open_low=True)
        checks.boolean(name, "maximize", group["maximize"])


class ASGD(GroupRule):
    """Gradient descent that keeps the mean of what the Parameters were, in `ax`.

    Args:
        params, lr, maximize: see the module.
        lambd: the decay of the Parameters.
        alpha: the power by which the learning rate sinks.
        t0: the update from which on a mean is taken.
        weight_decay: at least 0; added to the gradient.
    """

    leaf = rules.asgd
    columns = ("eta", "mu", "ax")
    starts: ClassVar[Mapping[str, float]] = {"mu": 1.0}

    def __init__(
        self,
        params: Params,
        lr: Rate = 0.01,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lambd": lambd,
                "alpha": alpha,
                "t0": t0,
                "weight_decay": weight_decay,
                "maximize": maximize,
            },
        )

    def check_options(self, name: str, group: Group) -> None:
        """Numbers."""
        for key in ("lambd", "alpha", "t0"):
            checks.real(name, key, group[key])
        checks.boolean(name, "maximize", group["maximize"])
