"""Filter banks and cepstra."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from paramesh.dataset.audio.magnitudes import AmplitudeToDB
from paramesh.dataset.audio.modes import BorderType, MelType, NormMode, NormType, WindowType
from paramesh.dataset.audio.spectra import Spectrogram
from paramesh.dataset.audio.waveforms import AudioTensorOperation, above_zero
from paramesh.dataset.transforms import arguments as check

__all__ = [
    "InverseMelScale",
    "LFCC",
    "MFCC",
    "MelScale",
    "MelSpectrogram",
    "create_dct",
    "linear_fbanks",
    "melscale_fbanks",
]


def _mel(hertz: float, kind: MelType) -> float:
    if kind == MelType.HTK:
        return 2595.0 * math.log10(1.0 + hertz / 700.0)
    if hertz >= 1000.0:
        return 15.0 + math.log(hertz / 1000.0) / (math.log(6.4) / 27.0)
    return hertz * 3 / 200.0


def _hertz(mels: np.ndarray, kind: MelType) -> np.ndarray:
    if kind == MelType.HTK:
        return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    above = 1000.0 * np.exp(math.log(6.4) / 27.0 * (mels - 15.0))
    return np.where(mels >= 15.0, above, mels * 200.0 / 3)


def _triangles(frequencies: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(frequencies, filters): each filter rises from one corner to the next and falls again."""
    width = np.diff(corners)
    slopes = corners[None, :] - frequencies[:, None]
    falling = -slopes[:, :-2] / width[:-1]
    return np.maximum(0.0, np.minimum(falling, slopes[:, 2:] / width[1:]))


