# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.optim.sgd import *
