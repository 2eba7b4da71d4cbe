"""The settings that a user can make: execution mode, parallel modes, parameter server.

Settings are checked when they are made, never when they are used. They belong to the process, as
in MindSpore; what a compiled program depends on is part of its key (`program_key`).

Glossary
    graph mode      a top-level Cell call is compiled into one XLA program (the default)
    PyNative mode   every operator runs as it is met
"""

from __future__ import annotations

import copy
import difflib
from pathlib import Path
from typing import Any, TypeVar

import jax

from paramesh import ignored_settings, setting_checks
from paramesh._compat.jax import reset_compilation_cache
from paramesh.errors import ContextError
from paramesh.providers import providers

T = TypeVar("T")

GRAPH_MODE = 0
PYNATIVE_MODE = 1

_DEVICE_TARGETS = ("CPU", "GPU", "TPU")
#: The first two are the same exact search, the third is no search.
_SEARCH_MODES = ("recursive_programming", "dynamic_programming", "sharding_propagation")
_BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_FLAT = ("auto", "always", "never")
_PARALLEL_MODES = (
    "stand_alone",
    "data_parallel",
    "hybrid_parallel",
    "semi_auto_parallel",
    "auto_parallel",
)


class ParallelMode:
    """The names of the parallel modes, as in `mindspore.context.ParallelMode`."""

    STAND_ALONE = "stand_alone"
    DATA_PARALLEL = "data_parallel"
    HYBRID_PARALLEL = "hybrid_parallel"
    SEMI_AUTO_PARALLEL = "semi_auto_parallel"
    AUTO_PARALLEL = "auto_parallel"
    MODE_LIST = _PARALLEL_MODES


_DEFAULTS: dict[str, Any] = {
    "mode": GRAPH_MODE,
    "device_target": None,
    "save_graphs": False,
    "compilation_cache_dir": None,
    "flat_parameters": "auto",
    "check_bprop": False,
}
_PARALLEL_DEFAULTS: dict[str, Any] = {
    "parallel_mode": "stand_alone",
    "device_num": 1,
    "global_rank": 0,
    "gradients_mean": False,
    "gradient_fp32_sync": True,
    "parameter_broadcast": False,
    "enable_parallel_optimizer": False,
    "parallel_optimizer_config": None,
    "grad_accumulation_step": 1,
    "pipeline_stages": 1,
    "pipeline_config": None,
    "pipeline_result_broadcast": False,
    "comm_fusion": None,
    "full_batch": False,
    "dataset_strategy": "data_parallel",
    "strategy_ckpt_save_file": "",
    "strategy_ckpt_load_file": "",
    "search_mode": "recursive_programming",
    "device_memory": None,
    "enable_alltoall": False,
    "communi_parallel_mode": "all_group_parallel",
    "loss_repeated_mean": True,
}
#: Former names of settings.
_FORMER = {"auto_parallel_search_mode": "search_mode", "mirror_mean": "gradients_mean"}
#: MindSpore's newer setting for the two files of strategies.
_CHECKPOINTS = "strategy_ckpt_config"
_CHECKPOINT_FILES = {
    "save_file": "strategy_ckpt_save_file",
    "load_file": "strategy_ckpt_load_file",
}
#: An entry of `parallel_optimizer_config` that MindSpore 1.x has as a setting of its own.
_SHARD_SIZE = "optimizer_weight_shard_size"
_GROUP_MODES = ("all_group_parallel", "same_server_group_parallel", "no_group_parallel")
_PS_MODES = ("sync", "stale", "async")
#: What may carry the messages of steps to servers and back.
PS_TRANSPORTS = ("auto", "zmq", "ray")
_PS_DEFAULTS: dict[str, Any] = {
    "enable_ps": False,
    "server_num": 0,
    "worker_num": 1,
    "mode": "sync",
    "staleness": 1,
    "snapshot_every": 1000,
    "wal_dir": None,
    "standby": 0,
    "fsync": False,
    "address": None,
    "timeout": 300.0,
    "transport": "auto",
    "row_trials": True,
}

#: JAX's own threshold: what compiles faster is not kept, which is all of a small network.
_SECONDS = "jax_persistent_cache_min_compile_time_secs"
_JAX_SECONDS = 1.0

#: Settings that are paths, and are followed later.
_PATHS = {"strategy_ckpt_save_file", "strategy_ckpt_load_file", "wal_dir"}

