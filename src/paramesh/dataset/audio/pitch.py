"""The pitch of a waveform, changed."""

from __future__ import annotations

from typing import Any

import numpy as np

from paramesh.dataset.audio.fourier import fourier_arguments, istft, padded_window, stft
from paramesh.dataset.audio.frames import Resample
from paramesh.dataset.audio.modes import WindowType
from paramesh.dataset.audio.vocoding import vocoded
from paramesh.dataset.audio.waveforms import AudioTensorOperation
from paramesh.dataset.transforms import arguments as check

__all__ = ["PitchShift"]


class PitchShift(AudioTensorOperation):
    """The waveform higher or lower, as long as before.

    It is stretched by a phase vocoder, and resampled to its length.

    Args:
        sample_rate: in Hz.
        n_steps: how much higher, in steps.
        bins_per_octave: how many steps are an octave.
        n_fft: the number of samples of a transform.
        win_length: of the window, in samples; None: `n_fft`.
        hop_length: between two windows, in samples; None: a quarter of a window.
        window: its kind.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        sample_rate: int,
        n_steps: int,
        bins_per_octave: int = 12,
        n_fft: int = 512,
        win_length: int | None = None,
        hop_length: int | None = None,
        window: WindowType = WindowType.HANN,
    ) -> None:
        name = "PitchShift"
        check.natural(sample_rate, f"{name}.sample_rate")
        check.of_type(n_steps, int, f"{name}.n_steps")
        check.of_type(bins_per_octave, int, f"{name}.bins_per_octave")
        if bins_per_octave == 0:
            raise ValueError(f"{name}.bins_per_octave: expected a number other than 0, got 0.")
        self.win_length, _ = fourier_arguments(n_fft, win_length, hop_length, window, name)
        self.hop_length = self.win_length // 4 if hop_length is None else hop_length
        self.sample_rate = sample_rate
        self.rate = 2.0 ** (-n_steps / bins_per_octave)
        self.n_fft = n_fft
        self.window = window

    def _run(self, signal: np.ndarray) -> np.ndarray:
        length = signal.shape[-1]
        window = padded_window(self.window, self.win_length, self.n_fft)
        found: Any = stft(signal, self.n_fft, self.hop_length, window)
        advance = np.linspace(0, np.pi * self.hop_length, found.shape[-2])[:, None]
        stretched = vocoded(found, self.rate, advance)
        wave = istft(stretched, self.n_fft, self.hop_length, window, round(length / self.rate))
        shifted = Resample(int(self.sample_rate / self.rate), self.sample_rate)(wave)
        missing = max(length - shifted.shape[-1], 0)
        shifted = np.pad(shifted, [(0, 0)] * (shifted.ndim - 1) + [(0, missing)])
        return shifted[..., :length].astype(signal.dtype)
