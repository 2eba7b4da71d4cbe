"""What a network between worker and server costs a step: `python benchmarks/server_delay.py`.

The click model of `server_clicks` with one server and one worker over ZeroMQ, whose messages pass
through a relay in user space (`tests/support/relay.py`) as those to another host would: without
delay, and with `--delay` milliseconds in each direction, so that a round trip takes twice as long.
The two take turns. For each way to get rows:

    on demand   rows are pulled when the step that looks them up begins
    cache       each table has a cache on the device, the next batch is announced
    ahead       the next batch is announced, its rows are requested ahead
    chosen      as "cache", and trials choose among the three while the run goes on
    stale       as "ahead", in stale mode with a staleness of 1

it prints the medians of a step, the ratio, and the processor time of a step (all processes).

Needs paramesh[ps].
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from typing import Any

import record
from server_clicks import Contestant, Running, clicks

OURS = "clicks_of_paramesh.py"
WAYS: dict[str, dict[str, Any]] = {
    "on demand": {},
    "cache": {"cache": 6000, "prefetch": True, "row_trials": False},
    "ahead": {"prefetch": True, "row_trials": False},
    "chosen": {"cache": 6000, "prefetch": True},
    "stale": {"prefetch": True, "row_trials": False, "mode": "stale", "staleness": 1},
}


def pair(way: str, delay: float, steps: int, turn: int, folder: str) -> None:
    """A way without delay and with it."""
    running: list[Running] = []
    try:
        for seconds in (0.0, delay):
            settings = {"transport": "zmq", "delay": seconds} | WAYS[way]
            contestant = Contestant(OURS, 1, settings=settings)
            running.append(Running(f"{way} {seconds}", contestant, sys.executable, folder))
        # All rows exist when it counts, everything is compiled, and a trial is over.
        warm = 4 * clicks.BATCHES if way == "chosen" else clicks.BATCHES + 2
        for one in running:
            one.turn(warm, counts=False)
        for _ in range(max(1, steps // turn)):
            for one in running:
                one.turn(turn, counts=True)
    finally:
        for one in running:
            one.close()
    near, far = (statistics.median(one.times) * 1e3 for one in running)
    cpu = [statistics.median(one.all) * 1e3 for one in running]
    chosen = f"   {running[0].way}; {running[1].way}" if way == "chosen" else ""
    print(f"{way:>10}{near:10.1f}{far:12.1f}{far / near:9.2f}{cpu[0]:12.1f}{cpu[1]:8.1f}{chosen}")
    if running[0].losses != running[1].losses:
        raise SystemExit("the losses differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--delay", type=float, default=10.0, help="milliseconds, each direction")
    parser.add_argument("--steps", type=int, default=24, help="of each")
    parser.add_argument("--turn", type=int, default=6)
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--folder", default=None, help="for the logs")
    given = parser.parse_args()
    print(f"milliseconds of a step; a round trip takes {2 * given.delay:g} ms\n")
    print("            no delay  with delay    ratio   processor, without and with")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for way in given.only:
            pair(way, given.delay / 1e3, given.steps, given.turn, folder)


if __name__ == "__main__":
    record.run(main)
