"""Spectrograms that are faster or slower, at the same pitch."""

from __future__ import annotations

import numpy as np

from paramesh.dataset.audio.fourier import complexes, pairs
from paramesh.dataset.audio.waveforms import AudioTensorOperation, above_zero
from paramesh.dataset.transforms import arguments as check

__all__ = ["PhaseVocoder", "TimeStretch"]


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
