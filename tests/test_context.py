"""Settings: checked when they are made, all or none, and part of what programs depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from paramesh import context
from paramesh.errors import ContextError

GROUPS: dict[str, tuple[Callable[..., None], Callable[[str], Any], dict[str, Any]]] = {
    "set_context": (
        context.set_context,
        context.get_context,
        {"mode": context.PYNATIVE_MODE, "save_graphs": True},
    ),
    "set_auto_parallel_context": (
        context.set_auto_parallel_context,
        context.get_auto_parallel_context,
        {
            "parallel_mode": "semi_auto_parallel",
            "device_num": 8,
            "global_rank": 3,
            "gradients_mean": True,
            "parameter_broadcast": True,
            "enable_parallel_optimizer": True,
        },
    ),
    "set_ps_context": (
        context.set_ps_context,
        context.get_ps_context,
        {"enable_ps": True, "server_num": 2},
    ),
}
EACH = pytest.mark.parametrize("group", GROUPS)


@EACH
def test_what_is_set_is_read_back_until_reset(group: str) -> None:
    make, read, values = GROUPS[group]
    before = {name: read(name) for name in values}
    for name, value in values.items():
        key = context.program_key()
        make(**{name: value})
        assert read(name) == value != before[name]
        # The mode chooses whether to compile; the other settings are part of what is compiled.
        assert (context.program_key() != key) == (group != "set_context")
    start = context.program_key()
    context.reset()
    assert (context.program_key() != start) == (group != "set_context")
    assert {name: read(name) for name in values} == before


@EACH
def test_all_settings_or_none(group: str) -> None:
    make, read, values = GROUPS[group]
    before = {name: read(name) for name in values}
    key = context.program_key()
    with pytest.raises(ValueError, match=f"{group}: there is no setting 'no_such'"):
        make(**values, no_such=1)
    assert {name: read(name) for name in values} == before
    assert context.program_key() == key


@EACH
def test_unknown_names_are_listed(group: str) -> None:
    _, read, values = GROUPS[group]
    with pytest.raises(ValueError, match="there is no setting 'nothing'. Settings: ") as caught:
        read("nothing")
    assert all(name in str(caught.value) for name in values)


@pytest.mark.parametrize(
    ("make", "settings", "error", "says"),
    [
        (context.set_context, {"mode": 2}, ValueError, "mode=2 is neither GRAPH_MODE"),
        (context.set_context, {"mode": True}, ValueError, "mode=True is neither"),
        (context.set_context, {"device_target": "Ascend"}, ValueError, "'CPU', 'GPU', 'TPU'"),
        (context.set_context, {"save_graphs": 1}, TypeError, "must be True or False, got 1"),
        (context.set_context, {"compilation_cache_dir": 3}, TypeError, "a path or None, got 3"),
        (
            context.set_auto_parallel_context,
            {"parallel_mode": "fast"},
            ValueError,
            "parallel_mode='fast' is not one of 'stand_alone'",
        ),
        (context.set_auto_parallel_context, {"device_num": 0}, ValueError, "outside 1..4096"),
        (context.set_auto_parallel_context, {"device_num": 4097}, ValueError, "outside 1..4096"),
        (context.set_auto_parallel_context, {"device_num": True}, TypeError, "must be an int"),
        (context.set_auto_parallel_context, {"device_num": 1.0}, TypeError, "must be an int"),
        (context.set_auto_parallel_context, {"global_rank": -1}, ValueError, "outside 0..4095"),
        (context.set_auto_parallel_context, {"gradients_mean": 1}, TypeError, "True or False"),
        (context.set_ps_context, {"enable_ps": 1}, TypeError, "True or False, got 1"),
        (context.set_ps_context, {"server_num": 257}, ValueError, "server_num=257 is outside"),
    ],
)
def test_bad_values(make: Any, settings: dict[str, Any], error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        make(**settings)


def test_device_target_has_to_be_there() -> None:
    context.set_context(device_target="CPU")
    assert context.get_context("device_target") == "CPU"
    with pytest.raises(ContextError, match="JAX runs on CPU here. Install paramesh.tpu."):
        context.set_context(device_target="TPU")
    assert context.get_context("device_target") == "CPU"


def test_parallel_modes_have_names() -> None:
    assert context.ParallelMode.SEMI_AUTO_PARALLEL == "semi_auto_parallel"
    for mode in context.ParallelMode.MODE_LIST:
        context.set_auto_parallel_context(parallel_mode=mode)
        assert context.get_auto_parallel_context("parallel_mode") == mode
