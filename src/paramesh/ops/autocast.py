"""In which element type operators compute, by their names: what mixed precision of a network sets.

A rule holds on one thread while the Cell runs that has it. `white` operators compute in the rule's
type, `black` ones in Float32, and all others in the type of what they are given. Casts have
gradients, so the backward pass keeps to the rule too.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.array_types import Tree
from paramesh.dtype import DType


@dataclass(frozen=True)
class Rule:
    """In what operators compute.

    Args:
        dtype: what `white` operators compute in: Float16 or BFloat16.
        white: names of operators' functions.
        black: names of operators that compute in Float32.
        widen: whether what `white` operators give is cast back to Float32.
    """

    dtype: DType
    white: frozenset[str] = frozenset()
    black: frozenset[str] = frozenset()
    widen: bool = False


class _Thread(threading.local):
    rule: Rule | None = None


thread = _Thread()


@contextmanager
def entered(rule: Rule | None) -> Generator[None]:
    """Have a rule hold on this thread."""
    before, thread.rule = thread.rule, rule
    try:
        yield
    finally:
        thread.rule = before


def _cast(value: Tree, to: jnp.dtype) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_cast(part, to) for part in value)
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
        return value.astype(to) if value.dtype.itemsize <= 4 else value
    return value


def inputs(rule: Rule, name: str, values: dict[str, Any], cast: Any) -> dict[str, Any]:
    """The arguments of an operator as the rule has them; those in `cast` alone."""
    if name in rule.white:
        to: jnp.dtype = rule.dtype.np_dtype
    elif name in rule.black:
        to = jnp.float32
    else:
        return values
    return {key: _cast(v, to) if key in cast else v for key, v in values.items()}


def outputs(rule: Rule, name: str, result: Tree) -> Any:
    """What an operator gives as the rule has it."""
    return _cast(result, jnp.float32) if rule.widen and name in rule.white else result
