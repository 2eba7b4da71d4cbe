"""A worker's side of the protocol: how calls are split by server, and which may have to be "
"repeated.

Glossary
    unconfirmed     the pushes that a server may lose, and would have to be sent again
    in flight       in stale mode, a push that was sent and whose answer no step has needed yet
    fan-out         one call to each of several servers
    operation       a method of `Worker` as a generator of fan-outs; it is sent the answers by
                    server, or an error is thrown into it
    life            a random number of the process of a worker
    move            the run gets another number of servers while this worker goes on (see `moving`)
    last-seen       the version up to which a server has reported which rows changed
    joiner          a worker that waits until the run has steps for it (see `worker_sets`)
    ahead           rows that are requested before the step that reads them begins: the servers
                    answer when they have the version that it reads

A push is repeated bit by bit, from memory. There is no network here: whoever runs an operation has
its fan-outs carried out (see `caller`), over Ray or in a simulation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from paramesh.errors import ParameterServerError
from paramesh.ps.client.caller import Caller
from paramesh.ps.client.exchange import Call, Request
from paramesh.ps.client.fan_out import FanOut, Operation
from paramesh.ps.client.peer import Reply
from paramesh.ps.client.row_request import Wanted
from paramesh.ps.client.whole_tables import dump_rows, put_rows
from paramesh.ps.server.refresh import Refresh, join_news, split_watches
from paramesh.ps.specification.packing import (
    PackedIds,
    PackedUpdates,
    join_rows,
    pack_ids,
    pack_updates,
    split_by_server,
    unpack_rows,
    unpack_updates,
)
from paramesh.ps.specification.partition import Partition
from paramesh.ps.specification.protocol import Replaced
from paramesh.ps.specification.specs import check_renamed, check_same, known_among
from paramesh.ps.specification.worker_sets import WorkerSets

Array = np.ndarray[Any, Any]
Update = Mapping[str, Mapping[str, Array]]
T = TypeVar("T")

#: How often a worker that starts asks for a number.
TRIES = 5


class ServersChanged(ParameterServerError):
    """What was asked for names servers, and the run has another number of them by now."""


class _Push(NamedTuple):
    """What a push says, as the server takes it."""

    update: PackedUpdates
    numbers: dict[str, float]
    of: int
    divides: bool


class _InFlight(NamedTuple):
    calls: dict[int, Call]
    sent: dict[int, Request]
    wanted: list[str]


class Worker:
    """What one worker says to the servers.

    Args:
        caller: sends it.
        life: drawn for the process that the worker is: nobody else has it.
        eager: the servers are in async mode: an answer says that the push was applied, whatever
            the version.
        staleness: of the servers, in stale mode.

    Attributes:
        incarnation: of this worker, from the servers.
        start: the step that this worker goes on from: the least that a server waits for.
        rows_pulled: how many rows of tables it was sent.
        moves: the servers have changed, and do not know this worker's pushes yet.
        sets: how many workers there are at which step, as far as it is told.
        divides: the script divides its batches anew when that changes.
        packages: of each server, the versions of the packages that it has.
        compares: its script may have changed since the run was stopped: up to its first step, new
            Parameters are compared with those of the run (see `check_renamed`).
    """

    def __init__(
        self, caller: Caller, life: int, *, eager: bool = False, staleness: int = 0
    ) -> None:
        self.caller = caller
        self.life = life
        self.rank = caller.rank
        self.eager = eager
        self.staleness = staleness
        self.servers = count = len(caller.peers)
        self.partition = Partition(count)
        self.incarnation = 0
        self.start = 0
        self.rows_pulled = 0
        self.in_flight: dict[int, _InFlight] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._unconfirmed: list[dict[int, _Push]] = [{} for _ in range(count)]
        #: The version before which each server has applied all pushes. Those that another one may
        #: lack are kept for all: servers that take their place begin where the least one is.
        self._confirmed = [0] * count
        #: The version up to which each server has reported to this worker which rows moved.
        self._last_seen = [0] * count
        self.moves = False
        self.sets = WorkerSets(caller.workers)
        self.divides = False
        self.packages: dict[int, dict[str, str]] = {}
        self.compares = False
        #: Parameters that it has declared, or asked for.
        self._named: set[str] = set()
        #: What was requested ahead, and how it was sent; what will be, with the next push.
        self._ahead: tuple[Wanted, dict[int, Request]] | None = None
        self._to_ask: Wanted | None = None

    def greet(self) -> Operation[None]:
        """Become the latest incarnation of this worker, and learn where the servers are."""
        tries = 0
        while True:
            asked = yield self._all(("hello", (self.rank, None, self.life)))
            mine = max(said["worker"] for said in asked.values())
            self.caller.greeting = ("hello", (self.rank, mine, self.life))
            try:
                yield self._all(self.caller.greeting)
            except Replaced:
                # What a process before this one has sent came late, and has taken the number.
                self.caller.greeting = None
                tries += 1
                if tries == TRIES:
                    raise
            else:
                break
        # A process before this one that lives still has pushed to servers that had not met this one
        # yet, while others had: what they answered then is of different moments, and further apart
        # than servers ever are. From here on none of them listens to it.
        found = yield self._all(self.caller.greeting)
        self.incarnation = mine
        self.packages = {server: said.get("packages", {}) for server, said in found.items()}
        self.sets = WorkerSets(found[0]["workers"], found[0]["sets"])
        self.start = min(said["next"] for said in found.values())
        self._last_seen = [peer.version for peer in self.caller.peers]

    def join(self) -> Operation[str]:
        """After `greet`: wait until there are steps for this worker, and until the first comes.

        Returns:
            Why there are none; "" if there are.
        """
        if self.rank < self.sets.at(self.start):
            return ""
        while True:
            answers = yield FanOut({0: ("join", (self.rank, self.incarnation))})
            said = answers[0]
            self.sets.take(said["sets"])
            if said["why"] and not said["waits"]:
                return said["why"]
            first = self.sets.first_step(self.rank, self.start)
            if first is not None and not said["waits"]:
                break
        self.start = first
        # The steps before it are others': no server may ask this worker for them. In async mode it
        # begins at once.
        yield self._all(("pull", (first + self.staleness, [])))
        self._last_seen = [peer.version for peer in self.caller.peers]
        return ""

    def change_servers(self, caller: Caller, partition: Partition) -> None:
        """Go on with other servers, which have the state of one version that all former ones had.

        Args:
            caller: speaks to them.
            partition: of Parameters over them.
        """
        steps = sorted(set[int]().union(*self._unconfirmed))
        kept: list[dict[int, _Push]] = [{} for _ in range(partition.servers)]
        for step in steps:
            parts = [unpack_updates(mine[step].update) for mine in self._unconfirmed]
            first = self._unconfirmed[0][step]
            split = partition.split_updates(self.partition.join_updates(parts))
            for server, mine in enumerate(split):
                kept[server][step] = first._replace(update=pack_updates(mine))
        self._unconfirmed = kept
        self._confirmed = [min(self._confirmed)] * partition.servers
        self._last_seen = [min(self._last_seen)] * partition.servers
        # Requests to the former servers are their caller's, which is not asked any more.
        self.in_flight = {}
        self._ahead = self._to_ask = None
        if self.incarnation:
            caller.greeting = ("hello", (self.rank, self.incarnation, self.life))
        self.caller, self.partition, self.servers = caller, partition, partition.servers
        self.moves = True

    def introduce(self) -> Operation[None]:
        """Tell servers that have taken the place of others who this is, and what they may lack."""
        if self.caller.greeting is not None:
            yield self._all(self.caller.greeting)
        for step in sorted(self._unconfirmed[0]):
            yield FanOut(
                {
                    server: ("push", (self.rank, self.incarnation, step, *mine[step]))
                    for server, mine in enumerate(self._unconfirmed)
                }
            )
        self.moves = False

    def _all(self, call: Call) -> FanOut:
        return FanOut(dict.fromkeys(range(self.servers), call))

    # What a session needs (see `client.Client`).

    def declare(self, specs: list[dict[str, Any]], values: Mapping[str, Array]) -> Operation[None]:
        """As in `Client`."""
        there = yield self._all(("known", ()))
        known = [there[i] for i in sorted(there)]
        check_same(self.partition, specs, known)
        self._named.update(spec["name"] for spec in specs)
        if self.compares:
            check_renamed(specs, known, self._named)
        pieces = [[] for _ in range(self.servers)]
        for spec in specs:
            for server, part in enumerate(self.partition.split_spec(spec)):
                pieces[server] += part
            if spec["kind"] == "dense":
                self._shapes[spec["name"]] = tuple(spec["shape"])
        given: list[dict[str, Array]] = [{} for _ in range(self.servers)]
        for name, array in values.items() if self.rank == 0 else ():
            for server, part in enumerate(self.partition.split_values(name, array)):
                given[server].update(part)
        yield FanOut(
            {i: ("declare", (pieces[i], given[i])) for i in range(len(pieces)) if pieces[i]}
        )

    def known(self, specs: list[dict[str, Any]]) -> Operation[list[str]]:
        """As in `Client`."""
        there = yield self._all(("known", ()))
        names = known_among(self.partition, specs, [there[i] for i in sorted(there)])
        self._named.update(spec["name"] for spec in specs)
        for spec in specs:
            if spec["kind"] == "dense" and spec["name"] in names:
                self._shapes[spec["name"]] = tuple(spec["shape"])
        return names

    def specs(self) -> Operation[list[dict[str, Any]]]:
        """The specs of what servers have values of, and train."""
        there = yield self._all(("known", ()))
        return [spec for mine in there.values() for spec in mine if spec.get("optimizer")]

    def step(
        self,
        step: int,
        updates: Update,
        hyper: Mapping[str, float],
        wanted: Iterable[str],
        refresh: Refresh | None = None,
    ) -> Operation[dict[str, Array]]:
        """As in `Client`."""
        self.compares = False
        wanted = list(wanted)
        names = self._pieces(wanted)
        numbers, of = dict(hyper), self.sets.at(step)
        asked = None if refresh is None else split_watches(self.partition, refresh.watches)
        calls: dict[int, tuple[str, tuple[Any, ...]]] = {}
        for server, mine in enumerate(self.partition.split_updates(updates)):
            pushed = _Push(pack_updates(mine), numbers, of, self.divides)
            self._unconfirmed[server][step] = pushed
            # What it answers with is read as many steps later as reads lag behind.
            reader = step + 1 + (self.staleness if asked is None else 0)
            watches = None if asked is None else asked[server]
            last_seen = self._last_seen[server]
            push = (self.rank, self.incarnation, step, *pushed)
            calls[server] = ("step", (*push, names[server], reader, watches, last_seen))
        self.in_flight[step] = _InFlight(calls, self.caller.send(calls), wanted)
        asked_next, self._to_ask = self._to_ask, None
        if asked_next is not None:
            self._ahead = asked_next, self.caller.send(asked_next.calls)
        needed = step - self.staleness if refresh is None else step
        for old in [s for s in self.in_flight if s < needed]:
            self.caller.drop(self.in_flight.pop(old).sent)
        if needed not in self.in_flight:  # of the first steps: nobody has sent a push for them
            return (yield from self.pull(step + 1, wanted))
        return (yield from self._answered(needed, step, wanted, refresh))

    def _answered(
        self, step: int, now: int, wanted: list[str], refresh: Refresh | None
    ) -> Operation[dict[str, Array]]:
        """What a flying push is answered with."""
        calls, sent, asked = self.in_flight.pop(step)
        replies = yield FanOut(calls, sent, step == now)
        self._take_sets(replies)
        if refresh is not None:
            refresh.news = join_news(reply.news for reply in replies.values())
            self.rows_pulled += sum(len(news.ids) for news in refresh.news.values())
        for server, reply in replies.items():
            self._last_seen[server] = reply.version
            self._applied(server, step + 1 if self.eager else reply.version)
        if asked != wanted:  # others were declared meanwhile
            return (yield from self.pull(step + 1 + self.staleness, wanted))
        return self._joined(wanted, replies)

    def _applied(self, server: int, version: int) -> None:
        """A server has all pushes before a version: they are not sent to it again."""
        self._confirmed[server] = max(version, self._confirmed[server])
        everywhere = min(self._confirmed)
        for unconfirmed in self._unconfirmed:
            for old in [s for s in unconfirmed if s < everywhere]:
                del unconfirmed[old]

    def pull(self, step: int, wanted: Iterable[str]) -> Operation[dict[str, Array]]:
        """As in `Client`."""
        wanted = list(wanted)
        # All servers, also of which nothing is wanted: each takes the push of the step that comes
        # next only when it has the version that the step reads.
        calls: dict[int, Call] = {
            server: ("pull", (step, mine)) for server, mine in enumerate(self._pieces(wanted))
        }
        replies = yield FanOut(calls)
        self._take_sets(replies)
        return self._joined(wanted, replies)

    def _take_sets(self, replies: Mapping[int, Reply]) -> None:
        """Learn what the first server has decided about the workers."""
        if 0 in replies:
            self.sets.take(replies[0].sets)

    def ask_ahead(self, step: int, wanted: Mapping[str, Array]) -> None:
        """As in `Client`; a `pull_tables` of the same step and rows takes the answer."""
        self._drop_ahead()
        if not wanted:
            return
        request = self._request(step, pack_ids(wanted))
        if self.eager:
            # Behind the push of the step before, or the rows would be without it.
            self._to_ask = request
        else:
            self._ahead = request, self.caller.send(request.calls)

    def _drop_ahead(self) -> None:
        ahead, self._ahead, self._to_ask = self._ahead, None, None
        if ahead is not None:
            self.caller.drop(ahead[1])

    def pull_tables(self, step: int, wanted: Mapping[str, Array]) -> Operation[dict[str, Array]]:
        """As in `Client`."""
        packed = pack_ids(wanted)
        self.rows_pulled += len(packed.ids)
        ahead = self._ahead
        if ahead is not None and ahead[0].same(step, packed):
            self._ahead = None
            replies = yield FanOut(ahead[0].calls, ahead[1], fresh=False, ahead=True)
            # In async mode one that was repeated may have overtaken the push.
            if not self.eager or all(
                reply.version >= self._last_seen[server] for server, reply in replies.items()
            ):
                return self._rows(ahead[0], replies)
        self._drop_ahead()
        request = self._request(step, packed)
        replies = yield FanOut(request.calls)
        return self._rows(request, replies)

    def _request(self, step: int, packed: PackedIds) -> Wanted:
        if self.servers == 1:
            return Wanted(step, packed, None, {0: ("pull_tables", (step, packed))})
        home = self.partition.servers_of_rows(packed.ids)
        splits = {
            server: (places, counts)
            for server, (places, counts) in enumerate(split_by_server(packed, home, self.servers))
            if len(places) or server == 0
        }
        calls: dict[int, Call] = {
            server: ("pull_tables", (step, PackedIds(packed.names, counts, packed.ids[places])))
            for server, (places, counts) in splits.items()
        }
        return Wanted(step, packed, splits, calls)

    def _rows(self, request: Wanted, replies: dict[int, Reply]) -> dict[str, Array]:
        packed = request.packed
        parts = {server: reply.rows for server, reply in replies.items() if reply.rows}
        if request.splits is None:
            rows = unpack_rows(parts[0], packed.counts)
        else:
            rows = join_rows(packed, request.splits, parts)
        return dict(zip(packed.names, rows, strict=True))

    def pull_items(self, name: str, server: int, after: int, count: int) -> Operation[Reply]:
        """The next trained rows of a table on one server (see `Server.items`).

        Raises:
            ServersChanged: there is no such server any more.
        """
        if server >= self.servers:
            raise _changed(f"the iteration over Parameter '{name}'")
        replies = yield FanOut({server: ("pull_items", (name, after, count))})
        return replies[server]

    def put(self, name: str, fields: Mapping[str, Array], ids: Array | None) -> Operation[None]:
        """As in `Client`."""
        if ids is not None:
            yield from put_rows(self.partition, name, fields, ids)
            return
        pieces: list[dict[str, dict[str, Array]]] = [{} for _ in range(self.servers)]
        for field, values in fields.items():
            for server, parts in enumerate(self.partition.split_values(name, values)):
                for piece, part in parts.items():
                    pieces[server].setdefault(piece, {})[field] = part
        yield FanOut({i: ("put", (mine, None)) for i, mine in enumerate(pieces) if mine})

    def dump(self, name: str) -> Operation[dict[str, Array]]:
        """As in `Client`, at the version after all of this worker's pushes."""
        yield from self.settle()
        if name in self._shapes:
            names = self._pieces([name])
            answers = yield FanOut({i: ("dump", (mine,)) for i, mine in enumerate(names) if mine})
            found = {n: f for answer in answers.values() for n, f in answer.items()}
            fields = next(iter(found.values()))
            return {
                field: self.partition.join_values(
                    name, self._shapes[name], {piece: found[piece][field] for piece in found}
                )
                for field in fields
            }
        return (yield from dump_rows(self.servers, name, one_version=not self.eager))

    def stats(self) -> Operation[list[dict[str, Any]]]:
        """Of each server, as `Server.stats`."""
        found = yield self._all(("stats", ()))
        return [found[i] for i in sorted(found)]

    def leave(self) -> Operation[bool]:
        """Sign off; whether this was the last worker."""
        answers = yield FanOut({0: ("leave", (self.rank, self.incarnation))})
        return answers[0] == 0

    def settle(self) -> Operation[None]:
        """Wait until all of this worker's pushes are applied; in stale mode replies come before."""
        replies = yield FanOut(
            {
                server: ("settle", (self.rank, 1 + max(unconfirmed)))
                for server, unconfirmed in enumerate(self._unconfirmed)
                if any(s >= self._confirmed[server] for s in unconfirmed) and not self.eager
            }
        )
        for server, reply in replies.items():
            self._applied(server, reply.version)

    def _pieces(self, wanted: Iterable[str]) -> list[list[str]]:
        names: list[list[str]] = [[] for _ in range(self.servers)]
        for name in wanted:
            for part in self.partition.pieces(name, math.prod(self._shapes[name])):
                names[part.server].append(part.name)
        return names

    def _joined(self, wanted: Iterable[str], replies: dict[int, Reply]) -> dict[str, Array]:
        pieces = {name: a for reply in replies.values() for name, a in reply.values.items()}
        return {n: self.partition.join_values(n, self._shapes[n], pieces) for n in wanted}

    def earlier(self, server: int, call: Call) -> list[Call]:
        """The pushes before the present one, in order, for a server that may have lost them."""
        method, arguments = call
        unconfirmed = self._unconfirmed[server]
        return [
            ("push", (self.rank, self.incarnation, step, *unconfirmed[step]))
            for step in sorted(unconfirmed)
            if step >= self._confirmed[server] and (method != "step" or step < arguments[2])
        ]


def _changed(what: str) -> ServersChanged:
    return ServersChanged(f"the number of servers was changed during {what}: begin it again.")
