"""All rows of a table, given to servers and fetched from them in blocks.

Neither the worker nor a server has a copy of more than a block besides what they keep. What is
fetched lies so that a Tensor can be made of it without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from paramesh.checkpoint.staging import aligned_empty
from paramesh.errors import ParameterServerError
from paramesh.ps.client.exchange import Call
from paramesh.ps.client.fan_out import FanOut, Operation
from paramesh.ps.specification.id_range import NO_ID
from paramesh.ps.specification.partition import Partition

Array = np.ndarray[Any, Any]

#: Bytes of a block that is given, and of one that is fetched, of all servers together, about; rows
#: of the first block that is fetched. A server holds two blocks of those that are fetched: the one
#: that it makes, and the answer before it; and five times one that it is given: the message, what
#: it is checked in, and the record.
BLOCK, FETCHED, FIRST = 4 << 20, 4 << 20, 1 << 10


def put_rows(
    partition: Partition, name: str, fields: Mapping[str, Array], ids: Array
) -> Operation[None]:
    """Give servers rows of a table, with state.

    Args:
        partition: over the servers.
        name: of the table.
        fields: values and state of the rows.
        ids: of the rows.
    """
    row = ids.itemsize + sum(_row_bytes(values) for values in fields.values())
    count = max(1, BLOCK // row)
    for first in range(0, max(1, len(ids)), count):
        some = slice(first, first + count)
        calls: dict[int, Call] = {}
        for server, mine in enumerate(partition.split_rows(ids[some])):
            rows = {field: values[some][mine] for field, values in fields.items()}
            calls[server] = ("put", ({name: rows}, ids[some][mine]))
        yield FanOut(calls)


def dump_rows(servers: int, name: str, *, one_version: bool) -> Operation[dict[str, Array]]:
    """Fetch all trained rows of a table, with state; `ids` are sorted.

    Args:
        servers: how many there are.
        name: of the table.
        one_version: nobody makes steps meanwhile. Otherwise each server is asked once, so that its
            rows are those of one version.

    Raises:
        ParameterServerError: somebody has made a step.
    """
    found: list[dict[str, Array]] = [{} for _ in range(servers)]
    filled, versions = [0] * servers, dict[int, int]()
    count = FIRST if one_version else np.iinfo(np.int64).max
    left = dict.fromkeys(range(servers), NO_ID)
    while left:
        replies = yield FanOut(
            {server: ("dump_rows", (name, after, count)) for server, after in left.items()}
        )
        for server, reply in replies.items():
            if versions.setdefault(server, reply.version) != reply.version:
                raise ParameterServerError(
                    f"Parameter '{name}' was fetched at version {versions[server]} of server "
                    f"{server}, and it is at version {reply.version} now: another worker has made "
                    "a step. Fetch it while no worker makes steps."
                )
            block = dict(reply.values)
            total = filled[server] + int(block.pop("left")[0])
            mine = found[server]
            for field, rows in block.items():
                if field not in mine:
                    mine[field] = aligned_empty((total, *rows.shape[1:]), rows.dtype)
                mine[field][filled[server] : filled[server] + len(rows)] = rows
            filled[server] += len(block["ids"])
            left[server] = int(block["ids"][-1]) if len(block["ids"]) else NO_ID
            if filled[server] == total:
                del left[server]
        if one_version:
            row = sum(_row_bytes(rows) for rows in found[0].values())
            count = max(1, FETCHED // max(1, row * servers))
    return _joined(found)


def _row_bytes(rows: Array) -> int:
    return rows.itemsize * int(np.prod(rows.shape[1:]))


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """The rows of all servers, in the order of their ids; `parts` are emptied."""
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([part["ids"] for part in parts]))
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    found: dict[str, Array] = {}
    for field, first in list(parts[0].items()):
        out = found[field] = aligned_empty((len(order), *first.shape[1:]), first.dtype)
        at = 0
        for part in parts:
            rows = part.pop(field)
            out[places[at : at + len(rows)]] = rows
            at += len(rows)
    return found
