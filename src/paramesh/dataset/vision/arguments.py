"""Checks that the arguments of several vision transforms share."""

from __future__ import annotations

from collections.abc import Sequence

from paramesh.dataset.argument_types import Size
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.vision.modes import Border, Inter


def crop_size(value: Size, name: str) -> tuple[int, int]:
    """(height, width) of a size given as one int or two.

    Raises:
        TypeError: it is no int and no two ints.
        ValueError: a length is not above 0.
    """
    if check.is_whole(value):
        check.within(value, 1, check.LARGEST, name)
        return value, value
    height, width = lengths = check.pair(value, name)
    for i, length in enumerate(lengths):
        check.of_type(length, int, f"{name}[{i}]")
        check.within(length, 1, check.LARGEST, f"{name}[{i}]")
    return height, width


def resize_size(value: Size, name: str) -> int | tuple[int, int]:
    """A size that is one int (of the shorter side) or (height, width).

    Raises:
        TypeError: it is no int and no two ints.
        ValueError: a length is not above 0.
    """
    pair = crop_size(value, name)
    return value if isinstance(value, int) else pair


def colors(value: int | tuple[int, int, int], name: str) -> tuple[int, int, int]:
    """Three colours from one or three ints from 0 to 255.

    Raises:
        TypeError: it is neither an int nor a tuple of three ints.
        ValueError: one is outside.
    """
    if check.is_whole(value):
        chosen = (value, value, value)
    elif isinstance(value, tuple) and len(value) == 3:
        chosen = value
    else:
        raise TypeError(f"{name}: expected an int or a tuple of 3 ints, got {value!r}.")
    for i, element in enumerate(chosen):
        check.of_type(element, int, f"{name}[{i}]")
        check.within(element, 0, 255, f"{name}[{i}]")
    return chosen


def padding(value: int | Sequence[int], name: str) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of 1, 2 (left and right, top and bottom) or 4 widths.

    Raises:
        TypeError: no int and no list or tuple of ints.
        ValueError: another number of widths, or a negative one.
    """
    given = (value,) * 4 if check.is_whole(value) else value
    widths = check.of_type(given, (list, tuple), name)
    if len(widths) not in (2, 4):
        raise ValueError(f"{name}: expected 1, 2 or 4 widths, got {widths!r}.")
    for i, width in enumerate(widths):
        check.natural(width, f"{name}[{i}]")
    left, top, right, bottom = widths if len(widths) == 4 else (*widths, *widths)
    return left, top, right, bottom


def interpolation(value: Inter, name: str) -> Inter:
    """The value, if it is an `Inter`.

    Raises:
        TypeError: it is none.
    """
    check.of_type(value, Inter, name)
    return value


def border(value: Border, name: str) -> Border:
    """The value, if it is a `Border`.

    Raises:
        TypeError: it is none.
    """
    check.of_type(value, Border, name)
    return value


def scale_and_ratio(
    scale: Sequence[float], ratio: Sequence[float], max_attempts: int, name: str
) -> None:
    """Check the arguments of a crop of random area and aspect ratio.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside, or not (min, max).
    """
    check.pair(scale, f"{name}.scale")
    check.numbers_of(scale, f"{name}.scale")
    check.span(scale, 0, check.LARGEST, f"{name}.scale")
    check.positive(scale[1], f"{name}.scale[1]")
    check.pair(ratio, f"{name}.ratio")
    for i, element in enumerate(ratio):
        check.number(element, f"{name}.ratio[{i}]")
        check.within(element, 0, check.LARGEST, f"{name}.ratio[{i}]", above=True)
    check.ordered(ratio, f"{name}.ratio")
    check.positive_int(max_attempts, f"{name}.max_attempts")


def degrees(value: float | Sequence[float], name: str) -> None:
    """Check a range of angles: one number that is not negative, or (min, max).

    Raises:
        TypeError: neither.
        ValueError: negative, or not (min, max).
    """
    check.of_type(value, (int, float, list, tuple), name)
    if isinstance(value, int | float):
        check.natural_float(value, name)
        return
    check.pair(value, name)
    check.numbers_of(value, name)
    check.ordered(value, name)


def rotation(
    resample: Inter,
    expand: bool,
    center: tuple[float, float] | None,
    fill_value: int | tuple[int, int, int],
    name: str,
) -> tuple[int, int, int]:
    """Check the arguments of a rotation, and give the colours.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """
    interpolation(resample, f"{name}.resample")
    check.flag(expand, f"{name}.expand")
    if center is not None:
        if not (isinstance(center, tuple) and len(center) == 2):
            raise ValueError(f"{name}.center: expected (x, y) or None, got {center!r}.")
        check.numbers_of(center, f"{name}.center")
    return colors(fill_value, f"{name}.fill_value")


def points(value: Sequence[Sequence[int]], name: str) -> Sequence[Sequence[int]]:
    """Four points (x, y).

    Raises:
        TypeError: they are none.
    """
    check.of_type(value, (list, tuple), name)
    if len(value) != 4:
        raise TypeError(f"{name}: expected four points (x, y), got {value!r}.")
    for i, point in enumerate(value):
        check.pair(point, f"{name}[{i}]")
        check.numbers_of(point, f"{name}[{i}]", int)
    return value
