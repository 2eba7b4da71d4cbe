"""The exchange of borders between neighbours in a grid: `NeighborExchangeV2`.

Every device has a tile of an image. It sends its borders to the devices around it, and puts around
its own tile what it receives.

Glossary
    direction   where a neighbour is, clockwise from the top: 0 top, 1 top right, 2 right, 3 bottom
                right, 4 bottom, 5 bottom left, 6 left, 7 top left
    border      the rows and columns of a tile that go into a direction
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.ops.collectives import Ranks, neighbor_exchange
from paramesh.ops.table import Array, function, primitive
from paramesh.state.placement import WORLD
from paramesh.tensor.base import raw

__all__ = ["NeighborExchangeV2", "neighbor_exchange_v2"]

#: Of each direction: -1 up or left, 1 down or right.
_DIRECTIONS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
_ENDS = ("top", "bottom", "left", "right")


@function
def neighbor_exchange_v2(
    input_x: Array,
    send_rank_ids: Ranks,
    send_lens: Sequence[int],
    recv_rank_ids: Ranks,
    recv_lens: Sequence[int],
    data_format: str = "NCHW",
    group: str = WORLD,
) -> Any:
    """Each device sends the borders of its tile to its neighbours, and keeps theirs around it.

    (n, c, h, w) -> (n, c, top + h + bottom, left + w + right). Where a device has no neighbour,
    the border is zeros. The gradient is the way back: what came from a neighbour's border is added
    there.

    Args:
        input_x: the tile, of one shape on all devices.
        send_rank_ids: for each of the eight directions a tuple: whom each place of the group sends
            that border to, -1 for none; -1 alone where nobody does.
        send_lens: (top, bottom, left, right): rows and columns that are sent.
        recv_rank_ids: the same for those whom a place gets a border from.
        recv_lens: rows and columns that are received: those that the neighbours send.
        data_format: "NCHW", the only one.
        group: who takes part.

    Raises:
        ValueError: no such tile, directions or lengths; `recv_lens` are not what is sent.
    """
    if data_format != "NCHW":
        raise ValueError(f"data_format must be 'NCHW', got {data_format!r}.")
    if input_x.ndim != 4:
        raise ValueError(f"input_x must be of shape (n, c, h, w), got {tuple(input_x.shape)}.")
    sent, received = _lengths("send_lens", send_lens), _lengths("recv_lens", recv_lens)
    for name, ranks in (("send_rank_ids", send_rank_ids), ("recv_rank_ids", recv_rank_ids)):
        if not isinstance(ranks, tuple | list) or len(ranks) != len(_DIRECTIONS):
            raise ValueError(f"{name} must have an entry for each of 8 directions, got {ranks!r}.")
    height, width = input_x.shape[2:]
    if max(sent[:2]) > height or max(sent[2:]) > width:
        raise ValueError(
            f"send_lens={sent} (top, bottom, left, right) is more than the tile of "
            f"{height} x {width} has."
        )
    return _surrounded(input_x, send_rank_ids, sent, recv_rank_ids, received, group)


def _lengths(name: str, given: Sequence[int]) -> tuple[int, ...]:
    """(top, bottom, left, right)."""
    lengths = tuple(given)
    if len(lengths) != 4 or any(type(n) is not int or n < 0 for n in lengths):
        raise ValueError(
            f"{name} must be four ints from 0 on (top, bottom, left, right), got {given!r}."
        )
    return lengths


def _border(tile: jax.Array, lengths: Sequence[int], direction: int) -> jax.Array:
    """What a tile sends into a direction."""
    top, bottom, left, right = lengths
    down, along = _DIRECTIONS[direction]
    rows = {-1: slice(0, top), 0: slice(None), 1: slice(tile.shape[2] - bottom, None)}[down]
    columns = {-1: slice(0, left), 0: slice(None), 1: slice(tile.shape[3] - right, None)}[along]
    return tile[:, :, rows, columns]


def _surrounded(
    tile: jax.Array,
    send: Ranks,
    sent: Sequence[int],
    receive: Ranks,
    wide: Sequence[int],
    group: str,
) -> jax.Array:
    top, bottom, left, right = wide
    height, width = tile.shape[2:]
    out = jnp.pad(tile, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows = {-1: (0, top), 0: (top, height), 1: (top + height, bottom)}
    columns = {-1: (0, left), 0: (left, width), 1: (left + width, right)}
    for direction, (down, along) in enumerate(_DIRECTIONS):
        (row, tall), (column, broad) = rows[down], columns[along]
        # What comes from the right was sent to the left.
        opposite = (direction + 4) % len(_DIRECTIONS)
        if receive[direction] == -1 or not tall * broad:
            continue
        border = _border(tile, sent, opposite)
        if border.shape[2:] != (tall, broad):
            raise ValueError(
                f"recv_lens={tuple(wide)}: {tall} x {broad} are received in direction {direction}, "
                f"but by send_lens={tuple(sent)} a neighbour sends {border.shape[2]} x "
                f"{border.shape[3]}."
            )
        if send[opposite] == -1:
            raise ValueError(
                f"recv_rank_ids: borders are received in direction {direction}, but nobody sends "
                f"one in direction {opposite}, by send_rank_ids."
            )
        arrived = raw(
            neighbor_exchange((border,), (send[opposite],), (receive[direction],), group)[0]
        )
        out = out.at[:, :, row : row + tall, column : column + broad].set(arrived)
    return out


def _settings(
    send_rank_ids: Ranks,
    send_lens: Sequence[int],
    recv_rank_ids: Ranks,
    recv_lens: Sequence[int],
    data_format: str,
    group: str = WORLD,
) -> dict[str, Any]:
    return {
        "send_rank_ids": send_rank_ids,
        "send_lens": send_lens,
        "recv_rank_ids": recv_rank_ids,
        "recv_lens": recv_lens,
        "data_format": data_format,
        "group": group,
    }


NeighborExchangeV2 = primitive("NeighborExchangeV2", neighbor_exchange_v2, _settings)
