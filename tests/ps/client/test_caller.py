"""A worker's calls as a state machine: every order of answers, without servers, on a clock."""

from __future__ import annotations

from typing import Any

import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.client.caller import Caller
from paramesh.ps.client.exchange import (
    Action,
    Broke,
    Call,
    ClusterGone,
    Died,
    Kill,
    Killed,
    Missing,
    Moves,
    Note,
    NotServed,
    Refused,
    Replied,
    Send,
    Tie,
    Untie,
)
from paramesh.ps.client.peer import Reply
from paramesh.ps.specification.protocol import Moving, Replaced

ASK: Call = ("pull", (1, ["w"]))


def reply(incarnation: int, version: int) -> Reply:
    return Reply(1, incarnation, version, {})


def where(incarnation: int, version: int, pid: int = 7, beacon: Any = None) -> dict[str, Any]:
    """The answer to a hello."""
    said = {"incarnation": incarnation, "version": version, "next": version, "worker": 1}
    return said | {"pid": pid, "host": "here", "beacon": beacon}


class Table:
    """A caller, its clock, and all that it has said."""

    def __init__(self, *actors: int) -> None:
        self.now = 100.0
        self.caller = Caller(actors, rank=0, workers=2, timeout=300.0, clock=lambda: self.now)
        self.caller.greeting = ("hello", (0, 1))
        self.said: list[Action] = []

    def out(self) -> list[Action]:
        self.said += (new := self.caller.out())
        return new

    def sent(self) -> dict[str, int]:
        """The numbers of what was sent just now, by method; the last one counts."""
        return {action.call[0]: action.request for action in self.out() if isinstance(action, Send)}

    def begin(self, *servers: int) -> dict[str, int]:
        self.caller.begin(dict.fromkeys(servers or (0,), ASK))
        return self.sent()

    def later(self, seconds: float) -> dict[str, int]:
        """Time passes; what is sent meanwhile."""
        end, found = self.now + seconds, {}
        while self.caller.due <= end and not self.caller.done:
            self.now = max(self.now, self.caller.due)
            self.caller.tick()
            found |= self.sent()
        self.now = max(self.now, end)
        return found

    def met(self, incarnation: int, version: int, **more: Any) -> None:
        """The server is known from a hello."""
        self.caller.begin({0: ("hello", (0, 1))})
        self.caller.take(Replied(self.sent()["hello"], where(incarnation, version, **more)))
        self.caller.result()
        self.out()


def test_an_answer_ends_the_round() -> None:
    table = Table(1)
    number = table.begin()["pull"]
    assert table.caller.only == number
    table.caller.take(Replied(number, reply(1, 3)))
    assert table.caller.result()[0].version == 3
    assert table.caller.peers[0].floor == (1, 3)


def test_a_hello_that_is_answered_after_a_later_call_is_no_alarm() -> None:
    """The server came back at version 5; the call that was sent with the hello made it 6."""
    table = Table(1)
    table.met(1, 5)
    table.caller.take(Died(table.begin()["pull"]))
    again = table.later(0.05)
    table.caller.take(Replied(again["pull"], reply(2, 6)))
    assert table.caller.result()[0].version == 6
    next_call = table.begin()["pull"]
    table.caller.take(Replied(again["hello"], where(2, 5)))  # late, and true when it was sent
    table.caller.take(Replied(next_call, reply(2, 7)))
    assert table.caller.result()[0].version == 7


def test_a_claim_that_is_answered_in_a_later_failure_raises_no_alarm() -> None:
    table = Table(2)
    table.met(1, 5)
    table.caller.take(Died(table.begin()["pull"]))
    first = table.sent()["promote"]
    second = table.later(2.5)["promote"]
    table.caller.take(Replied(second, where(2, 5) | {"serves": True}))
    call = table.later(0.05)["pull"]
    table.caller.take(Replied(call, reply(2, 9)))
    table.caller.result()
    call = table.begin()["pull"]
    table.caller.take(Replied(first, where(1, 5) | {"serves": True}))  # it was replaced since
    table.caller.take(Replied(call, reply(2, 10)))
    assert table.caller.result()[0].version == 10
    assert table.caller.peers[0].at == 0


