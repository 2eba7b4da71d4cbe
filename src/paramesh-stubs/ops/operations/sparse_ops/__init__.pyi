# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.mindspore_sparse import *
from paramesh.mindspore_sets import *
from paramesh.ops.operations import *
