"""The transforms that are compared with recordings of MindSpore: expressions, and their inputs.

`tests/golden/transforms/record.py` evaluates the same table with MindSpore. In an expression `V`,
`T`, `X` and `A` are `dataset.vision`, `.transforms`, `.text` and `.audio`, `ms` the package, `np`
numpy.
"""

from __future__ import annotations

import functools
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

GOLDEN = Path(__file__).parent.parent / "golden" / "transforms"

#: Transforms of images whose result is the same every time: (expression, inputs).
VISION: list[tuple[str, str]] = []

#: Of the calls that have chance in them, those whose parameters leave none.
FORCED: list[tuple[str, str]] = []


def _add(table: list[tuple[str, str]], inputs: str, *expressions: str) -> None:
    table.extend((e, i) for e in expressions for i in inputs.split())


_add(VISION, "jpeg jpeg_gray png png_alpha png_palette", "V.Decode()")
_add(VISION, "jpeg", "V.Decode(to_pil=True)")
_add(
    VISION,
    "rgb gray1",
    *(
        f"V.Resize({size}, V.Inter.{i})"
        for size in ("20", "(12, 31)", "(40, 49)")
        for i in ("NEAREST", "LINEAR", "CUBIC", "AREA")
    ),
)
_add(VISION, "tiny", *(f"V.Resize(7, V.Inter.{i})" for i in ("LINEAR", "CUBIC", "AREA")))
_add(VISION, "even", "V.Resize((16, 24))", "V.Resize((8, 12), V.Inter.AREA)")
_add(VISION, "rgb", "V.Resize((20, 31), V.Inter.PILCUBIC)", "V.Resize((50, 60), V.Inter.PILCUBIC)")
_add(
    VISION,
    "floats",
    *(f"V.Resize((20, 31), V.Inter.{i})" for i in ("NEAREST", "LINEAR", "CUBIC", "AREA")),
)
_add(
    VISION,
    "pil pil_gray",
    "V.Resize(20)",
    *(f"V.Resize((20, 31), V.Inter.{i})" for i in ("NEAREST", "LINEAR", "CUBIC", "ANTIALIAS")),
)
_add(VISION, "patch floats patch_gray", "V.Rescale(1.0 / 255.0, 0.0)", "V.Rescale(2.0, -1.0)")
_add(VISION, "patch floats", "V.Normalize([121.0, 115.0, 100.0], [70.0, 68.0, 71.0])")
_add(VISION, "patch patch_gray", "V.Normalize([0.4], [0.2])")
_add(VISION, "chw", "V.Normalize([0.1, 0.2, 0.3], [0.5, 0.6, 0.7], is_hwc=False)")
_add(
    VISION,
    "patch floats",
    "V.NormalizePad([121.0, 115.0, 100.0], [70.0, 68.0, 71.0])",
    "V.NormalizePad([121.0, 115.0, 100.0], [70.0, 68.0, 71.0], 'float16')",
)
_add(VISION, "chw", "V.NormalizePad([0.1, 0.2, 0.3], [0.5, 0.6, 0.7], is_hwc=False)")
_add(
    VISION, "patch patch_gray gray1 floats", "V.HWC2CHW()", "V.ToTensor()", "V.ToTensor(np.float64)"
)
_add(
    VISION,
    "small_pil small_pil_gray",
    "V.ToTensor()",
    "V.ToNumpy()",
    "V.Grayscale()",
    "V.Grayscale(3)",
)
_add(VISION, "patch", "V.ToPIL()", "V.ToType(np.float32)", "V.ToType(ms.int16)")
_add(
    VISION,
    "rgb gray pil pil_gray",
    "V.CenterCrop(20)",
    "V.CenterCrop((21, 18))",
    "V.CenterCrop((40, 60))",
    "V.CenterCrop((40, 20))",
    *(
        f"V.Pad({p}, {f}, V.Border.{b})"
        for p, f, b in (
            ("3", "0", "CONSTANT"),
            ("(1, 2)", "7", "CONSTANT"),
            ("(1, 2, 3, 4)", "(10, 20, 30)", "CONSTANT"),
            ("(1, 2, 3, 4)", "0", "EDGE"),
            ("(1, 2, 3, 4)", "0", "REFLECT"),
            ("(1, 2, 3, 4)", "0", "SYMMETRIC"),
        )
    ),
)
_add(
    VISION,
    "rgb gray",
    "V.PadToSize((50, 61), None, 5)",
    "V.PadToSize(60, (2, 3), (1, 2, 3), V.Border.EDGE)",
)
_add(
    VISION,
    "rgb gray",
    "V.Crop((3, 4), (10, 12))",
    "V.Crop((0, 0), 5)",
    "V.HorizontalFlip()",
    "V.VerticalFlip()",
)
_add(
    VISION,
    "rgb",
    "V.ResizedCrop(2, 3, 20, 25, (16, 17))",
    "V.ResizedCrop(0, 0, 9, 9, 20, V.Inter.NEAREST)",
)
_add(VISION, "pil", "V.FiveCrop(12)", "V.TenCrop((9, 11))", "V.TenCrop(8, use_vertical_flip=True)")
_add(
    VISION,
    "rgb pil",
    *(
        f"V.Adjust{n}({f})"
        for n in ("Brightness", "Contrast", "Saturation")
        for f in ("0.0", "0.6", "1.7")
    ),
    *(f"V.AdjustHue({f})" for f in ("-0.5", "-0.1", "0.0", "0.2", "0.5")),
    "V.AdjustGamma(0.5)",
    "V.AdjustGamma(2.2, 1.3)",
    "V.Invert()",
    "V.Equalize()",
    "V.AutoContrast()",
    "V.AutoContrast(10.0, [0, 30])",
)
_add(
    VISION,
    "floats",
    "V.AdjustGamma(0.5)",
    "V.AdjustBrightness(0.6)",
    "V.AdjustContrast(0.6)",
    "V.AdjustSaturation(1.7)",
)
_add(VISION, "gray", "V.AdjustGamma(2.0)", "V.Equalize()", "V.AutoContrast(5.0)", "V.Invert()")
_add(
    VISION,
    "rgb",
    *(f"V.AdjustSharpness({f})" for f in ("0.0", "0.5", "2.5")),
    *(f"V.Posterize({b})" for b in (0, 1, 4, 8)),
    "V.Solarize(128)",
    "V.Solarize((50, 150))",
    "V.Solarize((0, 255))",
    *(f"V.GaussianBlur({k})" for k in ("3", "5", "(3, 5), (1.0, 2.0)", "5, 1.5", "7, 3", "1")),
    *(
        f"V.ConvertColor(V.ConvertMode.COLOR_{m})"
        for m in ("RGB2BGR", "RGB2GRAY", "BGR2GRAY", "RGB2RGBA", "RGB2BGRA")
    ),
)
_add(
    VISION,
    "rgba",
    *(
        f"V.ConvertColor(V.ConvertMode.COLOR_{m})"
        for m in ("RGBA2RGB", "RGBA2BGR", "RGBA2BGRA", "RGBA2GRAY", "BGRA2GRAY")
    ),
)
_add(
    VISION,
    "gray",
    "V.ConvertColor(V.ConvertMode.COLOR_GRAY2RGB)",
    "V.ConvertColor(V.ConvertMode.COLOR_GRAY2RGBA)",
    "V.Solarize(100)",
    "V.Posterize(3)",
    "V.GaussianBlur(3)",
    "V.AdjustSharpness(2.0)",
)
_add(VISION, "unit", "V.RgbToHsv(is_hwc=True)", "V.HsvToRgb(is_hwc=True)")
_add(VISION, "chw", "V.RgbToHsv()", "V.HsvToRgb()")
_WARPS = (
    "30.0, (0.1, 0.2), 1.1, (5.0, 3.0)",
    "-75, (0.0, 0.0), 0.7, 0.0",
    "0, (0.1, -0.1), 1.0, (0, 0)",
)
_add(
    VISION,
    "rgb gray",
    *(f"V.Affine({w}, V.Inter.{i}, 9)" for w in _WARPS for i in ("NEAREST", "LINEAR", "CUBIC")),
)
_add(
    VISION,
    "rgb",
    *(
        f"V.Rotate({d}, V.Inter.{i})"
        for d in ("90", "33.3", "-20", "180")
        for i in ("NEAREST", "LINEAR", "CUBIC")
    ),
    "V.Rotate(30, V.Inter.LINEAR, True)",
    "V.Rotate(90, V.Inter.NEAREST, True, None, (10, 20, 30))",
    "V.Rotate(45, V.Inter.NEAREST, False, (10, 12), (10, 20, 30))",
)
_add(VISION, "gray", "V.Rotate(33.3, V.Inter.LINEAR)", "V.Rotate(33.3, V.Inter.NEAREST, True)")
_CORNERS = "[[0, 0], [46, 0], [46, 32], [0, 32]], [[3, 2], [40, 5], [44, 30], [2, 28]]"
_add(
    VISION,
    "rgb",
    *(f"V.Perspective({_CORNERS}, V.Inter.{i})" for i in ("NEAREST", "LINEAR", "CUBIC")),
)
_add(
    VISION,
    "pil",
    *(f"V.Perspective({_CORNERS}, V.Inter.{i})" for i in ("NEAREST", "LINEAR", "CUBIC")),
)
_add(
    VISION,
    "rgb gray",
    "V.SlicePatches(2, 3)",
    "V.SlicePatches(2, 3, V.SliceMode.DROP)",
    "V.SlicePatches(2, 3, V.SliceMode.PAD, 9)",
)
_add(
    VISION,
    "rgb",
    "V.Erase(2, 3, 10, 12, 7)",
    "V.Erase(2, 3, 10, 12, (1, 2, 3))",
    "V.Erase(30, 40, 10, 12, (1, 2, 3))",
)
_add(VISION, "small", "V.LinearTransformation(np.eye(48) * 2 + 1, np.arange(48.0))")

