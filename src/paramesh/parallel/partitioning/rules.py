"""Operators that XLA partitions wrongly, partitioned by rules of paramesh.

XLA's partitioner (jaxlib 0.10.2) gives wrong numbers, without a word, for

    convolutions        where only some of the devices shard them: gradients count each copy, with
                        the batch of a depthwise one or the height of any sharded over some of the
                        axes, and so do forward passes with height and output channels sharded; some
                        grouped ones end the process
    max pooling         with overlapping windows and a sharded space: its gradient
    padding             along a sharded axis: of some lengths elements are lost, as in the gradient
                        of a mirrored edge. Between elements, or less than none, it is wrong in the
                        gradient of cumulative products
    steps               slices with steps along a sharded axis: an error of the compiler
    the k largest       sharded along other axes than theirs: right, but gathered first
    Fourier transforms  the same

So these are not left to it: each becomes one operator with a partitioning rule, and a program for
the shard of one device (`jax.experimental.custom_partitioning`). Gradients are such operators too,
with other dimensions. The layouts that XLA finds for operands and results decide, as far as the
rule allows them; what is sharded otherwise is gathered first. On TPUs, whose compiler has no such
operators, the sharding with which each device has the fewest bytes is taken (`jax.shard_map`).

Glossary
    factor      dimensions of operands and result that are sharded together
    kept        dimensions that are not sharded
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paramesh._compat.jax import ClosedJaxpr, JaxprEqn, custom_partitioning, in_rows, shape_of
from paramesh.parallel.partitioning.rewriting import contains

Names = tuple[str, ...]
Params = dict[str, Any]


class PartitioningRule(NamedTuple):
    """How an operator can be sharded.

    Attributes:
        dims: for each operand and the result, the factor of each dimension; "" for kept.
        sizes: of the factors; the number of shards divides it.
        summed: the factors that the operator sums over.
        params_of_shard: (parameters, factor -> number of shards) -> the parameters for one shard.
    """

    dims: tuple[Names, ...]
    sizes: dict[str, int]
    summed: frozenset[str] = frozenset()
    params_of_shard: Callable[[Params, dict[str, int]], Params] = lambda params, shards: params


def convolution_rule(params: Params, shapes: Sequence[tuple[int, ...]]) -> PartitioningRule:
    """The batch (n), output channels (o), input channels (i, summed), or groups (g); not space.

    With groups, what is inside of each is kept. `batch_group_count`, in the gradients of grouped
    convolutions, has its groups in the batch of the input.
    """
    numbers = params["dimension_numbers"]
    places = (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec)
    dims = [[""] * len(shape) for shape in shapes]
    sizes: dict[str, int] = {}

    def factor(name: str, size: int, *at: int | None) -> None:
        """`at`: the place of the factor's dimension in the specs of input, kernel and output."""
        sizes[name] = size
        for own, spec, place in zip(dims, places, at, strict=True):
            if place is not None:
                own[spec[place]] = name

    batch, kernels = shapes[0][places[0][0]], shapes[1]
    if params["feature_group_count"] > 1:
        factor("g", params["feature_group_count"], 1, 0, 1)
        factor("n", batch, 0, None, 0)
    elif params["batch_group_count"] > 1:
        factor("g", params["batch_group_count"], 0, 0, 1)
        factor("i", kernels[places[1][1]], 1, 1, None)
    else:
        factor("n", batch, 0, None, 0)
        factor("o", kernels[places[1][0]], None, 0, 1)
        factor("i", kernels[places[1][1]], 1, 1, None)
    summed = frozenset({"i"} & sizes.keys())
    return PartitioningRule(tuple(map(tuple, dims)), sizes, summed, _fewer_groups)


def _fewer_groups(params: Params, shards: dict[str, int]) -> Params:
    mine = dict(params)
    for key in ("feature_group_count", "batch_group_count"):
        if mine[key] > 1:
            mine[key] //= shards.get("g", 1)
    return mine


