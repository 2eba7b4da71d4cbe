"""Images whose last steps wait for the batch: the same numbers, errors and memory as one by one."""

from __future__ import annotations

import gc
import inspect
import io
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from paramesh import dataset as ds
from paramesh.dataset import arrays, opencv, pixels, transforms, vision
from paramesh.dataset.operations import stacking
from paramesh.dataset.transforms.operation import TensorOperation
from paramesh.dataset.vision.modes import Inter
from paramesh.dataset.vision.resampling import resize


@pytest.fixture(params=["numpy", "opencv"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "numpy":
        monkeypatch.setattr(opencv, "library", lambda: None)
    else:
        pytest.importorskip("cv2")
    yield request.param
    ds.config.reset()


def chain(channels: int) -> list[Any]:
    by_channel = [50.0 + i for i in range(channels)]
    return [
        vision.HorizontalFlip(),
        vision.VerticalFlip(),
        vision.Rescale(1 / 255.0, 0.0),
        vision.Rescale(0.3, -1.0),
        vision.Normalize([120.0] * channels, by_channel),
        vision.Normalize([1.0], [2.0]),
        vision.Normalize([0.5] * channels, by_channel, is_hwc=False),
        vision.HWC2CHW(),
        vision.ToTensor(),
        transforms.TypeCast(np.float32),
        transforms.Compose([vision.HWC2CHW(), vision.Rescale(0.1, 0.2)]),
    ]


def outcome(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:
        return type(error), str(error)


SHAPES = [(5, 7, 3), (3, 5, 3), (6, 4, 1), (4, 4), (3, 5, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_waiting_gives_what_calling_gives(shape: tuple[int, ...], kind: type) -> None:
    image = (np.random.default_rng(0).random(shape) * 255).astype(kind)
    all_of_them = chain(shape[2] if len(shape) == 3 else 1)
    for one in itertools.chain(
        itertools.product(all_of_them, repeat=2),
        itertools.islice(itertools.product(all_of_them, repeat=3), 0, None, 13),
    ):

        def called(one: tuple[Any, ...] = one) -> Any:
            found: Any = image
            for transform in one:
                found = transform(found)
            return found

        def waited(one: tuple[Any, ...] = one) -> Any:
            columns: tuple[Any, ...] = (image,)
            for transform in one:
                columns = pixels.run(transform, columns)
            return pixels.made(columns[0])

        expected, got = outcome(called), outcome(waited)
        if isinstance(expected, tuple):
            assert got == expected
        else:
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected)


def images(count: int = 6) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 8, 9, 3), dtype=np.uint8)


def prepared(data: np.ndarray | None = None) -> Any:
    data = images() if data is None else data
    found: Any = ds.NumpySlicesDataset((data, np.arange(len(data))), ["x", "y"], shuffle=False)
    found = found.map([vision.RandomHorizontalFlip(), vision.RandomVerticalFlip()], "x")
    found = found.map(transforms.Compose([vision.Normalize([9.0], [3.0])]), "x")
    return found.map(vision.HWC2CHW(), "x").project(["y", "x"])


def rows(data: Any) -> list[Any]:
    return [row["x"] for row in data.create_dict_iterator(1, output_numpy=True)]


def test_batches_are_those_of_transforms_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ds.config.set_seed(5)
    waited = np.concatenate(rows(prepared().batch(4)))
    monkeypatch.setattr(pixels, "waiting", lambda function: None)
    ds.config.set_seed(5)
    np.testing.assert_array_equal(waited, np.concatenate(rows(prepared().batch(4))))
    plain = (images().transpose(0, 3, 1, 2) - np.float32(9)) / np.float32(3)
    flipped = [not np.array_equal(a, b) for a, b in zip(waited, plain, strict=True)]
    assert any(flipped)
    assert not all(flipped)


def test_rows_without_a_batch_are_the_pipelines_own() -> None:
    assert all(arrays.is_own(row) for row in rows(prepared()))


def test_rows_of_a_batch_are_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last steps write into the batch's memory, and nothing is copied to it."""
    monkeypatch.setattr(stacking, "_SMALL", 0)
    written: list[int] = []
    write = pixels.Pixels.write

    def noted(self: pixels.Pixels, out: np.ndarray) -> None:
        written.append(out.ctypes.data)
        write(self, out)

    monkeypatch.setattr(pixels.Pixels, "write", noted)
    (batch,) = rows(prepared().batch(6))
    assert written == [row.ctypes.data for row in batch]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("odd", [None, 0, 2, 3])
def test_small_images_are_finished_together(channels: int, planar: bool, odd: int | None) -> None:
    """Unless the steps of one of them, or its type, are others."""
    steps = vision.Normalize([5.0] * channels, [2.0 + i for i in range(channels)])
    rows: list[Any] = []
    for i, image in enumerate(images(4)[..., :channels]):
        row = steps.lazily(image)
        if i == odd:
            row = np.zeros((8, 9, channels), np.float32) if i == 3 else row.then((np.add, (1.0,)))
            row = pixels.lazy(row)
        assert isinstance(row, pixels.Pixels)
        rows.append(row.with_planes() if planar else row)
    tasks: list[Any] = list(enumerate(rows))
    (batch,) = stacking.stacked(lambda task: (task[1],), tasks, ["x"])
    np.testing.assert_array_equal(batch, np.stack([pixels.made(row) for row in rows]))


def test_transforms_that_draw_say_so() -> None:
    """Others get no generator of the row's."""
    modules = (vision, transforms, ds.audio, ds.text, vision.py_transforms, vision.c_transforms)
    kinds = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    kinds -= {transforms.Compose}  # it says what its transforms say
    seen = 0
    for kind in kinds:
        if issubclass(kind, TensorOperation):
            classes = [c for c in kind.__mro__[:-1] if c is not TensorOperation]
            if "self.rng" in "".join(map(inspect.getsource, classes)):
                seen += 1
                assert kind.random, kind
    assert seen > 30


class Noisy(vision.Rescale):
    """It does not say that it draws."""

    def _array(self, image: np.ndarray) -> np.ndarray:
        return super()._array(image) + self.rng.random(dtype=np.float32)


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: transforms.Compose([t])])
def test_foreign_transforms_get_the_rows_random_numbers(wrap: Any) -> None:
    def made(passed: int) -> list[Any]:
        ds.config.set_seed(8)
        data = ds.NumpySlicesDataset({"x": images()}, shuffle=False)
        data = data.map(wrap(Noisy(1.0, 0.0)), "x").batch(2)
        data.pass_over(passed)
        return rows(data)

    np.testing.assert_array_equal(made(0)[2], made(2)[0])


