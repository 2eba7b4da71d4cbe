"""LeNet-5, the network of the demonstration.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition"
(1998), with ReLU and maximum pooling as in MindSpore's LeNet scripts.
"""

from __future__ import annotations

from typing import Any

from paramesh import nn
from paramesh.tensor.argument_types import TensorLike


class LeNet5(nn.Cell):
    """Two convolutions and three dense layers: images (n, 1, 32, 32) -> logits (n, 10).

    61,706 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, pad_mode="valid", has_bias=True)
        self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid", has_bias=True)
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Dense(16 * 5 * 5, 120)
        self.fc2 = nn.Dense(120, 84)
        self.fc3 = nn.Dense(84, 10)

    def construct(self, x: TensorLike) -> Any:
        """(n, 1, 32, 32) -> (n, 10)."""
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.flatten(x)
        x = self.relu(self.fc1(x))
        x = self.relu(self.fc2(x))
        return self.fc3(x)
