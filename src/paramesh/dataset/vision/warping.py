"""Rotations, affine and perspective maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.vision import arguments, warp
from paramesh.dataset.vision.images import ImageOperation, PilOperation, fill_colors, ranked
from paramesh.dataset.vision.modes import Inter
from paramesh.dataset.vision.sizes import array_filter, pil_filter

__all__ = [
    "Affine",
    "Perspective",
    "RandomAffine",
    "RandomPerspective",
    "RandomRotation",
    "Rotate",
]

Colors = tuple[int, int, int]


def _channels(image: np.ndarray) -> int:
    return image.shape[2] if image.ndim == 3 else 1


def affine_array(
    image: np.ndarray,
    degrees: float,
    translation: tuple[float, float],
    scale: float,
    shear: tuple[float, float],
    interpolation: Inter,
    colors: Sequence[int],
    name: str,
) -> np.ndarray:
    """An array turned (clockwise is positive), moved (pixels), scaled and sheared (degrees) about
    its middle. The matrix is float32, as MindSpore's.
    """
    ranked(image, name)
    f = np.float32
    angle = f(np.pi * f(degrees) / 180.0)
    across, down = f(np.pi * f(shear[0]) / 180.0), f(np.pi * -f(shear[1]) / 180.0)
    cosine, sine = math.cos(angle + down), math.sin(angle + down)
    flat, slope = math.cos(down), math.tan(across)
    a = f(f(scale) * cosine / flat)
    b = f(f(scale) * (-cosine * slope / flat - math.sin(angle)))
    d = f(f(scale) * sine / flat)
    e = f(f(scale) * (-sine * slope / flat + math.cos(angle)))
    cx, cy = f((image.shape[1] - 1) / 2.0), f((image.shape[0] - 1) / 2.0)
    c = (f(1) - a) * cx - b * cy + f(translation[0])
    g = (f(1) - e) * cy - d * cx + f(translation[1])
    fill = fill_colors(colors, _channels(image))
    return warp.affine(
        image, np.array([[a, b, c], [d, e, g]]), image.shape[:2], interpolation, fill
    )


def rotate_array(
    image: np.ndarray,
    degrees: float,
    interpolation: Inter,
    expand: bool,
    center: tuple[float, float] | None,
    colors: Sequence[int],
    name: str,
) -> np.ndarray:
    """An array turned counterclockwise.

    Args:
        image: (height, width) or (height, width, channels).
        degrees: of the rotation.
        interpolation: NEAREST, LINEAR, CUBIC.
        expand: True: the result is large enough for all of the image.
        center: x and y of the point that stays; None: the middle.
        colors: red, green, blue of what lies outside.
        name: of the transform, for errors.
    """
    ranked(image, name)
    height, width = image.shape[:2]
    x, y = (float(np.float32(v)) for v in (center or ((width - 1) / 2.0, (height - 1) / 2.0)))
    angle = float(np.float32(degrees)) * math.pi / 180
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = np.array(
        [
            [cosine, sine, (1 - cosine) * x - sine * y],
            [-sine, cosine, sine * x + (1 - cosine) * y],
        ]
    )
    size = (height, width)
    if expand:
        size, box = _rotated_size(height, width, (x, y), degrees)
        matrix[0, 2] += box[0] / 2.0 - width / 2.0
        matrix[1, 2] += box[1] / 2.0 - height / 2.0
    fill = fill_colors([colors[2], colors[1], colors[0]], _channels(image))
    return warp.affine(image, matrix, size, interpolation, fill)


def _rotated_size(
    height: int, width: int, center: tuple[float, float], degrees: float
) -> tuple[tuple[int, int], tuple[float, float]]:
    """The size of a rotated rectangle: (height, width) as ints, (width, height) as floats."""
    f = np.float32
    angle = float(f(degrees)) * math.pi / 180
    b, a = f(math.cos(angle)) * f(0.5), f(math.sin(angle)) * f(0.5)
    x, y = f(center[0]), f(center[1])
    tall, wide = f(height), f(width)
    xs = [x - a * tall - b * wide, x + a * tall - b * wide]
    ys = [y + b * tall - a * wide, y - b * tall - a * wide]
    xs += [2 * x - xs[0], 2 * x - xs[1]]
    ys += [2 * y - ys[0], 2 * y - ys[1]]
    box = float(max(xs) - min(xs)), float(max(ys) - min(ys))
    return (round(box[1]), round(box[0])), box


def rotate_pil(
    image: Image.Image,
    degrees: float,
    interpolation: Inter,
    expand: bool,
    center: tuple[float, float] | None,
    colors: Sequence[int],
    name: str,
) -> Image.Image:
    """A Pillow image turned counterclockwise."""
    if interpolation == Inter.ANTIALIAS and (degrees % 90 or center):
        raise ValueError(
            f"{name}: with Inter.ANTIALIAS, the angle must be a multiple of 90 degrees and center "
            f"None, got {degrees} and {center}."
        )
    fill: Any = colors[0] if image.mode in ("L", "1", "I", "F", "P") else tuple(colors)
    return image.rotate(
        degrees % 360.0, pil_filter(interpolation, name), expand, center, fillcolor=fill
    )


class Affine(ImageOperation):
    """The image turned, moved, scaled and sheared about its middle.

    Args:
        degrees: of the rotation, from -180 to 180; positive is clockwise.
        translate: across and down, as shares of width and height, from -1 to 1.
        scale: above 0.
        shear: in degrees from -180 to 180: across, or (across, down).
        resample: NEAREST, LINEAR or CUBIC.
        fill_value: of what lies outside: one colour from 0 to 255, or a tuple of three.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        degrees: float,
        translate: Sequence[float],
        scale: float,
        shear: float | Sequence[float],
        resample: Inter = Inter.NEAREST,
        fill_value: int | Colors = 0,
    ) -> None:
        check.number(degrees, "Affine.degrees")
        check.within(degrees, -180, 180, "Affine.degrees")
        check.pair(translate, "Affine.translate")
        check.numbers_of(translate, "Affine.translate")
        check.each(translate, lambda v, n: check.within(v, -1, 1, n), "Affine.translate")
        check.number(scale, "Affine.scale")
        check.positive(scale, "Affine.scale")
        check.of_type(shear, (int, float, list, tuple), "Affine.shear")
        shears = (shear, 0.0) if isinstance(shear, int | float) else shear
        check.pair(shears, "Affine.shear")
        check.numbers_of(shears, "Affine.shear")
        check.each(shears, lambda v, n: check.within(v, -180, 180, n), "Affine.shear")
        self.degrees = degrees
        self.translate = translate
        self.scale = scale
        self.shear = (shears[0], shears[1])
        self.resample = arguments.interpolation(resample, "Affine.resample")
        self.fill_value = arguments.colors(fill_value, "Affine.fill_value")

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "Affine")
        f = np.float32
        moved = (
            float(f(self.translate[0]) * f(image.shape[1])),
            float(f(self.translate[1]) * f(image.shape[0])),
        )
        chosen = array_filter(self.resample, "Affine")
        return affine_array(
            image, self.degrees, moved, self.scale, self.shear, chosen, self.fill_value, "Affine"
        )


