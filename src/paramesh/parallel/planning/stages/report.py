"""What a plan of a step with pipeline stages comes to, and how it is shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from paramesh.parallel.modes.layout_table import LayoutTable, byte_text
from paramesh.parallel.pipeline.lowered import LoweredStages
from paramesh.parallel.planning.fitted import Column, FittedTable
from paramesh.parallel.planning.report import layouts_table, seconds_text
from paramesh.parallel.planning.stages.costs import Span
from paramesh.plain_text import rendered

_WIDTH = 110


@dataclass(frozen=True)
class StagePlan:
    """A stage: bytes of one device, and seconds as modelled.

    Attributes:
        stage: its number.
        parameters: that are trained.
        state: what the step keeps besides.
        gradients: sums over micro-batches.
        inputs: micro-batches of what is passed to the step.
        activations: at the peak, of all micro-batches on their way.
        workspace: what a task, or the update, needs besides.
        total: the sum of these.
        forward, backward: of one micro-batch.
        update: of Parameters and state.
        waiting: in a step, for what other stages send.
        working: in a step, computing and sending inside of the stage.
    """

    stage: int
    parameters: int
    state: int
    gradients: int
    inputs: int
    activations: int
    workspace: int
    total: int
    forward: float
    backward: float
    update: float
    waiting: float
    working: float


@dataclass(frozen=True)
class PipelinePlan:
    """A step with stages on the devices of a target, compiled and never run; `print` shows it.

    Attributes:
        name: of the function.
        target: as it was given.
        devices: how many there are, in all stages.
        device_kind: as the compiler calls them.
        scheduler: "1f1b" or "gpipe".
        micro_batches: of a step.
        dtype: the element type of most products; its peak is what the model counts with.
        stages: one after another.
        parameters: the layouts of Parameters that are trained, with their stages.
        seconds: of a step, as modelled.
        idle: the share of the time of all stages in which they do not compute.
        spans: what each stage does when in a step, as modelled.
        limit: bytes that a device has; None where it is not known.
        calibrated: whether the model counts with measured numbers.
        lowered: the programs of each stage.
    """

    name: str
    target: str
    devices: int
    device_kind: str
    scheduler: str
    micro_batches: int
    dtype: str
    stages: tuple[StagePlan, ...]
    parameters: LayoutTable
    seconds: float
    idle: float
    spans: tuple[Span, ...]
    limit: int | None
    calibrated: bool
    lowered: LoweredStages

    @property
    def total(self) -> int:
        """Bytes of a device of the stage that holds the most."""
        return max(stage.total for stage in self.stages)

    @property
    def fits(self) -> bool | None:
        """Whether the memory of a device is enough; None where its size is not known."""
        return None if self.limit is None else self.total <= self.limit

    def as_text(self) -> str:
        """The programs of all tasks as the target's compiler optimised them."""
        tasks = self.lowered.tasks
        return "\n".join(f"// {task.name}\n{task.compiled.as_text()}" for task in tasks)

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain data: bytes, seconds, and layouts as `Layout.to_dict` gives them."""
        return {
            "name": self.name,
            "target": self.target,
            "devices": self.devices,
            "device_kind": self.device_kind,
            "scheduler": self.scheduler,
            "micro_batches": self.micro_batches,
            "dtype": self.dtype,
            "calibrated": self.calibrated,
            "stages": [asdict(stage) for stage in self.stages],
            "parameters": self.parameters.to_dicts(),
            "seconds": self.seconds,
            "idle": self.idle,
            "total": self.total,
            "limit": self.limit,
            "fits": self.fits,
        }

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        count = len(self.stages)
        what = f"{self.devices} x {self.device_kind}"
        title = (
            f"{self.name} on {self.target} ({what}), {count} stages of {self.devices // count}, "
            f"{self.micro_batches} micro-batches, {self.scheduler}"
        )
        idle = f"the stages are idle for {self.idle:.0%} of it" if self.seconds else ""
        source = "measured" if self.calibrated else "published"
        model = f"Time is modelled with {source} figures and the peak of {self.dtype}."
        return Group(
            Text(title, style="bold"),
            self._of_bytes(),
            Text(self._verdict()),
            self._of_seconds(),
            Text(f"A step takes {seconds_text(self.seconds)}; {idle}."),
            Text(model),
            Text(""),
            layouts_table(self.parameters.rows, staged=True),
        )

    def __str__(self) -> str:
        return rendered(self, _WIDTH)

    def _of_bytes(self) -> Any:
        names = ("parameters", "state", "gradients", "inputs", "activations", "workspace", "total")
        rows = [[byte_text(getattr(stage, name)) for name in names] for stage in self.stages]
        return _table("bytes of a device", names, rows)

    def _of_seconds(self) -> Any:
        names = ("forward", "backward", "update", "waiting", "working")
        rows = [[seconds_text(getattr(stage, name)) for name in names] for stage in self.stages]
        return _table("modelled time", names, rows)

    def _verdict(self) -> str:
        if self.limit is None:
            return "Whether it fits is not known: give memory='16GB', or --memory."
        what = f"{byte_text(self.total)} of {byte_text(self.limit)}"
        if self.fits:
            return f"It fits: {what} ({self.total / self.limit:.0%})."
        return f"It does not fit: {what}."


def _table(title: str, names: tuple[str, ...], rows: list[list[str]]) -> Any:
    stages = [f"stage {at}" for at in range(len(rows))]
    turned = FittedTable(
        (Column(title, least=12), *(Column(stage, right=True) for stage in stages)),
        [(name, *cells) for name, *cells in zip(names, *rows, strict=True)],
    )
    columns = (Column(title), *(Column(name, right=True) for name in names))
    return FittedTable(columns, [(stages[at], *row) for at, row in enumerate(rows)], turned)
