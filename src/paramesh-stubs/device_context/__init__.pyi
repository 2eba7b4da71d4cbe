# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.runtime import *
from paramesh.device_context import ascend as ascend
from paramesh.device_context import cpu as cpu
from paramesh.device_context import gpu as gpu
