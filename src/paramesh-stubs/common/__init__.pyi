# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.tensor.row_tensor import *
from paramesh.mindspore_names import *
from paramesh.sampling.recipe import *
from paramesh.initializer import *
from paramesh.dtype import *
from paramesh.parameter import *
from paramesh.tensor import *
from paramesh.common import api as api
from paramesh.common import dtype as dtype
from paramesh.common import generator as generator
from paramesh.common import initializer as initializer
from paramesh.common import jit_config as jit_config
from paramesh.common import lazy_inline as lazy_inline
from paramesh.common import parameter as parameter
from paramesh.common import seed as seed
from paramesh.common import tensor as tensor
