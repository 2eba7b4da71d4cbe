"""How the programs of this folder are driven: steps are made when another process asks for them."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from typing import Any


def drive(step: Callable[[int], float], facts: Callable[[], dict[str, Any]] = dict) -> None:
    """Make steps as the program that has started this one asks for them.

    Args:
        step: makes the step of a number and waits for it; its loss.
        facts: further figures of a turn.
    """
    host, _, port = sys.argv[1].rpartition(":")
    with socket.create_connection((host, int(port))) as line, line.makefile("rw") as file:
        at = 0
        for order in file:
            count = int(order)
            if not count:
                break
            times: list[float] = []
            losses: list[float] = []
            for _ in range(count):
                began = time.perf_counter()
                losses.append(step(at))
                times.append(time.perf_counter() - began)
                at += 1
            file.write(json.dumps({"times": times, "losses": losses, **facts()}) + "\n")
            file.flush()
