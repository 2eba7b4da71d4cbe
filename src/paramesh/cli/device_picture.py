"""A picture of which device holds which part of which Parameter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from paramesh.cli.digits import DataError
from paramesh.parallel.layouts.layout import replicated
from paramesh.parallel.modes.layout_table import LayoutRow, LayoutTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GREY = "#555555"
_REPLICATED: dict[str, Any] = {
    "facecolor": "#eeeeee",
    "edgecolor": "#aaaaaa",
    "hatch": "///",
    "linewidth": 0,
}
_MOST_TEXTS = 16
_PREFIX = "moment1."


def draw_devices(path: Path, table: LayoutTable) -> None:
    """Write a PNG: every Parameter and its moment, coloured by device, and bytes per device.

    A part in several colours is held by several devices; what all devices hold whole is grey and
    hatched. A legend says so.

    Args:
        path: where to.
        table: of a network and its optimizer's state.

    Raises:
        DataError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    rows = {row.name: row for row in table.rows}
    shown = [row for row in table.rows if _PREFIX + row.name in rows]
    colors = _colors(table.device_num)
    figure = Figure(figsize=(13, 1.2 + 0.72 * len(shown)), dpi=110, layout="constrained")
    left, right = cast(Any, figure).subfigures(1, 2, width_ratios=[2.6, 1])
    _draw_legend(left, colors)
    left.suptitle(f"Which of {table.device_num} devices holds which part")
    grid = left.subplots(len(shown), 2, squeeze=False)
    for row, (one, other) in zip(shown, grid, strict=True):
        _draw_parts(one, row, table.device_num, colors)
        _draw_parts(other, rows[_PREFIX + row.name], table.device_num, colors)
        one.set_ylabel(f"{row.name}\n{row.shape}", rotation=0, ha="right", va="center", fontsize=8)
    for axes, title in zip(grid[0], ("Parameter", "Adam's first moment of it"), strict=True):
        axes.set_title(title, fontsize=10)
    _draw_bytes(right.subplots(), table, [row.name for row in shown], colors)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def _draw_parts(axes: Axes, row: LayoutRow, devices: int, colors: Sequence[Any]) -> None:
    """The array as a rectangle: axis 0 downwards (of a vector: to the right), the others along."""
    from matplotlib.patches import Rectangle

    layout = row.layout or replicated(len(row.shape), devices)
    if devices > 1 and max(layout.parts, default=1) == 1:
        _draw_replicated(axes, devices)
        return
    holders: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for rank, index in layout.shards(row.shape, row.name).items():
        holders.setdefault(tuple((part.start, part.stop) for part in index), []).append(rank)
    for bounds, ranks in holders.items():
        down, along = (bounds[:1], bounds[1:]) if len(bounds) > 1 else ((), bounds)
        top, bottom = _span(down, row.shape[: len(down)])
        start, stop = _span(along, row.shape[len(down) :])
        width = (stop - start) / len(ranks)
        for at, rank in enumerate(sorted(ranks)):
            corner = (start + at * width, top)
            axes.add_patch(Rectangle(corner, width, bottom - top, color=colors[rank], linewidth=0))
            if devices <= _MOST_TEXTS:
                axes.text(
                    start + (at + 0.5) * width,
                    (top + bottom) / 2,
                    str(rank),
                    ha="center",
                    va="center",
                    fontsize=7 if bottom - top > 0.2 else 5,
                )
        axes.add_patch(
            Rectangle((start, top), stop - start, bottom - top, fill=False, color="white")
        )
    _bare(axes)


def _draw_replicated(axes: Axes, devices: int) -> None:
    """An array that every device holds whole."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((0, 0), 1, 1, **_REPLICATED))
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    text = f"all {devices}"
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=7, color=_GREY, bbox=box)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(1, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _draw_legend(figure: Any, colors: Sequence[Any]) -> None:
    """What the colours mean."""
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.patches import Patch

    pair = (Patch(color=colors[0]), Patch(color=colors[1]))
    handles = [Patch(color=colors[0]), pair, Patch(**_REPLICATED)]
    texts = ["a shard on one device", "a shard replicated on each", "replicated on all devices"]
    figure.legend(
        handles,
        texts,
        loc="outside lower center",
        ncols=3,
        fontsize=8,
        frameon=False,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
    )


def _span(bounds: Sequence[tuple[int, int]], shape: Sequence[int]) -> tuple[float, float]:
    """Where a part of some axes, laid end to end, begins and ends in a stretch from 0 to 1.

    Several axes that are cut would not be one stretch; the last axes of a network's weights are
    whole.
    """
    start, size = 0.0, 1.0
    for (low, high), length in zip(bounds, shape, strict=True):
        start += size * low / length
        size *= (high - low) / length
    return start, start + size


def _draw_bytes(
    axes: Axes, table: LayoutTable, params: Sequence[str], colors: Sequence[str]
) -> None:
    ours = [row for row in table.rows if row.name in params]
    state = [row for row in table.rows if row.name not in params]
    held = [sum(row.bytes_per_device for row in rows) / 1024 for rows in (ours, state)]
    whole = table.bytes_whole / 1024
    ranks = range(table.device_num)
    axes.barh(ranks, held[0], color=colors, label="Parameters")
    axes.barh(ranks, held[1], left=held[0], color=colors, alpha=0.45, label="state of Adam")
    axes.axvline(whole, color=_GREY, linestyle="--", linewidth=1)
    axes.text(whole, -0.8, "all, on one device ", ha="right", va="center", fontsize=8, color=_GREY)
    if table.device_num <= _MOST_TEXTS:
        for rank in ranks:
            axes.text(
                sum(held), rank, f" {held[0]:.0f} + {held[1]:.0f} KiB", va="center", fontsize=8
            )
        axes.set_yticks(ranks)
    axes.set_ylim(table.device_num - 0.4, -1.3)
    axes.set_xlim(0, whole * 1.05)
    axes.set_xlabel("KiB: Parameters, and (pale) Adam's state")
    axes.set_ylabel("device")
    axes.set_title("What each device holds", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _colors(count: int) -> list[Any]:
    from matplotlib import colormaps

    if count <= 8:
        return [colormaps["Set2"](rank) for rank in range(count)]
    return [colormaps["turbo"](0.1 + 0.8 * rank / (count - 1)) for rank in range(count)]


def held_text(table: LayoutTable, names: Sequence[str]) -> str:
    """One line: what the state of the optimizer takes on each device."""
    state = [row for row in table.rows if row.name not in names]
    each = sum(row.bytes_per_device for row in state) / 1024
    whole = sum(row.bytes_whole for row in state) / 1024
    return f"Adam's state takes {each:,.1f} KiB on each device, of {whole:,.1f} KiB."
