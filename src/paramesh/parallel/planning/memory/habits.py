"""How the compilers of platforms differ, as far as it shows in memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Habits:
    """How the compiler of a platform goes about it.

    Attributes:
        through: elementwise work is computed from what is before other elementwise work, even where
            that is in memory for others.
        apart: reductions read what they add up from memory, and so do those of a product of two.
        turns: operands whose sums go along other dimensions than its libraries want are turned.
        takes: products take cheap operands as they are computed.
        takes_chains: products take operands that are computed from one array, number by number.
        early: kernels run as soon as what they read is there, in place of in the order of the
            program.
        zeros: what loops write into piece by piece is there from the beginning.
        rolls: random numbers are made by a loop, and what it makes is kept (`random_words.py`).
        hides: collectives run beside other kernels, in an order that is made for it (`hiding.py`),
            and products are computed in parts (`splitting.py`).
        on_chip: bytes of a memory that holds what it can of what passes, but for what kernels need
            as they run: the VMEM of TPUs ("How to Scale Your Model",
            jax-ml.github.io/scaling-book: 128 MiB on v5e).
    """

    through: bool = False
    apart: bool = False
    turns: bool = False
    takes: bool = False
    takes_chains: bool = False
    early: bool = False
    zeros: bool = False
    rolls: bool = False
    hides: bool = False
    on_chip: int = 0


_TPU = Habits(takes=True, on_chip=128 << 20)
_GPU = Habits(takes_chains=True, zeros=True, hides=True)
#: By target.
HABITS = {
    "cpu": Habits(through=True, apart=True, turns=True, early=True, zeros=True, rolls=True),
    "a100": _GPU,
    "h100": _GPU,
    "h200": _GPU,
    "v5e": _TPU,
    "v5p": _TPU,
    "v6e": _TPU,
}
