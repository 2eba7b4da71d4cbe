"""Short-time Fourier transforms: windows, both directions, and how complex numbers are laid out.

A complex spectrogram is an array whose last axis holds the real and the imaginary part.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from paramesh.dataset.audio.modes import BorderType, WindowType
from paramesh.dataset.transforms import arguments as check


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


def frame_arguments(
    normalized: object, center: object, onesided: object, pad_mode: object, name: str
) -> None:
    """Check what a spectrogram and its inverse are told about frames.

    Raises:
        TypeError: one is of another kind.
    """
    for value, argument in (
        (normalized, "normalized"),
        (center, "center"),
        (onesided, "onesided"),
    ):
        check.flag(value, f"{name}.{argument}")
    check.of_type(pad_mode, BorderType, f"{name}.pad_mode")
