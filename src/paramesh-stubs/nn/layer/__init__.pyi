# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.nn import *
from paramesh.nn.layer import activation as activation
from paramesh.nn.layer import basic as basic
from paramesh.nn.layer import container as container
from paramesh.nn.layer import conv as conv
from paramesh.nn.layer import embedding as embedding
from paramesh.nn.layer import image as image
from paramesh.nn.layer import math as math
from paramesh.nn.layer import normalization as normalization
from paramesh.nn.layer import pooling as pooling
from paramesh.nn.layer import rnns as rnns
