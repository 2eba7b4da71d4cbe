# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.dataset import *
from paramesh.dataset.engine import config as config
from paramesh.dataset.engine import datasets as datasets
from paramesh.dataset.engine import datasets_audio as datasets_audio
from paramesh.dataset.engine import datasets_standard_format as datasets_standard_format
from paramesh.dataset.engine import datasets_text as datasets_text
from paramesh.dataset.engine import datasets_user_defined as datasets_user_defined
from paramesh.dataset.engine import datasets_vision as datasets_vision
from paramesh.dataset.engine import iterators as iterators
from paramesh.dataset.engine import samplers as samplers
