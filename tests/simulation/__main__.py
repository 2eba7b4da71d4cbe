"""Run seeds of the simulation: `python -m simulation 17` in `tests/`; see `--help`."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter, deque

from simulation.configs import draw
from simulation.mutations import MUTATIONS, mutated
from simulation.run import Failed, Run


def main() -> int:
    """Run the seeds that the command line names; the exit code is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m simulation")
    parser.add_argument("seed", type=int, help="the seed, or the first one")
    parser.add_argument("--count", type=int, default=1, help="how many, from there on")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    parser.add_argument("--mutation", choices=[one.name for one in MUTATIONS], default=None)
    given = parser.parse_args()
    mutations = [one for one in MUTATIONS if one.name == given.mutation]
    faults: Counter[str] = Counter()
    events = failed = 0
    began = time.perf_counter()
    for seed in range(given.seed, given.seed + given.count):
        run = Run(seed, mutations[0].made_for(draw(seed)) if mutations else None)
        if given.trace:
            run.world.trace = deque()
        try:
            with mutated(mutations[0]) if mutations else contextlib.nullcontext():
                result = run.run()
        except Failed as error:
            failed += 1
            print(error, flush=True)
        else:
            if given.trace:
                print("\n".join(run.world.trace))
            if result.ended:
                print(f"seed {seed} ended as it had to: {result.ended}")
        faults += run.world.faults
        events += run.world.events
    seconds = time.perf_counter() - began
    print(
        f"{given.count} seeds, {failed} failed; {faults.total()} faults, {events} events, "
        f"{events / seconds:.0f} a second"
    )
    for kind, count in faults.most_common():
        print(f"{count:10} {kind}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
