"""Tiles of an image that exchange their borders, against the image itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Tensor, communication, context, ops

#: Tiles 0 1 over 2 3, each of 4 x 3.
_DRAW = np.random.default_rng(0)
IMAGE = _DRAW.normal(size=(2, 1, 8, 6)).astype(np.float32)
LENGTHS = (2, 1, 1, 2)  # received from top, bottom, left and right
SENT = (1, 2, 2, 1)
PLACES = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


@pytest.fixture(autouse=True)
def _devices() -> Iterator[None]:
    context.set_auto_parallel_context(parallel_mode="hybrid_parallel", device_num=4)
    communication.init()
    yield
    communication.release()


def neighbours() -> list[tuple[int, ...]]:
    """For each direction the neighbour of each tile."""
    found: list[tuple[int, ...]] = []
    for down, along in PLACES:
        near = [(n // 2 + down, n % 2 + along) for n in range(4)]
        found.append(tuple(r * 2 + c if {r, c} <= {0, 1} else -1 for r, c in near))
    return found


def tiles(image: Any) -> Any:
    """(8, 1, 4, 3): the tiles one after the other."""
    return np.concatenate([image[:, :, r : r + 4, c : c + 3] for r in (0, 4) for c in (0, 3)])


def windows(image: Any) -> Any:
    """The tiles with what is around them."""
    top, bottom, left, right = LENGTHS
    wide = jnp.pad(image, ((0, 0), (0, 0), (top, bottom), (left, right)))
    return jnp.concatenate(
        [
            wide[:, :, r : r + 4 + top + bottom, c : c + 3 + left + right]
            for r in (0, 4)
            for c in (0, 3)
        ]
    )


def test_values_and_gradients() -> None:
    expected = windows(IMAGE)
    weights = _DRAW.uniform(0.5, 1.5, expected.shape).astype(np.float32)
    near = neighbours()
    exchange = ops.NeighborExchangeV2(near, SENT, near, LENGTHS, "NCHW")

    @paramesh.jit
    def program(x: Any, w: Any) -> Any:
        return exchange(x), paramesh.grad(lambda x: (w * exchange(x) * exchange(x)).sum())(x)

    out, gradient = program(Tensor(tiles(IMAGE)), Tensor(weights))
    np.testing.assert_array_equal(out.asnumpy(), expected)
    by_image = jax.grad(lambda image: (weights * windows(image) ** 2).sum())(IMAGE)
    np.testing.assert_allclose(gradient.asnumpy(), tiles(by_image), 1e-5, 1e-6)


def test_one_direction() -> None:
    up: list[Any] = [-1] * 8
    down: list[Any] = [-1] * 8
    down[4], up[0] = (2, 3, -1, -1), (-1, -1, 0, 1)  # the lower tiles get a row from above
    exchange = ops.NeighborExchangeV2(down, [0, 1, 0, 0], up, [1, 0, 0, 0], "NCHW")
    out = paramesh.jit(exchange)(Tensor(tiles(IMAGE))).asnumpy()
    np.testing.assert_array_equal(out[:4, :, 0], np.zeros((4, 1, 3)))
    np.testing.assert_array_equal(out[4:6, :, 0], IMAGE[:, :, 3, :3])
    np.testing.assert_array_equal(out[:, :, 1:], tiles(IMAGE))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data_format": "NHWC"}, "data_format must be 'NCHW'"),
        ({"send_lens": (1, 5, 2, 1)}, r"send_lens=\(1, 5, 2, 1\) .* more than the tile of 4 x 3"),
        ({"send_lens": (1, 2, 2)}, "send_lens must be four ints from 0 on"),
        ({"recv_lens": (1, 1, 1, 2)}, r"1 x 3 are received .* a neighbour sends 2 x 3"),
        ({"send_rank_ids": [0] * 7}, "send_rank_ids must have an entry for each of 8 directions"),
        ({"send_rank_ids": [-1] * 8}, "received in direction 0, but nobody sends .* direction 4"),
    ],
)
def test_mistakes(changes: dict[str, Any], says: str) -> None:
    near = neighbours()
    given = dict(
        send_rank_ids=near,
        send_lens=SENT,
        recv_rank_ids=near,
        recv_lens=LENGTHS,
        data_format="NCHW",
    )
    exchange = ops.NeighborExchangeV2(**(given | changes))
    with pytest.raises(ValueError, match=says):
        paramesh.jit(exchange)(Tensor(tiles(IMAGE)))
