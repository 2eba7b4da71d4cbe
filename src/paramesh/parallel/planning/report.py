"""What a plan for a target comes to: numbers, and how they are shown.

Glossary
    state       what a step keeps besides the Parameters that are trained: moments, counters, moving
                means
    activations what passes between operators at the peak, as the search counts
                it
    workspace   all else that the compiler takes: what operators need while they run, copies,
                padding, code
    remedy      a change with which a step needs less memory, compiled and measured like the step
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from paramesh.parallel.modes.layout_table import LayoutRow, LayoutTable, byte_text
from paramesh.parallel.planning.fitted import Column, FittedTable
from paramesh.parallel.planning.sent import SentByCompiler
from paramesh.parallel.planning.step_time import StepTime
from paramesh.parallel.search.plan import Collective, Plan
from paramesh.parallel.search.report import Explanation
from paramesh.plain_text import rendered

_WIDTH = 100
_LEAST_NAME = 24
_MOST_ROWS = 24
_MOST_COLLECTIVES = 16


@dataclass(frozen=True)
class Memory:
    """Bytes of one device; the components add up to `total`.

    Attributes:
        parameters, state, activations, workspace: see the glossary.
        inputs: what is passed to the step.
        total: that the compiler says that the step needs: arguments, results that are no
            arguments, temporary memory and code.
        temporary: what of `total` is not kept between steps.
        predicted: of `total`, before it was compiled.
        limit: that there is; None where it is not known.
    """

    parameters: int
    state: int
    inputs: int
    activations: int
    workspace: int
    total: int
    temporary: int
    predicted: int
    limit: int | None

    @property
    def fits(self) -> bool | None:
        """Whether a device has that much; None where it is not known."""
        return None if self.limit is None else self.total <= self.limit


@dataclass(frozen=True)
class Remedy:
    """See the glossary.

    Attributes:
        name: what it does.
        how: what to write in the script, or to give.
        total: bytes of one device with it; None where no layouts were found.
        seconds: of a modelled step with it.
        fits: whether a device has that much.
    """

    name: str
    how: str
    total: int | None
    seconds: float
    fits: bool


@dataclass(frozen=True)
class StepPlan:
    """A step on the devices of a target, compiled and never run; `print` shows it.

    Attributes:
        name: of the function.
        target: as it was given.
        devices: how many there are.
        device_kind: as the compiler calls them.
        axes: names of the axes of the mesh -> how many devices.
        dtype: the element type of most products; its peak is what the model counts with.
        parameters: the layouts of Parameters that are trained.
        states: those of the others that the step takes.
        memory: of one device.
        parts: components of the modelled time of a step.
        collectives: as planned, the most bytes first.
        compiled: the collectives that the compiler put in.
        remedies: what would make it fit; empty if it fits.
        calibrated: whether the model counts with measured numbers.
        search: the plan that was found.
        stage: the `jax.stages.Compiled`.
    """

    name: str
    target: str
    devices: int
    device_kind: str
    axes: dict[str, int]
    dtype: str
    parameters: LayoutTable
    states: LayoutTable
    memory: Memory
    parts: StepTime
    collectives: tuple[Collective, ...]
    compiled: tuple[SentByCompiler, ...]
    remedies: tuple[Remedy, ...]
    calibrated: bool
    search: Plan
    stage: Any

    @property
    def fits(self) -> bool | None:
        """Whether the memory of a device is enough; None where its size is not known."""
        return self.memory.fits

    @property
    def seconds(self) -> float:
        """Of a step, as modelled."""
        return self.parts.step

    def as_text(self) -> str:
        """The program as the target's compiler optimised it."""
        return self.stage.as_text()

    def memory_analysis(self) -> Any:
        """What the target's compiler says of memory."""
        return self.stage.memory_analysis()

    def cost_analysis(self) -> Any:
        """What the target's compiler estimates: `flops`, `bytes accessed`, …"""
        return self.stage.cost_analysis()

    def explain(self) -> str:
        """The plan beside data parallel, ZeRO-1 and ZeRO-3 in the same cost model, as a text."""
        return Explanation(self.search).explain()

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain data: bytes, seconds, and layouts as `Layout.to_dict` gives them."""
        return {
            "name": self.name,
            "target": self.target,
            "devices": self.devices,
            "device_kind": self.device_kind,
            "axes": dict(self.axes),
            "dtype": self.dtype,
            "calibrated": self.calibrated,
            "parameters": self.parameters.to_dicts(),
            "states": self.states.to_dicts(),
            "memory": asdict(self.memory) | {"fits": self.memory.fits},
            "step": self.parts._asdict() | {"total": self.parts.step},
            "collectives": [asdict(one) for one in self.collectives],
            "compiled": [one._asdict() for one in self.compiled],
            "remedies": [asdict(one) for one in self.remedies],
        }

    def __rich__(self) -> Any:
        from rich.console import Group

        parts: list[Any] = [*self._heading(), self._layouts(), *self._sent(), *self._remedies()]
        return Group(*parts)

    def __str__(self) -> str:
        return rendered(self, _WIDTH)

    # How it is shown.

    def _heading(self) -> list[Any]:
        from rich.text import Text

        memory, parts = self.memory, self.parts
        axes = ", ".join(f"{name}={size}" for name, size in self.axes.items())
        what = f"{self.devices} x {self.device_kind}"
        title = f"{self.name} on {self.target} ({what})" + (f", mesh {axes}" if axes else "")
        bytes_of = [
            ("Parameters", memory.parameters),
            ("state", memory.state),
            ("inputs", memory.inputs),
            ("activations", memory.activations),
            ("workspace", memory.workspace),
            ("all", memory.total),
        ]
        step = parts.step or 1.0
        times = [
            (name, f"{seconds_text(own)} ({own / step:.0%})")
            for name, own in parts._asdict().items()
        ]
        times += [("all", seconds_text(parts.step)), ("", ""), ("", "")]
        columns = (
            Column("bytes of each device"),
            Column("", right=True),
            Column("modelled step"),
            Column("", right=True),
        )
        rows = [
            (name, byte_text(size), part, text)
            for (name, size), (part, text) in zip(bytes_of, times, strict=True)
        ]
        below = [row[:2] for row in rows] + [(f"step: {row[2]}", row[3]) for row in rows if row[2]]
        source = "measured" if self.calibrated else "published"
        model = f"Time is modelled with {source} figures and the peak of {self.dtype}."
        said = Text(self._source_of_bytes())
        return [
            Text(title, style="bold"),
            FittedTable(columns, rows, FittedTable(columns[:2], below)),
            Text(self._verdict()),
            said,
            Text(model),
            Text(""),
        ]

    def _source_of_bytes(self) -> str:
        memory = self.memory
        off = memory.predicted / max(memory.total, 1) - 1
        predicted = f"{byte_text(memory.predicted)} ({off:+.0%})"
        return f"Bytes are the compiler's. Before it was compiled, {predicted} was predicted."

    def _verdict(self) -> str:
        memory = self.memory
        if memory.limit is None:
            return "Whether it fits is not known: give memory='16GB', or --memory."
        what = f"{byte_text(memory.total)} of {byte_text(memory.limit)}"
        if memory.fits:
            return f"It fits: {what} ({memory.total / memory.limit:.0%})."
        return f"It does not fit: {what}."

    def _layouts(self) -> Any:
        count = len(self.states.rows)
        if not count:
            return layouts_table(self.parameters.rows)
        name = f"state ({count} Parameter{'s' if count != 1 else ''})"
        return layouts_table(self.parameters.rows, (name, self.states.bytes_per_device))

    def _sent(self) -> list[Any]:
        from rich.text import Text

        if self.devices == 1:
            return []
        parts: list[Any] = []
        if self.collectives:
            columns = (
                Column("collective"),
                Column("of", dropped=3),
                Column("from", least=12, dropped=2),
                Column("for", least=24),
                Column("times", right=True, dropped=1),
                Column("sent", right=True),
                Column("time", right=True, dropped=4),
            )
            rows: list[tuple[str, ...]] = []
            for one in self.collectives[:_MOST_COLLECTIVES]:
                cells = (one.kind, one.tensor, one.maker, one.users, str(one.times))
                rows.append((*cells, byte_text(round(one.nbytes)), seconds_text(one.seconds)))
            rest = self.collectives[_MOST_COLLECTIVES:]
            if rest:
                size = byte_text(round(sum(one.nbytes for one in rest)))
                spent = seconds_text(sum(one.seconds for one in rest))
                rows.append((f"… and {len(rest)} more", "", "", "", "", size, spent))
            parts.append(FittedTable(columns, rows))
        planned = byte_text(round(sum(one.nbytes for one in self.collectives)))
        compiled = byte_text(round(sum(one.nbytes for one in self.compiled)))
        each = (
            ", ".join(f"{one.operations} {one.kind}" for one in self.compiled) or "no collectives"
        )
        text = (
            f"Each device sends {planned} as planned; the compiler has it send {compiled}: {each}."
        )
        scattered = any(one.kind == "reduce-scatter" for one in self.collectives)
        if scattered and compiled != planned and self.target.startswith("cpu"):
            text += " The CPU's compiler has no reduce-scatter: it adds up all, and takes a part."
        return [*parts, Text(text)]

    def _remedies(self) -> list[Any]:
        from rich.text import Text

        if not self.remedies:
            return []
        columns = (
            Column("what would make it fit", least=15),
            Column("bytes", right=True),
            Column("step", right=True),
            Column(""),
            Column("how", least=27),
        )
        rows: list[tuple[str, ...]] = []
        for one in self.remedies:
            size = "-" if one.total is None else byte_text(one.total)
            time = "-" if one.total is None else seconds_text(one.seconds)
            rows.append((one.name, size, time, "fits" if one.fits else "too much", one.how))
        return [Text(""), FittedTable(columns, rows)]


def layouts_table(
    rows: Sequence[LayoutRow], last: tuple[str, int] | None = None, staged: bool = False
) -> FittedTable:
    """How Parameters are sharded: the first of them, and how many bytes the others take.

    Args:
        rows: of a table of layouts.
        last: name and bytes of one more line.
        staged: whether there are stages; each Parameter is in one of them.
    """
    columns = (
        Column("Parameter", least=_LEAST_NAME),
        *((Column("stage", right=True),) if staged else ()),
        Column("shape", dropped=4),
        Column("dtype", dropped=1),
        Column("sharding"),
        Column("slice", dropped=3),
        Column("copies", right=True, dropped=2),
        Column("per device", right=True),
    )
    shown: list[tuple[str, ...]] = []
    for row in rows[:_MOST_ROWS]:
        name = (row.name, str(row.stage or 0)) if staged else (row.name,)
        cells = (*name, str(row.shape), row.dtype, sharding_text(row), str(row.slice_shape))
        shown.append((*cells, str(row.replicas), byte_text(row.bytes_per_device)))

    def add(name: str, size: int) -> None:
        shown.append((name, *("",) * (len(columns) - 2), byte_text(size)))

    rest = rows[_MOST_ROWS:]
    if rest:
        size = sum(row.bytes_per_device for row in rest)
        add(f"… and {len(rest)} more{' in all stages' if staged else ''}", size)
    if last is not None:
        add(*last)
    return FittedTable(columns, shown)


def sharding_text(row: LayoutRow) -> str:
    """How a Parameter is sharded: an entry for each dimension, "-" for none, as in "mp, -"."""
    layout = row.layout
    if layout is None or max(row.parts, default=1) == 1:
        return "-"
    return ", ".join(" x ".join(layout.alias_name[a] for a in axes) or "-" for axes in layout.cuts)


def seconds_text(seconds: float) -> str:
    """Seconds for people: 1.2 s, 34.5 ms, 0.3 µs."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.2f} ms"
    return f"{seconds * 1e6:.1f} µs"
