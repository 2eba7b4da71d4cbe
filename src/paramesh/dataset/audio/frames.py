"""Features along time: resampling, differences, moving norms."""

from __future__ import annotations

import functools
import math

import numpy as np

from paramesh.dataset.audio.modes import BorderType, ResampleMethod
from paramesh.dataset.audio.waveforms import AudioTensorOperation, above_zero
from paramesh.dataset.transforms import arguments as check

__all__ = ["ComputeDeltas", "Resample", "SlidingWindowCmn"]


@functools.lru_cache(maxsize=32)
def _kernel(
    old: int, new: int, width: int, rolloff: float, kaiser: bool, beta: float
) -> tuple[np.ndarray, int]:
    """(new, taps): a windowed sinc for each phase, and how far it reaches to the left."""
    base = min(old, new) * rolloff
    reach = math.ceil(width * old / base)
    at = np.arange(-reach, reach + old)[None, :] / old
    times = (-np.arange(new)[:, None] / new + at) * base
    times = np.clip(times, -width, width)
    if kaiser:
        window = np.i0(beta * np.sqrt(1 - (times / width) ** 2)) / np.i0(beta)
    else:
        window = np.cos(times * math.pi / width / 2) ** 2
    return np.sinc(times) * window * (base / old), reach


class Resample(AudioTensorOperation):
    """The waveform at another rate, by a windowed sinc.

    Source: Smith, Digital Audio Resampling.

    Args:
        orig_freq: in Hz.
        new_freq: in Hz.
        resample_method: the window.
        lowpass_filter_width: how many zero crossings the filter has on each side.
        rolloff: the cutoff as a share of the Nyquist frequency, above 0 and up to 1.
        beta: of the Kaiser window; None: 14.769656459379492.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        orig_freq: float = 16000,
        new_freq: float = 16000,
        resample_method: ResampleMethod = ResampleMethod.SINC_INTERPOLATION,
        lowpass_filter_width: int = 6,
        rolloff: float = 0.99,
        beta: float | None = None,
    ) -> None:
        above_zero(orig_freq, "Resample.orig_freq")
        above_zero(new_freq, "Resample.new_freq")
        check.of_type(resample_method, ResampleMethod, "Resample.resample_method")
        check.positive_int(lowpass_filter_width, "Resample.lowpass_filter_width")
        check.of_type(rolloff, float, "Resample.rolloff")
        check.within(rolloff, 0, 1.0, "Resample.rolloff", above=True)
        if beta is not None:
            check.number(beta, "Resample.beta")
        self.orig_freq = orig_freq
        self.new_freq = new_freq
        self.resample_method = resample_method
        self.lowpass_filter_width = lowpass_filter_width
        self.rolloff = rolloff
        self.beta = 14.769656459379492 if beta is None else float(beta)

    def _run(self, signal: np.ndarray) -> np.ndarray:
        old, new = int(self.orig_freq), int(self.new_freq)
        if old == new:
            return signal
        shared = math.gcd(old, new)
        old, new = old // shared, new // shared
        kaiser = self.resample_method == ResampleMethod.KAISER_WINDOW
        kernel, reach = _kernel(
            old, new, self.lowpass_filter_width, self.rolloff, kaiser, self.beta
        )
        length = signal.shape[-1]
        around = [(0, 0)] * (signal.ndim - 1) + [(reach, reach + old)]
        wide = np.pad(signal, around)
        frames = np.lib.stride_tricks.sliding_window_view(wide, kernel.shape[1], -1)[..., ::old, :]
        done = frames @ kernel.T
        done = done.reshape(*signal.shape[:-1], -1)[..., : math.ceil(new * length / old)]
        return done.astype(signal.dtype)


class ComputeDeltas(AudioTensorOperation):
    """The slopes of features along time, by regression.

    Args:
        win_length: over how many frames, at least 3.
        pad_mode: what lies outside.

    Raises:
        TypeError: one is of another kind.
        ValueError: `win_length` is below 3.
    """

    axes = 2

    def __init__(self, win_length: int = 5, pad_mode: BorderType = BorderType.EDGE) -> None:
        check.of_type(pad_mode, BorderType, "ComputeDeltas.pad_mode")
        check.of_type(win_length, int, "ComputeDeltas.win_length")
        check.within(win_length, 3, check.INT32_MAX, "ComputeDeltas.win_length")
        self.win_length = win_length
        self.pad_mode = pad_mode

    def _run(self, signal: np.ndarray) -> np.ndarray:
        n = (self.win_length - 1) // 2
        around = [(0, 0)] * (signal.ndim - 1) + [(n, n)]
        wide = np.pad(signal, around, mode=self.pad_mode.value)  # type: ignore[call-overload]
        frames = np.lib.stride_tricks.sliding_window_view(wide, 2 * n + 1, -1)
        slopes = frames @ np.arange(-n, n + 1) / (n * (n + 1) * (2 * n + 1) / 3)
        return slopes.astype(signal.dtype)


class SlidingWindowCmn(AudioTensorOperation):
    """Features (…, frames, features) less their moving mean.

    Args:
        cmn_window: of the mean, in frames.
        min_cmn_window: of the first means, in frames.
        center: True: the window is about the frame; False: before it.
        norm_vars: True: divided by the moving deviation, too.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    axes = 2

    def __init__(
        self,
        cmn_window: int = 600,
        min_cmn_window: int = 100,
        center: bool = False,
        norm_vars: bool = False,
    ) -> None:
        check.positive_int(cmn_window, "SlidingWindowCmn.cmn_window")
        check.positive_int(min_cmn_window, "SlidingWindowCmn.min_cmn_window")
        check.flag(center, "SlidingWindowCmn.center")
        check.flag(norm_vars, "SlidingWindowCmn.norm_vars")
        self.cmn_window = cmn_window
        self.min_cmn_window = min_cmn_window
        self.center = center
        self.norm_vars = norm_vars

    def _window(self, at: int, count: int) -> tuple[int, int]:
        if self.center:
            start = at - self.cmn_window // 2
            end = start + self.cmn_window
        else:
            start, end = at - self.cmn_window, at + 1
        if start < 0:
            start, end = 0, end - start
        if not self.center and end > at:
            end = max(at + 1, self.min_cmn_window)
        if end > count:
            start, end = max(start - (end - count), 0), count
        return start, end

    def _run(self, signal: np.ndarray) -> np.ndarray:
        values = signal.astype(np.float64)
        count = values.shape[-2]
        zero = np.zeros_like(values[..., :1, :])
        sums = np.concatenate([zero, np.cumsum(values, -2)], -2)
        squares = np.concatenate([zero, np.cumsum(values**2, -2)], -2)
        bounds = np.array([self._window(t, count) for t in range(count)])
        start, end = bounds[:, 0], bounds[:, 1]
        size = (end - start)[:, None]
        mean = (sums[..., end, :] - sums[..., start, :]) / size
        done = values - mean
        if self.norm_vars:
            spread = (squares[..., end, :] - squares[..., start, :]) / size - mean**2
            scale = 1 / np.sqrt(np.where(spread > 0, spread, 1.0))
            done = np.where(size == 1, 0.0, done * scale)
        return done.astype(signal.dtype)
