"""A call, traced and lowered under the placement of a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Sharding

from paramesh import context
from paramesh.dtype import x64_if
from paramesh.errors import ContextError
from paramesh.parallel.planning.placements import PlacementOfTarget
from paramesh.state import placement, tracing
from paramesh.transforms.compiled_function import CompiledFunction
from paramesh.transforms.executable import ZERO, Executable


class LoweredCall(NamedTuple):
    """A program for devices that hold nothing.

    Attributes:
        name: of the function.
        entry: the program as paramesh runs it.
        stage: the `jax.stages.Lowered`.
        states: those that the program takes, and where each lies.
        inputs: shape and element type of the arrays that are passed, and where each lies.
    """

    name: str
    entry: Executable
    stage: jax.stages.Lowered
    states: tuple[tuple[Any, Sharding], ...]
    inputs: tuple[tuple[jax.ShapeDtypeStruct, Sharding], ...]


def refuse_servers(call: str) -> None:
    """Refuse settings of a parameter server.

    Raises:
        ContextError: they are made.
    """
    if context.get_ps_context("enable_ps"):
        raise ContextError(
            f"{call}: Parameters on parameter servers (enable_ps=True) are on no device of a "
            "target. Set set_ps_context(enable_ps=False) for it."
        )


def refuse_stages(call: str) -> None:
    """Refuse pipeline stages.

    Raises:
        ContextError: they are set.
    """
    stages = context.get_auto_parallel_context("pipeline_stages")
    if stages > 1:
        raise ContextError(
            f"{call}: pipeline_stages={stages}, so the step is several programs, and this is about "
            "one. paramesh.plan_stages(step, ..., target=...) plans each stage; step.lower(...) "
            "has the programs for the devices that are here."
        )


def lowered_over(
    place: PlacementOfTarget,
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> LoweredCall:
    """Trace and lower a call for the devices of a placement.

    The programs that the function has for its own devices stay as they are.

    Args:
        place: over the devices of a target.
        fn: what `paramesh.jit` compiles: a function, or a CompiledFunction.
        args: of the call; a `jax.ShapeDtypeStruct` may stand for a Tensor.
        kwargs: of the call.
    """
    compiled = _of_its_own(fn)
    before = placement.use(place)
    try:
        _, entry, leaves = compiled._traced(tuple(args), dict(kwargs))
        return _lowered(compiled.__name__, place, entry, leaves)
    finally:
        placement.use(before)
        tracing.bump_version()


def _lowered(
    name: str, place: PlacementOfTarget, entry: Executable, leaves: Sequence[Any]
) -> LoweredCall:
    states = [(state, place.state_sharding(state)) for state in (*entry.donated, *entry.kept)]
    structs = [
        jax.ShapeDtypeStruct(place.shape(state), state.dtype.np_dtype, sharding=sharding)
        for state, sharding in states
    ]
    inputs: list[Any] = []
    shown: list[tuple[jax.ShapeDtypeStruct, Sharding]] = []
    for leaf, sharding in zip(leaves, place.input_shardings(leaves), strict=True):
        if isinstance(leaf, float | complex):
            inputs.append(leaf)
            continue
        weak = bool(getattr(leaf, "weak_type", False))
        inputs.append(
            jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=sharding, weak_type=weak)
        )
        shown.append((jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), sharding))
    if entry.pooled:
        inputs.append(ZERO)
    donated = len(entry.donated)
    with x64_if(entry.use_64bit):
        program: Any = entry.program
        stage = program.lower(structs[:donated], structs[donated:], inputs)
    return LoweredCall(name, entry, stage, tuple(states), tuple(shown))


def _of_its_own(fn: Callable[..., Any]) -> CompiledFunction:
    if not isinstance(fn, CompiledFunction):
        return CompiledFunction(fn, kept_with=object())
    return CompiledFunction(
        fn.fn,
        fn.static_argnums,
        fn.static_argnames,
        hints=fn._hints,
        donate=fn._donate,
        kept_with=object(),
    )
