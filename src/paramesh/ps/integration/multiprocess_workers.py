"""Multiprocess workers: processes connected by JAX (`paramesh launch -n`, `srun`, …)."""

from __future__ import annotations

from typing import Any

import jax

from paramesh.errors import ContextError


def as_workers(settings: dict[str, Any]) -> dict[str, Any]:
    """What follows for the settings: `worker_num`, and `rank` of this one; nothing if it is alone.

    Args:
        settings: of `set_ps_context`.

    Raises:
        ContextError: `worker_num` is another number than that of the processes.
    """
    if not jax.distributed.is_initialized():
        return {}
    count = jax.process_count()
    if count == 1:
        return {}
    if settings["worker_num"] not in (1, count):
        raise ContextError(
            f"set_ps_context: worker_num={settings['worker_num']}, but this is one of {count} "
            "processes connected by JAX, each of which is one worker. Omit worker_num."
        )
    return {"worker_num": count, "rank": jax.process_index()}
