"""Hooks of gradients: the method of Tensor that sets one, and the handles that take hooks away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.core

from paramesh.array_types import Array, Tree
from paramesh.dtype import to_dtype
from paramesh.state import tracing

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


class HookMethods:
    """The method of Tensor."""

    __slots__ = ()
    _get: Callable[[], Tree]
    _put: Callable[[Array], None]
    _wrap: Callable[[Array], Tree]
    #: (The value that is hooked, its hooks): hooks of one value are called in their order.
    _hooked: tuple[Tree, list[Callable[..., Any]]]

    def register_hook(self, hook: Callable[..., Any]) -> HookHandle[Any]:
        """Call `hook(gradient) -> gradient or None` with the gradient of this Tensor.

        It counts for what is computed from the Tensor after this call, in a function that is
        differentiated; in others it has no effect. The hook is part of compiled programs: it is
        traced, and takes and returns Tensors.

        Args:
            hook: gets the gradient, and returns another one of its shape, or None to leave it.

        Raises:
            TypeError: `hook` is not callable.
            ValueError: in the gradient, the hook returned another shape.
        """
        if not callable(hook):
            raise TypeError(
                f"Tensor.register_hook: a hook must be callable, got {type(hook).__name__}."
            )
        value: Tree = self._get()
        hooked, hooks = _hooks_of(self)
        if hooked is value:
            hooks.append(hook)
            return HookHandle(hooks, hook, _nothing)
        hooks = [hook]
        if isinstance(value, jax.core.Tracer) and to_dtype(value.dtype).kind in (
            "float",
            "complex",
        ):
            changed = _with_hooks(value, hooks, self._wrap)
            self._put(changed)
            self._hooked = (changed, hooks)
        return HookHandle(hooks, hook, _nothing)


def _hooks_of(tensor: HookMethods) -> tuple[Tree, list[Callable[..., Any]]]:
    try:
        return object.__getattribute__(tensor, "_hooked")
    except AttributeError:
        return None, []


def _nothing() -> None:
    """The hooks of one call are in no program that is kept."""


def _with_hooks(
    value: Array, hooks: list[Callable[..., Any]], wrap: Callable[[Array], Tree]
) -> Array:
    @jax.custom_vjp
    def same(x: Array) -> Array:
        return x

    def backward(_: None, gradient: Tree) -> tuple[Tree]:
        for hook in hooks:
            found: Tree = hook(wrap(gradient))
            if found is None:
                continue
            changed = found._get() if hasattr(found, "_get") else jax.numpy.asarray(found)
            if changed.shape != gradient.shape:
                raise ValueError(
                    f"Tensor.register_hook: the hook returned a gradient of shape "
                    f"{tuple(changed.shape)}, expected {tuple(gradient.shape)}."
                )
            gradient = changed.astype(gradient.dtype)
        return (gradient,)

    same.defvjp(lambda x: (x, None), backward)
    return same(value)
