"""A second run with the `wal_dir` of a first one reads what that has trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, load_checkpoint, nn, save_checkpoint
from paramesh.ps.integration import session as sessions

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and the processes of its services to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:unclosed:ResourceWarning", "ignore:subprocess .* is still running:ResourceWarning"
    ),
]

BATCH = Tensor(np.arange(16) % 5), Tensor(np.ones((16, 1), np.float32))


class Net(nn.Cell):
    """A table and a layer in several slices on several servers."""

    def __init__(self) -> None:
        super().__init__()
        self.item = nn.EmbeddingLookup(10**6, 256)
        self.hidden = nn.Dense(256, 512)
        self.out = nn.Dense(512, 1)

    def construct(self, items: Any, label: Any) -> Any:
        return ((self.out(self.hidden(self.item(items))) - label) ** 2).mean()


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    sessions.end()


def begin(folder: Path, settings: dict[str, Any]) -> tuple[Net, nn.TrainOneStepCell]:
    sessions.end()
    context.reset_ps_context()
    context.set_ps_context(
        enable_ps=True, server_num=2, timeout=60.0, wal_dir=str(folder / "servers"), **settings
    )
    paramesh.set_seed(0)
    net = Net()
    net.set_param_ps(init_in_server=True)
    return net, nn.TrainOneStepCell(net, nn.Adam(net.trainable_params(), 0.01))


def read(net: Net, step: nn.TrainOneStepCell, file: str) -> dict[str, bytes]:
    found = {"weight": net.hidden.weight.asnumpy(), "loss": net(*BATCH).asnumpy()}
    save_checkpoint(step, file)
    for name, one in load_checkpoint(file).items():
        if isinstance(one, Tensor) and "." in name:  # the others are the optimizer's own numbers
            found[name] = one.asnumpy()
    return {name: array.tobytes() for name, array in found.items()}


@pytest.mark.parametrize("settings", [{}, {"mode": "stale", "staleness": 1}, {"mode": "async"}])
def test_what_the_second_run_reads_first(settings: dict[str, Any], tmp_path: Path) -> None:
    net, step = begin(tmp_path, settings)
    start = net(*BATCH).asnumpy()
    for _ in range(3):
        step(*BATCH)
    file = str(tmp_path / "net.safetensors")
    expected = read(net, step, file)
    assert expected["loss"] != start.tobytes()
    assert read(*begin(tmp_path, settings), file) == expected
