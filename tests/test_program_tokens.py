"""The recipes of the documentation and their twins in flax nnx, by length."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import program_tokens


def test_tokens_are_those_that_say_something() -> None:
    program = '''
def f(x):  # a comment
    """About f."""

    return g(
        "a string",
        x,
    )
'''
    assert program_tokens.tokens(program) == 14


def test_recipes_are_not_longer_than_their_twins() -> None:
    counts = program_tokens.counts()
    assert len(counts) == 16
    ratios = {name: ours / theirs for name, (ours, theirs) in counts.items()}
    assert {name: ratio for name, ratio in ratios.items() if ratio > 1.1} == {}
    assert statistics.median(ratios.values()) < 0.9
