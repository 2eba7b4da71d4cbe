# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.train.callback_internals import *
from paramesh.mindspore_internals import *
from paramesh.train import *
from paramesh.train.callback import _callback as _callback
from paramesh.train.callback import _checkpoint as _checkpoint
