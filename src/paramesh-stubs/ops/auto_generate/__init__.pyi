# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.mindspore_generated import *
from paramesh.ops.functional import *
from paramesh.ops.operations import *
from paramesh.ops.auto_generate import gen_ops_def as gen_ops_def
from paramesh.ops.auto_generate import gen_ops_prim as gen_ops_prim
