"""The fenced blocks of pages in Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass

FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})\s*(?P<kind>[\w+-]*)")


@dataclass
class Block:
    """One fenced block: its kind (`python`, `text`, …), its text, and the line it starts on."""

    kind: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page in Markdown, in order."""
    found: list[Block] = []
    lines = iter(enumerate(page.splitlines(), start=1))
    for number, line in lines:
        if opening := FENCE.match(line):
            indent, ticks = len(opening["indent"]), opening["ticks"]
            body = []
            for _, inner in lines:
                if inner.strip().startswith(ticks) and not inner.strip().strip(ticks[0]):
                    break
                body.append(inner[indent:] if inner[:indent].isspace() else inner)
            else:
                raise ValueError(f"line {number}: the block is never closed")
            found.append(Block(opening["kind"], "\n".join(body), number + 1))
    return found
