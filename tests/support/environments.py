"""Environments for the processes that tests start."""

from __future__ import annotations

import os


def without_virtual_devices() -> dict[str, str]:
    """This process's environment, in which a process has one CPU device, as on any host."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    kept = [flag for flag in flags if "xla_force_host_platform_device_count" not in flag]
    return os.environ | {"XLA_FLAGS": " ".join(kept)}
