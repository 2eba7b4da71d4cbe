"""Every operator's name, its function and class forms, in one namespace."""

# ruff: noqa: F403

from paramesh.ops import (
    activations,
    array,
    collectives,
    composite,
    conv,
    creation,
    indexing,
    losses,
    math,
    nn_ops,
    pooling,
    random_ops,
    reduce,
    state,
)
from paramesh.ops.activations import *
from paramesh.ops.array import *
from paramesh.ops.collectives import *
from paramesh.ops.composite import *
from paramesh.ops.conv import *
from paramesh.ops.creation import *
from paramesh.ops.indexing import *
from paramesh.ops.losses import *
from paramesh.ops.math import *
from paramesh.ops.nn_ops import *
from paramesh.ops.pooling import *
from paramesh.ops.random_ops import *
from paramesh.ops.reduce import *
from paramesh.ops.state import *

__all__: list[str] = []
__all__ += activations.__all__
__all__ += array.__all__
__all__ += collectives.__all__
__all__ += composite.__all__
__all__ += conv.__all__
__all__ += creation.__all__
__all__ += indexing.__all__
__all__ += losses.__all__
__all__ += math.__all__
__all__ += nn_ops.__all__
__all__ += pooling.__all__
__all__ += random_ops.__all__
__all__ += reduce.__all__
__all__ += state.__all__
