"""Every operator's name, its function and class forms, in one namespace."""

# ruff: noqa: F403

from paramesh.ops import (
    activations,
    adaptive_pooling,
    along_axis,
    array,
    attention,
    bessel,
    blocks,
    boxes,
    changed_copies,
    collectives,
    colours,
    composite,
    conv,
    counting,
    creation,
    ctc,
    diagonals,
    factorizations,
    fourier,
    fractional_pooling,
    graph_marks,
    grids,
    halo_exchange,
    indexing,
    like_others,
    linalg,
    losses,
    margin_losses,
    math,
    more_random,
    more_updates,
    nn_ops,
    overflow,
    pooling,
    random_ops,
    rearranging,
    recurrent,
    reduce,
    resharding,
    resizing,
    scattering,
    segments,
    selecting,
    sparse,
    sparse_indices,
    special,
    state,
    statistics,
    unpooling,
    unsorted_segments,
    updates,
    volumes,
)
from paramesh.ops.activations import *
from paramesh.ops.adaptive_pooling import *
from paramesh.ops.along_axis import *
from paramesh.ops.array import *
from paramesh.ops.attention import *
from paramesh.ops.bessel import *
from paramesh.ops.blocks import *
from paramesh.ops.boxes import *
from paramesh.ops.changed_copies import *
from paramesh.ops.collectives import *
from paramesh.ops.colours import *
from paramesh.ops.composite import *
from paramesh.ops.conv import *
from paramesh.ops.counting import *
from paramesh.ops.creation import *
from paramesh.ops.ctc import *
from paramesh.ops.diagonals import *
from paramesh.ops.factorizations import *
from paramesh.ops.fourier import *
from paramesh.ops.fractional_pooling import *
from paramesh.ops.graph_marks import *
from paramesh.ops.grids import *
from paramesh.ops.halo_exchange import *
from paramesh.ops.indexing import *
from paramesh.ops.like_others import *
from paramesh.ops.linalg import *
from paramesh.ops.losses import *
from paramesh.ops.margin_losses import *
from paramesh.ops.math import *
from paramesh.ops.more_random import *
from paramesh.ops.more_updates import *
from paramesh.ops.nn_ops import *
from paramesh.ops.overflow import *
from paramesh.ops.pooling import *
from paramesh.ops.random_ops import *
from paramesh.ops.rearranging import *
from paramesh.ops.recurrent import *
from paramesh.ops.reduce import *
from paramesh.ops.resharding import *
from paramesh.ops.resizing import *
from paramesh.ops.scattering import *
from paramesh.ops.segments import *
from paramesh.ops.selecting import *
from paramesh.ops.sparse import *
from paramesh.ops.sparse_indices import *
from paramesh.ops.special import *
from paramesh.ops.state import *
from paramesh.ops.statistics import *
from paramesh.ops.unpooling import *
from paramesh.ops.unsorted_segments import *
from paramesh.ops.updates import *
from paramesh.ops.volumes import *

__all__: list[str] = []
__all__ += activations.__all__
__all__ += array.__all__
__all__ += attention.__all__
__all__ += bessel.__all__
__all__ += blocks.__all__
__all__ += boxes.__all__
__all__ += changed_copies.__all__
__all__ += collectives.__all__
__all__ += colours.__all__
__all__ += composite.__all__
__all__ += conv.__all__
__all__ += creation.__all__
__all__ += ctc.__all__
__all__ += diagonals.__all__
__all__ += factorizations.__all__
__all__ += fourier.__all__
__all__ += fractional_pooling.__all__
__all__ += graph_marks.__all__
__all__ += grids.__all__
__all__ += halo_exchange.__all__
__all__ += indexing.__all__
__all__ += unsorted_segments.__all__
__all__ += selecting.__all__
__all__ += like_others.__all__
__all__ += linalg.__all__
__all__ += losses.__all__
__all__ += margin_losses.__all__
__all__ += math.__all__
__all__ += more_random.__all__
__all__ += more_updates.__all__
__all__ += nn_ops.__all__
__all__ += overflow.__all__
__all__ += pooling.__all__
__all__ += random_ops.__all__
__all__ += adaptive_pooling.__all__
__all__ += along_axis.__all__
__all__ += counting.__all__
__all__ += rearranging.__all__
__all__ += recurrent.__all__
__all__ += reduce.__all__
__all__ += resharding.__all__
__all__ += resizing.__all__
__all__ += scattering.__all__
__all__ += segments.__all__
__all__ += sparse.__all__
__all__ += sparse_indices.__all__
__all__ += special.__all__
__all__ += state.__all__
__all__ += statistics.__all__
__all__ += unpooling.__all__
__all__ += updates.__all__
__all__ += volumes.__all__