_add(
    FORCED,
    "rgb pil",
    *(f"V.{n}({p})" for n in ("RandomHorizontalFlip", "RandomVerticalFlip") for p in (0, 1)),
)
_add(
    FORCED,
    "rgb gray pil pil_gray",
    "V.RandomCrop((33, 47))",
    "V.RandomCrop((33, 47), None, True, 3)",
)
_add(
    FORCED,
    "rgb gray pil",
    "V.RandomCrop((37, 53), (3, 2))",
)
_add(FORCED, "rgb pil", "V.RandomCrop((39, 51), (1, 2, 3, 4), True, (1, 2, 3), V.Border.EDGE)")
_add(
    FORCED,
    "rgb",
    "V.RandomColorAdjust((0.6, 0.6))",
    "V.RandomColorAdjust((1, 1), (1.7, 1.7))",
    "V.RandomColorAdjust((1, 1), (1, 1), (0.3, 0.3))",
    "V.RandomColorAdjust((1, 1), (1, 1), (1, 1), (0.2, 0.2))",
    "V.RandomColor((0.3, 0.3))",
    "V.RandomSharpness((2.0, 2.0))",
    "V.RandomSharpness((0.2, 0.2))",
    "V.RandomAffine((30, 30), None, (1.1, 1.1))",
    "V.RandomAffine((0, 0), None, (1, 1), (5, 5, 3, 3), V.Inter.LINEAR, 4)",
    "V.RandomRotation((33, 33), V.Inter.LINEAR)",
    "V.RandomRotation((20, 20), V.Inter.NEAREST, True)",
    "V.RandomPosterize((3, 3))",
    "V.RandomPosterize(4)",
    "V.RandomSolarize((50, 50))",
    "V.RandomInvert(1)",
    "V.RandomEqualize(1)",
    "V.RandomAutoContrast(5.0, [3], 1)",
    "V.RandomAdjustSharpness(2.0, 1)",
    "V.RandomLighting(0.0)",
    "V.RandomResizedCrop((20, 21), (1, 1), (47 / 33, 47 / 33))",
    "T.RandomApply([V.Invert()], 1)",
    "T.RandomApply([V.Invert()], 0)",
    "T.RandomChoice([V.Invert()])",
)
_add(
    FORCED,
    "pil",
    "V.RandomColor((0.3, 0.3))",
    "V.RandomSharpness((2.0, 2.0))",
    "V.RandomRotation((33, 33), V.Inter.LINEAR)",
    "V.RandomRotation((20, 20), V.Inter.NEAREST, True)",
    "V.RandomColorAdjust((1, 1), (1, 1), (1, 1), (0.2, 0.2))",
    "V.RandomAffine((30, 30), None, (1.1, 1.1))",
    "V.RandomAffine((0, 0), None, (1, 1), (5, 5, 3, 3), V.Inter.LINEAR, 4)",
    "V.RandomGrayscale(1.0)",
    "V.RandomGrayscale(0.0)",
    "V.RandomPerspective(0.0, 1.0)",
    "V.RandomResizedCrop((20, 21), (1, 1), (47 / 33, 47 / 33))",
    "V.RandomLighting(0.0)",
)
_add(FORCED, "jpeg", "V.RandomCropDecodeResize((20, 21), (1, 1), (47 / 33, 47 / 33))")
_add(FORCED, "chw", "V.RandomErasing(0.0)")
_add(
    FORCED,
    "rgb,boxes",
    "V.RandomHorizontalFlipWithBBox(1)",
    "V.RandomVerticalFlipWithBBox(1)",
    "V.ResizeWithBBox(20)",
    "V.ResizeWithBBox((20, 31), V.Inter.LINEAR)",
    "V.RandomCropWithBBox((33, 47))",
    "V.RandomCropWithBBox((37, 53), (3, 2))",
    "V.RandomResizedCropWithBBox((20, 21), (1, 1), (47 / 33, 47 / 33))",
    "V.BoundingBoxAugment(V.HorizontalFlip(), 1.0)",
)

