"""Rows that a worker requests before the step that reads them: taken, dropped, or pulled again."""

from __future__ import annotations

from typing import Any

import numpy as np

from paramesh.ps.client.caller import Caller
from paramesh.ps.client.exchange import Died, Forget, Replied, Send
from paramesh.ps.client.peer import Reply
from paramesh.ps.client.worker import Worker
from paramesh.ps.specification.packing import PackedRows, pack_rows

IDS = {"t": np.array([1, 4, 9]), "u": np.array([2])}
OTHERS = {"t": np.array([1, 4, 8]), "u": np.array([2])}


class Talk:
    """A worker, what it has sent, and answers."""

    def __init__(self, *, eager: bool = False) -> None:
        self.now = 0.0
        self.caller = Caller([1], rank=0, workers=1, timeout=60.0, clock=lambda: self.now)
        self.worker = Worker(self.caller, 1, eager=eager)
        self.sent: list[Send] = []
        self.forgotten: list[int] = []

    def out(self) -> list[str]:
        """The methods that were sent just now."""
        new = self.caller.out()
        sends = [action for action in new if isinstance(action, Send)]
        self.sent += sends
        self.forgotten += [action.request for action in new if isinstance(action, Forget)]
        return [send.call[0] for send in sends]

    def begin(self, operation: Any) -> Any:
        """Begin an operation; the rest of it, that takes its answers."""
        turn = next(operation)
        self.caller.begin(turn.calls, self.worker.earlier, turn.sent)
        return operation

    def end(self, operation: Any) -> Any:
        """What it returns, once all is answered."""
        try:
            turn = operation.send(self.caller.result())
        except StopIteration as done:
            return done.value
        self.caller.begin(turn.calls, self.worker.earlier, turn.sent)
        return None

    def answer(self, method: str, version: int, rows: PackedRows | None = None) -> None:
        """Answer the last message of a method."""
        number = next(send.request for send in reversed(self.sent) if send.call[0] == method)
        self.caller.take(Replied(number, Reply(1, 1, version, {}, {}, rows)))

    def push(self, step: int, version: int) -> None:
        """A step that is answered."""
        operation = self.begin(self.worker.step(step, {}, {}, []))
        self.out()
        self.answer("step", version)
        self.end(operation)


def rows(first: float) -> PackedRows:
    return pack_rows([np.full((3, 2), first, np.float32), np.full((1, 2), -first, np.float32)])


def test_the_answer_is_taken_by_the_step_that_reads_these_rows() -> None:
    talk = Talk()
    talk.worker.ask_ahead(1, IDS)
    assert talk.out() == ["pull_tables"]
    talk.push(0, 1)
    pulling = talk.begin(talk.worker.pull_tables(1, IDS))
    assert talk.out() == []
    talk.answer("pull_tables", 1, rows(5.0))
    found = talk.end(pulling)
    assert found["t"].tolist() == [[5.0, 5.0]] * 3
    assert found["u"].tolist() == [[-5.0, -5.0]]
    assert talk.worker.rows_pulled == 4


def test_other_rows_or_another_step_are_pulled_and_the_answer_is_dropped() -> None:
    for step, ids in ((1, OTHERS), (2, IDS), (1, {"t": IDS["t"]})):
        talk = Talk()
        talk.worker.ask_ahead(1, IDS)
        talk.out()
        asked = talk.sent[-1].request
        talk.begin(talk.worker.pull_tables(step, ids))
        assert talk.out() == ["pull_tables"]
        assert talk.sent[-1].call[1][0] == step
        assert talk.forgotten == [asked]


def test_a_later_request_takes_the_place_of_an_earlier_one() -> None:
    talk = Talk()
    talk.worker.ask_ahead(1, IDS)
    talk.worker.ask_ahead(1, OTHERS)
    talk.out()
    assert talk.forgotten == [talk.sent[0].request]
    talk.worker.ask_ahead(1, {})
    assert talk.out() == []
    assert len(talk.forgotten) == 2


def test_a_request_that_died_with_its_server_is_made_again_behind_the_pushes() -> None:
    talk = Talk()
    talk.worker.ask_ahead(1, IDS)
    talk.out()
    asked = talk.sent[-1].request
    talk.push(0, 0)  # staged: nothing says that it was applied
    pulling = talk.begin(talk.worker.pull_tables(1, IDS))
    talk.caller.take(Died(asked))
    talk.now = talk.caller.due
    talk.caller.tick()
    assert talk.out() == ["push", "pull_tables"]
    talk.answer("pull_tables", 1, rows(3.0))
    assert talk.end(pulling)["t"].tolist() == [[3.0, 3.0]] * 3


def test_in_async_mode_it_follows_the_push_and_may_not_be_older() -> None:
    talk = Talk(eager=True)
    talk.worker.ask_ahead(1, IDS)
    assert talk.out() == []
    operation = talk.begin(talk.worker.step(0, {}, {}, []))
    assert talk.out() == ["step", "pull_tables"]
    talk.answer("step", 7)
    talk.end(operation)
    pulling = talk.begin(talk.worker.pull_tables(1, IDS))
    talk.answer("pull_tables", 6, rows(1.0))  # it has overtaken the push
    assert talk.end(pulling) is None
    assert talk.out() == ["pull_tables"]
    talk.answer("pull_tables", 7, rows(2.0))
    assert talk.end(pulling)["t"].tolist() == [[2.0, 2.0]] * 3
