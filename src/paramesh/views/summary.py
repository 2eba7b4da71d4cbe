"""`net.summary(x)`: a network by its Cells, as a table, as HTML and as data.

A row stands for a Cell and for all that is inside it; a Parameter that is there twice counts once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from paramesh.nn.cell import Cell
from paramesh.parallel.modes.layout_table import byte_text
from paramesh.parameter import Parameter
from paramesh.plain_text import rendered
from paramesh.views import markup
from paramesh.views.costs import Array, Watched, flops_in, flops_of, watch
from paramesh.views.places import places_of

if TYPE_CHECKING:
    from rich.console import Group

_WIDTH = 100
_UNITS = ("", "K", "M", "G", "T", "P")


@dataclass(frozen=True)
class CellRow:
    """One Cell of a summary. Numbers are those of the Cell and of all that is inside.

    Attributes:
        path: attribute path; "" for the network itself.
        kind: the class's name.
        calls: how often it ran, None if the network was not traced.
        outputs: what it returned the last time; empty if it did not run.
        parameters: how many Parameters.
        elements: of these Parameters.
        trainable: elements of Parameters with `requires_grad`.
        bytes: that its Parameters take, or will take when their recipes have run.
        flops: operations of all its calls, as XLA counts them before it optimises; None if it was
            not traced or did not run, or if the backend does not count.
        places: where its Parameters lie.
    """

    path: str
    kind: str
    calls: int | None
    outputs: tuple[Array, ...]
    parameters: int
    elements: int
    trainable: int
    bytes: int
    flops: float | None
    places: tuple[str, ...]

    @property
    def depth(self) -> int:
        """How many Cells it is inside of."""
        return self.path.count(".") + 1 if self.path else 0


@dataclass(frozen=True)
class Summary:
    """A network by its Cells; `print` shows a table, and a notebook the same to fold.

    Attributes:
        rows: one for each Cell, the network itself first.
        compiled_flops: operations of the compiled program; None if it was not compiled.
        temporary_bytes: memory that the compiled program takes besides inputs and outputs.
        depth: rows that lie deeper are in `rows`, and not in the tables; None for all.
    """

    rows: tuple[CellRow, ...]
    compiled_flops: float | None = None
    temporary_bytes: int | None = None
    depth: int | None = None

    @property
    def total(self) -> CellRow:
        """The row of the network itself."""
        return self.rows[0]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, which JSON can hold."""
        cells = [
            asdict(row)
            | {
                "outputs": [{"shape": list(o.shape), "dtype": o.dtype} for o in row.outputs],
                "places": list(row.places),
            }
            for row in self.rows
        ]
        return {
            "cells": cells,
            "compiled_flops": self.compiled_flops,
            "temporary_bytes": self.temporary_bytes,
        }

    def to_json(self, indent: int | None = None) -> str:
        """`to_dict()` as a text of JSON."""
        return json.dumps(self.to_dict(), indent=indent)

    def _shown(self) -> list[CellRow]:
        return [row for row in self.rows if self.depth is None or row.depth <= self.depth]

    def _traced(self) -> bool:
        return self.total.calls is not None

    def _columns(self) -> list[str]:
        traced = ["output shape", "flops"] if self._traced() else []
        return ["cell", *traced[:1], "elements", "bytes", "trainable", *traced[1:], "where"]

    def _cells(self, row: CellRow) -> list[str]:
        flops = "-" if row.flops is None else counted(row.flops)
        traced = [_outputs(row), flops] if self._traced() else []
        return [
            *traced[:1],
            f"{row.elements:,}",
            byte_text(row.bytes) if row.bytes else "-",
            _share(row),
            *traced[1:],
            ", ".join(row.places) or "-",
        ]

    def notes(self) -> list[str]:
        """What is said below the table."""
        total = self.total
        frozen = total.elements - total.trainable
        plural = "" if total.parameters == 1 else "s"
        lines = [
            f"{total.parameters:,} Parameter{plural} of {total.elements:,} elements, "
            f"{total.trainable:,} trainable"
            + (f" and {frozen:,} not" if frozen else "")
            + f"; {byte_text(total.bytes)}."
        ]
        if self.compiled_flops is not None:
            line = f"The compiled program makes {counted(self.compiled_flops)} flops a call"
            if self.temporary_bytes is not None:
                line += f", and needs {byte_text(self.temporary_bytes)} of temporary memory"
            lines.append(line + ".")
        return lines

    def __rich__(self) -> Group:
        """The table and the notes for rich."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        right = ("elements", "bytes", "flops")
        for name in self._columns():
            table.add_column(
                name,
                justify="right" if name in right else "left",
                no_wrap=name in right,
                overflow="fold",
            )
        for row in self._shown():
            table.add_row(*map(Text, [_name(row), *self._cells(row)]))
        return Group(table, Text("\n".join(self.notes())))

    def __str__(self) -> str:
        return rendered(self.__rich__(), _WIDTH)

    def _repr_html_(self) -> str:
        rows: list[list[str]] = []
        for row in self._shown():
            name = markup.Markup("&nbsp;" * 3 * row.depth) + markup.joined(
                (markup.strong(_last(row)), " ", markup.pale(row.kind))
            )
            rows.append([markup.Markup(name), *self._cells(row)])
        columns = self._columns()
        right = [i for i, name in enumerate(columns) if name in ("elements", "bytes", "flops")]
        title = f"{self.total.kind}: {self.notes()[0]}"
        lines = [markup.pale(note) for note in self.notes()[1:]]
        return markup.block(
            markup.folded(title, markup.table(columns, rows, right), *lines, opened=True)
        )


def summarise(
    net: Cell,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    depth: int | None = None,
    compiled: bool = True,
) -> Summary:
    """The summary of a network; see `Cell.summary`.

    Args:
        net: the network.
        args: inputs; none for a summary of the Parameters alone.
        kwargs: named inputs.
        depth: how deep the tables go; None for everything.
        compiled: compile the program for its flops and its memory.

    Raises:
        TypeError, ValueError: an argument of another kind, such as a shape for an input.
    """
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int)):
        raise TypeError(f"summary: depth must be an int or None, got {depth!r}.")
    if depth is not None and depth < 0:
        raise ValueError(f"summary: depth must be at least 0, got {depth}.")
    named = dict(kwargs or {})
    for value in (*args, *named.values()):
        if isinstance(value, tuple) and value and all(isinstance(n, int) for n in value):
            raise TypeError(
                f"summary: {value} is a shape. Give the inputs, or what they are like: "
                f"jax.ShapeDtypeStruct({value}, np.float32)."
            )
    seen = watch(net, args, named) if args or named else None
    rows = tuple(_row(path, cell, seen) for path, cell in net.cells_and_names())
    if seen is None or not compiled:
        return Summary(rows, depth=depth)
    program = seen.lowered.compile()
    memory = program.memory_analysis()
    temporary = getattr(memory, "temp_size_in_bytes", None)
    return Summary(rows, flops_in(program.cost_analysis()), temporary, depth)


def _row(path: str, cell: Cell, seen: Watched | None) -> CellRow:
    params = list(cell.get_parameters())
    calls = [] if seen is None else seen.calls.get(cell, [])
    return CellRow(
        path=path,
        kind=type(cell).__name__,
        calls=None if seen is None else len(calls),
        outputs=calls[-1].outputs if calls else (),
        parameters=len(params),
        elements=_elements(params),
        trainable=_elements(p for p in params if p.requires_grad),
        bytes=sum(math.prod(p.shape) * p.dtype.itemsize for p in params),
        flops=flops_of(cell, calls) if calls else None,
        places=places_of(params),
    )


def _elements(params: Iterable[Parameter]) -> int:
    return sum(math.prod(p.shape) for p in params)


def counted(number: float) -> str:
    """A number of operations for people: 512, 1.5 K, 24.0 G."""
    unit = 0
    while number >= 1000 and unit < len(_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.0f}" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"


def _outputs(row: CellRow) -> str:
    return ", ".join(map(str, row.outputs)) if row.calls else "not called"


def _share(row: CellRow) -> str:
    if not row.elements:
        return "-"
    if row.trainable in (0, row.elements):
        return "yes" if row.trainable else "no"
    return f"{row.trainable:,}"


def _last(row: CellRow) -> str:
    return row.path.rpartition(".")[2]


def _name(row: CellRow) -> str:
    return "  " * row.depth + (f"{_last(row)}: " if row.path else "") + row.kind