#: Transforms of other columns.
COLUMNS: list[tuple[str, str]] = []
_add(COLUMNS, "label", "T.OneHot(5)", "T.OneHot(5, 0.1)")
_add(
    COLUMNS,
    "ints",
    "T.OneHot(5)",
    "T.OneHot(5, 0.25)",
    "T.Fill(3)",
    "T.Fill(3.5)",
    "T.PadEnd([5], -1)",
    "T.PadEnd([2], -1)",
    "T.PadEnd([4])",
    "T.Duplicate()",
    "T.Mask(T.Relational.GT, 1)",
    "T.Mask(T.Relational.EQ, 2, ms.int16)",
    "T.Mask(T.Relational.LT, 1.5)",
    "T.Slice(0)",
    "T.Slice([0, 2])",
    "T.Slice(slice(1, 3))",
    "T.Slice(None)",
    "T.Slice(...)",
    "T.Slice(-1)",
    "T.Slice(slice(2, 9))",
    "T.Unique()",
    "T.TypeCast(ms.float16)",
    "T.TypeCast('bool')",
    "T.TypeCast(int)",
    "T.Concatenate(0, np.array([9], np.int32), np.array([7], np.int32))",
    "T.Compose([T.TypeCast(ms.int8)])",
    "T.Compose([T.Duplicate()])",
)
_add(COLUMNS, "ints,ints", "T.Concatenate()")
_add(COLUMNS, "column", "T.OneHot(5)")
_add(
    COLUMNS,
    "doubles",
    "T.TypeCast(np.int8)",
    "T.TypeCast(ms.uint8)",
    "T.TypeCast(ms.int32)",
    "T.Fill(True)",
)
_add(
    COLUMNS,
    "words",
    "T.Fill('x')",
    "T.PadEnd([4], 'z')",
    "T.PadEnd([4])",
    "T.Mask(T.Relational.LT, 'b')",
)
_add(
    COLUMNS,
    "table",
    "T.Slice(slice(0, 2), [0])",
    "T.Slice([0, 1], [0, 1])",
    "T.PadEnd([4, 3], 1)",
    "T.Unique()",
)

_VOCAB = "X.Vocab.from_list(['a', 'b', '中'], ['<pad>', '[UNK]'])"
#: A Vocab of subwords.
PIECES = (
    "X.Vocab.from_list(['un', '##aff', '##able', 'want', '##ed', '[UNK]', 'the', '北', '京', '!'])"
)

#: Transforms of strings.
TEXT: list[tuple[str, str]] = []
_add(
    TEXT,
    "tokens",
    f"X.Lookup({_VOCAB}, '[UNK]')",
    f"X.Lookup({_VOCAB}, '[UNK]', ms.int64)",
    f"X.Lookup({_VOCAB})",
    "X.Ngram(2)",
    "X.Ngram([1, 2, 3], ('<', 2), ('>', 1), '-')",
    "X.Ngram(5)",
    "X.Ngram([5, 1])",
    "X.SlidingWindow(2)",
    "X.Truncate(2)",
    "X.Truncate(5)",
    "X.AddToken('T')",
    "X.AddToken('TTTT', False)",
    "X.CaseFold()",
)
_add(TEXT, "ints", "X.SlidingWindow(2, -1)", "X.SlidingWindow(9)", "X.Truncate(2)")
_add(
    TEXT,
    "digits",
    *(f"X.ToNumber(ms.{t})" for t in ("int8", "int32", "uint8", "float16", "float64")),
)
_add(TEXT, "ints,ints", *(f"X.TruncateSequencePair({n})" for n in (0, 3, 4, 5, 9)))
_add(
    TEXT,
    "line empty",
    "X.UnicodeCharTokenizer(True)",
    "X.WhitespaceTokenizer()",
    "X.WhitespaceTokenizer(True)",
    "X.UnicodeScriptTokenizer(True, True)",
    "X.UnicodeScriptTokenizer()",
    "X.BasicTokenizer()",
    "X.BasicTokenizer(False, True, X.NormalizeForm.NFKC, True, True)",
    "X.BasicTokenizer(True, True)",
    "X.BasicTokenizer(False, False, X.NormalizeForm.NFKD, False)",
    "X.BasicTokenizer(True, False, X.NormalizeForm.NFKD, False)",
    "X.CaseFold()",
    "X.NormalizeUTF8()",
    "X.NormalizeUTF8(X.NormalizeForm.NFD)",
    "X.NormalizeUTF8(X.NormalizeForm.NONE)",
    "X.RegexReplace('[aeiou]', '*')",
    "X.RegexReplace('(e)(l)', '$2$1', False)",
    r"X.RegexTokenizer('\\s+')",
    r"X.RegexTokenizer('\\s+', '\\s+', True)",
    f"X.BertTokenizer({PIECES})",
    f"X.BertTokenizer({PIECES}, lower_case=True, with_offsets=True)",
    "X.PythonTokenizer(lambda text: text.split('e'))",
)
_add(
    TEXT,
    "subwords",
    f"X.WordpieceTokenizer({PIECES})",
    f"X.WordpieceTokenizer({PIECES}, with_offsets=True)",
    f"X.WordpieceTokenizer({PIECES}, '##', 5, '')",
    f"X.WordpieceTokenizer({PIECES}, '##', 5)",
)
_add(TEXT, "encoded", "X.to_str")
_add(TEXT, "words", "X.to_bytes")

