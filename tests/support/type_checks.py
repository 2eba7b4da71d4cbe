"""What tests tell the type checker: that a value is there, or that its type is wrong on purpose."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """A value that must not be None."""
    assert value is not None
    return value


def named_leaves(tree: object) -> dict[str, Any]:
    """A pytree that must be a dictionary; optax annotates the trees that it returns as any tree."""
    assert isinstance(tree, dict)
    return tree


def untyped(value: object) -> Any:
    """A value for what takes more than its annotation says, as JAX's functions take Tensors."""
    return value


def wrong(value: object) -> Any:
    """A value of a type that the call it is given to has to refuse."""
    return value
