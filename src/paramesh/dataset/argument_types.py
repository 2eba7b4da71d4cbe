"""Names for the types of the arguments of datasets and transforms, used in annotations.

Glossary
    values      what numpy makes an array of: an array, a number, a string, lists of these
    picture     an image as an array or as Pillow's
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import ArrayLike

from paramesh.array_types import HostArray

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "ColumnNames",
    "EncodedImage",
    "FilePath",
    "FilePaths",
    "Functions",
    "PadInfo",
    "Picture",
    "Size",
    "Values",
]

#: One name of a column, or several.
ColumnNames: TypeAlias = str | list[str] | tuple[str, ...]
FilePath: TypeAlias = str | os.PathLike[str]
#: Paths; patterns in them stand for all files that match.
FilePaths: TypeAlias = FilePath | list[str] | list[os.PathLike[str]] | tuple[FilePath, ...]
#: A function or a transform, or a list of them: they take and return columns.
Functions: TypeAlias = Callable[..., Any] | Sequence[Callable[..., Any]]
Values: TypeAlias = ArrayLike
#: {column: (shape, value)}: what rows are filled up to, and with what.
PadInfo: TypeAlias = Mapping[str, Any]
#: One length, or (height, width).
Size: TypeAlias = int | Sequence[int]
Picture: TypeAlias = "HostArray | Image.Image"
EncodedImage: TypeAlias = bytes | bytearray | memoryview | HostArray
