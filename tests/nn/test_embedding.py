"""Embeddings: the padding row, indices outside the table, rows truncated to a length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paramesh import nn
from paramesh.initializer import Normal, Orthogonal
from paramesh.tensor import Tensor
from paramesh.transforms import grad


@pytest.mark.parametrize("start", ["normal", "ones", 0.5, Orthogonal(), "uniform"])
def test_padding_row_starts_as_zeros_in_every_slice(start: Any) -> None:
    table = nn.Embedding(8, 4, embedding_table=start, padding_idx=3).embedding_table
    assert table.has_init
    recipe = table.recipe
    assert recipe is not None
    whole = np.asarray(recipe.compute())
    assert not whole[3].any()
    assert np.delete(whole, 3, 0).all()
    part = np.asarray(recipe.compute((slice(2, 5), slice(1, 3))))
    np.testing.assert_array_equal(part, whole[2:5, 1:3])
    np.testing.assert_array_equal(table.asnumpy(), whole)


def test_other_rows_are_those_of_the_initializer() -> None:
    table = nn.Embedding(8, 4, embedding_table=Normal(2.0), padding_idx=0).embedding_table
    plain = table.recipe
    assert plain is not None
    plain = type(plain)(Normal(2.0), plain.key, plain.shape, plain.dtype)
    np.testing.assert_array_equal(table.asnumpy()[1:], np.asarray(plain.compute())[1:])


def test_padding_row_of_given_data() -> None:
    given = Tensor(np.ones((4, 3), np.float32))
    table = nn.Embedding(4, 3, embedding_table=given, padding_idx=1).embedding_table
    assert table.asnumpy().sum(1).tolist() == [3, 0, 3, 3]
    assert given.asnumpy().all()


def test_one_hot_is_the_same() -> None:
    table = Tensor(np.arange(12, dtype=np.float32).reshape(4, 3))
    ids = Tensor(np.array([[0, 3], [2, 2]]))
    plain = nn.Embedding(4, 3, embedding_table=table)
    one_hot = nn.Embedding(4, 3, use_one_hot=True, embedding_table=table)
    np.testing.assert_array_equal(plain(ids).asnumpy(), one_hot(ids).asnumpy())
    outside = Tensor(np.array([4]))
    assert np.isnan(plain(outside).asnumpy()).all()
    assert not one_hot(outside).asnumpy().any()


def test_rows_are_truncated_to_a_length() -> None:
    table = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], np.float32)
    lookup = nn.EmbeddingLookup(3, 2, Tensor(table), target="DEVICE", max_norm=1.0)
    out = lookup(Tensor(np.array([0, 1, 2, 7])))
    np.testing.assert_allclose(
        out.asnumpy(), [[0.6, 0.8], [0.3, 0.4], [0, 0], [0, 0]], rtol=1e-6, atol=0
    )
    np.testing.assert_array_equal(out.asnumpy()[1], table[1])
    weights = lookup.trainable_params()
    (slope,) = grad(lambda ids: lookup(ids).sum(), None, weights)(Tensor(np.array([1, 2, 7])))
    np.testing.assert_allclose(slope.asnumpy(), [[0, 0], [1, 1], [1, 1]], rtol=1e-6)


def test_the_way_to_the_rows_can_be_another() -> None:
    class Elsewhere(nn.EmbeddingLookup):
        def _rows(self, indices: Any) -> Any:
            return super()._rows(indices) * 2.0

    table = Tensor(np.ones((3, 2), np.float32))
    assert Elsewhere(3, 2, table, target="DEVICE")(np.array([1])).asnumpy().tolist() == [[2, 2]]
