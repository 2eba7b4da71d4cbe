"""The random bits that recipes are made of, as raw bytes for a statistical battery.

    python benchmarks/random_bits.py --stream keys | RNG_test stdin32
    python benchmarks/random_bits.py --stream keys | ./crush_stdin Crush

`RNG_test` is PractRand's; `crush_stdin` is TestU01's, from `crush_stdin.c` beside this file. The
words are unsigned, 32 bits wide and in the machine's byte order. The stream goes on until its
reader closes it, or for `--bytes`; that is 2^64 words at most.

A word depends on a seed, a recipe's creation counter, a position in the array, and the number of
the draw. Which of them runs fastest makes the stream:

    positions   the elements of one array
    keys        one element of each of `--lanes` recipes made one after another, then the next
    seeds       one element of an array under each of `--lanes` consecutive seeds, then the next
    draws       the first `--lanes` draws of each element, for rules that draw more than once
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.sampling import philox

STREAMS = ("positions", "keys", "seeds", "draws")
BITS = ("whole", "reversed", "mantissa")
CHUNK = 1 << 21


def words(stream: str, seed: int, lanes: int, size: int) -> Callable[[Any], jax.Array]:
    """A compiled program: the number of a stream's first word -> `size` words from there on."""

    def paramesh_bits(first: Any) -> jax.Array:
        number = first + jax.lax.iota(jnp.uint64, size)
        zero = jnp.zeros(size, jnp.uint64)
        lane, row = number % jnp.uint64(lanes), number // jnp.uint64(lanes)
        position = number if stream == "positions" else row
        counter = lane if stream == "keys" else zero
        word = lane if stream == "seeds" else zero
        draw = lane if stream == "draws" else zero
        low, high = _halves(position)
        key = (word.astype(jnp.uint32) + jnp.uint32(seed), _halves(counter)[0])
        return philox.philox4x32((low, high, _halves(counter)[1], draw.astype(jnp.uint32)), key)[0]

    return jax.jit(paramesh_bits)


def _halves(number: jax.Array) -> tuple[jax.Array, jax.Array]:
    return number.astype(jnp.uint32), (number >> jnp.uint64(32)).astype(jnp.uint32)


def selected(values: np.ndarray[Any, Any], bits: str) -> np.ndarray[Any, Any]:
    """The bits of words that a battery is to see.

    `reversed` shows the lower bits to tests that look at the upper ones. `mantissa` packs the 24
    bits that a float32 is made of: three words of every four (their number is a multiple of 4).
    """
    if bits == "whole":
        return values
    if bits == "reversed":
        for shift, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F)):
            keep = np.uint32(mask)
            values = ((values >> np.uint32(shift)) & keep) | ((values & keep) << np.uint32(shift))
        return values.byteswap()
    upper = (values >> np.uint32(8)).reshape(-1, 4)
    packed = np.empty((len(upper), 3), np.uint32)
    for i in range(3):
        rest = upper[:, i] >> np.uint32(8 * i)
        packed[:, i] = rest | (upper[:, i + 1] << np.uint32(24 - 8 * i))
    return packed.ravel()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stream", choices=STREAMS, default="positions")
    parser.add_argument("--bits", choices=BITS, default="whole")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--lanes", type=int, default=1024, help="recipes, seeds or draws in a round"
    )
    parser.add_argument("--bytes", type=int, default=None, help="how many; default: no end")
    options = parser.parse_args()
    if not 0 <= options.seed < 1 << 32:
        parser.error(f"--seed: expected an int from 0 to 2^32 - 1, got {options.seed}")
    if not 0 < options.lanes <= 1 << 32:
        parser.error(f"--lanes: expected an int from 1 to 2^32, got {options.lanes}")
    if sys.stdout.isatty():
        parser.error("the bytes are for a program: send the output to a pipe or a file")
    left = options.bytes
    with jax.enable_x64(True):
        program = words(options.stream, options.seed, options.lanes, CHUNK)
        ahead = program(np.uint64(0))
        number = 0
        try:
            while left is None or left > 0:
                now, number = ahead, number + CHUNK
                ahead = program(np.uint64(number))  # while the one before is read
                data = memoryview(selected(np.asarray(now), options.bits).tobytes())[:left]
                while data:
                    data = data[os.write(1, data) :]
                if left is not None:
                    left -= min(left, CHUNK * 4 if options.bits != "mantissa" else CHUNK * 3)
        except BrokenPipeError:
            pass  # the battery has seen enough


if __name__ == "__main__":
    main()