def _window_rule(params: Params, shapes: Sequence[tuple[int, ...]]) -> PartitioningRule:
    """Axes along which the window is one element."""
    free = [
        size == step == 1 and tuple(pad) == (0, 0)
        for size, step, pad in zip(
            params["window_dimensions"], params["window_strides"], params["padding"], strict=True
        )
    ]
    return _axes_that(free, shapes)


def _padding_rule(params: Params, shapes: Sequence[tuple[int, ...]]) -> PartitioningRule:
    """Axes that are not padded."""
    return _axes_that([tuple(pads) == (0, 0, 0) for pads in params["padding_config"]], shapes)


def _slice_rule(params: Params, shapes: Sequence[tuple[int, ...]]) -> PartitioningRule:
    """Axes that are taken in full."""
    rule = _axes_that([a == b for a, b in zip(*shapes, strict=True)], shapes)
    return rule._replace(params_of_shard=functools.partial(_smaller_slice, rule.dims[0], shapes[0]))


def _smaller_slice(
    names: Names, shape: Sequence[int], params: Params, shards: dict[str, int]
) -> Params:
    limits = [
        size // shards.get(name, 1) if name else limit
        for name, size, limit in zip(names, shape, params["limit_indices"], strict=True)
    ]
    return {**params, "limit_indices": tuple(limits)}


def _last_axis_kept(params: Params, shapes: Sequence[tuple[int, ...]]) -> PartitioningRule:
    """All axes but the last."""
    rank = len(shapes[0])
    return _axes_that([axis != rank - 1 for axis in range(rank)], shapes)


def _transform_rule(params: Params, shapes: Sequence[tuple[int, ...]]) -> PartitioningRule:
    """All axes but those that are transformed, which are the last."""
    rank = len(shapes[0])
    kept = rank - len(params["fft_lengths"])
    return _axes_that([axis < kept for axis in range(rank)], shapes)


def _axes_that(free: Sequence[bool], shapes: Sequence[tuple[int, ...]]) -> PartitioningRule:
    names = tuple(f"x{axis}" if is_free else "" for axis, is_free in enumerate(free))
    sizes = {name: shapes[0][axis] for axis, name in enumerate(names) if name}
    return PartitioningRule(tuple(names if len(s) == len(names) else () for s in shapes), sizes)


def _always(params: Params) -> bool:
    return True


#: primitive -> (its rule, whether an equation with these parameters is one that XLA partitions
#: wrongly).
_RULES: dict[str, tuple[Callable[..., PartitioningRule], Callable[[Params], bool]]] = {
    "conv_general_dilated": (convolution_rule, _always),
    "select_and_scatter_add": (_window_rule, _always),
    "select_and_gather_add": (_window_rule, _always),
    "pad": (_padding_rule, _always),
    "top_k": (_last_axis_kept, _always),
    "fft": (_transform_rule, _always),
    "slice": (_slice_rule, lambda params: max(params["strides"] or (1,), default=1) > 1),
}


def has_own_rule(eqn: JaxprEqn) -> bool:
    """Whether an equation is one that is not left to XLA."""
    return eqn.primitive.name in _RULES and _RULES[eqn.primitive.name][1](eqn.params)


def rule_of(eqn: JaxprEqn) -> PartitioningRule:
    """How an equation that paramesh partitions can be sharded."""
    shapes = [shape_of(var) for var in (*eqn.invars, *eqn.outvars)]
    return _RULES[eqn.primitive.name][0](eqn.params, shapes)


