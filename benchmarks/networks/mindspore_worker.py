"""The networks in MindSpore: a process that builds one and trains it as it is asked to.

It is run by `of_mindspore.py` with a python that has MindSpore, and needs nothing else but numpy.
Requests come on stdin and answers go to stdout, a line of JSON each:

    {"do": "build", "network": "A", "file": "….npz", "mode": "graph"}  ->  {"version": "2.10.0"}
    {"do": "steps", "count": 10}              ->  {"times": [seconds of each step], "loss": 1.0}
    {"do": "forward", "count": 10}            ->  the same, of forward and backward pass alone

What fails is answered by {"error": "…"}. The end of stdin ends the process.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What MindSpore prints must not get between the answers.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import definitions  # noqa: E402
import numpy as np  # noqa: E402
from definitions import EPSILON, HEADS, MODEL  # noqa: E402


def networks(nn: Any, ops: Any, ms: Any) -> dict[str, Callable[[int], Any]]:
    """The network of each letter, given its number of weights; in a function: MindSpore is late."""

    class Stack(nn.Cell):
        def __init__(self, weights: int) -> None:
            super().__init__()
            width = definitions.WIDTH
            self.layers = nn.CellList([nn.Dense(width, width) for _ in range(weights // 2)])

        def construct(self, x: Any) -> Any:
            for layer in self.layers:
                x = ops.tanh(layer(x))
            return x

    class LeNet5(nn.Cell):
        def __init__(self, weights: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5, pad_mode="valid", has_bias=True)
            self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid", has_bias=True)
            self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
            self.relu = nn.ReLU()
            self.flatten = nn.Flatten()
            self.fc1 = nn.Dense(400, 120)
            self.fc2 = nn.Dense(120, 84)
            self.fc3 = nn.Dense(84, definitions.CLASSES)

        def construct(self, x: Any) -> Any:
            x = self.pool(self.relu(self.conv1(x)))
            x = self.pool(self.relu(self.conv2(x)))
            x = self.relu(self.fc1(self.flatten(x)))
            return self.fc3(self.relu(self.fc2(x)))

    class Block(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm((MODEL,), epsilon=EPSILON)
            self.qkv = nn.Dense(MODEL, 3 * MODEL)
            self.out = nn.Dense(MODEL, MODEL)
            self.norm2 = nn.LayerNorm((MODEL,), epsilon=EPSILON)
            self.up = nn.Dense(MODEL, definitions.FORWARD)
            self.down = nn.Dense(definitions.FORWARD, MODEL)
            self.gelu = nn.GELU()
            length = definitions.LENGTH
            self.past = ms.Tensor(np.tril(np.ones((length, length), bool)))

        def attend(self, x: Any) -> Any:
            n, length, width = x.shape
            qkv = self.qkv(x).reshape(n, length, 3, HEADS, width // HEADS)
            qkv = qkv.transpose(2, 0, 3, 1, 4)
            q, k, v = qkv[0], qkv[1], qkv[2]
            scores = ops.matmul(q, k.swapaxes(-1, -2)) / math.sqrt(width // HEADS)
            weights = ops.softmax(ops.where(self.past, scores, -1e9), -1)
            heard = ops.matmul(weights, v).transpose(0, 2, 1, 3).reshape(n, length, width)
            return self.out(heard)

        def construct(self, x: Any) -> Any:
            x = x + self.attend(self.norm1(x))
            return x + self.down(self.gelu(self.up(self.norm2(x))))

    class Transformer(nn.Cell):
        def __init__(self, weights: int) -> None:
            super().__init__()
            self.token = nn.Embedding(definitions.VOCABULARY, MODEL)
            self.place = nn.Embedding(definitions.LENGTH, MODEL)
            self.blocks = nn.CellList([Block() for _ in range(definitions.BLOCKS)])
            self.norm = nn.LayerNorm((MODEL,), epsilon=EPSILON)
            self.head = nn.Dense(MODEL, definitions.VOCABULARY, has_bias=False)

        def construct(self, tokens: Any) -> Any:
            x = self.token(tokens) + self.place.embedding_table
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x)).reshape(-1, definitions.VOCABULARY)

    class Wide(nn.Cell):
        def __init__(self, weights: int) -> None:
            super().__init__()
            width, self.last = definitions.WIDE, weights // 2 - 1
            self.layers = nn.CellList([nn.Dense(width, width) for _ in range(weights // 2)])

        def construct(self, x: Any) -> Any:
            for i in range(self.last):
                x = ops.relu(self.layers[i](x))
            return self.layers[self.last](x)

    return {"A": Stack, "B": LeNet5, "C": Transformer, "D": Wide}


def optimizer(nn: Any, key: str, rate: float, params: Any) -> Any:
    if key == "A":
        return nn.Adam(params, rate)
    if key == "B":
        return nn.Momentum(params, rate, definitions.MOMENTUM)
    if key == "D":
        return nn.SGD(params, rate)
    return nn.AdamWeightDecay(
        params,
        rate,
        definitions.BETA1,
        definitions.BETA2,
        definitions.ADAM_EPSILON,
        definitions.DECAY,
    )


class Training:
    """A network, and programs that train it or compute its gradients."""

    def __init__(self, key: str, file: str, mode: str) -> None:
        import mindspore as ms
        from mindspore import nn, ops

        self.version: str = ms.__version__
        graph = mode == "graph"
        ms.set_context(mode=ms.GRAPH_MODE if graph else ms.PYNATIVE_MODE)
        ms.set_device("CPU")
        network = definitions.NETWORKS[key]
        start, (x, y) = definitions.read(Path(file))
        net = networks(nn, ops, ms)[key](len(network.weights))
        net.set_train()
        for name, param in net.parameters_dict().items():
            if start:
                param.set_data(ms.Tensor(start[name]))
        params = net.trainable_params()
        update = optimizer(nn, key, network.rate, params)
        self._batch = ms.Tensor(x), ms.Tensor(y.reshape(-1) if key in "BC" else y)

        def loss_of(x: Any, y: Any) -> Any:
            if key in "AD":
                return ((net(x) - y) ** 2).mean()
            return ops.cross_entropy(net(x), y)

        gradients = ms.value_and_grad(loss_of, None, params)

        def step(x: Any, y: Any) -> Any:
            loss, grads = gradients(x, y)
            update(grads)
            return loss

        self._programs = {
            "steps": ms.jit(step) if graph else step,
            "forward": ms.jit(gradients) if graph else gradients,
        }

    def run(self, what: str, count: int) -> dict[str, Any]:
        """Run a program; the answer."""
        program = self._programs[what]
        times: list[float] = []
        loss = math.nan
        for _ in range(count):
            begin = time.perf_counter()
            out = program(*self._batch)
            if isinstance(out, tuple):
                for grad in out[1]:
                    grad.asnumpy()
                out = out[0]
            loss = float(out.asnumpy())
            times.append(time.perf_counter() - begin)
        return {"times": times, "loss": loss}


def main() -> None:
    training: Training | None = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            if request["do"] == "build":
                training = Training(request["network"], request["file"], request["mode"])
                answer = {"version": training.version}
            elif training is None:
                answer = {"error": "nothing is built yet"}
            else:
                answer = training.run(request["do"], request["count"])
        except ImportError as error:
            answer = {"error": f"{sys.executable} cannot import MindSpore: {error}"}
        except Exception as error:  # whatever it is, the other side has to know it
            said = str(error).strip().splitlines() or [""]
            answer = {"error": f"{type(error).__name__}: {said[0]}"}
        print(json.dumps(answer), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
