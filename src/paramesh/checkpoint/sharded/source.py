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
    identity            of a checkpoint that servers have written: 32 hexadecimal digits
    tables              of such a checkpoint: which arrays are tables of rows (see `tables.py`)
    base                of an increment, whose version is 2: {"path": of the folder of the
                        checkpoint that it goes on from, as seen from this folder, "identity"}

The slices of an array cover it without gap or overlap, which is checked when it is opened.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

from paramesh.array_types import Json
from paramesh.checkpoint.formats.apart import Base
from paramesh.checkpoint.formats.assembled_source import Slice, SlicedSource, Slicing
from paramesh.checkpoint.formats.boxes import is_grid, sizes
from paramesh.checkpoint.formats.interface import MOST_AXES, ORIGIN, Appended, Array, Entry
from paramesh.checkpoint.formats.safetensors_file import SafetensorsSource
from paramesh.checkpoint.formats.storage_dtypes import STORAGE_ONLY
from paramesh.checkpoint.formats.tables import Table, group_counts, parsed_tables, stored_blocks
from paramesh.dtype import ALL
from paramesh.errors import CheckpointError

FORMAT = "sharded"
SUFFIX = ".sharded"
INDEX = "index.json"
INDEX_FORMAT, VERSION, INCREMENT = "paramesh-sharded", 1, 2
#: Prefix of the names of files that belong to a save in progress.
MARK = ".save-"
PART = re.compile(r"part-[0-9a-f]{8}-\d{5,}\.safetensors")

_IDENTITY = re.compile(r"[0-9a-f]{32}")

_DTYPES = {kind.long_name: kind for kind in (*ALL, *STORAGE_ONLY)}


def is_sharded(path: Path) -> bool:
    """Whether a path is a sharded checkpoint, complete or not."""
    if not path.is_dir():
        return False
    return (path / INDEX).is_file() or any(map(PART.fullmatch, (p.name for p in path.iterdir())))


class ShardedSource(SlicedSource):
    """A sharded checkpoint open for reading.

    Args:
        path: the folder.
        increments: it may be an increment; its tables are then what is stored, not what there is
            (see `increments.IncrementSource`).

    Attributes:
        devices: the process of each device by rank, when it was saved; () if the index does not
            say.
        identity: of what servers have written; "" otherwise.
        tables: the tables of rows that servers have written, by name.
        base: of an increment.

    Raises:
        CheckpointError: it is not valid or not complete, or an increment.
    """

    format = FORMAT

    def __init__(self, path: Path, increments: bool = False) -> None:
        super().__init__(path)
        self.devices: tuple[int, ...] = ()
        self.identity = ""
        self.tables: dict[str, Table] = {}
        self.base: Base | None = None
        self._increments = increments
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
        version = index.get("version")
        if version == INCREMENT and not self._increments:
            raise CheckpointError(
                f"Checkpoint '{self.path}' is an increment, which has only the rows that have "
                "changed since another checkpoint: it cannot be read alone. Compact it first "
                "(paramesh ps compact). Nothing was loaded."
            )
        if version not in (VERSION, INCREMENT):
            raise CheckpointError(
                f"Checkpoint '{self.path}' has version {version!r}; this paramesh "
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
        self._read_tables(index)
        return True

    def _read_tables(self, index: Json) -> None:
        try:
            shapes = {entry.name: entry.shape for entry in self.entries()}
            self.tables = parsed_tables(index.get("tables", {}), shapes)
            self.identity = _identity(index.get("identity", ""), empty=True)
            base = index.get("base")
            if (base is None) != (index["version"] == VERSION):
                raise ValueError("an increment must have a base, and nothing else may")
            if base is not None:
                self.base = Base(str(base["path"]), _identity(base["identity"]))
            if self.base is None and not all(table.complete for table in self.tables.values()):
                raise ValueError("a table is not complete")
        except (ValueError, KeyError, TypeError) as error:
            raise self._damage(f"{INDEX} is not valid: {error}") from error

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

    def counts(self, table: str) -> Array:
        """How many rows of a table each group has; of an increment, of those that are stored.

        Raises:
            CheckpointError: the counts are not those of the rows.
        """
        about = self.tables[table]
        return self._counted(about.counts, self.entry(about.ids).shape[0])

    def totals(self, table: str) -> Array:
        """How many rows of a table each group has, whether they are stored here or not.

        Raises:
            CheckpointError: as `counts`.
        """
        about = self.tables[table]
        if about.complete:
            return self.counts(table)
        total = int(self.read(about.totals).sum())
        return self._counted(about.totals, total)

    def _counted(self, name: str, rows: int) -> Array:
        try:
            return group_counts(self, name, rows)
        except ValueError as error:
            raise self._damage(str(error)) from None

    def blocks(self, table: str, first: int, stop: int) -> Iterator[dict[str, Array]]:
        """The stored rows of the groups from `first` to `stop` of a table, in blocks.

        Yields:
            The arrays of the table, by their names; at most about 4 MiB of each.

        Raises:
            CheckpointError: the counts of the groups are not those of the rows.
        """
        return stored_blocks(self, self.tables[table], self.counts(table), first, stop)

    def slicing(self, name: str) -> Slicing:
        """The slices of an array, and the devices that had them."""
        self.entry(name)
        return self._slicings[name]


def _identity(said: Json, empty: bool = False) -> str:
    if not isinstance(said, str) or not (_IDENTITY.fullmatch(said) or (empty and not said)):
        raise ValueError(f"{said!r} is no identity")
    return said


def _natural(number: object) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r} is not a non-negative integer")
    return number
