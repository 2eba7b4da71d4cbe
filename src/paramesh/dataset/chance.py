"""The numbers that random transforms draw when nobody has given them a generator.

A pipeline gives each sample a generator of its own (`TensorOperation.seeded`). A transform that is
called alone draws from the generator here, which `config.set_seed` and the global `set_seed` seed.
"""

from __future__ import annotations

import threading

import numpy as np

from paramesh.sampling.seed import follow_seed, get_seed


class _State:
    """The seed and the generators made from it: one for each thread, so that none is shared."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.restart(get_seed())

    def restart(self, seed: int | None) -> None:
        self.sequence = np.random.SeedSequence(seed)
        self.local = threading.local()


_state = _State()


def set_seed(seed: int | None) -> None:
    """Start the generators again.

    Args:
        seed: from 0 to 2**32 - 1; None: from the system's entropy.
    """
    with _state.lock:
        _state.restart(seed)


def generator() -> np.random.Generator:
    """This thread's generator. The first thread that asks after `set_seed` gets the same numbers
    in every run; later threads get other ones, in the order in which they ask.
    """
    local = _state.local
    found: np.random.Generator | None = getattr(local, "generator", None)
    if found is None:
        with _state.lock:
            (own,) = _state.sequence.spawn(1)
        found = local.generator = np.random.Generator(np.random.PCG64(own))
    return found


follow_seed(set_seed)
