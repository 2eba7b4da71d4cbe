"""Transforms with chance in them: samples against MindSpore's, and where chance comes from."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

import paramesh
import transform_cases as cases
from paramesh.dataset import chance, transforms, vision
from paramesh.dataset.transforms.operation import TensorOperation
from paramesh.dataset.vision.sizes import drawn_box

NAMES = cases.names(importlib.import_module, "paramesh")
TABLE = [pytest.param(e, i, id=f"{e}/{i}") for e, i in cases.RANDOM]

#: Policies that move images: MindSpore takes the pixels for shares, and nothing is left in sight.
MOVING = ("V.AutoAugment(", "V.RandAugment(", "V.TrivialAugmentWide(")


def blank(transform: Any) -> None:
    """Have a policy move images as MindSpore does: out of sight."""
    applied = transform._applied

    def moved(image: np.ndarray, operation: str, strength: float) -> np.ndarray:
        if operation.startswith("Translate") and int(strength):
            return np.zeros_like(image)
        return applied(image, operation, strength)

    transform._applied = moved


def made(expression: str) -> TensorOperation:
    return eval(expression, NAMES)


def draws(transform: Callable[..., Any], inputs: str, count: int) -> np.ndarray:
    columns = cases.columns()
    given = [columns[i] for i in inputs.split(",")]
    return np.array([cases.summary(transform(*given)) for _ in range(count)])


def chance_of_equality(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Of samples that differ so much at least, if they were of one distribution."""
    return float(np.asarray(stats.ks_2samp(ours, theirs, method="asymp"))[1])


@pytest.mark.parametrize(("expression", "inputs"), TABLE)
def test_samples_are_distributed_as_mindspores(expression: str, inputs: str) -> None:
    key = f"{expression}/{inputs}"
    # Rounded, so that values that are equal stay so whatever the order of sums.
    theirs = cases.recordings()[f"draws/{key}"].round(3)
    transform = made(expression).seeded(np.random.default_rng(11))
    if expression.startswith(MOVING):
        blank(transform)
    ours = draws(transform, inputs, cases.DRAWS).astype(np.float32).round(3)
    # Of about 130 comparisons of equal distributions, one fails with one seed of 70.
    chances = [chance_of_equality(ours[:, k], theirs[:, k]) for k in (0, 1)]
    assert min(chances) > 1e-4, chances


@pytest.mark.parametrize(("expression", "inputs"), TABLE)
def test_a_seeded_copy_gives_the_same_again(expression: str, inputs: str) -> None:
    transform = made(expression)
    first = draws(transform.seeded(np.random.default_rng(5)), inputs, 8)
    again = draws(transform.seeded(np.random.default_rng(5)), inputs, 8)
    other = draws(transform.seeded(np.random.default_rng(6)), inputs, 8)
    np.testing.assert_array_equal(first, again)
    assert transform.random
    if "(2.0, 3.0)" not in expression:  # no part fits, and the middle is taken
        assert not np.array_equal(first, other)


def test_without_a_generator_the_seed_decides() -> None:
    flips = vision.RandomCrop(5)
    image = cases.arrays()["tiny"]
    runs = []
    for seed in (3, 3, 4):
        chance.set_seed(seed)
        runs.append([flips(image).sum() for _ in range(10)])
    assert runs[0] == runs[1] != runs[2]
    paramesh.set_seed(3)
    assert [flips(image).sum() for _ in range(10)] == runs[0]


def test_seeding_leaves_the_original_alone() -> None:
    inner = vision.RandomCrop(5)
    original = transforms.Compose([inner, lambda image: image])
    copy = original.seeded(np.random.default_rng(1))
    assert original.transforms[0] is inner
    assert inner._rng is None
    first = copy.transforms[0]
    assert isinstance(first, vision.RandomCrop)
    assert first._rng is not None
    assert copy.transforms[1] is original.transforms[1]


