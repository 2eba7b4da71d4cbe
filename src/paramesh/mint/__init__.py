"""MindSpore's `mint`: torch's functions and layers by their names and arguments, as tables.

    from paramesh import mint

    mint.sum(x, dim=1, keepdim=True)

They take Tensors, Parameters, arrays and numbers, and give Tensors.
"""

from paramesh import lazy_names
from paramesh.mint import arrays, elementwise, further
from paramesh.mint.arrays import *  # noqa: F403
from paramesh.mint.elementwise import *  # noqa: F403
from paramesh.mint.further import *  # noqa: F403
from paramesh.ops.linalg import cdist, inverse, kron
from paramesh.ops.rearranging import unique_consecutive
from paramesh.tensor.base import Tensor

__all__ = ["Tensor", "cdist", "inverse", "kron", "unique_consecutive"]
__all__ += arrays.__all__
__all__ += elementwise.__all__
__all__ += further.__all__

#: Modules below, which are loaded when somebody asks for them.
_MODULES = ("distributed", "linalg", "nn", "optim", "special")
_LATER = {
    "conv2d": "paramesh.mint.nn.functional",
    "functional": "paramesh.mint.nn",
    "pad": "paramesh.mint.nn.functional",
}


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, *_LATER])


__getattr__ = lazy_names.opened(__name__, _LATER, __dir__)