class RandomAffine(ImageOperation):
    """`Affine` by random amounts.

    Args:
        degrees: (min, max), or d for (-d, d).
        translate: the largest shares of width and height (min, max, min, max); of two, an array
            takes them as (min, max) across, a Pillow image as the largest across and down, as in
            MindSpore.
        scale: (min, max).
        shear: in degrees: d for (-d, d) across, (min, max) across, or (min, max, min, max).
        resample: as in `Resize`.
        fill_value: of what lies outside: one colour from 0 to 255, or a tuple of three.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside, or not (min, max).
    """

    random = True

    def __init__(
        self,
        degrees: float | Sequence[float],
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: float | Sequence[float] | None = None,
        resample: Inter = Inter.NEAREST,
        fill_value: int | Colors = 0,
    ) -> None:
        name = "RandomAffine"
        arguments.degrees(degrees, f"{name}.degrees")
        self.degrees = (-degrees, degrees) if isinstance(degrees, int | float) else tuple(degrees)
        if translate is not None:
            check.numbers_of(translate, f"{name}.translate")
            if len(translate) not in (2, 4):
                raise TypeError(f"{name}.translate: expected 2 or 4 shares, got {translate!r}.")
            check.each(translate, lambda v, n: check.within(v, -1, 1, n), f"{name}.translate")
        self.translate = translate
        if scale is not None:
            check.numbers_of(scale, f"{name}.scale")
            check.span(scale, 0, check.LARGEST, f"{name}.scale")
            check.positive(scale[1], f"{name}.scale[1]")
        self.scale = (1.0, 1.0) if scale is None else scale
        self.shear = _shears(shear, f"{name}.shear")
        self.resample = arguments.interpolation(resample, f"{name}.resample")
        self.fill_value = arguments.colors(fill_value, f"{name}.fill_value")

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "RandomAffine")
        chosen = array_filter(self.resample, "RandomAffine")
        draw = self.rng.uniform
        shares = (0.0,) * 4 if self.translate is None else tuple(self.translate)
        shares = (*shares, 0.0, 0.0)[:4]
        height, width = image.shape[:2]
        angle = math.fmod(draw(self.degrees[0], self.degrees[1]), 360.0)
        # MindSpore hands pixels to a transform that takes shares; meant are shares.
        moved = (
            draw(shares[0] * width, shares[1] * width),
            draw(shares[2] * height, shares[3] * height),
        )
        scale = draw(self.scale[0], self.scale[1])
        shear = draw(*self.shear[:2]), draw(*self.shear[2:])
        return affine_array(
            image, angle, moved, scale, shear, chosen, self.fill_value, "RandomAffine"
        )

    def _pil(self, image: Image.Image) -> Image.Image:
        chosen = pil_filter(self.resample, "RandomAffine")
        draw = self.rng.uniform
        width, height = image.size
        angle = math.radians(draw(self.degrees[0], self.degrees[1]))
        moved = (0.0, 0.0)
        if self.translate is not None:
            most = abs(self.translate[0]) * width, abs(self.translate[1]) * height
            moved = (
                float(np.round(draw(-most[0], most[0]))),
                float(np.round(draw(-most[1], most[1]))),
            )
        scale = draw(self.scale[0], self.scale[1])
        shears = draw(*self.shear[:2]), draw(*self.shear[2:])
        across, down = angle + math.radians(shears[0]), angle + math.radians(shears[1])
        factor = (
            1.0 / scale / (math.cos(across) * math.cos(down) + math.sin(across) * math.sin(down))
        )
        a, b = factor * math.cos(across), factor * math.sin(across)
        d, e = -factor * math.sin(down), factor * math.cos(down)
        cx, cy = width * 0.5 + 0.5, height * 0.5 + 0.5
        x, y = -cx - moved[0], -cy - moved[1]
        matrix = (a, b, a * x + b * y + cx, d, e, d * x + e * y + cy)
        fill: Any = self.fill_value[0] if image.mode in ("L", "1") else self.fill_value
        return image.transform(image.size, Image.Transform.AFFINE, matrix, chosen, fillcolor=fill)


