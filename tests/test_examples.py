"""Every program of examples/ runs as a script, shortened by its argument."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples"
#: For each program: its arguments here, and what it prints, as a pattern.
CASES = {
    "functional_jax.py": (["250"], r"step  200  loss 0\.0\d+\n.*accuracy on other points: "),
    "gpt_semi_auto.py": (
        ["100", "2", "4"],
        r"step  100  loss [0-2]\.\d+\n.*up\.weight +\(256, 64\) +Float32 +n, - +\(64, 64\) +2",
    ),
    "hybrid_embedding.py": (
        ["20", "4"],
        r"largest difference: \d\.\de-0[5-9]\n0\.table +\(256, 16\) +a slice on each of 4 devices",
    ),
    "movielens_ps.py": (
        ["1", "0"],
        r"Factors: test RMSE 0\.9\d+, .*WideAndDeep: test RMSE 0\.9\d+, ",
    ),
    "lenet_digits.py": (["6"], r"test accuracy: 9\d\.\d%\n"),
}


def test_every_example_has_a_case() -> None:
    assert sorted(CASES) == sorted(path.name for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", sorted(CASES))
def test_example(name: str, tmp_path: Path) -> None:
    words, pattern = CASES[name]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / name), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(pattern, done.stdout, re.DOTALL), done.stdout