_settings = dict(_DEFAULTS)
#: The settings that `set_context` was given.
_given: set[str] = set()
_parallel = dict(_PARALLEL_DEFAULTS)
_ps = dict(_PS_DEFAULTS)
#: Parallel settings that the user made, even to their defaults.
_set_by_user: set[str] = set()
#: Parameter-server settings that the user made.
_ps_set_by_user: set[str] = set()
_program_key: tuple[Any, ...] = ()
_ps_resets = 0
#: Where the paths among the settings lead from the folder in which they were set (see `place`).
_places: dict[str, str] = {}


def _update_program_key() -> None:
    global _program_key
    _program_key = (
        _settings["check_bprop"],
        *sorted(_parallel.items()),
        *sorted(_set_by_user),
        *sorted(_ps.items()),
        *sorted(_places.items()),
    )


def _hold(settings: dict[str, Any]) -> None:
    """Note where the paths among settings lead from here."""
    for name in _PATHS & settings.keys():
        # Without `normpath`: what `..` is after a link, the file system knows.
        _places[name] = str(Path(settings[name]).absolute()) if settings[name] else ""


def place(name: str) -> str:
    """Where a setting that is a path leads, whatever the current folder is now; "": not set.

    It is that of the moment in which the setting was made: a script that changes its folder
    afterwards does not move files. The setting itself is read as it was given.
    """
    return _places.get(name, "")


def program_key() -> tuple[Any, ...]:
    """The settings that compiled programs depend on; part of their keys."""
    return _program_key


def _check_setting(name: str, value: object) -> Any:
    call = "set_context"
    if name == "mode":
        if isinstance(value, bool) or value not in (GRAPH_MODE, PYNATIVE_MODE):
            raise ValueError(
                f"{call}: mode={value!r} is neither GRAPH_MODE (0) nor PYNATIVE_MODE (1)."
            )
        return value
    if name == "device_target":
        return setting_checks.one_of(call, name, value, (*_DEVICE_TARGETS, None))
    if name == "check_bprop":
        return setting_checks.boolean(call, name, value)
    if name == "save_graphs":
        return (
            value
            if type(value) is int and 0 <= value <= 3
            else setting_checks.boolean(call, name, value)
        )
    if name == "compilation_cache_dir":
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{call}: compilation_cache_dir must be a path or None, got {value!r}.")
        return value
    if name == "flat_parameters":
        return setting_checks.one_of(call, name, value, _FLAT)
    if name in ignored_settings.SETTINGS:
        return value
    raise ValueError(_unknown_setting(call, name))


def _unknown_setting(call: str, name: str) -> str:
    known = [*_DEFAULTS, *ignored_settings.SETTINGS, *_PARALLEL_DEFAULTS, *_PS_DEFAULTS]
    near = difflib.get_close_matches(name, known, 1, 0.7)
    hint = ""
    if near:
        homes = {"set_auto_parallel_context": _PARALLEL_DEFAULTS, "set_ps_context": _PS_DEFAULTS}
        home = [f" (of {setter})" for setter, names in homes.items() if near[0] in names]
        hint = f" Did you mean {near[0]!r}{home[0] if home and near[0] not in _DEFAULTS else ''}?"
    return f"{call}: there is no setting {name!r}. Settings: {', '.join(_DEFAULTS)}.{hint}"


def set_context(**settings: object) -> None:
    """Make settings: `mode`, `device_target`, `save_graphs`, `compilation_cache_dir`, ….

    All are checked before any is made. `mode` is `GRAPH_MODE` (default) or `PYNATIVE_MODE`.
    `device_target` ("CPU", "GPU", "TPU") asserts which JAX backend runs; JAX itself chooses it.
    `compilation_cache_dir` turns on JAX's persistent compilation cache in that directory, at any
    time, for programs however small (unless JAX's own threshold was changed before); None turns it
    off.
    `flat_parameters` says whether an optimizer keeps its many small Parameters and their state in
    a few flat arrays (see the page "What a step costs"): "auto" (default) on the CPU, "always" or
    "never"; it counts for optimizers that have not made a compiled step yet.
    `check_bprop=True` makes it an error if a Cell's `bprop` returns a gradient of another element
    type than the input's; otherwise it is cast.
    Settings of MindSpore's that mean nothing here (`device_id`, `max_call_depth`, …) are accepted;
    the log of `paramesh` says so, once for each.

    Raises:
        ValueError: an unknown setting or a value outside its range.
        TypeError: a value of the wrong type.
        ContextError: `device_target` names a backend that JAX does not run on here.
    """
    if providers.device_target is not None and "device_target" in settings:
        target = providers.device_target(settings["device_target"])
        settings = settings | {"device_target": target}
    checked = {name: _check_setting(name, value) for name, value in settings.items()}
    target = checked.get("device_target")
    if target is not None:
        _require_backend(target)
    if "compilation_cache_dir" in checked:
        _keep_programs_in(checked["compilation_cache_dir"])
    for name in checked:
        if name in ignored_settings.SETTINGS:
            ignored_settings.note(name)
    _settings.update(checked)
    _given.update(checked)
    _update_program_key()


