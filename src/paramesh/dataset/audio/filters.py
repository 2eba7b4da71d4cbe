"""Recursive filters.

Sources: Bristow-Johnson's Audio EQ Cookbook, and SoX, for the coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import signal as scipy_signal

from paramesh.dataset.audio.waveforms import AudioTensorOperation, real, sample_rate
from paramesh.dataset.transforms import arguments as check

__all__ = [
    "AllpassBiquad",
    "BandBiquad",
    "BandpassBiquad",
    "BandrejectBiquad",
    "BassBiquad",
    "Biquad",
    "DeemphBiquad",
    "EqualizerBiquad",
    "Filtfilt",
    "HighpassBiquad",
    "LFilter",
    "LowpassBiquad",
    "RiaaBiquad",
    "TrebleBiquad",
]

Coefficients = tuple[float, float, float]


def filtered(
    waveform: np.ndarray, a: Sequence[float], b: Sequence[float], clamp: bool
) -> np.ndarray:
    """The waveform filtered along its last axis, in its own type.

    Args:
        waveform: (…, time).
        a: the coefficients of the outputs before, the first of which divides all.
        b: the coefficients of the inputs.
        clamp: True: the result is clipped to -1 to 1.
    """
    done: Any = scipy_signal.lfilter(np.asarray(b, np.float64), np.asarray(a, np.float64), waveform)
    if clamp:
        np.clip(done, -1.0, 1.0, out=done)
    return done.astype(waveform.dtype)


class _Biquad(AudioTensorOperation):
    """A filter of second order."""

    a: Coefficients
    b: Coefficients

    def _run(self, signal: np.ndarray) -> np.ndarray:
        return filtered(signal, self.a, self.b, True)


class Biquad(_Biquad):
    """A filter of second order, its result clipped to -1 to 1.

    Args:
        b0: coefficient of the input.
        b1: of the input before.
        b2: of the input before that.
        a0: of the output, not 0.
        a1: of the output before.
        a2: of the output before that.

    Raises:
        TypeError: one is no number.
        ValueError: one is outside, or `a0` is 0.
    """

    def __init__(self, b0: float, b1: float, b2: float, a0: float, a1: float, a2: float) -> None:
        names = ("b0", "b1", "b2", "a0", "a1", "a2")
        for value, name in zip((b0, b1, b2, a0, a1, a2), names, strict=True):
            real(value, f"Biquad.{name}")
        if a0 == 0:
            raise ValueError("Biquad.a0: expected a number other than 0, got 0.")
        self.b = (b0, b1, b2)
        self.a = (a0, a1, a2)


def _checked(rate: int, frequency: float, quality: float, name: str, argument: str) -> None:
    sample_rate(rate, f"{name}.sample_rate")
    real(frequency, f"{name}.{argument}")
    check.number(quality, f"{name}.Q")
    check.within(quality, 0, 1, f"{name}.Q", above=True)


def _angle(rate: float, frequency: float, quality: float) -> tuple[float, float]:
    """The cosine of the angle that a sample is, and alpha."""
    angle = 2 * math.pi * frequency / rate
    return math.cos(angle), math.sin(angle) / 2 / quality


class AllpassBiquad(_Biquad):
    """A filter that moves phases alone.

    Args:
        sample_rate: in Hz.
        central_freq: in Hz.
        Q: the quality factor, above 0 and up to 1.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(self, sample_rate: int, central_freq: float, Q: float = 0.707) -> None:
        _checked(sample_rate, central_freq, Q, "AllpassBiquad", "central_freq")
        cosine, alpha = _angle(sample_rate, central_freq, Q)
        self.b = (1 - alpha, -2 * cosine, 1 + alpha)
        self.a = (1 + alpha, -2 * cosine, 1 - alpha)


class BandBiquad(_Biquad):
    """A filter that passes a band.

    Args:
        sample_rate: in Hz.
        central_freq: in Hz.
        Q: the quality factor, above 0 and up to 1.
        noise: True: for signals without a pitch.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self, sample_rate: int, central_freq: float, Q: float = 0.707, noise: bool = False
    ) -> None:
        _checked(sample_rate, central_freq, Q, "BandBiquad", "central_freq")
        check.flag(noise, "BandBiquad.noise")
        cosine, _ = _angle(sample_rate, central_freq, Q)
        a2 = math.exp(-2 * math.pi * central_freq / Q / sample_rate)
        a1 = -4 * a2 / (1 + a2) * cosine
        b0 = math.sqrt(1 - a1 * a1 / (4 * a2)) * (1 - a2)
        if noise:
            b0 *= math.sqrt(((1 + a2) ** 2 - a1 * a1) * (1 - a2) / (1 + a2)) / b0
        self.b = (b0, 0.0, 0.0)
        self.a = (1.0, a1, a2)


class BandpassBiquad(_Biquad):
    """A filter that passes a band, by Butterworth.

    Args:
        sample_rate: in Hz.
        central_freq: in Hz.
        Q: the quality factor, above 0 and up to 1.
        const_skirt_gain: True: the peak is Q; False: the peak is 1.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        sample_rate: int,
        central_freq: float,
        Q: float = 0.707,
        const_skirt_gain: bool = False,
    ) -> None:
        _checked(sample_rate, central_freq, Q, "BandpassBiquad", "central_freq")
        check.flag(const_skirt_gain, "BandpassBiquad.const_skirt_gain")
        cosine, alpha = _angle(sample_rate, central_freq, Q)
        peak = alpha * Q if const_skirt_gain else alpha
        self.b = (peak, 0.0, -peak)
        self.a = (1 + alpha, -2 * cosine, 1 - alpha)


