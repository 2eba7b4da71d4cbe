"""Augmentation by policies: which transforms, how probable, how strong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import Picture
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.transforms.operation import CompoundOperation, TensorOperation, seeded
from paramesh.dataset.vision import adjusting, arguments, sharpening, tones
from paramesh.dataset.vision.images import ImageOperation, colored
from paramesh.dataset.vision.modes import AutoAugmentPolicy, Inter
from paramesh.dataset.vision.policy_tables import POLICIES
from paramesh.dataset.vision.sizes import array_filter
from paramesh.dataset.vision.warping import affine_array, rotate_array

__all__ = [
    "AutoAugment",
    "RandAugment",
    "RandomSelectSubpolicy",
    "TrivialAugmentWide",
    "UniformAugment",
]

#: name -> the strengths, one for each bin (empty: it has none), and whether the sign is drawn.
Space = dict[str, tuple[np.ndarray, bool]]


def _space(
    bins: int,
    shear: float,
    across: float,
    down: float,
    turn: float,
    color: float,
    solarize: float,
    posterize: float,
) -> Space:
    def up(end: float) -> np.ndarray:
        return np.linspace(0.0, end, bins, dtype=np.float32)

    none = np.zeros(0, np.float32)
    space: Space = {
        "ShearX": (up(shear), True),
        "ShearY": (up(shear), True),
        "TranslateX": (up(across), True),
        "TranslateY": (up(down), True),
        "Rotate": (up(turn), True),
    }
    space |= {n: (up(color), True) for n in ("Brightness", "Color", "Contrast", "Sharpness")}
    space["Posterize"] = (np.rint(8 - up(posterize)), False)
    space["Solarize"] = (np.linspace(solarize, 0.0, bins, dtype=np.float32), False)
    space |= {n: (none, False) for n in ("AutoContrast", "Equalize")}
    return space


class _Augment(ImageOperation):
    """What the policies share: one transform of a given strength."""

    random = True

    def __init__(self, interpolation: Inter, fill_value: int | tuple[int, int, int]) -> None:
        name = type(self).__name__
        self.interpolation = arguments.interpolation(interpolation, f"{name}.interpolation")
        self.fill_value = arguments.colors(fill_value, f"{name}.fill_value")

    def _applied(self, image: np.ndarray, operation: str, strength: float) -> np.ndarray:
        name = type(self).__name__
        if operation in ("ShearX", "ShearY", "TranslateX", "TranslateY"):
            shear, moved = [0.0, 0.0], [0.0, 0.0]
            at = int(operation.endswith("Y"))
            if operation.startswith("Shear"):
                shear[at] = math.degrees(strength)
            else:
                moved[at] = float(int(strength))
            return affine_array(
                image,
                0.0,
                (moved[0], moved[1]),
                1.0,
                (shear[0], shear[1]),
                array_filter(self.interpolation, name),
                self.fill_value,
                name,
            )
        if operation == "Rotate":
            chosen = array_filter(self.interpolation, name)
            return rotate_array(image, strength, chosen, False, None, self.fill_value, name)
        if operation == "Posterize":
            return tones.posterize(image, int(strength), name)
        if operation == "Solarize":
            return tones.solarize(image, strength, strength, name)
        blends: dict[str, Callable[..., np.ndarray]] = {
            "Brightness": adjusting.brightness,
            "Color": adjusting.saturation,
            "Contrast": adjusting.contrast,
            "Sharpness": sharpening.sharpness,
        }
        if operation in blends:
            return blends[operation](image, 1 + strength, name)
        plain: dict[str, Callable[..., np.ndarray]] = {
            "AutoContrast": tones.auto_contrast,
            "Equalize": tones.equalize,
            "Identity": lambda same: same,
            "Invert": tones.invert,
        }
        return plain[operation](image)

    def _signed(self, strength: float, signed: bool) -> float:
        return -strength if self.rng.integers(2) and signed else strength


class AutoAugment(_Augment):
    """Two transforms by a policy that was searched for a dataset.

    Source: Cubuk et al., AutoAugment: Learning Augmentation Strategies from Data (2019).

    Args:
        policy: for which dataset.
        interpolation: of the transforms that warp.
        fill_value: of what lies outside: one colour from 0 to 255, or a tuple of three.

    Raises:
        TypeError: one is of another kind.
        ValueError: a colour is outside.
    """

    def __init__(
        self,
        policy: AutoAugmentPolicy = AutoAugmentPolicy.IMAGENET,
        interpolation: Inter = Inter.NEAREST,
        fill_value: int | tuple[int, int, int] = 0,
    ) -> None:
        check.of_type(policy, AutoAugmentPolicy, "AutoAugment.policy")
        super().__init__(interpolation, fill_value)
        self.policy = policy

    def _array(self, image: np.ndarray) -> np.ndarray:
        colored(image, "AutoAugment")
        height, width = image.shape[:2]
        space = _space(10, 0.3, 150 / 331 * width, 150 / 331 * height, 30.0, 0.9, 256.0, 4.0)
        pairs = POLICIES[self.policy]
        for operation, prob, strength_bin in pairs[int(self.rng.integers(len(pairs)))]:
            if self.rng.random() > prob:
                continue
            strengths, signed = space.get(operation, (np.zeros(0), False))
            strength = (
                float(strengths[strength_bin]) if strengths.size and strength_bin >= 0 else 0.0
            )
            image = self._applied(image, operation, self._signed(strength, signed))
        return image


class RandAugment(_Augment):
    """A number of transforms drawn at random, all of one strength.

    Source: Cubuk et al., RandAugment: Practical automated data augmentation (2020).

    Args:
        num_ops: how many.
        magnitude: the bin of their strength, below `num_magnitude_bins`.
        num_magnitude_bins: at least 2.
        interpolation: of the transforms that warp.
        fill_value: of what lies outside: one colour from 0 to 255, or a tuple of three.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        interpolation: Inter = Inter.NEAREST,
        fill_value: int | tuple[int, int, int] = 0,
    ) -> None:
        name = "RandAugment"
        check.of_type(num_ops, int, f"{name}.num_ops")
        check.within(num_ops, 0, check.LARGEST, f"{name}.num_ops")
        check.of_type(num_magnitude_bins, int, f"{name}.num_magnitude_bins")
        check.within(num_magnitude_bins, 2, check.LARGEST, f"{name}.num_magnitude_bins")
        check.of_type(magnitude, int, f"{name}.magnitude")
        check.within(magnitude, 0, num_magnitude_bins, f"{name}.magnitude", below=True)
        super().__init__(interpolation, fill_value)
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.num_magnitude_bins = num_magnitude_bins

    def _array(self, image: np.ndarray) -> np.ndarray:
        colored(image, "RandAugment")
        height, width = image.shape[:2]
        space = _space(
            self.num_magnitude_bins,
            0.3,
            150 / 331 * width,
            150 / 331 * height,
            30.0,
            0.9,
            255.0,
            4.0,
        )
        names = ["Identity", *space]
        for _ in range(self.num_ops):
            operation = names[int(self.rng.integers(len(names)))]
            strengths, signed = space.get(operation, (np.zeros(0), False))
            strength = float(strengths[self.magnitude]) if strengths.size else 0.0
            image = self._applied(image, operation, self._signed(strength, signed))
        return image


