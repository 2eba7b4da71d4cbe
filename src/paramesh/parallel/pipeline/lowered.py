"""The tasks of a step with stages, lowered and compiled without one value.

The step is followed from task to task as it would run, with shapes and shardings in the place of
arrays: how a task lays out its results is what its compiler says, and so later tasks take them. The
devices need not exist.

Glossary
    shown       of a value: its shape, element type and sharding on the devices of each stage that
                has it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol, TypeAlias

import jax
import numpy as np
from jax.sharding import Sharding

from paramesh._compat.jax import Var, dtype_of, shape_of
from paramesh.array_types import ArrayLike
from paramesh.errors import ContextError
from paramesh.parallel.pipeline.loop import LoopPlan
from paramesh.parallel.pipeline.schedule import Table
from paramesh.parallel.pipeline.stages import Stages
from paramesh.parallel.pipeline.tasks import Part

#: Compiles a lowered task.
Compiler: TypeAlias = Callable[[jax.stages.Lowered], jax.stages.Compiled]


class Program(Protocol):
    """A function of `jax.jit`."""

    __name__: str

    def __call__(self, *args: object) -> Any:
        """Call it."""
        ...

    def lower(self, *args: object) -> jax.stages.Lowered:
        """Lower it."""
        ...


@dataclass(frozen=True)
class LoweredTask:
    """A task of a stage.

    Attributes:
        name: that its program has.
        stage: on whose devices it runs.
        kind: "before" and "between" loops, "forward", "backward", "chains", or "update".
        times: how often in a step.
        part: its equations.
        inputs: shown, by variable of the part.
        results: shown, by variable of the part.
        lowered: the `jax.stages.Lowered`.
        compiled: the `jax.stages.Compiled`.
    """

    name: str
    stage: int
    kind: str
    times: int
    part: Part
    inputs: dict[Any, Any]
    results: dict[Any, Any]
    lowered: jax.stages.Lowered
    compiled: jax.stages.Compiled


@dataclass(frozen=True)
class LoweredLoop:
    """A loop over micro-batches.

    Attributes:
        plan: its passes.
        table: its schedule.
        tasks: by pass.
    """

    plan: LoopPlan
    table: Table
    tasks: dict[int, LoweredTask]


class Shown:
    """A value; see the glossary.

    Args:
        stages: the stages.
        arrays: {stage: how it lies}; -1 for no stage.
    """

    def __init__(self, stages: Stages, arrays: dict[int, Any]) -> None:
        self._stages = stages
        self._arrays = arrays

    def at(self, stage: int) -> Any:
        """How it lies on the devices of a stage, where it is sent if need be."""
        known = self._arrays.get(stage)
        if known is None:
            first = next(iter(self._arrays.values()))
            known = self._arrays[stage] = self._stages.shown(first, stage)
        return known

    def add(self, stage: int, array: jax.ShapeDtypeStruct) -> None:
        """Note that a stage has it, too."""
        self._arrays[stage] = array


class ShownInput(Shown):
    """An input of the step.

    Args:
        stages: the stages.
        leaf: an array, or its shape and element type.
        place: among the inputs that have axes.
    """

    def __init__(self, stages: Stages, leaf: jax.ShapeDtypeStruct | ArrayLike, place: int) -> None:
        super().__init__(stages, {})
        self._leaf, self._place = leaf, place

    def at(self, stage: int) -> Any:
        """How it lies on the devices of a stage."""
        return self._on(np.shape(self._leaf), stage)

    def part(self, count: int, stage: int) -> Any:
        """How one of `count` parts along the first axis lies there."""
        shape = tuple(np.shape(self._leaf))
        return self._on((shape[0] // count, *shape[1:]), stage)

    def _on(self, shape: tuple[int, ...], stage: int) -> Any:
        if isinstance(self._leaf, bool | int | float | complex):
            return self._leaf
        place = self._stages.sharding_of_input(shape, self._place, stage)
        return jax.ShapeDtypeStruct(shape, self._leaf.dtype, sharding=place)


@dataclass
class Lowering:
    """What was lowered so far.

    Attributes:
        compiler: of the tasks.
        tasks: in the order in which a step begins them.
        loops: those over micro-batches.
    """

    compiler: Compiler
    tasks: list[LoweredTask] = field(default_factory=list)
    loops: list[LoweredLoop] = field(default_factory=list)

    def task(
        self,
        program: Program,
        part: Part,
        stage: int,
        kind: str,
        inputs: dict[Any, Any],
        groups: Sequence[Sequence[Var]] | None = None,
        times: int = 1,
    ) -> LoweredTask:
        """Lower and compile one.

        Args:
            program: of `jax.jit`.
            part: its equations.
            stage: where.
            kind: see `LoweredTask`.
            inputs: shown, by variable.
            groups: the variables of each argument of the program; None: each is one.
            times: how often it runs.
        """
        if groups is None:
            lowered = program.lower(*[inputs[var] for var in part.invars])
        else:
            lowered = program.lower(*[[inputs[var] for var in group] for group in groups])
        compiled = self.compiler(lowered)
        shardings: list[Sharding] = jax.tree.leaves(compiled.output_shardings)
        results = {
            var: jax.ShapeDtypeStruct(shape_of(var), dtype_of(var), sharding=sharding)
            for var, sharding in zip(part.outvars, shardings, strict=True)
        }
        name = program.__name__
        task = LoweredTask(name, stage, kind, times, part, inputs, results, lowered, compiled)
        self.tasks.append(task)
        return task


class LoweredStages:
    """A step with stages as its tasks; `.lower(…)` of a compiled function has it as `stage`.

    Attributes:
        name: of the function.
        count: how many stages there are.
        tasks: in the order in which a step begins them.
        loops: those over micro-batches.
    """

    def __init__(self, name: str, count: int, lowering: Lowering) -> None:
        self.name, self.count = name, count
        self.tasks = tuple(lowering.tasks)
        self.loops = tuple(lowering.loops)

    def as_text(self, dialect: str | None = None) -> str:
        """The programs of all tasks as one text, each under a line with its name."""
        texts = [
            f"// {task.name}, {task.times} times in a step\n{task.lowered.as_text(dialect)}"
            for task in self.tasks
        ]
        return "\n".join(texts)

    def cost_analysis(self) -> dict[str, float]:
        """What JAX estimates of a step, over all tasks and micro-batches, such as `flops`."""
        total: dict[str, float] = {}
        for task in self.tasks:
            said = task.lowered.cost_analysis() or {}
            for what, number in said.items():
                total[what] = total.get(what, 0.0) + task.times * float(number)
        return total

    def compile(self, compiler_options: dict[str, Any] | None = None) -> NoReturn:
        """Refuse: tasks are compiled one by one already, and run by the step alone.

        Raises:
            ContextError: always.
        """
        raise ContextError(
            f"'{self.name}' is several programs, some for each of the {self.count} pipeline "
            "stages, so there is nothing to call in the place of the step. Call the step itself; "
            "`.lower(…).stage.tasks` has each program compiled, and paramesh.plan adds them up."
        )
