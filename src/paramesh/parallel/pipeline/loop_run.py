"""The running of a loop over micro-batches.

Work is dispatched in the order of the schedule by the thread that calls; the devices of the stages
compute it side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from paramesh._compat.jax import Literal, Var
from paramesh.array_types import Array
from paramesh.parallel.pipeline.loop import LoopPlan, Sum
from paramesh.parallel.pipeline.lowered import (
    LoweredLoop,
    LoweredTask,
    Lowering,
    Shown,
    ShownInput,
)
from paramesh.parallel.pipeline.schedule import Table, forward_table, table_of
from paramesh.parallel.pipeline.stages import Held, Rows, Stages

#: Called with (stage, whether forward, micro-batch) before each work of a loop; tests set it.
before_work: Callable[[int, bool, int], object] | None = None


class LoopProgram:
    """A loop over micro-batches, compiled.

    Args:
        plan: its passes.
        stages: the stages.
        scheduler: one of `schedule.SCHEDULERS`.
        name: of the program.
        platform: of the devices.

    Attributes:
        plan: its passes.
        inputs: the variables of the body for what the loop takes.
        table: the schedule.
    """

    def __init__(
        self, plan: LoopPlan, stages: Stages, scheduler: str, name: str, platform: str
    ) -> None:
        self.plan, self._stages = plan, stages
        self.inputs = [*plan.consts, *plan.carries, *plan.xs]
        self.table: Table = (
            table_of(scheduler, stages.count, plan.count)
            if plan.backward
            else forward_table(stages.count, plan.count)
        )
        self._tasks: dict[int, Any] = {}
        for number, part in plan.parts.items():
            stage = plan.stage_of(number)
            kind = "forward" if number < stages.count else "backward"
            title = f"{name}_stage{stage}_{kind}"
            self._tasks[number] = part.compiled(stages, stage, title, platform)
        self._advance: dict[int, Any] = {}
        if plan.advance is not None:
            chained = {s for c in plan.carries for s in plan.users(c)} or {0}
            for stage in chained:
                title = f"{name}_stage{stage}_chains"
                self._advance[stage] = plan.advance.compiled(stages, stage, title, platform)
        #: Of each pass, the outputs that are added up.
        self._summed: dict[int, list[Any]] = {}
        for kind in plan.kinds:
            if isinstance(kind, Sum):
                for var in kind.summands:
                    into = self._summed.setdefault(plan.pass_of(var), [])
                    if var not in into:
                        into.append(var)

    def run(self, given: Sequence[Any], zero: Sequence[bool]) -> list[Held]:
        """The results of the loop.

        Args:
            given: the constants, first carries and xs, as `Held`.
            zero: for each carry, whether it is known to begin with zeros.
        """
        return _Run(self, self.plan, self._stages, given, zero).run()

    def lower(self, given: Sequence[Shown], cut: set[int], lowering: Lowering) -> list[Shown]:
        """Lower its tasks; how its results lie.

        Args:
            given: the constants, first carries and xs; of those in `cut` what is to be cut.
            cut: the places of xs that are an input of the program, cut into micro-batches.
            lowering: takes the tasks.
        """
        plan, stages = self.plan, self._stages
        known = dict(zip(self.inputs, given, strict=True))
        rows = {self.inputs[at] for at in cut}
        xs = set(plan.xs)

        def shown(var: Var, stage: int) -> Any:
            value = known[var]
            if var in rows:
                assert isinstance(value, ShownInput)
                return value.part(plan.count, stage)
            return _first(value.at(stage)) if var in xs else value.at(stage)

        tasks: dict[int, LoweredTask] = {}
        for number, part in sorted(plan.parts.items()):
            stage = plan.stage_of(number)
            kind = "forward" if number < stages.count else "backward"
            inputs = {var: shown(var, stage) for var in part.invars}
            program = self._tasks[number]
            task = lowering.task(program, part, stage, kind, inputs, times=plan.count)
            known.update({v: Shown(stages, {stage: s}) for v, s in task.results.items()})
            tasks[number] = task
        for stage, program in self._advance.items():
            assert plan.advance is not None
            inputs = {var: shown(var, stage) for var in plan.advance.invars}
            lowering.task(program, plan.advance, stage, "chains", inputs, times=plan.count)
        lowering.loops.append(LoweredLoop(plan, self.table, tasks))
        return [self._shown_result(at, known) for at in range(len(plan.results))]

    def _shown_result(self, at: int, known: dict[Any, Shown]) -> Shown:
        plan = self.plan
        stage, result = plan.home_of_result(at), plan.results[at]
        if at >= len(plan.carries):
            if isinstance(result, Literal):
                shape = (plan.count, *np.shape(result.val))
                array = np.broadcast_to(np.asarray(result.val), shape)
                return Shown(self._stages, {-1: array})
            return Shown(self._stages, {stage: _stacked(known[result].at(stage), plan.count)})
        kind = plan.kinds[at]
        var = plan.carries[at]
        if isinstance(kind, Sum):
            var = next(v for v in kind.summands if plan.stage_of(plan.pass_of(v)) == stage)
        elif kind.number is not None:
            assert isinstance(result, Var)
            var = result
        return Shown(self._stages, {stage: known[var].at(stage)})


class _Run:
    """One run of a loop."""

    def __init__(
        self,
        program: LoopProgram,
        plan: LoopPlan,
        stages: Stages,
        given: Sequence[Any],
        zero: Sequence[bool],
    ) -> None:
        self._program, self._plan, self._stages = program, plan, stages
        consts, carries = len(plan.consts), len(plan.carries)
        self._consts = dict(zip(plan.consts, given, strict=False))
        self._first = list(given[consts : consts + carries])
        self._zero = zero
        self._xs = dict(zip(plan.xs, given[consts + carries :], strict=True))
        self._last = plan.count - 1 if plan.reverse else 0
        self._at_carry = {carry: i for i, carry in enumerate(plan.carries)}
        self._at_result = {
            result: i
            for i, result in enumerate(plan.results[:carries])
            if not isinstance(result, Literal) and not isinstance(plan.kinds[i], Sum)
        }
        self._parts: dict[tuple[Any, int], list[Any]] = {}
        #: {(variable, micro-batch): value} of what goes from pass to pass.
        self._values: dict[tuple[Any, int], Held] = {}
        self._left: dict[tuple[Any, int], int] = {}
        self._chains: dict[tuple[int, int], Held] = {
            (i, 0): value
            for i, value in enumerate(self._first)
            if not isinstance(plan.kinds[i], Sum)
        }
        self._free_chains = [
            i
            for i, kind in enumerate(plan.kinds)
            if not isinstance(kind, Sum) and kind.number is None
        ]
        #: {key of a chain: how many passes have yet to take it}.
        self._waiting: dict[tuple[int, int], int] = {}
        self._advanced: dict[int, list[list[Array]]] = {}
        self._sums: dict[int, list[Array]] = {}
        self._stacked: dict[Any, list[Any]] = {
            var: [None] * plan.count
            for var in plan.results[carries:]
            if not isinstance(var, Literal)
        }

    def run(self) -> list[Held]:
        plan, program = self._plan, self._program
        for tick in program.table:
            for stage, work in enumerate(tick):
                if work is None:
                    continue
                number = stage if work.forward else 2 * plan.stages - 1 - stage
                if before_work is not None:
                    before_work(stage, work.forward, work.micro_batch)
                if number in plan.parts:
                    self._work(number, stage, work.micro_batch)
        return [self._result(at) for at in range(len(plan.results))]

    def _work(self, number: int, stage: int, micro_batch: int) -> None:
        plan = self._plan
        part = plan.parts[number]
        args = [self._value(var, stage, micro_batch) for var in part.invars]
        outputs = self._program._tasks[number](*args)
        summed = self._program._summed.get(number, [])
        new: dict[Any, Array] = dict(zip(part.outvars, outputs, strict=True))
        if summed:
            summands = [new[var] for var in summed]
            before = self._sums.get(number)
            self._sums[number] = _copies(summands) if before is None else _added(before, summands)
        for var, array in new.items():
            if var in self._stacked:
                self._stacked[var][abs(self._last - micro_batch)] = array
            if var in self._at_result:
                at = self._at_result[var]
                self._chains[at, micro_batch + 1] = Held(self._stages, {stage: array})
            left = len(plan.uses.get(var, ()))
            if left:
                self._values[var, micro_batch] = Held(self._stages, {stage: array})
                self._left[var, micro_batch] = left
        for var in part.invars:
            key = (var, micro_batch)
            if key in self._left:
                self._left[key] -= 1
                if not self._left[key]:
                    del self._left[key], self._values[key]
            self._end_of_chain(var, micro_batch)

    def _end_of_chain(self, var: Var, micro_batch: int) -> None:
        """Let go of what a chain had before a micro-batch, once every pass has taken it."""
        at = self._at_carry.get(var)
        if at is None or (at, micro_batch) not in self._chains:
            return
        key = (at, micro_batch)
        self._waiting[key] = self._waiting.get(key, len(self._plan.uses[var])) - 1
        if not self._waiting[key] and (at, micro_batch + 1) in self._chains:
            del self._waiting[key], self._chains[key]

    def _value(self, var: Var, stage: int, micro_batch: int) -> Array:
        if var in self._consts:
            return self._consts[var].at(stage)
        if var in self._xs:
            return self._part(var, stage)[abs(self._last - micro_batch)]
        at = self._at_carry.get(var)
        if at is None:
            return self._values[var, micro_batch].at(stage)
        if at in self._free_chains:
            return self._chain(stage, micro_batch)[self._free_chains.index(at)]
        return self._chains[at, micro_batch].at(stage)

    def _part(self, var: Var, stage: int) -> list[Any]:
        key = (var, stage)
        if key not in self._parts:
            count = self._plan.count
            value = self._xs[var]
            if isinstance(value, Rows):
                self._parts[key] = value.held.parts(count, stage)
            else:
                self._parts[key] = _slices(value.at(stage), count)
        return self._parts[key]

    def _chain(self, stage: int, micro_batch: int) -> list[Array]:
        """The free chains before a micro-batch, computed in the stage that asks."""
        part, task = self._plan.advance, self._program._advance.get(stage)
        known = self._advanced.setdefault(
            stage, [[self._first[i].at(stage) for i in self._free_chains]]
        )
        while len(known) <= micro_batch:
            assert part is not None
            assert task is not None
            at = len(known) - 1
            values = dict(
                zip((self._plan.carries[i] for i in self._free_chains), known[at], strict=True)
            )
            args = [values[v] if v in values else self._value(v, stage, at) for v in part.invars]
            known.append(list(task(*args)))
        return known[micro_batch]

    def _result(self, at: int) -> Held:
        plan = self._plan
        stage = plan.home_of_result(at)
        result = plan.results[at]
        if at >= len(plan.carries):
            if isinstance(result, Literal):
                array = jnp.broadcast_to(result.val, (plan.count, *np.shape(result.val)))
                return Held(self._stages, {stage: self._stages.sent(array, stage)})
            return Held(self._stages, {stage: _stack(self._stacked[result])})
        kind = plan.kinds[at]
        if not isinstance(kind, Sum):
            if kind.number is None:
                last = self._chain(stage, plan.count)[self._free_chains.index(at)]
                return Held(self._stages, {stage: last})
            return self._chains[at, plan.count]
        parts: list[Array] = []
        for var in kind.summands:
            number = plan.pass_of(var)
            array = self._sums[number][self._program._summed[number].index(var)]
            there = plan.stage_of(number)
            parts.append(array if there == stage else self._stages.sent(array, stage))
        if not self._zero[at]:
            parts.append(self._first[at].at(stage))
        return Held(self._stages, {stage: parts[0] if len(parts) == 1 else _total(parts)})


def _first(value: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """How a part along the first axis lies, as XLA cuts it."""
    lies, sharding = value.sharding, None
    if isinstance(lies, NamedSharding):
        sharding = NamedSharding(lies.mesh, PartitionSpec(*lies.spec[1:]))
    return jax.ShapeDtypeStruct(value.shape[1:], value.dtype, sharding=sharding)


def _stacked(value: jax.ShapeDtypeStruct, count: int) -> jax.ShapeDtypeStruct:
    """How so many of a value lie, stacked."""
    lies, sharding = value.sharding, None
    if isinstance(lies, NamedSharding):
        sharding = NamedSharding(lies.mesh, PartitionSpec(None, *lies.spec))
    return jax.ShapeDtypeStruct((count, *value.shape), value.dtype, sharding=sharding)


@jax.jit
def _copies(arrays: list[Array]) -> list[Array]:
    return [jnp.copy(array) for array in arrays]


def _plus(left: list[Array], right: list[Array]) -> list[Array]:
    return [a + b for a, b in zip(left, right, strict=True)]


_added = jax.jit(_plus, donate_argnums=0)


@jax.jit
def _total(arrays: list[Array]) -> Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


@jax.jit
def _stack(arrays: list[Array]) -> Array:
    return jnp.stack(arrays)


@jax.jit(static_argnums=1)
def _slices(array: Array, count: int) -> list[Array]:
    return [array[i] for i in range(count)]
