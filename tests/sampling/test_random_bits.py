"""The random bits as statistics sees them: the stream for batteries of tests, and quick tests.

A battery runs over far more (see the guide's page "What a step costs"). These show that nothing
broke.
"""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.stats

from paramesh import initializer as inits
from paramesh.dtype import float32, uint32
from paramesh.sampling.recipe import Initializer, Recipe
from recipe_cases import numbers


class Bits(Initializer):
    """The words of one of the draws of each element."""

    draw_number: int

    def __init__(self, draw_number: int = 0):
        super().__init__(draw_number=draw_number)

    def draw(self, bits):
        return [bits.bits() for _ in range(self.draw_number + 1)][-1]


@pytest.fixture(scope="module")
def random_bits() -> types.ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "random_bits.py"
    spec = importlib.util.spec_from_file_location("random_bits", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LANES = 8


def words_of(module: types.ModuleType, stream: str, lanes: int, size: int) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(module.words(stream, 7, lanes, size)(np.uint64(0)))


@pytest.mark.parametrize("stream", ["positions", "keys", "seeds", "draws"])
def test_batteries_are_given_the_words_of_recipes(random_bits, stream):
    found = words_of(random_bits, stream, LANES, 512)
    if stream == "positions":
        expected = numbers(Bits(), (512,), uint32, key=(7, 0))
    else:
        columns = {
            "keys": lambda k: numbers(Bits(), (64,), uint32, key=(7, k)),
            "seeds": lambda k: numbers(Bits(), (64,), uint32, key=(7 + k, 0)),
            "draws": lambda k: numbers(Bits(k), (64,), uint32, key=(7, 0)),
        }[stream]
        expected = np.stack([columns(k) for k in range(LANES)], axis=1).ravel()
    assert np.array_equal(found, expected)


def test_what_batteries_see_of_the_words(random_bits):
    words = np.random.default_rng(1).integers(0, 2**32, 64, dtype=np.uint32)
    reversed_bits = [int(f"{int(w):032b}"[::-1], 2) for w in words]
    assert random_bits.selected(words, "reversed").tolist() == reversed_bits
    packed = random_bits.selected(words, "mantissa").tobytes()
    used = b"".join(int(w >> 8).to_bytes(3, "little") for w in words)
    assert packed == used
    assert random_bits.selected(words, "whole") is words


def test_the_stream_ends_where_it_should(random_bits):
    command = [sys.executable, random_bits.__file__, "--stream", "keys", "--bytes", "10000003"]
    process = subprocess.run(command, capture_output=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert len(process.stdout) == 10000003
    first = np.frombuffer(process.stdout[: 4 * 1025], np.uint32)  # a round of 1,024 recipes
    second = [numbers(Bits(), (2,), uint32, key=(0, k)) for k in (0, 1)]
    assert [first[0], first[1], first[1024]] == [second[0][0], second[1][0], second[0][1]]


@pytest.mark.parametrize("stream", ["positions", "keys", "seeds", "draws"])
def test_neighbours_have_nothing_in_common(random_bits, stream):
    # 256 neighbouring recipes (seeds, draws) and 4,096 elements of each, or as many of one.
    table = words_of(random_bits, stream, 256, 1 << 20).reshape(4096, 256).T
    uniform = table / 2**32 - 0.5
    correlation = np.asarray(np.corrcoef(uniform))[np.triu_indices(256, 1)] * math.sqrt(4096)
    assert np.abs(correlation).max() < 6  # of 32,640 standard normal numbers
    assert scipy.stats.kstest(correlation, "norm").pvalue > 1e-3
    for shift in (0, 8, 16, 24):
        counts = np.bincount(((table >> shift) & 0xFF).ravel(), minlength=256)
        assert 1e-4 < scipy.stats.chisquare(counts).pvalue < 1 - 1e-4
    # Each bit of a word changes with a chance of one half from a neighbour to the next.
    flips = np.ascontiguousarray(table[1:] ^ table[:-1])
    changed = np.unpackbits(flips.view(np.uint8)).reshape(-1, 32).mean(axis=0)
    assert np.abs(changed - 0.5).max() < 6 * 0.5 / math.sqrt(table[1:].size)


@pytest.mark.parametrize("init", [inits.Uniform(1.0), inits.Normal(1.0)], ids=repr)
def test_sums_over_neighbouring_recipes_are_spread_as_they_must(init):
    # What a network would suffer from: a bias shared by all its layers at one element.
    arrays = [Recipe(init, (0, n), (64, 64), float32) for n in range(256)]
    table = np.stack([np.asarray(a.compute()) for a in arrays]).reshape(256, -1)
    sums = table.astype(np.float64).sum(axis=0) / table.std() / 16
    assert scipy.stats.kstest(sums, "norm").pvalue > 1e-3
