"""Every example of README.md and docs/ is executed, and prints what its page says.

The rules for a page:

- Its ```python blocks run in order, as one program of their own, in an empty directory.
- A ```text block is the output of the python block before it (other kinds of block may not stand
  between them) and is compared without trailing blanks; `...` stands for any text.
- Code that is not to be run is marked ```py.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import linecache
import re
import sys
import traceback
import types
from pathlib import Path

import pytest

from markdown_blocks import blocks

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def same(expected: str, printed: str) -> bool:
    """Whether the output is the expected one, blanks at line ends and `...` aside."""

    def plain(text: str) -> str:
        return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n"

    expected, printed = plain(expected), plain(printed)
    return doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS)


def run(page: str, name: str) -> list[str]:
    """Execute a page's examples; the faults found, each with `name` and its line."""
    faults: list[str] = []
    printed: str | None = None
    module = types.ModuleType("__main__")  # in sys.modules too: pickle looks classes up there
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", module)
        # Without a time of the file, which makes `linecache` keep it: the pages run elsewhere.
        lines = page.splitlines(keepends=True)
        patch.setitem(linecache.cache, name, (len(page), None, lines, name))
        for block in blocks(page):
            if block.kind == "python":
                output = io.StringIO()
                try:
                    # Blank lines in front make the traceback's line numbers those of the page.
                    program = compile("\n" * (block.line - 1) + block.text, name, "exec")
                    with contextlib.redirect_stdout(output):
                        exec(program, module.__dict__)
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    frames = traceback.extract_tb(error.__traceback__)
                    here = [f.lineno for f in frames if f.filename == name]
                    line = (here[-1] if here else getattr(error, "lineno", None)) or block.line
                    return [*faults, f"{name}:{line}: {traceback.format_exc()}"]
                printed = output.getvalue()
            elif block.kind == "text" and printed is not None:
                if not same(block.text, printed):
                    faults.append(
                        f"{name}:{block.line}: expected\n{block.text}\nbut it printed\n{printed}"
                    )
                printed = None
            else:
                printed = None
    return faults


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_page(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["python"])
    faults = run(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    if faults:
        pytest.fail("\n\n".join(faults), pytrace=False)


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("```python\nprint(1)\n```\ngives\n```text\n1\n```\n", None),
        ("```python\nx = 1\n```\n```python\nprint(x, 'a')\n```\n```text\n1 ...\n```\n", None),
        ("1. item\n\n   ```python\n   print(2)\n   ```\n\n   ```text\n   2\n   ```\n", None),
        ("```py\n1 / 0\n```\n```text\nprose\n```\n", None),
        ("```python\nprint(1)\n```\n```text\n2\n```\n", "page:5: expected\n2\nbut it printed\n1"),
        ("# t\n\n```python\nx = 1\n1 / 0\n```\n", "page:5: .*ZeroDivisionError"),
        ("```python\nx = (\n```\n", "page:2: .*SyntaxError"),
        ("```python\nimport warnings; warnings.warn('w')\n```\n", "page:2: .*UserWarning"),
        ("```python\nraise SystemExit(3)\n```\n", "page:2: .*SystemExit"),
    ],
)
def test_runner_finds_the_fault(page: str, fault: str | None) -> None:
    faults = run(page, "page")
    if fault is None:
        assert faults == []
    else:
        assert len(faults) == 1
        assert re.search(fault, faults[0], re.DOTALL)
