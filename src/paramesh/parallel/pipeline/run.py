"""A divided program as a function.

Nothing is stored anywhere before all of it has been dispatched: the caller gets the new values of
all stages at once, or an exception.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from paramesh._compat.jax import Atom, JaxprEqn, Literal, Var
from paramesh.array_types import Array, ArrayLike
from paramesh.parallel.pipeline.division import Division, Last
from paramesh.parallel.pipeline.loop_run import LoopProgram
from paramesh.parallel.pipeline.lowered import (
    Compiler,
    LoweredStages,
    Lowering,
    Program,
    Shown,
    ShownInput,
)
from paramesh.parallel.pipeline.stages import Held, Input, Rows, Stages
from paramesh.parallel.pipeline.tasks import Part

#: In C: starts a task.
_start: Callable[..., Any] = operator.call


class StagedProgram:
    """A divided program as a function of states and inputs.

    Args:
        division: the program.
        stages: the stages.
        scheduler: one of `schedule.SCHEDULERS`.
        name: of the program.
        platform: of the devices.
        compiler: of what `lower` gives.

    Attributes:
        loops: its loops over micro-batches.
    """

    def __init__(
        self,
        division: Division,
        stages: Stages,
        scheduler: str,
        name: str,
        platform: str,
        compiler: Compiler = lambda lowered: lowered.compile(),
    ) -> None:
        self._division, self._stages, self._compiler = division, stages, compiler
        self.__name__ = name
        self.loops: list[LoopProgram] = []
        steps: list[tuple[float, int, _Step]] = []
        for (level, stage), part in division.parts.items():
            if part.outvars or part.effects:
                task = part.compiled(stages, stage, f"{name}_stage{stage}", platform)
                steps.append((level, 1, _TaskStep(part, task, stage)))
        for level, loops in division.loops.items():
            for eqn, plan in loops:
                program = LoopProgram(plan, stages, scheduler, name, platform)
                self.loops.append(program)
                steps.append((level, 0, _LoopStep(division, eqn, program)))
        steps.sort(key=lambda step: step[:2])
        self._steps = [step for _, _, step in steps]
        self._last = [_LastStep(division, last, stages, name, platform) for last in division.last]
        self._ready = _ready(division)
        #: The order in which the new values of states come, as places among those written.
        self.order: Sequence[int] = [
            *self._ready,
            *(i for last in division.last for i in last.written),
        ]
        #: The states, by place, whose memory is used again if they are donated.
        self.donated = frozenset(i for last in division.last for i in last.donated)
        self._compiled = False
        kept = {v for v in division.outputs if not isinstance(v, Literal)}
        kept.update(v for step in self._last for v in step.takes)
        #: For each step, the variables that no later one takes.
        self._ended: list[list[Any]] = []
        for step in reversed(self._steps):
            self._ended.insert(0, [v for v in dict.fromkeys(step.takes) if v not in kept])
            kept.update(step.takes)

    def __call__(
        self, values: Sequence[Any], leaves: Sequence[Any], donate: bool
    ) -> Iterator[Array]:
        """New values of states, in `order`, then the outputs of the program.

        The iterator is one in C, and its first steps start the tasks that use the memory of states
        again: until then no state has lost its array.

        Args:
            values: of the states, each on the devices of its home.
            leaves: the raw inputs.
            donate: whether the states in `donated` are given for good.
        """
        env = _Env(self._division, self._stages)
        inputs = iter(self._division.inputs)
        for value in values:
            env.values[next(inputs)] = self._held(value)
        place = 0
        for leaf in leaves:
            env.values[next(inputs)] = Input(self._stages, leaf, place)
            place += bool(np.ndim(leaf))
        for step, ended in zip(self._steps, self._ended, strict=True):
            step.run(env)
            for var in ended:
                env.values.pop(var, None)
        results = list(zip(self._division.outputs, self._division.results, strict=True))
        first = self._division.first_written
        ready = [env.get(var).at(stage) for var, stage in (results[first + i] for i in self._ready)]
        outputs = [env.get(var).at(stage) for var, stage in results[:first]]
        given = [step.given(env) for step in self._last]
        tasks = [step.donating if donate else step.keeping for step in self._last]
        if donate and not self._compiled:
            for task, (donated, kept) in zip(tasks, given, strict=True):
                task.lower(donated, kept).compile()  # an error of it must not lose an array
            self._compiled = True
        donated, kept = [pair[0] for pair in given], [pair[1] for pair in given]
        last = map(_start, tasks, donated, kept)
        return itertools.chain.from_iterable(itertools.chain((ready,), last, (outputs,)))

    def lower(self, values: Sequence[Any], leaves: Sequence[Any]) -> LoweredStages:
        """The tasks of a step, lowered and compiled; nothing runs.

        Args:
            values: of the states, as shapes with the shardings of their homes.
            leaves: the raw inputs, or their shapes.
        """
        lowering = Lowering(self._compiler)
        env = _ShownEnv(self._division, self._stages)
        inputs = iter(self._division.inputs)
        for value in values:
            env.values[next(inputs)] = self._shown(value)
        place = 0
        for leaf in leaves:
            env.values[next(inputs)] = ShownInput(self._stages, leaf, place)
            place += bool(np.ndim(leaf))
        for step in (*self._steps, *self._last):
            step.lower(env, lowering)
        return LoweredStages(self.__name__, self._stages.count, lowering)

    def _shown(self, value: jax.ShapeDtypeStruct | ArrayLike) -> Shown:
        stage = None
        known = isinstance(value, jax.Array | jax.ShapeDtypeStruct)
        if known and value.sharding is not None:
            stage = self._stages.stage_of(value)
        return Shown(self._stages, {-1 if stage is None else stage: value})

    def _held(self, value: ArrayLike) -> Held:
        stage = self._stages.stage_of(value) if isinstance(value, jax.Array) else None
        return Held(self._stages, {-1 if stage is None else stage: value})


class _Env:
    """The values of a running program."""

    def __init__(self, division: Division, stages: Stages) -> None:
        self._consts, self._stages = division.graph.consts, stages
        self.values: dict[Any, Held] = {}

    def get(self, var: Atom) -> Held:
        if isinstance(var, Literal):
            return Held(self._stages, {-1: np.asarray(var.val)})
        if var in self._consts:
            return Held(self._stages, {-1: self._consts[var]})
        return self.values[var]

    def put(self, var: Var, stage: int, array: Array) -> None:
        known = self.values.get(var)
        if known is None:
            self.values[var] = Held(self._stages, {stage: array})
        else:
            known.add(stage, array)


class _ShownEnv:
    """The values of a program that is lowered."""

    def __init__(self, division: Division, stages: Stages) -> None:
        self._consts, self._stages = division.graph.consts, stages
        self.values: dict[Any, Shown] = {}

    def get(self, var: Atom) -> Shown:
        if isinstance(var, Literal):
            return Shown(self._stages, {-1: np.asarray(var.val)})
        if var in self._consts:
            return Shown(self._stages, {-1: np.asarray(self._consts[var])})
        return self.values[var]

    def put(self, var: Var, stage: int, array: jax.ShapeDtypeStruct) -> None:
        known = self.values.get(var)
        if known is None:
            self.values[var] = Shown(self._stages, {stage: array})
        else:
            known.add(stage, array)


class _Step:
    """Something that a program does between its inputs and its outputs."""

    takes: Sequence[Any]

    def run(self, env: _Env) -> None:
        """Do it."""
        raise NotImplementedError

    def lower(self, env: _ShownEnv, lowering: Lowering) -> None:
        """Lower its tasks."""
        raise NotImplementedError


class _TaskStep(_Step):
    def __init__(self, part: Part, task: Program, stage: int) -> None:
        self.takes = part.invars
        self._gives, self._task, self._stage = part.outvars, task, stage
        self._part = part

    def run(self, env: _Env) -> None:
        arrays = self._task(*[env.get(var).at(self._stage) for var in self.takes])
        for var, array in zip(self._gives, arrays, strict=True):
            env.put(var, self._stage, array)

    def lower(self, env: _ShownEnv, lowering: Lowering) -> None:
        inputs = {var: env.get(var).at(self._stage) for var in self.takes}
        kind = "between" if lowering.loops else "before"
        task = lowering.task(self._task, self._part, self._stage, kind, inputs)
        for var, shown in task.results.items():
            env.put(var, self._stage, shown)


class _LastStep:
    """A task that makes new values of states, and may use the memory of the old ones."""

    def __init__(
        self, division: Division, last: Last, stages: Stages, name: str, platform: str
    ) -> None:
        self._stage, self._part = last.stage, last.part
        self.takes = last.part.invars
        self._donated = [division.inputs[i] for i in last.donated]
        donated = set(self._donated)
        self._kept = [var for var in self.takes if var not in donated]
        title = f"{name}_stage{last.stage}_update"
        self.donating, self.keeping = last.part.compiled_with(
            self._donated, stages, last.stage, title, platform
        )

    def given(self, env: _Env) -> tuple[list[Array], list[Array]]:
        """Its arguments."""
        donated, kept = (
            [env.get(var).at(self._stage) for var in group] for group in (self._donated, self._kept)
        )
        return donated, kept

    def lower(self, env: _ShownEnv, lowering: Lowering) -> None:
        """Lower it."""
        inputs = {var: env.get(var).at(self._stage) for var in self.takes}
        groups = (self._donated, self._kept)
        lowering.task(self.donating, self._part, self._stage, "update", inputs, groups)


def _ready(division: Division) -> list[int]:
    """The places among the written states whose new values no `Last` makes."""
    made = {i for last in division.last for i in last.written}
    count = len(division.outputs) - division.first_written
    return [i for i in range(count) if i not in made]


class _LoopStep(_Step):
    def __init__(self, division: Division, eqn: JaxprEqn, program: LoopProgram) -> None:
        self._eqn, self._program = eqn, program
        first = program.plan.first_x
        #: The x's, by place, that are an input of the program, cut into micro-batches.
        self._cut = {
            at: division.cut[var]
            for at, var in enumerate(eqn.invars)
            if at >= first and not isinstance(var, Literal) and var in division.cut
        }
        carries = eqn.invars[len(program.plan.consts) : first]
        self._zero = [division.is_zero(var) for var in carries]
        given = [self._cut.get(at, var) for at, var in enumerate(eqn.invars)]
        self.takes = [var for var in given if not isinstance(var, Literal)]

    def run(self, env: _Env) -> None:
        given: list[Any] = []
        for at, var in enumerate(self._eqn.invars):
            if at in self._cut:
                given.append(Rows(env.get(self._cut[at])))
            elif self._program.plan.users(self._program.inputs[at]) or self._starts(at):
                given.append(env.get(var))
            else:
                given.append(None)  # read by nobody
        for var, held in zip(self._eqn.outvars, self._program.run(given, self._zero), strict=True):
            env.values[var] = held

    def lower(self, env: _ShownEnv, lowering: Lowering) -> None:
        given: list[Any] = []
        for at, var in enumerate(self._eqn.invars):
            used = self._program.plan.users(self._program.inputs[at]) or self._starts(at)
            given.append(env.get(self._cut.get(at, var)) if at in self._cut or used else None)
        for var, shown in zip(
            self._eqn.outvars, self._program.lower(given, set(self._cut), lowering), strict=True
        ):
            env.values[var] = shown

    def _starts(self, at: int) -> bool:
        """Whether an input is the beginning of a carry that is needed at the end."""
        number = at - len(self._program.plan.consts)
        return 0 <= number < len(self._zero) and not self._zero[number]
