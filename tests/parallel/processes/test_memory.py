"""The memory that it takes to make a parameter that is sharded over processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "parallel.py"
GIB = 1024  # MiB


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_peak_is_little_more_than_the_slices_of_the_process(tmp_path: Path) -> None:
    words = ["launch", "-n", "4", "--devices-per-process", "2", str(BENCHMARK)]
    words += ["--worker", "start", "--folder", str(tmp_path), "--mib", str(GIB)]
    command = [sys.executable, "-c", "from paramesh.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert len(found) == 4
    for (_, peak, kept), (_, peak_of_whole, _) in found:
        assert kept == GIB // 4 << 20
        assert peak <= 1.3 * kept
        assert peak_of_whole > 4 * kept  # the measure sees what is too much
