"""Names of MindSpore's top level without effect here, or with another name here.

Scripts import and call them. What they ask of MindSpore's compiler holds here anyway, or is logged
by `paramesh` as having no effect.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from paramesh import context, random
from paramesh.array_types import HostArray
from paramesh.tensor.base import Tensor
from paramesh.transforms import jit

__all__ = [
    "from_numpy",
    "get_algo_parameters",
    "is_tensor",
    "jit_class",
    "lazy_inline",
    "manual_seed",
    "ms_class",
    "ms_function",
    "mutable",
    "reset_algo_parameters",
    "set_algo_parameters",
    "set_device",
    "set_recursion_limit",
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


def set_algo_parameters(**settings: Any) -> None:
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
