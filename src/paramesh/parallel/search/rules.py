"""How each primitive of JAX can be sharded: which dimensions of operands and results go together.

Glossary
    label       what dimensions that are sharded together share; None for one that is not sharded
    summed      labels along which the result is a sum: if sharded, each device has a summand of it
    joins       whether an equation may share one decision with the chain that it is in: elementwise
                work, reductions and moves of dimensions do; what computes much does not

A primitive without a rule is replicated, and listed in the report. Rules speak of full dimensions:
what XLA sends inside of an operator beyond sums of its results is none of theirs, so they allow
only shardings for which there is nothing else to send.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from paramesh._compat.jax import JaxprEqn, shape_of
from paramesh.parallel.partitioning.rewriting import inner_of
from paramesh.parallel.partitioning.rules import convolution_rule

Label = Hashable
Labels = tuple[Label | None, ...]
Shape = tuple[int, ...]


class AxisRule(NamedTuple):
    """The labels of an equation.

    Attributes:
        inputs: of the dimensions of each operand.
        outputs: of the dimensions of each result.
        summed: see the glossary.
        joins: see the glossary.
        known: False where there is no rule and all is replicated.
        pieces: of labels whose dimensions come in fewer pieces than their size; the number of parts
            divides it.
    """

    inputs: tuple[Labels, ...]
    outputs: tuple[Labels, ...]
    summed: frozenset[Label] = frozenset()
    joins: bool = False
    known: bool = True
    pieces: Mapping[Label, int] = MappingProxyType({})


class Shapes(NamedTuple):
    """What a rule sees of an equation besides its parameters."""

    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]


def axis_rule_of(eqn: JaxprEqn) -> AxisRule:
    """The rule of an equation; one with a program inside is replicated."""
    shapes = Shapes(
        tuple(shape_of(var) for var in eqn.invars),
        tuple(shape_of(var) for var in eqn.outvars),
    )
    name = eqn.primitive.name
    if name in _RULES:
        return _RULES[name](eqn.params, shapes)
    if inner_of(eqn) or name in _WHOLE:
        return kept_whole(shapes)
    return _elementwise(shapes) or kept_whole(shapes)


def kept_whole(shapes: Shapes) -> AxisRule:
    """Nothing is sharded."""
    inputs = tuple((None,) * len(shape) for shape in shapes.inputs)
    outputs = tuple((None,) * len(shape) for shape in shapes.outputs)
    return AxisRule(inputs, outputs, known=False)


def _elementwise(shapes: Shapes) -> AxisRule | None:
    """Results of one shape, and operands of it or scalars; a dimension of size 1 is broadcast."""
    if not shapes.outputs or any(shape != shapes.outputs[0] for shape in shapes.outputs):
        return None
    shape = shapes.outputs[0]
    for own in shapes.inputs:
        fits = len(own) == len(shape) and all(a in (1, b) for a, b in zip(own, shape, strict=True))
        if own and not fits:
            return None
    dims = tuple(range(len(shape)))
    return AxisRule(
        tuple(dims[: len(own)] for own in shapes.inputs), (dims,) * len(shapes.outputs), joins=True
    )


def _product(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    (left_summed, right_summed), (left_batch, right_batch) = params["dimension_numbers"]
    left: list[Label] = [("m", dim) for dim in range(len(shapes.inputs[0]))]
    right: list[Label] = [("n", dim) for dim in range(len(shapes.inputs[1]))]
    for number, (a, b) in enumerate(zip(left_batch, right_batch, strict=True)):
        left[a] = right[b] = ("b", number)
    for number, (a, b) in enumerate(zip(left_summed, right_summed, strict=True)):
        left[a] = right[b] = ("k", number)
    out = (
        *(("b", number) for number in range(len(left_batch))),
        *(label for label in left if label[0] == "m"),  # type: ignore[index]
        *(label for label in right if label[0] == "n"),  # type: ignore[index]
    )
    summed = frozenset(("k", number) for number in range(len(left_summed)))
    return AxisRule((tuple(left), tuple(right)), (out,), summed)


def _convolution(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    cuts = convolution_rule(params, [*shapes.inputs, *shapes.outputs])
    *inputs, out = [tuple(name or None for name in names) for names in cuts.dims]
    return AxisRule(tuple(inputs), (out,), cuts.summed)


def _reduction(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    dims = tuple(range(len(shapes.inputs[0])))
    out = tuple(dim for dim in dims if dim not in params["axes"])
    count = len(shapes.outputs)
    return AxisRule((dims,) * count, (out,) * count, frozenset(params["axes"]), joins=True)


def _place_of_extreme(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    dims = tuple(None if d in params["axes"] else d for d in range(len(shapes.inputs[0])))
    return AxisRule((dims,), (tuple(d for d in dims if d is not None),), joins=True)


def _broadcast(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    out: Labels = tuple(("new", dim) for dim in range(len(shapes.outputs[0])))
    own: list[Label | None] = [None] * len(shapes.inputs[0])
    for dim, place in enumerate(params["broadcast_dimensions"]):
        if shapes.inputs[0][dim] == shapes.outputs[0][place]:
            own[dim] = out[place]
    rest = tuple((None,) * len(shape) for shape in shapes.inputs[1:])
    return AxisRule((tuple(own), *rest), (out,), joins=True)


def _tile(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    """Dimensions that are not repeated, and the copies of the others: each device makes some."""
    own: list[Label | None] = list(range(len(shapes.inputs[0])))
    out: list[Label | None] = list(own)
    pieces: dict[Label, int] = {}
    for dim, copies in enumerate(params["reps"]):
        if copies != 1:
            own[dim] = None
            out[dim] = ("copies", dim)
            pieces["copies", dim] = copies
    return AxisRule((tuple(own),), (tuple(out),), pieces=pieces)


def _stack(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    dims = tuple(range(len(shapes.inputs[0])))
    axis = params["axis"] % (len(dims) + 1)
    return AxisRule((dims,) * len(shapes.inputs), ((*dims[:axis], None, *dims[axis:]),))


def _unstack(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    rank = len(shapes.inputs[0])
    axis = params["axis"] % rank
    own = tuple(None if dim == axis else dim for dim in range(rank))
    return AxisRule((own,), (tuple(dim for dim in own if dim is not None),) * len(shapes.outputs))


def _transposition(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    dims = tuple(range(len(shapes.inputs[0])))
    return AxisRule((dims,), (tuple(params["permutation"]),), joins=True)


def _reshape(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    """The first dimension of each group that is split or joined, as far as the parts fit."""
    before, after = shapes.inputs[0], shapes.outputs[0]
    own: list[Label | None] = [None] * len(before)
    out: list[Label | None] = [None] * len(after)
    for mine, theirs in _groups(before, after):
        first = next((dim for dim in mine if before[dim] != 1), None)
        then = next((dim for dim in theirs if after[dim] != 1), None)
        if first is None or then is None:
            continue
        if before[first] % after[then] == 0 or after[then] % before[first] == 0:
            own[first] = out[then] = first
    rest = tuple((None,) * len(shape) for shape in shapes.inputs[1:])
    joins = None not in own and None not in out
    return AxisRule((tuple(own), *rest), (tuple(out),), joins=joins)


def _groups(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """Which dimensions become which: the shortest runs with equal products."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        mine: list[int] = []
        theirs: list[int] = []
        left = right = 1
        while left != right or not (mine or theirs):
            if i < len(before) and (left <= right or j == len(after)):
                left *= before[i]
                mine.append(i)
                i += 1
            elif j < len(after):
                right *= after[j]
                theirs.append(j)
                j += 1
            else:
                break
        groups.append((mine, theirs))
    return groups


