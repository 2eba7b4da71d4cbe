"""`mint.special`: torch's special functions."""

from paramesh.mint.arrays import log_softmax  # type: ignore[attr-defined]
from paramesh.mint.elementwise import (  # type: ignore[attr-defined]
    erfc,
    exp2,
    expm1,
    log1p,
    round,
    sinc,
)

__all__ = ["erfc", "exp2", "expm1", "log1p", "log_softmax", "round", "sinc"]
