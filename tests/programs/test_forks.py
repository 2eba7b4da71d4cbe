"""A process that was forked from one that has trained says so, rather than to wait for ever."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, warnings
warnings.simplefilter("ignore", RuntimeWarning)  # JAX warns of forks
import numpy as np
from paramesh import Parameter, Tensor, nn, ops
import paramesh
from paramesh.common.initializer import initializer

if sys.argv[1] == "early":
    signal.alarm(100)
    if os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))

net = nn.Dense(4, 4)
declared = Parameter(initializer("ones", [2]), name="declared")
loss = nn.WithLossCell(net, nn.MSELoss())
step = nn.TrainOneStepCell(loss, nn.Adam(net.trainable_params(), 1e-2))
x = np.ones((2, 4), np.float32)
step(x, x)
before = net.weight.asnumpy()
held = Tensor(x)

if sys.argv[1] == "late":
    if not os.fork():
        signal.alarm(100)
        assert (net.weight.asnumpy() == before).all()
        assert (held.asnumpy() == 1).all() and held.tolist()
        whats = (
            lambda: step(x, x), lambda: net(held), declared.init_data, lambda: held + 1,
            lambda: held[0], lambda: Tensor(x), lambda: ops.relu(held), lambda: held.sum(),
            lambda: ops.concat([held, held]), lambda: ops.standard_normal((2,)),
            lambda: net.weight * 2,
        )
        for what in whats:
            try:
                what()
            except RuntimeError as error:
                assert "was forked" in str(error) and "spawn" in str(error), error
            else:
                os._exit(3)
        os._exit(7)
    code = os.waitstatus_to_exitcode(os.wait()[1])
    step(x, x)
    sys.exit(code)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize(("when", "code"), [("late", 7), ("early", 0)])
def test_a_fork(when: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, when], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
