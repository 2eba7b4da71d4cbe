"""Which host has which server, standby and worker: decided by a rule, from the hosts alone.

Glossary
    host        a machine of a Ray cluster. Where a cluster has all its nodes on one machine, each
                node counts as one
    home        where an actor is started first; Ray starts it elsewhere when that host is lost
    away        hosts that an actor never starts on: those that its partner may have

The rule, with the hosts in the order of their addresses:

- Server i has its home on host i modulo their number, its standby on the host after that one.
- A server and its standby are never on one host, now or after losses, as long as more than one of
  the first hosts is left: of the hosts that are the home of neither, the server may have every
  other one, beginning with the first after the standby's home, and the standby the rest. If there
  is one such host, either may have it: both come to it only when it is the last.
- A worker goes to the host that has the fewest workers; of those, to the one with the fewest
  servers at home; of those, to the first. So does one whose host was lost, among those that are
  left.

Every worker computes the same homes, whoever of them starts the servers.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from paramesh.errors import ParameterServerError


class ClusterHost(NamedTuple):
    """A host.

    Attributes:
        address: at which the others reach it.
        name: that it calls itself.
        node: of Ray, its identity in hexadecimal digits.
        gpus: how many GPUs Ray knows there.
    """

    address: str
    name: str
    node: str
    gpus: int = 0

    def __str__(self) -> str:
        return self.name if self.name == self.address else f"{self.name} ({self.address})"


class Home(NamedTuple):
    """Where an actor belongs.

    Attributes:
        node: of its home.
        away: the nodes that it never starts on.
    """

    node: str
    away: tuple[str, ...] = ()


def ordered(hosts: Iterable[ClusterHost]) -> list[ClusterHost]:
    """Hosts in the order of their addresses, as numbers; one for each address.

    If all have one address, one for each node, in the order of the nodes.
    """
    found = sorted(hosts, key=_place)
    if len({host.address for host in found}) <= 1:
        return found
    first: dict[str, ClusterHost] = {}
    for host in found:
        first.setdefault(host.address, host)
    return list(first.values())


def _place(host: ClusterHost) -> tuple[int, int, str, str]:
    try:
        known = ipaddress.ip_address(host.address)
    except ValueError:  # a name
        return 8, 0, host.address, host.node
    return known.version, int(known), "", host.node


def homes_of_servers(
    nodes: Sequence[str], servers: int, *, standby: bool = False
) -> list[list[Home]]:
    """The home of each server, and of its standby if it has one.

    Args:
        nodes: of the hosts, in their order; at least one.
        servers: how many.
        standby: whether each has one.
    """
    count = len(nodes)
    found: list[list[Home]] = []
    for server in range(servers):
        turned = [nodes[(server + i) % count] for i in range(count)]
        if not standby:
            found.append([Home(turned[0])])
        elif count == 1:
            found.append([Home(turned[0]), Home(turned[0])])
        else:
            others = turned[2:]
            shared = len(others) == 1
            mine = (turned[0], *(() if shared else others[::2]))
            its = (turned[1], *(() if shared else others[1::2]))
            found.append([Home(turned[0], its), Home(turned[1], mine)])
    return found


def servers_at(hosts: int, servers: int) -> list[int]:
    """How many servers have their home on each of so many hosts."""
    return [len(range(at, servers, hosts)) for at in range(hosts)]


def host_for_worker(workers: Sequence[int], servers: Sequence[int], free: Sequence[bool]) -> int:
    """The host that the next worker goes to.

    Args:
        workers: how many workers each host has.
        servers: how many servers have their home there.
        free: whether it lives, and has room for another worker.

    Raises:
        ParameterServerError: no host is free.
    """
    possible = [at for at, is_free in enumerate(free) if is_free]
    if not possible:
        raise ParameterServerError("no host of the cluster has room for another worker.")
    return min(possible, key=lambda at: (workers[at], servers[at], at))


def hosts_of_workers(
    workers: int, servers: Sequence[int], rooms: Sequence[int | None] | None = None
) -> list[int]:
    """The host of each worker.

    Args:
        workers: how many.
        servers: how many servers have their home on each host.
        rooms: how many workers each host can have; None: any number.

    Raises:
        ParameterServerError: they do not have that many places.
    """
    rooms = [None] * len(servers) if rooms is None else rooms
    known = [room for room in rooms if room is not None]
    if len(known) == len(rooms) and sum(known) < workers:
        raise ParameterServerError(
            f"{workers} workers do not fit: the hosts of the cluster have room for {sum(known)}."
        )
    counts = [0] * len(servers)
    found: list[int] = []
    for _ in range(workers):
        free = [room is None or count < room for count, room in zip(counts, rooms, strict=True)]
        at = host_for_worker(counts, servers, free)
        counts[at] += 1
        found.append(at)
    return found


class Assignment:
    """Which worker is on which host, from the start to the end of a run.

    Args:
        hosts: how many there are.
        servers: how many servers the run has.
        workers: how many workers.
        rooms: as for `hosts_of_workers`.

    Raises:
        ParameterServerError: as `hosts_of_workers`.
    """

    def __init__(
        self,
        hosts: int,
        servers: int,
        workers: int,
        rooms: Sequence[int | None] | None = None,
    ) -> None:
        self._servers = servers_at(hosts, servers)
        self._rooms = [None] * hosts if rooms is None else list(rooms)
        self._lost: set[int] = set()
        self._slots: dict[int, tuple[int, int]] = {}
        for worker, at in enumerate(hosts_of_workers(workers, self._servers, self._rooms)):
            self._slots[worker] = at, self._free_slot(at)

    @property
    def hosts(self) -> Mapping[int, int]:
        """The host of each worker."""
        return {worker: at for worker, (at, _) in self._slots.items()}

    def slot(self, worker: int) -> int:
        """Which of the workers of its host a worker is, from 0; no two have the same."""
        return self._slots[worker][1]

    def lose(self, host: int) -> None:
        """A host is gone for good."""
        self._lost.add(host)

    def place(self, worker: int) -> int:
        """The host of a worker, which need not have been there before.

        Raises:
            ParameterServerError: as `place_again`.
        """
        if worker in self._slots:
            return self.place_again(worker)
        return self._place(worker)

    def place_again(self, worker: int) -> int:
        """The host of a worker that is started again: its own, or another if that one is lost.

        Raises:
            ParameterServerError: no host that is left has room.
        """
        before = self._slots[worker]
        if before[0] not in self._lost:
            return before[0]
        del self._slots[worker]
        try:
            return self._place(worker)
        except ParameterServerError:
            self._slots[worker] = before
            raise

    def _place(self, worker: int) -> int:
        counts = Counter(self.hosts.values())
        workers = [counts[host] for host in range(len(self._servers))]
        free = [
            host not in self._lost and (room is None or workers[host] < room)
            for host, room in enumerate(self._rooms)
        ]
        at = host_for_worker(workers, self._servers, free)
        self._slots[worker] = at, self._free_slot(at)
        return at

    def _free_slot(self, host: int) -> int:
        taken = {slot for at, slot in self._slots.values() if at == host}
        return next(slot for slot in range(len(taken) + 1) if slot not in taken)
