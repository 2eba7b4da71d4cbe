"""The sum of what a network gives for the parts of a batch, under MindSpore's name.

In MindSpore the parts are there for its scheduler: one is computed while another is sent. XLA
schedules by itself, so what is left here are the numbers.
"""

from __future__ import annotations

from typing import Any

from paramesh.array_types import Tree
from paramesh.nn.cell import Cell
from paramesh.tensor.base import Tensor

__all__ = ["MicroBatchInterleaved"]


class MicroBatchInterleaved(Cell):
    """`cell(*inputs)` is the sum of what a network gives for each part of a batch.

    Part i of k has the rows i n/k to (i + 1) n/k of every input. A loss that is a mean over rows is
    the k-fold of that of the full batch, as in MindSpore. It saves no memory:
    `grad_accumulation_step` does.

    Args:
        network: returns a Tensor, such as the loss.
        interleave_num: into how many parts the first axis of each input is split.

    Raises:
        TypeError: `network` is not a Cell, or `interleave_num` is no int.
        ValueError: `interleave_num` is not positive.
    """

    def __init__(self, network: Cell, interleave_num: int = 2) -> None:
        super().__init__(auto_prefix=False)
        if not isinstance(network, Cell):
            raise TypeError(
                f"MicroBatchInterleaved: network must be a Cell, got {type(network).__name__}."
            )
        if isinstance(interleave_num, bool) or not isinstance(interleave_num, int):
            raise TypeError(
                f"MicroBatchInterleaved: interleave_num must be an int, got {interleave_num!r}."
            )
        if interleave_num < 1:
            raise ValueError(
                f"MicroBatchInterleaved: interleave_num must be an int from 1, got "
                f"{interleave_num}."
            )
        self.network = network
        self.interleave_num = interleave_num

    def construct(self, *inputs: Tree) -> Any:
        """The sum over the parts.

        Args:
            *inputs: Tensors with axes are split along the first one; all else goes to every part.

        Raises:
            ValueError: `interleave_num` does not divide a first axis.
        """
        total = self.network(*[self._part(value, at, 0) for at, value in enumerate(inputs)])
        for i in range(1, self.interleave_num):
            total = total + self.network(*[self._part(v, at, i) for at, v in enumerate(inputs)])
        return total

    def _part(self, value: Tree, at: int, i: int) -> Any:
        if not isinstance(value, Tensor) or not value.ndim:
            return value
        rows, rest = divmod(value.shape[0], self.interleave_num)
        if rest:
            raise ValueError(
                f"MicroBatchInterleaved: interleave_num={self.interleave_num} does not divide the "
                f"batch: input {at} has shape {tuple(value.shape)}. Drop the rest of the last "
                "batch (drop_remainder), or choose a divisor of its size."
            )
        return value[i * rows : (i + 1) * rows]