def was_given(name: str) -> bool:
    """Whether `set_context` was called with this setting since the start, or since `reset`."""
    return name in _given


def _keep_programs_in(folder: str | None) -> None:
    """Turn JAX's persistent compilation cache on or off."""
    was, threshold = (0.0, _JAX_SECONDS) if folder is None else (_JAX_SECONDS, 0.0)
    if jax.config.values[_SECONDS] == was:
        jax.config.update(_SECONDS, threshold)
    # JAX would follow a relative path from wherever the program is when it compiles.
    place = folder and str(Path(folder).absolute())
    jax.config.update("jax_compilation_cache_dir", place)
    # JAX looks at the setting once, when it compiles for the first time.
    reset_compilation_cache()


def _require_backend(target: str) -> None:
    providers.join_processes()
    running = jax.default_backend().upper()
    if running != target:
        raise ContextError(
            f"set_context: device_target={target!r}, but JAX runs on {running} here. Install "
            f"paramesh[{'cuda' if target == 'GPU' else target.lower()}] or set JAX_PLATFORMS."
        )


def get_context(attr_key: str) -> Any:
    """The value of one setting.

    Args:
        attr_key: its name.

    Raises:
        ValueError: there is no setting of that name.
    """
    if attr_key in _settings:
        return _settings[attr_key]
    if attr_key in ignored_settings.SETTINGS:
        return ignored_settings.SETTINGS[attr_key][0]
    raise ValueError(_unknown_setting("get_context", attr_key))


def memory_bytes(call: str, name: str, value: object) -> int | None:
    """Bytes, of a number of them or a text such as "80GB"; None for no limit."""
    if value is None:
        return None
    if isinstance(value, str):
        number, unit = value[:-2].strip(), value[-2:].upper()
        try:
            nbytes = int(float(number) * _BYTES[unit])
        except (KeyError, ValueError, OverflowError):
            raise ValueError(
                f"{call}: {name} must be bytes, or a text such as '80GB' or '512MB', got {value!r}."
            ) from None
    elif isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"{call}: {name} must be an int, a text such as '80GB' or None, got {value!r}."
        )
    else:
        nbytes = value
    if nbytes < 1:
        raise ValueError(f"{call}: {name} must be at least one byte, got {value!r}.")
    return nbytes


def _dataset_strategy(call: str, value: T) -> T:
    if not isinstance(value, tuple) and value not in ("data_parallel", "full_batch"):
        raise ValueError(
            f"{call}: dataset_strategy must be 'data_parallel', 'full_batch', or a tuple with a "
            f"strategy for each input, such as ((4, 1), (4,)), got {value!r}."
        )
    return value


