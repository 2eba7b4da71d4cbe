"""The test table of operators: for each, its arguments and the numpy expression it must equal.

`tests/ops/test_operators.py` runs every invariant over all of it. A case names the function; the
class forms of the operator are tested with it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Case:
    """One call of an operator, and what it must give."""

    op: str
    args: Sequence[Any]
    reference: Callable[..., Any]
    kwargs: dict[str, Any] = field(default_factory=dict)
    #: What the class forms are made with, by class name; `None` leaves a class out.
    settings: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    #: Check the gradient by finite differences.
    grad: bool = False
    #: It cannot be part of a program.
    eager_only: bool = False
    #: Of Float64 it gives Float64, to its precision.
    wide: bool = True
    tolerance: float = 2e-6

    @property
    def id(self) -> str:
        """A name that tells cases of one operator apart."""
        text = repr([(a.shape, a.dtype) if hasattr(a, "shape") else a for a in self.args])
        text += repr(self.kwargs)
        return f"{self.op}-{zlib.crc32(text.encode()) % 10000:04d}"


def _source(*key: Any) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def f(*shape: int, seed: int = 0) -> np.ndarray:
    """Float32 in (-2, 2), away from 0 and from each other's multiples."""
    x = _source("f", shape, seed).uniform(0.1, 2, shape) * _source("s", shape, seed).choice(
        [-1, 1], shape
    )
    return x.astype(np.float32)


def p(*shape: int, seed: int = 0) -> np.ndarray:
    """Float32 in (0.1, 0.9)."""
    return _source("p", shape, seed).uniform(0.1, 0.9, shape).astype(np.float32)


def i(low: int, high: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Int32 in [low, high)."""
    return _source("i", shape, low, high, seed).integers(low, high, shape).astype(np.int32)


def b(*shape: int, seed: int = 0) -> np.ndarray:
    """Bool."""
    return _source("b", shape, seed).integers(0, 2, shape).astype(bool)


def each(f: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of one number over every element."""
    return lambda x: np.vectorize(f)(x.astype(np.float64)).astype(x.dtype)
