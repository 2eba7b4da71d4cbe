"""SyncBatchNorm: batch normalisation by the batch of all devices.

In stand_alone and in the global view a program sees the global batch, however it is sharded, so
every BatchNorm is one of all devices. In data_parallel and hybrid_parallel each device sees its
part: the statistics are averaged over the devices, and so are, by the same way back, the gradients.

Source: MindSpore's `SyncBatchNorm`; Zhang et al. 2018, arXiv:1803.08904.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.dtype import float32
from paramesh.nn.arguments import Init
from paramesh.nn.normalization import BatchNorm2d
from paramesh.ops import nn_ops
from paramesh.ops.collectives import all_reduce
from paramesh.parameter import Parameter
from paramesh.state import placement
from paramesh.tensor.argument_types import DTypeLike, TensorLike
from paramesh.tensor.base import raw, wrap


def _devices() -> int:
    """How many devices have a part of the batch each; 1 where the whole batch is here."""
    place = placement.current()
    if not place.per_device or (not place.meets and jax.process_count() == 1):
        return 1
    return place.count


def batch_norm(
    x: TensorLike,
    running_mean: TensorLike,
    running_var: TensorLike,
    weight: TensorLike | None,
    bias: TensorLike | None,
    of_batch: bool,
    momentum: float,
    eps: float,
) -> Any:
    """`ops.batch_norm`, with the statistics of the batch of all devices.

    (n, c, ...) -> (n, c, ...). All devices have parts of one shape.

    Raises:
        ProgramNeededError: outside of programs, in several processes of several devices.
    """
    count = _devices()
    if not of_batch or count == 1:
        return nn_ops.batch_norm(
            x, running_mean, running_var, weight, bias, of_batch, momentum, eps
        )
    values = raw(x)
    axes = tuple(i for i in range(values.ndim) if i != 1)
    upcast = values.astype(jnp.promote_types(values.dtype, jnp.float32))

    def averaged(value: jax.Array) -> jax.Array:
        return raw(all_reduce(wrap(value))) / count

    mean = averaged(jnp.mean(upcast, axes))
    centred = upcast - jnp.expand_dims(mean, axes)
    variance = averaged(jnp.mean(centred * centred, axes))
    rows = count * (values.size // values.shape[1])
    unbiased = variance * (rows / max(rows - 1, 1))
    for running, new in ((running_mean, mean), (running_var, unbiased)):
        if isinstance(running, Parameter):
            old = raw(running)
            running.assign(wrap(old + momentum * (jax.lax.stop_gradient(new) - old)))
    return nn_ops.batch_norm(x, wrap(mean), wrap(variance), weight, bias, False, momentum, eps)


class SyncBatchNorm(BatchNorm2d):
    """`BatchNorm2d` whose statistics are those of the batch of all devices.

    Args:
        num_features: number of channels.
        eps: added to the variance.
        momentum: weight of the old value in the moving averages, 0 to 1.
        affine: whether gamma and beta are trained.
        gamma_init: what gamma starts from.
        beta_init: the same for beta.
        moving_mean_init: the same for the moving mean.
        moving_var_init: the same for the moving variance.
        use_batch_statistics: as that of `BatchNorm2d`.
        process_groups: only None: one group of all devices.
        dtype: element type of the Parameters.

    Raises:
        ValueError: `process_groups`.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.9,
        affine: bool = True,
        gamma_init: Init = "ones",
        beta_init: Init = "zeros",
        moving_mean_init: Init = "zeros",
        moving_var_init: Init = "ones",
        use_batch_statistics: bool | None = None,
        process_groups: Sequence[Sequence[int]] | None = None,
        dtype: DTypeLike = float32,
    ) -> None:
        if process_groups is not None:
            raise ValueError(
                f"SyncBatchNorm(process_groups): only None is offered, got {process_groups!r}."
            )
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            gamma_init,
            beta_init,
            moving_mean_init,
            moving_var_init,
            use_batch_statistics,
            dtype=dtype,
        )

    normalize = staticmethod(batch_norm)
