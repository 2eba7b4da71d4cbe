"""One start of a contestant: from the launch of this process to the end of its first step.

Run by `start.py`, which compares them, in a fresh interpreter in the folder above:

    python -m networks.one_start {"key": "paramesh", …} LAUNCHED

LAUNCHED is the machine's monotonic clock when the process was launched. What it prints last is one
object of JSON: the version, the loss of the first step, and the seconds from the launch until

    imports     everything that the contestant needs is imported
    built       the network, its first weights and its optimizer exist (or are declared)
    first       the first step is over
    second      the second step is over
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from networks import definitions
from networks.contestants import BY_KEY, Contestant, Unavailable


def of_jax(network: Any, batch: Any, drawn: str) -> Any:
    """Hand-written JAX with first weights of jax.random, drawn `together` or `singly`."""
    from networks import by_hand

    draw = {"together": by_hand.drawn_together, "singly": by_hand.drawn_singly}[drawn]
    return by_hand.training(network, draw(network), batch)


def of_paramesh(network: Any, batch: Any) -> Any:
    """Cells whose Parameters are recipes, which run as the first step needs them."""
    from networks import of_paramesh as cells

    return cells.training(network, cells.CELLS[network.key](network), batch)


def cached(key: str, folder: str) -> None:
    """Turn on JAX's persistent compilation cache, as a user of the contestant does."""
    if key == "paramesh":
        from paramesh import context

        context.set_context(compilation_cache_dir=folder)
    else:
        import jax

        jax.config.update("jax_compilation_cache_dir", folder)
        # As paramesh does it: otherwise programs that compile in less than a second are left out.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def start(
    contestant: Contestant, letter: str, file: Path, drawn: str, folder: str | None, launched: float
) -> dict[str, Any]:
    """Start; what is printed."""
    network = definitions.NETWORKS[letter]
    module = contestant.load()
    _, batch = definitions.read(file)
    if folder is not None:
        cached(contestant.key, folder)
    found: dict[str, Any] = {"version": contestant.version()}

    def note(what: str) -> None:
        found[what] = time.monotonic() - launched

    note("imports")
    if contestant.key == "jax":
        step = of_jax(network, batch, drawn)
    elif contestant.key == "paramesh":
        step = of_paramesh(network, batch)
    else:
        step = module.build(network, None, batch, **contestant.options)
    note("built")
    found["loss"] = float(step())
    note("first")
    step()
    note("second")
    return found


def main() -> None:
    asked, launched = json.loads(sys.argv[1]), float(sys.argv[2])
    try:
        found = start(
            BY_KEY[asked["key"]],
            asked["network"],
            Path(asked["file"]),
            asked["drawn"],
            asked["cache"],
            launched,
        )
    except Unavailable as reason:
        found = {"unavailable": str(reason)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