_MELS = (
    "{'n_fft': 64, 'win_length': 64, 'hop_length': 32, 'f_min': 0.0, 'f_max': 8000.0, 'pad': 0, "
    "'n_mels': 8, 'window': A.WindowType.HANN, 'power': 2.0, 'normalized': False, 'center': True, "
    "'pad_mode': A.BorderType.REFLECT, 'onesided': True, 'norm': A.NormType.NONE, "
    "'mel_scale': A.MelType.HTK}"
)
_SPECTRUM = (
    "{'n_fft': 64, 'win_length': 64, 'hop_length': 32, 'pad': 0, 'window': A.WindowType.HANN, "
    "'power': 2.0, 'normalized': False, 'center': True, 'pad_mode': A.BorderType.REFLECT, "
    "'onesided': True}"
)

#: Transforms of audio.
AUDIO: list[tuple[str, str]] = []
_add(
    AUDIO,
    "wave waves",
    "A.AllpassBiquad(16000, 200.0)",
    "A.BandBiquad(16000, 200.0)",
    "A.BandBiquad(16000, 200.0, 0.5, True)",
    "A.BandpassBiquad(16000, 200.0)",
    "A.BandpassBiquad(16000, 200.0, 0.5, True)",
    "A.BandrejectBiquad(16000, 200.0)",
    "A.BassBiquad(16000, 5.0)",
    "A.Biquad(0.1, 0.2, 0.3, 1.0, 0.1, 0.2)",
    "A.DeemphBiquad(44100)",
    "A.EqualizerBiquad(16000, 500.0, 3.0)",
    "A.HighpassBiquad(16000, 500.0)",
    "A.LowpassBiquad(16000, 500.0, 0.5)",
    "A.RiaaBiquad(44100)",
    "A.TrebleBiquad(16000, 5.0)",
    "A.LFilter([1.0, 0.2], [0.5, 0.3])",
    "A.Filtfilt([1.0, 0.2], [0.5, 0.3])",
    "A.Gain(3.0)",
    "A.Vol(1.5)",
    "A.Vol(3.0, A.GainType.DB)",
    "A.Vol(2.0, A.GainType.POWER)",
    "A.DCShift(0.3)",
    "A.DCShift(0.5, 0.02)",
    "A.DCShift(-0.5, 0.02)",
    "A.Contrast(50.0)",
    "A.Overdrive(10.0, 30.0)",
    *(
        f"A.Fade(10, 20, A.FadeShape.{s})"
        for s in ("LINEAR", "EXPONENTIAL", "LOGARITHMIC", "QUARTER_SINE", "HALF_SINE")
    ),
    "A.MuLawEncoding()",
    "A.Resample(16000, 8000)",
    "A.Resample(8000, 11025)",
    "A.Resample(16000, 8000, A.ResampleMethod.KAISER_WINDOW, 6, 0.9, 10.0)",
    "A.Spectrogram(32)",
    "A.Spectrogram(32, 24, 10, 3, A.WindowType.HAMMING, 1.0, True)",
    "A.Spectrogram(32, 32, 16, 0, A.WindowType.BLACKMAN, 2.0, False, False)",
    "A.Spectrogram(32, 32, 16, 0, A.WindowType.BARTLETT, 2.0, False, True, A.BorderType.CONSTANT)",
    "A.Spectrogram(32, 32, 16, 0, A.WindowType.KAISER, 2.0, False, True, A.BorderType.EDGE, False)",
    "A.Spectrogram(32, power=0.0)",
    "A.MelSpectrogram(16000, 64, n_mels=8)",
    "A.MelSpectrogram(16000, 64, 40, 20, 50.0, 6000.0, 0, 8, norm=A.NormType.SLANEY, "
    "mel_scale=A.MelType.SLANEY)",
    f"A.MFCC(16000, 6, melkwargs={_MELS})",
    f"A.MFCC(16000, 6, 2, A.NormMode.NONE, True, {_MELS})",
    f"A.LFCC(16000, 8, 6, speckwargs={_SPECTRUM})",
    "A.SpectralCentroid(16000, 32)",
    "A.ComputeDeltas()",
    "A.PitchShift(16000, 2, 12, 32)",
    "A.PitchShift(16000, -5, 12, 32, 24, 6)",
)
_add(AUDIO, "codes", "A.MuLawDecoding()")
_add(
    AUDIO,
    "spectrum",
    "A.AmplitudeToDB()",
    "A.AmplitudeToDB(A.ScaleType.MAGNITUDE, 0.5, 1e-5, 20.0)",
    "A.DBToAmplitude(0.5, 0.5)",
    "A.MelScale(6, 16000, n_stft=17)",
    "A.MelScale(6, 16000, 100.0, 7000.0, 17, A.NormType.SLANEY, A.MelType.SLANEY)",
    "A.FrequencyMasking(False, 3, 5)",
    "A.TimeMasking(False, 2, 1, 0.5)",
    "A.FrequencyMasking(True, 0)",
    "A.MaskAlongAxis(2, 4, 9.0, 1)",
    "A.MaskAlongAxis(2, 4, 9.0, 2)",
    "A.ComputeDeltas(7, A.BorderType.REFLECT)",
    "A.SlidingWindowCmn(5, 3)",
    "A.SlidingWindowCmn(5, 3, True, True)",
    "A.GriffinLim(32, 4, power=1.0, rand_init=False)",
)
_add(
    AUDIO,
    "complex",
    "A.Angle()",
    "A.ComplexNorm()",
    "A.ComplexNorm(2.0)",
    "A.Magphase(2.0)",
    "A.InverseSpectrogram(None, 32)",
    "A.InverseSpectrogram(50, 32, 24, 8)",
    "A.TimeStretch(16, 17, 1.3)",
    "A.PhaseVocoder(0.8, np.arange(17.0, dtype=np.float32)[:, None])",
)