class BandrejectBiquad(_Biquad):
    """A filter that stops a band.

    Args:
        sample_rate: in Hz.
        central_freq: in Hz.
        Q: the quality factor, above 0 and up to 1.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(self, sample_rate: int, central_freq: float, Q: float = 0.707) -> None:
        _checked(sample_rate, central_freq, Q, "BandrejectBiquad", "central_freq")
        cosine, alpha = _angle(sample_rate, central_freq, Q)
        self.b = (1.0, -2 * cosine, 1.0)
        self.a = (1 + alpha, -2 * cosine, 1 - alpha)


def _shelf(
    gain: float, cosine: float, alpha: float, sign: int
) -> tuple[Coefficients, Coefficients]:
    """(a, b) of a shelf of low (sign 1) or high (sign -1) frequencies."""
    A = math.exp(gain / 40 * math.log(10))
    slope = 2 * math.sqrt(A) * alpha
    less, more = sign * (A - 1) * cosine, sign * (A + 1) * cosine
    b = (
        A * ((A + 1) - less + slope),
        2 * A * sign * ((A - 1) - more),
        A * ((A + 1) - less - slope),
    )
    a = ((A + 1) + less + slope, -2 * sign * ((A - 1) + more), (A + 1) + less - slope)
    return a, b


class BassBiquad(_Biquad):
    """A filter that raises or lowers low frequencies.

    Args:
        sample_rate: in Hz.
        gain: in dB.
        central_freq: in Hz.
        Q: the quality factor, above 0 and up to 1.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self, sample_rate: int, gain: float, central_freq: float = 100.0, Q: float = 0.707
    ) -> None:
        _checked(sample_rate, central_freq, Q, "BassBiquad", "central_freq")
        real(gain, "BassBiquad.gain")
        self.a, self.b = _shelf(gain, *_angle(sample_rate, central_freq, Q), 1)


class TrebleBiquad(_Biquad):
    """A filter that raises or lowers high frequencies.

    Args:
        sample_rate: in Hz.
        gain: in dB.
        central_freq: in Hz.
        Q: the quality factor, above 0 and up to 1.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self, sample_rate: int, gain: float, central_freq: float = 3000, Q: float = 0.707
    ) -> None:
        _checked(sample_rate, central_freq, Q, "TrebleBiquad", "central_freq")
        real(gain, "TrebleBiquad.gain")
        self.a, self.b = _shelf(gain, *_angle(sample_rate, central_freq, Q), -1)


class DeemphBiquad(_Biquad):
    """The filter that undoes the emphasis of compact discs.

    Args:
        sample_rate: 44100 or 48000 Hz.

    Raises:
        TypeError: it is no int.
        ValueError: it is neither.
    """

    def __init__(self, sample_rate: int) -> None:
        check.of_type(sample_rate, int, "DeemphBiquad.sample_rate")
        check.choice(sample_rate, (44100, 48000), "DeemphBiquad.sample_rate")
        frequency, slope, gain = (
            (5283, 0.4845, -9.477) if sample_rate == 44100 else (5356, 0.479, -9.62)
        )
        A = math.exp(gain / 40 * math.log(10))
        angle = 2 * math.pi * frequency / sample_rate
        alpha = math.sin(angle) / 2 * math.sqrt((A + 1 / A) * (1 / slope - 1) + 2)
        self.a, self.b = _shelf(gain, math.cos(angle), alpha, -1)


class EqualizerBiquad(_Biquad):
    """A filter that raises or lowers a band.

    Args:
        sample_rate: in Hz.
        center_freq: in Hz.
        gain: in dB.
        Q: the quality factor, above 0 and up to 1.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(self, sample_rate: int, center_freq: float, gain: float, Q: float = 0.707) -> None:
        _checked(sample_rate, center_freq, Q, "EqualizerBiquad", "center_freq")
        real(gain, "EqualizerBiquad.gain")
        cosine, alpha = _angle(sample_rate, center_freq, Q)
        A = math.exp(gain / 40 * math.log(10))
        self.b = (1 + alpha * A, -2 * cosine, 1 - alpha * A)
        self.a = (1 + alpha / A, -2 * cosine, 1 - alpha / A)


