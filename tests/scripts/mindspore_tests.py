"""MindSpore's own tests, with `import mindspore` meaning paramesh, or with MindSpore itself.

    python mindspore_tests.py run FOLDER RESULTS.jsonl FILE... [--mindspore]
    python mindspore_tests.py run FOLDER RESULTS.jsonl FILE... --together [--passed THEIRS.jsonl]
    python mindspore_tests.py run FOLDER RESULTS.jsonl FILE... --devices 64 [--numbers FILE.jsonl]
    python mindspore_tests.py table THEIRS.jsonl OURS.jsonl [--failed]

FOLDER has the `tests` folder of a copy of MindSpore; files, or FILE::TEST, are given relative to
it. Each file runs in a process of its own, forked from one that has imported everything, within
120 s (`--seconds`); a test that ends its process or takes longer is noted, and the rest of its file
runs in another one. RESULTS has a line for each test; what it has already is not run again. `table`
counts, by folder, the tests that MindSpore passes and that paramesh passes of these; `--failed`
lists the others. `--devices` is for the parallel tests, see `mindspore_parallel.py`.

`--together` runs the files in one process of paramesh, each from the default settings, which takes
a third of the time: programs that are compiled for one file serve others. A process that ends, or
gives no result for `--seconds`, is replaced, and its test noted. `--passed` leaves out the tests
that MindSpore does not pass, of files that ended there.

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


def forget_unfinished(path: str) -> None:
    """Leave out the lines of tests that were stopped with the run, so that they run again."""
    if os.path.exists(path):
        rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
        open_ones = {t for t, row in results(path).items() if row["outcome"] == "started"}
        kept = [row for row in rows if row["test"] not in open_ones]
        Path(path).write_text("".join(json.dumps(row) + "\n" for row in kept))


class Recorder:
    """A plugin of pytest that writes a line for each test.

    Args:
        file: the file of tests.
        path: of the results.
        wanted: the tests that are run, without their parameters; none for all.
        only: the tests that are run, with their parameters; None for all.
    """

    def __init__(
        self,
        file: str,
        path: str,
        wanted: frozenset[str] = frozenset(),
        only: frozenset[str] | None = None,
    ) -> None:
        self.file, self.path, self.wanted, self.only = file, path, wanted, only

    def put(self, test: str, outcome: str, message: str = "") -> None:
        """Write a line."""
        row = {"file": self.file, "test": test, "outcome": outcome, "message": message}
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leave out what has a result, and what is not wanted."""
        known = results(self.path)
        chosen = [i for i in items if not self.wanted or i.nodeid.split("[")[0] in self.wanted]
        chosen = [i for i in chosen if self.only is None or i.nodeid in self.only]
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


def _not_here(*_: object) -> None:
    raise NotImplementedError("it is of the inside of MindSpore")


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
    for name in ("_random_normal", "_random_uniform", "_truncated_normal"):
        setattr(inside, name, _not_here)
    inside.security = types.SimpleNamespace(enable_security=lambda: False)
    sys.modules[inside.__name__] = inside


def collect(folder: Path, recorder: Recorder) -> None:
    """Run the tests of a file in this process."""
    import pytest

    words = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short", "-c", os.devnull]
    pytest.main([*words, f"--rootdir={folder}", str(folder / recorder.file)], plugins=[recorder])
    recorder.put("", "ended")


def silent() -> None:
    """Be a process group that prints nothing."""
    os.setpgid(0, 0)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)


def end_with(process: int) -> None:
    """Kill a process when this one is ended."""

    def stopped(number: int, frame: object) -> None:
        os.kill(process, signal.SIGKILL)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stopped)


def run_file(
    folder: Path, file: str, path: str, seconds: float, wanted: frozenset[str]
) -> int | None:
    """Run a file in a process of its own; its status, or None if it took too long."""
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            silent()
            collect(folder, Recorder(file, path, wanted))
        finally:
            os._exit(0)

    end_with(process)
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


def note_unfinished(path: str, how: str) -> bool:
    """Note the tests that a process was at when it ended; whether there were any."""
    stuck = [row for row in results(path).values() if row["outcome"] == "started"]
    for row in stuck:
        Recorder(row["file"], path).put(row["test"], "failed", how)
    return bool(stuck)


def run_together(
    folder: Path, path: str, files: list[str], seconds: float, passed: dict[str, frozenset[str]]
) -> None:
    """Run files that have not ended yet in one process after another, each from the defaults.

    Args:
        folder: has `tests`.
        path: of the results.
        files: relative to `folder`.
        seconds: without a result, after which a process is given up.
        passed: {file: the tests that are run}; all, of a file that is not there.
    """
    paramesh = importlib.import_module("paramesh")
    os.chdir(folder)
    sys.path[:0] = [str(folder), str(folder / "tests/ut/python")]
    while left := [file for file in files if file not in results(path)]:
        process = os.fork()
        if process == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                silent()
                for file in left:
                    paramesh.context.reset()
                    paramesh.set_seed(0)
                    collect(folder, Recorder(file, path, only=passed.get(file)))
            finally:
                os._exit(0)
        how = watched(process, path, seconds)
        if not note_unfinished(path, how) and len(left) == len(
            [file for file in files if file not in results(path)]
        ):
            Recorder(left[0], path).put("", "ended", how)


def watched(process: int, path: str, seconds: float) -> str:
    """Wait for a process that adds to the results; how it ended."""
    end_with(process)
    size, since = -1, time.monotonic()
    while time.monotonic() - since < seconds:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return f"ended its process: {status}"
        now = os.path.getsize(path) if os.path.exists(path) else 0
        if now != size:
            size, since = now, time.monotonic()
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "took too long"


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
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--passed")
    parser.add_argument("--devices", type=int)
    parser.add_argument("--numbers")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    given = parser.parse_intermixed_args()
    if given.command == "table":
        table(given.words[0], given.words[1], given.failed)
        return
    folder, path, *files = given.words
    folder, path = Path(folder).resolve(), os.path.abspath(path)
    passed: dict[str, frozenset[str]] = {}
    if given.passed:
        theirs = results(given.passed)
        for file in {row["file"] for name, row in theirs.items() if name == row["file"]}:
            good = (t for t, r in theirs.items() if r["file"] == file and r["outcome"] == "passed")
            passed[file] = frozenset(good)
    forget_unfinished(path)
    prepare(given.mindspore, given.devices or 8)
    if given.devices:
        numbers = os.path.abspath(given.numbers) if given.numbers else None
        importlib.import_module("mindspore_parallel").give(numbers)
    if given.together:
        run_together(folder, path, files, given.seconds, passed)
    else:
        run(folder, path, files, given.seconds)


if __name__ == "__main__":
    main()