def _gather(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    numbers, taken = params["dimension_numbers"], params["slice_sizes"]
    table: list[Label | None] = [None] * len(shapes.inputs[0])
    index: list[Label | None] = [None] * len(shapes.inputs[1])
    out: list[Label | None] = [None] * len(shapes.outputs[0])
    batch = [dim for dim in range(len(out)) if dim not in numbers.offset_dims]
    for place, dim in enumerate(batch):
        index[place] = out[dim] = ("i", place)
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    window = [dim for dim in range(len(table)) if dim not in gone]
    for dim, own in zip(numbers.offset_dims, window, strict=True):
        if taken[own] == shapes.inputs[0][own]:
            table[own] = out[dim] = ("w", own)
    for own, place in zip(
        numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True
    ):
        table[own] = index[place]
    summed: set[Label] = set()
    if len(numbers.start_index_map) == 1:  # rows of a table that is sharded: each device has some
        for own in numbers.collapsed_slice_dims:
            if own in numbers.start_index_map:
                table[own] = ("v", own)
                summed.add(("v", own))
    return AxisRule((tuple(table), tuple(index)), (tuple(out),), frozenset(summed))


def _scatter_add(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    numbers = params["dimension_numbers"]
    table: list[Label | None] = [None] * len(shapes.inputs[0])
    index: list[Label | None] = [None] * len(shapes.inputs[1])
    updates: list[Label | None] = [None] * len(shapes.inputs[2])
    gone = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    window = [dim for dim in range(len(table)) if dim not in gone]
    for dim, own in zip(numbers.update_window_dims, window, strict=True):
        if shapes.inputs[2][dim] == shapes.inputs[0][own]:
            updates[dim] = table[own] = ("w", own)
    summed: set[Label] = set()
    batch = [dim for dim in range(len(updates)) if dim not in numbers.update_window_dims]
    for place, dim in enumerate(batch):
        updates[dim] = index[place] = ("i", place)
        summed.add(("i", place))
    for own, place in zip(
        numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True
    ):
        table[own] = index[place]
        summed.discard(index[place])
    if len(numbers.scatter_dims_to_operand_dims) == 1:
        for own in numbers.inserted_window_dims:
            table[own] = ("v", own)
    own_labels = tuple(table)
    return AxisRule((own_labels, tuple(index), tuple(updates)), (own_labels,), frozenset(summed))


def _scatter(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    """As the sum, but what is not a sum has its updates and its rows replicated."""
    rule = _scatter_add(params, shapes)

    def kept(labels: Labels) -> Labels:
        return tuple(
            label if label is None or label in batched or label[0] == "w" else None  # type: ignore[index]
            for label in labels
        )

    batched = set(rule.inputs[1]) - rule.summed
    return AxisRule(tuple(map(kept, rule.inputs)), tuple(map(kept, rule.outputs)))


def _untouched(touched_by: Callable[[dict[str, Any], int], set[int]]) -> Callable[..., AxisRule]:
    """A rule for operators of arrays of one rank that leave most dimensions alone.

    Args:
        touched_by: (parameters, rank) -> the dimensions that they do not leave alone; those in
            which shapes differ are found here.
    """

    def rule(params: dict[str, Any], shapes: Shapes) -> AxisRule:
        rank = len(shapes.outputs[0])
        arrays = [shape for shape in (*shapes.inputs, *shapes.outputs) if len(shape) == rank]
        touched = touched_by(params, rank)
        touched |= {dim for dim in range(rank) if len({shape[dim] for shape in arrays}) > 1}
        dims = tuple(None if dim in touched else dim for dim in range(rank))

        def labels(shape: Shape) -> Labels:
            return dims if len(shape) == rank else (None,) * len(shape)

        return AxisRule(tuple(map(labels, shapes.inputs)), tuple(map(labels, shapes.outputs)))

    return rule


def _one(key: str) -> Callable[[dict[str, Any], int], set[int]]:
    return lambda params, rank: {params[key] % rank}


def _window(params: dict[str, Any], rank: int) -> set[int]:
    touched = {dim for dim in range(rank) if params["window_dimensions"][dim] != 1}
    for key in ("window_strides", "base_dilation", "window_dilation"):
        touched |= {dim for dim, n in enumerate(params.get(key) or ()) if n != 1}
    return touched | {dim for dim, pads in enumerate(params["padding"]) if tuple(pads) != (0, 0)}


def _iota(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    return AxisRule((), (tuple(range(len(shapes.outputs[0]))),), joins=True)


def _random_bits(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    """Each number is made from the key and its place, so that devices make their shards alone."""
    keys = len(shapes.inputs[0])
    made = range(keys, len(shapes.outputs[0]))
    return AxisRule(((None,) * keys,), ((*(None,) * keys, *made),), joins=True)


def _pin(params: dict[str, Any], shapes: Shapes) -> AxisRule:
    dims = tuple(range(len(shapes.inputs[0])))
    return AxisRule((dims,), (dims,))


_RULES: dict[str, Callable[[dict[str, Any], Shapes], AxisRule]] = {
    "dot_general": _product,
    "conv_general_dilated": _convolution,
    "gather": _gather,
    "scatter-add": _scatter_add,
    "scatter_add": _scatter_add,
    **{
        f"scatter{how}": _scatter
        for how in ("", "-max", "-min", "-mul", "-sub", "_max", "_min", "_mul", "_sub")
    },
    "stack": _stack,
    "tile": _tile,
    "unstack": _unstack,
    "broadcast_in_dim": _broadcast,
    "transpose": _transposition,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "argmax": _place_of_extreme,
    "argmin": _place_of_extreme,
    "iota": _iota,
    "random_bits": _random_bits,
    "sharding_constraint": _pin,
    "concatenate": _untouched(_one("dimension")),
    "split": _untouched(_one("axis")),
    "sort": _untouched(_one("dimension")),
    "top_k": _untouched(lambda params, rank: {rank - 1}),
    "fft": _untouched(lambda params, rank: set(range(rank - len(params["fft_lengths"]), rank))),
    "rev": _untouched(lambda params, rank: set(params["dimensions"])),
    "pad": _untouched(
        lambda params, rank: {d for d, p in enumerate(params["padding_config"]) if any(p)}
    ),
    **{
        name: _untouched(lambda params, rank: set())
        for name in ("slice", "dynamic_slice", "dynamic_update_slice")
    },
    **{
        name: _untouched(_one("axis"))
        for name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
    },
    **{
        name: _untouched(_window)
        for name in (
            "reduce_window",
            "reduce_window_max",
            "reduce_window_min",
            "reduce_window_sum",
            "select_and_scatter_add",
            "select_and_gather_add",
        )
    },
    **{f"reduce_{name}": _reduction for name in ("sum", "max", "min", "prod", "and", "or", "xor")},
}

#: Primitives that look like elementwise work and are none: each result depends on all operands.
_WHOLE = frozenset(
    [
        "random_wrap",
        "random_unwrap",
        "random_seed",
        "random_fold_in",
        "random_gamma",
        "threefry2x32",
        "rng_bit_generator",
        "cholesky",
        "lu",
        "lu_pivots_to_permutation",
        "qr",
        "geqrf",
        "householder_product",
        "eigh",
        "eig",
        "svd",
        "schur",
        "hessenberg",
        "tridiagonal",
        "tridiagonal_solve",
        "triangular_solve",
        "shard_map",
        "custom_partitioning",
        "custom_call",
        "ffi_call",
        "pallas_call",
    ]
)


def flops_of(eqn: JaxprEqn) -> float:
    """Operations of an equation that computes much; 0 for others."""
    shapes = [shape_of(var) for var in (*eqn.invars, *eqn.outvars)]
    if eqn.primitive.name == "dot_general":
        summed = eqn.params["dimension_numbers"][0][0]
        return 2.0 * math.prod(shapes[-1]) * math.prod(shapes[0][dim] for dim in summed)
    if eqn.primitive.name == "conv_general_dilated":
        kernel = eqn.params["dimension_numbers"].rhs_spec
        inner = math.prod(shapes[1][dim] for dim in kernel[1:])
        return 2.0 * math.prod(shapes[-1]) * inner
    return 0.0


def names_with_rules() -> Sequence[str]:
    """The primitives that have a rule of their own, for the tests."""
    return tuple(_RULES)
