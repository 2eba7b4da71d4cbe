"""Processor time of processes, in nanoseconds of the kernel's own account; Linux alone."""

from __future__ import annotations

import contextlib
from pathlib import Path


def of_process(pid: int) -> float:
    """Seconds that the threads of a process have used; those that have ended do not count."""
    found = 0
    with contextlib.suppress(OSError):  # it has ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += int((task / "schedstat").read_text().split()[0])
    return found / 1e9


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(path.name)] = int(
                    (path / "stat").read_text().rpartition(")")[2].split()[1]
                )
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def of_tree(pid: int) -> float:
    """As `of_process`, of a process and all that descend from it now."""
    return sum(of_process(one) for one in tree(pid))