def _shears(shear: float | Sequence[float] | None, name: str) -> tuple[float, float, float, float]:
    if shear is None:
        return (0.0, 0.0, 0.0, 0.0)
    check.of_type(shear, (int, float, list, tuple), name)
    if isinstance(shear, int | float):
        check.positive(shear, name)
        return (-shear, shear, 0.0, 0.0)
    check.numbers_of(shear, name)
    if len(shear) not in (2, 4):
        raise TypeError(f"{name}: expected 2 or 4 angles, got {shear!r}.")
    check.ordered(shear, name)
    if len(shear) == 2:
        return (shear[0], shear[1], 0.0, 0.0)
    check.ordered(shear[2:], name)
    return (shear[0], shear[1], shear[2], shear[3])


class Rotate(ImageOperation):
    """The image turned counterclockwise.

    Args:
        degrees: of the rotation.
        resample: NEAREST, LINEAR or CUBIC.
        expand: True: the result is large enough for all of the image.
        center: a tuple of x and y of the point that stays, in pixels; None: the middle.
        fill_value: of what lies outside: one colour from 0 to 255, or a tuple of three.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside, or `center` is no tuple of two.
    """

    def __init__(
        self,
        degrees: float,
        resample: Inter = Inter.NEAREST,
        expand: bool = False,
        center: tuple[float, float] | None = None,
        fill_value: int | Colors = 0,
    ) -> None:
        check.number(degrees, "Rotate.degrees")
        check.within(degrees, -check.LARGEST, check.LARGEST, "Rotate.degrees")
        self.fill_value = arguments.rotation(resample, expand, center, fill_value, "Rotate")
        self.degrees = degrees % 360
        self.resample = resample
        self.expand = expand
        self.center = center

    def _array(self, image: np.ndarray) -> np.ndarray:
        chosen = array_filter(self.resample, "Rotate")
        return rotate_array(
            image, self.degrees, chosen, self.expand, self.center, self.fill_value, "Rotate"
        )


