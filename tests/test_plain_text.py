"""What is printed goes to a stdout that has no other characters than ASCII, too."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from paramesh import Tensor, context, nn
from paramesh.plain_text import printable, rendered


def network() -> Any:
    """With more columns than are shown, and a name that is too long."""
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    net = nn.SequentialCell(nn.Dense(16, 8), nn.Tanh())
    net[0].matmul.shard(((1, 1), (8, 1)))
    net[0].weight.name = "a" * 200
    net(Tensor(np.ones((8, 16), np.float32)))
    return net


SHOWN: dict[str, Callable[[Any], object]] = {
    "layout_table": lambda net: net.layout_table(),
    "summary": lambda net: net.summary(Tensor(np.ones((8, 16), np.float32))),
}


@pytest.mark.parametrize("what", SHOWN)
def test_tables_go_to_a_stdout_of_ascii(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = SHOWN[what](network())
    text = str(shown)
    assert not text.isascii()
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    print(shown)
    stdout.flush()
    plain = stdout.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    # The same words and numbers, with other lines between them.
    assert "?" not in plain
    words = re.compile(r"\w+")
    assert words.findall(plain) == words.findall(text)


def test_text_in_the_characters_of_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printable("2 × 3 … → ä") == "2 × 3 … → ä"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert printable("2 × 3 … → ä") == "2 x 3 ... -> ?"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    assert printable("2 × ä") == "2 × ä"


def test_without_a_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert rendered("a …", 20) == "a …\n"
