"""What layouts come to: a table of all Parameters, and a picture of one.

The table says for each Parameter how it is sharded, what one device holds of it, in how many
copies, and how many bytes that takes. It is plain data (`rows`, `to_dicts`), and prints itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from paramesh.dtype import to_dtype
from paramesh.errors import ContextError, LayoutError
from paramesh.parallel.layouts.layout import Index, Layout, replicated, subject
from paramesh.parallel.layouts.layout_tuple import to_nested_tuple
from paramesh.plain_text import printable, rendered
from paramesh.providers import providers

if TYPE_CHECKING:  # it loads a solver
    from paramesh.parallel.search.report import Explanation

_WIDTH = 100
_LEAST_NAME = 24
_FIXED = ("dtype", "copies", "per device")  # the other columns break at blanks
_MOST_ROWS, _MOST_COLUMNS, _MOST_RUNS = 16, 8, 4


@dataclass(frozen=True)
class LayoutRow:
    """One Parameter of a table.

    Attributes:
        name: full name.
        shape: of the full array.
        dtype: name of the element type.
        layout: None for a Parameter that is replicated.
        parts: how many shards each axis is split into.
        slice_shape: of the shard that one device holds.
        replicas: how many devices hold each shard.
        bytes_whole: bytes of the full array.
        bytes_per_device: bytes of one shard.
        stage: the pipeline stage whose devices hold it; None without stages, or before a program
            that uses it has been compiled.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: Layout | None
    parts: tuple[int, ...]
    slice_shape: tuple[int, ...]
    replicas: int
    bytes_whole: int
    bytes_per_device: int
    stage: int | None = None


