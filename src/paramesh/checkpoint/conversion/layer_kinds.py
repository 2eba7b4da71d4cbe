"""Which layers the parameters of a checkpoint belong to.

A network knows (`kinds_of`). A file has names and shapes alone, from which most kinds follow
(`guess`); what does not:

- `weight` with four axes may be of a Conv1d or a transposed convolution here, as in PyTorch
  `weight` with three or four: it is taken for a convolution's;
- PyTorch's `weight` with two axes may be an Embedding's: it is if the layer's name says so (`emb`,
  `wte`, `wpe`) and there is no bias; otherwise it is taken for a Dense's;
- PyTorch's `weight` with one axis and no bias may be a PReLU's: it is unless the layer's name has
  `norm` in it;
- Flax's `kernel` with three axes or more is taken for a convolution's;
- the number of heads of an attention layer, from names that are not Flax's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from paramesh.checkpoint.conversion.name_rules import KIND_OF_LAYER, RECURRENT
from paramesh.checkpoint.formats.interface import Entry
from paramesh.nn.attention import MultiheadAttention
from paramesh.nn.cell import Cell

#: Whose names: MindSpore's and paramesh's, or those of a library.
Whose = Literal["paramesh", "torch", "flax"]

Leaves = Mapping[str, Entry]

_BY_AXES = {
    "paramesh": {2: "Dense", 3: "BiDense", 4: "Conv2d", 5: "Conv3d"},
    "torch": {2: "Dense", 3: "Conv1d", 4: "Conv2d", 5: "Conv3d"},
    "flax": {2: "Dense", 3: "Conv1d", 4: "Conv2d", 5: "Conv3d"},
}
_EMBEDDINGS = ("emb", "wte", "wpe")


def kinds_of(net: Cell) -> dict[str, str]:
    """The kinds of a network's layers by their prefixes.

    Raises:
        TypeError: it is no Cell.
    """
    if not isinstance(net, Cell):
        raise TypeError(f"kinds_of needs a Cell, got {type(net).__name__}.")
    found: dict[str, str] = {}
    for prefix, cell in net.cells_and_names():
        kind = KIND_OF_LAYER.get(type(cell).__name__)
        inside = prefix.endswith("bn2d") and found.get(prefix[:-5]) == "BatchNorm3d"
        if kind is not None and not inside:
            heads = f":{cell.num_heads}" if isinstance(cell, MultiheadAttention) else ""
            found[prefix] = kind + heads
    return found


def by_prefix(entries: Iterable[Entry]) -> dict[str, dict[str, Entry]]:
    """Entries by what comes before the last dot of their names, and then by the rest."""
    found: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        prefix, _, leaf = entry.name.rpartition(".")
        found.setdefault(prefix, {})[leaf] = entry
    return found


def guess(entries: Iterable[Entry], whose: Whose) -> dict[str, str]:
    """The kinds of layers, by their prefixes, that names and shapes speak for.

    Args:
        entries: the arrays of a checkpoint.
        whose: names they have.
    """
    layers = by_prefix(entries)
    found: dict[str, str] = {}
    for prefix, leaves in layers.items():
        if whose == "flax":
            kind = _flax(layers, prefix, leaves)
        else:
            kind = _common(leaves) or (_mine if whose == "paramesh" else _torch)(prefix, leaves)
        if kind is None:
            continue
        parent, _, last = prefix.rpartition(".")
        if kind == "BatchNorm" and whose == "paramesh" and last == "bn2d":
            found[parent] = "BatchNorm3d"
        elif kind.startswith("MultiheadAttention") and whose == "flax":
            found[parent] = kind
        else:
            found[prefix] = kind
    return found


def _common(leaves: Leaves) -> str | None:
    """Kinds that have the same names here and in PyTorch."""
    if "in_proj_weight" in leaves or "q_proj_weight" in leaves:
        return "MultiheadAttention"
    if any(RECURRENT.fullmatch(leaf) for leaf in leaves):
        return "Recurrent"
    return None


def _mine(prefix: str, leaves: Leaves) -> str | None:
    if "gamma" in leaves:
        mean = "moving_mean" if prefix else "mean"
        return "BatchNorm" if mean in leaves else "LayerNorm"
    if "embedding_table" in leaves:
        return "Embedding"
    slope = "w" if prefix else "a"
    if set(leaves) == {slope} and len(leaves[slope].shape) == 1:
        return "PReLU"
    if "weight" in leaves:
        return _BY_AXES["paramesh"].get(len(leaves["weight"].shape))
    return None


def _torch(prefix: str, leaves: Leaves) -> str | None:
    if "running_mean" in leaves:
        return "BatchNorm"
    if "weight" not in leaves:
        return None
    last = prefix.rpartition(".")[2].lower()
    axes = len(leaves["weight"].shape)
    if axes == 1:
        if "bias" in leaves:
            return "LayerNorm"
        return None if "norm" in last else "PReLU"
    if axes == 2 and "bias" not in leaves and any(part in last for part in _EMBEDDINGS):
        return "Embedding"
    return _BY_AXES["torch"].get(axes)


def _flax(layers: Mapping[str, Leaves], prefix: str, leaves: Leaves) -> str | None:
    if "kernel" in leaves:
        axes = len(leaves["kernel"].shape)
        parent, _, last = prefix.rpartition(".")
        query = layers.get(f"{parent}.query" if parent else "query", {}).get("kernel")
        if last in ("query", "key", "value", "out") and query and len(query.shape) == 3:
            return f"MultiheadAttention:{query.shape[1]}"
        return _BY_AXES["flax"].get(axes)
    if "embedding" in leaves:
        return "Embedding"
    if "scale" in leaves:
        return "BatchNorm" if "mean" in leaves else "LayerNorm"
    return "PReLU" if set(leaves) == {"negative_slope"} else None
