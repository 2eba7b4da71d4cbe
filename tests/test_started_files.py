"""Files of tests that are also programs: a process that runs one finds `paramesh`, and no support.

The import at the top of a file works under pytest alone, which knows `tests/support`.
"""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
SUPPORT = {path.stem for path in (TESTS / "support").iterdir()}


def is_program(tree: ast.Module) -> bool:
    return any(
        isinstance(item, ast.If) and ast.unparse(item.test) == "__name__ == '__main__'"
        for item in tree.body
    )


def imported(tree: ast.Module) -> set[str]:
    """What its first lines import."""
    names: set[str] = set()
    for item in tree.body:
        if isinstance(item, ast.Import):
            names.update(alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom) and item.module:
            names.add(item.module)
    return names


def test_they_import_no_support_at_the_top() -> None:
    trees = {path: ast.parse(path.read_text()) for path in TESTS.rglob("test_*.py")}
    programs = {path: tree for path, tree in trees.items() if is_program(tree)}
    assert len(programs) > 5
    found = {path.name: imported(tree) & SUPPORT for path, tree in programs.items()}
    assert {name: names for name, names in found.items() if names} == {}
