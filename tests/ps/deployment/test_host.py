"""The process of a server: where its output goes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys
from paramesh.ps.deployment.host import Host
print("before", flush=True)
Host().speak_to(sys.argv[1])
print("by Python", flush=True)
os.write(2, b"by a library\\n")
print(Host().name(), flush=True)
"""


def run(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True
    )


def test_all_output_goes_to_a_file_of_this_host_and_where_there_is_none_stays(
    tmp_path: Path,
) -> None:
    done = run(tmp_path / "server-0")
    (file,) = tmp_path.iterdir()
    *lines, name = file.read_text().splitlines()
    assert lines == ["by Python", "by a library"]
    assert file.name == f"server-0.{name}.log"
    assert done.stdout == "before\n"
    run(tmp_path / "server-0")  # started again: added to what is there
    assert file.read_text().count("by a library") == 2
    done = run(tmp_path / "nowhere" / "server-0")
    assert "by Python" in done.stdout
    assert "paramesh: the output of this server stays here: " in done.stderr
