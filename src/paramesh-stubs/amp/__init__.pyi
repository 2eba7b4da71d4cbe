# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.optim.loss_scale import *
from paramesh.train.loss_scalers import *
from paramesh.train.amp import *
