"""Hooks, and the handles that take them away again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from paramesh.state import tracing
from paramesh.tensor.base import Tensor

#: Gets the gradient and returns another one, or None to leave it.
GradientHook = Callable[[Tensor], Tensor | None]


HookT = TypeVar("HookT", bound=Callable[..., Any])


class HookHandle(Generic[HookT]):
    """What the `register_..._hook` methods return: `remove()` takes the hook away again."""

    def __init__(
        self, hooks: list[HookT], hook: HookT, changed: Callable[[], None] = tracing.bump_version
    ) -> None:
        self._hooks, self._hook, self._changed = hooks, hook, changed

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)
            self._changed()