def test_images_of_different_shapes_are_refused() -> None:
    source = ds.GeneratorDataset(
        lambda: ((np.zeros((4, 4 + i // 2, 3), np.uint8),) for i in range(4)), ["x"]
    )
    data = source.map(vision.HWC2CHW(), "x").batch(4)
    with pytest.raises(RuntimeError, match=r"\(3, 4, 4\) in row 0 and \(3, 4, 5\) in row 2 of the"):
        rows(data)


class Mine(vision.Normalize):
    def _array(self, image: np.ndarray) -> np.ndarray:
        return super()._array(image) + 1


def noted(image: np.ndarray) -> np.ndarray:
    assert type(image) is np.ndarray
    assert image.flags.c_contiguous
    image[...] = 7  # as functions of scripts may
    return image


def test_foreign_functions_get_arrays_of_their_own() -> None:
    data = ds.NumpySlicesDataset({"x": images()}, shuffle=False)
    flipped = data.map([vision.HorizontalFlip(), noted], "x").batch(6)
    assert (rows(flipped)[0] == 7).all()
    mine = data.map([Mine([0.0], [1.0]), vision.HWC2CHW()], "x").batch(6)
    np.testing.assert_array_equal(rows(mine)[0], images().transpose(0, 3, 1, 2) + np.float32(1))
    both = data.map(transforms.Duplicate(), "x", output_columns=["x", "z"])
    both = both.map(vision.HWC2CHW(), "x").map(noted, "z").batch(6)
    np.testing.assert_array_equal(rows(both)[0], images().transpose(0, 3, 1, 2))


def test_memory_is_used_again_once_it_is_let_go(library: str) -> None:
    if library != "numpy":
        pytest.skip("the same for both")
    arrays.let_go()
    shape, kind = (1 << 20,), np.dtype(np.uint8)
    first = arrays.own(shape, kind)
    part = first[5:]
    tensor = ds.iterators.to_tensor(first)
    at = first.ctypes.data
    del first
    gc.collect()
    assert arrays.own(shape, kind).ctypes.data != at, "a view and a Tensor have it still"
    del part, tensor
    gc.collect()
    again = [arrays.own(shape, kind) for _ in range(2)]
    places = {array.ctypes.data for array in again}
    assert at in places
    assert len(places) == 2


@jax.jit
def slow(values: jax.Array) -> jax.Array:
    def step(i: jax.Array, total: jax.Array) -> jax.Array:
        return total + jnp.sort(values[:50000] + total * 1e-30)[i]

    return jax.lax.fori_loop(0, 20, step, jnp.float32(0))


def test_memory_is_not_used_again_while_a_computation_reads_it(library: str) -> None:
    if library != "numpy":
        pytest.skip("the same for both")
    for _ in range(3):
        batch = arrays.own((1 << 18,), np.dtype(np.float32))
        batch[...] = 1
        found = slow(jax.device_put(batch))
        del batch
        gc.collect()
        arrays.own((1 << 18,), np.dtype(np.float32))[...] = 9
        assert float(found) == 20


def jpeg(image: np.ndarray, **options: Any) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **options)
    return np.frombuffer(file.getvalue(), np.uint8)


TURNED = Image.Exif()
TURNED[274] = 6
SAVED = [
    {"quality": 90}, {"quality": 40, "subsampling": 0}, {"subsampling": 1}, {"progressive": True},
    {"exif": TURNED}, {"restart_marker_rows": 1},
]  # fmt: skip


@pytest.mark.parametrize("options", SAVED, ids=lambda options: "-".join(options))
def test_jpeg_is_decoded_to_pillows_bits(options: dict[str, Any]) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((61, 43), Image.Resampling.BICUBIC)
    data = jpeg(np.asarray(picture), **options)
    expected = np.asarray(Image.open(io.BytesIO(data.tobytes())).convert("RGB"))
    np.testing.assert_array_equal(vision.Decode()(data), expected)
    gray = jpeg(np.asarray(picture.convert("L")))
    assert (np.ptp(vision.Decode()(gray), axis=2) == 0).all()


def test_cut_off_jpeg_is_refused() -> None:
    data = jpeg(images(1)[0].repeat(9, 0).repeat(9, 1))
    for decode in (vision.Decode(), vision.RandomCropDecodeResize(8)):
        with pytest.raises(RuntimeError, match="the image is damaged: image file is truncated"):
            decode(data[: len(data) // 2])


def test_opencv_resizes_to_the_bits_of_numpy(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library != "opencv":
        pytest.skip("compares the two")
    rng = np.random.default_rng(3)
    kinds = (Inter.NEAREST, Inter.LINEAR, Inter.AREA, Inter.CUBIC)
    for nth, interpolation in itertools.product(range(12), kinds):
        height, width, tall, wide = rng.integers(1, 90, 4).tolist()
        if nth % 4 == 0:
            tall, wide = 2 * height, 2 * width
        shape = (tall, wide) if nth % 3 == 0 else (tall, wide, 2 + nth % 3)
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        found = resize(image, height, width, interpolation)
        with monkeypatch.context() as without:
            without.setattr(opencv, "library", lambda: None)
            np.testing.assert_array_equal(found, resize(image, height, width, interpolation))
