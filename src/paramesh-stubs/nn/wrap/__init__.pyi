# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.train import *
from paramesh.nn.wrap import cell_wrapper as cell_wrapper
from paramesh.nn.wrap import grad_reducer as grad_reducer
from paramesh.nn.wrap import loss_scale as loss_scale
