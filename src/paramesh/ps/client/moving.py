"""How a worker goes on when the run is moved to other servers while an operation is carried out.

An operation that a move has broken off is begun again with the new servers: as with any call that
is repeated, they know what they have. Before that they are told which pushes of this worker they
may lack.
"""

from __future__ import annotations

from collections.abc import Callable

from paramesh.errors import ParameterServerError
from paramesh.ps.client.caller import Caller
from paramesh.ps.client.fan_out import Operation, T
from paramesh.ps.client.worker import Worker
from paramesh.ps.specification.partition import Partition
from paramesh.ps.specification.protocol import Replaced

#: Where the run is, if it has moved on from the servers that are known: how to speak to those that
#: it has now. It is given the error that an operation has ended with.
Follow = Callable[[Exception], tuple[Caller, Partition] | None]


def persistently(worker: Worker, begin: Callable[[], Operation[T]], follow: Follow) -> Operation[T]:
    """An operation that goes on with other servers if the run has moved to them.

    Args:
        worker: whose it is.
        begin: makes the operation; each of its messages may be sent more than once.
        follow: see `Follow`.
    """
    while True:
        try:
            if worker.moves:
                yield from worker.introduce()
            return (yield from begin())
        except Replaced:
            raise
        except (ParameterServerError, OSError) as error:
            # Servers that were left behind may be ended by others, and their folders removed:
            # whatever is said of them.
            found = follow(error)
            if found is None:
                raise
            worker.change_servers(*found)