class TrivialAugmentWide(_Augment):
    """One transform of a random strength.

    Source: Müller and Hutter, TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation
    (2021).

    Args:
        num_magnitude_bins: of the strength, at least 2.
        interpolation: of the transforms that warp.
        fill_value: of what lies outside: one colour from 0 to 255, or a tuple of three.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        num_magnitude_bins: int = 31,
        interpolation: Inter = Inter.NEAREST,
        fill_value: int | tuple[int, int, int] = 0,
    ) -> None:
        name = "TrivialAugmentWide.num_magnitude_bins"
        check.of_type(num_magnitude_bins, int, name)
        check.within(num_magnitude_bins, 2, check.LARGEST, name)
        super().__init__(interpolation, fill_value)
        self.num_magnitude_bins = num_magnitude_bins

    def _array(self, image: np.ndarray) -> np.ndarray:
        colored(image, "TrivialAugmentWide")
        space = _space(self.num_magnitude_bins, 0.99, 32.0, 32.0, 135.0, 0.99, 255.0, 6.0)
        names = ["Identity", *space]
        operation = names[int(self.rng.integers(len(names)))]
        strengths, signed = space.get(operation, (np.zeros(0), False))
        strength = float(self.rng.choice(strengths)) if strengths.size else 0.0
        return self._applied(image, operation, self._signed(strength, signed))


class UniformAugment(CompoundOperation):
    """Some of the given transforms, drawn without repetition, each with probability one half.

    Source: LingChen et al., UniformAugment: A Search-free Probabilistic Data Augmentation Approach
    (2020).

    Args:
        transforms: a list or tuple of transforms.
        num_ops: how many are drawn.

    Raises:
        TypeError: one is of another kind.
        ValueError: `num_ops` is not from 1 to the number of transforms.
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]], num_ops: int = 2) -> None:
        check.of_type(num_ops, int, "UniformAugment.num_ops")
        check.positive(num_ops, "UniformAugment.num_ops")
        check.callables(transforms, "UniformAugment.transforms", (list, tuple))
        if num_ops > len(transforms):
            raise ValueError(
                f"UniformAugment.num_ops: {num_ops} is more than the {len(transforms)} transforms."
            )
        super().__init__(transforms)
        self.num_ops = num_ops

    def __call__(self, image: Picture) -> Any:
        """Run those that were drawn."""
        for i in self.rng.choice(len(self.transforms), self.num_ops, replace=False):
            if self.rng.random() < 0.5:
                image = self.transforms[int(i)](image)
        return image


class RandomSelectSubpolicy(TensorOperation):
    """One of several lists of transforms, each transform with its own probability.

    Args:
        policy: lists of tuples (transform, probability).

    Raises:
        TypeError: no lists, or a transform that cannot be called.
        ValueError: a list is empty, no tuple of two, or a probability is outside.
    """

    random = True

    def __init__(self, policy: list[list[tuple[Callable[..., Any], float]]]) -> None:
        name = "RandomSelectSubpolicy.policy"
        check.of_type(policy, list, name)
        if not policy:
            raise ValueError(f"{name}: expected at least one list of (transform, probability).")
        for i, sub in enumerate(policy):
            check.of_type(sub, list, f"{name}[{i}]")
            if not sub:
                raise ValueError(f"{name}[{i}]: expected at least one (transform, probability).")
            for j, entry in enumerate(sub):
                place = f"{name}[{i}][{j}]"
                if not (isinstance(entry, tuple) and len(entry) == 2):
                    raise ValueError(f"{place}: expected (transform, probability), got {entry!r}.")
                check.transform(entry[0], f"{place}[0]")
                check.within(entry[1], 0, 1, f"{place}[1]")
        self.policy = policy

    def seeded(self, rng: np.random.Generator) -> RandomSelectSubpolicy:
        """A copy whose transforms draw from `rng`, too."""
        made = super().seeded(rng)
        made.policy = [[(seeded(t, rng), p) for t, p in sub] for sub in self.policy]
        return made

    def __call__(self, image: Picture) -> Any:
        """Run one of the lists."""
        for transform, prob in self.policy[int(self.rng.integers(len(self.policy)))]:
            if self.rng.random() < prob:
                image = transform(image)
        return image
