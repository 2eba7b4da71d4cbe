"""Short-time Fourier transforms, and what is made of them.

A complex spectrogram is an array whose last axis holds the real and the imaginary part.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from paramesh.dataset.audio.modes import BorderType, ScaleType, WindowType
from paramesh.dataset.audio.waveforms import AudioTensorOperation, above_zero
from paramesh.dataset.transforms import arguments as check

__all__ = [
    "AmplitudeToDB",
    "Angle",
    "ComplexNorm",
    "DBToAmplitude",
    "GriffinLim",
    "InverseSpectrogram",
    "Magphase",
    "PhaseVocoder",
    "SpectralCentroid",
    "Spectrogram",
    "TimeStretch",
]


@functools.lru_cache(maxsize=64)
def window_of(kind: WindowType, length: int) -> np.ndarray:
    """A periodic window, float64."""
    if length == 1:
        return np.ones(1)
    make = {
        WindowType.BARTLETT: np.bartlett,
        WindowType.BLACKMAN: np.blackman,
        WindowType.HAMMING: np.hamming,
        WindowType.HANN: np.hanning,
        WindowType.KAISER: lambda n: np.kaiser(n, 12.0),
    }[kind]
    return make(length + 1)[:-1]


def padded_window(kind: WindowType, length: int, n_fft: int) -> np.ndarray:
    """A window in the middle of `n_fft` samples."""
    before = (n_fft - length) // 2
    return np.pad(window_of(kind, length), (before, n_fft - length - before))


def stft(
    waveform: np.ndarray,
    n_fft: int,
    hop: int,
    window: np.ndarray,
    center: bool = True,
    pad_mode: BorderType = BorderType.REFLECT,
    onesided: bool = True,
) -> np.ndarray:
    """(…, frequencies, frames), complex.

    Raises:
        RuntimeError: the waveform is too short.
    """
    if center:
        half = n_fft // 2
        if pad_mode == BorderType.REFLECT and half >= waveform.shape[-1]:
            raise RuntimeError(
                f"The waveform of {waveform.shape[-1]} samples is too short for a reflected border "
                f"of {half}: lower n_fft, or take another pad_mode."
            )
        around = [(0, 0)] * (waveform.ndim - 1) + [(half, half)]
        waveform = np.pad(waveform, around, mode=pad_mode.value)  # type: ignore[call-overload]
    if waveform.shape[-1] < n_fft:
        raise RuntimeError(
            f"The waveform of {waveform.shape[-1]} samples is shorter than n_fft={n_fft}."
        )
    frames = np.lib.stride_tricks.sliding_window_view(waveform, n_fft, -1)[..., ::hop, :]
    windowed = frames * window
    found = np.fft.rfft(windowed) if onesided else np.fft.fft(windowed)
    return np.swapaxes(found, -1, -2)


def istft(
    spectrum: np.ndarray,
    n_fft: int,
    hop: int,
    window: np.ndarray,
    length: int | None,
    center: bool = True,
    onesided: bool = True,
) -> np.ndarray:
    """The waveform (…, time) of a complex spectrogram (…, frequencies, frames)."""
    turned = np.swapaxes(spectrum, -1, -2)
    frames = np.fft.irfft(turned, n_fft) if onesided else np.fft.ifft(turned, n_fft).real
    frames = frames * window
    count = frames.shape[-2]
    total = n_fft + hop * (count - 1)
    done = np.zeros((*frames.shape[:-2], total))
    weight = np.zeros(total)
    for i in range(count):
        part = slice(i * hop, i * hop + n_fft)
        done[..., part] += frames[..., i, :]
        weight[part] += window**2
    start = n_fft // 2 if center else 0
    end = start + length if length else total - start
    done, weight = done[..., start:end], weight[start:end]
    done = done / np.where(weight > 1e-11, weight, 1.0)
    if length and done.shape[-1] < length:
        done = np.pad(done, [(0, 0)] * (done.ndim - 1) + [(0, length - done.shape[-1])])
    return done


def pairs(
    spectrum: np.ndarray[Any, np.dtype[np.complexfloating]], kind: np.dtype[Any]
) -> np.ndarray:
    """A complex array as one with a last axis of real and imaginary parts."""
    return np.stack([spectrum.real, spectrum.imag], -1).astype(kind)


def complexes(array: np.ndarray, name: str) -> np.ndarray:
    """A complex array of one with a last axis of real and imaginary parts.

    Raises:
        RuntimeError: the last axis is not of two.
    """
    if array.ndim < 2 or array.shape[-1] != 2:
        raise RuntimeError(
            f"{name}: expected real and imaginary parts along the last axis, got the shape "
            f"{array.shape}."
        )
    return array[..., 0] + 1j * array[..., 1].astype(np.float64)


def fourier_arguments(
    n_fft: int, win_length: int | None, hop_length: int | None, window: WindowType, name: str
) -> tuple[int, int]:
    """Check them, and give the lengths of the window and of a hop.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """
    check.positive_int(n_fft, f"{name}.n_fft")
    if win_length is not None:
        check.positive_int(win_length, f"{name}.win_length")
        if win_length > n_fft:
            raise ValueError(
                f"{name}.win_length: expected up to n_fft={n_fft} samples, got {win_length}."
            )
    if hop_length is not None:
        check.positive_int(hop_length, f"{name}.hop_length")
    check.of_type(window, WindowType, f"{name}.window")
    length = n_fft if win_length is None else win_length
    return length, max(length // 2, 1) if hop_length is None else hop_length


class Spectrogram(AudioTensorOperation):
    """The spectrogram of a waveform: (…, frequencies, frames).

    Args:
        n_fft: the number of samples of a transform.
        win_length: of the window, in samples; None: `n_fft`.
        hop_length: between two windows, in samples; None: half a window.
        pad: zeros at both ends, in samples.
        window: its kind.
        power: of the magnitude; 0: the complex numbers, along a last axis of two.
        normalized: True: divided by the window's norm.
        center: True: the first window is centred on the first sample.
        pad_mode: what lies outside of the waveform then.
        onesided: True: half of the frequencies, which is all there is.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        n_fft: int = 400,
        win_length: int | None = None,
        hop_length: int | None = None,
        pad: int = 0,
        window: WindowType = WindowType.HANN,
        power: float = 2.0,
        normalized: bool = False,
        center: bool = True,
        pad_mode: BorderType = BorderType.REFLECT,
        onesided: bool = True,
    ) -> None:
        name = type(self).__name__
        self.win_length, self.hop_length = fourier_arguments(
            n_fft, win_length, hop_length, window, name
        )
        check.natural(pad, f"{name}.pad")
        check.natural_float(power, f"{name}.power")
        for value, argument in (
            (normalized, "normalized"),
            (center, "center"),
            (onesided, "onesided"),
        ):
            check.flag(value, f"{name}.{argument}")
        check.of_type(pad_mode, BorderType, f"{name}.pad_mode")
        self.n_fft = n_fft
        self.pad = pad
        self.window = window
        self.power = power
        self.normalized = normalized
        self.center = center
        self.pad_mode = pad_mode
        self.onesided = onesided

    def _run(self, signal: np.ndarray) -> np.ndarray:
        if self.pad:
            signal = np.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(self.pad, self.pad)])
        window = padded_window(self.window, self.win_length, self.n_fft)
        found: Any = stft(
            signal, self.n_fft, self.hop_length, window, self.center, self.pad_mode, self.onesided
        )
        if self.normalized:
            found = found / np.sqrt((window**2).sum())
        if self.power == 0:
            return pairs(found, signal.dtype)
        if self.power == 2:
            return (found.real**2 + found.imag**2).astype(signal.dtype)
        return (np.abs(found) ** self.power).astype(signal.dtype)


