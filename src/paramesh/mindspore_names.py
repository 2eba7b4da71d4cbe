"""Names of MindSpore's top level without effect here, or with another name here.

Scripts import and call them. What they ask of MindSpore's compiler holds here anyway, or is logged
by `paramesh` as having no effect.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from paramesh import context, ops, random
from paramesh.array_types import HostArray
from paramesh.checkpoint import load_exported
from paramesh.dtype import DType
from paramesh.nn.cell import Cell
from paramesh.tensor.base import Tensor
from paramesh.transforms import jit, remat

__all__ = [
    "COMPATIBLE",
    "DatasetHelper",
    "JitConfig",
    "LAX",
    "STRICT",
    "Symbol",
    "Type",
    "arange",
    "connect_network_with_dataset",
    "data_sink",
    "einsum",
    "from_numpy",
    "get_algo_parameters",
    "is_tensor",
    "jit_class",
    "lazy_inline",
    "load",
    "manual_seed",
    "ms_class",
    "ms_function",
    "mutable",
    "no_inline",
    "no_recursive",
    "recompute",
    "reset_algo_parameters",
    "run_check",
    "seed",
    "set_algo_parameters",
    "set_deterministic",
    "set_device",
    "set_dump",
    "set_recursion_limit",
    "sync_pipeline_shared_parameters",
]

T = TypeVar("T")
_Class = TypeVar("_Class", bound=type)
_logger = logging.getLogger("paramesh")
_ALGORITHM: dict[str, Any] = {
    "fully_use_devices": False,
    "elementwise_op_strategy_follow": False,
    "enable_algo_approxi": False,
    "algo_approxi_epsilon": 0.1,
    "tensor_slice_align_enable": False,
    "tensor_slice_align_size": 16,
}
_algorithm = dict(_ALGORITHM)


def mutable(input_data: T, dynamic_len: bool = False) -> T:
    """The value itself: what a compiled function is given may change from call to call.

    Args:
        input_data: a value that a compiled function is given.
        dynamic_len: MindSpore's; a length is part of a program here, and another one compiles anew.
    """
    return input_data


def lazy_inline(
    fn: Callable[..., Any] | None = None, attrs: object = None, policy: object = None
) -> Callable[..., Any]:
    """The function itself, as a decorator: XLA decides what is inlined.

    Args:
        fn: the `__init__` of a Cell; None: the decorator is made with arguments.
        attrs: MindSpore's, without effect.
        policy: MindSpore's, without effect.
    """
    return (lambda given: given) if fn is None else fn


def jit_class(cls: _Class) -> _Class:
    """The class itself, as a decorator: any class may be used in compiled functions.

    Raises:
        TypeError: it is not a class.
    """
    if not isinstance(cls, type):
        raise TypeError(f"jit_class decorates a class, got {cls!r}.")
    return cls


ms_class = jit_class


def ms_function(
    fn: Callable[..., Any] | None = None,
    input_signature: object = None,
    hash_args: object = None,
    jit_config: object = None,
) -> Any:
    """`jit` under the name of MindSpore 1.x.

    Args:
        fn: the function; None: the decorator is made with arguments.
        input_signature: MindSpore's; it compiles for every shape that comes.
        hash_args: MindSpore's, without effect.
        jit_config: MindSpore's, without effect.
    """
    return jit if fn is None else jit(fn)


class JitConfig:
    """Settings of MindSpore's compiler, which have no effect: XLA is the compiler here.

    Args:
        jit_level: MindSpore's, like the others.
        exc_mode: likewise.
        jit_syntax_level: likewise.
        **settings: likewise.
    """

    def __init__(
        self, jit_level: str = "", exc_mode: str = "auto", jit_syntax_level: str = "",
        **settings: object,
    ) -> None:  # fmt: skip
        self.jit_config_dict = {
            "jit_level": jit_level, "exc_mode": exc_mode, "jit_syntax_level": jit_syntax_level,
            **settings,
        }  # fmt: skip


#: How much python MindSpore's compiler takes; here a program is traced, and takes it all.
STRICT, COMPATIBLE, LAX = 0, 1, 2
#: What MindSpore's element types are instances of.
Type = DType


class Symbol:
    """An axis that MindSpore compiles for several sizes; here each size has a program of its own.

    Args:
        max: MindSpore's, like the others.
        min: likewise.
        divisor: likewise.
        remainder: likewise.
        unique: likewise.
        **settings: likewise.
    """

    def __init__(
        self, max: int = 0, min: int = 1, divisor: int = 1, remainder: int = 0,
        unique: bool = False, **settings: object,
    ) -> None:  # fmt: skip
        self.max, self.min, self.divisor = max, min, divisor
        self.remainder, self.unique = remainder, unique

    def __index__(self) -> int:
        """-1, as in a shape: the size is not known."""
        return -1


def no_inline(fn: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """The function itself, as a decorator: XLA decides what is inlined."""
    return (lambda given: given) if fn is None else fn


def no_recursive(callable_obj: Callable[..., Any]) -> Callable[..., Any]:
    """The Cell class or function itself, as a decorator: XLA inlines what is called.

    Raises:
        TypeError: it cannot be called.
    """
    if not callable(callable_obj):
        raise TypeError(f"no_recursive decorates a Cell or a function, got {callable_obj!r}.")
    return callable_obj


def recompute(block: Callable[..., Any], *args: object, **kwargs: object) -> Any:
    """Call a Cell or function, and do not keep its activations for the backward pass.

    Args:
        block: the Cell or function.
        *args: its arguments.
        **kwargs: likewise; `use_reentrant`, `output_recompute`, `early_stop` and `context_fn` are
            MindSpore's, and left out.
    """
    theirs = ("use_reentrant", "output_recompute", "early_stop", "context_fn")
    return remat(block)(*args, **{k: v for k, v in kwargs.items() if k not in theirs})


def sync_pipeline_shared_parameters(net: Cell) -> None:
    """Nothing: a Parameter of several pipeline stages has one value, not a copy in each.

    Raises:
        TypeError: `net` is not a Cell.
    """
    if not isinstance(net, Cell):
        raise TypeError(
            f"sync_pipeline_shared_parameters: net must be a Cell, got {type(net).__name__}."
        )


def run_check() -> None:
    """Compute something on the devices that there are, and say so.

    Raises:
        RuntimeError: the result is wrong.
    """
    total = float((Tensor(np.ones((2, 2), np.float32)) * 2).sum().asnumpy())
    if total != 8:
        raise RuntimeError(f"run_check: the sum of four twos came out as {total}.")
    print(f"paramesh computes on {jax.device_count()} {jax.default_backend().upper()} device(s).")


def set_deterministic(deterministic: bool) -> None:
    """Noted: on CPUs and TPUs programs are; on GPUs XLA_FLAGS=--xla_gpu_deterministic_ops=true."""
    if deterministic and jax.default_backend() == "gpu":
        _logger.warning(
            "set_deterministic: set XLA_FLAGS=--xla_gpu_deterministic_ops=true before the start."
        )


def set_dump(target: object, enabled: bool = True) -> None:
    """Remember that MindSpore would dump a Cell's or an operator's data; here it dumps none.

    Args:
        target: the Cell (and those inside of it) or the operator.
        enabled: whether.

    Raises:
        TypeError: another target, or no bool.
    """
    if not isinstance(enabled, bool):
        raise TypeError(f"set_dump: enabled must be a bool, got {enabled!r}.")
    flagged = getattr(target, "add_flags_recursive", None)
    if isinstance(target, ops.Primitive):
        target.add_prim_attr("dump", "true" if enabled else "false")
    elif flagged is not None:
        flagged(dump=enabled)
    else:
        raise TypeError(
            f"set_dump takes a Cell or an operator such as ops.Add(), got {type(target).__name__}."
        )
    _logger.info("set_dump has no effect: look at values with a forward hook, or ops.Print.")


def data_sink(
    fn: Callable[..., Any],
    dataset: Any,
    sink_size: int = 1,
    jit_config: Any = None,
    input_signature: Any = None,
) -> Callable[[], Any]:
    """A function that calls `fn` with the next batches of a dataset, over and over.

    Args:
        fn: takes the columns of a batch.
        dataset: an iterable of batches, or a dataset with `create_tuple_iterator`.
        sink_size: for how many batches each call.
        jit_config: MindSpore's; given, `fn` is compiled.
        input_signature: MindSpore's, without effect.

    Raises:
        ValueError: `sink_size` is below 1.
    """
    if sink_size < 1:
        raise ValueError(f"data_sink: sink_size must be at least 1, got {sink_size}.")
    run = fn if jit_config is None else jit(fn)
    batches = iter(())

    def following() -> Any:
        nonlocal batches
        for batch in batches:
            return batch
        make = getattr(dataset, "create_tuple_iterator", None)
        batches = iter(dataset if make is None else make())
        for batch in batches:
            return batch
        raise ValueError("data_sink: the dataset is empty.")

    def step() -> Any:
        out = None
        for _ in range(sink_size):
            batch = following()
            columns = batch if isinstance(batch, tuple | list) else (batch,)
            out = run(*(c if isinstance(c, Tensor) else Tensor(c) for c in columns))
        return out

    return step


class DatasetHelper:
    """Goes through the batches of a dataset, for training loops of one's own.

    Args:
        dataset: an iterable of batches, or a dataset with `create_tuple_iterator`.
        dataset_sink_mode: MindSpore's, without effect: steps are always dispatched ahead.
        sink_size: MindSpore's; batches of an epoch, -1 for all.
        epoch_num: MindSpore's, without effect.

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range.
    """

    def __init__(
        self, dataset: Any, dataset_sink_mode: bool = True, sink_size: int = -1, epoch_num: int = 1
    ) -> None:
        if not isinstance(dataset_sink_mode, bool):
            raise TypeError(
                f"DatasetHelper: dataset_sink_mode must be a bool, got {dataset_sink_mode!r}."
            )
        if not isinstance(sink_size, int) or isinstance(sink_size, bool):
            raise TypeError(f"DatasetHelper: sink_size must be an int, got {sink_size!r}.")
        if sink_size < -1 or sink_size == 0:
            raise ValueError(f"DatasetHelper: sink_size must be above 0 or -1, got {sink_size}.")
        self.dataset, self._size = dataset, sink_size

    def __iter__(self) -> Any:
        make = getattr(self.dataset, "create_tuple_iterator", None)
        batches = iter(self.dataset if make is None else make())
        for count, batch in enumerate(batches):
            if self._size > 0 and count >= self._size:
                return
            columns = batch if isinstance(batch, tuple | list) else (batch,)
            yield tuple(c if isinstance(c, Tensor) else Tensor(c) for c in columns)

    def sink_size(self) -> int:
        """1: an iteration is a batch."""
        return 1

    def stop_send(self) -> None:
        """Does nothing: nothing is sent ahead."""

    def release(self) -> None:
        """Does nothing: nothing is held."""

    def continue_send(self) -> None:
        """Does nothing: nothing is sent ahead."""


def connect_network_with_dataset(network: Any, dataset_helper: DatasetHelper) -> Any:
    """The network itself: it is given the batches as they come."""
    return network


def load(file_name: str, **options: object) -> Any:
    """A program that `export` wrote, for `nn.GraphCell` or to be called; see `load_exported`.

    Args:
        file_name: the file.
        **options: MindSpore's `dec_key` and its like are not offered.

    Raises:
        ValueError: an option, or a file of MindSpore's own (`.mindir`).
    """
    if options:
        raise ValueError(f"load: not offered: {', '.join(options)}.")
    return load_exported(file_name)


def arange(start: Any = 0, end: Any = None, step: Any = 1, *, dtype: Any = None) -> Tensor:
    """As `ops.arange`."""
    return ops.arange(start, end, step, dtype=dtype)


def einsum(equation: str, *operands: object) -> Tensor:
    """As `ops.einsum`."""
    return ops.einsum(equation, *operands)


def seed(seed: int) -> None:
    """Seed the default generator, as `paramesh.random.seed`."""
    random.seed(seed)


def from_numpy(array: HostArray) -> Tensor:
    """A Tensor of an array's values. It is a copy: JAX's arrays do not change.

    Raises:
        TypeError: it is not a numpy array.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy takes a numpy array, got {type(array).__name__}.")
    return Tensor(array)


