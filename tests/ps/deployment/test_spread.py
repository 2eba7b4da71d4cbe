"""Where servers, standbys and workers go: evenly, never two of a pair together, none forgotten."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.cluster_hosts import chosen, hosts_of
from paramesh.ps.deployment.spread import (
    Assignment,
    ClusterHost,
    Home,
    homes_of_servers,
    hosts_of_workers,
    ordered,
    servers_at,
)

COUNTS = st.integers(1, 9)


def nodes(count: int) -> list[str]:
    return [f"node-{at}" for at in range(count)]


@given(COUNTS, st.integers(1, 20), st.booleans())
def test_servers_and_standbys_are_spread_evenly(hosts: int, servers: int, standby: bool) -> None:
    homes = homes_of_servers(nodes(hosts), servers, standby=standby)
    assert [len(pair) for pair in homes] == [1 + standby] * servers
    for place in range(1 + standby):
        counts = Counter(pair[place].node for pair in homes)
        assert max(counts.values()) - min(counts[node] for node in nodes(hosts)) <= 1
    assert servers_at(hosts, servers) == [
        sum(pair[0].node == node for pair in homes) for node in nodes(hosts)
    ]
    if standby and hosts > 1:
        assert all(first.node != second.node for first, second in homes)


@given(COUNTS, st.integers(1, 5), st.data())
def test_a_server_and_its_standby_never_meet_while_two_hosts_are_left(
    hosts: int, servers: int, data: st.DataObject
) -> None:
    """Whatever is lost, and wherever Ray starts what may start there."""
    living = set(nodes(hosts))
    homes = homes_of_servers(nodes(hosts), servers, standby=True)
    places: list[list[str | None]] = [[home.node for home in pair] for pair in homes]
    while len(living) > 1:
        if data.draw(st.booleans()):
            return
        living.remove(data.draw(st.sampled_from(sorted(living))))
        for pair, now in zip(homes, places, strict=True):
            for at, home in enumerate(pair):
                if now[at] not in living:
                    may = sorted(living - set(home.away))
                    now[at] = data.draw(st.sampled_from(may)) if may else None
            assert any(now), "neither of a pair has a place"
            if len(living) > 1:
                assert now[0] != now[1], (now, living)


def test_after_one_loss_both_of_every_pair_have_a_place_again() -> None:
    for count in (3, 4, 5, 6):
        for lost in nodes(count):
            living = set(nodes(count)) - {lost}
            for pair in homes_of_servers(nodes(count), 7, standby=True):
                assert all(living - set(home.away) for home in pair), (count, lost, pair)


def test_on_one_host_and_without_standbys_nothing_is_forbidden() -> None:
    assert homes_of_servers(["a"], 2, standby=True) == [[Home("a"), Home("a")]] * 2
    assert homes_of_servers(["a", "b"], 3) == [[Home("a")], [Home("b")], [Home("a")]]


@given(COUNTS, COUNTS, st.integers(0, 30))
def test_workers_are_spread_evenly_and_beside_few_servers(
    hosts: int, servers: int, workers: int
) -> None:
    there = servers_at(hosts, servers)
    found = hosts_of_workers(workers, there)
    counts = Counter(found)
    assert sum(counts.values()) == workers
    assert max(counts[at] for at in range(hosts)) - min(counts[at] for at in range(hosts)) <= 1
    # Those with one worker more are those with the fewest servers.
    more = [there[at] for at in range(hosts) if counts[at] == max(counts.values(), default=0)]
    less = [there[at] for at in range(hosts) if counts[at] < max(counts.values(), default=0)]
    assert not less or max(more) <= min(less)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 24))
def test_no_host_has_more_workers_than_room(rooms: list[int], workers: int) -> None:
    if workers > sum(rooms):
        with pytest.raises(ParameterServerError, match=f"{workers} workers do not fit"):
            hosts_of_workers(workers, [0] * len(rooms), rooms)
        return
    counts = Counter(hosts_of_workers(workers, [0] * len(rooms), rooms))
    assert all(counts[at] <= room for at, room in enumerate(rooms))


@given(st.integers(1, 6), st.integers(1, 12), st.data())
def test_workers_of_lost_hosts_go_to_those_that_are_left(
    hosts: int, workers: int, data: st.DataObject
) -> None:
    assignment = Assignment(hosts, 2, workers)
    living = set(range(hosts))
    while len(living) > 1:
        before = dict(assignment.hosts)
        lost = data.draw(st.sampled_from(sorted(living)))
        living.remove(lost)
        assignment.lose(lost)
        for worker, host in before.items():
            now = assignment.place_again(worker)
            assert now in living
            assert now == host or host == lost
        counts = Counter(assignment.hosts.values())
        assert max(counts.values()) - min(counts[at] for at in living) <= 1
        slots = {(at, assignment.slot(worker)) for worker, at in assignment.hosts.items()}
        assert len(slots) == workers
        assert all(slot < counts[at] for at, slot in slots if at in living)
    assignment.lose(living.pop())
    with pytest.raises(ParameterServerError, match="no host of the cluster has room"):
        assignment.place_again(0)
    assert 0 in assignment.hosts


def test_a_full_host_takes_no_worker_of_a_lost_one() -> None:
    assignment = Assignment(3, 1, 4, [2, 2, 1])
    assert assignment.hosts == {0: 1, 1: 2, 2: 0, 3: 1}
    assert [assignment.slot(worker) for worker in range(4)] == [0, 0, 0, 1]
    assignment.lose(1)
    assert assignment.place_again(0) == 0
    assert assignment.slot(0) == 1
    with pytest.raises(ParameterServerError, match="no host of the cluster has room"):
        assignment.place_again(3)


def host(address: str, node: str, name: str = "") -> ClusterHost:
    return ClusterHost(address, name or address, node)


def test_hosts_are_in_the_order_of_their_addresses_and_nodes_of_one_host_count_once() -> None:
    two, ten, six = host("10.0.0.2", "z"), host("10.0.0.10", "a"), host("fd00::1", "b")
    named = host("somewhere", "c")
    assert ordered([named, six, ten, two, host("10.0.0.2", "zz")]) == [two, ten, six, named]
    one, other = host("127.0.0.2", "a"), host("127.0.0.2", "b")
    assert ordered([other, one]) == [one, other]


def node(address: str, name: str, *, alive: bool = True, **resources: float) -> dict[str, object]:
    found: dict[str, object] = {"NodeManagerAddress": address, "NodeManagerHostname": name}
    return found | {"NodeID": name * 2, "Alive": alive, "Resources": resources}


def test_hosts_of_a_cluster() -> None:
    there = [
        node("10.0.0.2", "b", GPU=4.0),
        node("10.0.0.1", "a"),
        node("10.0.0.3", "c", alive=False),
        node("10.0.0.4", "d", place=1.0),
    ]
    a, b, d = hosts_of(there)
    assert (a, b.gpus, d.name) == (ClusterHost("10.0.0.1", "a", "aa"), 4, "d")
    assert hosts_of(there, only=["10.0.0.4", "10.0.0.2"]) == [b, d]
    assert hosts_of(there, only=["10.0.0.3"]) == [a, b, d]  # it does not live: better than none
    assert hosts_of(there, resource="place") == [d]
    assert chosen([a, b, d], ["d", "10.0.0.1", "a"]) == [a, d]
    assert chosen([a, b, d], []) == [a, b, d]
    with pytest.raises(ParameterServerError, match=r"'e' is not a host .* has a \(10.0.0.1\), b"):
        chosen([a, b, d], ["e"])
    with pytest.raises(ParameterServerError, match="'a' is the name of several hosts"):
        chosen([a, a._replace(address="10.0.0.9")], ["a"])
