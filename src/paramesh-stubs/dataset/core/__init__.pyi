# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.dataset import *
from paramesh.dataset.core import config as config
from paramesh.dataset.core import validator_helpers as validator_helpers