def is_tensor(obj: object) -> bool:
    """Whether it is a Tensor; Parameters are."""
    return isinstance(obj, Tensor)


def manual_seed(seed: int) -> None:
    """Seed the default generator, as `paramesh.random.seed`."""
    random.seed(seed)


def set_device(device_target: str, device_id: int | None = None) -> None:
    """`set_context(device_target=…)`, under MindSpore 2.5's name.

    Args:
        device_target: as for `set_context`.
        device_id: MindSpore's; JAX chooses the devices.
    """
    more = {} if device_id is None else {"device_id": device_id}
    context.set_context(device_target=device_target, **more)


def set_recursion_limit(recursion_limit: int = 1000) -> None:
    """Raise python's limit of nested calls to at least this: it holds while a program is traced."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), recursion_limit))


def set_algo_parameters(**settings: object) -> None:
    """Keep settings of MindSpore's search for strategies. They have no effect here.

    Raises:
        ValueError: there is no such setting.
    """
    for name in settings:
        _check_algorithm("set_algo_parameters", name)
    _logger.warning("set_algo_parameters: settings of MindSpore's search have no effect here.")
    _algorithm.update(settings)


def get_algo_parameters(name: str) -> Any:
    """What was set, or MindSpore's default.

    Raises:
        ValueError: there is no such setting.
    """
    _check_algorithm("get_algo_parameters", name)
    return _algorithm[name]


def reset_algo_parameters() -> None:
    """Set all of them back to MindSpore's defaults."""
    _algorithm.update(_ALGORITHM)


def _check_algorithm(call: str, name: str) -> None:
    if name not in _ALGORITHM:
        raise ValueError(
            f"{call}: there is no setting {name!r}. Settings: {', '.join(_ALGORITHM)}."
        )
