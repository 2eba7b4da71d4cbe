# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.runtime import *
from paramesh.device_context.gpu import op_precision as op_precision
