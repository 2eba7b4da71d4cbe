"""The page of the glossary, made from the `Glossary` sections of the modules' docstrings.

MkDocs calls `on_page_markdown` for every page. `python docs/hooks/glossary.py` prints the table.

A section ends with an empty line. Each entry begins with the word, indented by four columns; what
it means stands in a column further right, and goes on below it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).resolve().parents[2] / "src" / "paramesh"
MARK = "<!-- glossary -->"
_SECTION = re.compile(r"^Glossary$\n((?:^ +\S.*$\n?)+)", re.MULTILINE)


class Entry(NamedTuple):
    """A word, what it means, and the module that says so (its path under src/paramesh)."""

    word: str
    meaning: str
    module: str


def entries_of(docstring: str, module: str) -> Iterator[Entry]:
    """The entries of one module's docstring.

    Raises:
        ValueError: there is a section that is not laid out as this module's docstring says.
    """
    section = _SECTION.search(docstring)
    if section is None:
        return
    lines = section[1].rstrip("\n").split("\n")
    # Column of what words mean: where two blanks end, or where a line goes on.
    starts = [
        found.end() for line in lines if (found := re.match(r" {4}\S.*?(?: {2,})| {5,}", line))
    ]
    if not starts:
        raise ValueError(f"{module}: no column of the Glossary begins after two blanks.")
    column = max(set(starts), key=starts.count)
    word, meaning = "", ""
    for line in filter(str.strip, lines):
        head, rest = line[:column].strip(), line[column:]
        if line.startswith("    ") and line[4] != " ":
            if word:
                yield Entry(word, meaning, module)
            if line[column - 1 : column].strip():  # a word that is longer than its column
                head, _, rest = line[4:].partition("  ")
            word, meaning = head, rest.strip()
        elif head or not word:
            raise ValueError(f"{module}: the Glossary has a line that belongs to no word: {line!r}")
        else:
            meaning = f"{meaning} {rest.strip()}"
    if word:
        yield Entry(word, meaning, module)


def entries(source: Path = SOURCE) -> list[Entry]:
    """All entries, by word and module."""
    found: list[Entry] = []
    for path in source.rglob("*.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found += entries_of(text, path.relative_to(source).as_posix())
    return sorted(found, key=lambda entry: (entry.word.lower(), entry.module))


def table(found: list[Entry]) -> str:
    """The entries as a table in Markdown."""
    rows = ["| word | meaning | module |", "|---|---|---|"]
    for word, meaning, module in found:
        cells = [cell.replace("|", "\\|") for cell in (word, meaning, f"`{module}`")]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table in the place of its mark."""
    return markdown.replace(MARK, table(entries())) if MARK in markdown else markdown


if __name__ == "__main__":
    print(table(entries()))
