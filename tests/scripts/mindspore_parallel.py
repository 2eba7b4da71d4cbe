"""What MindSpore's parallel tests take of its compiler, and the comparison with one device.

`mindspore_tests.py run --devices 64` gives the tests this executor. Its `compile` traces a network
over the devices that the test names. What a test gives as the slice of one device is repeated to
the global batch first, by `dataset_strategy`, as MindSpore's compiler does. With `--numbers FILE`
the network is also computed, over these devices and on one, from random values for all Parameters
and inputs of floats; FILE gets a line for each network: the largest difference among outputs and
Parameters after the step, as a part of the largest number.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

#: Parallel modes with one global view.
GLOBAL = ("semi_auto_parallel", "auto_parallel")
#: Networks of more numbers are not computed.
LARGEST = 12_000_000
#: The size of an axis that a test leaves open.
UNKNOWN = 64


def repeats(shape: tuple[int, ...], place: int) -> list[int]:
    """How often each axis of an input is repeated to make the global batch."""
    context: Any = importlib.import_module("paramesh.context")
    settings = context.get_auto_parallel_context
    once = [1] * len(shape)
    if not shape or settings("parallel_mode") == "stand_alone" or settings("full_batch"):
        return once
    if settings("parallel_mode") not in GLOBAL:
        once[0] = settings("device_num")
        return once
    strategy = settings("dataset_strategy")
    if isinstance(strategy, str):
        if strategy == "data_parallel":
            once[0] = settings("device_num")
        return once
    parts = strategy[place] if place < len(strategy) else ()
    numbers = getattr(parts, "parts", parts)
    return list(numbers) if len(numbers) == len(shape) else once


def concrete(value: Any) -> Any:
    """An input of sizes that are not known, in some size."""
    paramesh: Any = importlib.import_module("paramesh")
    if not isinstance(value, paramesh.Tensor) or all(
        isinstance(n, int) and n >= 0 for n in value.shape
    ):
        return value
    shape = [n if isinstance(n, int) and n >= 0 else UNKNOWN for n in value.shape]
    return paramesh.Tensor(np.ones(shape, np.float32), dtype=value.dtype)


def global_batch(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs with what is a slice repeated."""
    paramesh: Any = importlib.import_module("paramesh")
    found: list[Any] = []
    place = 0
    for arg in map(concrete, args):
        if isinstance(arg, paramesh.Tensor) and not isinstance(arg, paramesh.Parameter):
            times = repeats(tuple(arg.shape), place)
            place += bool(arg.shape)
            if any(n > 1 for n in times):
                arg = paramesh.Tensor(np.tile(arg.asnumpy(), times), dtype=arg.dtype)
        found.append(arg)
    return tuple(found)


class Graphs:
    """The inside of MindSpore's executor, which is not here: graphs without nodes."""

    def get_parallel_graph_info(self, phase: object) -> dict[str, Any]:
        """No nodes."""
        return {}

    get_strategy = get_parallel_graph_info

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"the inside of MindSpore: _graph_executor.{name}")


class Executor:
    """`_cell_graph_executor`.

    Args:
        numbers: file for the comparisons, or None.
    """

    def __init__(self, numbers: str | None = None) -> None:
        self.numbers = numbers
        self._graph_executor = Graphs()

    def compile(self, net: Any, *args: Any, phase: object = None, **kwargs: Any) -> Any:
        """Trace a network; (phase, True) as MindSpore."""
        kwargs = {k: v for k, v in kwargs.items() if k not in ("auto_parallel_mode", "do_convert")}
        devices_of_ranks()
        with several_devices():
            return self._compile(net, args, kwargs)

    def _compile(self, net: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args = global_batch(args)
        net.compile(*args, **kwargs)
        if self.numbers is not None:
            row = {"test": os.environ.get("PYTEST_CURRENT_TEST", ""), **compared(net, args, kwargs)}
            with open(self.numbers, "a") as file:
                file.write(json.dumps(row) + "\n")
        return "phase", True

    def __call__(self, net: Any, *args: Any, phase: object = None, **kwargs: Any) -> Any:
        """Run a network."""
        return net(*global_batch(args), **kwargs)

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"the inside of MindSpore: _cell_graph_executor.{name}")


def devices_of_ranks() -> None:
    """The number of devices that a test gave MindSpore's stand-in for their network alone."""
    context: Any = importlib.import_module("paramesh.context")
    network: Any = sys.modules.get("hccl_test.manage.api")
    if network is not None and context.device_num() is None:
        context.set_auto_parallel_context(device_num=network.Hccl().rank_size)