@dataclass(frozen=True)
class LayoutTable:
    """The layouts of Parameters over `device_num` devices; `print` shows it.

    Attributes:
        device_num: how many devices there are; with pipeline stages, in each stage.
        rows: one for each Parameter, in the order they were given.
        plan: of the search that found the layouts; `print(table.plan)` shows what is sent in a
        step.
        stages: how many pipeline stages there are.
    """

    device_num: int
    rows: tuple[LayoutRow, ...]
    plan: Explanation | None = None
    stages: int = 1

    def explain(self) -> str:
        """The plan that was found beside data parallel, ZeRO-1 and ZeRO-3 in the same cost model.

        Raises:
            ContextError: no plan was searched for.
        """
        if self.plan is None:
            raise ContextError(
                "explain: no layouts were searched for. They are with parallel_mode="
                "'auto_parallel' and search_mode='recursive_programming', once a program has "
                "been compiled."
            )
        return self.plan.explain()

    @property
    def bytes_per_device(self) -> int:
        """Bytes that all Parameters take on one device: with stages, where it is most."""
        stages = range(self.stages)
        return max(
            sum(r.bytes_per_device for r in self.rows if (r.stage or 0) == s) for s in stages
        )

    @property
    def bytes_whole(self) -> int:
        """Bytes of all Parameters, each counted once."""
        return sum(row.bytes_whole for row in self.rows)

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as dicts of plain data; `layout` is what `Layout.to_dict` gives, or None."""
        found: list[dict[str, Any]] = []
        for row in self.rows:
            data = asdict(row) | {"layout": None if row.layout is None else row.layout.to_dict()}
            if self.stages == 1:
                del data["stage"]
            found.append(data)
        return found

    def to_tuples(self) -> dict[str, tuple[Any, ...]]:
        """{name: MindSpore's tuple}, see `layout_tuple.to_nested_tuple`.

        Raises:
            LayoutError: a layout that such a tuple cannot say.
        """
        found: dict[str, tuple[Any, ...]] = {}
        for row in self.rows:
            layout = row.layout or replicated(len(row.shape), self.device_num)
            found[row.name] = to_nested_tuple(layout, row.shape, row.name)
        return found

    def __rich__(self) -> Any:
        """The table for rich."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        staged = self.stages > 1
        cells = [
            (
                *((("-" if row.stage is None else str(row.stage)),) if staged else ()),
                str(row.shape),
                row.dtype,
                _sharding_text(row),
                str(row.slice_shape),
                str(row.replicas),
                byte_text(row.bytes_per_device),
            )
            for row in self.rows
        ]
        per_device = f"{byte_text(self.bytes_per_device)}\nof {byte_text(self.bytes_whole)}"
        devices = _count(self.device_num * self.stages, "device")
        columns = (
            *((("stage", _count(self.stages, "stage")),) if staged else ()),
            ("shape", ""),
            ("dtype", ""),
            ("sharding", devices),
            ("slice", ""),
            ("copies", ""),
            ("per device", per_device),
        )
        table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("parameter", footer=_count(len(self.rows), "parameter"), no_wrap=True)
        room = _WIDTH - 3
        for at, (header, footer) in enumerate(columns):
            table.add_column(
                header,
                footer=footer,
                no_wrap=header in _FIXED,
                justify="right" if header in ("copies", "per device") else "left",
            )
            texts = [header, *footer.split("\n"), *(line[at] for line in cells)]
            room -= max(map(len, texts)) + 2
        for row, line in zip(self.rows, cells, strict=True):
            table.add_row(Text(_folded(row.name, max(room, _LEAST_NAME))), *map(Text, line))
        return table

    def _repr_html_(self) -> str:
        return providers.html(self)

    def __str__(self) -> str:
        return _rendered(self.__rich__())


def layout_table(
    params: Mapping[str, tuple[Sequence[int], Any, Layout | None]],
    device_num: int,
    stages: Mapping[str, int] | None = None,
    stage_num: int = 1,
) -> LayoutTable:
    """The layouts of Parameters, and what each device holds.

    Args:
        params: full name -> (shape, element type, layout); the layout None for a Parameter that
            is replicated.
        device_num: how many devices there are, in each stage.
        stages: full name -> pipeline stage, where it is known.
        stage_num: how many stages there are.

    Raises:
        LayoutError: a layout that does not fit its shape, or is for other than `device_num`
            devices; the message names the Parameter.
        TypeError: no element type.
    """
    rows = []
    for name, (shape, dtype, layout) in params.items():
        shape = tuple(shape)
        used = replicated(len(shape), device_num) if layout is None else layout
        if used.device_num != device_num:
            raise LayoutError(
                f"{subject(name)}{used!r} is for {used.device_num} devices, but there are "
                f"{device_num}."
            )
        slice_shape = used.slice_shape(shape, name)
        size = to_dtype(dtype).itemsize
        rows.append(
            LayoutRow(
                name=name,
                shape=shape,
                dtype=str(to_dtype(dtype)),
                layout=layout,
                parts=used.parts,
                slice_shape=slice_shape,
                replicas=used.replicas(),
                bytes_whole=math.prod(shape) * size,
                bytes_per_device=math.prod(slice_shape) * size,
                stage=(stages or {}).get(name),
            )
        )
    return LayoutTable(device_num, tuple(rows), stages=stage_num)


def picture(layout: Layout, shape: Sequence[int], name: str = "") -> str:
    """Which devices hold which shard of an array, as a text of at most 100 columns.

    The last axis that is sharded runs to the right, all others down. Long lists are shortened.

    Raises:
        LayoutError: the layout does not fit the shape.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shape = tuple(shape)
    holders: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for rank, index in layout.shards(shape, name).items():
        holders.setdefault(_bounds(index), []).append(rank)
    sharded = [axis for axis, shards in enumerate(layout.parts) if shards > 1]
    title = (
        f"{name or 'array'} {shape}: {_count(math.prod(layout.parts), 'shard')} of "
        f"{layout.slice_shape(shape, name)}, each on {layout.replicas()} of "
        f"{_count(layout.device_num, 'device')}"
    )
    if not sharded:
        return f"{title}\n"
    down, right = (sharded[:-1], sharded[-1:]) if len(sharded) > 1 else (sharded, [])
    rows: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for bounds in sorted(holders):
        row = _spans(bounds, down)
        column = _spans(bounds, right)
        columns[column] = None
        rows.setdefault(row, {})[column] = _ranks(holders[bounds])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(" x ".join(f"axis {axis}" for axis in down))
    shown = list(columns)[:_MOST_COLUMNS]
    for column in shown:
        at = f"axis {right[0]}: " if right and column == shown[0] else ""
        table.add_column(at + column if right else "devices")
    if len(columns) > len(shown):
        table.add_column("…")
    for row, cells in list(rows.items())[:_MOST_ROWS]:
        table.add_row(row, *[Text(cells[column]) for column in shown])
    more = len(rows) - _MOST_ROWS
    note = f" … and {_count(more, 'more row')}\n" if more > 0 else ""
    return printable(f"{title}\n{_rendered(table)}{note}")


def byte_text(count: int) -> str:
    """A number of bytes for people: 512 B, 1.5 KiB, 24.0 MiB."""
    if count < 1024:
        return f"{count} B"
    value, unit = count / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:,.1f} {unit}"


def _sharding_text(row: LayoutRow) -> str:
    layout = row.layout
    if layout is None or math.prod(row.parts) == 1:
        return "-"
    return ", ".join(" x ".join(layout.alias_name[a] for a in axes) or "-" for axes in layout.cuts)


def _folded(name: str, width: int) -> str:
    """A long name on several lines, broken after dots where there are any."""
    lines = [""]
    for label in re.findall(r"[^.]*\.|[^.]+", name):
        if lines[-1] and len(lines[-1]) + len(label) > width:
            lines.append("")
        lines[-1] += label
        while len(lines[-1]) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return "\n".join(lines)


def _spans(bounds: Sequence[tuple[int, int]], axes: Sequence[int]) -> str:
    return ", ".join(f"{bounds[axis][0]}:{bounds[axis][1]}" for axis in axes)


def _bounds(index: Index) -> tuple[tuple[int, int], ...]:
    return tuple((along.start, along.stop) for along in index)


def _ranks(ranks: Iterable[int]) -> str:
    """Ranks as runs: 0-3, 8-11."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    if len(texts) > _MOST_RUNS:
        texts = [*texts[: _MOST_RUNS - 1], "…", texts[-1]]
    return ", ".join(texts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _rendered(table: object) -> str:
    return rendered(table, _WIDTH)
