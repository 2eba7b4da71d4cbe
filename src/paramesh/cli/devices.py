"""`paramesh demo --devices N`: LeNet-5 cut over devices, virtual ones where there are no others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator

import jax

from paramesh import context
from paramesh.cli.digits import DemoError
from paramesh.cli.lenet import LeNet5
from paramesh.parallel import Layout

_VIRTUAL = "xla_force_host_platform_device_count"
#: Numbers of devices that divide the batch and the layers.
COUNTS = (2, 4, 8, 16, 32)
_MOST_PARTS = 4


class DevicesError(DemoError):
    """The devices that were asked for are not there."""


@contextlib.contextmanager
def over_devices(count: int) -> Generator[None]:
    """The semi-automatic mode with the parallel optimizer, over so many devices.

    Raises:
        DevicesError: no such number, or there are fewer devices.
    """
    if count not in COUNTS:
        listed = ", ".join(map(str, COUNTS))
        raise DevicesError(f"--devices {count}: expected one of {listed}")
    if _VIRTUAL not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # devices are open already
            jax.config.update("jax_num_cpu_devices", count)
    there = jax.device_count()
    if there < count:
        platform = jax.default_backend().upper()
        raise DevicesError(
            f"--devices {count}: there are {there} {platform} devices; JAX_PLATFORMS=cpu "
            f"XLA_FLAGS=--{_VIRTUAL}={count} in the environment makes virtual ones"
        )
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=count, enable_parallel_optimizer=True
    )
    try:
        yield
    finally:
        context.reset_auto_parallel_context()


def cut(net: LeNet5, count: int) -> tuple[int, int]:
    """Give a network strategies for so many devices.

    The batch is cut into `data` parts, and the layers into `model` parts: the second convolution
    and fc1 by their outputs, fc2 by its inputs, so that the two meet once. The layouts name the
    axes of the devices, so that neighbours in one are neighbours in all.

    Returns:
        (data, model).
    """
    model = min(count, _MOST_PARTS)
    data = count // model
    axes = Layout((data, model), ("data", "model"))
    replicated = ("None", "None", "None")
    net.conv2.shard(
        (axes("data", *replicated),),
        (axes("data", "model", "None", "None"),),
        {"weight": axes("model", *replicated)},
    )
    net.fc1.matmul.shard((axes("data", "None"), axes("model", "None")))
    net.fc1.bias_add.shard((axes("data", "model"), axes("model")))
    net.fc2.matmul.shard((axes("data", "model"), axes("None", "model")))
    return data, model
