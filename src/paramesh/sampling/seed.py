"""The global seed, and the keys of recipes, which are counted from it.

Glossary
    seed   what the user sets; all numbers of a program follow from it
    key    (seed, counter): which sequence of random numbers a recipe uses
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

Key = tuple[int, int]


class _Keys:
    """The global seed and the number of keys drawn since it was set."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seed: int | None = None
        self.count = 0
        self.followers: list[Callable[[int], None]] = []


_keys = _Keys()
_LARGEST_SEED = 2**32 - 1


def set_seed(seed: int) -> None:
    """Set the seed of all recipes made from now on, and start counting them at 0 again.

    The same program with the same seed makes the same numbers. Without a call, the seed is 0.
    numpy's and Python's own generators are left alone.

    Args:
        seed: from 0 to 2**32 - 1.

    Raises:
        TypeError: `seed` is not an int (a bool is not one).
        ValueError: `seed` is negative or above 2**32 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"set_seed(seed): expected an int, got {seed!r} ({type(seed).__name__}).")
    if not 0 <= seed <= _LARGEST_SEED:
        raise ValueError(
            f"set_seed(seed): expected an int from 0 to 2**32 - 1 = {_LARGEST_SEED}, got {seed}."
        )
    with _keys.lock:
        _keys.seed = int(seed)
        _keys.count = 0
    for follower in _keys.followers:
        follower(int(seed))


def follow_seed(follower: Callable[[int], None]) -> None:
    """Have `follower(seed)` called whenever the seed is set: for generators on upper floors."""
    _keys.followers.append(follower)


def get_seed() -> int | None:
    """The seed that was set, or None if none was (recipes then use 0)."""
    return _keys.seed


def next_key() -> Key:
    """The key for a new recipe: the seed and the number of keys drawn since it was set."""
    with _keys.lock:
        key = (_keys.seed or 0, _keys.count)
        _keys.count += 1
    return key