#: Transforms with chance in them: `DRAWS` results of each are compared as samples.
RANDOM: list[tuple[str, str]] = []
DRAWS = 300
_add(
    RANDOM,
    "tiny",
    "V.RandomHorizontalFlip(0.3)",
    "V.RandomVerticalFlip(0.7)",
    "V.RandomCrop(7)",
    "V.RandomCrop(9, 3, False, 9)",
    "V.RandomCrop((16, 20), None, True)",
    "V.RandomResizedCrop(8)",
    "V.RandomResizedCrop((6, 9), (0.2, 0.5), (0.9, 1.1), V.Inter.NEAREST)",
    "V.RandomResizedCrop(8, (2.0, 3.0), (0.5, 0.6))",
    "V.RandomResize(7)",
    "V.RandomColorAdjust(0.4)",
    "V.RandomColorAdjust((1, 1), (0.2, 1.8), (0.0, 2.0))",
    "V.RandomColorAdjust(0.4, 0.4, 0.4, 0.1)",
    "V.RandomColor((0.1, 1.9))",
    "V.RandomSharpness((0.1, 1.9))",
    "V.RandomRotation(40, V.Inter.LINEAR)",
    "V.RandomRotation((10, 100))",
    "V.RandomAffine(20, (-0.2, 0.3, -0.1, 0.1), (0.7, 1.4), 10)",
    "V.RandomAffine((5, 10), (-0.2, 0.3))",
    "V.RandomPosterize((1, 6))",
    "V.RandomSolarize((20, 200))",
    "V.RandomInvert(0.4)",
    "V.RandomEqualize(0.4)",
    "V.RandomAutoContrast(10.0, [3], 0.4)",
    "V.RandomAdjustSharpness(2.0, 0.4)",
    "V.RandomLighting(0.5)",
    "V.CutOut(5, 2)",
    "V.UniformAugment([V.Invert(), V.VerticalFlip(), V.AdjustBrightness(0.5)], 2)",
    "V.RandomSelectSubpolicy([[(V.Invert(), 0.5), (V.VerticalFlip(), 1)], "
    "[(V.HorizontalFlip(), 0.2)]])",
    "V.AutoAugment()",
    "V.AutoAugment(V.AutoAugmentPolicy.CIFAR10)",
    "V.AutoAugment(V.AutoAugmentPolicy.SVHN)",
    "V.RandAugment()",
    "V.TrivialAugmentWide()",
    "T.RandomApply([V.Invert()], 0.3)",
    "T.RandomChoice([V.Invert(), V.VerticalFlip(), V.HorizontalFlip()])",
)
_add(
    RANDOM,
    "tiny_pil",
    "V.RandomHorizontalFlip(0.3)",
    "V.RandomCrop(9, 3, False, 9)",
    "V.RandomResizedCrop(8)",
    "V.RandomColorAdjust(0.4, 0.4, 0.4, 0.1)",
    "V.RandomColor((0.1, 1.9))",
    "V.RandomSharpness((0.1, 1.9))",
    "V.RandomRotation(40, V.Inter.LINEAR)",
    "V.RandomAffine(20, (0.2, 0.3), (0.7, 1.4), 10)",
    "V.RandomPerspective(0.6, 0.7)",
    "V.RandomGrayscale(0.4)",
    "V.RandomLighting(0.5)",
    "T.RandomOrder([V.AdjustBrightness(0.5), V.AdjustContrast(2.0), V.Invert()])",
)
_add(RANDOM, "tiny_jpeg", "V.RandomCropDecodeResize(8)")
_add(
    RANDOM,
    "tiny_chw",
    "V.RandomErasing(0.6)",
    "V.RandomErasing(1.0, (0.1, 0.5), (0.5, 2), (9, 8, 7))",
)
_add(RANDOM, "tinies,hot", "V.MixUpBatch(0.7)", "V.MixUp(6, 0.7)")
_add(RANDOM, "tinies,hot", "V.CutMixBatch(V.ImageBatchFormat.NHWC, 0.7, 0.8)")
_add(
    RANDOM,
    "tiny,tiny_boxes",
    "V.RandomHorizontalFlipWithBBox(0.3)",
    "V.RandomCropWithBBox(7)",
    "V.RandomResizedCropWithBBox(8)",
    "V.RandomResizeWithBBox(7)",
    "V.BoundingBoxAugment(V.Invert(), 0.4)",
)
_add(
    RANDOM,
    "spectrum",
    "A.FrequencyMasking(True, 8)",
    "A.TimeMasking(True, 5, 0, 2.0)",
    "A.MaskAlongAxisIID(5, 9.0, 1)",
)

