"""What a run over many servers would cost: `python benchmarks/server_simulation.py`.

A simulation, no measurement: steps in sync mode are drawn from the costs below, which are those of
one worker and one server on two cores (`benchmarks/server.py`), and of a network that is assumed.
It says where the design stops, not how fast a cluster is.

Assumptions:

    a worker sends its calls to all servers one after another, and takes the answers likewise
    a server takes the pushes of a step one after another, then updates, logs and answers
    calls wait for the slowest server; its delay is drawn from an exponential distribution
    transfers share a host's link evenly; nothing else is on the network
    a server that dies stops everybody until it is back; deaths are independent
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np

import record


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds, bytes and bytes in a second.

    Attributes:
        call: of a worker for a call and its answer, when many are under way (Ray, pipelined).
        served: of a server for a call and its answer, with checks and record.
        delay: mean of the random delay of an answer.
        link: of a host.
        update: bytes of gradients that a server applies and logs, both at once.
        start: from a death to a new process that reads its files.
        load: bytes of state from a snapshot.
        deaths: of a server in a day.
    """

    call: float = 0.5e-3
    served: float = 1.2e-3
    delay: float = 0.2e-3
    link: float = 1.25e9
    update: float = 0.8e9
    start: float = 2.6
    load: float = 0.4e9
    deaths: float = 1e-3


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of a run: see the columns that `main` prints."""

    messages: int
    calls: float
    serving: float
    transfer: float
    step: float
    memory: float
    recovery: float
    lost: float


def simulated(
    servers: int, workers: int, values: float, costs: Costs, every: int, steps: int
) -> Outcome:
    """A run of dense Parameters.

    Args:
        servers: how many.
        workers: how many.
        values: bytes of all Parameters; a worker pushes and reads all of them in each step.
        costs: what is assumed.
        every: steps between snapshots.
        steps: how many are drawn.
    """
    rng = np.random.default_rng(0)
    part = values / servers
    calls = servers * costs.call
    serving = workers * costs.served + part * workers / costs.update
    # Both ways at once; a worker's link carries everything, a server's what all workers send it.
    transfer = max(values, part * workers) / costs.link
    slowest = rng.exponential(costs.delay, (steps, servers * workers)).max(axis=1).mean()
    step = max(calls, serving, transfer) + slowest + costs.call + costs.served
    # Three versions, the pushes that wait, and the reply that is being sent.
    memory = part * (3 + workers + 1)
    # On average half of the log since the snapshot, of the summed gradients, is applied again.
    recovery = costs.start + part / costs.load + part * every / 2 / costs.update
    lost = servers * costs.deaths * recovery / 86400
    return Outcome(2 * servers * workers, calls, serving, transfer, step, memory, recovery, lost)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gib", type=float, nargs="*", default=[0.1, 8.0], help="of Parameters")
    parser.add_argument("--every", type=int, default=100, help="steps between snapshots")
    for field in dataclasses.fields(Costs):
        parser.add_argument(f"--{field.name}", type=float, default=field.default)
    given = parser.parse_args()
    costs = Costs(**{field.name: getattr(given, field.name) for field in dataclasses.fields(Costs)})
    print(costs)
    for size in given.gib:
        _table(size, given.every, costs)


def _table(size: float, every: int, costs: Costs) -> None:
    print(
        f"\n{size:g} GiB of Parameters\nservers workers  messages   calls  serving transfer"
        "     step  memory/server  recovery    time lost"
    )
    for servers in (1, 4, 16, 64, 256, 1000):
        for workers in (8, 64):
            out = simulated(servers, workers, size * 2**30, costs, every, 50)
            print(
                f"{servers:7} {workers:7} {out.messages:9,} {out.calls:7.3f} {out.serving:8.3f} "
                f"{out.transfer:8.3f} {out.step:8.3f} {out.memory / 2**20:9,.0f} MiB "
                f"{out.recovery:7.1f} s {out.lost * 1e6:7.2f} ppm"
            )


if __name__ == "__main__":
    record.run(main)
