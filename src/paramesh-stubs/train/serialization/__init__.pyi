# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.mindspore_internals import *
from paramesh.mindspore_later_names import *
from paramesh.mindspore_names import *
from paramesh.checkpoint import *
