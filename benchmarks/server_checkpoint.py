"""What a checkpoint of a table on servers takes: `python benchmarks/server_checkpoint.py`.

A table of 1,000,000 rows of 64 (Float32, Adagrad), all trained, on one or two servers in processes
of their own, and one worker. When it has been trained, and nobody asks the servers for a while
(`rest`), it is saved

    one file    the worker gets all rows and writes them (`net.safetensors`)
    sharded     each server writes its part (`net.sharded`), while the worker waits
    increment   likewise, only the rows of the last step

and loaded onto two servers from each. For each of them

    seconds     until the call returns; of a load, until the first step is made
    worker      the most memory of the worker's process during it, and how much more than before
    server      of the largest server, and how much more than before
    own         the most memory of that server that is not of files and not shared: without the code
                of libraries and without what it shares with workers
    share       bytes of rows and state on that server

A server's limit is 1.1 times its share and 200 MB. Memory is what the system says (`VmHWM`;
`RssAnon`, looked at a hundred times a second).

Needs paramesh[ps], and Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import paramesh
import processor_time
import record
from paramesh import Tensor, context, load_checkpoint, nn, save_checkpoint
from paramesh.ps.deployment.host import GIVE_BACK
from paramesh.ps.integration import session as sessions

WIDTH, BATCH = 64, 50_000
KEYS = ("worker", "worker more", "server", "server more", "own")


class Net(nn.Cell):
    """A table."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingLookup(rows, WIDTH)

    def construct(self, ids: Any) -> Any:
        return (self.table(ids) ** 2).mean()


def started(rows: int, servers: int, folder: str) -> Any:
    """A training Cell on servers in processes of their own."""
    context.reset_ps_context()
    context.set_ps_context(enable_ps=True, server_num=servers, wal_dir=folder, timeout=1800)
    paramesh.set_seed(1)
    net = Net(rows)
    net.set_param_ps(init_in_server=True)
    return nn.TrainOneStepCell(net, nn.Adagrad(net.trainable_params(), 0.1))


def batch(rows: int, number: int) -> Tensor:
    """Ids of one step; all rows after `rows // BATCH` of them."""
    first = number * BATCH % rows
    return Tensor(np.arange(first, min(first + BATCH, rows)))


def status(pid: int | str, key: str) -> int:
    """A line of the system's status of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


class Peaks:
    """The most memory of the worker and of the servers from here on."""

    def __init__(self, servers: bool = True) -> None:
        self.pids: list[Any] = ["self", *(server_pids() if servers else [])]
        self.own: dict[Any, int] = {}
        self._done = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._looking.start()
        self.before = [status(pid, "VmRSS") for pid in self.pids]
        for pid in self.pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        self.began = time.perf_counter()

    def _look(self) -> None:
        """The most memory of their own that servers have, also of those that start meanwhile."""
        while not self._done.wait(0.01):
            for pid in self.pids[1:] or self._started():
                with contextlib.suppress(OSError):
                    self.own[pid] = max(self.own.get(pid, 0), status(pid, "RssAnon"))

    @staticmethod
    def _started() -> list[int]:
        found: list[int] = []
        for pid in processor_time.tree(os.getpid()):
            with contextlib.suppress(OSError):
                if b"ServerActor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def found(self) -> dict[str, float]:
        """Seconds, and megabytes: the peaks, and how much more than before."""
        self._done.set()
        self._looking.join()
        seconds = time.perf_counter() - self.began
        peaks = [status(pid, "VmHWM") for pid in self.pids]
        more = [peak - before for peak, before in zip(peaks, self.before, strict=True)]
        found = {"seconds": seconds, "worker": peaks[0] / 1e6, "worker more": more[0] / 1e6}
        if len(peaks) > 1:
            found |= {"server": max(peaks[1:]) / 1e6, "server more": max(more[1:]) / 1e6}
        return found | {"own": max(self.own.values(), default=0) / 1e6}


def server_pids() -> list[int]:
    """The processes of the servers."""
    session = sessions.running()
    assert session is not None
    return [one["pid"] for one in session.client.stats()]


def share() -> float:
    """Megabytes of rows and state on the largest server."""
    session = sessions.running()
    assert session is not None
    return max(one["bytes"] for one in session.client.stats()) / 1e6


def measured(work: Callable[[], object]) -> dict[str, float]:
    """What some work takes."""
    peaks = Peaks()
    work()
    return peaks.found()


def line(what: str, numbers: dict[str, float], mine: float) -> str:
    """A row of the table."""
    cells = [f"{numbers[key]:.0f}" for key in KEYS]
    return f"| {what} | {numbers['seconds']:.1f} | {' | '.join(cells)} | {mine:.0f} |"


def run(rows: int, servers: int, place: Path) -> None:
    """Print the rows of the table for a number of servers."""
    cell = started(rows, servers, str(place / "run"))
    steps = -(-rows // BATCH)
    for number in range(steps):
        cell(batch(rows, number))
    label = f"{servers} server{'s' if servers > 1 else ''}"
    mine = share()
    time.sleep(GIVE_BACK + 1)
    print(line(f"rest, {label}", measured(lambda: time.sleep(0.5)), mine), flush=True)
    saves: dict[str, Callable[[], Any]] = {
        "sharded": lambda: save_checkpoint(cell, place / "net.sharded"),
        "increment": lambda: save_checkpoint(
            cell, place / "more.sharded", base=place / "net.sharded"
        ),
        "one file": lambda: save_checkpoint(cell, place / "net.safetensors"),
    }
    for name, save in saves.items():
        if name == "increment":
            cell(batch(rows, 0))
        print(line(f"save, {name}, {label}", measured(save), mine), flush=True)
    for name in ("net.sharded", "more.sharded", "net.safetensors"):
        cell = started(rows, 2, str(place / f"loaded-{name}"))
        peaks = Peaks(servers=False)
        load_checkpoint(place / name, cell)
        cell(batch(rows, 0))
        numbers = peaks.found()
        pids = server_pids()
        most = max(status(pid, "VmHWM") for pid in pids) / 1e6
        own = max(peaks.own.get(pid, 0) for pid in pids) / 1e6  # former ones may not have ended yet
        numbers |= {"server": most, "server more": most, "own": own}
        print(line(f"load onto 2, {name}", numbers, share()), flush=True)
    context.reset_ps_context()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--servers", type=int, nargs="*", default=[1, 2])
    given = parser.parse_args()
    print("| | s | worker MB | more | server MB | more | own MB | share MB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for servers in given.servers:
        with tempfile.TemporaryDirectory() as place:
            run(given.rows, servers, Path(place))


if __name__ == "__main__":
    record.run(main)
