"""What docs/internals and the README files of the packages say of the source is so."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "paramesh"
PAGES = sorted((ROOT / "docs" / "internals").glob("*.md"))
READMES = sorted(SOURCE.glob("*/README.md"))
#: In a README `path.py` or `path.py:Name.inside`, relative to its folder.
FILE = re.compile(r"`((?:\.\./)?[\w/]+\.py)(?::([\w.]+))?`")
#: On a page `paramesh.module` or `paramesh.module.Name.inside`, or a file of tests/ or docs/.
DOTTED = re.compile(r"`(paramesh(?:\.\w+)+)`")


def references(page: Path) -> Iterator[tuple[Path, str | None]]:
    """(file, name in it) of everything of the source that a page names."""
    text = page.read_text()
    for path, name in FILE.findall(text):
        if path.startswith(("tests/", "docs/")):
            yield ROOT / path, None
        elif page.name == "README.md":
            yield (page.parent / path).resolve(), name or None
        else:  # pages name modules in full
            yield Path(path), name or None
    if page.name != "README.md":
        yield from map(located, DOTTED.findall(text))


def located(dotted: str) -> tuple[Path, str | None]:
    """The file of the longest module that a dotted name begins with, and the rest of the name."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        stem = SOURCE.parent.joinpath(*parts[:end])
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.is_file():
                return file, ".".join(parts[end:]) or None
    return Path(dotted), None


def names_in(body: list[Any], prefix: str = "") -> Iterator[str]:
    """All names that a file binds in itself and in its classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from names_in(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign):
            yield from (prefix + t.id for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield prefix + node.target.id
        elif isinstance(node, ast.ImportFrom):
            yield from (prefix + (alias.asname or alias.name) for alias in node.names)


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    missing = [
        f"{file.name}:{name}"
        for file, name in references(page)
        if not file.is_file()
        or (name is not None and name not in set(names_in(ast.parse(file.read_text()).body)))
    ]
    assert missing == []


def test_pages_name_functions() -> None:
    assert sum(name is not None for page in PAGES for _, name in references(page)) > 100
    assert {page.parent.name for page in READMES} >= {"parameter", "transforms", "ps", "parallel"}
    assert all(len(page.read_text().splitlines()) < 50 for page in READMES)


@pytest.fixture(scope="module")
def glossary() -> Any:
    """The program that makes the page."""
    where = ROOT / "docs" / "hooks" / "glossary.py"
    spec = importlib.util.spec_from_file_location("glossary", where)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestGlossary:
    def test_has_every_section(self, glossary: Any) -> None:
        written = {
            path.relative_to(SOURCE).as_posix()
            for path in SOURCE.rglob("*.py")
            if re.search(r"^Glossary$", path.read_text(), re.MULTILINE)
        }
        found = glossary.entries()
        assert len(written) > 50
        assert {entry.module for entry in found} == written

    def test_keeps_every_word_of_a_section(self, glossary: Any) -> None:
        for path in SOURCE.rglob("*.py"):
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            _, _, rest = docstring.partition("Glossary\n")
            section = rest.split("\n\n")[0]
            joined = " ".join(f"{e.word} {e.meaning}" for e in glossary.entries_of(docstring, "x"))
            assert joined.split() == section.split(), path

    def test_is_put_in_the_place_of_its_mark(self, glossary: Any) -> None:
        page = (ROOT / "docs" / "internals" / "glossary.md").read_text()
        made = glossary.on_page_markdown(page, page=None, config=None, files=None)
        assert glossary.MARK in page
        assert glossary.MARK not in made
        assert made.count("\n| ") > 200
        assert "| domain | the states that are used together in one program" in made
        assert glossary.on_page_markdown("another page") == "another page"

    @pytest.mark.parametrize(
        "section",
        ["    word meaning\n", "        lost\n    word        meaning\n        more\n"],
        ids=["no column", "no word"],
    )
    def test_refuses_a_section_that_it_cannot_read(self, glossary: Any, section: str) -> None:
        with pytest.raises(ValueError, match=r"^x\.py: "):
            list(glossary.entries_of(f"A module.\n\nGlossary\n{section}", "x.py"))
