"""Reading HuggingFace folders: safetensors files, and an index from arrays to files.

    model.safetensors                       the only file; or
    model-00001-of-00002.safetensors, …     shards, and
    model.safetensors.index.json            {"metadata": …, "weight_map": {array: shard}}

The names before `.safetensors` may differ (`diffusion_pytorch_model`, `model.fp16`). The index is
validated: a shard is a file of the same folder, and has the arrays that the index says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paramesh.checkpoint.formats.assembled_source import Slice, SlicedSource, Slicing
from paramesh.checkpoint.formats.boxes import full_box
from paramesh.checkpoint.formats.safetensors_file import SafetensorsSource, no_duplicates
from paramesh.errors import CheckpointError

FORMAT = "huggingface"
_INDEX = ".safetensors.index.json"
_FILE = ".safetensors"
_USUAL = "model"


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
    return path / found[0] if found else None


def only_file_of(path: Path) -> Path | None:
    """The safetensors file of a folder without an index; None if there is none.

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
    return path / names[0] if names else None


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
        parts: list[SafetensorsSource] = []
        self._parts = parts
        for shard in shards:
            parts.append(SafetensorsSource(folder / shard))
        places = {shard: i for i, shard in enumerate(shards)}
        self._check_names(where, places)
        for i, part in enumerate(parts):
            for entry in part.entries():
                if where.get(entry.name, shards[i]) == shards[i]:
                    box = full_box(entry.shape)
                    self._add_sliced(entry, Slicing(entry.shape, (Slice(box, i, entry.name),)))
        self.metadata = dict(parts[0].metadata) if parts else {}

    def _weight_map(self) -> dict[str, str]:
        try:
            text = self._index.read_text(encoding="utf-8")
            index: Any = json.loads(text, object_pairs_hook=no_duplicates)
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
            if not shard.endswith(_FILE):
                raise self._wrong(
                    f"the index says that '{name}' is in '{shard}', which is not a safetensors "
                    "file. PyTorch files can run code when they are read, so paramesh does not "
                    "read them; fetch the safetensors files of the model, or save it again with "
                    "model.save_pretrained(folder, safe_serialization=True)."
                )
        return found

    def _check_names(self, where: dict[str, str], places: dict[str, int]) -> None:
        lost = [
            f"'{name}' in '{shard}'"
            for name, shard in where.items()
            if name not in self._parts[places[shard]]._entries
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
