"""Programs that are run for somebody: lines, signals, and how they ended."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
from pathlib import Path
from typing import Any

from paramesh.parallel.processes.failures import REPORT
from paramesh.parallel.processes.worker import LAUNCHER
from paramesh.ps.processes.child import Child, End


def run(tmp_path: Path, program: str, **more: Any) -> tuple[Child, list[Any], Any]:
    lines: list[Any] = []
    ends: queue.SimpleQueue[End] = queue.SimpleQueue()
    child = Child(
        [sys.executable, "-c", program],
        {**os.environ, **more.pop("variables", {})},
        tmp_path / "report",
        lambda stream, text: lines.append((stream, text)),
        lambda _, end: ends.put(end),
        **more,
    )
    return child, lines, ends


def test_lines_environment_and_folder(tmp_path: Path) -> None:
    program = (
        "import os, sys; print(os.getcwd()); print('1%\\r2%'); print(os.environ['A'], "
        f"os.environ['{LAUNCHER}'], file=sys.stderr); sys.stdout.buffer.write(b'\\xff')"
    )
    child, lines, ends = run(tmp_path, program, variables={"A": "3"}, folder=str(tmp_path))
    assert ends.get(timeout=60) == End(0)
    child.read_out(5.0)
    out = [text for stream, text in lines if stream == "stdout"]
    assert out == [str(tmp_path).encode(), b"2%", b"\xff"]
    assert ("stderr", f"3 {os.getpid()}".encode()) in lines


def test_its_report_and_its_code(tmp_path: Path) -> None:
    program = (
        f"import json, os, sys; json.dump({{'text': 'why'}}, open(os.environ['{REPORT}'], 'w')); "
        "sys.exit(3)"
    )
    _, _, ends = run(tmp_path, program)
    assert ends.get(timeout=60) == End(3, {"text": "why"})
    assert json.loads((tmp_path / "report").read_text()) == {"text": "why"}


def test_a_signal_reaches_what_it_has_started(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys; inner = subprocess.Popen([sys.executable, '-c', "
        "\"import time; print('up', flush=True); time.sleep(600)\"]); inner.wait()"
    )
    child, lines, ends = run(tmp_path, program)
    while ("stdout", b"up") not in lines:
        assert child.pid
    child.send(signal.SIGKILL)
    assert ends.get(timeout=60) == End(-signal.SIGKILL)
    child.read_out(5.0)  # nobody has its pipes any more
    child.send(signal.SIGKILL)  # there is nobody: no error