@pytest.mark.parametrize("said", [reply(2, 4), reply(1, 4), reply(1, 5)])
def test_a_server_that_has_less_than_before_the_call_is_an_error(said: Reply) -> None:
    table = Table(1)
    table.met(2, 5)
    table.caller.take(Replied(table.begin()["pull"], said))
    with pytest.raises(ParameterServerError, match=r"was at version 5 .* its log was lost"):
        table.caller.result()


def test_a_later_incarnation_with_less_is_an_error_whenever_the_call_was_sent() -> None:
    """The call was sent before the worker knew of version 6, which the server before has had."""
    table = Table(1)
    table.met(1, 5)
    early = table.caller.send({0: ASK})
    number = table.begin()["pull"]
    table.caller.take(Replied(number, reply(1, 6)))
    table.caller.result()
    table.caller.begin({0: ASK}, sent=early)
    table.caller.take(Replied(next(iter(early)), reply(2, 5)))
    with pytest.raises(ParameterServerError, match=r"version 6 .* from version 5 \(incarnation 2"):
        table.caller.result()


def test_a_server_that_refuses_is_asked_whether_it_has_lost_its_state() -> None:
    table = Table(1)
    table.met(1, 5)
    table.caller.take(Refused(table.begin()["pull"], ValueError("no such thing")))
    check = table.sent()["hello"]
    assert not table.caller.done
    table.caller.take(Replied(check, where(1, 0)))
    with pytest.raises(ParameterServerError, match="its log was lost or replaced"):
        table.caller.result()


@pytest.mark.parametrize("answer", ["none", "died", "well", "replaced"])
def test_a_refusal_is_raised_after_the_question(answer: str) -> None:
    table = Table(1)
    table.met(1, 5)
    table.caller.take(Refused(table.begin()["pull"], ValueError("no such thing")))
    check = table.sent()["hello"]
    if answer == "none":
        table.later(2.5)
    elif answer == "replaced":
        table.caller.take(Refused(check, Replaced("another speaks")))
    else:
        table.caller.take(Died(check) if answer == "died" else Replied(check, where(1, 5)))
    expected = "another speaks" if answer == "replaced" else "no such thing"
    with pytest.raises((ValueError, Replaced), match=expected):
        table.caller.result()


def test_pushes_that_are_missing_are_sent_before_the_call() -> None:
    table = Table(1)
    table.caller.begin({0: ASK}, lambda server, call: [("push", (3,)), ("push", (4,))])
    table.caller.take(Missing(table.sent()["pull"]))
    table.now += 0.05
    table.caller.tick()
    sent = [a.call[:1] + a.call[1][:1] for a in table.out() if isinstance(a, Send)]
    assert sent == [("hello", 0), ("push", 3), ("push", 4), ("pull", 1)]
    assert table.caller.retries == 1


def test_an_earlier_push_that_is_refused_ends_the_round() -> None:
    table = Table(1)
    table.caller.begin({0: ASK}, lambda server, call: [("push", (3,))])
    table.caller.take(Missing(table.sent()["pull"]))
    push = table.later(0.05)["push"]
    table.caller.take(Refused(push, ParameterServerError("the disk is full")))
    with pytest.raises(ParameterServerError, match="the disk is full"):
        table.caller.result()


def test_a_lifeline_that_breaks_late_is_none_of_the_successors() -> None:
    table = Table(2)
    table.met(1, 5, beacon=("h", 1))
    (tie,) = [action.tie for action in table.said if isinstance(action, Tie)]
    table.caller.take(Replied(table.begin()["pull"], reply(2, 6)))  # it was replaced meanwhile
    table.caller.result()
    number = table.begin()["pull"]
    table.caller.take(Broke(0, tie))
    assert table.out() == [Untie(0)]
    table.caller.take(Replied(number, reply(2, 6)))
    assert table.caller.result()


def test_a_lifeline_that_breaks_has_the_other_actor_serve() -> None:
    table = Table(2)
    table.met(1, 5, beacon=("h", 1))
    (tie,) = [action.tie for action in table.said if isinstance(action, Tie)]
    table.begin()
    table.caller.take(Broke(0, tie))
    claim = table.sent()["promote"]
    assert any(isinstance(action, Note) and action.event == "lost" for action in table.said)
    table.caller.take(Replied(claim, where(2, 5) | {"serves": True}))
    call = table.later(0.05)["pull"]
    assert table.caller.peers[0].at == 1
    table.caller.take(Replied(call, reply(2, 6)))
    assert table.caller.result()[0].incarnation == 2


