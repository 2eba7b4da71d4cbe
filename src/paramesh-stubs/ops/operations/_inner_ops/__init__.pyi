# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.mindspore_primitives import *
from paramesh.ops.operations import *
