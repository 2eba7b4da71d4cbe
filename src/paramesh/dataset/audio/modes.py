"""The choices that arguments of audio transforms take, with MindSpore's names."""

from __future__ import annotations

import enum

__all__ = [
    "BorderType",
    "DensityFunction",
    "FadeShape",
    "GainType",
    "MelType",
    "NormMode",
    "NormType",
    "ResampleMethod",
    "ScaleType",
    "WindowType",
]


class BorderType(enum.StrEnum):
    """What lies outside of a signal."""

    CONSTANT = "constant"
    EDGE = "edge"
    REFLECT = "reflect"
    SYMMETRIC = "symmetric"


class DensityFunction(enum.StrEnum):
    """How dither is distributed: triangular, rectangular, Gaussian."""

    TPDF = "TPDF"
    RPDF = "RPDF"
    GPDF = "GPDF"


class FadeShape(enum.StrEnum):
    """The curve of a fade."""

    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    LOGARITHMIC = "logarithmic"
    QUARTER_SINE = "quarter_sine"
    HALF_SINE = "half_sine"


class GainType(enum.StrEnum):
    """What a gain multiplies, or decibels."""

    AMPLITUDE = "amplitude"
    DB = "db"
    POWER = "power"


class MelType(enum.StrEnum):
    """The formula of the mel scale."""

    HTK = "htk"
    SLANEY = "slaney"


class NormMode(enum.StrEnum):
    """The norm of a cosine transform."""

    NONE = "none"
    ORTHO = "ortho"


class NormType(enum.StrEnum):
    """The norm of mel filters."""

    NONE = "none"
    SLANEY = "slaney"


class ResampleMethod(enum.StrEnum):
    """The window of a resampling filter."""

    SINC_INTERPOLATION = "sinc_interpolation"
    KAISER_WINDOW = "kaiser_window"


class ScaleType(enum.StrEnum):
    """What a spectrogram holds."""

    MAGNITUDE = "magnitude"
    POWER = "power"


class WindowType(enum.StrEnum):
    """The window of a short-time Fourier transform."""

    BARTLETT = "bartlett"
    BLACKMAN = "blackman"
    HAMMING = "hamming"
    HANN = "hann"
    KAISER = "kaiser"