class HighpassBiquad(_Biquad):
    """A filter that passes high frequencies.

    Args:
        sample_rate: in Hz.
        cutoff_freq: in Hz.
        Q: the quality factor, above 0 and up to 1.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(self, sample_rate: int, cutoff_freq: float, Q: float = 0.707) -> None:
        _checked(sample_rate, cutoff_freq, Q, "HighpassBiquad", "cutoff_freq")
        cosine, alpha = _angle(sample_rate, cutoff_freq, Q)
        self.b = ((1 + cosine) / 2, -1 - cosine, (1 + cosine) / 2)
        self.a = (1 + alpha, -2 * cosine, 1 - alpha)


class LowpassBiquad(_Biquad):
    """A filter that passes low frequencies.

    Args:
        sample_rate: in Hz.
        cutoff_freq: in Hz.
        Q: the quality factor, above 0 and up to 1.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(self, sample_rate: int, cutoff_freq: float, Q: float = 0.707) -> None:
        _checked(sample_rate, cutoff_freq, Q, "LowpassBiquad", "cutoff_freq")
        cosine, alpha = _angle(sample_rate, cutoff_freq, Q)
        self.b = ((1 - cosine) / 2, 1 - cosine, (1 - cosine) / 2)
        self.a = (1 + alpha, -2 * cosine, 1 - alpha)


_RIAA = {
    44100: ((-0.2014898, 0.9233820), (0.7083149, 0.9924091)),
    48000: ((-0.1766069, 0.9321590), (0.7396325, 0.9931330)),
    88200: ((-0.1168735, 0.9648312), (0.8590646, 0.9964002)),
    96000: ((-0.1141486, 0.9676817), (0.8699137, 0.9966946)),
}


class RiaaBiquad(_Biquad):
    """The filter that plays vinyl records.

    Args:
        sample_rate: 44100, 48000, 88200 or 96000 Hz.

    Raises:
        TypeError: it is no int.
        ValueError: it is none of these.
    """

    def __init__(self, sample_rate: int) -> None:
        check.of_type(sample_rate, int, "RiaaBiquad.sample_rate")
        check.choice(sample_rate, tuple(_RIAA), "RiaaBiquad.sample_rate")
        zeros, poles = _RIAA[sample_rate]
        b = np.array([1.0, -(zeros[0] + zeros[1]), zeros[0] * zeros[1]])
        a = np.array([1.0, -(poles[0] + poles[1]), poles[0] * poles[1]])
        turns = np.exp(-2j * np.pi * 1000 / sample_rate * np.arange(3))
        b *= abs((a * turns).sum()) / abs((b * turns).sum())
        self.b = (float(b[0]), float(b[1]), float(b[2]))
        self.a = (float(a[0]), float(a[1]), float(a[2]))


class LFilter(AudioTensorOperation):
    """A recursive filter.

    Args:
        a_coeffs: of the outputs before; the first divides all.
        b_coeffs: of the inputs, as many.
        clamp: True: the result is clipped to -1 to 1.

    Raises:
        TypeError: one is of another kind.
        ValueError: of different lengths, or one is outside.
    """

    def __init__(
        self, a_coeffs: Sequence[float], b_coeffs: Sequence[float], clamp: bool = True
    ) -> None:
        name = type(self).__name__
        for values, argument in ((a_coeffs, "a_coeffs"), (b_coeffs, "b_coeffs")):
            check.numbers_of(values, f"{name}.{argument}")
            check.each(values, real, f"{name}.{argument}")
        if len(a_coeffs) != len(b_coeffs):
            raise ValueError(
                f"{name}: a_coeffs and b_coeffs must have the same length, got {len(a_coeffs)} and "
                f"{len(b_coeffs)}."
            )
        check.flag(clamp, f"{name}.clamp")
        self.a_coeffs = a_coeffs
        self.b_coeffs = b_coeffs
        self.clamp = clamp

    def _run(self, signal: np.ndarray) -> np.ndarray:
        return filtered(signal, self.a_coeffs, self.b_coeffs, self.clamp)


class Filtfilt(LFilter):
    """A recursive filter, forwards and then backwards.

    Args:
        a_coeffs: of the outputs before; the first divides all.
        b_coeffs: of the inputs, as many.
        clamp: True: the result is clipped to -1 to 1.

    Raises:
        TypeError: one is of another kind.
        ValueError: of different lengths, or one is outside.
    """

    def _run(self, signal: np.ndarray) -> np.ndarray:
        forward = filtered(signal, self.a_coeffs, self.b_coeffs, False)
        back = filtered(forward[..., ::-1], self.a_coeffs, self.b_coeffs, self.clamp)
        return np.ascontiguousarray(back[..., ::-1])
