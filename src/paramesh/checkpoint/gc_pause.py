"""Python's collector of garbage, paused while very many objects are made that all stay.

Reading or writing 20,000 arrays makes some 100,000 small objects. The collector, which is called
after so many new ones, then walks the objects of the whole program several times and finds nothing.
Reference counts free what they free all the same.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def paused() -> Generator[None]:
    """No collection inside of the context; it goes on afterwards if it did before."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
