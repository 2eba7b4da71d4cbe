"""The transforms of MindSpore 1.x's paths that have arguments or numbers of their own."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import transform_cases as cases
from paramesh.dataset import vision
from paramesh.dataset.transforms import c_transforms as columns_c
from paramesh.dataset.transforms import py_transforms as columns_py
from paramesh.dataset.vision import c_transforms, pillow_functions, py_transforms
from type_checks import wrong


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    return cases.columns()


def test_decode_to_bgr(inputs: dict[str, np.ndarray]) -> None:
    rgb = c_transforms.Decode()(inputs["png"])
    np.testing.assert_array_equal(rgb, inputs["rgb"])
    np.testing.assert_array_equal(c_transforms.Decode(False)(inputs["png"]), rgb[..., ::-1])
    assert isinstance(py_transforms.Decode()(inputs["png"].tobytes()), Image.Image)


def test_the_normalize_of_arrays_is_todays(inputs: dict[str, np.ndarray]) -> None:
    image = inputs["patch"]
    mean, std = [121.0, 115.0, 100.0], [70.0, 68.0, 71.0]
    np.testing.assert_array_equal(
        c_transforms.Normalize(mean, std)(image), vision.Normalize(mean, std)(image)
    )
    with pytest.raises(TypeError, match="positional"):
        wrong(c_transforms.Normalize)(mean, std, True)


def test_the_normalize_of_floats_keeps_their_type(inputs: dict[str, np.ndarray]) -> None:
    chw = inputs["chw"].astype(np.float64)
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    done = py_transforms.Normalize(mean, std)(chw)
    assert done.dtype == np.float64
    np.testing.assert_allclose(done[2], (chw[2] - 0.3) / 0.7)
    padded = py_transforms.NormalizePad(mean, std, "float16")(chw)
    assert padded.dtype == np.float16
    assert padded.shape == (4, *chw.shape[1:])
    assert not padded[3].any()


@pytest.mark.parametrize(
    ("image", "error", "match"),
    [
        (np.zeros((3, 2, 2), np.uint8), NotImplementedError, "Use ToTensor first"),
        (np.zeros((2, 2)), TypeError, "shape \\(2, 2\\)"),
        (np.zeros((4, 2, 2)), ValueError, "has 4 channels"),
        ([1.0], TypeError, "Normalize\\(image\\)"),
    ],
)
def test_the_normalize_of_floats_refuses(
    image: np.ndarray, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        py_transforms.Normalize([0.1, 0.2, 0.3], [0.5, 0.6, 0.7])(image)


def test_values_of_the_normalize_of_floats_are_up_to_one() -> None:
    with pytest.raises(ValueError, match=r"mean\[0\]: expected a value in \[0, 1\.0\], got 121"):
        py_transforms.Normalize([121.0], [70.0])


def test_cutout_erases_squares() -> None:
    cut = py_transforms.Cutout(4, 1).seeded(np.random.default_rng(0))
    sizes = set()
    for _ in range(200):
        gone = cut(np.ones((3, 9, 9), np.float32))[0] == 0
        sizes.add((int(gone.any(1).sum()), int(gone.any(0).sum())))
    assert (4, 4) in sizes
    assert sizes <= {(h, w) for h in (2, 3, 4) for w in (2, 3, 4)}


def test_red_and_blue_exchanged(inputs: dict[str, np.ndarray]) -> None:
    image = inputs["patch"]
    bgr = c_transforms.RgbToBgr()(image)
    np.testing.assert_array_equal(bgr, image[..., ::-1])
    np.testing.assert_array_equal(py_transforms.RgbToBgr(is_hwc=True)(image), bgr)
    np.testing.assert_array_equal(
        py_transforms.RgbToBgr()(image.transpose(2, 0, 1)[None])[0], bgr.transpose(2, 0, 1)
    )


def test_soft_dvpp(inputs: dict[str, np.ndarray]) -> None:
    done = c_transforms.SoftDvppDecodeResizeJpeg(20)(inputs["jpeg"])
    np.testing.assert_array_equal(done, vision.Resize(20)(vision.Decode()(inputs["jpeg"])))
    assert c_transforms.SoftDvppDecodeRandomCropResizeJpeg(9)(inputs["jpeg"]).shape == (9, 9, 3)


def test_one_hot() -> None:
    label = np.array(1, np.int32)
    with pytest.raises(TypeError, match="positional"):
        wrong(columns_c.OneHot)(3, 0.1)
    assert columns_c.OneHot(3)(label).dtype == np.int32
    smooth = columns_py.OneHotOp(3, 0.3)(label)
    assert smooth.dtype == np.float64
    np.testing.assert_allclose(smooth, [0.1, 0.8, 0.1])


def test_functions_over_pillow_images(inputs: dict[str, np.ndarray]) -> None:
    picture = Image.fromarray(inputs["patch"])
    pairs = [
        (pillow_functions.adjust_brightness(picture, 0.5), vision.AdjustBrightness(0.5)),
        (pillow_functions.adjust_contrast(picture, 0.5), vision.AdjustContrast(0.5)),
        (pillow_functions.adjust_saturation(picture, 0.5), vision.AdjustSaturation(0.5)),
        (pillow_functions.adjust_hue(picture, 0.2), vision.AdjustHue(0.2)),
        (pillow_functions.horizontal_flip(picture), vision.HorizontalFlip()),
        (pillow_functions.vertical_flip(picture), vision.VerticalFlip()),
        (pillow_functions.invert_color(picture), vision.Invert()),
        (pillow_functions.equalize(picture), vision.Equalize()),
        (pillow_functions.resize(picture, (5, 6)), vision.Resize((5, 6))),
        (
            pillow_functions.pad(picture, (1, 2), 7, "edge"),
            vision.Pad((1, 2), 7, vision.Border.EDGE),
        ),
    ]
    for function, transform in pairs:
        np.testing.assert_array_equal(np.asarray(function), np.asarray(transform(picture)))
    with pytest.raises(TypeError, match="expected a Pillow image, got ndarray"):
        pillow_functions.rotate(wrong(inputs["patch"]), 3, vision.Inter.NEAREST, False, None, 0)
