"""Waiting until this process's devices compute nothing."""

from __future__ import annotations

import jax


def wait_for_programs() -> None:
    """Return when all programs that were started have ended.

    JAX runs programs side by side, and on CPU processes match the messages of their collectives by
    the order in which they are sent. A collective of the host beside a step that is still computed
    may meet another process's step: so it has to wait for the step first.
    """
    for array in jax.live_arrays():
        if not array.is_deleted():
            array.block_until_ready()
