"""What the demonstration shows: a table of parameters, and a picture of what was learned."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from paramesh.array_types import HostArray
from paramesh.cli.digits import DataError, MissingExtraError
from paramesh.parameter import Parameter
from paramesh.sampling.recipe import Initializer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROWS, _COLUMNS = 5, 8
_MOST_WRONG = 8
_NUMBER = re.compile(r"=([-+.\d]+(?:e[-+]?\d+)?)(?=[,)])")
_BLUE, _PALE, _RED, _GREY = "#3949ab", "#c5cae9", "#d32f2f", "#555555"


def parameter_table(params: Iterable[Parameter]) -> Table:
    """One row for each Parameter, and the sums: numbers, and bytes they take or would take."""
    params = list(params)
    size = sum(math.prod(p.shape) for p in params)
    trained = sum(math.prod(p.shape) for p in params if p.requires_grad)
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    table.add_column("parameter", footer=f"{len(params)} parameters")
    table.add_column("shape")
    table.add_column("dtype")
    table.add_column("initializer", footer=_bytes(sum(_size(p) for p in params)))
    table.add_column("size", footer=f"{size:,}", justify="right")
    table.add_column("trainable", footer=f"{trained:,}")
    for p in params:
        table.add_row(
            Text(p.name),
            Text(str(p.shape)),
            str(p.dtype),
            Text(short(p.init)),
            f"{math.prod(p.shape):,}",
            "yes" if p.requires_grad else "no",
        )
    return table


def allocation(params: Iterable[Parameter]) -> str:
    """How much of these Parameters exists: none of it, if all of them are recipes."""
    params = list(params)
    live = [p for p in params if not p.has_init]
    if not live:
        return (
            f"Nothing has been allocated yet: all {len(params)} parameters are recipes, "
            "which run at first use."
        )
    return (
        f"{len(live)} of {len(params)} parameters have data: {_bytes(sum(map(_size, live)))} "
        "are allocated."
    )


def short(init: Initializer | None) -> str:
    """An initializer's name and its numbers, such as `Uniform(0.05)`; `-` if there is none."""
    if init is None:
        return "-"
    numbers = [f"{float(number):.3g}" for number in _NUMBER.findall(repr(init))]
    return f"{type(init).__name__}({', '.join(numbers)})"


def _size(param: Parameter) -> int:
    return math.prod(param.shape) * param.dtype.itemsize


def _bytes(count: int) -> str:
    return f"{count / 1024:,.1f} KiB"


def need_matplotlib() -> None:
    """Find out before the training whether the picture can be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingExtraError(
            "the picture needs matplotlib, which is not installed: pip install 'paramesh[demo]'"
        ) from error


def chosen(predictions: HostArray, labels: HostArray, count: int = _ROWS * _COLUMNS) -> list[int]:
    """Which test digits to show: the first ones, and then up to 8 that were read wrong."""
    wrong = np.flatnonzero(predictions != labels)[: min(_MOST_WRONG, count)].tolist()
    right = np.flatnonzero(predictions == labels)[: count - len(wrong)].tolist()
    return [*right, *wrong]


def draw(
    path: Path,
    losses: Sequence[float],
    steps: int,
    images: HostArray,
    labels: HostArray,
    predictions: HostArray,
) -> None:
    """Write a PNG: the loss curve, and a grid of test digits with what the network reads.

    Args:
        path: where to.
        losses: the loss of each step.
        steps: steps of an epoch.
        images: (n, 1, 32, 32), from 0 to 1.
        labels: (n,), the digits.
        predictions: (n,), what the network says.

    Raises:
        DataError: the file cannot be written.
    """
    # Not pyplot: no backend is chosen, and no window opened.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.2), dpi=120, layout="constrained")
    left, right = cast(Any, figure).subfigures(1, 2, width_ratios=[1, 1.25])
    _draw_losses(left, losses, steps)
    _draw_digits(right, images, labels, predictions)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def _draw_losses(figure: Any, losses: Sequence[float], steps: int) -> None:
    from matplotlib.ticker import LogLocator

    axes = figure.subplots()
    values = np.asarray(losses)
    epochs = np.arange(1, len(values) + 1) / steps
    axes.plot(epochs, values, color=_PALE, linewidth=1, label="each step")
    means = values[: len(values) // steps * steps].reshape(-1, steps).mean(axis=1)
    axes.plot(
        np.arange(len(means)) + 0.5,
        means,
        color=_BLUE,
        linewidth=2,
        marker="o" if len(means) <= 40 else "",
        markersize=4,
        label="mean of an epoch",
    )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    # One notation for all numbers, and no more of them than can be told apart.
    axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xlim(0, max(epochs[-1], 1))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss (cross entropy)")
    axes.set_title("Training loss")
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _draw_digits(
    figure: Figure, images: HostArray, labels: HostArray, predictions: HostArray
) -> None:
    wrong = int((predictions != labels).sum())
    accuracy = 1 - wrong / len(labels)
    figure.suptitle(f"Test digits: {accuracy:.2%} of {len(labels):,} read right, {wrong:,} wrong")
    indices = chosen(predictions, labels)
    for place, axes in enumerate(figure.subplots(_ROWS, _COLUMNS).flat):
        axes.set_xticks([])
        axes.set_yticks([])
        if place >= len(indices):
            axes.set_axis_off()
            continue
        at = indices[place]
        right = predictions[at] == labels[at]
        axes.imshow(images[at, 0], cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axes.spines[:].set(color="#d0d0d0" if right else _RED, linewidth=0.8 if right else 2)
        title = str(predictions[at]) if right else f"{predictions[at]}, is {labels[at]}"
        axes.set_title(
            title,
            color=_GREY if right else _RED,
            fontweight="normal" if right else "bold",
            fontsize=10,
            pad=3,
        )
