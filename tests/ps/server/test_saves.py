"""Saves of one server: what is done around the writing of its part."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from paramesh.ps.server import saves as module
from paramesh.ps.server.saves import Saves


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("beside", [True, False])
def test_freed_memory_is_given_back_before_and_after_a_part_is_written_beside_the_steps(
    beside: bool, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def write(*_: Any) -> None:
        said.append("written")
        if fails:
            raise OSError("the disk is full")

    monkeypatch.setattr(module, "write_part", write)
    monkeypatch.setattr(module.freed_memory, "give_back", lambda: said.append("given back"))
    saves = Saves(lambda name: None, in_background=beside)
    saves.write()
    order: Any = SimpleNamespace(identity="one")
    view: Any = SimpleNamespace(release=lambda: said.append("released"), tables=[])
    saves.begin(order, 3, {}, lambda: view)
    saves.wait()
    saves.close()
    assert saves.done() == [("one", "the disk is full" if fails else "")]
    around = ["given back"] if beside else []
    assert said == [*around, "written", "released", *around]
