"""Errors of the methods of Tensor, and of `paramesh.numpy`: what failed, and what it was given.

Nothing here runs before something has failed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from paramesh.array_types import Tree
from paramesh.dtype import to_dtype
from paramesh.errors import BroadcastError, broadcast_error

T = TypeVar("T")

#: Exceptions of python's and JAX's that may not say which call they are about.
_BARE = (
    AttributeError,
    IndexError,
    KeyError,
    NameError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)


def shown(value: Tree) -> str:
    """An argument for an error: arrays by element type and shape, Parameters by name too."""
    dtype = getattr(value, "dtype", None)
    if hasattr(value, "shape") and dtype is not None:
        try:
            text = f"{to_dtype(dtype)}{list(value.shape)}"
        except TypeError:  # of another library
            text = f"{dtype}{list(value.shape)}"
        name = getattr(value, "name", None)
        return f"Parameter '{name}' {text}" if isinstance(name, str) else text
    if type(value) in (tuple, list):
        items = ", ".join(shown(item) for item in value)
        return f"({items},)" if len(value) == 1 else f"({items})"
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def shown_all(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The arguments of a call for an error."""
    parts = [shown(value) for value in args]
    return ", ".join([*parts, *(f"{name}={shown(value)}" for name, value in kwargs.items())])


def named(
    error: Exception, name: str, before: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Exception | None:
    """The error of a call with its name and arguments; None if it says them already.

    Args:
        error: it.
        name: of what was called, such as `Tensor.sum`.
        before: what the call begins with, such as `Float32[2].sum`.
        args: what was given.
        kwargs: likewise, by name.
    """
    text = str(error)
    short = name.rpartition(".")[2]
    if broadcast_error(error) is not None:
        return BroadcastError(f"{name}: {text}\nIn {before}({shown_all(args, kwargs)})")
    if type(error) not in _BARE or re.search(rf"\b{short}\b|^[\w.]+: ", text):
        return None
    kind: type[Exception] = type(error)
    if text == "tuple index out of range":
        kind, text = ValueError, "there is no such axis."
    elif kind in (AttributeError, KeyError, NameError):
        kind = TypeError
    return kind(f"{name}: {text}\nIn {before}({shown_all(args, kwargs)})")


def of_method(
    error: Exception, name: str, value: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Exception | None:
    """`named` for the method of a Tensor with this value."""
    return named(error, f"Tensor.{name}", f"{shown(value)}.{name}", args, kwargs)


def naming(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose errors are named."""

    @functools.wraps(method)
    def call(self: Tree, *args: Tree, **kwargs: Tree) -> Any:
        try:
            return method(self, *args, **kwargs)
        except _BARE as error:
            better = of_method(error, name, self, args, kwargs)
            if better is None:
                raise
            raise better from error

    return call


def name_errors_of(mixin: type[T]) -> type[T]:
    """Name the errors of the public methods of a mixin of Tensor."""
    for name, method in list(vars(mixin).items()):
        if not name.startswith("_") and callable(method) and not isinstance(method, type):
            setattr(mixin, name, naming(name, method))
    return mixin
