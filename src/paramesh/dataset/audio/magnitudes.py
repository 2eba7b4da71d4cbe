"""What the numbers of a spectrogram are: magnitudes, angles, and decibels."""

from __future__ import annotations

from typing import Any

import numpy as np

from paramesh.dataset.audio.fourier import complexes
from paramesh.dataset.audio.modes import ScaleType
from paramesh.dataset.audio.waveforms import AudioTensorOperation, above_zero
from paramesh.dataset.transforms import arguments as check

__all__ = ["AmplitudeToDB", "Angle", "ComplexNorm", "DBToAmplitude", "Magphase"]


class AmplitudeToDB(AudioTensorOperation):
    """A spectrogram in dB.

    Args:
        stype: what it holds.
        ref_value: what is 0 dB, above 0.
        amin: smaller values count as this, above 0.
        top_db: the most that is between the largest value of a spectrogram and the smallest.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is not above 0.
    """

    axes = 2

    def __init__(
        self,
        stype: ScaleType = ScaleType.POWER,
        ref_value: float = 1.0,
        amin: float = 1e-10,
        top_db: float = 80.0,
    ) -> None:
        check.of_type(stype, ScaleType, "AmplitudeToDB.stype")
        for value, name in ((ref_value, "ref_value"), (amin, "amin"), (top_db, "top_db")):
            above_zero(value, f"AmplitudeToDB.{name}")
        self.stype = stype
        self.ref_value = ref_value
        self.amin = amin
        self.top_db = top_db

    def _run(self, signal: np.ndarray) -> np.ndarray:
        factor = 10.0 if self.stype == ScaleType.POWER else 20.0
        kind = signal.dtype.type
        done = kind(factor) * np.log10(np.maximum(signal, kind(self.amin)))
        done -= kind(factor * np.log10(max(self.amin, self.ref_value)))
        axes = tuple(range(-min(3, done.ndim), 0))
        return np.maximum(done, done.max(axes, keepdims=True) - kind(self.top_db))


class DBToAmplitude(AudioTensorOperation):
    """A spectrogram of one in dB: `ref * 10 ** (0.1 * power * dB)`.

    Args:
        ref: the value at 0 dB.
        power: 1: powers; 0.5: magnitudes.

    Raises:
        TypeError: one is no number.
        ValueError: one is too large.
    """

    def __init__(self, ref: float, power: float) -> None:
        for value, name in ((ref, "ref"), (power, "power")):
            check.number(value, f"DBToAmplitude.{name}")
            check.within(value, -check.LARGEST, check.LARGEST, f"DBToAmplitude.{name}")
        self.ref = ref
        self.power = power

    def _run(self, signal: np.ndarray) -> np.ndarray:
        powers = (10.0 ** (0.1 * signal.astype(np.float64))) ** self.power
        return (self.ref * powers).astype(signal.dtype)


class Angle(AudioTensorOperation):
    """The angles of complex numbers, in radians; the last axis is dropped."""

    def _run(self, signal: np.ndarray) -> np.ndarray:
        complexes(signal, "Angle")
        return np.arctan2(signal[..., 1], signal[..., 0])


class ComplexNorm(AudioTensorOperation):
    """The magnitudes of complex numbers; the last axis is dropped.

    Args:
        power: of the magnitude, not negative.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative.
    """

    def __init__(self, power: float = 1.0) -> None:
        check.natural_float(power, f"{type(self).__name__}.power")
        self.power = power

    def _run(self, signal: np.ndarray) -> Any:
        complexes(signal, type(self).__name__)
        return np.hypot(signal[..., 0], signal[..., 1]) ** signal.dtype.type(self.power)


class Magphase(ComplexNorm):
    """The magnitudes and the angles of complex numbers; the last axis is dropped.

    Args:
        power: of the magnitude, not negative.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative.
    """

    def _run(self, signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return super()._run(signal), np.arctan2(signal[..., 1], signal[..., 0])
