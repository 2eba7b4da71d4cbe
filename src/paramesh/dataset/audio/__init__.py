"""Transforms of audio, by the names of MindSpore's `dataset.audio`, over numpy and scipy.

| file | what |
|---|---|
| `effects` | volume, fades, companding, distortion |
| `filters` | recursive filters |
| `fourier` | short-time Fourier transforms |
| `frames` | resampling, differences, moving norms |
| `magnitudes` | magnitudes, angles, dB |
| `masking` | SpecAugment |
| `mels` | filter banks and cepstra |
| `modes` | the enums |
| `pitch` | the pitch, changed |
| `spectra` | spectrograms and their inverses |
| `vocoding` | spectrograms, faster or slower |
| `waveforms` | what a transform is given |
"""

from paramesh import lazy_names
from paramesh.dataset.audio.effects import (
    Contrast,
    DCShift,
    Dither,
    Fade,
    Gain,
    MuLawDecoding,
    MuLawEncoding,
    Overdrive,
    Vol,
)
from paramesh.dataset.audio.filters import (
    AllpassBiquad,
    BandBiquad,
    BandpassBiquad,
    BandrejectBiquad,
    BassBiquad,
    Biquad,
    DeemphBiquad,
    EqualizerBiquad,
    Filtfilt,
    HighpassBiquad,
    LFilter,
    LowpassBiquad,
    RiaaBiquad,
    TrebleBiquad,
)
from paramesh.dataset.audio.frames import ComputeDeltas, Resample, SlidingWindowCmn
from paramesh.dataset.audio.magnitudes import (
    AmplitudeToDB,
    Angle,
    ComplexNorm,
    DBToAmplitude,
    Magphase,
)
from paramesh.dataset.audio.masking import (
    FrequencyMasking,
    MaskAlongAxis,
    MaskAlongAxisIID,
    TimeMasking,
)
from paramesh.dataset.audio.mels import (
    LFCC,
    MFCC,
    InverseMelScale,
    MelScale,
    MelSpectrogram,
    create_dct,
    linear_fbanks,
    melscale_fbanks,
)
from paramesh.dataset.audio.modes import (
    BorderType,
    DensityFunction,
    FadeShape,
    GainType,
    MelType,
    NormMode,
    NormType,
    ResampleMethod,
    ScaleType,
    WindowType,
)
from paramesh.dataset.audio.pitch import PitchShift
from paramesh.dataset.audio.spectra import (
    GriffinLim,
    InverseSpectrogram,
    SpectralCentroid,
    Spectrogram,
)
from paramesh.dataset.audio.vocoding import PhaseVocoder, TimeStretch

__all__ = [
    "AllpassBiquad",
    "AmplitudeToDB",
    "Angle",
    "BandBiquad",
    "BandpassBiquad",
    "BandrejectBiquad",
    "BassBiquad",
    "Biquad",
    "BorderType",
    "ComplexNorm",
    "ComputeDeltas",
    "Contrast",
    "DBToAmplitude",
    "DCShift",
    "DeemphBiquad",
    "DensityFunction",
    "Dither",
    "EqualizerBiquad",
    "Fade",
    "FadeShape",
    "Filtfilt",
    "FrequencyMasking",
    "Gain",
    "GainType",
    "GriffinLim",
    "HighpassBiquad",
    "InverseMelScale",
    "InverseSpectrogram",
    "LFCC",
    "LFilter",
    "LowpassBiquad",
    "MFCC",
    "Magphase",
    "MaskAlongAxis",
    "MaskAlongAxisIID",
    "MelScale",
    "MelSpectrogram",
    "MelType",
    "MuLawDecoding",
    "MuLawEncoding",
    "NormMode",
    "NormType",
    "Overdrive",
    "PhaseVocoder",
    "PitchShift",
    "Resample",
    "ResampleMethod",
    "RiaaBiquad",
    "ScaleType",
    "SlidingWindowCmn",
    "SpectralCentroid",
    "Spectrogram",
    "TimeMasking",
    "TimeStretch",
    "TrebleBiquad",
    "Vol",
    "WindowType",
    "create_dct",
    "linear_fbanks",
    "melscale_fbanks",
]

__getattr__ = lazy_names.opened(__name__, {}, lambda: __all__)
