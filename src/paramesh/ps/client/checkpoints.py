"""What a worker says to servers about checkpoints, as operations (see `worker`).

Nothing of a table goes to the worker or comes from it: the worker says what is to be saved, or
loaded, and where, and asks until it is done. Who has asked for a save need not be the one that
waits for it: that may be a thread with a caller of its own, while the worker makes steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paramesh.ps.client.fan_out import FanOut, Operation
from paramesh.ps.client.worker import ServersChanged, Worker
from paramesh.ps.specification.checkpoints import LoadOrder, SaveOrder, shard_range


def save(worker: Worker, orders: Sequence[SaveOrder]) -> Operation[None]:
    """Have each server begin to save its part, at the version after all of this worker's pushes.

    Back when all have begun: later steps do not change what is saved.

    Args:
        worker: who asks.
        orders: for each server.

    Raises:
        ServersChanged: the run has another number of servers than the orders are for.
    """
    yield from worker.settle()
    if len(orders) != worker.servers:
        raise ServersChanged(
            f"the checkpoint was to be saved by {len(orders)} servers, and the run has "
            f"{worker.servers} now: begin it again."
        )
    who = (worker.rank, worker.incarnation)
    yield FanOut({order.server: ("save", (*who, order.plain())) for order in orders})


def saved(identity: str, servers: Iterable[int]) -> Operation[dict[int, str]]:
    """Wait until the servers have saved their parts.

    Args:
        identity: of the checkpoint.
        servers: that have begun.

    Returns:
        Why servers could not, by server; {}: all parts are there.
    """
    left = set(servers)
    failures: dict[int, str] = {}
    while left:
        answers = yield FanOut({server: ("saved", (identity,)) for server in sorted(left)})
        for server, said in answers.items():
            if said["done"]:
                left.discard(server)
                if said["failure"]:
                    failures[server] = said["failure"]
    return failures


def load(worker: Worker, order: LoadOrder) -> Operation[None]:
    """Have each server take what is its own of a table from a checkpoint.

    Args:
        worker: who asks; it has made no step yet.
        order: which table, from where.
    """
    shards = [shard_range(i, worker.servers, order.shards) for i in range(worker.servers)]
    at = {server: first for server, (first, _) in enumerate(shards)}
    while at:
        said = order.plain()
        answers = yield FanOut({i: ("load", (said, *shards[i], at[i])) for i in sorted(at)})
        for server, answer in answers.items():
            at[server] = answer["next"]
            if at[server] >= shards[server][1]:
                del at[server]
