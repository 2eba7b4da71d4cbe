"""How long sixteen programs are: the recipes of the documentation beside twins in flax nnx.

Run `python benchmarks/program_tokens.py`. A recipe is a block of docs/how-to/recipes.md whose first
line is its name; its twin is the file of that name in benchmarks/programs. Counted are Python's
tokens without comments, docstrings, line ends and indentation; imports and the data that both begin
with are not counted. `--run` runs the twins, which need flax (`pip install -e '.[bench]'`).
"""

from __future__ import annotations

import argparse
import io
import os
import re
import statistics
import subprocess
import sys
import tokenize
from pathlib import Path

from rich.console import Console
from rich.table import Table

import record

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "recipes.md"
TWINS = Path(__file__).parent / "programs"
#: What stands before a twin's program, after imports and data.
MARK = "# The program.\n"
_BLOCK = re.compile(r"^```python\n# ([a-z0-9]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_UNCOUNTED = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def tokens(program: str) -> int:
    """Python's tokens of a program, without comments, docstrings and layout."""
    count, begins = 0, True
    for token in tokenize.generate_tokens(io.StringIO(program).readline):
        if token.type == tokenize.STRING and begins:
            continue  # a docstring
        if token.type in _UNCOUNTED:
            # Not after a line end inside of brackets.
            begins = begins or token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
            continue
        begins = False
        count += 1
    return count


def recipes() -> dict[str, str]:
    """{name: program} of the page."""
    return dict(_BLOCK.findall(PAGE.read_text(encoding="utf-8")))


def twins() -> dict[str, str]:
    """{name: program} in flax nnx."""
    found = {}
    for path in sorted(TWINS.glob("*.py")):
        _, mark, program = path.read_text(encoding="utf-8").partition(MARK)
        if not mark:
            raise ValueError(f"{path} has no line {MARK.strip()!r}.")
        found[path.stem] = program
    return found


def counts() -> dict[str, tuple[int, int]]:
    """{name: (tokens of the recipe, tokens of the twin)}.

    Raises:
        ValueError: one of them is missing.
    """
    ours, theirs = recipes(), twins()
    if set(ours) != set(theirs):
        raise ValueError(f"no twin or no recipe: {sorted(set(ours) ^ set(theirs))}.")
    return {name: (tokens(ours[name]), tokens(theirs[name])) for name in ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="store_true", help="run the twins, too")
    if parser.parse_args().run:
        flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
        for path in sorted(TWINS.glob("*.py")):
            subprocess.run([sys.executable, str(path)], env=os.environ | flags, check=True)
    table = Table("program")
    for head in ("paramesh", "flax nnx", "ratio"):
        table.add_column(head, justify="right")
    ratios = []
    for name, (ours, theirs) in counts().items():
        ratios.append(ours / theirs)
        table.add_row(name, str(ours), str(theirs), f"{ours / theirs:.2f}")
    table.add_section()
    table.add_row("median", "", "", f"{statistics.median(ratios):.2f}")
    table.add_row("largest", "", "", f"{max(ratios):.2f}")
    Console(width=int(record.WIDTH)).print(table)


if __name__ == "__main__":
    record.run(main)
