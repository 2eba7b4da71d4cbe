"""Messages that are kept until they have arrived: each once, in order, however answers are lost."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from paramesh.ps.processes.mailbox import Mailbox


@given(st.lists(st.sampled_from(["put", "take", "lost"]), max_size=60))
def test_every_message_arrives_once_and_in_order(what: list[str]) -> None:
    box: Mailbox[int] = Mailbox(at_once=3)
    put, arrived, seen = 0, [], 0
    for one in [*what, *["take"] * 30]:
        if one == "put":
            box.put(put, size=1)
            put += 1
            continue
        found = box.take(seen, 0)
        if one == "take":  # otherwise the answer is lost, and asked for again
            arrived += [message for _, message in found]
            seen = max([seen, *(number for number, _ in found)])
    assert arrived == list(range(put))
    assert box.take(seen, 0) == []


def test_one_answer_has_a_bounded_size_but_at_least_one_message() -> None:
    box: Mailbox[str] = Mailbox(at_once=10)
    for text in ("large", "a", "b", "c"):
        box.put(text, 30 if text == "large" else 4)
    assert box.take(0, 0) == [(1, "large")]
    assert box.take(1, 0) == [(2, "a"), (3, "b")]
    assert box.take(3, 0) == [(4, "c")]


def test_a_full_box_waits_and_loses_nothing() -> None:
    box: Mailbox[int] = Mailbox(most=10)
    put: list[int] = []

    def fill() -> None:
        for number in range(5):
            box.put(number, 4)
            put.append(number)

    filling = threading.Thread(target=fill, daemon=True)
    filling.start()
    filling.join(0.2)
    assert put == [0, 1]
    arrived, seen = [], 0
    while len(arrived) < 5:
        found = box.take(seen, 5.0)
        arrived += [message for _, message in found]
        seen = found[-1][0]
    filling.join(5.0)
    assert arrived == put == [0, 1, 2, 3, 4]


def test_whoever_waits_is_woken_by_a_message() -> None:
    box: Mailbox[str] = Mailbox()
    threading.Timer(0.05, box.put, ("there",)).start()
    assert box.take(0, 60.0) == [(1, "there")]
