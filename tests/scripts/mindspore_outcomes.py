"""What MindSpore's own tests gave: from results to `mindspore_outcomes.json`, and to the page.

    python mindspore_outcomes.py THEIRS.jsonl OURS.jsonl COMMIT

THEIRS and OURS are results of `mindspore_tests.py`, of MindSpore itself and of paramesh at COMMIT.
Counted are the files that ended in both, and of these the tests that MindSpore passes. Each test
that paramesh does not pass needs a reason: the first of `REASONS` whose pattern is found in its
name and message. Without one it is printed, and nothing is written.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
FILE = HERE / "mindspore_outcomes.json"
PAGE = HERE.parents[1] / "docs" / "how-to" / "run-mindspore-scripts.md"
BEGIN, END = "<!-- outcomes: from here -->", "<!-- outcomes: to here -->"

#: {folder: how many files of tests it has}.
FOLDERS = {
    "ut/python/nn": 87,
    "ut/python/ops": 39,
    "ut/python/pynative_mode": 50,
    "ut/python/train": 10,
    "ut/python/metrics": 20,
    "ut/python/utils": 6,
    "st/ops/cpu": 357,
}


class Reason(NamedTuple):
    """Why tests fail that MindSpore passes.

    Attributes:
        text: for the page.
        pattern: a regular expression, searched for in "test | message".
    """

    text: str
    pattern: str


REASONS = [
    Reason(
        "the last digit: `==` on Float32, where XLA multiplies by 1/6 and MindSpore divides by 6",
        r"test_h(sigmoid|swish)_op\.py::test_net ",
    ),
    Reason(
        "operators that write take Parameters, and MindSpore's other Tensors too",
        r"variable must be a Parameter",
    ),
    Reason(
        "values: a test of LSTM replaces the lists of weights inside the layer (`w_ih_list`), "
        "which the layer did not have; it has them since, and the test passes",
        r"test_sit_lstm_grad_input_3_32_32_is_32_hs_16 ",
    ),
    Reason(
        "numbers drawn from a seed: under `vmap` each example draws others",
        r"test_multinomial_vmap ",
    ),
    Reason("MindIR files, not written", r"got 'MINDIR'"),
    Reason(
        "names that were not offered: `CombinedNonMaxSuppression`, `MatrixLogarithm`, "
        "`ConcatOffsetV1`, `UpdateCache`, `FusedAdaFactor`; they are since, and the tests pass",
        r"FusedAdaFactor|CombinedNonMaxSuppression|MatrixLogarithm|ConcatOffsetV1|UpdateCache",
    ),
]


def folder_of(file: str) -> str:
    """The folder of the table that a file of tests is in."""
    return next(folder for folder in FOLDERS if file.startswith(f"tests/{folder}/"))


def outcomes(theirs: dict[str, Any], ours: dict[str, Any], commit: str) -> dict[str, Any]:
    """What `mindspore_outcomes.json` says, from results by test.

    Raises:
        ValueError: tests without a reason; the message lists them.
    """
    ended = [{name for name, row in rows.items() if name == row["file"]} for rows in (theirs, ours)]
    counts: dict[str, list[int]] = {file: [0, 0] for file in sorted(ended[0] & ended[1])}
    rest: dict[str, list[str]] = {reason.text: [] for reason in REASONS}
    unknown = []
    for test, row in sorted(theirs.items()):
        if row["outcome"] != "passed" or row["file"] not in counts:
            continue
        mine = ours.get(test, {"outcome": "absent", "message": "not collected"})
        good = mine["outcome"] == "passed"
        counts[row["file"]][0] += 1
        counts[row["file"]][1] += good
        if not good:
            said = f"{test} | {' '.join(mine['message'].split())}"
            why = next((r.text for r in REASONS if re.search(r.pattern, said)), None)
            if why is None:
                unknown.append(said[:600])
            else:
                rest[why].append(test)
    if unknown:
        raise ValueError("without a reason:\n" + "\n".join(unknown))
    return {"commit": commit, "files": counts, "rest": {k: v for k, v in rest.items() if v}}


def section(found: dict[str, Any]) -> str:
    """The tables of the page."""
    files: Counter[str] = Counter()
    theirs: Counter[str] = Counter()
    ours: Counter[str] = Counter()
    for file, (passed, mine) in found["files"].items():
        folder = folder_of(file)
        files[folder] += 1
        theirs[folder] += passed
        ours[folder] += mine
    lines = [
        "| tests of | files run | MindSpore 2.10 passes | paramesh passes |",
        "|---|---|---|---|",
    ]
    for folder, count in FOLDERS.items():
        ran = str(count) if files[folder] == count else f"{files[folder]} of {count}"
        lines.append(f"| `{folder}` | {ran} | {theirs[folder]:,} | {ours[folder]:,} |")
    total = f"{files.total()} of {sum(FOLDERS.values())}"
    total = str(files.total()) if files.total() == sum(FOLDERS.values()) else total
    lines.append(f"| all | {total} | {theirs.total():,} | {ours.total():,} |")
    lines += ["", "What remains:", "", "| tests | reason |", "|---|---|"]
    rows = sorted(found["rest"].items(), key=lambda item: -len(item[1]))
    lines += [f"| {len(tests)} | {text} |" for text, tests in rows]
    return "\n".join(lines)


def shown() -> str:
    """The tables that the page has."""
    return PAGE.read_text().split(BEGIN + "\n")[1].split("\n" + END)[0].strip("\n")


def main() -> None:
    """Run the command line."""
    from mindspore_tests import results

    theirs, ours = (results(path) for path in sys.argv[1:3])
    found = outcomes(theirs, ours, sys.argv[3])
    FILE.write_text(json.dumps(found, indent=0) + "\n")
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{section(found)}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
