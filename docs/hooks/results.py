"""The page of measurements: benchmarks/RESULTS.md, put in the place of its mark.

The programs of `benchmarks/` write that file (`--record`), so it stands beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "RESULTS.md"
MARK = "<!-- results -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the file in the place of the mark."""
    if MARK not in markdown:
        return markdown
    # Links are written for benchmarks/; the page is in docs/reference/.
    results = RESULTS.read_text(encoding="utf-8").replace("](../docs/", "](../")
    return markdown.replace(MARK, results)