@functools.lru_cache(maxsize=32)
def _mel_bank(
    n_freqs: int,
    f_min: float,
    f_max: float,
    n_mels: int,
    sample_rate: int,
    norm: NormType,
    kind: MelType,
) -> np.ndarray:
    frequencies = np.linspace(0, sample_rate // 2, n_freqs)
    corners = _hertz(np.linspace(_mel(f_min, kind), _mel(f_max, kind), n_mels + 2), kind)
    bank = _triangles(frequencies, corners)
    if norm == NormType.SLANEY:
        bank = bank * (2.0 / (corners[2:] - corners[:-2]))
    bank = bank.astype(np.float32)
    bank.flags.writeable = False
    return bank


def melscale_fbanks(
    n_freqs: int,
    f_min: float,
    f_max: float,
    n_mels: int,
    sample_rate: int,
    norm: NormType = NormType.NONE,
    mel_type: MelType = MelType.HTK,
) -> np.ndarray:
    """Triangular filters on the mel scale: (frequencies, filters), float32.

    Args:
        n_freqs: of the spectrogram.
        f_min: in Hz.
        f_max: in Hz.
        n_mels: how many filters.
        sample_rate: in Hz.
        norm: SLANEY: each has an area of one.
        mel_type: the formula of the scale.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """
    name = "melscale_fbanks"
    check.positive_int(n_freqs, f"{name}(n_freqs)")
    check.natural_float(f_min, f"{name}(f_min)")
    check.natural_float(f_max, f"{name}(f_max)")
    if f_min > f_max:
        raise ValueError(f"{name}: expected f_min <= f_max, got {f_min} and {f_max}.")
    check.positive_int(n_mels, f"{name}(n_mels)")
    check.positive_int(sample_rate, f"{name}(sample_rate)")
    check.of_type(norm, NormType, f"{name}(norm)")
    check.of_type(mel_type, MelType, f"{name}(mel_type)")
    return _mel_bank(n_freqs, f_min, f_max, n_mels, sample_rate, norm, mel_type).copy()


def linear_fbanks(
    n_freqs: int, f_min: float, f_max: float, n_filter: int, sample_rate: int
) -> np.ndarray:
    """Triangular filters of the same width: (frequencies, filters), float32.

    Args:
        n_freqs: of the spectrogram.
        f_min: in Hz.
        f_max: in Hz.
        n_filter: how many filters.
        sample_rate: in Hz.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """
    name = "linear_fbanks"
    check.positive_int(n_freqs, f"{name}(n_freqs)")
    check.natural_float(f_min, f"{name}(f_min)")
    check.natural_float(f_max, f"{name}(f_max)")
    if f_min > f_max:
        raise ValueError(f"{name}: expected f_min <= f_max, got {f_min} and {f_max}.")
    check.positive_int(n_filter, f"{name}(n_filter)")
    check.positive_int(sample_rate, f"{name}(sample_rate)")
    frequencies = np.linspace(0, sample_rate // 2, n_freqs)
    return _triangles(frequencies, np.linspace(f_min, f_max, n_filter + 2)).astype(np.float32)


def create_dct(n_mfcc: int, n_mels: int, norm: NormMode = NormMode.NONE) -> np.ndarray:
    """The cosine transform of type II: (n_mels, n_mfcc), float32.

    Args:
        n_mfcc: how many coefficients.
        n_mels: how many values.
        norm: ORTHO: the columns are orthonormal.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is not above 0.
    """
    check.positive_int(n_mfcc, "create_dct(n_mfcc)")
    check.positive_int(n_mels, "create_dct(n_mels)")
    check.of_type(norm, NormMode, "create_dct(norm)")
    at = (np.arange(n_mels) + 0.5)[:, None]
    waves = np.cos(math.pi / n_mels * at * np.arange(n_mfcc))
    if norm == NormMode.NONE:
        return (waves * 2.0).astype(np.float32)
    waves[:, 0] /= math.sqrt(2.0)
    return (waves * math.sqrt(2.0 / n_mels)).astype(np.float32)


def _applied(bank: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """(…, filters, frames) of a spectrogram (…, frequencies, frames)."""
    return np.matmul(bank.T.astype(spectrum.dtype), spectrum)


class MelScale(AudioTensorOperation):
    """A spectrogram on the mel scale: (…, filters, frames).

    Args:
        n_mels: how many filters.
        sample_rate: in Hz.
        f_min: in Hz.
        f_max: in Hz; None: half of `sample_rate`.
        n_stft: the number of frequencies.
        norm: SLANEY: each filter has an area of one.
        mel_type: the formula of the scale.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    axes = 2

    def __init__(
        self,
        n_mels: int = 128,
        sample_rate: int = 16000,
        f_min: float = 0.0,
        f_max: float | None = None,
        n_stft: int = 201,
        norm: NormType = NormType.NONE,
        mel_type: MelType = MelType.HTK,
    ) -> None:
        name = "MelScale"
        check.positive_int(n_mels, f"{name}.n_mels")
        check.positive_int(sample_rate, f"{name}.sample_rate")
        top = _limits(f_min, f_max, sample_rate, name)
        check.positive_int(n_stft, f"{name}.n_stft")
        check.of_type(norm, NormType, f"{name}.norm")
        check.of_type(mel_type, MelType, f"{name}.mel_type")
        self.n_stft = n_stft
        self._bank = _mel_bank(n_stft, f_min, top, n_mels, sample_rate, norm, mel_type)

    def _run(self, signal: np.ndarray) -> np.ndarray:
        if signal.shape[-2] != self.n_stft:
            raise RuntimeError(
                f"MelScale: expected {self.n_stft} frequencies (n_stft), got the shape "
                f"{signal.shape}."
            )
        return _applied(self._bank, signal)


def _limits(f_min: Any, f_max: Any, rate: int, name: str) -> float:
    check.natural_float(f_min, f"{name}.f_min")
    if f_max is None:
        top = float(rate // 2)
    else:
        check.natural_float(f_max, f"{name}.f_max")
        top = f_max
    if f_min > top or (f_max is None and f_min >= top):
        raise ValueError(f"{name}: expected f_min below f_max, got {f_min} and {top}.")
    return top


class InverseMelScale(AudioTensorOperation):
    """A spectrogram (…, frequencies, frames) whose `MelScale` is near to a given one.

    Found by gradient descent from a random start, so it is another one each time.

    Args:
        n_stft: the number of frequencies.
        n_mels: how many filters.
        sample_rate: in Hz.
        f_min: in Hz.
        f_max: in Hz; None: half of `sample_rate`.
        max_iter: how many steps at most.
        tolerance_loss: below this mean squared error it stops.
        tolerance_change: below this change of the error it stops.
        sgdargs: {"sgd_lr": rate, "sgd_momentum": momentum}; None: 0.1 and 0.9.
        norm: SLANEY: each filter has an area of one.
        mel_type: the formula of the scale.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    axes = 2
    random = True

    def __init__(
        self,
        n_stft: int,
        n_mels: int = 128,
        sample_rate: int = 16000,
        f_min: float = 0.0,
        f_max: float | None = None,
        max_iter: int = 100000,
        tolerance_loss: float = 1e-5,
        tolerance_change: float = 1e-8,
        sgdargs: dict[str, float] | None = None,
        norm: NormType = NormType.NONE,
        mel_type: MelType = MelType.HTK,
    ) -> None:
        name = "InverseMelScale"
        for value, argument in (
            (n_stft, "n_stft"),
            (n_mels, "n_mels"),
            (sample_rate, "sample_rate"),
            (max_iter, "max_iter"),
        ):
            check.positive_int(value, f"{name}.{argument}")
        top = _limits(f_min, f_max, sample_rate, name)
        above_zero(tolerance_loss, f"{name}.tolerance_loss")
        above_zero(tolerance_change, f"{name}.tolerance_change")
        check.of_type(sgdargs, (dict, type(None)), f"{name}.sgdargs")
        check.of_type(norm, NormType, f"{name}.norm")
        check.of_type(mel_type, MelType, f"{name}.mel_type")
        options = {"sgd_lr": 0.1, "sgd_momentum": 0.9, **(sgdargs or {})}
        self.max_iter = max_iter
        self.tolerance_loss = tolerance_loss
        self.tolerance_change = tolerance_change
        self.rate = options["sgd_lr"]
        self.momentum = options["sgd_momentum"]
        self._bank = _mel_bank(n_stft, f_min, top, n_mels, sample_rate, norm, mel_type)

    def _run(self, signal: np.ndarray) -> np.ndarray:
        n_stft, n_mels = self._bank.shape
        if signal.shape[-2] != n_mels:
            raise RuntimeError(
                f"InverseMelScale: expected {n_mels} filters, got the shape {signal.shape}."
            )
        done = [self._found(s) for s in signal.reshape(-1, *signal.shape[-2:])]
        shape = (*signal.shape[:-2], n_stft, signal.shape[-1])
        return np.array(done, signal.dtype).reshape(shape)

    def _found(self, mels: np.ndarray) -> np.ndarray:
        bank = self._bank.astype(np.float64)
        found = self.rng.random((bank.shape[0], mels.shape[-1]))
        velocity = np.zeros_like(found)
        before = np.inf
        for _ in range(self.max_iter):
            missing = mels - bank.T @ found
            loss = float(np.mean(missing**2))
            if loss < self.tolerance_loss or abs(before - loss) < self.tolerance_change:
                break
            before = loss
            velocity = self.momentum * velocity - (bank @ missing) / mels.shape[-1]
            found = found - self.rate * velocity
        return np.maximum(found, 0)


class MelSpectrogram(AudioTensorOperation):
    """`Spectrogram`, and `MelScale` of it.

    Args:
        sample_rate: in Hz.
        n_fft: the number of samples of a transform.
        win_length: of the window, in samples; None: `n_fft`.
        hop_length: between two windows, in samples; None: half a window.
        f_min: in Hz.
        f_max: in Hz; None: half of `sample_rate`.
        pad: zeros at both ends, in samples.
        n_mels: how many filters.
        window: its kind.
        power: of the magnitude, above 0.
        normalized: True: divided by the window's norm.
        center: True: the first window is centred on the first sample.
        pad_mode: what lies outside of the waveform then.
        onesided: True: half of the frequencies, which is all there is.
        norm: SLANEY: each filter has an area of one.
        mel_scale: the formula of the scale.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 400,
        win_length: int | None = None,
        hop_length: int | None = None,
        f_min: float = 0.0,
        f_max: float | None = None,
        pad: int = 0,
        n_mels: int = 128,
        window: WindowType = WindowType.HANN,
        power: float = 2.0,
        normalized: bool = False,
        center: bool = True,
        pad_mode: BorderType = BorderType.REFLECT,
        onesided: bool = True,
        norm: NormType = NormType.NONE,
        mel_scale: MelType = MelType.HTK,
    ) -> None:
        check.positive(power, "MelSpectrogram.power")
        self._spectrogram = Spectrogram(
            n_fft,
            win_length,
            hop_length,
            pad,
            window,
            power,
            normalized,
            center,
            pad_mode,
            onesided,
        )
        count = n_fft // 2 + 1 if onesided else n_fft
        self._scale = MelScale(n_mels, sample_rate, f_min, f_max, count, norm, mel_scale)

    def _run(self, signal: np.ndarray) -> np.ndarray:
        return self._scale(self._spectrogram(signal))


class MFCC(AudioTensorOperation):
    """Cepstral coefficients on the mel scale: (…, n_mfcc, frames).

    Args:
        sample_rate: in Hz.
        n_mfcc: how many.
        dct_type: 2.
        norm: of the cosine transform.
        log_mels: True: logarithms; False: dB.
        melkwargs: the arguments of `MelSpectrogram`.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside, or more coefficients than filters.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_mfcc: int = 40,
        dct_type: int = 2,
        norm: NormMode = NormMode.ORTHO,
        log_mels: bool = False,
        melkwargs: dict[str, Any] | None = None,
    ) -> None:
        check.positive_int(n_mfcc, "MFCC.n_mfcc")
        check.choice(dct_type, (2,), "MFCC.dct_type")
        check.of_type(norm, NormMode, "MFCC.norm")
        check.flag(log_mels, "MFCC.log_mels")
        check.of_type(melkwargs, (dict, type(None)), "MFCC.melkwargs")
        options = dict(melkwargs or {})
        mels = options.get("n_mels", 128)
        if n_mfcc > mels:
            raise ValueError(f"MFCC.n_mfcc: expected up to n_mels={mels}, got {n_mfcc}.")
        self.log_mels = log_mels
        self._mels = MelSpectrogram(sample_rate, **options)
        self._dct = create_dct(n_mfcc, mels, norm)

    def _run(self, signal: np.ndarray) -> np.ndarray:
        mels = self._mels(signal)
        logs = np.log(mels + mels.dtype.type(1e-6)) if self.log_mels else AmplitudeToDB()(mels)
        return _applied(self._dct, logs)


class LFCC(AudioTensorOperation):
    """Cepstral coefficients on a linear scale: (…, n_lfcc, frames).

    Args:
        sample_rate: in Hz.
        n_filter: how many filters.
        n_lfcc: how many coefficients.
        f_min: in Hz.
        f_max: in Hz; None: half of `sample_rate`.
        dct_type: 2.
        norm: of the cosine transform.
        log_lf: True: logarithms; False: dB.
        speckwargs: the arguments of `Spectrogram`.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside, or more coefficients than frequencies.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_filter: int = 128,
        n_lfcc: int = 40,
        f_min: float = 0.0,
        f_max: float | None = None,
        dct_type: int = 2,
        norm: NormMode = NormMode.ORTHO,
        log_lf: bool = False,
        speckwargs: dict[str, Any] | None = None,
    ) -> None:
        check.natural(sample_rate, "LFCC.sample_rate")
        check.positive_int(n_filter, "LFCC.n_filter")
        check.positive_int(n_lfcc, "LFCC.n_lfcc")
        check.choice(dct_type, (2,), "LFCC.dct_type")
        check.of_type(norm, NormMode, "LFCC.norm")
        check.flag(log_lf, "LFCC.log_lf")
        check.of_type(speckwargs, (dict, type(None)), "LFCC.speckwargs")
        options = dict(speckwargs or {})
        n_fft = options.get("n_fft", 400)
        if n_lfcc > n_fft:
            raise ValueError(f"LFCC.n_lfcc: expected up to n_fft={n_fft}, got {n_lfcc}.")
        top = _limits(f_min, f_max, sample_rate, "LFCC")
        self.log_lf = log_lf
        self._spectrogram = Spectrogram(**options)
        self._bank = linear_fbanks(n_fft // 2 + 1, f_min, top, n_filter, sample_rate)
        self._dct = create_dct(n_lfcc, n_filter, norm)

    def _run(self, signal: np.ndarray) -> np.ndarray:
        bands = _applied(self._bank, self._spectrogram(signal))
        logs = np.log(bands + bands.dtype.type(1e-6)) if self.log_lf else AmplitudeToDB()(bands)
        return _applied(self._dct, logs)
