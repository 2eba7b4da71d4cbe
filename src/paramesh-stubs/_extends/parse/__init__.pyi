# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.mindspore_primitives import *
from paramesh._extends.parse import standard_method as standard_method
