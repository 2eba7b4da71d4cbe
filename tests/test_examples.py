"""Every program of examples/ runs as a script, shortened by its argument."""

from __future__ import annotations

import re
import runpy
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
        ["--epochs", "1", "--workers", "1", "--servers", "0", "--mode", "sync"],
        r"factors, sync: test RMSE 0\.9\d+ .*wide and deep, sync: test RMSE 0\.9\d+ ",
    ),
    "clicks_ps.py": (
        ["--steps", "12"],
        r"step   12  loss 0\.\d+ .*AUC 0\.[678]\d+, the best possible 0\.8954, 0\.[012]\d+ less",
    ),
    "lenet_digits.py": (["6"], r"test accuracy: 9\d\.\d%\n"),
}


def test_every_example_has_a_case() -> None:
    assert sorted(CASES) == sorted(path.name for path in FOLDER.glob("*.py"))


#: The others share what they use with these.
QUICK = ("gpt_semi_auto.py", "lenet_digits.py", "movielens_ps.py")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in sorted(CASES)]
)
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


@pytest.mark.slow
def test_clicks_are_learned_as_well_as_they_can_be(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / "clicks_ps.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"AUC ([\d.]+), the best possible ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    assert float(found[2]) - 0.002 <= float(found[1]) < float(found[2])


@pytest.mark.slow
@pytest.mark.parametrize("network", ["factors", "wide and deep"])
def test_film_ratings_with_two_servers_and_two_workers(network: str, tmp_path: Path) -> None:
    """Every mode learns; killed servers and workers change no digit in sync mode."""
    example = [sys.executable, "-W", "error", str(FOLDER / "movielens_ps.py"), "--network", network]

    def errors(*words: str) -> dict[str, str]:
        done = subprocess.run(
            [*example, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        assert done.returncode == 0, done.stderr
        return dict(re.findall(rf"{network}, (\w+): test RMSE \S+ \((\S+)\)", done.stdout))

    undisturbed = errors()
    assert sorted(undisturbed) == ["async", "stale", "sync"]
    assert max(map(float, undisturbed.values())) <= 0.88
    assert errors("--mode", "sync", "--kills", "6") == {"sync": undisturbed["sync"]}


def test_curves_that_coincide_are_drawn_as_one() -> None:
    found = runpy.run_path(str(FOLDER / "movielens_ps.py"))["coinciding"]
    one = {"losses": [0.9, 0.8], "errors": [0.95, None]}
    runs = {
        "sync": one,
        "stale": {"losses": [0.9001, 0.8], "errors": [0.95, None]},
        "async": {"losses": [0.9, 0.8], "errors": [0.96, None]},
        "shorter": {"losses": [0.9], "errors": [0.95]},
    }
    assert [modes for modes, _ in found(runs)] == [["sync", "stale"], ["async"], ["shorter"]]
    assert found(runs)[0][1] is one
