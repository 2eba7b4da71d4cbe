"""What a step costs over others' servers: `python benchmarks/server_peers.py`.

Trains the same network (dense layers, SGD) with one server and one or two workers, and prints the
median of a step:

    paramesh        `nn.TrainOneStepCell` with `net.set_param_ps()`, servers on Ray, log included
    ray actor       as in Ray's guide: an actor holds the weights; workers are actors that are given
                    them and give back gradients; a driver calls all of them in each step
    tensorflow      ParameterServerStrategy with a coordinator, each server a process

A python that has TensorFlow is named by `--tensorflow-python`; it is reported where it is missing.
The peers keep no log: what they hold is lost with their server. TensorFlow's updates are async, the
others' sync. Needs paramesh[ps].
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import harness
import record

#: Layers of the network, examples of a batch, and steps before and within what is measured.
WIDTHS, BATCH, WARM = (256, 1024, 256, 1), 64, 5
RATE = 0.01
_FOLDER = Path(__file__).parent / "servers"
PROGRAMS = {
    "paramesh": _FOLDER / "of_paramesh.py",
    "ray actor": _FOLDER / "of_ray.py",
    "tensorflow": _FOLDER / "of_tensorflow.py",
}


def run(words: list[str], folder: str) -> float:
    """The median of the steps that a program measures, in milliseconds."""
    variables = os.environ | {"JAX_PLATFORMS": "cpu", "RAY_worker_niceness": "0"}
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=folder, env=variables, timeout=300, check=False
    )
    found = [line for line in done.stdout.splitlines() if "TIMES " in line]
    if done.returncode or not found:
        raise RuntimeError(f"{words[0]} failed:\n{done.stderr[-2000:]}")
    times: list[float] = json.loads(found[0].partition("TIMES ")[2])
    return statistics.median(times) * 1e3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tensorflow-python", help="a python that has tensorflow")
    given = parser.parse_args()
    rows: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        for workers in given.workers:
            numbers = json.dumps([WIDTHS, BATCH, WARM, given.steps, RATE, workers])
            launch = [sys.executable, "-c", "from paramesh.cli import main; main()", "launch"]
            launch += [
                "--servers",
                "1",
                "--workers",
                str(workers),
                str(PROGRAMS["paramesh"]),
                numbers,
            ]
            commands = {
                "paramesh": launch,
                "ray actor": [sys.executable, str(PROGRAMS["ray actor"]), numbers],
            }
            if given.tensorflow_python:
                python = str(Path(given.tensorflow_python).absolute())
                commands["tensorflow"] = [python, str(PROGRAMS["tensorflow"]), numbers]
            taken: dict[str, list[float]] = {name: [] for name in commands}
            for _ in range(given.rounds):
                for name, words in commands.items():
                    taken[name].append(run(words, folder))
            base = statistics.median(taken["paramesh"])
            for name in PROGRAMS:
                if name not in taken:
                    rows.append((name, str(workers), "", "", "not measured: --tensorflow-python"))
                    continue
                middle = statistics.median(taken[name])
                rows.append((name, str(workers), f"{middle:.2f}", f"{middle / base:.2f}", ""))
    sizes = sum(i * o + o for i, o in itertools.pairwise(WIDTHS))
    harness.console().print(
        harness.table(
            f"{sizes * 4 / 1e6:.1f} MB of Parameters, {BATCH} examples a worker",
            ["", "workers", "step (ms)", "to paramesh", "remark"],
            rows,
        )
    )


if __name__ == "__main__":
    record.run(main)
