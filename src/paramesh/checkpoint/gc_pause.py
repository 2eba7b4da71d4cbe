"""A pause of Python's garbage collector while very many long-lived objects are created.

Reading or writing 20,000 arrays creates some 100,000 small objects. The collector, which runs after
a number of allocations, would traverse all objects of the program several times and find nothing.
Reference counting works as always.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def paused() -> Generator[None]:
    """Disable collection inside the context; enable it again if it was enabled before."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