def set_auto_parallel_context(**settings: object) -> None:
    """Set how the network is distributed over devices; checked here, as in MindSpore.

    - `parallel_mode`: "stand_alone", "data_parallel", "hybrid_parallel", "semi_auto_parallel" or
      "auto_parallel".
    - `device_num` (1..4096): number of devices; by default all. Whether there are enough is
      checked when the first program needs them.
    - `global_rank` (0..4095): the rank whose slice `Parameter.init_data(layout)` computes.
    - `gradients_mean`: gradients are averaged over the devices instead of summed.
    - `gradient_fp32_sync` (default True): 16-bit gradients are summed as Float32.
    - `parameter_broadcast`: the values of the first process are broadcast before the first step.
    - `enable_parallel_optimizer`: shard the state of optimizers over the devices.
    - `parallel_optimizer_config`, in the modes with one global view: a dict with
      `parallel_optimizer_threshold` (kilobytes; state of smaller Parameters is not sharded),
      `optimizer_weight_shard_size` (over at most so many devices; -1: over all that would hold
      copies), `gradient_accumulation_shard` and `optimizer_level` ("level1" to "level3"; both
      recorded: XLA decides when gradients are sharded and weights gathered).
    - `grad_accumulation_step` (1..65536): number of micro-batches of a step; their gradients
      are averaged before the update.
    - `full_batch`: every device gets the full input.
    - `dataset_strategy`: "data_parallel", "full_batch", or, in the semi-automatic mode, a tuple
      with a strategy or Layout for each input.
    - `strategy_ckpt_save_file`, `strategy_ckpt_load_file`: paths, for the modes with one global
      view.
    - `search_mode`, in auto_parallel: "recursive_programming" (default) and "dynamic_programming"
      find the layouts that cost least; "sharding_propagation" takes those that were given, and
      XLA propagates them.
    - `device_memory`: bytes that a device may hold, or a text such as "80GB"; a search stays below
      it.
    - `comm_fusion`: which gradients are reduced together. `{"openstate": False}` reduces each
      alone; `{"allreduce": {"mode": "size", "config": 32}}` fuses up to 32 megabytes, mode "index"
      splits at the given positions among the gradients, and "auto" leaves it to paramesh. The
      entries "allgather" and "reducescatter" are recorded only.
    - `all_reduce_fusion_config`: MindSpore's older name for positions of mode "index",
      `auto_parallel_search_mode` that of `search_mode`, and `mirror_mean` that of
      `gradients_mean`. `optimizer_weight_shard_size` is the entry of `parallel_optimizer_config`.
    - `strategy_ckpt_config`: a dict of the two paths as `save_file` and `load_file`; its entry
      `only_trainable_params` has no effect.
    - `loss_repeated_mean`: True only, which is what a step of one global view computes.
    - `pipeline_stages` (1..4096), in the modes with one global view: how many groups of devices
      have a part of the layers each; Cells say by `pipeline_stage` where they belong.
    - `pipeline_config`: a dict with `pipeline_scheduler`, "1f1b" (default) or "gpipe", and
      `pipeline_interleave`, False only.
    - `pipeline_result_broadcast`: recorded; the process has the results of all stages.
    - `enable_alltoall` and `communi_parallel_mode`: recorded; XLA chooses the collectives.

    Raises:
        ValueError: an unknown setting or a value outside its range.
        TypeError: a value of the wrong type.
    """
    call = "set_auto_parallel_context"
    for old, name in _FORMER.items():
        if old in settings:
            settings = _renamed(call, settings, old, name)
    if _CHECKPOINTS in settings:
        settings = _with_checkpoint_files(call, settings)
    if "all_reduce_fusion_config" in settings:
        settings = _without_alias(call, settings)
    if _SHARD_SIZE in settings:
        settings = _with_shard_size(call, settings)
    checked: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in _PARALLEL_DEFAULTS:
            raise ValueError(
                f"{call}: there is no setting {name!r}. Settings: {', '.join(_PARALLEL_DEFAULTS)}."
            )
        checked[name] = _check_parallel(call, name, value)
    _parallel.update(checked)
    _hold(checked)
    _set_by_user.update(checked)
    _update_program_key()


def _renamed(call: str, settings: dict[str, Any], old: str, name: str) -> dict[str, Any]:
    """A setting under the name that MindSpore has for it now."""
    if name in settings:
        raise ValueError(f"{call}: {old} and {name} are the same setting; pass only one.")
    return {k: v for k, v in settings.items() if k != old} | {name: settings[old]}


