"""Servers beside all-reduce over real processes, against one process with the combined batch.

Started by `paramesh launch`, this file is one of the processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BATCH, STEPS = 16, 4


def train(mode: str, kill: bool = False) -> dict[str, Any]:
    """What one process sees: losses, a Parameter here, one of the servers, and rows.

    `mode`: of the servers, and "+clip" if gradients are clipped.
    """
    import jax

    import paramesh
    from paramesh import Tensor, context, nn, ops

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.user = nn.EmbeddingLookup(50, 4)
            self.hidden, self.out = nn.Dense(4, 8), nn.Dense(8, 1)

        def construct(self, users: Any, label: Any) -> Any:
            x = ops.tanh(self.hidden(self.user(users)))
            return ((self.out(x) - label) ** 2).mean()

    count, index = jax.process_count(), jax.process_index()
    context.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True)
    mode, _, clip = mode.partition("+")
    context.set_ps_context(enable_ps=True, mode=mode)
    paramesh.set_seed(3)
    net = Net()
    net.user.set_param_ps(init_in_server=True)
    net.hidden.set_param_ps()
    optimizer = nn.Adagrad(net.trainable_params(), learning_rate=0.1)

    class Clipping(nn.TrainOneStepCell):
        def construct(self, *inputs: Any) -> Any:
            loss, grads = self.gradients(inputs, self.sens)
            self.optimizer(ops.clip_by_global_norm(tuple(self.reduced(grads)), 0.05))
            return loss

    step = (Clipping if clip else nn.TrainOneStepCell)(net, optimizer)
    rng = np.random.default_rng(1)
    losses: list[float] = []
    rows = BATCH // count
    mine = slice(index * rows, (index + 1) * rows)
    for number in range(STEPS):
        users, label = rng.integers(0, 50, BATCH), rng.standard_normal((BATCH, 1))
        losses.append(float(step(Tensor(users[mine]), Tensor(label[mine].astype(np.float32)))))
        if kill and number == 1 and index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return {
        "losses": losses,
        "here": net.out.weight.asnumpy().tolist(),
        "served": net.hidden.weight.asnumpy().tolist(),
        "rows": net.user(Tensor(np.arange(48))).asnumpy().tolist(),
    }


def main() -> None:
    import jax

    seen = train(sys.argv[1], len(sys.argv) > 3)
    Path(sys.argv[2], f"{jax.process_index()}.json").write_text(json.dumps(seen))


def launch(*words: str) -> subprocess.CompletedProcess[str]:
    paramesh = str(Path(sys.executable).with_name("paramesh"))
    return subprocess.run(
        [paramesh, "launch", *words], capture_output=True, text=True, check=False, timeout=300
    )


def over_processes(folder: Path, mode: str, devices: int) -> list[dict[str, Any]]:
    folder.mkdir()
    each = ["--devices-per-process", str(devices)]
    done = launch("-n", "2", *each, "--servers", "2", __file__, mode, str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((folder / f"{i}.json").read_text()) for i in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "devices"), [("sync", 1), ("sync", 2), ("sync+clip", 2), ("stale", 1)]
)
def test_as_one_process_and_the_same_bits_again(mode: str, devices: int, tmp_path: Path) -> None:
    first, second = over_processes(tmp_path / "one", mode, devices)
    assert first == second  # what all-reduce and servers give is the same in both
    assert over_processes(tmp_path / "two", mode, devices)[0] == first
    if mode != "stale":
        alone = tmp_path / "alone"
        alone.mkdir()
        done = launch("-n", "1", "--devices-per-process", "1", __file__, mode, str(alone))
        assert done.returncode == 0, done.stdout + done.stderr
        expected = json.loads((alone / "0.json").read_text())
        for name, values in expected.items():
            np.testing.assert_allclose(first[name], values, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_a_killed_process_ends_the_run_with_one_error(tmp_path: Path) -> None:
    done = launch("-n", "2", "--servers", "2", __file__, "sync", str(tmp_path), "kill")
    assert done.returncode == 128 + signal.SIGKILL
    assert "paramesh: rank 1 of 2 was killed" in done.stdout + done.stderr
    assert not list(tmp_path.glob("*.json"))


if __name__ == "__main__":
    main()
