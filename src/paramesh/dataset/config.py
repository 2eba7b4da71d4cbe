"""Settings of all pipelines: the seed, how many workers, how far ahead.

Source: MindSpore's `mindspore.dataset.config`. A setting counts for iterators that begin after it.
What tunes MindSpore's own engine (NUMA, autotune, offload, watchdogs) is checked, kept and read
back, and has no effect here.
"""

from __future__ import annotations

import json
import os
import random
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.dataset import chance

#: What `get_seed` says before a seed was set, as in MindSpore; each iterator then draws its own.
DEFAULT_SEED = 5489

#: The most threads or processes of one operation. MindSpore's limit is the number of processors,
#: which would make scripts depend on the host; this one is beyond the largest hosts.
MOST_WORKERS = 1024

_UINT32_MAX = 2**32 - 1
_INT32_MAX = 2**31 - 1


def _defaults() -> dict[str, Any]:
    return {
        "seed": None,
        "seed_version": 0,
        "prefetch_size": 16,
        "num_parallel_workers": min(8, os.cpu_count() or 1),
        "multiprocessing_timeout_interval": 300,
        "multiprocessing_start_method": "spawn",
        "monitor_sampling_interval": 1000,
        "callback_timeout": 60,
        "autotune_interval": 0,
        "numa_enable": False,
        "auto_num_workers": False,
        "enable_autotune": False,
        "enable_shared_mem": True,
        "auto_offload": False,
        "enable_watchdog": True,
        "dynamic_shape": False,
        "fast_recovery": True,
        "debug_mode": False,
        "error_samples_mode": "return",
    }


_settings = _defaults()


def reset() -> None:
    """Back to the settings that a new process has."""
    _settings.update(_defaults())


def set_seed(seed: int) -> None:
    """Fix the order and the random transforms of iterators that begin from now on.

    As in MindSpore, Python's `random` and `numpy.random` get the same seed.

    Raises:
        TypeError, ValueError: no int in [0, 4294967295].
    """
    _whole("seed", seed, 0, _UINT32_MAX)
    _settings["seed"] = seed
    _settings["seed_version"] += 1
    random.seed(seed)
    np.random.seed(seed)
    chance.set_seed(seed)


def get_seed() -> int:
    """The seed; 5489 if none was set."""
    seed = _settings["seed"]
    return DEFAULT_SEED if seed is None else seed


def new_seed() -> int:
    """The seed for an iterator: what was set, else one from the operating system, above 32 bits."""
    seed = _settings["seed"]
    return 2**32 + secrets.randbits(32) if seed is None else seed


def seed_version() -> int:
    """How often a seed was set."""
    return _settings["seed_version"]


def is_drawn(seed: int) -> bool:
    """Whether nobody has set this seed, so that other processes have another."""
    return seed > _UINT32_MAX


def set_prefetch_size(size: int) -> None:
    """How many rows (or batches) are made ahead of the one in use, at most.

    Raises:
        TypeError, ValueError: no int of at least 1.
    """
    _whole("size", size, 1, _INT32_MAX)
    _settings["prefetch_size"] = size


def get_prefetch_size() -> int:
    """How many rows are made ahead."""
    return _settings["prefetch_size"]


def set_num_parallel_workers(num: int) -> None:
    """The default number of threads of operations that leave it open.

    Raises:
        TypeError, ValueError: no int of at least 1, or more than `MOST_WORKERS`.
    """
    _whole("num", num, 1, MOST_WORKERS)
    _settings["num_parallel_workers"] = num


def get_num_parallel_workers() -> int:
    """The default number of threads of an operation."""
    return _settings["num_parallel_workers"]


def set_multiprocessing_start_method(start_method: str = "fork") -> None:
    """MindSpore's choice of how workers start; here they are always new processes.

    A copy made by `fork` of a process with JAX's threads may hang, so workers get what they need
    by pickle, functions of the script included.

    Raises:
        TypeError, ValueError: neither "fork" nor "spawn".
    """
    if not isinstance(start_method, str):
        raise TypeError(f"set_multiprocessing_start_method: got {start_method!r}, not a str.")
    if start_method not in ("fork", "spawn"):
        raise ValueError(
            f"set_multiprocessing_start_method: must be 'fork' or 'spawn', got {start_method!r}."
        )
    _settings["multiprocessing_start_method"] = start_method