class InverseSpectrogram(AudioTensorOperation):
    """The waveform of a complex spectrogram.

    Args:
        length: of the waveform, in samples; None: what the spectrogram gives.
        n_fft: the number of samples of a transform.
        win_length: of the window, in samples; None: `n_fft`.
        hop_length: between two windows, in samples; None: half a window.
        pad: zeros at both ends that are dropped, in samples.
        window: its kind.
        normalized: True: it was divided by the window's norm.
        center: True: the first window was centred on the first sample.
        pad_mode: what lay outside of the waveform then.
        onesided: True: it has half of the frequencies.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    axes = 3

    def __init__(
        self,
        length: int | None = None,
        n_fft: int = 400,
        win_length: int | None = None,
        hop_length: int | None = None,
        pad: int = 0,
        window: WindowType = WindowType.HANN,
        normalized: bool = False,
        center: bool = True,
        pad_mode: BorderType = BorderType.REFLECT,
        onesided: bool = True,
    ) -> None:
        name = "InverseSpectrogram"
        if length is not None:
            check.natural(length, f"{name}.length")
        self.win_length, self.hop_length = fourier_arguments(
            n_fft, win_length, hop_length, window, name
        )
        check.natural(pad, f"{name}.pad")
        for value, argument in (
            (normalized, "normalized"),
            (center, "center"),
            (onesided, "onesided"),
        ):
            check.flag(value, f"{name}.{argument}")
        check.of_type(pad_mode, BorderType, f"{name}.pad_mode")
        self.length = length or None
        self.n_fft = n_fft
        self.pad = pad
        self.window = window
        self.normalized = normalized
        self.center = center
        self.onesided = onesided

    def _run(self, signal: np.ndarray) -> np.ndarray:
        found = complexes(signal, "InverseSpectrogram")
        window = padded_window(self.window, self.win_length, self.n_fft)
        if self.normalized:
            found = found * np.sqrt((window**2).sum())
        length = None if self.length is None else self.length + 2 * self.pad
        done = istft(found, self.n_fft, self.hop_length, window, length, self.center, self.onesided)
        done = done[..., self.pad : done.shape[-1] - self.pad]
        return done.astype(signal.dtype)


class GriffinLim(AudioTensorOperation):
    """A waveform whose spectrogram is near to a given one.

    Sources: Griffin and Lim (1984); Perraudin et al., A Fast Griffin-Lim Algorithm (2013).

    Args:
        n_fft: the number of samples of a transform.
        n_iter: how many iterations.
        win_length: of the window, in samples; None: `n_fft`.
        hop_length: between two windows, in samples; None: half a window.
        window_type: its kind.
        power: of the magnitude that the spectrogram holds.
        momentum: 0 or more; below 1 it converges.
        length: of the waveform, in samples; None: what the spectrogram gives.
        rand_init: True: the phases start at random; False: at 0.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    axes = 2
    random = True

    def __init__(
        self,
        n_fft: int = 400,
        n_iter: int = 32,
        win_length: int | None = None,
        hop_length: int | None = None,
        window_type: WindowType = WindowType.HANN,
        power: float = 2.0,
        momentum: float = 0.99,
        length: int | None = None,
        rand_init: bool = True,
    ) -> None:
        name = "GriffinLim"
        self.win_length, self.hop_length = fourier_arguments(
            n_fft, win_length, hop_length, window_type, name
        )
        check.positive_int(n_iter, f"{name}.n_iter")
        above_zero(power, f"{name}.power")
        check.natural_float(momentum, f"{name}.momentum")
        if length is not None:
            check.natural(length, f"{name}.length")
        check.flag(rand_init, f"{name}.rand_init")
        self.n_fft = n_fft
        self.n_iter = n_iter
        self.window = window_type
        self.power = power
        self.momentum = momentum
        self.length = length or None
        self.rand_init = rand_init

    def _run(self, signal: np.ndarray) -> np.ndarray:
        if signal.shape[-2] != self.n_fft // 2 + 1:
            raise RuntimeError(
                f"GriffinLim: expected {self.n_fft // 2 + 1} frequencies, got the shape "
                f"{signal.shape}."
            )
        magnitude = signal.astype(np.float64) ** (1 / self.power)
        window = padded_window(self.window, self.win_length, self.n_fft)
        # MindSpore divides by 1 + momentum twice: in Python and in C++.
        momentum = self.momentum / (1 + 2 * self.momentum)
        phases = np.ones(signal.shape, complex)
        if self.rand_init:
            phases = self.rng.random(signal.shape) + 1j * self.rng.random(signal.shape)
        before: np.ndarray | float = 0.0
        for _ in range(self.n_iter):
            wave = istft(magnitude * phases, self.n_fft, self.hop_length, window, self.length)
            rebuilt = stft(wave, self.n_fft, self.hop_length, window)
            phases = rebuilt - before * momentum
            phases = phases / (np.abs(phases) + 1e-16)
            before = rebuilt
        wave = istft(magnitude * phases, self.n_fft, self.hop_length, window, self.length)
        return wave.astype(signal.dtype)


