# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.dataset.vision.c_transforms import *
