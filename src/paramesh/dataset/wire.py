"""What goes between a pipeline and its worker processes."""

from __future__ import annotations

import socket
import struct

#: Of a row: bytes of the pickle, whether buffers of it are in shared memory, whether it is an
#: error's text.
HEADER = struct.Struct("<QBB")

#: Descriptors that come with a row at most.
DESCRIPTORS = 16

#: Where a buffer of a row lies: number of the segment (-1: in the file that comes with the row, one
#: buffer after the other), its bytes.
Place = tuple[int, int]


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
