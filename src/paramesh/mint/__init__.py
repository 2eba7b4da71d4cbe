"""MindSpore's `mint`: torch's functions and layers by their names and arguments, as tables.

    from paramesh import mint

    mint.sum(x, dim=1, keepdim=True)

They take Tensors, Parameters, arrays and numbers, and give Tensors.
"""

from typing import TYPE_CHECKING

from paramesh import lazy_names
from paramesh.mint import arrays, elementwise, further
from paramesh.mint.arrays import *  # noqa: F403
from paramesh.mint.elementwise import *  # noqa: F403
from paramesh.mint.further import *  # noqa: F403
from paramesh.ops.linalg import cdist, inverse, kron
from paramesh.ops.rearranging import unique_consecutive
from paramesh.ops.special import float_power
from paramesh.tensor.base import Tensor

if TYPE_CHECKING:
    from paramesh.mint import distributed as distributed
    from paramesh.mint import linalg as linalg
    from paramesh.mint import nn as nn
    from paramesh.mint import special as special
    from paramesh.mint.nn import functional as functional
    from paramesh.mint.nn.functional import conv2d as conv2d
    from paramesh.mint.nn.functional import pad as pad

__all__ = ["Tensor", "cdist", "float_power", "inverse", "kron", "unique_consecutive"]
__all__ += arrays.__all__
__all__ += elementwise.__all__
__all__ += further.__all__

#: Modules below, which are loaded when somebody asks for them.
_MODULES = ("distributed", "linalg", "nn", "special")
_LATER = {
    "conv2d": "paramesh.mint.nn.functional",
    "functional": "paramesh.mint.nn",
    "pad": "paramesh.mint.nn.functional",
}


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, *_LATER])


__getattr__ = lazy_names.opened(__name__, _LATER, __dir__)
