"""Names of the top of MindSpore 2.5 to 2.10: types, buffers, loading beside the training."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from paramesh import context, random
from paramesh.checkpoint import background, load_checkpoint, load_param_into_net
from paramesh.dtype import DType, complex64, complex128, int64, pytype_to_dtype, to_dtype, x64
from paramesh.log import get_level, get_log_config
from paramesh.nn.cell import Cell
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import DTypeLike
from paramesh.tensor.base import Tensor, raw, wrap

__all__ = [
    "ParamDictFuture",
    "async_ckpt_thread_status",
    "cdouble",
    "cfloat",
    "frombuffer",
    "get_current_device",
    "get_level",
    "get_log_config",
    "get_py_obj_dtype",
    "initial_seed",
    "load_checkpoint_async",
    "long",
    "ms_memory_recycle",
    "swap_tensors",
]

long, cfloat, cdouble = int64, complex64, complex128

#: What a buffer is given as.
Buffer = bytes | bytearray | memoryview


class CurrentDevice(NamedTuple):
    """A kind of device and its number."""

    device_target: str
    device_id: int


def get_current_device() -> CurrentDevice:
    """The kind of device that is used, "CPU", "GPU" or "TPU", and its number in this process."""
    kind = context.get_context("device_target") or jax.default_backend().upper()
    return CurrentDevice(kind, context.get_context("device_id") or 0)


def initial_seed() -> int:
    """The seed of the generator of random operators."""
    return random.default_generator().initial_seed()


def ms_memory_recycle() -> None:
    """Free what nobody uses: arrays of objects that are in circles."""
    gc.collect()


def get_py_obj_dtype(obj: object) -> DType:
    """The element type of a number, a type of numbers, or a Tensor.

    Raises:
        NotImplementedError: something else; MindSpore's types of texts, lists and functions are
            not here.
    """
    if isinstance(obj, Tensor):
        return obj.dtype
    kind = obj if isinstance(obj, type) else type(obj)
    if issubclass(kind, np.generic):
        return to_dtype(np.dtype(kind))
    if kind in (bool, int, float, complex):
        return pytype_to_dtype(kind)
    raise NotImplementedError(
        f"get_py_obj_dtype: {kind.__name__} has no element type. Expected a bool, an int, a float, "
        "a complex, a number of NumPy's, a Tensor, or the type of one."
    )


def swap_tensors(t1: Tensor, t2: Tensor) -> None:
    """Give each of two Tensors what the other one has: values, shape and element type.

    Raises:
        TypeError: not a Tensor, or a Parameter: its shape and name stay. `set_data` changes it.
    """
    for name, tensor in (("t1", t1), ("t2", t2)):
        if not isinstance(tensor, Tensor) or isinstance(tensor, Parameter):
            raise TypeError(
                f"swap_tensors: {name} must be a Tensor (and no Parameter, which has set_data), "
                f"got {type(tensor).__name__}."
            )
    one = wrap(raw(t1))
    t1.assign_value(t2)
    t2.assign_value(one)


def frombuffer(buffer: Buffer, dtype: DTypeLike, count: int = -1, offset: int = 0) -> Tensor:
    """A Tensor of one axis with the numbers that lie in a buffer. It is a copy.

    Args:
        buffer: bytes, a bytearray, or whatever has the buffer protocol.
        dtype: what the bytes are.
        count: how many numbers; -1: all of them.
        offset: how many bytes are left out at the beginning.

    Raises:
        TypeError: `buffer` has no buffer protocol.
        ValueError: `offset` is outside, bytes are left over, or there are fewer than `count`.
    """
    kind = to_dtype(dtype).np_dtype
    try:
        data = memoryview(buffer).cast("B")
    except TypeError as error:
        raise TypeError(
            f"frombuffer: buffer must have the buffer protocol, as bytes do; got "
            f"{type(buffer).__name__}."
        ) from error
    if not 0 <= offset < max(len(data), 1):
        raise ValueError(f"frombuffer: offset={offset} is outside of {len(data)} bytes.")
    rest = len(data) - offset
    if count < 0 and rest % kind.itemsize:
        raise ValueError(
            f"frombuffer: {rest} bytes are no multiple of the {kind.itemsize} of "
            f"{to_dtype(dtype)}; give count."
        )
    if count * kind.itemsize > rest:
        raise ValueError(
            f"frombuffer: count={count} needs {count * kind.itemsize} of {rest} bytes."
        )
    values = np.frombuffer(data, kind, count, offset)
    with x64(values):
        return wrap(jnp.array(values))


class ParamDictFuture:
    """What `load_checkpoint_async` gives: `result()` waits for the Parameters."""

    def __init__(self, wait: Callable[[], dict[str, Any]]) -> None:
        self._wait = wait

    def result(self) -> dict[str, Any]:
        """The Parameters by name, as `load_checkpoint` gives them, or its error."""
        return self._wait()


def load_checkpoint_async(
    ckpt_file_name: str | os.PathLike[str],
    net: Cell | None = None,
    strict_load: bool = False,
    filter_prefix: str | Iterable[str] | None = None,
    dec_key: bytes | None = None,
    dec_mode: str = "AES-GCM",
    specify_prefix: str | Iterable[str] | None = None,
    choice_func: Callable[[str], bool] | None = None,
) -> ParamDictFuture:
    """Read a checkpoint on another thread; arguments as `load_checkpoint`.

    A network gets its values by `result()`, on the thread that asks for it: a step that runs
    meanwhile sees none of them.
    """
    pool = ThreadPoolExecutor(1, "paramesh-load")
    read = pool.submit(
        load_checkpoint, ckpt_file_name, filter_prefix=filter_prefix, dec_key=dec_key,
        dec_mode=dec_mode, specify_prefix=specify_prefix, choice_func=choice_func,
    )  # fmt: skip
    pool.shutdown(wait=False)

    def wait() -> dict[str, Any]:
        found = read.result()
        if net is not None:
            load_param_into_net(net, found, strict_load)
        return found

    return ParamDictFuture(wait)


def async_ckpt_thread_status() -> bool:
    """Whether a save in the background (`save_checkpoint(async_save=True)`) is going on."""
    return background.going_on()