def test_mixup_of_batches_remembers_the_one_before() -> None:
    columns = cases.arrays()
    mix = vision.MixUp(6, 1.0, is_single=False)
    first, labels = mix(columns["tinies"], columns["hot"])
    np.testing.assert_array_equal(first, columns["tinies"])
    np.testing.assert_array_equal(labels, columns["hot"])
    rolled = np.roll(columns["hot"], 1, 0)
    _, mixed = mix(columns["tinies"][::-1], rolled)
    np.testing.assert_allclose(mixed.sum(1), 1.0)
    assert ((mixed > 0) <= ((labels > 0) | (rolled > 0))).all()


@pytest.mark.parametrize(("prob", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_probabilities_of_zero_and_one_are_exact(prob: float, share: float) -> None:
    image = cases.arrays()["tiny"]
    flip = vision.RandomHorizontalFlip(prob)
    flipped = [np.array_equal(flip(image), image[:, ::-1]) for _ in range(50)]
    assert np.mean(flipped) == share


def test_boxes_of_a_crop_are_inside_it() -> None:
    columns = cases.arrays()
    crop = vision.RandomCropWithBBox(7).seeded(np.random.default_rng(0))
    kept = 0
    for _ in range(100):
        image, boxes = crop(columns["tiny"], columns["tiny_boxes"])
        assert image.shape == (7, 7, 3)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, :2] + boxes[:, 2:4] <= 7).all()
        kept += len(boxes)
    assert kept > 100


def test_a_function_without_seeded_is_kept() -> None:
    apply = transforms.RandomApply([np.negative], 1.0).seeded(np.random.default_rng(0))
    np.testing.assert_array_equal(apply(np.arange(3)), [0, -1, -2])


def places(kind: str) -> np.ndarray:
    """Where 2,000 draws of a transform lie that has 12 places to choose from: 3 rows, 4 columns."""
    rng = np.random.default_rng(2)
    numbered = np.arange(5 * 7).reshape(5, 7)
    found = []
    for _ in range(2000):
        if kind == "crop":
            first = vision.RandomCrop((3, 4)).seeded(rng)(numbered.astype(np.uint8))[0, 0]
            found.append(divmod(int(first), 7))
        elif kind == "box":
            top, left, height, width = drawn_box(rng, 5, 7, (12 / 35,) * 2, (4 / 3,) * 2, 10)
            assert (height, width) == (3, 4)
            found.append((top, left))
        else:
            erase = vision.RandomErasing(1.0, (12 / 35,) * 2, (4 / 3,) * 2, 9).seeded(rng)
            rows, columns = np.nonzero(erase(np.zeros((1, 5, 7)))[0])
            found.append((int(rows.min()), int(columns.min())))
    return np.array(found)


@pytest.mark.parametrize("kind", ["crop", "box", "erasing"])
def test_every_place_is_as_probable(kind: str) -> None:
    _, counts = np.unique(places(kind), axis=0, return_counts=True)
    assert len(counts) == 12
    assert stats.chisquare(counts).pvalue > 1e-4


def test_masks_are_as_long_and_as_far_as_they_may() -> None:
    audio = importlib.import_module("paramesh.dataset.audio")
    mask = audio.TimeMasking(True, 3).seeded(np.random.default_rng(0))
    found = set()
    for _ in range(500):
        at = np.flatnonzero(mask(np.ones((2, 4, 5), np.float32))[1, 0] == 0)
        found.add((len(at), int(at[0]) if len(at) else 0))
    wanted = {(w, s) for w in (1, 2, 3) for s in range(5 - w + 1)} | {(0, 0)}
    assert found == wanted


def test_cutmix_mixes_labels_by_area() -> None:
    images = np.stack([np.full((9, 9, 1), k, np.uint8) for k in range(4)])
    mix = vision.CutMixBatch(vision.ImageBatchFormat.NHWC, 1.0, 0.7)
    done, labels = mix.seeded(np.random.default_rng(0))(images, np.eye(4, dtype=np.int64))
    shares = [[(done[i] == k).mean() for k in range(4)] for i in range(4)]
    np.testing.assert_allclose(labels, shares, atol=1e-6)
    assert len(np.unique(np.diag(labels))) > 2
