"""MindSpore's own tests, with `import mindspore` meaning paramesh, or with MindSpore itself.

    python mindspore_tests.py run FOLDER RESULTS.jsonl FILE... [--mindspore]
    python mindspore_tests.py run FOLDER RESULTS.jsonl FILE... --devices 64 [--numbers FILE.jsonl]
    python mindspore_tests.py table THEIRS.jsonl OURS.jsonl [--failed]

FOLDER has the `tests` folder of a copy of MindSpore; files, or FILE::TEST, are given relative to
it. Each file runs in a process of its own, forked from one that has imported everything, within
120 s (`--seconds`); a test that ends its process or takes longer is noted, and the rest of its file
runs in another one. RESULTS has a line for each test; what it has already is not run again. `table`
counts, by folder, the tests that MindSpore passes and that paramesh passes of these; `--failed`
lists the others. `--devices` is for the parallel tests, see `mindspore_parallel.py`.

`tests/ut/python/__init__.py` must be empty: it imports a simulation that MindSpore 2.10 has not.
What the tests take of the inside of MindSpore is given here: `_cell_graph_executor.compile(net)` is
`net.compile()`, and `_c_expression` has `Tensor` and `security`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import time
import types
from collections import Counter
from pathlib import Path
from typing import Any

SECONDS, ATTEMPTS = 120, 8


def results(path: str) -> dict[str, dict[str, Any]]:
    """{test: its last line}; a file that has ended is under its own name."""
    found: dict[str, dict[str, Any]] = {}
    if os.path.exists(path):
        for line in Path(path).read_text().splitlines():
            row = json.loads(line)
            found[row["test"] or row["file"]] = row
    return found


class Recorder:
    """A plugin of pytest that writes a line for each test.

    Args:
        file: the file of tests.
        path: of the results.
        wanted: the tests that are run, without their parameters; none for all.
    """

    def __init__(self, file: str, path: str, wanted: frozenset[str] = frozenset()) -> None:
        self.file, self.path, self.wanted = file, path, wanted

    def put(self, test: str, outcome: str, message: str = "") -> None:
        """Write a line."""
        row = {"file": self.file, "test": test, "outcome": outcome, "message": message}
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leave out what has a result, and what is not wanted."""
        known = results(self.path)
        chosen = [i for i in items if not self.wanted or i.nodeid.split("[")[0] in self.wanted]
        items[:] = [item for item in chosen if item.nodeid not in known]

    def pytest_runtest_setup(self, item: Any) -> None:
        """A test that ends its process has this line last."""
        self.put(item.nodeid, "started")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """The outcome of a test."""
        if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
            crash = getattr(report.longrepr, "reprcrash", None)
            text = crash.message if crash is not None else str(report.longrepr or "")
            self.put(report.nodeid, report.outcome, text[-2000:])

    def pytest_collectreport(self, report: Any) -> None:
        """A file that cannot be imported."""
        if report.failed:
            self.put(f"{report.nodeid}::import", "failed", str(report.longrepr)[-2000:])


def prepare(mindspore: bool, devices: int = 8) -> None:
    """Import what all files import, before there are processes and devices."""
    os.environ.setdefault("GLOG_v", "3")
    if not mindspore:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}"
        importlib.import_module("paramesh.scripts.running").become_mindspore(lambda line: None)
    for name in ("mindspore", "mindspore.nn", "mindspore.ops", "mindspore.common.api"):
        importlib.import_module(name)
    if not mindspore:
        _give_the_inside()


def _give_the_inside() -> None:
    class Executor:
        def compile(self, net: Any, *args: Any, phase: object = None, **kwargs: Any) -> Any:
            return net.compile(*args, **kwargs)

        def __call__(self, net: Any, *args: Any, phase: object = None, **kwargs: Any) -> Any:
            return net(*args, **kwargs)

    internals: Any = importlib.import_module("paramesh.mindspore_internals")
    if not hasattr(internals, "_cell_graph_executor"):
        internals._cell_graph_executor = Executor()
    inside: Any = types.ModuleType("mindspore._c_expression")
    inside.Tensor = importlib.import_module("paramesh").Tensor
    inside.security = types.SimpleNamespace(enable_security=lambda: False)
    sys.modules[inside.__name__] = inside


def run_file(
    folder: Path, file: str, path: str, seconds: float, wanted: frozenset[str]
) -> int | None:
    """Run a file in a process of its own; its status, or None if it took too long."""
    process = os.fork()
    if process == 0:
        os.setpgid(0, 0)
        try:
            import pytest

            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            words = [
                "-q",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:xdist",
                "--tb=short",
                "-c",
                os.devnull,
            ]
            recorder = Recorder(file, path, wanted)
            pytest.main([*words, f"--rootdir={folder}", str(folder / file)], plugins=[recorder])
            recorder.put("", "ended")
        finally:
            os._exit(0)

    def stopped(number: int, frame: object) -> None:
        os.kill(process, signal.SIGKILL)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stopped)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def run(folder: Path, path: str, named: list[str], seconds: float = SECONDS) -> None:
    """Run files that have not ended yet; of a file that is named with tests, these alone."""
    wanted = frozenset(name for name in named if "::" in name)
    files = list(dict.fromkeys(name.split("::")[0] for name in named))
    os.chdir(folder)
    sys.path[:0] = [str(folder), str(folder / "tests/ut/python")]
    for file in files:
        for _ in range(ATTEMPTS):
            if file in results(path):
                break
            status = run_file(folder, file, path, seconds, wanted)
            found = results(path)
            for test, row in found.items():
                if row["file"] == file and row["outcome"] == "started":
                    how = "took too long" if status is None else f"ended its process: {status}"
                    Recorder(file, path).put(test, "failed", how)


def table(theirs: str, ours: str, failed: bool) -> None:
    """Print what MindSpore passes, and of that paramesh."""
    passed = {t: r for t, r in results(theirs).items() if r["test"] and r["outcome"] == "passed"}
    mine = results(ours)
    counts: Counter[str] = Counter()
    good: Counter[str] = Counter()
    for test, row in passed.items():
        folder = "/".join(row["file"].split("/")[1:4])
        outcome = mine.get(test, {"outcome": "not run", "message": ""})
        counts[folder] += 1
        good[folder] += outcome["outcome"] == "passed"
        if failed and outcome["outcome"] != "passed":
            print(f"{test}: {outcome['message'].partition(chr(10))[0][:200]}")
    for folder, count in sorted(counts.items()):
        print(f"{folder}: MindSpore passes {count}, paramesh {good[folder]} of them")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("words", nargs="+")
    parser.add_argument("--mindspore", action="store_true")
    parser.add_argument("--failed", action="store_true")
    parser.add_argument("--devices", type=int)
    parser.add_argument("--numbers")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    given = parser.parse_args()
    if given.command == "table":
        table(given.words[0], given.words[1], given.failed)
        return
    folder, path, *files = given.words
    prepare(given.mindspore, given.devices or 8)
    if given.devices:
        numbers = os.path.abspath(given.numbers) if given.numbers else None
        importlib.import_module("mindspore_parallel").give(numbers)
    run(Path(folder).resolve(), os.path.abspath(path), files, given.seconds)


if __name__ == "__main__":
    main()