#: Constructors that raise.
REFUSED: list[str] = [
    "V.Resize('a')",
    "V.Resize(0)",
    "V.Resize((1, 2, 3))",
    "V.Resize(2.5)",
    "V.Resize(3, 1)",
    "V.Resize(3, None)",
    "V.CenterCrop(-1)",
    "V.CenterCrop((1, 2, 3))",
    "V.Crop((1,), 3)",
    "V.Crop((-1, 2), 3)",
    "V.RandomCrop(3, 'a')",
    "V.RandomCrop(3, (1, 2, 3))",
    "V.RandomCrop(3, -1)",
    "V.RandomCrop(3, 1, 1)",
    "V.RandomCrop(3, 1, True, 300)",
    "V.RandomCrop(3, 1, True, (1, 2))",
    "V.RandomCrop(3, 1, True, 0, 'edge')",
    "V.Normalize(1, 2)",
    "V.Normalize([1], [1, 2])",
    "V.Normalize([300], [1])",
    "V.Normalize([1], [0])",
    "V.Normalize(['a'], [1])",
    "V.Normalize([1], [1], 1)",
    "V.NormalizePad([1], [1], 'int8')",
    "V.NormalizePad([1], [1], 3)",
    "V.Rescale('a', 0)",
    "V.Rescale(1, 1e9)",
    "V.RandomHorizontalFlip('a')",
    "V.RandomHorizontalFlip(2)",
    "V.RandomVerticalFlip(-0.1)",
    "V.RandomResizedCrop(3, (1, 0))",
    "V.RandomResizedCrop(3, (0, 0))",
    "V.RandomResizedCrop(3, 1)",
    "V.RandomResizedCrop(3, (0, 1), (0, 1))",
    "V.RandomResizedCrop(3, (0, 1), (2, 1))",
    "V.RandomResizedCrop(3, (0, 1), (1, 1), 2)",
    "V.RandomCropDecodeResize(3, (0, 1), (1, 1), V.Inter.LINEAR, 0)",
    "V.RandomColorAdjust(-1)",
    "V.RandomColorAdjust('a')",
    "V.RandomColorAdjust((2, 1))",
    "V.RandomColorAdjust((1, 2, 3))",
    "V.RandomColorAdjust(1, 1, 1, (-1, 1))",
    "V.RandomColor(1)",
    "V.RandomColor((1,))",
    "V.RandomColor((2, 1))",
    "V.RandomSharpness((-1, 1))",
    "V.RandomRotation(-1)",
    "V.RandomRotation('a')",
    "V.RandomRotation((2, 1))",
    "V.RandomRotation((1, 2, 3))",
    "V.RandomRotation(3, V.Inter.LINEAR, 1)",
    "V.RandomRotation(3, V.Inter.LINEAR, True, [1, 2])",
    "V.RandomAffine(-1)",
    "V.RandomAffine(1, (1, 2))",
    "V.RandomAffine(1, (0.1,))",
    "V.RandomAffine(1, None, (2, 1))",
    "V.RandomAffine(1, None, 1)",
    "V.RandomAffine(1, None, None, -1)",
    "V.RandomAffine(1, None, None, (1, 2, 3))",
    "V.RandomAffine(1, None, None, (2, 1))",
    "V.Affine(200, (0, 0), 1, 0)",
    "V.Affine(1, (2, 0), 1, 0)",
    "V.Affine(1, (0, 0), 0, 0)",
    "V.Affine(1, (0, 0), 1, (1, 2, 3))",
    "V.Pad('a')",
    "V.Pad((1, 2, 3))",
    "V.Pad(1, 256)",
    "V.PadToSize((1, 2, 3))",
    "V.PadToSize(0)",
    "V.PadToSize(3, -1)",
    "V.CutOut(0)",
    "V.CutOut(3, 'a')",
    "V.RandomErasing(2)",
    "V.RandomErasing(1, (1, 0))",
    "V.RandomErasing(1, (0, 1), (1, 2), 'abc')",
    "V.RandomErasing(1, (0, 1), (1, 2), 300)",
    "V.RandomErasing(1, (0, 1), (1, 2), 1, 1)",
    "V.RandomPosterize(9)",
    "V.RandomPosterize((5, 3))",
    "V.RandomPosterize('a')",
    "V.Posterize(9)",
    "V.Posterize(1.5)",
    "V.RandomSolarize([1, 2])",
    "V.RandomSolarize((2, 1))",
    "V.RandomSolarize((1, 300))",
    "V.Solarize(300)",
    "V.Solarize((1, 2, 3))",
    "V.Solarize((3, 2))",
    "V.GaussianBlur(2)",
    "V.GaussianBlur('a')",
    "V.GaussianBlur((1, 3, 5))",
    "V.GaussianBlur(3, -1)",
    "V.AutoContrast(50)",
    "V.AutoContrast('a')",
    "V.AutoContrast(1, 300)",
    "V.AdjustBrightness(-1)",
    "V.AdjustHue(0.6)",
    "V.AdjustHue('a')",
    "V.AdjustGamma(-1)",
    "V.MixUp(0, 1.0)",
    "V.MixUp(2, 0)",
    "V.MixUp(2.0, 1)",
    "V.MixUpBatch(0)",
    "V.MixUpBatch('a')",
    "V.CutMixBatch(1)",
    "V.CutMixBatch(V.ImageBatchFormat.NHWC, 0)",
    "V.CutMixBatch(V.ImageBatchFormat.NHWC, 1, 2)",
    "V.AutoAugment('imagenet')",
    "V.RandAugment(-1)",
    "V.RandAugment(1, 31)",
    "V.RandAugment(1, 1, 1)",
    "V.TrivialAugmentWide(1)",
    "V.UniformAugment([], 1)",
    "V.UniformAugment([V.Invert()], 2)",
    "V.UniformAugment([V.Invert], 1)",
    "V.RandomSelectSubpolicy([])",
    "V.RandomSelectSubpolicy([[]])",
    "V.RandomSelectSubpolicy([[(V.Invert(), 2)]])",
    "V.RandomSelectSubpolicy([[V.Invert()]])",
    "V.BoundingBoxAugment(V.Invert(), 2)",
    "V.BoundingBoxAugment(3)",
    "V.SlicePatches(0, 1)",
    "V.SlicePatches(1, 1, 1)",
    "V.ConvertColor(1)",
    "V.Grayscale(2)",
    "V.RandomPerspective(1)",
    "V.RandomPerspective(2.0)",
    "V.Perspective([[0, 0]], [[0, 0]])",
    "V.LinearTransformation(1, 2)",
    "V.LinearTransformation(np.ones((2, 3)), np.ones(2))",
    "V.Decode(1)",
    "V.ToTensor('abc')",
    "V.FiveCrop('a')",
    "V.TenCrop(3, 1)",
    "V.Erase(-1, 0, 1, 1)",
    "V.Erase(0, 0, 1, 1, 300)",
    "V.HsvToRgb(1)",
    "V.RandomGrayscale(2)",
    "V.RandomLighting(-1)",
    "T.Compose(1)",
    "T.Compose([])",
    "T.Compose([1])",
    "T.Compose([V.Invert])",
    "T.RandomApply([V.Invert()], 2)",
    "T.RandomChoice([])",
    "T.RandomOrder(V.Invert())",
    "T.OneHot(0)",
    "T.OneHot(1.5)",
    "T.OneHot(3, 2)",
    "T.TypeCast('abc')",
    "T.TypeCast(None)",
    "T.Fill([1])",
    "T.PadEnd(3)",
    "T.PadEnd([0])",
    "T.PadEnd(['a'])",
    "T.PadEnd([1], [1])",
    "T.Concatenate(1)",
    "T.Concatenate(0, 1)",
    "T.Concatenate(0, np.ones((2, 2)))",
    "T.Mask(1, 1)",
    "T.Mask(T.Relational.EQ, [1])",
    "T.Slice('a')",
    "T.Slice([1.5])",
    "X.AddToken(1)",
    "X.Lookup(1)",
    f"X.Lookup({_VOCAB}, 1)",
    "X.Ngram('a')",
    "X.Ngram([])",
    "X.Ngram(0)",
    "X.Ngram(2, 'a')",
    "X.Ngram(2, ('a', -1))",
    "X.SlidingWindow(0)",
    "X.ToNumber('number')",
    "X.ToNumber(ms.bool_)",
    "X.Truncate(-1)",
    "X.PythonTokenizer(1)",
    "X.UnicodeCharTokenizer(1)",
    "X.WhitespaceTokenizer('a')",
    "X.UnicodeScriptTokenizer(1)",
    "X.RegexTokenizer(1)",
    "X.RegexTokenizer(None)",
    "X.RegexReplace(1, 'a')",
    "X.BasicTokenizer(1)",
    "X.BasicTokenizer(True, True, 1)",
    "X.BertTokenizer(1)",
    "X.WordpieceTokenizer(None)",
    f"X.WordpieceTokenizer({_VOCAB}, 1)",
    "X.NormalizeUTF8(1)",
    "X.Vocab.from_list(1)",
    "X.Vocab.from_list(['a', 'a'])",
    "X.Vocab.from_list(['a'], ['a'])",
    "X.Vocab.from_dict(['a'])",
    "X.Vocab.from_dict({'a': -1})",
    "X.Vocab().vocab()",
    "X.SentencePieceTokenizer(1, X.SPieceTokenizerOutType.INT)",
    "X.SentencePieceTokenizer('a', 1)",
    "X.JiebaTokenizer(None, 'a')",
    "X.JiebaTokenizer(1, 'a')",
    "X.JiebaTokenizer('nowhere', 'nowhere')",
    "A.AllpassBiquad('a', 1.0)",
    "A.AllpassBiquad(0, 1.0)",
    "A.AllpassBiquad(16000, 1.0, 2.0)",
    "A.BandBiquad(16000, 1.0, 0.5, 1)",
    "A.DeemphBiquad(16000)",
    "A.RiaaBiquad(16000)",
    "A.Biquad(1, 1, 1, 0, 1, 1)",
    "A.LFilter([1.0], [1.0, 2.0])",
    "A.Gain('a')",
    "A.Vol(-1)",
    "A.Vol(1, 'db')",
    "A.DCShift(3)",
    "A.Contrast(101)",
    "A.Overdrive(-1)",
    "A.Fade(-1)",
    "A.Fade(1, 1, 'linear')",
    "A.MuLawEncoding(0)",
    "A.Resample(0)",
    "A.Resample(16000, 16000, 'sinc')",
    "A.Resample(16000, 16000, A.ResampleMethod.KAISER_WINDOW, 6, 1.5)",
    "A.Spectrogram(0)",
    "A.Spectrogram(32, 64)",
    "A.Spectrogram(32, window='hann')",
    "A.Spectrogram(32, power=-1.0)",
    "A.MelScale(0)",
    "A.AmplitudeToDB(1)",
    "A.AmplitudeToDB(A.ScaleType.POWER, 0)",
    "A.FrequencyMasking(1)",
    "A.FrequencyMasking(False, -1)",
    "A.TimeMasking(False, 1, 1, -1)",
    "A.MaskAlongAxis(1, 1, 1.0, 0)",
    "A.ComputeDeltas(2)",
    "A.GriffinLim(32, 0)",
    "A.ComplexNorm(-1.0)",
    "A.create_dct(0, 1)",
]

