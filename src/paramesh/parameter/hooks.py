"""Hooks on the gradient of a Parameter."""

from __future__ import annotations

from collections.abc import Callable

from paramesh.state import tracing
from paramesh.tensor.base import Tensor

#: Gets the gradient and returns another one, or None to leave it.
GradientHook = Callable[[Tensor], Tensor | None]


class HookHandle:
    """What `register_hook` returns: `remove()` takes the hook away again."""

    def __init__(self, hooks: list[GradientHook], hook: GradientHook) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)
            tracing.bump_version()
