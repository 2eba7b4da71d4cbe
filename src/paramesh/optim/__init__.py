"""Optimizers and schedules: MindSpore's names and numbers over optax transformations."""

from paramesh import lazy_names
from paramesh.optim.adam import Adam, AdaMax, AdamOffload, AdamWeightDecay, LazyAdam
from paramesh.optim.adaptive import FTRL, Adadelta, Adagrad, ProximalAdagrad, RMSProp
from paramesh.optim.averaging import ASGD, AdaFactor, Rprop
from paramesh.optim.from_optax import from_optax
from paramesh.optim.groups import by_name, rest
from paramesh.optim.large_batch import LARS, Lamb
from paramesh.optim.lion import Lion
from paramesh.optim.loss_scale import (
    DynamicLossScaleManager,
    DynamicLossScaleUpdateCell,
    FixedLossScaleManager,
    FixedLossScaleUpdateCell,
    LossScaleManager,
)
from paramesh.optim.optimizer import Optimizer
from paramesh.optim.rowwise_adagrad import RowwiseAdagrad
from paramesh.optim.rowwise_adam import RowwiseAdam
from paramesh.optim.rule_optimizer import RuleOptimizer
from paramesh.optim.schedule_lists import (
    cosine_decay_lr,
    exponential_decay_lr,
    inverse_decay_lr,
    natural_exp_decay_lr,
    piecewise_constant_lr,
    polynomial_decay_lr,
    warmup_lr,
)
from paramesh.optim.schedules import (
    CosineDecayLR,
    ExponentialDecayLR,
    InverseDecayLR,
    LearningRateSchedule,
    NaturalExpDecayLR,
    PolynomialDecayLR,
    WarmUpLR,
)
from paramesh.optim.sgd import SGD, Momentum

__all__ = [
    "Optimizer",
    "RuleOptimizer",
    "SGD",
    "Momentum",
    "Adam",
    "LazyAdam",
    "AdamOffload",
    "AdamWeightDecay",
    "AdaMax",
    "Adagrad",
    "ProximalAdagrad",
    "RMSProp",
    "Adadelta",
    "FTRL",
    "ASGD",
    "Rprop",
    "AdaFactor",
    "Lion",
    "RowwiseAdagrad",
    "RowwiseAdam",
    "Lamb",
    "LARS",
    "from_optax",
    "by_name",
    "rest",
    "LearningRateSchedule",
    "ExponentialDecayLR",
    "NaturalExpDecayLR",
    "InverseDecayLR",
    "CosineDecayLR",
    "PolynomialDecayLR",
    "WarmUpLR",
    "piecewise_constant_lr",
    "exponential_decay_lr",
    "natural_exp_decay_lr",
    "inverse_decay_lr",
    "cosine_decay_lr",
    "polynomial_decay_lr",
    "warmup_lr",
    "LossScaleManager",
    "FixedLossScaleManager",
    "DynamicLossScaleManager",
    "FixedLossScaleUpdateCell",
    "DynamicLossScaleUpdateCell",
]

#: Imported when they are used: the layers that they need look for something in each gradient.
_LAZY = lazy_names.homes({"paramesh.optim.second_order": "Thor thor"})

__getattr__ = lazy_names.opened(
    __name__, _LAZY, lambda: [*__all__, *_LAZY], {"AdamW": "optim.AdamWeightDecay"}
)
