"""The memory of one contestant, in this process: what `memory.py` measures.

Run in a fresh interpreter in the folder above:

    python -m networks.one_memory {"key": "paramesh", "what": "step", …} LAUNCHED

`what` is `start` (build a network and bring all of its weights to life) or `step` (train it for
some steps). What it prints last is one object of JSON, in bytes of resident memory:

    empty       with everything imported and the device opened, before anything was built
    peak        the most at any time, until everything asked for was done
    again       for `step`: the most during the last two steps, when all is compiled
    held        at the end
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from networks import definitions
from networks.contestants import BY_KEY, Contestant, Unavailable
from networks.definitions import Network

STEPS = 3


def resident(field: str) -> int:
    """Bytes that /proc/self/status gives for VmRSS (now) or VmHWM (the most)."""
    with open("/proc/self/status") as lines:
        line = next(line for line in lines if line.startswith(field))
    return 1024 * int(line.split()[1])


def forget_the_peak() -> None:
    """Let VmHWM begin anew."""
    with open("/proc/self/clear_refs", "w") as door:
        door.write("5")


def network_of(asked: dict[str, Any]) -> Network:
    """The network that was asked for: a letter, or D with a number of layers."""
    layers = asked["layers"]
    return definitions.wide(layers) if layers else definitions.NETWORKS[asked["network"]]


def starting(contestant: Contestant, module: Any, network: Network) -> Callable[[], Any]:
    """What builds the network; it returns what has to stay alive."""
    if contestant.key == "jax":
        return lambda: waited(module.drawn_singly(network))
    if contestant.key == "paramesh":
        return lambda: module.CELLS[network.key](network).init_parameters_data()
    return lambda: module.filled(network, None)


def waited(arrays: Any) -> Any:
    """The arrays, when they are there."""
    import jax

    return jax.block_until_ready(arrays)


def training(contestant: Contestant, module: Any, network: Network) -> Callable[[], Any]:
    """Build the network from weights of its own; one step per call."""
    batch = definitions.batch(network)
    if contestant.key == "jax":
        return module.training(network, module.drawn_singly(network), batch)
    if contestant.key == "paramesh":
        return module.training(network, module.CELLS[network.key](network), batch)
    return module.build(network, None, batch, **contestant.options)


def open_device(contestant: Contestant) -> None:
    """What every program of the contestant does before the first array."""
    if contestant.package in ("jax", "paramesh", "flax", "equinox"):
        import jax

        jax.devices()


def measure(contestant: Contestant, asked: dict[str, Any]) -> dict[str, Any]:
    """What is printed."""
    network, module = network_of(asked), contestant.load()
    open_device(contestant)
    found: dict[str, Any] = {"version": contestant.version(), "weights": network.bytes}
    found["empty"] = resident("VmRSS")
    forget_the_peak()
    if asked["what"] == "start":
        kept = starting(contestant, module, network)()
    else:
        kept = training(contestant, module, network)
        for _ in range(STEPS):
            found["loss"] = float(kept())
    found["peak"] = resident("VmHWM")
    if asked["what"] == "step":
        forget_the_peak()
        kept(), kept()
        found["again"] = resident("VmHWM")
    found["held"] = resident("VmRSS")
    del kept
    return found


def main() -> None:
    asked = json.loads(sys.argv[1])
    try:
        found = measure(BY_KEY[asked["key"]], asked)
    except Unavailable as reason:
        found = {"unavailable": str(reason)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