def get_multiprocessing_start_method() -> str:
    """What was set."""
    return _settings["multiprocessing_start_method"]


def set_enable_autotune(enable: bool, filepath_prefix: str | None = None) -> None:
    """MindSpore's autotuning; kept, and of no effect."""
    _flag("enable", enable)
    _settings["enable_autotune"] = enable


def get_enable_autotune() -> bool:
    """What was set."""
    return _settings["enable_autotune"]


def set_debug_mode(debug_mode_flag: bool, debug_hook_list: list[Any] | None = None) -> None:
    """Run everything in the thread that asks for rows, one row at a time; a debugger stops there.

    Raises:
        TypeError: no bool, or hooks, which are MindSpore's own.
    """
    _flag("debug_mode_flag", debug_mode_flag)
    if debug_hook_list:
        raise TypeError("set_debug_mode: debug_hook_list is not supported; use a map of your own.")
    _settings["debug_mode"] = debug_mode_flag


def get_debug_mode() -> bool:
    """Whether everything runs in the thread that asks for rows."""
    return _settings["debug_mode"]


def load(file: str | os.PathLike[str]) -> None:
    """Settings from a JSON file, by MindSpore's names (`seed`, `numParallelWorkers`, …).

    Raises:
        RuntimeError: there is no such file, or it is no JSON object.
    """
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RuntimeError(f"dataset.config.load: '{os.fspath(file)}': {error}") from None
    if not isinstance(found, dict):
        raise RuntimeError(f"dataset.config.load: '{os.fspath(file)}' is no JSON object.")
    setters: dict[str, Callable[[Any], None]] = {
        "seed": set_seed,
        "numParallelWorkers": set_num_parallel_workers,
        "prefetchSize": set_prefetch_size,
        "monitorSamplingInterval": set_monitor_sampling_interval,
    }
    for name, setter in setters.items():
        if name in found:
            setter(found[name])


def _flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"dataset.config: {name} must be a bool, got {value!r}.")


def _whole(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"dataset.config: {name} must be an int, got {value!r}.")
    if not low <= value <= high:
        raise ValueError(f"dataset.config: {name} must be in [{low}, {high}], got {value}.")


def _kept_number(name: str) -> tuple[Callable[[int], None], Callable[[], int]]:
    def setter(value: int) -> None:
        _whole(name, value, 0, _INT32_MAX)
        _settings[name] = value

    return setter, lambda: _settings[name]


def _kept_flag(name: str) -> tuple[Callable[[bool], None], Callable[[], bool]]:
    def setter(value: bool) -> None:
        _flag(name, value)
        _settings[name] = value

    return setter, lambda: _settings[name]


set_multiprocessing_timeout_interval, get_multiprocessing_timeout_interval = _kept_number(
    "multiprocessing_timeout_interval"
)
set_monitor_sampling_interval, get_monitor_sampling_interval = _kept_number(
    "monitor_sampling_interval"
)
set_callback_timeout, get_callback_timeout = _kept_number("callback_timeout")
set_autotune_interval, get_autotune_interval = _kept_number("autotune_interval")
set_sending_batches, _ = _kept_number("sending_batches")
set_numa_enable, get_numa_enable = _kept_flag("numa_enable")
set_auto_num_workers, get_auto_num_workers = _kept_flag("auto_num_workers")
set_enable_shared_mem, get_enable_shared_mem = _kept_flag("enable_shared_mem")
set_auto_offload, get_auto_offload = _kept_flag("auto_offload")
set_enable_watchdog, get_enable_watchdog = _kept_flag("enable_watchdog")
set_dynamic_shape, get_dynamic_shape = _kept_flag("dynamic_shape")
set_fast_recovery, get_fast_recovery = _kept_flag("fast_recovery")
