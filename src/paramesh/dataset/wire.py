"""What goes between a pipeline and its worker processes."""

from __future__ import annotations

import socket
import struct

#: Of a row: bytes of the pickle, bytes of shared memory, whether it is an error's text.
HEADER = struct.Struct("<QQB")


def receive_exactly(link: socket.socket, size: int) -> bytes:
    """So many bytes.

    Raises:
        EOFError: the other side has closed.
    """
    received = bytearray(size)
    view, at = memoryview(received), 0
    while at < size:
        count = link.recv_into(view[at:])
        if not count:
            raise EOFError
        at += count
    return bytes(received)
