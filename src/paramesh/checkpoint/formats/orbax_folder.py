"""The folder structure and metadata of orbax checkpoints.

    _CHECKPOINT_METADATA    JSON; in the folder of a checkpoint
    ITEM/                   what CheckpointManager calls an item: `default`, `state`, …; without a
                            manager the checkpoint is the item itself
        _METADATA           JSON: the leaves of the tree, and how their arrays are stored
        _strings.json       the leaves that are str
        manifest.ocdbt, d/  all arrays in one database (OCDBT); or
        NAME/               each array in a folder of its own (zarr)

A leaf's name is its keys, joined by dots; its array has the same name in the folder. All metadata
is validated.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paramesh.array_types import Json
from paramesh.errors import CheckpointError

TREE = "_METADATA"
_CHECKPOINT = "_CHECKPOINT_METADATA"
_STRINGS = "_strings.json"
_MANIFEST = "manifest.ocdbt"
#: In the name of a folder that is being written, or was not finished.
_UNFINISHED = ".orbax-checkpoint-tmp"
_STEP = re.compile(r"(?:.*_)?\d+")
#: Leaves without a value: None, and empty subtrees.
_NOTHING = ("None", "Dict", "List", "Tuple", "NamedTuple")


@dataclass(frozen=True)
class Item:
    """A tree of a checkpoint.

    Args:
        folder: its folder.
        arrays: {name: kind of the leaf} of its arrays.
        strings: {name: str} of its other leaves.
        ocdbt: whether the arrays are in one database.
        zarr3: whether they are stored in version 3 of zarr, instead of 2.
        complete: whether chunks that equal the fill value are stored too.
    """

    folder: Path
    arrays: dict[str, str]
    strings: dict[str, str]
    ocdbt: bool
    zarr3: bool
    complete: bool


def is_orbax(path: Path) -> bool:
    """Whether a folder is orbax's: an item, a checkpoint, or one with several checkpoints."""
    return path.is_dir() and bool(
        (path / TREE).is_file()
        or (path / _CHECKPOINT).is_file()
        or _UNFINISHED in path.name
        or _steps(path)
    )


def items_of(path: Path) -> tuple[dict[str, Item], list[str]]:
    """What is in a checkpoint: (the trees by name, the names of the other items).

    The name of the only tree is "".

    Raises:
        CheckpointError: it is not complete or not valid, or has several checkpoints or no tree.
    """
    if _UNFINISHED in path.resolve().name:
        raise CheckpointError(
            f"'{path}' is not a complete checkpoint: orbax did not finish saving it. Use an "
            "earlier one. Nothing was loaded."
        )
    if (path / TREE).is_file():
        return {"": _item(path)}, []
    if not (path / _CHECKPOINT).is_file():
        steps = _steps(path)
        last = max(steps, key=lambda step: int(step.rpartition("_")[2]))
        raise CheckpointError(
            f"'{path}' contains {len(steps)} orbax checkpoints: give the folder of one, such as "
            f"'{path / last}'. Nothing was loaded."
        )
    folders = sorted(place for place in path.iterdir() if place.is_dir())
    trees = {place.name: _item(place) for place in folders if (place / TREE).is_file()}
    if not trees:
        raise damage(path, f"no item in it has a {TREE}")
    others = [place.name for place in folders if place.name not in trees]
    return (trees if len(trees) > 1 else {"": next(iter(trees.values()))}), others


def _steps(path: Path) -> list[str]:
    """The checkpoint folders in a folder, which CheckpointManager names by their steps."""
    return [
        place.name
        for place in path.iterdir()
        if _STEP.fullmatch(place.name) and (place / _CHECKPOINT).is_file()
    ]


def _item(folder: Path) -> Item:
    about = _json(folder, TREE)
    leaves = about.get("tree_metadata")
    if not isinstance(leaves, dict):
        raise damage(folder, f"its {TREE} has no tree_metadata")
    names: dict[str, str] = {}
    for key, leaf in leaves.items():
        try:
            name = ".".join(_word(one["key"]) for one in leaf["key_metadata"])
            kind = leaf["value_metadata"]["value_type"]
            nothing = leaf["value_metadata"].get("skip_deserialize", False)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"its {TREE} has an invalid description of it ({error!r})"
            raise damage(folder, what, key) from error
        if nothing or kind in _NOTHING:
            continue
        if name in names:
            raise damage(folder, "the name is duplicated", name)
        names[name] = str(kind)
    strings = {name for name, kind in names.items() if kind == "string"}
    texts = _json(folder, _STRINGS) if strings else {}
    for name in strings:
        if not isinstance(texts.get(name), str):
            raise damage(folder, f"{_STRINGS} does not have it", name)
    for name in names.keys() - strings:
        if not name or name.startswith("/") or "\0" in name or ".." in name.split("/"):
            raise damage(folder, "an array cannot have this name", name)
    return Item(
        folder,
        {name: kind for name, kind in names.items() if name not in strings},
        {name: texts[name] for name in names if name in strings},
        bool(about.get("use_ocdbt", (folder / _MANIFEST).exists())),
        bool(about.get("use_zarr3", False)),
        bool(about.get("store_array_data_equal_to_fill_value", False)),
    )


def _word(key: object) -> str:
    if not isinstance(key, str | int):
        raise TypeError(f"a key is {key!r}")
    return str(key)


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found: Json = json.loads((folder / name).read_bytes())
    except FileNotFoundError:
        raise damage(folder, f"{name} is missing") from None
    except (ValueError, RecursionError) as error:
        raise damage(folder, f"{name} is not valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise damage(folder, f"{name} is not a JSON object")
    return found


def damage(path: Path, what: str, name: str | None = None) -> CheckpointError:
    """The error for an invalid checkpoint."""
    of = "" if name is None else f": '{name}'"
    return CheckpointError(f"Checkpoint '{path}' is not valid{of}: {what}. Nothing was loaded.")
