"""`mint.special`: torch's special functions."""

from paramesh.mint.arrays import log_softmax
from paramesh.mint.elementwise import erfc, exp2, expm1, log1p, round, sinc

__all__ = ["erfc", "exp2", "expm1", "log1p", "log_softmax", "round", "sinc"]
