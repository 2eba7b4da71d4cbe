"""Where Parameters lie, in a few words. Nothing is computed and no recipe runs for it."""

from __future__ import annotations

from collections.abc import Iterable

from paramesh.parameter import Parameter

#: Of a Parameter that has no data yet.
RECIPE = "recipe"
#: Of one that the parameter server has.
SERVER = "server"


def place_of(param: Parameter) -> str:
    """Where a Parameter's data lies: `cpu:0`, `sharded over 8 devices`, `replicated on …`."""
    if param.is_param_ps:
        return SERVER
    if param.has_init:
        return RECIPE
    return place_of_array(param._concrete())


def place_of_array(value: object) -> str:
    """The same of an array of JAX."""
    sharding = getattr(value, "sharding", None)
    if sharding is None:
        return "host"
    devices = sorted(sharding.device_set, key=lambda device: device.id)
    if len(devices) == 1:
        return f"{devices[0].platform}:{devices[0].id}"
    how = "replicated on" if sharding.is_fully_replicated else "sharded over"
    return f"{how} {len(devices)} devices"


def places_of(params: Iterable[Parameter]) -> tuple[str, ...]:
    """The places of Parameters, each once, in their order."""
    return tuple(dict.fromkeys(map(place_of, params)))
