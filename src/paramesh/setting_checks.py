"""Checks of settings: names, switches, whole numbers, and the parallel settings that are dicts."""

from __future__ import annotations

import copy
from typing import Any

#: For each collective of `comm_fusion`, its modes with what `config` has to be.
_FUSIONS = {
    "allreduce": ("auto", "size", "index"),
    "allgather": ("auto", "size"),
    "reducescatter": ("auto", "size"),
}

#: The entries of `parallel_optimizer_config`.
_OPTIMIZER_CONFIG: dict[str, Any] = {
    "gradient_accumulation_shard": False,
    "parallel_optimizer_threshold": 0,
    "optimizer_weight_shard_size": -1,
    "optimizer_level": "level1",
}

#: The entries of `pipeline_config`.
_PIPELINE_CONFIG: dict[str, Any] = {"pipeline_interleave": False, "pipeline_scheduler": "1f1b"}


def one_of(call: str, name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """The value, if it is one of those that are allowed."""
    if isinstance(value, bool) != any(isinstance(a, bool) for a in allowed) or value not in allowed:
        raise ValueError(f"{call}: {name}={value!r} is not one of {', '.join(map(repr, allowed))}.")
    return value


def boolean(call: str, name: str, value: Any) -> bool:
    """The value, if it is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{call}: {name} must be True or False, got {value!r}.")
    return value


def whole(call: str, name: str, value: Any, low: int, high: int) -> int:
    """The value, if it is a whole number in a range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{call}: {name} must be an int, got {value!r}.")
    if not low <= value <= high:
        raise ValueError(f"{call}: {name}={value} is outside {low}..{high}.")
    return value


def optimizer_config(call: str, value: Any) -> dict[str, Any] | None:
    """The setting `parallel_optimizer_config`, with what was left out."""
    if value is None:
        return None
    name = "parallel_optimizer_config"
    if not isinstance(value, dict) or not value.keys() <= _OPTIMIZER_CONFIG.keys():
        raise TypeError(
            f"{call}: {name} must be None or a dict with keys among "
            f"{', '.join(_OPTIMIZER_CONFIG)}, got {value!r}."
        )
    made = _OPTIMIZER_CONFIG | value
    boolean(call, f"{name}['gradient_accumulation_shard']", made["gradient_accumulation_shard"])
    threshold, size = made["parallel_optimizer_threshold"], made["optimizer_weight_shard_size"]
    whole(call, f"{name}['parallel_optimizer_threshold'], kilobytes,", threshold, 0, 2**31 - 1)
    if size != -1 or isinstance(size, bool):
        whole(call, f"{name}['optimizer_weight_shard_size']", size, 1, 4096)
    shards = made["gradient_accumulation_shard"]
    level = made["optimizer_level"] = value.get("optimizer_level", "level2" if shards else "level1")
    one_of(call, f"{name}['optimizer_level']", level, ("level1", "level2", "level3"))
    if shards and level != "level2":
        raise ValueError(
            f"{call}: {name} has gradient_accumulation_shard=True, which is optimizer_level="
            f"'level2', and optimizer_level={level!r}. Leave one of them out."
        )
    return made


def pipeline_config(call: str, value: object) -> dict[str, Any] | None:
    """The setting `pipeline_config`, with what was left out."""
    if value is None:
        return None
    name = "pipeline_config"
    if not isinstance(value, dict) or not value.keys() <= _PIPELINE_CONFIG.keys():
        raise TypeError(
            f"{call}: {name} must be None or a dict with keys among "
            f"{', '.join(_PIPELINE_CONFIG)}, got {value!r}."
        )
    made = _PIPELINE_CONFIG | value
    if boolean(call, f"{name}['pipeline_interleave']", made["pipeline_interleave"]):
        raise ValueError(
            f"{call}: {name}['pipeline_interleave']=True is not supported: a stage has Cells that "
            "follow one another. Leave it False, and use more micro-batches to keep stages busy."
        )
    one_of(call, f"{name}['pipeline_scheduler']", made["pipeline_scheduler"], ("1f1b", "gpipe"))
    return made


def comm_fusion(call: str, value: Any) -> dict[str, Any] | None:
    """The setting `comm_fusion`."""
    if value is None:
        return None
    example = '{"openstate": True, "allreduce": {"mode": "size", "config": 32}}'
    known = ("openstate", *_FUSIONS)
    if not isinstance(value, dict) or not value.keys() <= set(known):
        raise TypeError(
            f"{call}: comm_fusion must be None or a dict with keys among {', '.join(known)}, such "
            f"as {example}, got {value!r}."
        )
    for key, entry in value.items():
        if key == "openstate":
            boolean(call, "comm_fusion['openstate']", entry)
            continue
        if not isinstance(entry, dict) or not {"mode"} <= entry.keys() <= {"mode", "config"}:
            raise TypeError(
                f"{call}: comm_fusion[{key!r}] must be a dict with a 'mode' and a 'config', such "
                f"as {example}, got {entry!r}."
            )
        _fusion_entry(call, key, entry)
    return copy.deepcopy(value)


def _fusion_entry(call: str, key: str, entry: dict[str, Any]) -> None:
    where = f"comm_fusion[{key!r}]"
    mode, config = entry["mode"], entry.get("config")
    one_of(call, f"{where}['mode']", mode, _FUSIONS[key])
    if mode == "auto" and config is not None:
        raise ValueError(f"{call}: {where} in mode 'auto' takes config=None, got {config!r}.")
    if mode == "size":
        whole(call, f"{where}['config'], megabytes,", config, 1, 4096)
    if mode == "index":
        places = config if isinstance(config, list) else []
        positive = all(type(i) is int and i > 0 for i in places)
        if not places or not positive or sorted(set(places)) != places:
            raise ValueError(
                f"{call}: {where} in mode 'index' takes the rising positions at which the "
                f"gradients are split, such as [20, 35], got {config!r}."
            )
