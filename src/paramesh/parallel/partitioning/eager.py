"""Operators that XLA partitions wrongly, outside of programs: on full arrays.

In PyNative mode each operator is a program of XLA's, and so is each step of a gradient; arrays may
lie sharded, as outputs of programs and Parameters do. There is no program to write anew as in
`rules.py`, so operands, results and, when a gradient is taken, what comes back are replicated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
from jax.sharding import NamedSharding

from paramesh.array_types import Array


def undivided(
    compute: Callable[..., Any], operands: Sequence[Any], everywhere: NamedSharding
) -> Any:
    """The result of an operator, computed by every device on full arrays where that is needed.

    Args:
        compute: takes the operands.
        operands: arrays; in a gradient JAX's stand-ins for them.
        everywhere: the replicated sharding.
    """
    # Under a gradient this takes the array out of its stand-in; in a jit of the user's it cannot.
    arrays = [jax.lax.stop_gradient(operand) for operand in operands]
    if any(isinstance(array, jax.core.Tracer) for array in arrays):
        return compute(*operands)
    differentiated = any(isinstance(operand, jax.core.Tracer) for operand in operands)
    if not differentiated and not any(map(_is_sharded, arrays)):
        return compute(*operands)
    full = [jax.lax.with_sharding_constraint(operand, everywhere) for operand in operands]
    return jax.lax.with_sharding_constraint(compute(*full), everywhere)


def _is_sharded(array: Array) -> bool:
    return isinstance(array, jax.Array) and not array.sharding.is_fully_replicated
