"""Reading sharded checkpoints: a folder of safetensors files, and an index of their slices.

    index.json                          the commit: without it the checkpoint is not complete
    part-TOKEN-00000.safetensors        the slices of process 0; TOKEN is different at every save

The index is JSON:

    format, version     "paramesh-sharded", 1
    files               the names of the part files
    append_dict         the entries of `append_dict`
    devices             the process of each device, by rank; not in older files
    metadata            strings that a conversion has kept; optional
    arrays              {name: {"dtype", "shape", "slices": […]}}, each slice with
        file            its index in `files`
        name            of the array in that file
        ranges          [start, stop] for each axis; or
        flat            [start, stop] of the elements in row-major order (divided optimizer state)
        ranks           of the devices that had it; not in older files

The slices of an array cover it without gap or overlap, which is checked when it is opened.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from paramesh.array_types import Json
from paramesh.checkpoint.formats.assembled_source import Slice, SlicedSource, Slicing
from paramesh.checkpoint.formats.boxes import is_grid, sizes
from paramesh.checkpoint.formats.interface import MOST_AXES, ORIGIN, Appended, Entry
from paramesh.checkpoint.formats.safetensors_file import SafetensorsSource
from paramesh.checkpoint.formats.storage_dtypes import STORAGE_ONLY
from paramesh.dtype import ALL
from paramesh.errors import CheckpointError

FORMAT = "sharded"
SUFFIX = ".sharded"
INDEX = "index.json"
INDEX_FORMAT, VERSION = "paramesh-sharded", 1
PART = re.compile(r"part-[0-9a-f]{8}-\d{5,}\.safetensors")

_DTYPES = {kind.long_name: kind for kind in (*ALL, *STORAGE_ONLY)}


def is_sharded(path: Path) -> bool:
    """Whether a path is a sharded checkpoint, complete or not."""
    if not path.is_dir():
        return False
    return (path / INDEX).is_file() or any(map(PART.fullmatch, (p.name for p in path.iterdir())))


class ShardedSource(SlicedSource):
    """A sharded checkpoint open for reading.

    Attributes:
        devices: the process of each device by rank, when it was saved; () if the index does not
            say.
    """

    format = FORMAT

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.devices: tuple[int, ...] = ()
        text = self._index()
        try:
            while not self._open(text):
                # Replaced since the index was read, or damaged: a new index shows which.
                before, text = text, self._index()
                if before == text:
                    raise self._damage("a file that its index names is missing")
        except BaseException:
            self.close()
            raise

    def _index(self) -> bytes:
        try:
            return (self.path / INDEX).read_bytes()
        except FileNotFoundError:
            raise CheckpointError(
                f"'{self.path}' has no {INDEX}, so it is not a complete checkpoint: saving it "
                "did not finish. Use an earlier checkpoint. Nothing was loaded."
            ) from None
        except NotADirectoryError:
            raise CheckpointError(
                f"Checkpoint '{self.path}' is a file, but a sharded checkpoint is a folder. "
                "Nothing was loaded."
            ) from None

    def _damage(self, what: str, name: str | None = None) -> CheckpointError:
        of = "" if name is None else f": '{name}'"
        return CheckpointError(
            f"Checkpoint '{self.path}' is not valid{of}: {what}. Nothing was loaded."
        )

    def _open(self, text: bytes) -> bool:
        """Read the index and open the files; False if one is missing."""
        try:
            index: Json = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._damage(f"{INDEX} is not valid JSON ({error})") from error
        if not isinstance(index, dict) or index.get("format") != INDEX_FORMAT:
            raise self._damage(f"{INDEX} does not say that its format is {INDEX_FORMAT!r}")
        if index.get("version") != VERSION:
            raise CheckpointError(
                f"Checkpoint '{self.path}' has version {index.get('version')!r}; this paramesh "
                f"reads version {VERSION}. Nothing was loaded."
            )
        files, arrays = index.get("files"), index.get("arrays")
        if not isinstance(files, list) or not isinstance(arrays, dict):
            raise self._damage(f"{INDEX} must give files and arrays")
        for part in self._parts:
            part.close()
        parts: list[SafetensorsSource] = []
        self._parts = parts
        for name in files:
            if not isinstance(name, str) or not PART.fullmatch(name):
                raise self._damage(f"{INDEX} names an invalid file {name!r}")
            try:
                parts.append(SafetensorsSource(self.path / name))
            except FileNotFoundError:
                return False
        stored = [{entry.name: entry for entry in part.entries()} for part in parts]
        for name, about in arrays.items():
            self._add(name, about, stored)
        appended = index.get("append_dict", {})
        if not isinstance(appended, dict) or not all(
            isinstance(value, Appended) and name not in arrays for name, value in appended.items()
        ):
            raise self._damage("its append_dict is invalid")
        self.appended = appended
        try:
            self.devices = tuple(map(_natural, index.get("devices", ())))
        except (TypeError, ValueError) as error:
            raise self._damage(f"its devices are invalid ({error})") from error
        metadata = index.get("metadata", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise self._damage("its metadata is not an object of strings")
        self.metadata = metadata
        self.scalars_may_be_appended = ORIGIN in metadata
        return True

    def _add(self, name: str, about: Json, stored: list[dict[str, Entry]]) -> None:
        try:
            kind = _DTYPES[about["dtype"]]
            shape = tuple(map(_natural, about["shape"]))
            slices = about["slices"]
            flat = any("flat" in one for one in slices)
            sliced_shape = (math.prod(shape),) if flat else shape
            found = tuple(self._slice(one, flat) for one in slices)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damage(
                f"{INDEX} has an invalid description of it ({error!r})", name
            ) from error
        if len(shape) > MOST_AXES or not is_grid((one.box for one in found), sliced_shape):
            raise self._damage(f"its slices do not fill the shape {list(shape)}", name)
        for one in found:
            entry = stored[one.file].get(one.name)
            if entry is None or (entry.dtype, entry.shape) != (kind, sizes(one.box)):
                part = self._parts[one.file].path.name
                raise self._damage(
                    f"'{part}' does not have its slice {list(one.box)} as '{one.name}'", name
                )
        self._add_sliced(Entry.of(name, kind, shape), Slicing(sliced_shape, found))

    def _slice(self, about: Json, flat: bool) -> Slice:
        ranges = [about["flat"]] if flat else about["ranges"]
        box = tuple((_natural(start), _natural(stop)) for start, stop in ranges)
        file = _natural(about["file"])
        if file >= len(self._parts):
            raise ValueError(f"there is no file {file}")
        return Slice(box, file, about["name"], tuple(map(_natural, about.get("ranks", ()))))

    def files(self) -> list[str]:
        """The names of the part files."""
        return [part.path.name for part in self._parts]

    def slicing(self, name: str) -> Slicing:
        """The slices of an array, and the devices that had them."""
        self.entry(name)
        return self._slicings[name]


def _natural(number: object) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r} is not a non-negative integer")
    return number
