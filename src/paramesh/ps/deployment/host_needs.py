"""What a host needs for Ray, looked at before Ray is started.

Ray itself says none of it: it tries for half a minute or longer, and then says that the host is
overloaded, or nothing.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
from pathlib import Path

from paramesh.errors import ParameterServerError
from paramesh.ps.processes.descriptors import most_files, resource

#: Files that a server's process, and each of Ray's, has to be able to open: with 128 a server with
#: one worker fails in its first step, with 160 it works (Ray 2.60).
LEAST_FILES = 192
#: Bytes that Ray's files take at the least, and below which room may be why it did not start.
LEAST_ROOM, LITTLE_ROOM = 1 << 20, 1 << 26
#: Bytes of the file in memory that Ray makes for its objects, at the least; it takes 30 % of the
#: host's memory where there is more.
LEAST_FILE = 75 << 20
#: Seconds for a connection of this host to itself.
_PATIENCE = 5.0


def check_host(scratch: Path, host: str | None = None) -> None:
    """Raise ParameterServerError if Ray cannot work here.

    Args:
        scratch: the folder for Ray's files.
        host: the address of the node, if it is on the loopback.
    """
    files = most_files()
    if files is not None and files < LEAST_FILES:
        raise ParameterServerError(
            f"servers cannot be started: a process may open {files} files here, and servers and "
            f"Ray need {LEAST_FILES} at the least, and some for each worker. Raise the hard limit "
            "(`ulimit -Hn`, LimitNOFILE of systemd, --ulimit nofile of Docker)."
        )
    largest = _largest_file()
    if largest is not None and largest < LEAST_FILE:
        raise ParameterServerError(
            f"servers cannot be started: a process may write files of {largest >> 10} KiB here, "
            f"and Ray needs one of {LEAST_FILE >> 20} MiB at the least. Raise the limit (`ulimit "
            "-f unlimited`, LimitFSIZE of systemd)."
        )
    room = _room(scratch)
    if room is not None and room < LEAST_ROOM:
        raise ParameterServerError(
            f"servers cannot be started: the disk of '{scratch}', where Ray has its files, has "
            f"{room >> 10} KiB left. Make room there."
        )
    if host is not None:
        _check_loopback(host)


def _check_loopback(host: str) -> None:
    try:
        with socket.socket() as listens:
            listens.bind((host, 0))
            listens.listen(1)
            socket.create_connection(listens.getsockname(), _PATIENCE).close()
    except OSError as error:
        raise ParameterServerError(
            f"servers cannot be started: this host cannot connect to itself at {host} "
            f"({error.strerror or error}). Ray needs the loopback interface with IPv4: `ip link "
            "set lo up`, and `ip address add 127.0.0.1/8 dev lo` where it has IPv6 alone; a "
            "container must not be started without one."
        ) from None


def hint(scratch: Path) -> str:
    """What there is to look at when Ray has not started; a sentence."""
    room = _room(scratch)
    if room is not None and room < LITTLE_ROOM:
        return f"The disk of '{scratch}', where Ray has its files, has {room >> 20} MiB left."
    largest = _largest_file()
    if largest is not None:
        return (
            f"A process may write files of {largest >> 20} MiB here, and Ray's file in memory has "
            "30 % of the host's memory: raise the limit (`ulimit -f unlimited`)."
        )
    return "Check whether the host is overloaded."


def _largest_file() -> int | None:
    """Bytes that a file of this process may have; None: any number, or it is unknown."""
    if resource is None:
        return None
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if most == resource.RLIM_INFINITY else most


def _room(folder: Path) -> int | None:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return None
