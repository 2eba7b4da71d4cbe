"""How much memory commands take that go through a complete checkpoint, measured by the system."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: Bytes of the largest array; of the promise, what is there whatever the arrays are; a part of that
#: are the interpreter and the libraries.
LARGEST = 256 << 20
OVERHEAD = 200 * 10**6

PROGRAM = f"""
import contextlib, io, json, sys
from pathlib import Path

import numpy as np

from paramesh.checkpoint.opening import Entry, open_sink
from paramesh.cli import main
from paramesh.dtype import float32

place = Path(sys.argv[1])
rows = {LARGEST} // 4 // 8192
shapes = {{"wide.weight": (rows, 8192), "small.weight": (1024, 8192), "bias": (8192,)}}
entries = [Entry.of(name, float32, shape) for name, shape in shapes.items()]

def save(path, format, parts=1):
    with open_sink(path, format, entries) as sink:
        for name, shape in shapes.items():
            sink.write(name, np.ones(shape, np.float32))

def status(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024

def run(*words):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            main(list(map(str, words)))
        except SystemExit as ended:
            assert ended.code == 0, words
    return status("VmHWM")

save(place / "a.safetensors", "safetensors")
save(place / "a.ckpt", "ckpt")
peaks = {{}}
for name, words in {{
    "one format to another": ("convert", place / "a.safetensors", place / "b.ckpt"),
    "and back": ("convert", place / "a.ckpt", place / "b.safetensors", "--checksums"),
    "another type": ("convert", place / "a.ckpt", place / "c.safetensors", "--dtype", "bfloat16"),
    "other layouts": ("convert", place / "a.ckpt", place / "d.safetensors", "--to", "flax"),
    "into slices": ("reshard", place / "a.safetensors", place / "e.sharded", "--processes", "4"),
    "into columns": (
        *("reshard", place / "a.ckpt", place / "f.sharded"),
        *("--devices", "4", "--layout", "wide.*=1,4"),
    ),
    "out of rows": ("convert", place / "e.sharded", place / "g.safetensors"),
    "out of columns": ("merge", place / "f.sharded", place / "h.ckpt"),
    "columns to rows": ("reshard", place / "f.sharded", place / "i.sharded", "--processes", "2"),
    "statistics": ("inspect", place / "f.sharded", "--stats"),
    "differences": ("inspect", place / "a.ckpt", place / "f.sharded"),
}}.items():
    peaks[name] = run(*words)
    for made in place.iterdir():
        if made.name[0] in "bcdghi":
            made.rename(place / "old") if made.is_dir() else made.unlink()
print(json.dumps(peaks))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from Linux's /proc")
def test_no_command_takes_more_than_half_an_array_besides_the_largest(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    peaks = json.loads(done.stdout)
    assert len(peaks) == 11
    over = {name: peak for name, peak in peaks.items() if peak > 1.5 * LARGEST + OVERHEAD}
    assert not over, {name: round(peak / 1e6) for name, peak in peaks.items()}
