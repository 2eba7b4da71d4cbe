"""Numbers by which scripts scale initial values of their own, by MindSpore's internal names."""

from __future__ import annotations

import math

from paramesh.array_types import Shape


def fans(shape: Shape) -> tuple[int, int]:
    """The inputs and outputs of a unit whose weight has the shape (out, in, *kernel).

    Raises:
        ValueError: it has fewer than 2 axes.
    """
    if len(shape) < 2:
        raise ValueError(f"fan_in and fan_out need a shape (out, in, *kernel), got {shape}.")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def fan(shape: Shape, mode: str) -> int:
    """One of the `fans`.

    Args:
        shape: of the weight.
        mode: "fan_in" or "fan_out", in any case.

    Raises:
        ValueError: another mode, or a shape of fewer than 2 axes.
    """
    names = ("fan_in", "fan_out")
    if mode.lower() not in names:
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}.")
    return fans(shape)[names.index(mode.lower())]


def gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much to widen initial values in front of an activation (He et al. 2015).

    Args:
        nonlinearity: "relu", "leaky_relu", "tanh", "sigmoid", "linear", or the name of a layer.
        param: the slope of "leaky_relu" below zero; None: 0.01.

    Raises:
        ValueError: another activation, or a slope that is no number.
    """
    if nonlinearity in ("linear", "sigmoid") or nonlinearity.startswith("conv"):
        return 1.0
    if nonlinearity == "tanh":
        return 5 / 3
    if nonlinearity == "relu":
        return math.sqrt(2)
    if nonlinearity != "leaky_relu":
        raise ValueError(
            "nonlinearity must be 'linear', 'sigmoid', 'tanh', 'relu' or 'leaky_relu', got "
            f"{nonlinearity!r}."
        )
    slope = 0.01 if param is None else param
    if isinstance(slope, bool) or not isinstance(slope, int | float):
        raise ValueError(f"the slope of 'leaky_relu' must be a number, got {slope!r}.")
    return math.sqrt(2 / (1 + slope**2))
