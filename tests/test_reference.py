"""The reference is complete, and links of the documentation lead somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import re
import types
from pathlib import Path
from typing import Any

import pytest

import paramesh
from markdown_blocks import blocks
from paramesh import nn

ROOT = Path(__file__).parent.parent
API = ROOT / "docs" / "reference" / "api"
#: `::: path` and its options, which are indented.
DIRECTIVE = re.compile(r"^::: ([\w.]+)\n((?:    .*\n|\n(?=    ))*)", re.MULTILINE)
#: Pages that are read outside of the site, where nobody else checks links.
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/RESULTS.md"]


def hook(name: str) -> Any:
    """A program of docs/hooks."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def directives() -> dict[str, list[str] | None]:
    """What the reference documents: a path, and the members that it lists; None for all."""
    found: dict[str, list[str] | None] = {}
    for page in API.glob("*.md"):
        for path, options in DIRECTIVE.findall(page.read_text() + "\n"):
            inline = re.search(r"members:\s*\[([^\]]*)\]", options)
            listed = re.search(r"members:\n((?:\s+- \w+\n)+)", options)
            if inline is not None:
                found[path] = re.findall(r"\w+", inline[1])
            else:
                found[path] = re.findall(r"- (\w+)", listed[1]) if listed else None
    return found


def documented(value: Any) -> bool:
    """Whether a class or function is in the reference, by the name that it is defined under."""
    name = value.__name__
    for path, members in directives().items():
        if path == f"{value.__module__}.{name}":
            return True
        try:
            home = importlib.import_module(path)
        except ModuleNotFoundError:
            continue
        if getattr(home, name, None) is value and (members is None or name in members):
            return True
    return False


def public(home: types.ModuleType) -> list[str]:
    """The classes and functions of a module's `__all__`."""
    return [
        name for name in home.__all__ if isinstance(getattr(home, name), type | types.FunctionType)
    ]


@pytest.mark.parametrize("home", [paramesh, nn], ids=["paramesh", "paramesh.nn"])
def test_the_reference_has_every_public_name(home: types.ModuleType) -> None:
    names = public(home)
    assert len(names) > 60
    # GradOperation and the like are made from their documented form; Cell classes are classes.
    assert [name for name in names if not documented(getattr(home, name))] == []


def test_the_reference_has_the_methods_that_a_cell_inherits() -> None:
    _, _, after = (API / "nn.md").read_text().partition("::: paramesh.nn.cell.Cell\n")
    assert "inherited_members: true" in after.partition(":::")[0]


def test_docstrings_lose_their_glossaries() -> None:
    without = hook("public_docstrings").without_glossary
    text = "About.\n\nGlossary\n    word    meaning\n            more\n    other   one\n\nRest.\n"
    assert without(text) == "About.\n\n\nRest."
    assert without("About.\n\nGlossary\n    word    meaning\n") == "About."
    assert without("A Glossary of words.") == "A Glossary of words."


def test_the_page_of_measurements_is_the_file_of_results() -> None:
    results = hook("results")
    page = (ROOT / "docs" / "reference" / "measurements.md").read_text()
    made = results.on_page_markdown(page, page=None, config=None, files=None)
    assert results.MARK not in made
    assert "## Training steps" in made
    assert results.on_page_markdown("another page") == "another page"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(text):
        text = text.replace(block.text, "")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", PAGES)
def test_links_outside_of_the_site_lead_somewhere(name: str) -> None:
    page = ROOT / name
    lost: list[str] = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            lost.append(target)
    assert lost == []


def test_error_messages_name_pages_that_are_there() -> None:
    named: set[tuple[str, str]] = set()
    for source in (ROOT / "src").rglob("*.py"):
        found = re.findall(r"docs/[\w/\-]+\.md", source.read_text(encoding="utf-8"))
        named |= {(source.name, path) for path in found}
    assert len(named) > 3
    assert [path for _, path in sorted(named) if not (ROOT / path).is_file()] == []
