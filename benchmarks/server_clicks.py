"""A click model over tables on servers and elsewhere: `python benchmarks/server_clicks.py`.

26 tables of a million to a billion rows of 16, batches of 4,096 examples, Adagrad, everything on
servers, sync mode, log included (`servers/clicks.py` has the model). The contestants are programs
of their own that make turns of some steps one after another, so that all meet the same machine:

    jax         by hand, tables on the device: places are given, no index is needed
    torch       `EmbeddingBag` with sparse gradients, local tables: as above
    … dense     the same without tables: the rows of all look-ups are given, and their gradients
                computed and not used. No server and no table can make a step shorter than that
    torchrec    TorchRec's fused tables, local: likewise, with the optimizer in the backward pass
    alone       paramesh, the server in the process of the worker
    1+1 ray     paramesh, one server and one worker, the messages over Ray
    1+1 zmq     over ZeroMQ; "ahead": the next batch is announced by `step.prefetch(…)`
    2+2 zmq     two servers and two workers, each worker with a batch of its own

For each it prints the median of a step, the processor time of a step (of all processes together,
and of servers), and what the worker waits for servers. On a machine with as few cores as processes,
processor time tells more than time.

Peers that are not installed are reported. `--python torch=PATH` names another interpreter for one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import processor_time
import record
from driven import Driven

HERE = Path(__file__).parent / "servers"
sys.path.insert(0, str(HERE))
import clicks  # noqa: E402 (beside the contestants, which are programs)


class Contestant(NamedTuple):
    """How a contestant is started.

    Attributes:
        program: in `servers`.
        servers, workers: of paramesh; 0 servers: none but in the worker.
        settings: further ones of `set_ps_context`; None: not paramesh.
        needs: the package that it is about.
        part: of the model, of those that are not paramesh; "": all of it.
    """

    program: str
    servers: int = 0
    workers: int = 1
    settings: dict[str, Any] | None = None
    needs: str = "paramesh"
    part: str = ""


OURS = "clicks_of_paramesh.py"
CONTESTANTS = {
    "jax": Contestant("clicks_of_jax.py", needs="jax"),
    "torch": Contestant("clicks_of_torch.py", needs="torch"),
    "jax dense": Contestant("clicks_of_jax.py", needs="jax", part="dense"),
    "torch dense": Contestant("clicks_of_torch.py", needs="torch", part="dense"),
    "torchrec": Contestant("clicks_of_torchrec.py", needs="torchrec"),
    "alone": Contestant(OURS, settings={}),
    "1+1 ray": Contestant(OURS, 1, settings={"transport": "ray"}),
    "1+1 zmq": Contestant(OURS, 1, settings={"transport": "zmq"}),
    "1+1 zmq ahead": Contestant(OURS, 1, settings={"transport": "zmq", "prefetch": True}),
    "2+2 zmq": Contestant(OURS, 2, 2, {"transport": "zmq"}),
    "2+2 zmq ahead": Contestant(OURS, 2, 2, {"transport": "zmq", "prefetch": True}),
}
BASE = "alone"
#: The model in one process, and its dense network alone.
BOUND = ["jax", "torch", "jax dense", "torch dense", BASE]
OTHERS = [name for name in CONTESTANTS if not name.endswith(" dense")]


class Running(Driven):
    """A contestant that was started, and what it has said.

    Args:
        name: of it.
        contestant: how it is started.
        python: the interpreter.
        folder: for its log.
    """

    def __init__(self, name: str, contestant: Contestant, python: str, folder: str) -> None:
        self.contestant = contestant
        self.servers: list[float] = []
        self.waits: list[float] = []
        self._pids: list[int] = []

        def command(address: str) -> list[str]:
            words = [str(HERE / contestant.program), address]
            if contestant.settings is None:
                return [python, *words, *([contestant.part] if contestant.part else [])]
            settings = dict(contestant.settings)
            if contestant.servers:
                settings["wal_dir"] = os.path.join(folder, name.replace(" ", "-"))
            if contestant.workers > 1:
                numbers = [f"{contestant.servers}", "--workers", f"{contestant.workers}"]
                wal = settings.pop("wal_dir")
                before = ["-m", "paramesh", "launch", "--servers", *numbers, "--wal-dir", wal]
                words = [*before, *words]
            elif contestant.servers:
                settings["server_num"] = contestant.servers
            return [python, *words, json.dumps(settings)]

        log = Path(folder) / f"{name}.log"
        super().__init__(name, command, log, workers=contestant.workers)

    @property
    def way(self) -> str:
        """How the rows of a step came, in the last turn."""
        return self.said.get("way", "")

    def turn(self, steps: int, *, counts: bool) -> None:
        """Make some steps; `counts`: they are ones that count."""
        before = sum(map(processor_time.of_process, self._pids))
        super().turn(steps, counts=counts)
        of_servers = sum(map(processor_time.of_process, self._pids)) - before
        self._pids = self.said.get("servers", [])
        if counts:
            self.servers.append(of_servers / steps)
            self.waits.append(self.said.get("phases", {}).get("wait", 0.0) / steps)


def started(
    names: Sequence[str], pythons: dict[str, str], folder: str
) -> tuple[list[Running], list[str]]:
    """The contestants that can run here, and what is to be said of the others."""
    running: list[Running] = []
    missing: list[str] = []
    for name in names:
        contestant = CONTESTANTS[name]
        python = pythons.get(contestant.needs, sys.executable)
        found = subprocess.run([python, "-c", f"import {contestant.needs}"], capture_output=True)
        if found.returncode:
            missing.append(f"{name}: {contestant.needs} is not installed")
            continue
        running.append(Running(name, contestant, python, folder))
    return running, missing


def shown(running: list[Running]) -> None:
    """The table."""
    base = next((one for one in running if one.name == BASE), running[0])
    print("                     step     ratio      cpu     ratio   cpu of  waits for  examples/s")
    print("                       ms               ms              servers    servers")
    for one in running:
        ms = statistics.median(one.times) * 1e3
        cpu, servers, wait = (
            statistics.median(values) * 1e3 for values in (one.all, one.servers, one.waits)
        )
        workers = one.contestant.workers
        print(
            f"{one.name:>14} {ms:10.1f} {ms / (statistics.median(base.times) * 1e3):9.2f}"
            f"{cpu:9.1f} {cpu / workers / (statistics.median(base.all) * 1e3):9.2f}"
            f"{servers:9.1f} {wait:10.1f} {workers * clicks.BATCH / ms * 1e3:11,.0f}"
        )
    print("\nThe ratio of processor time is for each worker's step.")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=48, help="of each")
    parser.add_argument("--turn", type=int, default=8)
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=OTHERS)
    parser.add_argument(
        "--bound", action="store_true", help="what bounds a step in one process, and nothing else"
    )
    parser.add_argument("--python", nargs="*", default=[], help="PACKAGE=PATH")
    parser.add_argument("--folder", default=None, help="for the logs")
    given = parser.parse_args()
    if given.bound:
        given.only = BOUND
    pythons = dict(pair.split("=", 1) for pair in given.python)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        running, missing = started(given.only, pythons, folder)
        try:
            # All rows exist when it counts, and everything is compiled.
            for one in running:
                one.turn(clicks.BATCHES + 2, counts=False)
            for _ in range(max(1, given.steps // given.turn)):
                for one in running:
                    one.turn(given.turn, counts=True)
        finally:
            for one in running:
                one.close()
    print(
        f"{clicks.FIELDS * clicks.BATCH:,} look-ups of {clicks.different_rows():,.0f} different "
        f"rows x {clicks.WIDTH} in a step of a worker\n"
    )
    shown(running)
    for line in missing:
        print(line)
    ours = [one for one in running if one.contestant.settings is not None]
    alone = [one.losses for one in ours if one.contestant.workers == 1]
    if any(losses != alone[0] for losses in alone):
        raise SystemExit("the losses of paramesh with one worker differ")


if __name__ == "__main__":
    record.run(main, ["--bound"])