#: All that has an outcome.
ALL = VISION + FORCED + COLUMNS + TEXT + AUDIO


def names(importer: Any, package: str) -> dict[str, Any]:
    """What an expression may use, from `package`."""
    short = {"V": "vision", "T": "transforms", "X": "text", "A": "audio"}
    found = {k: importer(f"{package}.dataset.{v}") for k, v in short.items()}
    return {"np": np, "ms": importer(package), **found}


def image() -> np.ndarray:
    """A uint8 image (33, 47, 3): waves, an edge, and noise."""
    y, x = np.mgrid[0:33, 0:47].astype(np.float64)
    waves = np.stack([x * 5 + 8, 120 + 100 * np.sin(x / 5 + y / 7), 255 - y * 7], -1)
    waves[10:20, 15:30] = 255 - waves[10:20, 15:30]
    noise = np.random.RandomState(7).randint(-2, 3, waves.shape)
    return np.clip(waves + noise, 0, 255).astype(np.uint8)


def encoded(picture: Image.Image, form: str, **options: Any) -> np.ndarray:
    """The bytes of a file, as an array."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def arrays() -> dict[str, Any]:
    """The inputs by name. Files come from `files`, which are stored with the recordings."""
    rgb = image()
    gray = rgb[..., 1].copy()
    patch = rgb[8:20, 10:24].copy()
    floats = patch.astype(np.float32) / np.float32(255)
    return {
        "rgb": rgb,
        "even": rgb[:32, :].repeat(2, 1)[:, :48].copy(),
        "gray": gray,
        "gray1": gray[:15, :19, None].copy(),
        "patch": patch,
        "patch_gray": patch[..., 1].copy(),
        "small_pil": Image.fromarray(patch),
        "small_pil_gray": Image.fromarray(patch[..., 1].copy()),
        "rgba": np.concatenate([rgb, gray[..., None]], -1),
        "floats": floats,
        "tiny": rgb[8:20, 10:24].copy(),
        "tiny_pil": Image.fromarray(rgb[8:20, 10:24]),
        "tiny_chw": rgb[8:20, 10:24].transpose(2, 0, 1).astype(np.float32),
        "tinies": np.stack([rgb[i : i + 8, 3 * i : 3 * i + 9] for i in range(6)]),
        "hot": np.eye(6, dtype=np.int32),
        "tiny_boxes": np.array([[2, 3, 5, 6, 1], [6, 1, 7, 9, 0]], np.float32),
        "unit": floats[:6, :5].astype(np.float64),
        "small": floats[:3, :4, :].repeat(2, 0)[:4].copy().transpose(2, 0, 1).copy(),
        "chw": floats[:9, :8].transpose(2, 0, 1).copy(),
        "pil": Image.fromarray(rgb),
        "pil_gray": Image.fromarray(gray),
        "boxes": np.array([[3, 4, 10, 12, 1], [20, 10, 15, 20, 0]], np.float32),
        "label": np.array(2, np.int32),
        "ints": np.array([1, 2, 3], np.int32),
        "column": np.array([[1], [2]], np.int32),
        "doubles": np.array([1.7, -1.7, 300.0, 2.5]),
        "words": np.array(["a", "bb"]),
        **_others(),
        "table": np.arange(6, dtype=np.int32).reshape(3, 2),
    }


def _others() -> dict[str, Any]:
    """Strings and sounds."""
    noise = np.random.RandomState(3)
    wave = (np.sin(np.arange(120) / 3) * 0.6 + noise.randn(120) * 0.1).astype(np.float32)
    spectrum = np.abs(noise.randn(2, 17, 9)).astype(np.float32)
    return {
        "tokens": np.array(["a", "zz", "b"]),
        "digits": np.array(["1", "-2", "3"]),
        "line": np.array("  Welcome to\tBeijing! 北京 [CLS] don't Ünï \u200b[unused1] wanted"),
        "empty": np.array(""),
        "subwords": np.array(["unaffable", "wanted", "xyz", "the"]),
        "encoded": np.array([b"a", "中".encode()]),
        "wave": wave,
        "waves": np.stack([wave[:80], wave[40:]]),
        "codes": np.arange(0, 256, 5, dtype=np.int32),
        "spectrum": spectrum,
        "complex": noise.randn(2, 17, 9, 2).astype(np.float32),
    }


def files() -> dict[str, np.ndarray]:
    """Encoded images, made once by the recording program."""
    rgb = image()
    picture, gray = Image.fromarray(rgb), Image.fromarray(rgb[..., 1].copy())
    alpha = np.concatenate([rgb, rgb[..., :1]], -1)
    return {
        "jpeg": encoded(picture, "JPEG", quality=90),
        "jpeg_gray": encoded(gray, "JPEG", quality=90),
        "tiny_jpeg": encoded(Image.fromarray(rgb[8:20, 10:24]), "JPEG", quality=90, subsampling=0),
        "png": encoded(picture, "PNG"),
        "png_alpha": encoded(Image.fromarray(alpha), "PNG"),
        "png_palette": encoded(picture.quantize(16), "PNG"),
    }


def outputs(result: Any) -> list[np.ndarray]:
    """The result of a transform as arrays."""
    parts = result if isinstance(result, tuple | list) else (result,)
    return [np.asarray(p) for p in parts]


def summary(result: Any) -> list[float]:
    """Two numbers of a result: the mean, and a mean in which every place has its own weight."""
    values = np.concatenate([o.astype(np.float64).ravel() for o in outputs(result)])
    if not values.size:
        return [0.0, 0.0]
    weights = np.cos(np.arange(values.size) * 0.37)
    return [float(values.mean()), float((values * weights).mean())]


def write(path: Path, stored: dict[str, np.ndarray]) -> None:
    """Keep arrays in a small file: all bytes in one array, and an index of it in JSON."""
    index, offset = {}, 0
    for key, array in stored.items():
        index[key] = [array.dtype.str, list(array.shape), offset]
        offset += array.nbytes
    data = b"".join(np.ascontiguousarray(a).tobytes() for a in stored.values())
    parts = {"data": np.frombuffer(data, np.uint8), "index": np.array(json.dumps(index))}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, part in parts.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, part, allow_pickle=False)


@functools.cache
def recordings() -> dict[str, np.ndarray]:
    """What MindSpore gave: `<expression>/<inputs>/<which output>`, and `file/<name>`."""
    with np.load(GOLDEN / "transforms.npz", allow_pickle=False) as archive:
        data, index = archive["data"].tobytes(), json.loads(str(archive["index"]))
    found = {}
    for key, (kind, shape, offset) in index.items():
        count = int(np.prod(shape))
        found[key] = np.frombuffer(data, np.dtype(kind), count, offset).reshape(shape)
    return found


@functools.cache
def refusals() -> dict[str, str]:
    """The class of MindSpore's error by expression, or by `<expression>/<inputs>`."""
    return json.loads((GOLDEN / "refusals.json").read_text(encoding="utf-8"))


def columns() -> dict[str, Any]:
    """All inputs by name; the files are those that MindSpore was given."""
    stored = {k.partition("/")[2]: v for k, v in recordings().items() if k.startswith("file/")}
    return {**arrays(), **stored}
