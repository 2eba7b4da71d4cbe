# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.dataset.vision import *
from paramesh.dataset.transforms.vision import c_transforms as c_transforms
from paramesh.dataset.transforms.vision import py_transforms as py_transforms
