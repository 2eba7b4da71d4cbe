"""Which transport a worker gets: that of the setting, as far as both ends have it."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.transport import RayTransport, Transport
from paramesh.ps.deployment.zmq_module import WITHOUT_ZMQ, zmq_module
from paramesh.ps.deployment.zmq_transport import ZmqTransport


def transport_for(
    name: str, ray: ModuleType, actors: Sequence[Sequence[Any]], rank: int
) -> Transport:
    """A transport to the servers of a run.

    Args:
        name: as in `set_ps_context`: "auto", "zmq" or "ray".
        ray: the module.
        actors: of each server: one, or two of which one serves.
        rank: of this worker.

    Raises:
        ParameterServerError: "zmq" was asked for, and is not installed here.
    """
    through_ray = RayTransport(ray, actors)
    zmq = None if name == "ray" else zmq_module()
    if zmq is None:
        if name == "zmq":
            raise ParameterServerError(WITHOUT_ZMQ)
        return through_ray
    return ZmqTransport(zmq, through_ray, rank)


#: Seconds that a worker waits for its connections when it starts; later ones open beside the steps.
_OPENING = 10.0


def check_carried(transport: Transport) -> None:
    """Wait a while for connections, and make sure that no server speaks through Ray alone.

    Raises:
        ParameterServerError: one does.
    """
    if not isinstance(transport, ZmqTransport):
        return
    without = [server for server, there in transport.open_all(_OPENING).items() if not there]
    if without:
        raise ParameterServerError(
            f"transport='zmq': server {without} has no pyzmq, or another version of paramesh: "
            "pip install 'paramesh[ps]' on its host, or set transport='auto'."
        )
