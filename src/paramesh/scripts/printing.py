"""`print` of Tensors in compiled functions, as MindSpore's compiler has it: whenever they run.

By itself a compiled function prints while it is traced, once, and no values. What is put into a
text, and what is logged, cannot wait: asking for the text is an error, and the function runs
operator by operator (`providers.by_operators`).
"""

from __future__ import annotations

import builtins
import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import numpy as np

from paramesh._compat.jax import to_concrete_value
from paramesh.array_types import Tree
from paramesh.state import tracing
from paramesh.tensor.base import Tensor


def install() -> None:
    """Have `print` wait for values that a compiled function has yet to compute."""
    plain = builtins.print

    @functools.wraps(plain)
    def printing(*values: object, **options: Tree) -> None:
        if tracing.current() is None or not _printed_later(plain, values, options):
            plain(*values, **options)

    builtins.print = printing
    handle = logging.Logger.handle

    @functools.wraps(handle)
    def handling(self: logging.Logger, record: logging.LogRecord) -> None:
        if tracing.current() is not None:
            record.getMessage()  # handlers print errors of their own, and go on
        handle(self, record)

    logging.Logger.handle = handling  # type: ignore[method-assign]


class _Place:
    """In the place of a value that is waited for."""

    def __init__(self, at: int) -> None:
        self.at = at


def _printed_later(
    plain: Callable[..., None], values: tuple[object, ...], options: dict[str, Any]
) -> bool:
    """Whether there are values to wait for; the running program prints them."""
    waiting: list[jax.Array] = []
    form = _without_unknown(values, waiting)
    if not waiting:
        return False

    def show(arrays: list[np.ndarray[Any, Any]]) -> None:
        plain(*_filled(form, arrays), **options)

    jax.debug.callback(show, waiting)
    return True


def _without_unknown(value: Tree, waiting: list[jax.Array]) -> Tree:
    """A copy of tuples, lists and dicts with places for what is not known, which `waiting` gets."""
    if type(value) in (tuple, list):
        return type(value)(_without_unknown(item, waiting) for item in value)
    if type(value) is dict:
        return {key: _without_unknown(item, waiting) for key, item in value.items()}
    array = value._get() if isinstance(value, Tensor) else value
    if isinstance(array, jax.core.Tracer) and to_concrete_value(array) is None:
        waiting.append(array)
        return _Place(len(waiting) - 1)
    return value


def _filled(form: Tree, arrays: list[np.ndarray[Any, Any]]) -> Tree:
    """The copy with values in the places."""
    if isinstance(form, _Place):
        return Tensor(np.asarray(arrays[form.at]))
    if type(form) in (tuple, list):
        return type(form)(_filled(item, arrays) for item in form)
    if type(form) is dict:
        return {key: _filled(item, arrays) for key, item in form.items()}
    return form