def test_a_start_lost_in_a_power_failure_keeps_nobody_from_serving() -> None:
    table = Table(2)
    number = table.begin()["pull"]
    table.caller.take(NotServed(number, 5, False, ParameterServerError("a standby")))
    claim = table.sent()["promote"]
    table.caller.take(Replied(claim, {"serves": False, "incarnation": 4}))
    table.later(0.05)
    claims = [a for a in table.said if isinstance(a, Send) and a.call[0] == "promote"]
    assert [claim.call[1] for claim in claims] == [(5,), (4,)]


def test_a_claim_of_one_that_was_replaced_since_is_not_believed() -> None:
    table = Table(2)
    table.met(1, 5)
    early = table.caller.peers[0].floor
    table.caller.take(Died(table.begin()["pull"]))
    claim = table.sent()["promote"]
    table.caller.peers[0].learn(where(3, 7), early)
    table.caller.take(Replied(claim, where(2, 5) | {"serves": True}))
    assert "promote" in table.later(0.05)
    assert not table.caller.done


def test_claims_go_on_while_nobody_answers() -> None:
    """Messages may be lost, one after the other: nothing is asked only once."""
    table = Table(2)
    table.met(1, 5)
    table.caller.take(Died(table.begin()["pull"]))
    table.later(30.0)
    asked = [a.at for a in table.said if isinstance(a, Send) and a.call[0] == "promote"]
    assert len(asked) > 10
    assert set(asked) == {0, 1}


def test_a_call_to_a_live_server_is_repeated_when_its_answer_is_lost() -> None:
    table = Table(1)
    table.met(1, 5)
    table.begin()
    sent: dict[str, int] = {}
    while "pull" not in sent and table.now < 200:
        sent |= table.later(1.0)
        if "ping" in sent:
            table.caller.take(Replied(sent.pop("ping"), 7))
    assert "pull" in sent
    assert 120 <= table.now < 130


@pytest.mark.parametrize(("actors", "here"), [(1, True), (1, False), (2, True), (2, False)])
def test_a_frozen_server_is_killed_or_replaced(actors: int, here: bool) -> None:
    table = Table(actors)
    table.met(1, 5, pid=99)
    table.begin()
    table.later(7.5)
    (kill,) = [action for action in table.said if isinstance(action, Kill)]
    assert kill.pid == 99
    table.caller.take(Killed(kill.request, here))
    sent = table.sent() | table.later(0.05)
    if actors == 2:
        assert "promote" in sent
    else:  # alone and on another host: Ray finds out
        assert ("pull" in sent) is here
    assert any(isinstance(a, Note) and a.event == "killed" for a in table.said) is here


def test_a_ping_to_the_process_before_kills_nobody() -> None:
    table = Table(1)
    table.met(1, 5, pid=99)
    early = table.caller.send({0: ASK})
    table.begin()
    table.later(2.5)
    # An answer from a later process comes by another call: the ping cannot be answered any more.
    table.caller.peers[0].learn(where(2, 5, pid=100), next(iter(early.values())).floor)
    table.later(6.0)
    assert not [action for action in table.said if isinstance(action, Kill)]


def test_a_standby_that_nobody_has_asked_before_is_asked_to_serve() -> None:
    table = Table(2)
    number = table.begin()["pull"]
    table.caller.take(NotServed(number, 0, False, ParameterServerError("a standby")))
    claims = [a for a in table.out() if isinstance(a, Send) and a.call[0] == "promote"]
    assert [claim.at for claim in claims] == [0]


def test_a_server_that_says_it_was_replaced_is_believed_in_the_end() -> None:
    table = Table(1)
    table.met(1, 5)
    number, sent = table.begin()["pull"], {}
    for _ in range(1000):
        table.caller.take(NotServed(number, 2, True, ParameterServerError("it is fenced")))
        if "pull" not in (sent := table.sent() | table.later(0.05)):
            break
        number = sent["pull"]
    assert 110 < table.now < 111
    table.caller.take(Replied(sent["hello"], where(1, 5)))
    with pytest.raises(ParameterServerError, match="it is fenced"):
        table.caller.result()


