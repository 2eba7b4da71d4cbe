"""MindSpore's own tests: the page says what was found, and it is found again.

`make test-scripts` runs some of them again, if the folder of `trials.REPOSITORIES` has
`mindspore-tests`, in which the folder `tests` is that of the copy of MindSpore that the page names.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import mindspore_outcomes, mindspore_tests, trials

FOUND: dict[str, Any] = json.loads(mindspore_outcomes.FILE.read_text())
#: Files that take no long time, some of each folder.
AGAIN = [
    min(
        (file for file in FOUND["files"] if mindspore_outcomes.folder_of(file) == folder),
        key=lambda file: (abs(FOUND["files"][file][0] - 6), file),
    )
    for folder in mindspore_outcomes.FOLDERS
    if any(mindspore_outcomes.folder_of(file) == folder for file in FOUND["files"])
]


def test_the_page_has_what_was_found() -> None:
    assert mindspore_outcomes.shown() == mindspore_outcomes.section(FOUND)


def test_all_that_fails_has_a_reason() -> None:
    failed = sum(theirs - ours for theirs, ours in FOUND["files"].values())
    assert sum(len(tests) for tests in FOUND["rest"].values()) == failed
    known = {reason.text for reason in mindspore_outcomes.REASONS}
    assert set(FOUND["rest"]) <= known


def test_results_become_counts_and_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that ended in both, and of no test that MindSpore does not pass."""
    file, other = "tests/st/ops/cpu/test_a.py", "tests/st/ops/cpu/test_b.py"

    def rows(*outcomes: str) -> dict[str, Any]:
        found = {file: {"file": file, "outcome": "ended"}}
        for i, outcome in enumerate(outcomes):
            row = {"file": file, "outcome": outcome, "message": "no\nsuch name"}
            found[f"{file}::test_{i}"] = row
        return found | {f"{other}::test_0": {"file": other, "outcome": "passed", "message": ""}}

    theirs, ours = rows("passed", "passed", "failed"), rows("passed", "failed", "failed")
    with pytest.raises(ValueError, match=r"without a reason:\n.*test_1 \| no such name$"):
        mindspore_outcomes.outcomes(theirs, ours, "0")
    reason = mindspore_outcomes.Reason("names", "test_1 .*such name")
    monkeypatch.setattr(mindspore_outcomes, "REASONS", [reason])
    found = mindspore_outcomes.outcomes(theirs, ours, "0")
    assert found["files"] == {file: [2, 1]}
    assert found["rest"] == {"names": [f"{file}::test_1"]}
    assert "| `st/ops/cpu` | 1 of 357 | 2 | 1 |" in mindspore_outcomes.section(found)


def test_a_stopped_run_forgets_the_test_that_it_was_at(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    lines = [("a", "started"), ("a", "passed"), ("b", "started")]
    rows = [{"file": "f", "test": test, "outcome": how, "message": ""} for test, how in lines]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    mindspore_tests.forget_unfinished(str(path))
    assert list(mindspore_tests.results(str(path))) == ["a"]


@pytest.mark.slow
@pytest.mark.parametrize("file", AGAIN)
def test_a_file_gives_what_it_gave(file: str, tmp_path: Path) -> None:
    root = trials.repositories()
    if root is None or not (root / "mindspore-tests" / file).is_file():
        pytest.skip(f"{trials.REPOSITORIES} does not name a folder that has mindspore-tests")
    path = tmp_path / "ours.jsonl"
    words = ["run", str(root / "mindspore-tests"), str(path), file, "--together"]
    subprocess.run([sys.executable, mindspore_tests.__file__, *words], check=True, timeout=600)
    found = mindspore_tests.results(str(path))
    failed = {test for test, row in found.items() if test and row["outcome"] == "failed"}
    known = {test for tests in FOUND["rest"].values() for test in tests if test.startswith(file)}
    assert known <= failed
    passed = sum(row["outcome"] == "passed" for row in found.values())
    assert passed >= FOUND["files"][file][1]
