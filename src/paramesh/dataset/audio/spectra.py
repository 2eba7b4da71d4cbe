"""Spectrograms of waveforms, waveforms of spectrograms, and what is measured in one."""

from __future__ import annotations

from typing import Any

import numpy as np

from paramesh.dataset.audio.fourier import (
    complexes,
    fourier_arguments,
    frame_arguments,
    istft,
    padded_window,
    pairs,
    stft,
)
from paramesh.dataset.audio.modes import BorderType, WindowType
from paramesh.dataset.audio.waveforms import AudioTensorOperation, above_zero
from paramesh.dataset.transforms import arguments as check

__all__ = ["GriffinLim", "InverseSpectrogram", "SpectralCentroid", "Spectrogram"]


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
        frame_arguments(normalized, center, onesided, pad_mode, name)
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
        frame_arguments(normalized, center, onesided, pad_mode, name)
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
