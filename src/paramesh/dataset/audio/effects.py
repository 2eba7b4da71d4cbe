"""Volume, fades, companding and distortion. Sources: SoX, for the formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import signal as scipy_signal

from paramesh.dataset.audio.modes import DensityFunction, FadeShape, GainType
from paramesh.dataset.audio.waveforms import AudioTensorOperation, above_zero, real
from paramesh.dataset.transforms import arguments as check

__all__ = [
    "Contrast",
    "DCShift",
    "Dither",
    "Fade",
    "Gain",
    "MuLawDecoding",
    "MuLawEncoding",
    "Overdrive",
    "Vol",
]


class Gain(AudioTensorOperation):
    """The waveform louder or softer.

    Args:
        gain_db: in dB.

    Raises:
        TypeError: it is no number.
        ValueError: it is too large.
    """

    def __init__(self, gain_db: float = 1.0) -> None:
        real(gain_db, "Gain.gain_db")
        self.gain_db = gain_db

    def _run(self, signal: np.ndarray) -> np.ndarray:
        return signal * signal.dtype.type(10 ** (self.gain_db / 20))


class Vol(AudioTensorOperation):
    """The waveform louder or softer, clipped to -1 to 1.

    Args:
        gain: the factor, or dB.
        gain_type: what it multiplies, or DB.

    Raises:
        TypeError: one is of another kind.
        ValueError: `gain` is negative, or 0 for POWER.
    """

    def __init__(self, gain: float, gain_type: GainType = GainType.AMPLITUDE) -> None:
        check.number(gain, "Vol.gain")
        check.of_type(gain_type, GainType, "Vol.gain_type")
        if gain_type == GainType.AMPLITUDE:
            check.natural_float(gain, "Vol.gain")
        elif gain_type == GainType.POWER:
            above_zero(gain, "Vol.gain")
        else:
            real(gain, "Vol.gain")
        self.gain = gain
        self.gain_type = gain_type

    def _run(self, signal: np.ndarray) -> np.ndarray:
        factor = {
            GainType.AMPLITUDE: lambda g: g,
            GainType.DB: lambda g: 10 ** (g / 20),
            GainType.POWER: math.sqrt,
        }[self.gain_type](self.gain)
        return np.clip(signal * signal.dtype.type(factor), -1, 1)


class DCShift(AudioTensorOperation):
    """The waveform moved up or down, clipped to -1 to 1.

    Args:
        shift: from -2 to 2.
        limiter_gain: how much of what is above the limit remains; None: the shift.

    Raises:
        TypeError: one is no number.
        ValueError: `shift` is outside.
    """

    def __init__(self, shift: float, limiter_gain: float | None = None) -> None:
        check.number(shift, "DCShift.shift")
        check.within(shift, -2.0, 2.0, "DCShift.shift")
        if limiter_gain is not None:
            check.number(limiter_gain, "DCShift.limiter_gain")
        self.shift = shift
        self.limiter_gain = shift if limiter_gain is None else limiter_gain

    def _run(self, signal: np.ndarray) -> np.ndarray:
        shift, gain = self.shift, self.limiter_gain
        if gain == shift:
            return np.clip(signal + signal.dtype.type(shift), -1, 1)
        limit = 1.0 - (abs(shift) - gain)
        side = 1.0 if shift > 0 else -1.0
        over = side * signal > limit
        pressed = (signal - side * limit) * gain / (1.0 - limit) + side * limit + shift
        moved = np.where(over, pressed, signal + shift)
        return np.clip(moved, -1, 1).astype(signal.dtype)


class Contrast(AudioTensorOperation):
    """The waveform with more contrast.

    Args:
        enhancement_amount: from 0 to 100.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """

    def __init__(self, enhancement_amount: float = 75.0) -> None:
        check.number(enhancement_amount, "Contrast.enhancement_amount")
        check.within(enhancement_amount, 0, 100, "Contrast.enhancement_amount")
        self.enhancement_amount = enhancement_amount

    def _run(self, signal: np.ndarray) -> np.ndarray:
        kind = signal.dtype.type
        angle = signal * kind(math.pi / 2)
        return np.sin(angle + kind(self.enhancement_amount / 750.0) * np.sin(angle * kind(4)))


class Overdrive(AudioTensorOperation):
    """The waveform distorted, clipped to -1 to 1.

    Args:
        gain: in dB, from 0 to 100.
        color: how much of even harmonics, from 0 to 100.

    Raises:
        TypeError: one is no number.
        ValueError: one is outside.
    """

    def __init__(self, gain: float = 20.0, color: float = 20.0) -> None:
        for value, name in ((gain, "gain"), (color, "color")):
            check.number(value, f"Overdrive.{name}")
            check.within(value, 0, 100, f"Overdrive.{name}")
        self.gain = gain
        self.color = color

    def _run(self, signal: np.ndarray) -> np.ndarray:
        driven = np.clip(signal * 10 ** (self.gain / 20.0) + self.color / 200.0, -1, 1)
        driven = driven - driven**3 / 3
        smooth: Any = scipy_signal.lfilter([1.0, -1.0], [1.0, -0.995], driven)
        return np.clip(signal * 0.5 + smooth * 0.75, -1, 1).astype(signal.dtype)


def _fade_in(shape: FadeShape, at: np.ndarray) -> np.ndarray:
    return {
        FadeShape.LINEAR: lambda t: t,
        FadeShape.EXPONENTIAL: lambda t: 2 ** (t - 1) * t,
        FadeShape.LOGARITHMIC: lambda t: np.log10(0.1 + t) + 1,
        FadeShape.QUARTER_SINE: lambda t: np.sin(t * math.pi / 2),
        FadeShape.HALF_SINE: lambda t: np.sin(t * math.pi - math.pi / 2) / 2 + 0.5,
    }[shape](at)


def _fade_out(shape: FadeShape, at: np.ndarray) -> np.ndarray:
    return {
        FadeShape.LINEAR: lambda t: 1 - t,
        FadeShape.EXPONENTIAL: lambda t: 2**-t * (1 - t),
        FadeShape.LOGARITHMIC: lambda t: np.log10(1.1 - t) + 1,
        FadeShape.QUARTER_SINE: lambda t: np.sin(t * math.pi / 2 + math.pi / 2),
        FadeShape.HALF_SINE: lambda t: np.sin(t * math.pi + math.pi / 2) / 2 + 0.5,
    }[shape](at)


class Fade(AudioTensorOperation):
    """The waveform faded in and out.

    Args:
        fade_in_len: in samples.
        fade_out_len: in samples.
        fade_shape: the curve.

    Raises:
        TypeError: one is of another kind.
        ValueError: a length is negative.
    """

    def __init__(
        self,
        fade_in_len: int = 0,
        fade_out_len: int = 0,
        fade_shape: FadeShape = FadeShape.LINEAR,
    ) -> None:
        check.natural(fade_in_len, "Fade.fade_in_len")
        check.natural(fade_out_len, "Fade.fade_out_len")
        check.of_type(fade_shape, FadeShape, "Fade.fade_shape")
        self.fade_in_len = fade_in_len
        self.fade_out_len = fade_out_len
        self.fade_shape = fade_shape

    def _run(self, signal: np.ndarray) -> np.ndarray:
        length = signal.shape[-1]
        if max(self.fade_in_len, self.fade_out_len) > length:
            raise RuntimeError(
                f"Fade: the fades of {self.fade_in_len} and {self.fade_out_len} samples are longer "
                f"than the waveform of {length}."
            )
        factors = np.ones((2, length))
        start = _fade_in(self.fade_shape, np.linspace(0, 1, self.fade_in_len))
        end = _fade_out(self.fade_shape, np.linspace(0, 1, self.fade_out_len))
        # The logarithmic curve ends at 1.04, as in MindSpore.
        factors[0, : self.fade_in_len] = np.maximum(start, 0)
        factors[1, length - self.fade_out_len :] = np.maximum(end, 0)
        return (signal * factors[0] * factors[1]).astype(signal.dtype)


def _channels(value: int, name: str) -> None:
    check.positive_int(value, f"{name}.quantization_channels")


class MuLawEncoding(AudioTensorOperation):
    """The waveform in numbers from 0 to `quantization_channels - 1`, as int32.

    Args:
        quantization_channels: how many.

    Raises:
        TypeError: it is no int.
        ValueError: it is not above 0.
    """

    def __init__(self, quantization_channels: int = 256) -> None:
        _channels(quantization_channels, "MuLawEncoding")
        self.quantization_channels = quantization_channels

    def _run(self, signal: np.ndarray) -> np.ndarray:
        mu = signal.dtype.type(self.quantization_channels - 1)
        pressed = np.sign(signal) * np.log1p(mu * np.abs(signal)) / np.log1p(mu)
        return ((pressed + 1) / 2 * mu + signal.dtype.type(0.5)).astype(np.int32)


class MuLawDecoding(AudioTensorOperation):
    """The waveform of what `MuLawEncoding` gives.

    Args:
        quantization_channels: how many.

    Raises:
        TypeError: it is no int.
        ValueError: it is not above 0.
    """

    def __init__(self, quantization_channels: int = 256) -> None:
        _channels(quantization_channels, "MuLawDecoding")
        self.quantization_channels = quantization_channels

    def _run(self, signal: np.ndarray) -> np.ndarray:
        mu = signal.dtype.type(self.quantization_channels - 1)
        scaled = signal / mu * 2 - 1
        return np.sign(scaled) * (np.exp(np.abs(scaled) * np.log1p(mu)) - 1) / mu


class Dither(AudioTensorOperation):
    """The waveform rounded to 16 bits, with noise that hides the rounding.

    Args:
        density_function: how the noise is distributed.
        noise_shaping: True: the error is moved to where one does not hear it.

    Raises:
        TypeError: one is of another kind.
    """

    random = True

    def __init__(
        self,
        density_function: DensityFunction = DensityFunction.TPDF,
        noise_shaping: bool = False,
    ) -> None:
        check.of_type(density_function, DensityFunction, "Dither.density_function")
        check.flag(noise_shaping, "Dither.noise_shaping")
        self.density_function = density_function
        self.noise_shaping = noise_shaping

    def _run(self, signal: np.ndarray) -> np.ndarray:
        steps, rng, shape = 32767.0, self.rng, signal.shape
        if self.density_function == DensityFunction.RPDF:
            noise = np.full(shape, rng.uniform() - 0.5)
        elif self.density_function == DensityFunction.GPDF:
            noise = np.full(shape, rng.uniform(size=6).sum() - 3)
        else:
            noise = np.broadcast_to(rng.triangular(-1, 0, 1, shape[-1]), shape)
        rounded = np.round(signal * steps + noise) / steps
        if self.noise_shaping:
            error = rounded - signal
            rounded[..., 1:] += error[..., :-1]
        return rounded.astype(signal.dtype)
