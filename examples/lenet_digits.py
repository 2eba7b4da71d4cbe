"""LeNet-5 learns scikit-learn's digits: a script in MindSpore's manner.

python examples/lenet_digits.py [epochs]
"""

from __future__ import annotations

import sys

import numpy as np
from sklearn.datasets import load_digits

import paramesh
from paramesh import Model, nn


class LeNet5(nn.Cell):
    """Two convolutions and three dense layers, for images of 8x8 pixels."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, pad_mode="same")
        self.conv2 = nn.Conv2d(16, 32, 3, pad_mode="same")
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Dense(32 * 2 * 2, 120)
        self.fc2 = nn.Dense(120, 84)
        self.fc3 = nn.Dense(84, 10)

    def construct(self, x):
        """(n, 1, 8, 8) -> (n, 10)."""
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.relu(self.fc1(self.flatten(x)))
        return self.fc3(self.relu(self.fc2(x)))


def batches(images, labels, size):
    """Every image once, as batches of one size; the rest is left out."""
    return [
        (images[at : at + size], labels[at : at + size])
        for at in range(0, len(labels) - size + 1, size)
    ]


def main(epochs: int = 20) -> float:
    paramesh.set_seed(1)
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    order = np.random.default_rng(1).permutation(len(labels))
    images, labels = images[order], labels[order].astype(np.int32)

    net = LeNet5()
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    optimizer = nn.Adam(net.trainable_params(), learning_rate=2e-3)
    model = Model(net, loss, optimizer, metrics={"accuracy"})
    model.train(epochs, batches(images[360:], labels[360:], 32))
    accuracy = model.eval(batches(images[:360], labels[:360], 360))["accuracy"]
    print(f"test accuracy: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
