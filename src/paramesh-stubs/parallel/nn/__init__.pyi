# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.train import *
from paramesh.train.pipeline_cell import *
from paramesh.parallel.nn import parallel_cell_wrapper as parallel_cell_wrapper
from paramesh.parallel.nn import parallel_grad_reducer as parallel_grad_reducer
