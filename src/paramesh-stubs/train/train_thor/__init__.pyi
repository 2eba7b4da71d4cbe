# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.mindspore_internals import *
from paramesh.train import *
from paramesh.train.train_thor import dataset_helper as dataset_helper
