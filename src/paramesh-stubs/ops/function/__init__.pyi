# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.ops.functional import *
from paramesh.ops.function import array_func as array_func
from paramesh.ops.function import math_func as math_func
from paramesh.ops.function import nn_func as nn_func
from paramesh.ops.function import random_func as random_func
