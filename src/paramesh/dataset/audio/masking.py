"""Parts of a spectrogram that are blotted out.

Source: Park et al., SpecAugment (2019).
"""

from __future__ import annotations

import numpy as np

from paramesh.dataset.audio.waveforms import AudioTensorOperation
from paramesh.dataset.transforms import arguments as check

__all__ = ["FrequencyMasking", "MaskAlongAxis", "MaskAlongAxisIID", "TimeMasking"]


def _masked(
    spectrum: np.ndarray, start: int, width: int, value: float, axis: int, name: str
) -> np.ndarray:
    length = spectrum.shape[axis]
    if start < 0 or start + width > length:
        raise RuntimeError(
            f"{name}: a mask from {start} to {start + width} reaches out of the axis of {length}, "
            f"shape {spectrum.shape}."
        )
    done = spectrum.copy()
    at = [slice(None)] * done.ndim
    at[axis] = slice(start, start + width)
    done[tuple(at)] = value
    return done


def _masked_at_random(
    rng: np.random.Generator, spectrum: np.ndarray, most: int, value: float, axis: int, name: str
) -> np.ndarray:
    length = spectrum.shape[axis]
    if most > length:
        raise RuntimeError(f"{name}: a mask of up to {most} is longer than the axis of {length}.")
    width = int(rng.integers(most + 1))
    start = int(rng.integers(length - width + 1))
    return _masked(spectrum, start, width, value, axis, name)


class _Masking(AudioTensorOperation):
    axes = 2
    random = True
    _axis = -2

    def _set(self, iid: bool, most: int, start: int, value: float, argument: str) -> None:
        name = type(self).__name__
        check.flag(iid, f"{name}.iid_masks")
        check.natural(most, f"{name}.{argument}")
        check.natural(start, f"{name}.mask_start")
        check.natural_float(value, f"{name}.mask_value")
        self.iid_masks = iid
        self.mask_param = most
        self.mask_start = start
        self.mask_value = value

    def _run(self, signal: np.ndarray) -> np.ndarray:
        name = type(self).__name__
        if self.iid_masks:
            return _masked_at_random(
                self.rng, signal, self.mask_param, self.mask_value, self._axis, name
            )
        return _masked(signal, self.mask_start, self.mask_param, self.mask_value, self._axis, name)


class FrequencyMasking(_Masking):
    """A spectrogram (…, frequencies, frames) with some frequencies blotted out.

    Args:
        iid_masks: True: a random mask, in all channels the same; False: the one that is given.
        freq_mask_param: its width; of a random one, the largest.
        mask_start: its first frequency.
        mask_value: what is there instead, not negative.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is negative.
    """

    def __init__(
        self,
        iid_masks: bool = False,
        freq_mask_param: int = 0,
        mask_start: int = 0,
        mask_value: float = 0.0,
    ) -> None:
        self._set(iid_masks, freq_mask_param, mask_start, mask_value, "freq_mask_param")


class TimeMasking(_Masking):
    """A spectrogram (…, frequencies, frames) with some frames blotted out.

    Args:
        iid_masks: True: a random mask, in all channels the same; False: the one that is given.
        time_mask_param: its width; of a random one, the largest.
        mask_start: its first frame.
        mask_value: what is there instead, not negative.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is negative.
    """

    _axis = -1

    def __init__(
        self,
        iid_masks: bool = False,
        time_mask_param: int = 0,
        mask_start: int = 0,
        mask_value: float = 0.0,
    ) -> None:
        self._set(iid_masks, time_mask_param, mask_start, mask_value, "time_mask_param")


def _axis_of(axis: int, name: str) -> int:
    check.of_type(axis, int, f"{name}.axis")
    check.choice(axis, (1, 2), f"{name}.axis")
    return axis - 3


class MaskAlongAxis(AudioTensorOperation):
    """A spectrogram (…, frequencies, frames) with a part blotted out.

    Args:
        mask_start: where it starts.
        mask_width: how wide it is, above 0.
        mask_value: what is there instead.
        axis: 1: frequencies; 2: frames.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    axes = 2

    def __init__(self, mask_start: int, mask_width: int, mask_value: float, axis: int) -> None:
        check.natural(mask_start, "MaskAlongAxis.mask_start")
        check.positive_int(mask_width, "MaskAlongAxis.mask_width")
        check.number(mask_value, "MaskAlongAxis.mask_value")
        self._axis = _axis_of(axis, "MaskAlongAxis")
        self.mask_start = mask_start
        self.mask_width = mask_width
        self.mask_value = mask_value

    def _run(self, signal: np.ndarray) -> np.ndarray:
        return _masked(
            signal, self.mask_start, self.mask_width, self.mask_value, self._axis, "MaskAlongAxis"
        )


class MaskAlongAxisIID(AudioTensorOperation):
    """A spectrogram (…, frequencies, frames) with a random part blotted out.

    Args:
        mask_param: how wide it is at most.
        mask_value: what is there instead.
        axis: 1: frequencies; 2: frames.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    axes = 2
    random = True

    def __init__(self, mask_param: int, mask_value: float, axis: int) -> None:
        check.natural(mask_param, "MaskAlongAxisIID.mask_param")
        check.number(mask_value, "MaskAlongAxisIID.mask_value")
        self._axis = _axis_of(axis, "MaskAlongAxisIID")
        self.mask_param = mask_param
        self.mask_value = mask_value

    def _run(self, signal: np.ndarray) -> np.ndarray:
        return _masked_at_random(
            self.rng, signal, self.mask_param, self.mask_value, self._axis, "MaskAlongAxisIID"
        )
