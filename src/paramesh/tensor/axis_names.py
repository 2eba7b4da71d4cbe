"""Other names of arguments: MindSpore 2.10's methods take `dim` for `axis`, and `keepdim` too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
_NAMES = {"dim": "axis", "keepdim": "keepdims", "keep_dims": "keepdims"}


def other_names(method: F) -> F:
    """A method that takes `dim` for `axis`, and `keepdim` and `keep_dims` for `keepdims`.

    Raises:
        TypeError: an argument under two names.
    """

    @functools.wraps(method)
    def call(*args: object, **kwargs: object) -> object:
        for name in _NAMES.keys() & kwargs.keys():
            known = _NAMES[name]
            if known in kwargs:
                raise TypeError(
                    f"{method.__name__}: {known} and {name} are one argument: give one of them."
                )
            kwargs[known] = kwargs.pop(name)
        return method(*args, **kwargs)

    return call  # type: ignore[return-value]


def with_indices_of(index: str) -> Callable[[F], F]:
    """A decorator: with `dim` or `return_indices=True` the method gives (values, indices).

    As in MindSpore.

    Args:
        index: the method that gives the indices.
    """

    def decorate(method: F) -> F:
        inner = other_names(method)

        @functools.wraps(method)
        def call(self: object, *args: object, **kwargs: object) -> object:
            both = bool(kwargs.pop("return_indices", False)) or "dim" in kwargs
            values = inner(self, *args, **kwargs)
            if not both:
                return values
            found = getattr(self, index)(*args, **kwargs)
            return values, found if index == "argmax" else found.long()

        return call  # type: ignore[return-value]

    return decorate
