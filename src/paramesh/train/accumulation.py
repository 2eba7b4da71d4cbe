"""Gradient accumulation: one update from several micro-batches, computed one after another.

The memory of a forward and a backward pass is that of one micro-batch. Micro-batch i of k has the
rows i, i + k, i + 2k, … of every input, so that a batch that is sharded over devices is split on
each of them. The numbers are those of the full batch, up to rounding, if the loss is a mean over
rows; layers with batch statistics, such as batch normalization, see one micro-batch at a time.

Source: MindSpore's `grad_accumulation_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from paramesh.dtype import x64
from paramesh.optim.optimizer import work
from paramesh.parameter import Parameter
from paramesh.state import placement
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.promotion import cast
from paramesh.transforms import scan


def accumulated(
    compute: Callable[..., tuple[Any, Sequence[Tensor]]],
    inputs: Sequence[Any],
    params: Sequence[Parameter],
    count: int,
) -> tuple[Tensor, list[Tensor]]:
    """The means of (loss, gradients) over the micro-batches of a batch; traceable.

    Args:
        compute: inputs -> (a loss without axes, the gradients of `params`). It may write
            Parameters.
        inputs: Tensors with axes are split along the first one; all else goes to every
            micro-batch.
        params: whose gradients there are.
        count: how many micro-batches.

    Returns:
        (loss, gradients), in the element types that `compute` gives.

    Raises:
        ValueError: `count` does not divide a first axis, or the loss has axes.
        ContextError: a Parameter lives where its gradients cannot be added up.
    """
    split = [i for i, value in enumerate(inputs) if isinstance(value, Tensor) and value.ndim]
    micro_batches = [wrap(_micro_batches(raw(inputs[i]), count, i)) for i in split]

    def of_micro_batch(*micro_batch: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        values = list(inputs)
        for i, value in zip(split, micro_batch, strict=True):
            values[i] = value
        loss, grads = compute(*values)
        if loss.ndim:
            raise ValueError(
                f"grad_accumulation_step={count} takes the mean over the losses of {count} "
                "micro-batches, "
                f"so the network has to return one number; its loss has shape {loss.shape}. Use a "
                "loss with reduction='mean'."
            )
        return loss, grads

    losses, grads = summed(of_micro_batch, micro_batches, params, count, count)
    return wrap(jnp.mean(raw(losses))), grads


def summed(
    compute: Callable[..., tuple[Any, Sequence[Tensor]]],
    micro_batches: Sequence[Tensor],
    params: Sequence[Parameter],
    count: int,
    divisor: int = 1,
) -> tuple[Any, list[Tensor]]:
    """The values of all micro-batches, and the sums of their gradients; traceable.

    Args:
        compute: the parts of `micro_batches` -> (values, the gradients of `params`). It may write
            Parameters.
        micro_batches: Tensors, which are split along their first axis.
        params: whose gradients there are.
        count: how many micro-batches.
        divisor: what the sums are divided by.

    Returns:
        (values, joined along a new first axis; gradients, in the types of the Parameters).

    Raises:
        ContextError: a Parameter lives where its gradients cannot be added up.
    """
    placement.current().check_accumulated(params)

    def of_micro_batch(sums: list[Tensor], micro_batch: list[Tensor]) -> tuple[list[Tensor], Any]:
        value, grads = compute(*micro_batch)
        return [wrap(raw(s) + work(g)) for s, g in zip(sums, grads, strict=True)], value

    with x64(*(param.dtype for param in params)):
        # Many small numbers are added up: 16 bits would lose them.
        start = [wrap(jnp.zeros(p.shape, _sum_type(p))) for p in params]
        sums, values = scan(of_micro_batch, start, list(micro_batches), count)
        grads = [
            wrap(cast(raw(total) / divisor if divisor != 1 else raw(total), param.dtype))
            for total, param in zip(sums, params, strict=True)
        ]
    return values, grads


def _sum_type(param: Parameter) -> np.dtype[Any]:
    """The numpy type that a Parameter's gradients are added up in."""
    return np.dtype(np.float32) if param.dtype.itemsize < 4 else param.dtype.np_dtype


def in_rows(array: Array, count: int, i: int, what: str) -> Array:
    """The rows of a raw input in `count` parts, one after another: (count, rows, …).

    Args:
        array: the input.
        count: how many parts.
        i: the place of the input, for messages.
        what: the setting that says `count`, for messages.

    Raises:
        ValueError: `count` does not divide the first axis.
    """
    rows = array.shape[0]
    if rows % count:
        raise ValueError(
            f"{what} does not divide the batch: input {i} has shape {tuple(array.shape)}. Drop the "
            "rest of the last batch (drop_remainder), or choose a divisor of its size."
        )
    return array.reshape(count, rows // count, *array.shape[1:])


def _micro_batches(array: Array, count: int, i: int) -> Array:
    rows = array.shape[0]
    if rows % count:
        raise ValueError(
            f"grad_accumulation_step={count} does not divide the batch: input {i} has shape "
            f"{tuple(array.shape)} (on one device). Drop the rest of the last batch "
            "(drop_remainder), or choose a divisor of its size."
        )
    return jnp.moveaxis(array.reshape(rows // count, count, *array.shape[1:]), 1, 0)