def _with_checkpoint_files(call: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The entries of `strategy_ckpt_config` as settings."""
    config = settings[_CHECKPOINTS]
    entries = {*_CHECKPOINT_FILES, "only_trainable_params"}
    if not isinstance(config, dict) or not config.keys() <= entries:
        raise ValueError(
            f"{call}: {_CHECKPOINTS} must be a dict with entries of "
            f"{', '.join(sorted(entries))}, got {config!r}."
        )
    setting_checks.boolean(call, "only_trainable_params", config.get("only_trainable_params", True))
    files = {_CHECKPOINT_FILES[k]: v for k, v in config.items() if k in _CHECKPOINT_FILES}
    twice = files.keys() & settings.keys()
    if twice:
        raise ValueError(f"{call}: {_CHECKPOINTS} and {min(twice)} are the same; pass only one.")
    return {k: v for k, v in settings.items() if k != _CHECKPOINTS} | files


def _with_shard_size(call: str, settings: dict[str, Any]) -> dict[str, Any]:
    """`optimizer_weight_shard_size` at the place that MindSpore has for it now."""
    name = "parallel_optimizer_config"
    config = settings.get(name, _parallel[name]) or {}
    if name in settings and not (isinstance(config, dict) and _SHARD_SIZE not in config):
        raise ValueError(f"{call}: {name} has an entry {_SHARD_SIZE}; pass only one.")
    rest = {k: v for k, v in settings.items() if k != _SHARD_SIZE}
    return rest | {name: config | {_SHARD_SIZE: settings[_SHARD_SIZE]}}


def _without_alias(call: str, settings: dict[str, Any]) -> dict[str, Any]:
    if "comm_fusion" in settings:
        raise ValueError(
            f"{call}: all_reduce_fusion_config and comm_fusion are the same setting; pass only one."
        )
    rest = {k: v for k, v in settings.items() if k != "all_reduce_fusion_config"}
    positions = settings["all_reduce_fusion_config"]
    return rest | {"comm_fusion": {"allreduce": {"mode": "index", "config": positions}}}


def _check_parallel(call: str, name: str, value: object) -> Any:
    if name == "parallel_mode":
        return setting_checks.one_of(call, name, value, _PARALLEL_MODES)
    if name == "device_num":
        return setting_checks.whole(call, name, value, 1, 4096)
    if name == "global_rank":
        return setting_checks.whole(call, name, value, 0, 4095)
    if name == "loss_repeated_mean":
        if setting_checks.boolean(call, name, value):
            return True
        raise ValueError(
            f"{call}: loss_repeated_mean must be True: a loss that all devices compute is one "
            "loss here, and counts once."
        )
    if name == "search_mode":
        return setting_checks.one_of(call, name, value, _SEARCH_MODES)
    if name == "communi_parallel_mode":
        return setting_checks.one_of(call, name, value, _GROUP_MODES)
    if name == "device_memory":
        return memory_bytes(call, name, value)
    if name == "grad_accumulation_step":
        return setting_checks.whole(call, name, value, 1, 65536)
    if name == "pipeline_stages":
        return setting_checks.whole(call, "pipeline_stages", value, 1, 4096)
    if name == "pipeline_config":
        return setting_checks.pipeline_config(call, value)
    if name == "comm_fusion":
        return setting_checks.comm_fusion(call, value)
    if name == "parallel_optimizer_config":
        return setting_checks.optimizer_config(call, value)
    if name == "dataset_strategy":
        return _dataset_strategy(call, value)
    if name in ("strategy_ckpt_save_file", "strategy_ckpt_load_file"):
        if not isinstance(value, str):
            raise TypeError(f"{call}: {name} must be a path, got {value!r}.")
        return value
    return setting_checks.boolean(call, name, value)


def device_num() -> int | None:
    """The setting `device_num` if it was made, otherwise None: all devices."""
    return _parallel["device_num"] if "device_num" in _set_by_user else None


def get_auto_parallel_context(name: str) -> Any:
    """The value of one parallel setting.

    Raises:
        ValueError: there is no setting of that name.
    """
    if name == "all_reduce_fusion_config":
        fusion = (_parallel["comm_fusion"] or {}).get("allreduce", {})
        return list(fusion["config"]) if fusion.get("mode") == "index" else []
    name = _FORMER.get(name, name)
    if name == _CHECKPOINTS:
        return {entry: _parallel[setting] for entry, setting in _CHECKPOINT_FILES.items()}
    if name == _SHARD_SIZE:
        return (_parallel["parallel_optimizer_config"] or {}).get(_SHARD_SIZE, -1)
    if name not in _parallel:
        raise ValueError(
            f"get_auto_parallel_context: there is no setting {name!r}. "
            f"Settings: {', '.join(_PARALLEL_DEFAULTS)}."
        )
    value = _parallel[name]
    return copy.deepcopy(value) if isinstance(value, dict) else value


def reset_auto_parallel_context() -> None:
    """Set every parallel setting back to its default."""
    _parallel.clear()
    _parallel.update(_PARALLEL_DEFAULTS)
    _hold(_PARALLEL_DEFAULTS)
    _set_by_user.clear()
    _update_program_key()


def set_ps_context(**settings: object) -> None:
    """Settings of the parameter server; checked here, and in force for programs from then on.

    `enable_ps`: whether Parameters with `set_param_ps` live on servers. `server_num` (0..256): how
    many servers, each in a process of its own on Ray; 0 is one in the process of the only worker,
    or, where another setting needs processes, one there. `worker_num` (1..4096): how many workers
    push in each step. `mode`: "sync" (each step is one update from all workers), "stale" (a step
    reads the values of `staleness` steps ago, 1..64) or "async" (every push is applied as it
    comes). `snapshot_every`: steps between snapshots, 0 for none. `wal_dir`: the folder of log and
    snapshots, None for one of its own that is removed at the end. `standby` (0 or 1): a copy of
    each server that takes over from it. `fsync`: bring every record of the log to the disk before
    an update is answered. `address`: of a Ray cluster that is there already; None starts one here,
    for this program alone. `timeout`: seconds until waiting for a server or a worker is an error.
    `transport`: what carries the messages of steps: "auto" (ZeroMQ where pyzmq is installed at both
    ends, and Ray elsewhere), "zmq" (ZeroMQ, encrypted; what is large goes through Ray) or "ray"
    (the calls of Ray's actors). `row_trials`: compare during the run whether caches
    (`vocab_cache_size`) and rows that are requested ahead make steps faster, and go without what
    does not; False: use both always.

    Where `paramesh launch` has started this process, it fills in what is not set here
    (`server_num`, `worker_num`, `address`, `wal_dir`, `transport`) once `enable_ps` is on.

    Raises:
        ValueError: an unknown setting or a value outside its range.
        TypeError: a value of the wrong type.
        ContextError: this process was started for another value of a setting.
    """
    call = "set_ps_context"
    checked = {name: _check_ps_setting(call, name, value) for name, value in settings.items()}
    given = dict(checked)
    wanted, made = _ps | checked, _ps_set_by_user | checked.keys()
    if wanted["enable_ps"]:
        given |= (outside := _from_outside(call, wanted, made))
        wanted |= outside
    _ps.update(wanted)
    _hold(given)
    _ps_set_by_user.update(made)
    _update_program_key()


def _from_outside(call: str, wanted: dict[str, Any], made: set[str]) -> dict[str, Any]:
    """The settings that come from outside, unless one contradicts."""
    said, fallbacks, said_by = providers.server_settings(wanted)
    for name, value in said.items():
        if name in made and wanted[name] != value:
            raise ContextError(
                f"{call}: {name}={wanted[name]!r}, but this process was started with {name}="
                f"{value!r} ({said_by[name]}). Leave it out here, or start the program with it."
            )
    return {name: value for name, value in fallbacks.items() if name not in made} | said


def _check_ps_setting(call: str, name: str, value: object) -> Any:
    ranges = {
        "server_num": (0, 256),
        "worker_num": (1, 4096),
        "staleness": (1, 64),
        "snapshot_every": (0, 2**31 - 1),
        "standby": (0, 1),
    }
    if name in ("enable_ps", "fsync", "row_trials"):
        return setting_checks.boolean(call, name, value)
    if name in ranges:
        return setting_checks.whole(call, name, value, *ranges[name])
    if name in ("mode", "transport"):
        values = _PS_MODES if name == "mode" else PS_TRANSPORTS
        return setting_checks.one_of(call, name, value, values)
    if name in ("wal_dir", "address"):
        if value is not None and (not isinstance(value, str) or not value):
            what = "the path of a folder" if name == "wal_dir" else "the address of a Ray cluster"
            raise TypeError(f"{call}: {name} must be {what} or None, got {value!r}.")
        return value
    if name == "timeout":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{call}: timeout must be a number of seconds, got {value!r}.")
        if not 0 < value < float("inf"):
            raise ValueError(f"{call}: timeout={value} must be above 0 and finite.")
        return float(value)
    raise ValueError(f"{call}: there is no setting {name!r}. Settings: {', '.join(_PS_DEFAULTS)}.")


def get_ps_context(name: str) -> Any:
    """The value of one parameter-server setting.

    Raises:
        ValueError: there is no setting of that name.
    """
    if name not in _ps:
        raise ValueError(
            f"get_ps_context: there is no setting {name!r}. Settings: {', '.join(_PS_DEFAULTS)}."
        )
    return _ps[name]


def ps_resets() -> int:
    """How often `reset_ps_context` was called: it ends the servers."""
    return _ps_resets


def reset_ps_context() -> None:
    """Set server settings back to defaults; servers end with the next run or with this process."""
    global _ps_resets
    _ps_resets += 1
    _ps.clear()
    _ps.update(_PS_DEFAULTS)
    _hold(_PS_DEFAULTS)
    _ps_set_by_user.clear()
    _update_program_key()


def reset() -> None:
    """Set every setting of this module back to its default."""
    if _settings["compilation_cache_dir"] is not None:
        _keep_programs_in(None)
    _settings.clear()
    _settings.update(_DEFAULTS)
    _given.clear()
    reset_auto_parallel_context()
    reset_ps_context()


_update_program_key()
