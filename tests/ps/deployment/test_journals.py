"""Copies of the journals of workers that are on other hosts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from paramesh.files import live_entries
from paramesh.files.live_entries import LiveEntry
from paramesh.ps.deployment.journals import JournalCopies, journals_of
from paramesh.telemetry.journal import SUFFIX

pytestmark = pytest.mark.skipif(os.name != "posix", reason="entries are locked as POSIX does")


def journal(pid: int, step: int = 0) -> bytes:
    return json.dumps({"facts": {"pid": pid}, "step": step}).encode()


def test_a_journal_is_copied_replaced_and_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    monkeypatch.setattr(live_entries, "folders", lambda: [there])
    entries = [LiveEntry(journal(pid), SUFFIX) for pid in (7, 8)]
    entries.append(LiveEntry(b"of another version", SUFFIX))
    assert journals_of([]) == {}
    found = journals_of([7, 9])
    assert found == {7: journal(7)}

    monkeypatch.setattr(live_entries, "folders", lambda: [here])
    copies = JournalCopies()
    copies.put(1, found[7])
    copies.put(2, journal(8))
    assert journals_of([7, 8]) == {7: journal(7), 8: journal(8)}
    copies.put(1, journal(7, step=5))
    copies.drop(2)
    copies.drop(2)
    assert journals_of([7, 8]) == {7: journal(7, step=5)}
    copies.close()
    assert journals_of([7, 8]) == {}
    assert list(here.iterdir()) == []
    for entry in entries:
        entry.close()
