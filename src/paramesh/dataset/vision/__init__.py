"""Transforms of images, by the names of MindSpore's `dataset.vision`.

| file | what |
|---|---|
| `adjusting` | brightness, contrast, saturation, hue, gamma |
| `batches` | mixtures of the images of a batch |
| `boxes` | images with boxes |
| `converting` | gray, HSV, other channels |
| `cropping` | parts of an image |
| `decoding` | encoded images to pixels |
| `erasing` | rectangles taken out |
| `files` | image files |
| `flipping` | mirror images |
| `modes` | the enums |
| `padding` | pixels around an image |
| `policies` | AutoAugment and its relatives |
| `sharpening` | sharper and softer |
| `sizes` | resizing |
| `tones` | tables of values |
| `values` | normalization, types, order of axes |
| `warping` | rotations, affine and perspective maps |
| `images`, `arguments` | what a transform is given, and the checks that several share |
| `resampling`, `warp`, `color_spaces` | arithmetic to the bits of OpenCV |
| `c_transforms`, `py_transforms` | the names and arguments of MindSpore 1.x |
"""

from paramesh import lazy_names
from paramesh.dataset.transforms.operation import not_random
from paramesh.dataset.vision.adjusting import (
    AdjustBrightness,
    AdjustContrast,
    AdjustGamma,
    AdjustHue,
    AdjustSaturation,
    RandomColor,
    RandomColorAdjust,
    RandomLighting,
)
from paramesh.dataset.vision.batches import CutMixBatch, MixUp, MixUpBatch
from paramesh.dataset.vision.boxes import (
    BoundingBoxAugment,
    RandomCropWithBBox,
    RandomHorizontalFlipWithBBox,
    RandomResizedCropWithBBox,
    RandomResizeWithBBox,
    RandomVerticalFlipWithBBox,
    ResizeWithBBox,
)
from paramesh.dataset.vision.converting import (
    ConvertColor,
    Grayscale,
    HsvToRgb,
    RandomGrayscale,
    RgbToHsv,
)
from paramesh.dataset.vision.cropping import (
    CenterCrop,
    Crop,
    FiveCrop,
    RandomCrop,
    SlicePatches,
    TenCrop,
)
from paramesh.dataset.vision.decoding import Decode
from paramesh.dataset.vision.erasing import CutOut, Erase, RandomErasing
from paramesh.dataset.vision.files import (
    encode_jpeg,
    encode_png,
    get_image_num_channels,
    get_image_size,
    read_file,
    read_image,
    write_file,
    write_jpeg,
    write_png,
)
from paramesh.dataset.vision.flipping import (
    HorizontalFlip,
    RandomHorizontalFlip,
    RandomVerticalFlip,
    VerticalFlip,
)
from paramesh.dataset.vision.modes import (
    AutoAugmentPolicy,
    Border,
    ConvertMode,
    ImageBatchFormat,
    ImageReadMode,
    Inter,
    SliceMode,
)
from paramesh.dataset.vision.padding import Pad, PadToSize
from paramesh.dataset.vision.policies import (
    AutoAugment,
    RandAugment,
    RandomSelectSubpolicy,
    TrivialAugmentWide,
    UniformAugment,
)
from paramesh.dataset.vision.sharpening import (
    AdjustSharpness,
    GaussianBlur,
    RandomAdjustSharpness,
    RandomSharpness,
)
from paramesh.dataset.vision.sizes import (
    RandomCropDecodeResize,
    RandomResize,
    RandomResizedCrop,
    Resize,
    ResizedCrop,
)
from paramesh.dataset.vision.tones import (
    AutoContrast,
    Equalize,
    Invert,
    Posterize,
    RandomAutoContrast,
    RandomEqualize,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
    Solarize,
)
from paramesh.dataset.vision.values import (
    HWC2CHW,
    LinearTransformation,
    Normalize,
    NormalizePad,
    Rescale,
    ToNumpy,
    ToPIL,
    ToTensor,
    ToType,
)
from paramesh.dataset.vision.warping import (
    Affine,
    Perspective,
    RandomAffine,
    RandomPerspective,
    RandomRotation,
    Rotate,
)

__all__ = [
    "AdjustBrightness",
    "AdjustContrast",
    "AdjustGamma",
    "AdjustHue",
    "AdjustSaturation",
    "AdjustSharpness",
    "Affine",
    "AutoAugment",
    "AutoAugmentPolicy",
    "AutoContrast",
    "Border",
    "BoundingBoxAugment",
    "CenterCrop",
    "ConvertColor",
    "ConvertMode",
    "Crop",
    "CutMixBatch",
    "CutOut",
    "Decode",
    "Equalize",
    "Erase",
    "FiveCrop",
    "GaussianBlur",
    "Grayscale",
    "HWC2CHW",
    "HorizontalFlip",
    "HsvToRgb",
    "ImageBatchFormat",
    "ImageReadMode",
    "Inter",
    "Invert",
    "LinearTransformation",
    "MixUp",
    "MixUpBatch",
    "Normalize",
    "NormalizePad",
    "Pad",
    "PadToSize",
    "Perspective",
    "Posterize",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomAffine",
    "RandomAutoContrast",
    "RandomColor",
    "RandomColorAdjust",
    "RandomCrop",
    "RandomCropDecodeResize",
    "RandomCropWithBBox",
    "RandomEqualize",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomHorizontalFlipWithBBox",
    "RandomInvert",
    "RandomLighting",
    "RandomPerspective",
    "RandomPosterize",
    "RandomResize",
    "RandomResizeWithBBox",
    "RandomResizedCrop",
    "RandomResizedCropWithBBox",
    "RandomRotation",
    "RandomSelectSubpolicy",
    "RandomSharpness",
    "RandomSolarize",
    "RandomVerticalFlip",
    "RandomVerticalFlipWithBBox",
    "Rescale",
    "Resize",
    "ResizeWithBBox",
    "ResizedCrop",
    "RgbToHsv",
    "Rotate",
    "SliceMode",
    "SlicePatches",
    "Solarize",
    "TenCrop",
    "ToNumpy",
    "ToPIL",
    "ToTensor",
    "ToType",
    "TrivialAugmentWide",
    "UniformAugment",
    "VerticalFlip",
    "encode_jpeg",
    "encode_png",
    "get_image_num_channels",
    "get_image_size",
    "not_random",
    "read_file",
    "read_image",
    "write_file",
    "write_jpeg",
    "write_png",
]

__getattr__ = lazy_names.opened(__name__, {}, lambda: __all__)
