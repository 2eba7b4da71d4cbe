"""semi_auto_parallel over two processes with four devices each.

Run as a program with (rank, port) this file is one of the two processes.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(16, 8)).astype(np.float32)
Y = DRAW.normal(size=(16, 8)).astype(np.float32)
#: Settings, and whether each process gives the whole batch (or its half): by ((2, 1), …) the first
#: half lies on the devices 0, 2, 4 and 6, so that each process holds both.
SETTINGS: list[tuple[dict[str, Any], bool]] = [
    ({"full_batch": True, "enable_parallel_optimizer": True}, True),
    ({"dataset_strategy": "data_parallel"}, False),
    ({"dataset_strategy": ((8, 1), (8, 1))}, False),
    ({"dataset_strategy": ((2, 1), (2, 1))}, True),
]


def training(parts: tuple[int, int]) -> Any:
    """A training step of two dense layers, cut into data and model parts; (0, 0): not cut."""
    import paramesh
    from paramesh import nn
    from paramesh.train.cells import TrainOneStepCell, WithLossCell

    paramesh.set_seed(1)
    net = nn.SequentialCell(nn.Dense(8, 32), nn.Tanh(), nn.Dense(32, 8))
    dp, mp = parts
    if dp:
        net[0].matmul.shard(((dp, 1), (mp, 1)))
        net[2].matmul.shard(((dp, mp), (1, mp)))
    adam = nn.Adam(net.trainable_params(), 0.01)
    return TrainOneStepCell(WithLossCell(net, nn.MSELoss()), adam)


def main(rank: int, port: int) -> None:
    """One of two processes: prints what it saw as JSON."""
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)
    from paramesh import Tensor, context

    seen = []
    for settings, whole in SETTINGS:
        context.reset()
        context.set_auto_parallel_context(
            parallel_mode="semi_auto_parallel", device_num=8, **settings
        )
        step = training((2, 4))
        half = slice(None) if whole else slice(rank * 8, rank * 8 + 8)
        losses = [float(step(Tensor(X[half]), Tensor(Y[half]))) for _ in range(5)]
        weight = next(iter(step.get_parameters()))
        held = weight._value.addressable_data(0).shape
        out = step.network.backbone_network(Tensor(X[half])).asnumpy()
        seen.append({"losses": losses, "held": held, "out": out.tolist()})
    print("seen", json.dumps(seen))


def test_the_same_as_on_one_device() -> None:
    from paramesh import Tensor

    step = training((0, 0))
    losses = [float(step(Tensor(X), Tensor(Y))) for _ in range(5)]
    out = step.network.backbone_network(Tensor(X)).asnumpy()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    flags = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    words = [sys.executable, str(Path(__file__))]
    running = [
        subprocess.Popen(
            [*words, str(rank), str(port)],
            env=flags,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        results = [process.communicate(timeout=120) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    for text, errors in results:
        assert "seen " in text, errors
        seen = json.loads(text[text.index("seen ") + 5 :].splitlines()[0])
        assert len(seen) == len(SETTINGS)
        for case in seen:
            np.testing.assert_allclose(case["losses"], losses, rtol=1e-4)
            np.testing.assert_allclose(case["out"], out, rtol=1e-4, atol=1e-5)
            assert case["held"] == [8, 8]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
