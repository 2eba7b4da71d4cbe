"""Calls, answers and errors as frames: the same at the other end, and nothing but an error else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramesh.errors import ParameterShapeError, ParameterStateError
from paramesh.ps.client.peer import Reply
from paramesh.ps.deployment import frames, messages
from paramesh.ps.deployment.frames import BadFrame, Unfit, decoded, draft, encoded
from paramesh.ps.durability.log import Fenced
from paramesh.ps.processes.shortage import Shortage
from paramesh.ps.server.refresh import News, Watch
from paramesh.ps.specification.packing import pack_ids, pack_rows, pack_updates
from paramesh.ps.specification.protocol import (
    Moving,
    NotServing,
    PushesMissing,
    Replaced,
    VersionGone,
)

IDS = np.array([1, 5, 9])
ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)
PACKED = pack_updates(
    {"v": {"grad": np.ones(4, np.float32)}, "t": {"ids": IDS, "grad": ROWS}, "u": {"grad": ROWS}}
)
PUSH = (1, 2, 3, PACKED, {"learning_rate": 0.1, "steps": 4, "none": float("inf")}, 2, True)
WATCHES = {"t": Watch(IDS[:1], IDS[1:])}
CALLS: list[Any] = [
    ("push", PUSH),
    ("step", (*PUSH, ["v", "u"], 4, None, 0)),
    ("step", (*PUSH, [], 4, WATCHES, 3)),
    ("step", (1, 2, 3, pack_updates({}), {}, 1, False, [], 4, {}, 3)),
    ("pull", (7, ["v"])),
    ("pull_tables", (7, pack_ids({"t": IDS, "u": IDS[:0]}))),
    ("pull_items", ("t", -1, 10)),
    ("settle", (0, 1 << 40)),
]
REPLIES = [
    Reply(10, 2, 3, {}),
    Reply(10, 2, 3, {"v": np.ones(4, np.float16), "": np.zeros(())}),
    Reply(10, 2, 3, {}, {"t": News(None, IDS, ROWS), "u": News(IDS, IDS[:0], ROWS[:0])}),
    Reply(10, 2, 3, {}, {}, pack_rows([ROWS, ROWS[:1].astype(np.float64)])),
    Reply(10, 2, 3, {}, {}, pack_rows([])),
    Reply(10, 2, 3, {}, sets=((7, 3), (9, 1))),
]
ERRORS: list[Exception] = [
    PushesMissing("missing"),
    Replaced("replaced"),
    VersionGone("gone"),
    NotServing("standby", 4),
    Fenced("fenced", 5),
    Moving("moved", 2),
    Shortage("short"),
    ParameterShapeError("shape"),
    ParameterStateError("state"),
    ValueError("value"),
    OSError(28, "no room"),
    OSError(2, "none", "/x"),
    OSError("of its own"),
    MemoryError("memory"),
]


def travelled(text: messages.Text) -> frames.Frame:
    return decoded(encoded(draft(frames.CALL, 1, text.said, text.arrays)))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        assert type(a) is type(b)
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("call", CALLS)
def test_calls(call: Any) -> None:
    found = travelled(messages.call_text(call))
    assert same(messages.taken_call(found.text, found.arrays), call)


@pytest.mark.parametrize("reply", REPLIES)
def test_answers(reply: Reply) -> None:
    found = travelled(messages.answer_text(reply))
    assert same(messages.taken_answer(found.text, found.arrays), reply)


@pytest.mark.parametrize("error", ERRORS)
def test_errors(error: Exception) -> None:
    found = travelled(messages.error_text(error))
    back = messages.taken_error(found.text, found.arrays)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert getattr(back, "latest", 0) == getattr(error, "latest", 0)


def test_an_error_of_another_class_says_which() -> None:
    class Own(Exception):
        pass

    said, _ = messages.error_text(Own("what"))
    assert str(messages.taken_error(said, [])) == "Own: what"


def test_other_methods_go_another_way() -> None:
    with pytest.raises(Unfit):
        messages.call_text(("declare", ([], {})))


@pytest.mark.parametrize("call", CALLS)
@settings(max_examples=25)
@given(data=st.data())
def test_a_changed_message_is_an_error_or_a_call(call: Any, data: st.DataObject) -> None:
    """Its arguments have the types that the actor's method takes."""
    said, arrays = messages.call_text(call)
    said, arrays = list(said), list(arrays)
    junk = st.sampled_from(
        [None, True, -1, 1 << 70, 0.5, "x", [], ["x"], ["x", "x"], [1], [[]], {}, {"a": "b"}]
    )
    said[data.draw(st.integers(0, len(said) - 1))] = data.draw(junk)
    if arrays and data.draw(st.booleans()):
        other = st.sampled_from([np.zeros((2, 2)), np.zeros(3, np.int32), np.zeros(())])
        arrays[data.draw(st.integers(0, len(arrays) - 1))] = data.draw(other)
    if data.draw(st.booleans()):
        arrays = arrays[: data.draw(st.integers(0, len(arrays)))]
    try:
        method, arguments = messages.taken_call(said, arrays)
    except BadFrame:
        return
    assert method in messages.CARRIED
    assert all(isinstance(one, int | str | list | tuple | dict | None) for one in arguments)


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.sampled_from(["step", "pull"]),
        lambda inner: st.lists(inner, max_size=8),
    )
)
def test_anything_else_is_an_error(said: Any) -> None:
    for take in (messages.taken_call, messages.taken_answer, messages.taken_error):
        try:
            take(said, [])
        except BadFrame:
            continue
        assert type(said) is list
