"""A second start of a run that is going on, over real processes.

This file is also the script that is started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:unclosed:ResourceWarning", "ignore:subprocess .* is still running:ResourceWarning"
    ),
]


def script(folder: str, steps: int, pause: float) -> None:
    import paramesh
    from paramesh import Tensor, context, nn

    more = {"address": os.environ["ADDRESS"]} if "ADDRESS" in os.environ else {}
    context.set_ps_context(enable_ps=True, server_num=2, wal_dir=folder, timeout=60.0, **more)
    paramesh.set_seed(1)
    net = nn.SequentialCell(nn.Dense(4, 8), nn.Dense(8, 1))
    net.set_param_ps()
    step = nn.TrainOneStepCell(
        nn.WithLossCell(net, nn.MSELoss()), nn.SGD(net.trainable_params(), 0.05)
    )
    x, y = Tensor(np.ones((4, 4), np.float32)), Tensor(np.ones((4, 1), np.float32))
    for _ in range(steps):
        print(float(step(x, y)), flush=True)
        time.sleep(pause)


class Script:
    """A process of the script."""

    def __init__(self, folder: Path, steps: int, pause: float = 0.0, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(folder), str(steps), str(pause)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def line(self) -> float:
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())

    def end(self) -> tuple[list[float], str]:
        """What else it prints, and its errors."""
        from process_output import rest_of  # the script runs this file, and does not find it

        out, error = rest_of(self.process)
        return [float(line) for line in out.split()], error


@pytest.fixture
def scripts() -> Iterator[list[Script]]:
    found: list[Script] = []
    yield found
    for one in found:
        one.process.kill()
        one.process.communicate()


def begun(scripts: list[Script], *arguments: Any, **environment: str) -> Script:
    scripts.append(Script(*arguments, **environment))
    return scripts[-1]


def test_it_takes_nothing_over_until_the_first_has_died(
    tmp_path: Path, scripts: list[Script]
) -> None:
    first = begun(scripts, tmp_path / "run", 10_000, 0.05)
    losses = [first.line() for _ in range(3)]
    _, error = begun(scripts, tmp_path / "run", 1).end()
    assert f"is going on: process {first.process.pid} on host" in error
    losses.append(first.line())
    assert losses == sorted(losses, reverse=True)
    first.process.send_signal(signal.SIGKILL)
    assert first.process.wait(60) == -signal.SIGKILL
    rest, error = begun(scripts, tmp_path / "run", 2).end()
    assert rest, error
    assert rest[0] <= losses[-1]


def test_on_one_cluster(tmp_path: Path, scripts: list[Script]) -> None:
    ray = pytest.importorskip("ray")
    from paramesh.ps.deployment.cluster import Cluster

    base = Cluster(1, {"workers": 1}, job="base")
    try:
        names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
        there = {name: os.environ[name] for name in names if name in os.environ}
        there["ADDRESS"] = ray.get_runtime_context().gcs_address
        first = begun(scripts, tmp_path / "run", 10_000, 0.05, **there)
        first.line()
        _, error = begun(scripts, tmp_path / "run", 1, **there).end()
        assert f"is already running: process {first.process.pid} on host" in error
        _, error = begun(scripts, tmp_path / "other", 1, **there).end()
        assert "the servers of the job 'default' on this cluster are those of another run" in error
        before = first.line()
        first.process.kill()  # the servers stay: the script goes on with them
        first.process.wait()
        rest, error = begun(scripts, tmp_path / "run", 2, **there).end()
        assert rest, error
        assert rest[0] <= before
    finally:
        base.close()


if __name__ == "__main__":
    script(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
