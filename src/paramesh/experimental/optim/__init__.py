"""Optimizers with torch's arguments and parameter groups, and schedulers that move their rates.

from paramesh.experimental import optim

optimizer = optim.Adam(net.trainable_params(), lr=0.01)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=30)
optimizer(gradients)
scheduler.step()
"""

from paramesh.experimental.optim import lr_scheduler
from paramesh.experimental.optim.adam_family import Adam, Adamax, AdamW, NAdam, RAdam
from paramesh.experimental.optim.group_optimizer import Group, Optimizer
from paramesh.experimental.optim.optimizers import ASGD, SGD, Adadelta, Adagrad, RMSprop, Rprop

__all__ = [
    "ASGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Group",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
    "lr_scheduler",
]
