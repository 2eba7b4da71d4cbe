# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.mindspore_internals import *
from paramesh.ops.halo_exchange import *
from paramesh.ops.collectives import *
from paramesh.ops.operations import *
