"""What a hook of a Parameter's gradient is, and the handles that take hooks away again."""

from __future__ import annotations

from collections.abc import Callable

from paramesh.tensor.base import Tensor
from paramesh.tensor.hooks import HookHandle as HookHandle

#: Gets the gradient and returns another one, or None to leave it.
GradientHook = Callable[[Tensor], Tensor | None]
