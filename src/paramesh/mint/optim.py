"""`mint.optim`: Adam, AdamW and SGD with torch's arguments and rules.

    optimizer = mint.optim.AdamW(net.trainable_params(), lr=1e-3)
    optimizer(gradients)

Their groups, and the schedulers that move their learning rates, are those of `experimental.optim`.
"""

from __future__ import annotations

from paramesh.dtype import float32, int32
from paramesh.experimental.optim import optimizers, rules
from paramesh.experimental.optim.adam_family import AdamFamily, Rate
from paramesh.experimental.optim.group_optimizer import Params

__all__ = ["Adam", "AdamW", "FusedAdamW", "SGD"]


class Adam(AdamFamily):
    """Adam; the decay is added to the gradient.

    `p -= lr / (1 - b1**t) * m / (sqrt(v) / sqrt(1 - b2**t) + eps)`.

    Args:
        params: Parameters, or dicts with `params` and options of their own.
        lr: a number of at least 0, or a Tensor of shape ().
        betas: two numbers in [0, 1).
        eps: at least 0.
        weight_decay: at least 0.
        amsgrad: the largest second moment so far in place of the present one, as in torch.
            MindSpore 2.10 does not keep it.
        maximize: turn the gradients around.

    Raises:
        TypeError, ValueError: an argument of the wrong type, or a number out of range; no
            Parameters, or one in two groups.
    """

    leaf = rules.adam
    counter_kind = (float32, (1,), 0)

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

    Arguments and errors as of `Adam`.
    """

    leaf = rules.adamw
    # MindSpore counts from -1 here, which its files have.
    counter_kind = (float32, (1,), -1)

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


class FusedAdamW(AdamW):
    """AdamW by another name: in a compiled program, small Parameters are updated together anyway.

    In MindSpore it joins the Parameters of a group into one array. Arguments and errors as of
    `AdamW`; `amsgrad` has to be the same in all groups.
    """

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
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
        if len({group["amsgrad"] for group in self.param_groups}) > 1:
            raise ValueError("FusedAdamW: amsgrad must be the same in all groups.")


class SGD(optimizers.SGD):
    """Gradient descent with momentum, whose buffer starts as the first gradient.

    Args:
        params: Parameters, or dicts with `params` and options of their own.
        lr: a number of at least 0, or a Tensor of shape (). Schedulers move it; in MindSpore 2.10
            they have no effect on this class.
        momentum: at least 0.
        dampening: what the gradient's part of the buffer is diminished by.
        weight_decay: at least 0; added to the gradient.
        nesterov: look ahead by one step of the momentum; needs momentum, and no dampening.
        maximize: turn the gradients around.

    Raises:
        TypeError, ValueError: an argument of the wrong type, or a number out of range; no
            Parameters, or one in two groups.
    """

    leaf = rules.sgd
    columns = ("momentum_buf",)
    counter = "step_t"
    counter_kind = (int32, (), 0)
