"""What a step costs over others' servers: `python benchmarks/server_peers.py`.

Trains the same network (dense layers, SGD) with one server and one or two workers. The contestants
make turns of some steps one after another; of each it prints the median of a step, the step that a
tenth of all are faster than (which is nearer to that of an idle machine), and the processor time of
a step, of all processes together (of Ray's own, too):

    paramesh        `nn.TrainOneStepCell` with `net.set_param_ps()`, log included, by the settings
                    that a user gets
    paramesh, ray   the same, its messages over Ray
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
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import harness
import record
from driven import Driven

#: Layers of the network, examples of a batch, and steps before those that count.
WIDTHS, BATCH, WARM = (256, 1024, 256, 1), 64, 20
RATE = 0.01
_FOLDER = Path(__file__).parent / "servers"
#: The program of each contestant, and settings of paramesh.
CONTESTANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "paramesh": ("of_paramesh.py", {}),
    "paramesh, ray": ("of_paramesh.py", {"transport": "ray"}),
    "ray actor": ("of_ray.py", {}),
    "tensorflow": ("of_tensorflow.py", {}),
}
OURS = "of_paramesh.py"


def started(name: str, workers: int, python: str, folder: str) -> Driven:
    """A contestant that waits for orders."""
    program, settings = CONTESTANTS[name]
    numbers = json.dumps([WIDTHS, BATCH, RATE, workers, settings])

    def command(address: str) -> list[str]:
        words = [str(_FOLDER / program), address, numbers]
        if program == OURS:
            words = [
                "-m",
                "paramesh",
                "launch",
                "--servers",
                "1",
                "--workers",
                f"{workers}",
                *words,
            ]
        return [python, *words]

    log = Path(folder) / f"{name}.{workers}.log"
    connected = workers if program == OURS else 1
    variables = {"JAX_PLATFORMS": "cpu", "RAY_worker_niceness": "0"}
    return Driven(name, command, log, workers=connected, variables=variables)


def measure(
    names: list[str], workers: int, pythons: dict[str, str], steps: int, turn: int
) -> list[Driven]:
    """All contestants by turns; (seconds, processor time) are theirs."""
    running: list[Driven] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in names:
                running.append(started(name, workers, pythons.get(name, sys.executable), folder))
            for one in running:
                one.turn(WARM, counts=False)
            for _ in range(max(1, steps // turn)):
                for one in running:
                    one.turn(turn, counts=True)
        finally:
            for one in running:
                one.close()
    return running


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="of each")
    parser.add_argument("--turn", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--tensorflow-python", help="a python that has tensorflow")
    given = parser.parse_args()
    pythons: dict[str, str] = {}
    names = list(given.only)
    if given.tensorflow_python:
        pythons["tensorflow"] = str(Path(given.tensorflow_python).absolute())
    elif "tensorflow" in names:
        names.remove("tensorflow")
        print("tensorflow: not measured (--tensorflow-python)")
    rows: list[Any] = []
    for workers in given.workers:
        running = measure(names, workers, pythons, given.steps, given.turn)
        found = {
            one.name: [
                1e3 * number
                for number in (
                    statistics.median(one.times),
                    statistics.quantiles(one.times, n=10)[0],
                    statistics.median(one.all),
                )
            ]
            for one in running
        }
        base = found[names[0]]
        for name, mine in found.items():
            cells = [
                text
                for one, first in zip(mine, base, strict=True)
                for text in (f"{one:.2f}", f"{one / first:.2f}")
            ]
            rows.append((name, str(workers), *cells))
    sizes = sum(i * o + o for i, o in itertools.pairwise(WIDTHS))
    harness.console().print(
        harness.table(
            f"{sizes * 4 / 1e6:.1f} MB of Parameters, {BATCH} examples a worker",
            ["", "workers", "step (ms)", "ratio", "a tenth", "ratio", "processor", "ratio"],
            rows,
        )
    )


if __name__ == "__main__":
    record.run(main)