class RandomRotation(ImageOperation):
    """`Rotate` by a random angle.

    Args:
        degrees: (min, max), or d for (-d, d).
        resample: as in `Resize`.
        expand: True: the result is large enough for all of the image.
        center: a tuple of x and y of the point that stays, in pixels; None: the middle.
        fill_value: of what lies outside: one colour from 0 to 255, or a tuple of three.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside, or `center` is no tuple of two.
    """

    random = True

    def __init__(
        self,
        degrees: float | Sequence[float],
        resample: Inter = Inter.NEAREST,
        expand: bool = False,
        center: tuple[float, float] | None = None,
        fill_value: int | Colors = 0,
    ) -> None:
        name = "RandomRotation"
        arguments.degrees(degrees, f"{name}.degrees")
        self.fill_value = arguments.rotation(resample, expand, center, fill_value, name)
        if isinstance(degrees, int | float):
            self.degrees = (-(degrees % 360), degrees % 360)
        elif degrees[1] - degrees[0] >= 360:
            self.degrees = (-180, 180)
        else:
            low, high = degrees[0] % 360, degrees[1] % 360
            self.degrees = (low, high + 360 if low > high else high)
        self.resample = resample
        self.expand = expand
        self.center = center

    def _array(self, image: np.ndarray) -> np.ndarray:
        chosen = array_filter(self.resample, "RandomRotation")
        angle = self.rng.uniform(*self.degrees)
        return rotate_array(
            image, angle, chosen, self.expand, self.center, self.fill_value, "RandomRotation"
        )

    def _pil(self, image: Image.Image) -> Image.Image:
        return rotate_pil(
            image,
            self.rng.uniform(*self.degrees),
            self.resample,
            self.expand,
            self.center,
            self.fill_value,
            "RandomRotation",
        )


def _perspective_pil(
    image: Image.Image, start: Sequence[Any], end: Sequence[Any], chosen: Image.Resampling
) -> Image.Image:
    rows = []
    for (x, y), (u, v) in zip(end, start, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    wanted = np.array(start, float).reshape(8)
    found = np.linalg.lstsq(np.array(rows, float), wanted, rcond=None)[0]
    return image.transform(image.size, Image.Transform.PERSPECTIVE, found.tolist(), chosen)


class Perspective(ImageOperation):
    """The image as seen from elsewhere.

    Args:
        start_points: four points (x, y) of the image.
        end_points: where they lie in the result.
        interpolation: as in `Resize`.

    Raises:
        TypeError: one is of another kind.
    """

    def __init__(
        self,
        start_points: Sequence[Sequence[int]],
        end_points: Sequence[Sequence[int]],
        interpolation: Inter = Inter.BILINEAR,
    ) -> None:
        self.start_points = arguments.points(start_points, "Perspective.start_points")
        self.end_points = arguments.points(end_points, "Perspective.end_points")
        self.interpolation = arguments.interpolation(interpolation, "Perspective.interpolation")

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "Perspective")
        chosen = array_filter(self.interpolation, "Perspective")
        pairs = list(zip(self.start_points, self.end_points, strict=True))
        rows = [[x, y, 1, 0, 0, 0, -x * u, -y * u] for (x, y), (u, _) in pairs]
        rows += [[0, 0, 0, x, y, 1, -x * v, -y * v] for (x, y), (_, v) in pairs]
        wanted = np.array(self.end_points, float).T.reshape(8)
        found = np.linalg.solve(np.array(rows, float), wanted)
        matrix = np.append(found, 1.0).reshape(3, 3)
        return warp.perspective(image, matrix, chosen, np.zeros(_channels(image), np.uint8))

    def _pil(self, image: Image.Image) -> Image.Image:
        chosen = pil_filter(self.interpolation, "Perspective")
        return _perspective_pil(image, self.start_points, self.end_points, chosen)


class RandomPerspective(PilOperation):
    """A Pillow image as seen from a random place, with probability `prob`.

    Args:
        distortion_scale: how far the corners move, from 0 to 1.
        prob: from 0 to 1.
        interpolation: as in `Resize`.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    random = True

    def __init__(
        self,
        distortion_scale: float = 0.5,
        prob: float = 0.5,
        interpolation: Inter = Inter.BICUBIC,
    ) -> None:
        name = "RandomPerspective"
        for value, argument in ((distortion_scale, "distortion_scale"), (prob, "prob")):
            check.of_type(value, float, f"{name}.{argument}")
            check.within(value, 0.0, 1.0, f"{name}.{argument}")
        self.distortion_scale = distortion_scale
        self.prob = prob
        self.interpolation = arguments.interpolation(interpolation, f"{name}.interpolation")

    def _pil(self, image: Image.Image) -> Image.Image:
        if self.rng.random() >= self.prob:
            return image
        width, height = image.size
        wide, tall = (int(n / 2 * self.distortion_scale) for n in (width, height))

        def near(far: bool, most: int, length: int) -> int:
            low, high = (length - most - 1, length - 1) if far else (0, most)
            return int(self.rng.integers(low, high + 1))

        sides = ((False, False), (True, False), (True, True), (False, True))
        end = [(near(x, wide, width), near(y, tall, height)) for x, y in sides]
        start = [(x * (width - 1), y * (height - 1)) for x, y in sides]
        chosen = pil_filter(self.interpolation, "RandomPerspective")
        return _perspective_pil(image, start, end, chosen)
