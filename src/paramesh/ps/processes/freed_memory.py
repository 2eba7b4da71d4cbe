"""Memory that a process has freed, and that the C library keeps for later.

A server frees arrays of many sizes in each step, and glibc keeps what lies between others that are
in use. It is used again by later steps; where a table of gigabytes is saved or loaded, it would
come on top of what that takes.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any


@functools.cache
def _trim() -> Any:
    """`malloc_trim`; None: this C library has none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def give_back() -> None:
    """Give what was freed back to the system.

    It takes some milliseconds for each ten megabytes, and so do the next steps, for memory that
    they get anew: call it where much is read or written.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
