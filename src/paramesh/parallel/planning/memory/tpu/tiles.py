"""Arrays of TPUs lie in tiles: 8 rows of 128 numbers, filled up where there are fewer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from paramesh.parallel.search.graph import Graph, Operator
from paramesh.parallel.search.problem import Problem
from paramesh.parallel.search.resharding import Spec, local

#: Rows and numbers.
_TILE = (8, 128)
#: The part of the memory on the chip that buffers may have: of its 128 MiB the compiler keeps 16
#: for what kernels need as they run (libtpu 0.0.42, `xla_tpu_scoped_vmem_limit_kib`).
OF_CHIP = 7 / 8


def filled_up(problem: Problem, choice: Sequence[int], operator: Operator, on_chip: float) -> float:
    """Bytes in which a TPU adds up the updates of a table, if they are filled up; or 0.

    The sum lies row by row if that is small enough for the chip, or else column by column, which
    fills up nothing; where neither is, row by row (libtpu 0.0.42). Then it is brought into the
    layout of the table.

    Args:
        problem: with the operator.
        choice: the strategy of each node.
        operator: of any kind.
        on_chip: bytes of the memory on the chip; 0 for what is no TPU.
    """
    if not on_chip or operator.name not in ("scatter-add", "scatter_add"):
        return 0.0
    tensor, factors = operator.outputs[0]
    spec = problem.spec(
        problem.nodes[operator.cluster].strategies[choice[operator.cluster]], factors
    )
    own = problem.graph.tensors[tensor]
    if len(own.shape) < 2:
        return 0.0
    size = local(problem.machine, own.nbytes, spec)
    filled = size * _filled(own.shape, spec, problem.machine.sizes)
    lies = size if size <= on_chip < filled else filled
    return lies if filled > size else 0.0


def looked_up(problem: Problem, choice: Sequence[int], operator: Operator, on_chip: float) -> float:
    """Bytes of the copy of a table, row by row, that a TPU makes before it looks rows up; or 0.

    It does so with narrow rows if what they fill up is small enough for the chip (libtpu 0.0.42:
    102 MB are, 128 MiB are not).

    Args:
        problem: with the operator.
        choice: the strategy of each node.
        operator: of any kind.
        on_chip: bytes of the memory on the chip; 0 for what is no TPU.
    """
    if not on_chip or operator.name != "gather":
        return 0.0
    tensor, factors = operator.inputs[0]
    spec = problem.spec(
        problem.nodes[operator.cluster].strategies[choice[operator.cluster]], factors
    )
    own, sizes = problem.graph.tensors[tensor], problem.machine.sizes
    if len(own.shape) != 2 or own.maker >= 0:
        return 0.0
    size = local(problem.machine, own.nbytes, spec)
    filled = size * _filled(own.shape, spec, sizes)
    narrow = in_tiles(size, own.shape, spec, sizes) < filled
    return filled if narrow and filled <= OF_CHIP * on_chip else 0.0


def in_tiles(
    nbytes: float,
    shape: tuple[int, ...],
    spec: Spec,
    sizes: tuple[int, ...],
    dims: tuple[int, ...] = (),
) -> float:
    """Bytes of an array with what fills up its tiles.

    The compiler lays out two of the dimensions in tiles so that it fills up least. Tiles of arrays
    with one, two or four rows have no more.

    Args:
        nbytes: that a device has of it.
        shape: of the full array.
        spec: how it is sharded.
        sizes: of the mesh.
        dims: the dimensions that may be in tiles; () for all.
    """
    if len(shape) < 2:
        return nbytes
    own = [max(shape[dim] // _parts(dim, spec, sizes), 1) for dim in dims or range(len(shape))]
    return nbytes * min(itertools.starmap(_of_tiles, itertools.permutations(own, 2)))


def lanes_filled(problem: Problem, choice: Sequence[int], operator: Operator) -> float:
    """How much longer a TPU takes for a convolution than its operations say.

    It multiplies 128 by 128 channels at a time, however few there are. In the gradient of a kernel
    the sum goes over the batch and all places, and the channels are those of both images.

    Args:
        problem: with the operator.
        choice: the strategy of each node.
        operator: of any kind; 1 for what is no convolution.
    """
    if operator.name != "conv_general_dilated" or len(operator.inputs) < 2:
        return 1.0
    node, graph = problem.nodes[operator.cluster], problem.graph
    (kernel, places), (made, after) = operator.inputs[1], operator.outputs[0]
    space = [
        math.prod(n for n, f in zip(graph.tensors[t].shape, factors, strict=True) if f is None)
        for t, factors in ((kernel, places), (made, after))
    ]
    tensor, factors = (made, after) if space[0] > space[1] else (kernel, places)
    spec = problem.spec(node.strategies[choice[operator.cluster]], factors)
    more = 1.0
    for dim, (size, factor) in enumerate(zip(graph.tensors[tensor].shape, factors, strict=True)):
        if factor is not None:
            part = max(size // _parts(dim, spec, problem.machine.sizes), 1)
            more *= math.ceil(part / _TILE[1]) * _TILE[1] / part
    return more


def of_images(graph: Graph) -> dict[int, tuple[int, ...]]:
    """The dimensions that are in tiles, of tensors that convolutions and work on their images have.

    A TPU computes convolutions with batch and channels in tiles, however few there are of both, and
    has what is elementwise before and after lie alike (libtpu 0.0.42).
    """
    found: dict[int, tuple[int, ...]] = {}
    for operator in graph.operators:
        if operator.name == "conv_general_dilated":
            for tensor, factors in (*operator.inputs, *operator.outputs):
                dims = tuple(dim for dim, factor in enumerate(factors) if factor is not None)
                if len(dims) == 2 < len(factors):
                    found[tensor] = dims
    for operators in (graph.operators, list(reversed(graph.operators))):
        for operator in operators:
            own = [tensor for tensor, _ in (*operator.inputs, *operator.outputs)]
            shape = graph.tensors[own[-1]].shape
            alike = [tensor for tensor in own if graph.tensors[tensor].shape == shape]
            known = next((found[tensor] for tensor in alike if tensor in found), None)
            if operator.joins and known is not None:
                for tensor in alike:
                    found.setdefault(tensor, known)
    return found


def in_rows(nbytes: float, shape: tuple[int, ...], spec: Spec, sizes: tuple[int, ...]) -> float:
    """Bytes of an array that lies row by row, as the updates of a table do; as `in_tiles`."""
    own = max(shape[-1] // _parts(len(shape) - 1, spec, sizes), 1) if shape else 1
    return nbytes * math.ceil(own / _TILE[1]) * _TILE[1] / own if own > 1 else nbytes


def _parts(dim: int, spec: Spec, sizes: tuple[int, ...]) -> int:
    return math.prod(n for d, n in zip(spec, sizes, strict=True) if d == dim)


def _of_tiles(rows: int, numbers: int) -> float:
    """How much larger so many rows of numbers are in tiles."""
    high = next((n for n in (1, 2, 4) if rows <= n), _TILE[0])
    wide = _TILE[1]
    return math.ceil(rows / high) * high / rows * math.ceil(numbers / wide) * wide / numbers


def _filled(shape: tuple[int, ...], spec: Spec, sizes: tuple[int, ...]) -> float:
    """How much larger an array is in tiles."""
    more = 1.0
    for dim, tile in zip((len(shape) - 2, len(shape) - 1), _TILE, strict=True):
        own = max(shape[dim] // _parts(dim, spec, sizes), 1)
        if own == 1 and dim == len(shape) - 1:
            return 1.0  # a column is kept as a vector
        more *= math.ceil(own / tile) * tile / own
    return more
