"""Circles between modules, where an import counts that only type checkers see."""

from __future__ import annotations

import sys
from pathlib import Path

import grimp
import pytest


def circles(package: str) -> dict[str, set[tuple[str, str]]]:
    """{package: imports that would have to go for its modules and packages to have an order}."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    packages = {name for name in graph.modules if graph.find_children(name)}
    found = {name: graph.nominate_cycle_breakers(name) for name in packages}
    return {name: imports for name, imports in found.items() if imports}


def test_modules_have_an_order() -> None:
    assert circles("paramesh") == {}


def test_an_import_for_types_alone_closes_a_circle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "circular"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "high.py").write_text("from circular import low\n")
    (package / "low.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from circular import high\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert list(circles("circular")) == ["circular"]
