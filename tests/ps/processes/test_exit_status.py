"""Whether a process knows in `atexit` how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from paramesh.ps.processes import exit_status

PROGRAM = f"""
import atexit, importlib.util, sys, threading
spec = importlib.util.spec_from_file_location("exit_status", {exit_status.__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

def main():
    end = module.ExitStatus()
    atexit.register(lambda: print(end.error()))
    return 3

main()
"""

ENDS = [
    ("pass", "None", 0),
    ("sys.exit()", "None", 0),
    ("sys.exit(0)", "None", 0),
    ("exit()", "None", 0),
    ("sys.exit(3)", "exit code 3", 3),
    ("sys.exit('no')", "exit code 'no'", 1),
    ("exit(3)", "exit code 3", 3),
    ("import argparse; argparse.ArgumentParser().parse_args(['--x'])", "exit code 2", 2),
    ("raise ValueError('no')", "ValueError: no", 1),
    ("raise KeyboardInterrupt", "KeyboardInterrupt", None),
    ("raise SystemExit(3)", "SystemExit that the script has raised itself", 3),
    # Those that were not the end.
    ("try: sys.exit(3)\nexcept SystemExit: pass", "None", 0),
    ("t = threading.Thread(target=sys.exit, args=(3,)); t.start(); t.join()", "None", 0),
]


@pytest.mark.parametrize("as_module", [False, True])
@pytest.mark.parametrize(("last", "error", "code"), ENDS)
def test_ends(last: str, error: str, code: int | None, as_module: bool, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(PROGRAM + last)
    done = subprocess.run(
        [sys.executable, "-W", "error", *(["-m", "script"] if as_module else ["script.py"])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.startswith(error), done.stderr
    assert code is None or done.returncode == code
