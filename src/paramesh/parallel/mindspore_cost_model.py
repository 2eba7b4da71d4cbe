"""The settings of MindSpore's cost model, which have no effect here.

MindSpore's search weighs computation against communication by numbers that scripts can set
(`parallel._cost_model_context`). Here the figures of the devices are those of
`search/targets.py`, or measured ones (`paramesh plan --calibrate`). What is set is kept, so that
it can be read, and a note in the log says so once.

Source: MindSpore's settings of these names, and their defaults.
"""

from __future__ import annotations

import logging
from typing import Any

__all__ = [
    "_get_algo_single_loop",
    "_get_multi_subgraphs",
    "_get_rp_matmul_mem_coef",
    "_set_algo_single_loop",
    "_set_multi_subgraphs",
    "_set_rp_matmul_mem_coef",
    "get_cost_model_context",
    "reset_cost_model_context",
    "set_cost_model_context",
]

_logger = logging.getLogger("paramesh")

_FUSION = "costmodel_allreduce_fusion_"
_DEFAULTS: dict[str, Any] = {
    "device_memory_capacity": 16.0 * 2**30,
    "costmodel_alpha": 1.0,
    "costmodel_beta": 400.0,
    "costmodel_gamma": 0.001,
    "costmodel_communi_threshold": 2048.0,
    "costmodel_communi_const": 3072.0,
    "costmodel_communi_bias": 1024.0,
    "run_phase": 0,
    f"{_FUSION}algorithm": 0,
    f"{_FUSION}times": 0,
    f"{_FUSION}tail_percent": 0.1,
    f"{_FUSION}tail_time": 0.1,
    f"{_FUSION}allreduce_inherent_time": 0.1,
    f"{_FUSION}allreduce_bandwidth": 0.1,
    f"{_FUSION}computation_time_parameter": 0.1,
}
#: Settings that have functions of their own.
_OWN: dict[str, Any] = {"multi_subgraphs": False, "single_loop": False, "rp_matmul_mem_coef": 0.1}
_settings = {**_DEFAULTS, **_OWN}
_noted: set[str] = set()


def set_cost_model_context(**settings: object) -> None:
    """Keep settings of MindSpore's cost model.

    Raises:
        ValueError: there is no such setting.
    """
    for name in settings:
        _check("set_cost_model_context", name)
    for name, value in settings.items():
        _keep(name, value)


def get_cost_model_context(attr_key: str) -> Any:
    """What was set, or MindSpore's default.

    Raises:
        ValueError: there is no such setting.
    """
    _check("get_cost_model_context", attr_key)
    return _settings[attr_key]


def reset_cost_model_context() -> None:
    """Set all of them back to MindSpore's defaults."""
    _settings.update(_DEFAULTS | _OWN)


def _set_multi_subgraphs(multi_subgraph: bool = True) -> None:
    """Keep whether a program has several graphs."""
    _keep("multi_subgraphs", multi_subgraph)


def _get_multi_subgraphs() -> Any:
    """What `_set_multi_subgraphs` was given; False before."""
    return _settings["multi_subgraphs"]


def _set_algo_single_loop(single_loop: bool = True) -> None:
    """Keep whether the turns of a loop have one strategy: repeated layers have one here."""
    _keep("single_loop", single_loop)


def _get_algo_single_loop() -> Any:
    """What `_set_algo_single_loop` was given; False before."""
    return _settings["single_loop"]


def _set_rp_matmul_mem_coef(coef: float) -> None:
    """Keep how much the memory of a matrix product weighs."""
    _keep("rp_matmul_mem_coef", coef)


def _get_rp_matmul_mem_coef() -> Any:
    """What `_set_rp_matmul_mem_coef` was given; 0.1 before."""
    return _settings["rp_matmul_mem_coef"]


def _check(call: str, name: str) -> None:
    if name not in _DEFAULTS:
        raise ValueError(f"{call}: there is no setting {name!r}. Settings: {', '.join(_DEFAULTS)}.")


def _keep(name: str, value: object) -> None:
    _settings[name] = value
    if name not in _noted:
        _noted.add(name)
        _logger.warning(
            "%s is a setting of MindSpore's cost model and has no effect: the search here takes "
            "its figures from the devices.",
            name,
        )
