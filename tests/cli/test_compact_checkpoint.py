"""`paramesh ps compact`: what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from paramesh.checkpoint.formats.apart import Base
from paramesh.checkpoint.sharded.source import ShardedSource
from paramesh.cli import app
from saved_stores import save_stores
from small_stores import apply_to_all, make_stores


def said(*arguments: Any) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["ps", "compact", *map(str, arguments)])
    return done.exit_code, done.output + str(done.exception or "")


def test_what_it_does_and_says(tmp_path: Path) -> None:
    stores = make_stores(2)
    identity = save_stores(stores, tmp_path / "a.sharded", 0)
    apply_to_all(stores, 0)
    folder = tmp_path / "b.sharded"
    save_stores(stores, folder, 1, since=0, base=Base("../a.sharded", identity))
    code, text = said(folder, "--out", tmp_path / "c.sharded")
    assert (code, text) == (0, f"'{tmp_path / 'c.sharded'}' is a complete checkpoint\n")
    code, text = said(folder, "--out", tmp_path / "c.sharded")
    assert code == 1
    assert "already exists, and was left unchanged" in text
    assert said(folder)[0] == 0
    with ShardedSource(folder) as source:
        assert source.base is None
    code, text = said(tmp_path)
    assert code == 1
    assert "has no index.json" in text
