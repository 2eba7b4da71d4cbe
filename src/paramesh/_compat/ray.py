"""What paramesh uses of Ray that is not public, and the variables by which Ray is told things.

Ray is optional, and looks at some of these variables when it is imported: nothing here imports it
before it is asked for.

    AUTH_MODE, …        names of variables
    token_is_named      whether the environment asks for tokens by name
    encrypts            whether it asks for TLS
    settings            what Ray's processes are told, so that they serve Parameters well
    read_token_again    has an imported Ray look at the token's variables again
    place_of_driver     options of `ray.init` about where the driver is
    scratch_of_cluster  the option of `ray.init` for the folder of a cluster
    node_of_driver      the node that this program started
    near, only_at       where an actor starts, and where never
    environment_of_node     the variables that the node of an actor was started with
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: "token": Ray asks for one, and gives one. "disabled": it does not.
AUTH_MODE = "RAY_AUTH_MODE"
AUTH_TOKEN = "RAY_AUTH_TOKEN"
AUTH_TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"
USE_TLS = "RAY_USE_TLS"
TLS_CA_CERT = "RAY_TLS_CA_CERT"
TLS_SERVER_CERT = "RAY_TLS_SERVER_CERT"
TLS_SERVER_KEY = "RAY_TLS_SERVER_KEY"
TMPDIR = "RAY_TMPDIR"

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray gives its workers niceness 15: on a host with other work, servers would starve.
    "RAY_worker_niceness": "0",
    # Milliseconds that a caller whose actor is gone waits to be told why before it gets an error,
    # and between two looks. Ray takes a second each; the call is repeated whatever the reason.
    "RAY_timeout_ms_task_wait_for_death_info": "100",
    "RAY_core_worker_internal_heartbeat_ms": "100",
    # Ray keeps a record of every call, up to 100,000 of several kilobytes, in the process that all
    # depend on. A training run makes some in each step, and nobody looks at them.
    "RAY_task_events_report_interval_ms": "0",
}
# A process that waits for work imports this meanwhile: a server that died is back sooner.
_PRELOAD = "RAY_preload_python_modules"


def settings(preload: str) -> dict[str, str]:
    """Variables for the environment of whoever starts or joins a cluster.

    One that is set already keeps its value.

    Args:
        preload: the module that Ray's workers import while they wait for work.
    """
    wanted = _SETTINGS | {_PRELOAD: preload}
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def token_is_named() -> bool:
    """Whether the environment says in so many words that there is a token."""
    return os.environ.get(AUTH_MODE, "").lower() == "token"


def encrypts() -> bool:
    """Whether the environment asks for TLS."""
    return os.environ.get(USE_TLS, "").lower() in ("1", "true")


def read_token_again() -> bool:
    """Have Ray look at the token's variables again, if it was imported before; it does so once.

    Returns:
        False where the environment names a token and the imported Ray does not take it.
    """
    if "ray" not in sys.modules:
        return True
    inside = importlib.import_module("ray._raylet")
    inside.Config.initialize("")
    inside.AuthenticationTokenLoader.instance().reset_cache()
    takes_one = inside.get_authentication_mode() == inside.AuthenticationMode.TOKEN
    return takes_one or not token_is_named()


def place_of_driver(host: str) -> dict[str, Any]:
    """For `ray.init`: the address of this process's node, which Ray would look for elsewhere."""
    return {"_node_ip_address": host}


def scratch_of_cluster(folder: str) -> dict[str, Any]:
    """For `ray.init`: the folder of a cluster's sockets and logs."""
    return {"_temp_dir": folder}


def node_of_driver() -> Any:
    """The node that `ray.init` started in this program: `dead_processes()` lists what died of it.

    None where this program has joined a cluster, and where Ray has no such thing any more.
    """
    worker: Any = importlib.import_module("ray._private.worker")
    node = getattr(worker, "_global_node", None)
    return node if hasattr(node, "dead_processes") else None


def _strategies() -> Any:
    return importlib.import_module("ray.util.scheduling_strategies")


def near(node: str, away: Sequence[str] = ()) -> Any:
    """The strategy by which an actor starts on a node, and on any other one when that is lost.

    Labels of nodes are experimental in Ray; without `away` they are not used.

    Args:
        node: its identity.
        away: nodes that it never starts on.
    """
    strategies = _strategies()
    if not away:
        return strategies.NodeAffinitySchedulingStrategy(node, soft=True)
    label, within, without = "ray.io/node-id", strategies.In, strategies.NotIn
    return strategies.NodeLabelSchedulingStrategy(
        hard={label: without(*away)}, soft={label: within(node)}
    )


def only_at(node: str) -> Any:
    """The strategy by which an actor is on a node, or nowhere."""
    strategies = _strategies()
    return strategies.NodeAffinitySchedulingStrategy(node, soft=False)


#: What Ray sets for an actor, for itself; a program that the actor starts must not have it.
_OF_ACTORS = ("RAY_JOB_ID", "RAY_RAYLET_PID", "RAY_CLIENT_MODE", "RAY_LD_PRELOAD_ON_WORKERS")


def environment_of_node() -> dict[str, str]:
    """In an actor: the environment that `ray start` had on its host.

    Ray changes that of the actor: the GPUs that are visible, and how many threads there may be.
    """
    try:
        content = Path(f"/proc/{os.environ['RAY_RAYLET_PID']}/environ").read_bytes()
    except (KeyError, OSError):  # not Linux
        return {name: value for name, value in os.environ.items() if name not in _OF_ACTORS}
    pairs = (os.fsdecode(entry).partition("=") for entry in content.split(b"\0") if entry)
    return {name: value for name, _, value in pairs}
