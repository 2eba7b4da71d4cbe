"""Room on a disk for what is about to be appended to a file, all of it at once.

A file system that gives a growing file its blocks one by one takes more processor time for that
than for the bytes: with room asked for before, a record of 100 MB takes half the time
(fallocate(2)). The end of the file stays where it is, so that whoever reads it meanwhile sees no
byte that was not written; room that is left over goes when the file is made shorter, or removed.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

#: `FALLOC_FL_KEEP_SIZE`.
_KEEP_SIZE = 1


@functools.cache
def _call() -> Any:
    """The call of the system; None: it has none."""
    if not sys.platform.startswith("linux"):
        return None
    found = getattr(ctypes.CDLL(None), "fallocate64", None)
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        found.restype = ctypes.c_int
    return found


def make_room(file: int, start: int, size: int) -> bool:
    """Make room in a file for bytes that will be written to it.

    Args:
        file: its open number, for writing.
        start: where they begin; the end of the file, if they are appended.
        size: how many.

    Returns:
        Whether there is room now. Otherwise (the file system does not know of it, or has no more)
        nothing has changed, and writing makes the room or says why not.
    """
    call = _call()
    return call is not None and call(file, _KEEP_SIZE, start, size) == 0
