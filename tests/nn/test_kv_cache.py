"""A cache gives every query the keys and values of its row's past, of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn
from paramesh.errors import ParameterStateError
from paramesh.nn.kv_cache import KVCache, caches_of

BATCH, HEADS, SIZE = 2, 1, 2
RNG = np.random.default_rng(0)
TOKENS = 9
KEYS = RNG.normal(size=(BATCH, HEADS, TOKENS, SIZE)).astype(np.float32)
VALUES = RNG.normal(size=(BATCH, HEADS, TOKENS, 3)).astype(np.float32)


def cache(kind: str = "fixed", length: int = TOKENS, **options: Any) -> KVCache:
    """A small cache."""
    return KVCache(BATCH, HEADS, length, SIZE, 3, kind=kind, **options)


def seen(found: Any, row: int, query: int) -> set[tuple[bytes, bytes]]:
    """The (key, value) pairs that a query may look at."""
    keys, values, mask = (part.asnumpy() for part in found)
    at = np.flatnonzero(mask[row, 0, query])
    pairs = [(keys[row, 0, i].tobytes(), values[row, 0, i].tobytes()) for i in at]
    assert len(set(pairs)) == len(pairs)
    return set(pairs)


def wanted(row: int, tokens: list[int]) -> set[tuple[bytes, bytes]]:
    """The pairs of these tokens."""
    return {(KEYS[row, 0, t].tobytes(), VALUES[row, 0, t].tobytes()) for t in tokens}


def given(tokens: list[list[int]]) -> list[Tensor]:
    """Keys and values of tokens, by row."""
    rows = np.arange(BATCH)[:, None]
    return [
        Tensor(np.moveaxis(whole[:, 0][rows, np.array(tokens)], 1, 1)[:, None])
        for whole in (KEYS, VALUES)
    ]


@pytest.mark.parametrize("mode", [paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE])
@pytest.mark.parametrize(("kind", "window"), [("fixed", TOKENS), ("ring", 4), ("growing", TOKENS)])
def test_queries_see_the_past_of_their_row(mode: int, kind: str, window: int) -> None:
    paramesh.set_context(mode=mode)
    one = cache(kind, window)
    at = 0
    for n in (2, 1, 1, 5):
        tokens = list(range(at, at + n))
        found = one(*given([tokens] * BATCH))
        for row in range(BATCH):
            for query, token in enumerate(tokens):
                past = list(range(max(0, token - window + 1), token + 1))
                assert seen(found, row, query) == wanted(row, past)
        at += n
    assert one.position.asnumpy().tolist() == [TOKENS] * BATCH


@pytest.mark.parametrize("kind", ["fixed", "ring"])
def test_rows_of_several_lengths(kind: str) -> None:
    one = cache(kind, 6)
    one(*given([[0, 1, 2], [0, 8, 8]]), Tensor([3, 1]))
    found = one(*given([[3], [1]]))
    assert seen(found, 0, 0) == wanted(0, [0, 1, 2, 3])
    assert seen(found, 1, 0) == wanted(1, [0, 1])
    assert one.position.asnumpy().tolist() == [4, 2]
    one.reset()
    assert seen(one(*given([[5], [6]])), 1, 0) == wanted(1, [6])


def test_loops_write_the_cache_as_calls_do() -> None:
    whole = [Tensor(np.moveaxis(part, 2, 0)[:, :, :, None]) for part in (KEYS, VALUES)]

    def step(total: Any, row: Any) -> Any:
        keys, _, mask = one(*row)
        return total + (keys[:, 0, :, 0] * mask[:, 0, 0]).sum(), None

    one = cache()
    total, _ = paramesh.jit(lambda: paramesh.scan(step, Tensor(0.0), tuple(whole)))()
    np.testing.assert_array_equal(one.keys, KEYS)
    np.testing.assert_array_equal(one.values, VALUES)
    counts = np.arange(TOKENS, 0, -1)
    np.testing.assert_allclose(total, (KEYS[..., 0] * counts).sum(), rtol=1e-5)


def test_overflow_is_not_silent() -> None:
    one = cache(length=2)
    one(*given([[0, 1]] * BATCH))
    keys, values, _ = one(*given([[2]] * BATCH))
    assert np.isnan(keys).all()
    assert np.isnan(values).all()
    with pytest.raises(ParameterStateError, match="a cache has 2 slots and needs 4"):
        nn.reserve_caches(one, 1)


def test_growing_keeps_what_is_there() -> None:
    one = cache("growing", 2)
    one(*given([[0, 1]] * BATCH))
    nn.reserve_caches(one, 3)
    assert one.length == 8
    assert seen(one(*given([[2]] * BATCH)), 0, 0) == wanted(0, [0, 1, 2])
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    other = cache("growing", 2)
    found = [other(*given([[token]] * BATCH)) for token in range(5)]
    assert seen(found[-1], 1, 0) == wanted(1, [0, 1, 2, 3, 4])
    assert other.length == 8


class Layer(nn.Cell):
    """Adds up the keys that are seen."""

    def __init__(self, kind: str = "growing") -> None:
        super().__init__()
        self.fc = nn.Dense(SIZE, SIZE)
        self.cache = KVCache(BATCH, HEADS, 2, SIZE, kind=kind)

    def construct(self, x: Any) -> Any:
        key = self.fc(x)[:, None]
        keys, _, mask = self.cache(key, key)
        return x + (keys[:, 0] * mask[:, 0, 0][:, :, None]).sum(axis=1, keepdims=True)


def test_layers_of_a_stack_have_caches_of_their_own() -> None:
    paramesh.set_seed(1)
    whole = nn.SequentialCell(paramesh.stack(Layer, 2))
    paramesh.set_seed(1)
    apart = nn.SequentialCell(Layer(), Layer())
    names = [param.name for param in whole.get_parameters()]
    assert names == ["0.fc.weight", "0.fc.bias"]
    x = Tensor(np.ones((BATCH, 1, SIZE), np.float32))
    for _ in range(2):
        np.testing.assert_allclose(whole(x), apart(x), rtol=1e-5)
    for net in (whole, apart):
        nn.reserve_caches(net, 1)
        assert caches_of(net)["0.cell.cache" if net is whole else "1.cache"].length == 4
    np.testing.assert_allclose(whole(x), apart(x), rtol=1e-5)
    np.testing.assert_allclose(whole[0].layer(1).cache.keys, apart[1].cache.keys, rtol=1e-5)
    nn.reset_caches(whole)
    nn.reset_caches(apart)
    np.testing.assert_allclose(whole(x), apart(x), rtol=1e-5)


def test_contents_are_saved_only_if_they_are_to_be() -> None:
    assert list(cache().get_parameters()) == []
    kept = cache(persistent=True)
    assert list(kept.parameters_dict()) == ["keys", "values", "position"]
    assert kept.trainable_params() == []
    kept(*given([[0]] * BATCH))
    assert kept.position.asnumpy().tolist() == [1, 1]


def test_wrong_usage() -> None:
    one = cache()
    with pytest.raises(ValueError, match=r"expected key \(batch=2, heads=1, tokens, size=2\), got"):
        one(Tensor(np.zeros((2, 3, 1, 2), np.float32)), given([[0]] * BATCH)[1])
    with pytest.raises(ValueError, match="key has 2 tokens and value 1"):
        one(given([[0, 1]] * BATCH)[0], given([[0]] * BATCH)[1])
    with pytest.raises(ValueError, match="expected one of fixed, ring, growing, got 'rings'"):
        cache("rings")
    with pytest.raises(TypeError, match="length"):
        cache(length=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Dense has no KVCache"):
        nn.reset_caches(nn.Dense(2, 2))
    with pytest.raises(TypeError, match="tokens must be an int, got 1.5"):
        nn.reserve_caches(one, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tokens must be at least 1, got 0"):
        nn.reserve_caches(one, 0)
    with pytest.raises(ParameterStateError, match="a program cannot change the size of a cache"):
        paramesh.jit(lambda x: nn.reserve_caches(one, 1))(Tensor(1.0))
