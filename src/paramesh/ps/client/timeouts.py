"""The error of a call that was not answered in time: who may be the cause, and what to check."""

from __future__ import annotations

from collections.abc import Mapping

from paramesh.errors import ParameterServerError


def timeout_error(
    rank: int,
    workers: int,
    seconds: float,
    missing: Mapping[int, str],
    alive: bool,
    failures: Mapping[int, str],
) -> ParameterServerError:
    """The error.

    Args:
        rank: of the worker that has waited.
        workers: how many there are.
        seconds: how long it has waited.
        missing: by server that did not answer, what it was asked.
        alive: all of these servers have answered a ping.
        failures: by server, how it has failed.
    """
    others = f"another of the {workers} workers has stopped"
    if alive:
        busy = "the servers need longer than timeout= allows"
        why = f"Servers and network respond, so {others if workers > 1 else busy}."
    elif workers > 1:
        why = f"Either a server cannot restart, or {others}."
    else:
        why = (
            "The server cannot restart: check whether its host is overloaded or its wal_dir "
            "damaged."
        )
    said = "; ".join(f"server {server}: {what}" for server, what in sorted(failures.items()))
    return ParameterServerError(
        f"worker {rank}: server {sorted(missing)} did not answer {sorted(set(missing.values()))} "
        f"within {seconds:g} s ({said or 'no answer'}). {why}"
    )