class SpectralCentroid(AudioTensorOperation):
    """The mean frequency of each frame, in Hz: (…, 1, frames).

    Args:
        sample_rate: in Hz.
        n_fft: the number of samples of a transform.
        win_length: of the window, in samples; None: `n_fft`.
        hop_length: between two windows, in samples; None: half a window.
        pad: zeros at both ends, in samples.
        window: its kind.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        sample_rate: int,
        n_fft: int = 400,
        win_length: int | None = None,
        hop_length: int | None = None,
        pad: int = 0,
        window: WindowType = WindowType.HANN,
    ) -> None:
        check.natural(sample_rate, "SpectralCentroid.sample_rate")
        fourier_arguments(n_fft, win_length, hop_length, window, "SpectralCentroid")
        self.sample_rate = sample_rate
        self._spectrogram = Spectrogram(n_fft, win_length, hop_length, pad, window, 1.0)

    def _run(self, signal: np.ndarray) -> np.ndarray:
        spectrum = self._spectrogram(signal).astype(np.float64)
        frequencies = np.linspace(0, self.sample_rate // 2, spectrum.shape[-2])[:, None]
        total = spectrum.sum(-2, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (frequencies * spectrum).sum(-2, keepdims=True) / total
        return mean.astype(signal.dtype)


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


def vocoded(spectrum: np.ndarray, rate: float, advance: np.ndarray) -> np.ndarray:
    """A complex spectrogram (…, frequencies, frames) that is `rate` times as fast.

    Source: the phase vocoder of Flanagan and Golden (1966).

    Args:
        spectrum: complex.
        rate: above 0.
        advance: (frequencies, 1): the phase that is expected from one frame to the next.
    """
    if rate == 1.0:
        return spectrum
    steps = np.arange(0, spectrum.shape[-1], rate)
    wide = np.pad(spectrum, [(0, 0)] * (spectrum.ndim - 1) + [(0, 2)])
    first = wide[..., steps.astype(np.intp)]
    second = wide[..., (steps + 1).astype(np.intp)]
    share = steps % 1.0
    turn = np.angle(second) - np.angle(first) - advance
    turn -= 2 * np.pi * np.round(turn / (2 * np.pi))
    turn += advance
    start = np.angle(spectrum[..., :1])
    phase = np.cumsum(np.concatenate([start, turn[..., :-1]], -1), -1)
    magnitude = share * np.abs(second) + (1 - share) * np.abs(first)
    return magnitude * np.exp(1j * phase)


class PhaseVocoder(AudioTensorOperation):
    """A complex spectrogram that is `rate` times as fast, at the same pitch.

    Args:
        rate: above 0.
        phase_advance: (frequencies, 1): the phase that is expected from one frame to the next.

    Raises:
        TypeError: one is of another kind.
        ValueError: `rate` is not above 0.
    """

    axes = 3

    def __init__(self, rate: float, phase_advance: np.ndarray) -> None:
        above_zero(rate, "PhaseVocoder.rate")
        check.of_type(phase_advance, np.ndarray, "PhaseVocoder.phase_advance")
        self.rate = rate
        self.phase_advance = phase_advance

    def _run(self, signal: np.ndarray) -> np.ndarray:
        found = complexes(signal, "PhaseVocoder")
        return pairs(vocoded(found, self.rate, self.phase_advance), signal.dtype)


class TimeStretch(AudioTensorOperation):
    """A complex spectrogram faster or slower, at the same pitch.

    Args:
        hop_length: between two windows, in samples; None: `n_freq - 1`.
        n_freq: the number of frequencies.
        fixed_rate: how many times as fast; None: 1.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is not above 0.
    """

    axes = 3

    def __init__(
        self, hop_length: int | None = None, n_freq: int = 201, fixed_rate: float | None = None
    ) -> None:
        check.positive_int(n_freq, "TimeStretch.n_freq")
        if hop_length is not None:
            check.positive_int(hop_length, "TimeStretch.hop_length")
        if fixed_rate is not None:
            above_zero(fixed_rate, "TimeStretch.fixed_rate")
        self.n_freq = n_freq
        self.hop_length = n_freq - 1 if hop_length is None else hop_length
        self.fixed_rate = 1.0 if fixed_rate is None else fixed_rate

    def _run(self, signal: np.ndarray) -> np.ndarray:
        if self.fixed_rate == 1:
            return signal
        advance = np.linspace(0, np.pi * self.hop_length, self.n_freq)[:, None]
        found = complexes(signal, "TimeStretch")
        return pairs(vocoded(found, self.fixed_rate, advance), signal.dtype)
