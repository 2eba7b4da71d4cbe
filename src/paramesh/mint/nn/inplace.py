"""`inplace=True` of torch's functions: the result is written into the input, which is given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import Tensor


def written(name: str, input: object, result: TensorLike) -> Tensor:
    """The input, with the result in it.

    Raises:
        TypeError: it is no Tensor.
    """
    if not isinstance(input, Tensor):
        raise TypeError(
            f"{name}: inplace=True needs a Tensor to write into, got {type(input).__name__}."
        )
    return input.assign_value(cast(Tensor, result))


def with_inplace(fn: Callable[..., Any], at: int) -> Callable[..., Any]:
    """A function that gives its result, and writes it into its first argument if it is asked to.

    Args:
        fn: takes `inplace`, of no effect there.
        at: at which position.
    """

    @functools.wraps(fn)
    def call(*args: object, **kwargs: object) -> Any:
        result = fn(*args, **kwargs)
        if not (kwargs.get("inplace", False) if len(args) <= at else args[at]):
            return result
        return written(fn.__name__, args[0] if args else kwargs.get("input"), result)

    return call
