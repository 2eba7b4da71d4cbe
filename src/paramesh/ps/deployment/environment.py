"""What the environment says of servers: who started this process fills in what a script leaves out.

    PARAMESH_PS_SERVERS     server_num          PARAMESH_PS_RANK    which worker this is, from 0
    PARAMESH_PS_WORKERS     worker_num          PARAMESH_PS_JOB     a name for the run
    PARAMESH_PS_ADDRESS     address
    PARAMESH_PS_WAL_DIR     wal_dir             PARAMESH_PS_TRANSPORT   transport
    PARAMESH_PS_SCRATCH     wal_dir, if the script gives none
    PARAMESH_PS_HOSTS       the addresses of the hosts that servers start on, with commas between
    PARAMESH_PS_LOGS        the folder for what servers write to their output

`paramesh launch` sets them; so may any other program that starts workers. A script may repeat what
they say, and must not say otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from paramesh.context import PS_TRANSPORTS
from paramesh.errors import ContextError
from paramesh.parallel.processes.membership import Variables

SERVERS, WORKERS = "PARAMESH_PS_SERVERS", "PARAMESH_PS_WORKERS"
ADDRESS, WAL_DIR = "PARAMESH_PS_ADDRESS", "PARAMESH_PS_WAL_DIR"
SCRATCH, TRANSPORT = "PARAMESH_PS_SCRATCH", "PARAMESH_PS_TRANSPORT"
RANK, JOB = "PARAMESH_PS_RANK", "PARAMESH_PS_JOB"
HOSTS, LOGS = "PARAMESH_PS_HOSTS", "PARAMESH_PS_LOGS"

_SETTINGS = {
    "server_num": SERVERS,
    "worker_num": WORKERS,
    "address": ADDRESS,
    "wal_dir": WAL_DIR,
    "transport": TRANSPORT,
}


class Outside(NamedTuple):
    """What is said of the settings of `set_ps_context`.

    Attributes:
        settings: that hold, by name.
        fallbacks: that hold where the script says nothing, by name.
        said_by: for each of `settings`, the variable with its value.
    """

    settings: dict[str, Any]
    fallbacks: dict[str, Any]
    said_by: dict[str, str]


def outside(environment: Mapping[str, str] | None = None) -> Outside:
    """What the environment says.

    Raises:
        ContextError: a variable has a value that it cannot have; the message names both.
    """
    given = os.environ if environment is None else environment
    variables = Variables(given)
    settings: dict[str, Any] = {}
    if SERVERS in variables:
        settings["server_num"] = variables.number(SERVERS, 1, 256, "how many servers there are")
    if WORKERS in variables:
        settings["worker_num"] = variables.number(WORKERS, 1, 4096, "how many workers there are")
    for name in ("address", "wal_dir"):
        if _SETTINGS[name] in variables:
            settings[name] = variables.text(_SETTINGS[name])
    if TRANSPORT in variables:
        settings["transport"] = variables.text(TRANSPORT)
        if settings["transport"] not in PS_TRANSPORTS:
            raise ContextError(
                f"{TRANSPORT}={settings['transport']!r}: the transport is one of {PS_TRANSPORTS}."
            )
    fallbacks = {"wal_dir": given[SCRATCH]} if SCRATCH in variables else {}
    return Outside(
        settings, fallbacks, {name: f"{_SETTINGS[name]}={settings[name]}" for name in settings}
    )


def rank(workers: int) -> int:
    """Which of so many workers this process is; 0 if nobody says.

    Raises:
        ContextError: the variable has a value that it cannot have.
    """
    return Variables(os.environ).number(RANK, 0, workers - 1, "the place of this worker", 0)


def is_placed() -> bool:
    """Whether the program that started this worker said which it is, and so knows who lives."""
    return RANK in Variables(os.environ)


def job() -> str:
    """The name of the run."""
    return os.environ.get(JOB) or "default"


def hosts() -> list[str]:
    """The addresses of the hosts that servers may have at first; none: any."""
    return [address for address in os.environ.get(HOSTS, "").split(",") if address]


def logs() -> str | None:
    """The folder for the output of servers; None: Ray keeps it."""
    return os.environ.get(LOGS) or None
