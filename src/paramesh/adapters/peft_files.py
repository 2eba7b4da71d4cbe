"""Adapters in the folders of HuggingFace's PEFT.

    adapter_config.json         which layers have terms, and the numbers of `lora`
    adapter_model.safetensors   base_model.model.<path>.lora_A.weight (rank, in), …

Of an embedding the arrays are `lora_embedding_A` and `lora_embedding_B`. Layers of a stack are
there one by one. Layers that are trained as they are have PyTorch's names for their Parameters.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from paramesh.adapters.lora import Adapter, stack_of
from paramesh.adapters.lora_layers import KINDS
from paramesh.checkpoint import load_checkpoint, save_checkpoint
from paramesh.errors import CheckpointError
from paramesh.files.atomic import AtomicFile
from paramesh.nn.cell import Cell
from paramesh.nn.stack import Stack
from paramesh.nn.stacking import values_by_layer
from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor, raw

CONFIG, MODEL = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_KEY = re.compile(r"(?P<path>.+)\.lora_(?P<embedding>embedding_)?(?P<term>[AB])(\.weight)?")
#: What PyTorch calls the Parameters that MindSpore's layers call so.
_TORCH = {
    "gamma": "weight",
    "beta": "bias",
    "embedding_table": "weight",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_Names = Callable[[str], str] | None
#: Settings of PEFT's that change what a layer computes, and what they are without effect.
_PLAIN = {
    "bias": "none",
    "use_dora": False,
    "lora_bias": False,
    "layer_replication": None,
    "trainable_token_indices": None,
    "target_parameters": None,
    "megatron_config": None,
    "corda_config": None,
}


class _Layer(NamedTuple):
    """One layer, as a file knows it.

    Attributes:
        path: attribute path, with the number of the layer if it is in a stack.
        at: that number.
    """

    path: str
    at: int | None


def save_adapter(
    adapter: Adapter,
    folder: str | os.PathLike[str],
    *,
    names: _Names = None,
    base_model: str | None = None,
) -> Path:
    """Save the terms of an adapter alone, as PEFT does.

    Args:
        adapter: from `lora` or `load_adapter`; it may be merged.
        folder: where; it is made if its parent exists.
        names: path of a layer here -> its path in the model of `transformers`, if they differ.
        base_model: what PEFT is to find the model by: a name on the hub, or a path.

    Returns:
        The folder.

    Raises:
        TypeError: `adapter` is none, or `names` gives no str.
        ParameterStateError: the adapter was removed.
        OSError: from the file system.
    """
    if not isinstance(adapter, Adapter):
        raise TypeError(
            f"save_adapter: adapter must be what adapters.lora returns, got "
            f"{type(adapter).__name__}."
        )
    adapter._check_in_place()
    named = _checked_names(names)
    found: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for target in adapter.targets:
        layers = _layers(adapter.net, target.path, target.stack)
        word = "lora_embedding_" if target.cell.weighted == "embedding_table" else "lora_"
        end = "" if word != "lora_" else ".weight"
        for term, param in (("A", target.a), ("B", target.b)):
            rows = [param] if target.stack is None else values_by_layer(param)
            for layer, row in zip(layers, rows, strict=True):
                found[f"{_PREFIX}{named(layer.path)}.{word}{term}{end}"] = row
        for layer in layers:
            ranks[named(layer.path)] = target.rank
            alphas[named(layer.path)] = target.alpha
    for path in adapter.trained:
        for name, param in _parameters_below(adapter.net, path):
            here, _, last = name.rpartition(".")
            found[f"{_PREFIX}{named(here)}.{_TORCH.get(last, last)}"] = param
    rank, alpha = _most_common(ranks), _most_common(alphas)
    config = {
        "peft_type": "LORA",
        "auto_mapping": None,
        "base_model_name_or_path": base_model,
        "revision": None,
        "task_type": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": _whole(alpha),
        "lora_dropout": adapter.dropout,
        "target_modules": sorted(ranks),
        "modules_to_save": sorted(map(named, adapter.trained)) or None,
        "rank_pattern": {path: n for path, n in ranks.items() if n != rank},
        "alpha_pattern": {path: _whole(n) for path, n in alphas.items() if n != alpha},
        "use_rslora": adapter.rslora,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }
    place = Path(folder)
    place.mkdir(exist_ok=True)
    save_checkpoint(found, place / MODEL)
    file = AtomicFile(place / CONFIG)
    try:
        file.write_at(0, (json.dumps(config, indent=2) + "\n").encode())
        file.commit()
    except BaseException:
        file.discard()
        raise
    return place


def load_adapter(net: Cell, folder: str | os.PathLike[str], *, names: _Names = None) -> Adapter:
    """Put the adapter of a PEFT folder beside a network's layers, as `lora` does.

    Args:
        net: the network, with the weights that the adapter was trained beside.
        folder: has `adapter_config.json` and `adapter_model.safetensors`.
        names: path of a layer here -> its path in the file, if they differ.

    Returns:
        The `Adapter`, with the values of the file.

    Raises:
        FileNotFoundError: one of the two files is not there.
        CheckpointError: the adapter is of another kind, or does not fit the network; nothing was
            changed.
        TypeError: `net` is no Cell, or `names` gives no str.
    """
    if not isinstance(net, Cell):
        raise TypeError(f"load_adapter: net must be a Cell, got {type(net).__name__}.")
    named = _checked_names(names)
    place = Path(folder)
    config = _config(place)
    arrays = load_checkpoint(place / MODEL)
    layers: dict[str, tuple[str, int | None]] = {}
    for path, cell in net.cells_and_names():
        if path and type(cell) in KINDS:
            for layer in _layers(net, path, stack_of(net, cell)):
                layers[named(layer.path)] = path, layer.at
    terms: dict[str, dict[tuple[int, str], Parameter]] = {}
    rest: dict[str, Parameter] = {}
    for key, value in arrays.items():
        inner = key.removeprefix(_PREFIX)
        match = _KEY.fullmatch(inner)
        if match is None:
            rest[inner] = value
        elif match["path"] in layers:
            path, at = layers[match["path"]]
            terms.setdefault(path, {})[at or 0, match["term"]] = value
        else:
            raise CheckpointError(
                f"Adapter '{place}' has terms for '{match['path']}', which is no dense layer or "
                f"embedding of {type(net).__name__}; it has {', '.join(list(layers)[:8])}"
                f"{', …' if len(layers) > 8 else ''}. Give names= if the layers are called "
                "otherwise here. Nothing was changed."
            )
    kept = _whole_parameters(net, rest, named, place)
    joined = {path: _joined(net, path, found, place) for path, found in terms.items()}
    file_names = {path: name for name, (path, _) in layers.items()}
    chosen = {
        path: (a.shape[-2], float(_alpha(config, file_names[path])))
        for path, (a, _) in joined.items()
    }
    trained = sorted({path.rpartition(".")[0] for path in kept})
    adapter = Adapter(
        net, chosen, config.get("lora_dropout", 0.0), bool(config.get("use_rslora")), trained
    )
    for target in adapter.targets:
        a, b = joined[target.path]
        target.a.assign(a)
        target.b.assign(b)
    mine = dict(net.parameters_and_names())
    for path, value in kept.items():
        mine[path].assign(raw(value))
    return adapter


def _config(place: Path) -> dict[str, Any]:
    path = place / CONFIG
    if not path.is_file() or not (place / MODEL).is_file():
        missing = CONFIG if not path.is_file() else MODEL
        raise FileNotFoundError(f"load_adapter: there is no '{missing}' in '{place}'.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"Adapter '{place}': {CONFIG} is no JSON ({error}).") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise CheckpointError(
            f"Adapter '{place}' is of the kind {kind!r}; only LORA is read. Nothing was changed."
        )
    for name, plain in _PLAIN.items():
        if config.get(name) not in (plain, None, False, {}, []):
            raise CheckpointError(
                f"Adapter '{place}' has {name}={config[name]!r}, which is not read here. Nothing "
                "was changed."
            )
    return config


def _alpha(config: Mapping[str, Any], path: str) -> float:
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", path):
            return value
    return config.get("lora_alpha", 8)


def _joined(
    net: Cell, path: str, found: Mapping[tuple[int, str], Parameter], place: Path
) -> tuple[Any, Any]:
    """`lora_A` and `lora_B` of a layer, or of all layers of a stack."""
    cells = dict(net.cells_and_names())
    cell: Any = cells[path]
    stack = stack_of(net, cell)
    count = 1 if stack is None else len(stack)
    lost = [f"layer {at}: lora_{t}" for at in range(count) for t in "AB" if (at, t) not in found]
    if lost:
        raise CheckpointError(
            f"Adapter '{place}' has no {', '.join(lost)} for '{path}'. Nothing was changed."
        )
    columns: list[Any] = []
    for term in "AB":
        rows = [raw(found[at, term]) for at in range(count)]
        if len({row.shape for row in rows}) > 1:
            raise CheckpointError(
                f"Adapter '{place}' has terms of several ranks for '{path}', whose layers are "
                "stacked here. Nothing was changed."
            )
        columns.append(rows[0] if stack is None else jnp.stack(rows))
    a, b = columns
    shape = cell._params[KINDS[type(cell)].weighted].shape
    high, wide = shape[::-1] if "Embedding" in type(cell).__name__ else shape
    if a.shape[-1] != wide or b.shape[-2] != high or a.shape[-2] != b.shape[-1]:
        raise CheckpointError(
            f"Adapter '{place}': '{path}' has a weight of shape {tuple(shape)}, which does not fit "
            f"lora_A {list(found[0, 'A'].shape)} and lora_B {list(found[0, 'B'].shape)}. Nothing "
            "was changed."
        )
    return a, b


def _whole_parameters(
    net: Cell, rest: Mapping[str, Parameter], named: Callable[[str], str], place: Path
) -> dict[str, Parameter]:
    """{attribute path: value} of what is in the file besides terms."""
    if not rest:
        return {}
    mine: dict[str, str] = {}
    for path, _ in net.parameters_and_names():
        here, _, last = path.rpartition(".")
        mine[f"{named(here)}.{_TORCH.get(last, last)}"] = path
    params = dict(net.parameters_and_names())
    found: dict[str, Parameter] = {}
    for name, value in rest.items():
        path = mine.get(name)
        if path is None or params[path].shape != value.shape:
            what = "is no Parameter" if path is None else f"is {list(params[path].shape)}"
            raise CheckpointError(
                f"Adapter '{place}' has '{name}' {list(value.shape)}, which {what} of "
                f"{type(net).__name__}. Nothing was changed."
            )
        found[path] = value
    return found


def _layers(net: Cell, path: str, stack: Stack | None) -> list[_Layer]:
    if stack is None:
        return [_Layer(path, None)]
    above = next(p for p, cell in net.cells_and_names() if cell is stack)
    inner = path.removeprefix(f"{above}." if above else "").removeprefix("cell").removeprefix(".")
    parts = [above, "{}", inner]
    form = ".".join(part for part in parts if part)
    return [_Layer(form.format(i), i) for i in range(len(stack))]


def _parameters_below(net: Cell, path: str) -> list[tuple[str, Parameter]]:
    return [(n, p) for n, p in net.parameters_and_names() if n.startswith(f"{path}.")]


def _checked_names(names: _Names) -> Callable[[str], str]:
    def named(path: str) -> str:
        other = path if names is None else names(path)
        if not isinstance(other, str):
            raise TypeError(f"names must give a str for each path, got {other!r} for {path!r}.")
        return other

    return named


def _most_common(values: Mapping[str, Any]) -> Any:
    counted = list(values.values())
    return max(dict.fromkeys(counted), key=counted.count)


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number
