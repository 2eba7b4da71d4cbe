"""The modes with one global view, with pipeline stages: `pipeline_stages` above 1.

A program is traced as on the devices of one stage, whatever stage its Cells have, and Cells with a
stage mark where theirs begins and ends (`pipeline/marks.py`). The traced program is divided into
tasks of the stages (`pipeline/division.py`), which run by a schedule (`pipeline/run.py`). So
strategies, and the search, speak of the devices of a stage.

A Parameter lives on the devices of one stage, its home: where it is updated or, in programs that
only read, of the first stage that reads it. Another stage that reads it gets its value in each
step.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from jax.sharding import NamedSharding

from paramesh import context
from paramesh._compat.jax import ClosedJaxpr, JaxprEqn
from paramesh.array_types import Array
from paramesh.parallel.layouts.parameter_layouts import original_of
from paramesh.parallel.modes.auto import Auto
from paramesh.parallel.modes.semi_auto import SemiAuto
from paramesh.parallel.partitioning.rewriting import rewritten
from paramesh.parallel.pipeline.division import Division
from paramesh.parallel.pipeline.joining import joined
from paramesh.parallel.pipeline.marks import BACK, ENTER, LEAVE, VALUE, is_mark, mark
from paramesh.parallel.pipeline.run import StagedProgram
from paramesh.parallel.pipeline.stages import Stages
from paramesh.parameter import Parameter
from paramesh.sampling.recipe import Recipe
from paramesh.state import tracing

#: {Parameter: (its home, whether a program that writes it says so)}.
Homes = weakref.WeakKeyDictionary[Parameter, tuple[int, bool]]

#: By the key of a placement.
_homes: dict[Any, Homes] = {}


class Marking(SemiAuto):
    """A mode with one global view, whose traces mark where stages begin and end.

    Attributes:
        stages: the stages.
        following: Parameters of Cells around those that have a stage.
    """

    stages: Stages
    following: weakref.WeakSet[Parameter]

    def in_stage(self, stage: int, name: str, arrays: Sequence[Any], begins: bool) -> Sequence[Any]:
        """Mark what enters or leaves a Cell with a stage."""
        if self._thread.found is None:
            return arrays
        self.stages.check(stage, name)
        return [mark(array, ENTER if begins else LEAVE, stage, name) for array in arrays]

    def follow_data(self, params: Sequence[Any]) -> None:
        """Note Parameters that belong to the stage whose results they meet."""
        self.following.update(params)

    def value_of(self, kind: str, value: Array) -> Any:
        """Mark what a PipelineCell gives."""
        return value if self._thread.found is None else mark(value, VALUE, 0, kind)

    def sensitivity(self, value: Array) -> Any:
        """Mark where a backward pass begins."""
        return value if self._thread.found is None else mark(value, BACK, 0, "")


class Pipelined(Marking):
    """A mode with one global view and stages.

    Args:
        devices: all of them, by rank.
        mode: `semi_auto_parallel` or `auto_parallel`.

    Raises:
        ContextError: the stages do not divide the devices, or there are several processes.
    """

    def __init__(self, devices: Sequence[Any], mode: str) -> None:
        settings = context.get_auto_parallel_context
        inputs = "full_batch" if settings("full_batch") else settings("dataset_strategy")
        self.stages = Stages(devices, settings("pipeline_stages"), inputs)
        super().__init__(self.stages.groups[0], mode)
        config = settings("pipeline_config") or {}
        self._scheduler = config.get("pipeline_scheduler", "1f1b")
        self.key = (*self.key, "stages", tuple(d.id for d in devices), self._scheduler)
        self._basis = (self.key, self._basis[1])
        self.following = weakref.WeakSet()
        # Programs outlive a placement: they are found again when its settings come back.
        self._homes = _homes.setdefault(self.key, weakref.WeakKeyDictionary())

    def home_of(self, param: Parameter) -> int | None:
        """The stage whose devices a Parameter is on; None if no program has used it.

        One that was cloned from another, such as the state of an optimizer, is where that one is.
        """
        known = self._homes.get(param)
        if known is not None:
            return known[0]
        original = original_of(param)
        return None if original is None else self.home_of(original)

    def sharding_of(self, param: Parameter) -> NamedSharding:
        """Where a Parameter lives."""
        if self._thread.found is not None:
            return super().sharding_of(param)
        self._forget()
        sharding = self._shardings.get(param)
        if sharding is None:
            there = self._sharding(self.layout_of(param), param.name)
            sharding = self.stages.moved(there, self.home_of(param) or 0)
            self._shardings[param] = sharding
        return sharding

    def materialise(self, params: Sequence[Any], recipes: Sequence[Recipe]) -> list[Any]:
        """The first arrays of Parameters, those that are sharded on the devices of their homes."""
        self.scattered.update(params)
        return super().materialise(params, recipes)

    def reshard(self, states: Sequence[Any], arrays: list[Any]) -> None:
        """Move to its home what is not there."""
        super().reshard(states, arrays)
        self.scattered.update(states)

    def place_inputs(self, leaves: list[Any]) -> list[Any]:
        """The inputs as they are: the stages that use them place them."""
        return leaves

    def rewritten(self, closed: ClosedJaxpr, states: Sequence[Any], written: Sequence[Any]) -> Any:
        """The program with its loops joined; its tasks are rewritten, each for its devices.

        Raises:
            LayoutError: the stages do not fit the data; see `pipeline.loop.LoopPlan`.
        """
        return with_loops_joined(closed, self.stages.count)

    def divided(
        self, closed: ClosedJaxpr, states: Sequence[Any], written: Sequence[Any], name: str
    ) -> StagedProgram:
        """The program as tasks of the stages.

        Raises:
            LayoutError: the stages do not fit the data; see `pipeline.loop.LoopPlan`.
        """
        division = Division(closed, states, written, self.stages.count, self.following)
        program = StagedProgram(division, self.stages, self._scheduler, name, self.platform)
        self._learn_homes(states, written, division.homes)
        return program

    def _learn_homes(
        self, states: Sequence[Any], written: Sequence[Any], homes: dict[int, int]
    ) -> None:
        writes = set(written)
        moved = False
        for at, home in homes.items():
            state = states[at]
            known = self._homes.get(state)
            new = (home, state in writes)
            if known is None or (new[1] and not known[1]):
                self._homes[state] = new
                moved |= known is None or known[0] != home
        if moved:
            tracing.bump_version()


def with_loops_joined(closed: ClosedJaxpr, stages: int) -> ClosedJaxpr:
    """A traced program whose loops over the same micro-batches are one.

    Args:
        closed: the program.
        stages: how many stages there are.

    Raises:
        LayoutError: the stages do not fit the data; see `pipeline.loop.LoopPlan`.
    """
    return joined(rewritten(closed, is_mark, _again), stages)


def _again(eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    return [eqn.primitive.bind(*values, **eqn.params)]


class PipelinedSemiAuto(Pipelined, SemiAuto):
    """semi_auto_parallel with stages."""


class PipelinedAuto(Pipelined, Auto):
    """auto_parallel with stages: layouts are searched for over the devices of a stage."""

    def rewritten(self, closed: ClosedJaxpr, states: Sequence[Any], written: Sequence[Any]) -> Any:
        """The program with the layouts of the best plan for the devices of a stage.

        Raises:
            LayoutError: as `Auto.rewritten`, and as `Pipelined.rewritten`.
        """
        closed = Pipelined.rewritten(self, closed, states, written)
        return Auto.rewritten(self, closed, states, written)
