"""Reading HuggingFace folders: files of arrays, and an index from arrays to files.

    model.safetensors                       the only file; or
    model-00001-of-00002.safetensors, …     shards, and
    model.safetensors.index.json            {"metadata": …, "weight_map": {array: shard}}

Names before `.safetensors` may be others (`diffusion_pytorch_model`, `model.fp16`). A folder that
has none of these may have `pytorch_model.bin`, or such shards and `pytorch_model.bin.index.json`;
or `flax_model.msgpack`. The index is validated: a shard is a file of the same folder,
and has the arrays that the index says.
"""

from __future__ import annotations

import json
from pathlib import Path

from paramesh.array_types import Json
from paramesh.checkpoint.formats.assembled_source import Slice, SlicedSource, Slicing
from paramesh.checkpoint.formats.boxes import full_box
from paramesh.checkpoint.formats.flax_file import FlaxSource
from paramesh.checkpoint.formats.interface import Source
from paramesh.checkpoint.formats.safetensors_file import SafetensorsSource, no_duplicates
from paramesh.checkpoint.formats.torch_file import SUFFIXES, TorchSource
from paramesh.errors import CheckpointError

FORMAT = "huggingface"
_INDEX = ".safetensors.index.json"
_FILE = ".safetensors"
_USUAL = "model"
_TORCH_INDEX = "pytorch_model.bin.index.json"
#: Files that are all of a checkpoint, where there is no safetensors file.
_OTHERS = ("pytorch_model.bin", "flax_model.msgpack")


def index_of(path: Path) -> Path | None:
    """The index at a path, or in the folder there; None if there is none.

    Raises:
        CheckpointError: the folder has several indexes.
    """
    if path.is_file():
        return path if path.name.endswith(".index.json") else None
    if not path.is_dir():
        return None
    names = sorted(place.name for place in path.iterdir())
    found = [name for name in names if name.endswith(_INDEX)]
    if _USUAL + _INDEX in found:
        return path / (_USUAL + _INDEX)
    if len(found) > 1:
        raise CheckpointError(
            f"'{path}' contains several checkpoints: give the index of one, {', '.join(found)}. "
            "Nothing was loaded."
        )
    if not found and _TORCH_INDEX in names and not any(name.endswith(_FILE) for name in names):
        return path / _TORCH_INDEX
    return path / found[0] if found else None


def source_of(path: Path) -> Source:
    """Open a file of such a folder."""
    if path.suffix in SUFFIXES:
        return TorchSource(path)
    return FlaxSource(path) if path.suffix == ".msgpack" else SafetensorsSource(path)


def only_file_of(path: Path) -> Path | None:
    """The file of a folder without an index that has all arrays; None if there is none.

    Raises:
        CheckpointError: there are several.
    """
    if not path.is_dir():
        return None
    names = sorted(place.name for place in path.iterdir() if place.name.endswith(_FILE))
    if _USUAL + _FILE in names:
        return path / (_USUAL + _FILE)
    if len(names) > 1:
        shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        raise CheckpointError(
            f"'{path}' contains {len(names)} safetensors files ({shown}) and no index that "
            "combines them: give one of the files, or fetch the .safetensors.index.json as well. "
            "Nothing was loaded."
        )
    if not names:
        other = next((name for name in _OTHERS if (path / name).is_file()), None)
        return None if other is None else path / other
    return path / names[0]


class HuggingFaceSource(SlicedSource):
    """A folder of shards open for reading.

    Args:
        path: what the user gave: the folder, or the index.
        index: the index.
    """

    format = FORMAT

    def __init__(self, path: Path, index: Path) -> None:
        super().__init__(path)
        self._index = index
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _wrong(self, what: str) -> CheckpointError:
        return CheckpointError(f"Checkpoint '{self._index}': {what} Nothing was loaded.")

    def _open(self) -> None:
        where = self._weight_map()
        shards = sorted(set(where.values()))
        folder = self._index.parent
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise self._wrong(
                f"the index names {len(shards)} shards, and {len(missing)} of them "
                f"{'is' if len(missing) == 1 else 'are'} not in the folder: {_listed(missing)}. "
                "Fetch the rest of them."
            )
        parts: list[Source] = []
        self._parts = parts
        for shard in shards:
            parts.append(source_of(folder / shard))
        places = {shard: i for i, shard in enumerate(shards)}
        self._check_names(where, places)
        for i, part in enumerate(parts):
            for entry in part.entries():
                if where.get(entry.name, shards[i]) == shards[i]:
                    box = full_box(entry.shape)
                    self._add_sliced(entry, Slicing(entry.shape, (Slice(box, i, entry.name),)))
        self.metadata = dict(parts[0].metadata) if parts else {}
        self.appended = {name: value for part in parts for name, value in part.appended.items()}
        self.skipped = {name: kind for part in parts for name, kind in part.skipped.items()}

    def _weight_map(self) -> dict[str, str]:
        try:
            text = self._index.read_text(encoding="utf-8")
            index: Json = json.loads(text, object_pairs_hook=no_duplicates)
        except (ValueError, RecursionError) as error:
            raise self._wrong(f"the index is not valid JSON ({error}).") from error
        found = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(found, dict):
            raise self._wrong("a JSON file without a weight_map is not an index of a checkpoint.")
        for name, shard in found.items():
            if not isinstance(shard, str) or not _is_file_name(shard):
                raise self._wrong(
                    f"the index says that '{name}' is in {shard!r}, which is not the name of a "
                    "file in its folder. Shards elsewhere are not read."
                )
            if not shard.endswith((_FILE, *SUFFIXES)):
                raise self._wrong(
                    f"the index says that '{name}' is in '{shard}', which is not a file of arrays "
                    "that paramesh reads."
                )
        return found

    def _check_names(self, where: dict[str, str], places: dict[str, int]) -> None:
        held = [set(part.names()) for part in self._parts]
        lost = [
            f"'{name}' in '{shard}'"
            for name, shard in where.items()
            if name not in held[places[shard]]
        ]
        if lost:
            raise self._wrong(
                f"the index names {len(lost)} arrays that are not in their shards: "
                f"{_listed(lost)}. The index and the shards come from different saves."
            )
        seen: dict[str, str] = {}
        for shard, i in places.items():
            for name in self._parts[i].names():
                other = seen.setdefault(name, shard)
                if other != shard and name not in where:
                    raise self._wrong(
                        f"'{name}' is in '{other}' and in '{shard}', and the index does not say "
                        "which one to use."
                    )


def _is_file_name(shard: str) -> bool:
    plain = shard not in ("", ".", "..") and "\0" not in shard
    return plain and not any(mark in shard for mark in "/\\:")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
