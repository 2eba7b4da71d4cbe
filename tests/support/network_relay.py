"""A wire with a delay between two network namespaces, as a program of its own.

    python -I -S network_relay.py PID:NAME PID:NAME SECONDS

Makes a TAP device of this name in the network of each of the two processes, and passes every frame
from one to the other so many seconds later. It says "up" when it has them. See `network_hosts`.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import fcntl
import os
import selectors
import struct
import sys
import time
from collections.abc import Sequence

#: From linux/sched.h and linux/if_tun.h.
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 2, 0x1000
#: Bytes of the longest frame, and most frames that are under way in one direction.
_LONGEST, _MOST = 1 << 16, 1 << 14


def tap(pid: int, name: str) -> int:
    """A TAP device in the network of a process: its file, which belongs to it wherever we are."""
    libc = ctypes.CDLL(None, use_errno=True)
    space = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(space, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
        return device
    finally:
        os.close(space)


def relay(ends: Sequence[int], delay: float) -> None:
    """Pass frames on, for ever.

    Args:
        ends: the files of two devices.
        delay: seconds that a frame takes.
    """
    ways = {ends[0]: ends[1], ends[1]: ends[0]}
    under_way: dict[int, collections.deque[tuple[float, bytes]]] = {
        end: collections.deque(maxlen=_MOST) for end in ends
    }
    selector = selectors.DefaultSelector()
    for end in ends:
        selector.register(end, selectors.EVENT_READ)
    while True:
        due = [frames[0][0] for frames in under_way.values() if frames]
        pause = max(0.0, min(due) - time.monotonic()) if due else None
        for key, _ in selector.select(pause):
            while True:
                try:
                    frame = os.read(key.fd, _LONGEST)
                except OSError:  # none is left, or the device is down
                    break
                under_way[ways[key.fd]].append((time.monotonic() + delay, frame))
        now = time.monotonic()
        for end, frames in under_way.items():
            while frames and frames[0][0] <= now:
                frame = frames.popleft()[1]
                with contextlib.suppress(OSError):  # a full queue drops frames, as any switch does
                    os.write(end, frame)


def main(words: Sequence[str]) -> None:
    """See the module."""
    *places, delay = words
    ends: list[int] = []
    for place in places:
        pid, _, name = place.partition(":")
        ends.append(tap(int(pid), name))
    print("up", flush=True)
    relay(ends, float(delay))


if __name__ == "__main__":
    main(sys.argv[1:])