def with_custom_partitioning(eqn: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """The results of an equation that is ours.

    Args:
        eqn: the equation.
        operands: their values, traced in a program over all devices.
    """
    rule = rule_of(eqn)
    partitioned = custom_partitioning(_plain(eqn, len(operands)))
    shapes = [shape_of(var) for var in (*eqn.invars, *eqn.outvars)]
    text, kept, sizes = _rule_text(rule, shapes, len(eqn.invars))
    partitioned.def_partition(
        partition=functools.partial(_partition, rule, eqn),
        sharding_rule=text,
        reduction_factors=tuple(sorted(rule.summed)),
        need_replication_factors=kept,
        **sizes,
    )
    out = partitioned(*operands)
    return list(out) if eqn.primitive.multiple_results else [out]


def own_partitioning(
    mesh: Mesh, platform: str, several: bool = False
) -> Callable[[Any, Sequence[Any]], list[Any]]:
    """How equations that are ours are done in programs over a mesh.

    Args:
        mesh: of all devices.
        platform: of the devices. The compiler of TPUs knows no `custom_partitioning`: there the
            layouts cannot follow those around, and are chosen here.
        several: whether some arrays of the program lie over another mesh: then JAX (0.10.2) takes
            no `custom_partitioning` either.
    """
    chosen = several or platform == "tpu"
    return functools.partial(by_shard_map, mesh) if chosen else with_custom_partitioning


def has_several_meshes(closed: ClosedJaxpr, mesh: Mesh) -> bool:
    """Whether inputs of a program, or values inside, are laid out over another mesh than this."""
    own = mesh.abstract_mesh
    for var in closed.jaxpr.invars:
        sharding = getattr(var.aval, "sharding", None)
        if sharding is not None and not sharding.mesh.empty and sharding.mesh != own:
            return True

    def is_of_another(eqn: JaxprEqn) -> bool:
        sharding = eqn.params.get("sharding")
        return isinstance(sharding, NamedSharding) and sharding.mesh not in (mesh, own)

    return contains(closed.jaxpr, is_of_another)


def by_shard_map(mesh: Mesh, eqn: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """The results of an equation that paramesh partitions, sharded so that each device has the
    fewest bytes.

    Args:
        mesh: of all devices.
        eqn: the equation.
        operands: their values, traced in a program over all devices.
    """
    rule = rule_of(eqn)
    shapes = [shape_of(var) for var in (*eqn.invars, *eqn.outvars)]
    axes = _fewest_bytes(rule, mesh, shapes)
    places = [PartitionSpec(*[axes.get(name) or None for name in own]) for own in rule.dims]
    specs, outs = tuple(places[: len(operands)]), places[len(operands) :]
    many = eqn.primitive.multiple_results
    of_one = _of_one(rule, eqn, mesh, axes)
    result = jax.shard_map(
        of_one, mesh=mesh, in_specs=specs, out_specs=outs if many else outs[0], check_vma=False
    )(*operands)
    return list(result) if many else [result]


def _fewest_bytes(
    rule: PartitioningRule, mesh: Mesh, shapes: Sequence[tuple[int, ...]]
) -> dict[str, Names]:
    found: dict[str, Names] = {}
    shards: dict[str, int] = dict.fromkeys(rule.sizes, 1)

    def elements(shards_of: dict[str, int]) -> int:
        return sum(
            math.prod(shape) // math.prod(shards_of.get(name, 1) for name in names)
            for names, shape in zip(rule.dims, shapes, strict=True)
        )

    for axis, count in mesh.shape.items():
        ways = {
            name: elements({**shards, name: shards[name] * count})
            for name, size in rule.sizes.items()
            if size % (shards[name] * count) == 0
        }
        if ways:
            best = min(ways, key=lambda name: ways[name])
            found[best] = (*found.get(best, ()), str(axis))
            shards[best] *= count
    return found


def _of_one(
    rule: PartitioningRule, eqn: JaxprEqn, mesh: Mesh, axes: dict[str, Names]
) -> Callable[..., Any]:
    """What one device does with its shards of the operands."""
    shards = {name: math.prod(mesh.shape[a] for a in shards_of) for name, shards_of in axes.items()}
    params = rule.params_of_shard(eqn.params, shards)
    summed = tuple(axis for name in sorted(rule.summed) for axis in axes.get(name, ()))

    def of_one(*values: Any) -> Any:
        value = eqn.primitive.bind(*values, **params)
        if eqn.primitive.name == "fft":
            # XLA's CPU client fails where an array lies otherwise in memory, as one may that is
            # sharded anew after it.
            value = in_rows(value)
        return lax.psum(value, summed) if summed else value

    return of_one


def _plain(eqn: JaxprEqn, count: int) -> Callable[..., Any]:
    """The operator; with as many named arguments as it takes, which `custom_partitioning` wants."""
    bind = functools.partial(eqn.primitive.bind, **eqn.params)
    if count == 1:
        return lambda only: bind(only)
    if count == 2:
        return lambda first, second: bind(first, second)
    raise NotImplementedError(f"{eqn.primitive.name} with {count} operands")


def _rule_text(
    rule: PartitioningRule, shapes: Sequence[tuple[int, ...]], operands: int
) -> tuple[str, Names, dict[str, Any]]:
    """The rule as Shardy wants it: the text, what is kept, and the sizes of joined factors."""
    kept: list[str] = []
    sizes: dict[str, Any] = {}
    texts: list[str] = []
    alone = {
        name
        for names, shape in zip(rule.dims, shapes, strict=True)
        for name, size in zip(names, shape, strict=True)
        if name and rule.sizes[name] == size
    }
    for at, (names, shape) in enumerate(zip(rule.dims, shapes, strict=True)):
        words: list[str] = []
        for dim, (name, size) in enumerate(zip(names, shape, strict=True)):
            own = f"s{at}d{dim}"
            if name and rule.sizes[name] == size:
                words.append(name)
                continue
            kept.append(own)
            words.append(f"({name} {own})" if name else own)
            if name:  # groups, and what is inside of each
                sizes[own] = size // rule.sizes[name]
                if name not in alone:
                    sizes[name] = rule.sizes[name]
        texts.append(" ".join(words))
    text = f"{', '.join(texts[:operands])} -> {', '.join(texts[operands:])}"
    return text, tuple(kept), sizes


def _partition(rule: PartitioningRule, eqn: Any, mesh: object, args: Any, result: Any) -> Any:
    """What each device does, for `custom_partitioning`."""
    results = list(result) if eqn.primitive.multiple_results else [result]
    given = [*(arg.sharding for arg in args), *(one.sharding for one in results)]
    axes: dict[str, Names] = {}
    if isinstance(mesh, Mesh) and all(isinstance(s, NamedSharding) for s in given):
        axes = _axes_of(rule, mesh, [s.spec for s in given], len(args))
    else:  # the layouts are over several meshes, and have no names here
        devices = sorted(given[0].device_set, key=lambda d: (d.process_index, d.id))
        mesh = Mesh(devices, ("all",))
    places = [
        NamedSharding(mesh, PartitionSpec(*[axes.get(name) or None for name in names]))
        for names in rule.dims
    ]
    outs = places[len(args) :]
    out = outs if eqn.primitive.multiple_results else outs[0]
    return mesh, _of_one(rule, eqn, mesh, axes), out, tuple(places[: len(args)])


def _axes_of(
    rule: PartitioningRule, mesh: Mesh, specs: Sequence[PartitionSpec], count: int
) -> dict[str, Names]:
    """Which axes of the mesh shard each factor.

    First what is summed over, where all operands are sharded there alike: nothing has to be
    gathered. Then what the result says, then the operands.
    """
    found: dict[str, Names] = {}
    used: set[str] = set()

    def take(name: str, axes: Names) -> None:
        if not name or name in found or not axes or used & set(axes):
            return
        if rule.sizes[name] % math.prod(mesh.shape[axis] for axis in axes) == 0:
            found[name] = axes
            used.update(axes)

    said = [
        [(name, _names(entry)) for name, entry in zip(names, spec, strict=False)]
        for names, spec in zip(rule.dims, specs, strict=True)
    ]
    operands, results = said[:count], said[count:]
    for name in sorted(rule.summed):
        wanted = {axes for operand in operands for own, axes in operand if own == name}
        if len(wanted) == 1:
            take(name, wanted.pop())
    for entries in (*results, *operands):
        for name, axes in entries:
            take(name, axes)
    return found


def _names(entry: str | Names | None) -> Names:
    return entry if isinstance(entry, tuple) else (entry,) if entry else ()
