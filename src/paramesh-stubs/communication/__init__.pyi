# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.parallel.communication import *
from paramesh.communication import _comm_helper as _comm_helper
from paramesh.communication import management as management
