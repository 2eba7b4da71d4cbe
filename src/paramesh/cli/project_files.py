"""The files of a new project. NAME stands for the project's name."""

from __future__ import annotations

_README = """# NAME

A network that tells three spirals apart.

| file | contents |
|---|---|
| `network.py` | the network |
| `data.py` | the data: batches of points and labels |
| `train.py` | the training script |
| `test_train.py` | its test |

    pip install -e '.[test]'
    python train.py
    python -m pytest

`python train.py --resume` goes on with a run that was interrupted. `paramesh inspect
run/network.safetensors` shows what was learned.
"""

_PYPROJECT = """[project]
name = "NAME"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["paramesh"]

[project.optional-dependencies]
test = ["pytest"]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
include = ["network.py", "data.py", "train.py"]

[tool.pytest.ini_options]
pythonpath = ["."]
"""

_NETWORK = '''"""The network."""

from paramesh import Tensor, nn


class Network(nn.Cell):
    """Three dense layers.

    Args:
        inputs: features of an example.
        classes: how many there are.
        width: of the layers in between.
    """

    def __init__(self, inputs: int = 2, classes: int = 3, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.SequentialCell(
            nn.Dense(inputs, width),
            nn.ReLU(),
            nn.Dense(width, width),
            nn.ReLU(),
            nn.Dense(width, classes),
        )

    def construct(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes), for features of shape (batch, inputs)."""
        return self.layers(x)
'''

_DATA = '''"""The data: points on three spirals, in batches."""

from collections.abc import Iterator

import numpy as np


def spirals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of shape (count, 2), Float32, and the spiral that each is on, Int32."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count).astype(np.int32)
    radius = random.uniform(0.1, 1.0, count)
    angle = 4.0 * radius + labels * (2 * np.pi / 3) + random.normal(0, 0.1, count)
    points = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    return points.astype(np.float32), labels


class Batches:
    """Batches of (points, labels), in another order in each epoch.

    The order follows from the seed and the epoch alone, so that a run can be resumed.
    """

    def __init__(self, points: np.ndarray, labels: np.ndarray, size: int = 64, seed: int = 0):
        self._points, self._labels = points, labels
        self._size, self._seed, self._epoch = size, seed, 1

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins; training does."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._labels) // self._size

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.random.default_rng((self._seed, self._epoch)).permutation(len(self._labels))
        for i in range(len(self)):
            here = order[i * self._size : (i + 1) * self._size]
            yield self._points[here], self._labels[here]
'''

_TRAIN = '''"""Train the network: python train.py -h"""

import argparse
from pathlib import Path

import paramesh
from data import Batches, spirals
from network import Network
from paramesh import nn
from paramesh.train import CheckpointManager, Model


def train(epochs: int, out: Path, resume: bool = False, progress: bool = True) -> float:
    """Train, save the network, and return its accuracy on points that it has not seen."""
    paramesh.set_seed(0)
    net = Network()
    optimizer = nn.Adam(net.trainable_params(), learning_rate=1e-2)
    model = Model(net, nn.CrossEntropyLoss(), optimizer, metrics={"accuracy", "loss"})
    training, test = Batches(*spirals(1024, seed=1)), Batches(*spirals(256, seed=2))
    saver = CheckpointManager(out / "checkpoints", keep_last=2, every_steps=len(training))
    model.train(
        epochs,
        training,
        callbacks=saver,
        valid_dataset=test,
        progress=progress,
        resume=saver.latest() if resume else None,
    )
    paramesh.save_checkpoint(net, out / "network.safetensors")
    return float(model.eval(test)["accuracy"])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Train the network.")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("run"))
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    given = parser.parse_args()
    accuracy = train(given.epochs, given.out, given.resume, not given.quiet)
    print(f"accuracy {accuracy:.1%}, saved in {given.out}")


if __name__ == "__main__":
    main()
'''

_TEST = '''"""Training learns, and what it saves is what it learned."""

import numpy as np

import paramesh
from data import spirals
from network import Network
from train import train


def test_training_learns_and_saves(tmp_path):
    assert train(epochs=15, out=tmp_path, progress=False) > 0.9

    points, labels = spirals(256, seed=3)
    net = Network()
    paramesh.load_checkpoint(tmp_path / "network.safetensors", net)
    assert (net(points).asnumpy().argmax(axis=1) == labels).mean() > 0.9


def test_the_network_gives_a_score_for_each_class():
    assert Network(classes=3)(np.zeros((5, 2), np.float32)).shape == (5, 3)
'''

#: {file: contents}.
FILES = {
    "README.md": _README,
    "pyproject.toml": _PYPROJECT,
    "network.py": _NETWORK,
    "data.py": _DATA,
    "train.py": _TRAIN,
    "test_train.py": _TEST,
    ".gitignore": "__pycache__/\nrun/\n",
}