@contextlib.contextmanager
def several_devices() -> Iterator[None]:
    """`hybrid_parallel` in place of `stand_alone`, where a test names several devices.

    MindSpore's programs of `stand_alone` talk to each other all the same.
    """
    paramesh: Any = importlib.import_module("paramesh")
    settings = paramesh.get_auto_parallel_context
    if settings("parallel_mode") != "stand_alone" or settings("device_num") == 1:
        yield
        return
    paramesh.set_auto_parallel_context(parallel_mode="hybrid_parallel")
    try:
        yield
    finally:
        paramesh.set_auto_parallel_context(parallel_mode="stand_alone")


class Batches:
    """A data set whose batches are made global.

    Args:
        dataset: the test's.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return self._dataset.get_dataset_size()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for batch in self._dataset:
            yield global_batch(tuple(batch))

    def create_tuple_iterator(self, num_epochs: int = -1) -> Iterator[tuple[Any, ...]]:
        """One pass, as MindSpore's data sets give it."""
        return iter(self)


def compared(net: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """{"largest": the difference} or {"left_out": the reason}."""
    paramesh: Any = importlib.import_module("paramesh")
    if paramesh.get_auto_parallel_context("parallel_mode") == "stand_alone":
        return {"left_out": "stand_alone"}
    params = list(net.get_parameters())
    count = sum(p.size for p in params) + sum(getattr(a, "size", 0) for a in args)
    if count > LARGEST:
        return {"left_out": f"{count} numbers"}
    draw = np.random.default_rng(0)

    def drawn(value: Any) -> np.ndarray:
        if "Float" not in str(value.dtype):
            return value.asnumpy()
        return draw.uniform(0.1, 0.9, value.shape).astype(np.float32)

    try:
        start = [drawn(p) for p in params]
        given = [
            paramesh.Tensor(drawn(a), dtype=a.dtype) if isinstance(a, paramesh.Tensor) else a
            for a in args
        ]
        found = [numbers_of(net, params, start, given, kwargs)]
        settings = {
            k: paramesh.get_auto_parallel_context(k) for k in ("parallel_mode", "device_num")
        }
        paramesh.set_auto_parallel_context(parallel_mode="stand_alone")
        try:
            found.append(numbers_of(net, params, start, given, kwargs))
        finally:
            paramesh.set_auto_parallel_context(**settings)
    except Exception as error:  # A line for each network, whatever it does.
        return {"left_out": f"{type(error).__name__}: {error}"[:600]}
    cut, one = found
    if [v.shape for v in cut] != [v.shape for v in one]:
        return {"left_out": f"shapes: {[v.shape for v in cut]} and {[v.shape for v in one]}"}
    worst, parts = 0.0, []
    for mine, wanted in zip(cut, one, strict=True):
        if not mine.size:
            continue
        mine, wanted = mine.astype(np.float64), wanted.astype(np.float64)
        size = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0))
        same = (mine == wanted) | (np.isnan(mine) & np.isnan(wanted))
        apart = float(np.abs(np.where(same, 0.0, mine - wanted)).max()) / max(size, 1e-30)
        apart = apart if np.isfinite(apart) else float("inf")
        parts.append(round(apart, 9))
        worst = max(worst, apart)
    zero = all(not np.any(v[np.isfinite(v)] != 0) for v in one)
    return {"largest": worst, "parts": parts, "zero": zero}


def numbers_of(
    net: Any, params: list[Any], start: list[Any], args: list[Any], kwargs: dict[str, Any]
) -> list[np.ndarray]:
    """Outputs, and Parameters after them, from these values."""
    paramesh: Any = importlib.import_module("paramesh")
    paramesh.set_seed(1)
    for param, value in zip(params, start, strict=True):
        param.set_data(paramesh.Tensor(value, dtype=param.dtype))
    out = net(*args, **kwargs)
    leaves: list[Any] = []

    def walk(tree: Any) -> None:
        if isinstance(tree, tuple | list):
            for part in tree:
                walk(part)
        elif isinstance(tree, dict):
            for part in tree.values():
                walk(part)
        elif hasattr(tree, "asnumpy"):
            leaves.append(np.asarray(tree.asnumpy()))

    walk(out)
    return [*leaves, *(np.asarray(p.asnumpy()) for p in params)]


def give(numbers: str | None) -> None:
    """Put the executor, and the loss that most of the tests import, where they look for them."""
    internals: Any = importlib.import_module("paramesh.mindspore_internals")
    internals._cell_graph_executor = Executor(numbers)
    internals._executor = internals._cell_graph_executor
    paramesh: Any = importlib.import_module("paramesh")
    train = paramesh.Model.train

    def train_on_all(self: Any, epoch: int, train_dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return train(self, epoch, Batches(train_dataset), *args, **kwargs)

    paramesh.Model.train = train_on_all

    class VirtualLoss(paramesh.nn.Cell):
        def construct(self, x: Any) -> Any:
            return (x.any() if x.dtype == paramesh.bool_ else x.sum()).reshape((1,))

    inside: Any = types.ModuleType("tests.ut.python.ops.test_math_ops")
    inside.VirtualLoss = VirtualLoss
    sys.modules[inside.__name__] = inside
