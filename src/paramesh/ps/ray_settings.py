"""What Ray is told by its environment, so that its processes serve Parameters well.

A variable that is set already keeps its value.
"""

from __future__ import annotations

import os

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray gives its workers niceness 15: on a host with other work, servers would starve.
    "RAY_worker_niceness": "0",
    # A process that waits for work imports this meanwhile: a server that died is back sooner.
    "RAY_preload_python_modules": "paramesh.ps.actors",
    # Milliseconds that a caller whose actor is gone waits to be told why before it gets an error,
    # and between two looks. Ray takes a second each; the call is repeated whatever the reason.
    "RAY_timeout_ms_task_wait_for_death_info": "100",
    "RAY_core_worker_internal_heartbeat_ms": "100",
    # Ray keeps a record of every call, up to 100,000 of several kilobytes, in the process that all
    # depend on. A training run makes some in each step, and nobody looks at them.
    "RAY_task_events_report_interval_ms": "0",
}


def ray_settings() -> dict[str, str]:
    """The variables, for the environment of whoever starts or joins a cluster."""
    return {name: os.environ.get(name, value) for name, value in _SETTINGS.items()}