def test_one_process_after_another_that_was_replaced_is_no_alarm() -> None:
    table = Table(1)
    table.met(1, 5)
    number = table.begin()["pull"]
    for latest in (2, 3):
        table.caller.take(NotServed(number, latest, True, ParameterServerError("it is fenced")))
        number = table.later(8.0)["pull"]
    table.caller.take(NotServed(number, 4, True, ParameterServerError("it is fenced")))
    table.caller.take(Replied(table.later(0.05)["pull"], reply(4, 5)))
    assert table.caller.result()[0].incarnation == 4


def test_a_server_that_has_ended_is_found_out_when_the_call_itself_is_lost() -> None:
    table = Table(1)
    table.met(1, 5)
    table.begin()
    table.caller.take(Died(table.later(2.5)["ping"], "no disk"))
    with pytest.raises(ParameterServerError, match=r"server 0 cannot start.*no disk"):
        table.caller.result()


def test_servers_that_are_ended_are_an_error_with_all_reasons() -> None:
    table = Table(2)
    table.caller.take(Died(table.begin()["pull"], "no memory"))
    table.caller.take(Died(table.sent()["promote"], "no disk"))
    with pytest.raises(ParameterServerError, match="server 0 cannot start.*no memory; no disk"):
        table.caller.result()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("alive", [False, True])
def test_nothing_waits_longer_than_the_timeout(workers: int, alive: bool) -> None:
    table = Table(1, 1)
    table.caller.workers = workers
    table.begin(0, 1)
    for _ in range(200):
        for action in table.out():
            if alive and isinstance(action, Send) and action.call[0] == "ping":
                table.caller.take(Replied(action.request, 7))
        table.now += 1.6
        table.caller.tick()
    others = "another of the 2 workers has stopped"
    expected = {
        (1, False): "The server cannot restart: check whether its host is overloaded",
        (1, True): "Servers and network respond, so the servers need longer than timeout=",
        (2, False): f"Either a server cannot restart, or {others}",
        (2, True): f"Servers and network respond, so {others}",
    }[workers, alive]
    said = r"server \[0, 1\] did not answer \['pull'\] within 300 s"
    with pytest.raises(ParameterServerError, match=f"{said}.*{expected}"):
        table.caller.result()


def test_a_cluster_that_is_gone_ends_this_round_and_all_others() -> None:
    table = Table(1)
    table.begin()
    table.caller.take(ClusterGone("no head"))
    for _ in range(2):
        with pytest.raises(ParameterServerError, match=r"the Ray cluster is gone \(no head\)"):
            table.caller.result()
        table.caller.begin({0: ASK})


def test_a_round_that_was_broken_off_leaves_nothing_behind() -> None:
    table = Table(1)
    table.met(1, 5)
    table.caller.take(Died(table.begin()["pull"]))
    number = table.begin()["pull"]
    assert table.caller.only == number
    assert table.caller.awaited() == [number]


OPEN, OVER = Moving("is being moved", 0), Moving("has moved", 1)


@pytest.mark.parametrize("actors", [1, 2])
def test_time_does_not_run_while_the_run_is_moved(actors: int) -> None:
    table = Table(actors)
    table.met(1, 5)
    number = table.begin()["pull"]
    for _ in range(5):
        table.caller.take(Moves(number, False, OPEN))
        number = table.later(200.0)["pull"]
    table.caller.take(Replied(number, reply(1, 6)))
    assert table.caller.result() == {0: reply(1, 6)}


def test_a_claim_during_a_move_is_made_again() -> None:
    table = Table(2)
    table.met(1, 5)
    table.caller.take(Died(table.begin()["pull"]))
    claim = table.sent()["promote"]
    table.caller.take(Moves(claim, False, OPEN))
    again = table.later(1.0)["promote"]
    assert again != claim
    assert not table.caller.done
    table.caller.take(Moves(again, True, OVER))
    with pytest.raises(Moving, match="has moved"):
        table.caller.result()


def test_who_has_moved_is_asked_no_more() -> None:
    table = Table(1, 1)
    table.met(1, 5)
    numbers = table.begin(0, 1)
    table.caller.take(Moves(numbers["pull"], True, OVER))
    assert table.caller.done
    with pytest.raises(Moving, match="has moved"):
        table.caller.result()
