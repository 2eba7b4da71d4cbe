"""One worker's connection to the parameter server: what is declared, and the step it is at.

Glossary
    client      sends a worker's calls to the servers (see `client`, and `local_client` for servers
                in this process)
    session     the client for the current settings; opened when a program first needs it, closed
                with the settings or with the process
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from paramesh import context, own_exit
from paramesh.checkpoint import background
from paramesh.parallel.processes import membership
from paramesh.parameter import Parameter
from paramesh.ps.client.cache import RowCache
from paramesh.ps.deployment.connection import connect as connect_servers
from paramesh.ps.integration.client import Array, Client, Update
from paramesh.ps.integration.local_client import LocalClient
from paramesh.ps.integration.multiprocess_workers import as_workers
from paramesh.ps.integration.step_rows import StepRows
from paramesh.ps.server.refresh import (
    NO_IDS,
    Refresh,
)
from paramesh.ps.specification.specs import others_before
from paramesh.telemetry import report
from paramesh.telemetry.journal import Json
from paramesh.telemetry.phases import phase

#: The settings under which servers are in this process; others have processes of their own.
_ALONE: dict[str, Any] = {
    "server_num": 0,
    "worker_num": 1,
    "mode": "sync",
    "standby": 0,
    "wal_dir": None,
    "address": None,
}


def alone(settings: Mapping[str, Any]) -> bool:
    """Whether the settings leave the one server in this process."""
    return all(settings[name] == only for name, only in _ALONE.items())


def client_for(settings: dict[str, Any]) -> Client:
    """The client that the settings ask for.

    Raises:
        ParameterServerError: as `client.connect`.
    """
    return LocalClient(1) if alone(settings) else connect_servers(settings)


#: Makes the client that the settings ask for. Tests that want several servers and no processes
#: replace it.
connect: Callable[[dict[str, Any]], Client] = client_for


class Session:
    """The Parameters of this worker that live on servers.

    Args:
        client: made by `connect`.
        settings: those that it was made by.

    Attributes:
        at: the step that comes next.
        workers: how many make it up.
    """

    def __init__(self, client: Client, settings: dict[str, Any]) -> None:
        self.client = client
        self.settings = settings
        #: What belongs to one step is asked for while no other thread makes it.
        self._turn = threading.RLock()
        self.specs: dict[str, dict[str, Any]] = {}
        #: By name: the Parameter of this worker, and the array that a dense one was given last.
        self.owners: dict[str, Any] = {}
        self.copies: dict[str, Any] = {}
        #: Dense Parameters of this worker that no step has declared, with the servers' values; and
        #: the names that the servers did not have when they were asked.
        self.read: weakref.WeakSet[Any] = weakref.WeakSet()
        self._missing: set[str] = set()
        #: By name of a table: its rows on this worker's device, and how many were pulled in all.
        self.caches: dict[str, RowCache] = {}
        self.pulled: dict[str, int] = {}
        self.at = client.start
        #: Of the step that comes next.
        self.workers = client.workers_at(self.at)
        if self.workers != settings["worker_num"]:
            membership.set_workers_of_servers(self.workers)
        self.remote = not isinstance(client, LocalClient)
        self.rows = StepRows(self, trials=settings["row_trials"])
        #: How far the script is (see `step_synchronization`), and the optimizers' counts.
        self.step_synchronizer: Any = None
        self.caught_up: set[Any] = set()
        self.catching_up: dict[Any, dict[Any, Array]] = {}

    def declare(self, specs: list[dict[str, Any]], values: Mapping[str, Array]) -> list[str]:
        """Declare what is new; its names.

        Raises:
            ValueError: another spec of the same name.
        """
        with self._turn:
            fresh = [spec for spec in specs if self.specs.get(spec["name"]) != spec]
            if not fresh:
                return []
            self.client.declare(
                fresh, {s["name"]: values[s["name"]] for s in fresh if s["name"] in values}
            )
            self.specs |= {spec["name"]: spec for spec in fresh}
            return [spec["name"] for spec in fresh]

    def known(self, specs: list[dict[str, Any]]) -> list[str]:
        """The names of those Parameters that the servers have, whoever declared them.

        Raises:
            ParameterServerError: as `Client.known`.
        """
        names = [spec["name"] for spec in specs]
        with self._turn:
            asked = [spec for spec in specs if spec["name"] not in self.specs]
            if self.specs:  # a step has declared what is trained: what was missing then stays so
                asked = [spec for spec in asked if spec["name"] not in self._missing]
            there = set(self.client.known(asked)) if asked else set()
            if self.specs:
                self._missing |= {spec["name"] for spec in asked} - there
            return [name for name in names if name in self.specs or name in there]

    def lacks(self, param: Parameter) -> bool:
        """Whether a dense Parameter may have values on the servers that were never pulled."""
        return param.name not in self.owners and param not in self.read

    def step(self, updates: Update, hyper: Mapping[str, float]) -> dict[str, Array]:
        """Push gradients; the new values of the dense Parameters, and news for the caches."""
        with phase("push"), self._turn:
            return self._step(updates, hyper)

    def _step(self, updates: Update, hyper: Mapping[str, float]) -> dict[str, Array]:
        wanted = [name for name, spec in self.specs.items() if spec["kind"] == "dense"]
        if not self.caches or not self.rows.ways.way.cached:
            values = self.client.step(self.at, updates, hyper, wanted)
            self._stepped()
            return values
        for name, cache in self.caches.items():
            cache.pushing(updates[name]["ids"] if name in updates else NO_IDS)
        refresh = Refresh({name: cache.watch() for name, cache in self.caches.items()})
        values = self.client.step(self.at, updates, hyper, wanted, refresh)
        self._stepped()
        for name, cache in self.caches.items():
            news = refresh.news.get(name)
            cache.take(news)
            self._count(name, 0 if news is None else len(news.ids))
        return values

    def _stepped(self) -> None:
        """A step was made; the next one may be that of other workers."""
        self.at += 1
        workers = self.client.workers_at(self.at)
        if workers == self.workers:
            return
        self.workers = workers
        membership.set_workers_of_servers(workers)
        for cache in self.caches.values():
            cache.share()
        self.note("workers", workers=workers, step=self.at)

    def pull(self, names: Iterable[str]) -> dict[str, Array]:
        """The values of dense Parameters."""
        with phase("pull"), self._turn:
            return self.client.pull(self.at, names)

    def pull_tables(self, wanted: Mapping[str, Array]) -> dict[str, Array]:
        """Rows of declared tables by the ids of each: sorted, each once."""
        if not wanted:
            return {}
        with phase("pull"), self._turn:
            for name, ids in wanted.items():
                self._count(name, len(ids))
            return self.client.pull_tables(self.at, wanted)

    def ask_ahead(self, wanted: Mapping[str, Array]) -> None:
        """Request rows of declared tables that the next step will read."""
        with self._turn:
            self.client.ask_ahead(self.at + 1, wanted)

    def note(self, event: str, **facts: object) -> None:
        """Write an event to the worker's (see `processes.events`)."""
        self.client.note(event, **facts)

    def facts(self) -> Json:
        """What `paramesh watch` shows of this worker's servers."""
        caches: dict[str, Json] = {}
        for name, cache in self.caches.items():
            counts = cache.counts
            caches[name] = {"looked_up": counts.looked_up, "hits": counts.hits}
        return {
            **self.client.place(),
            "version": self.at,
            "pulled": sum(self.pulled.values()),
            "caches": caches,
            "rows": self.rows.ways.facts(),
        }

    def _count(self, name: str, rows: int) -> None:
        self.pulled[name] = self.pulled.get(name, 0) + rows

    def cache_of(self, table: Parameter) -> RowCache | None:
        """The cache of a declared table that has one (`Parameter.cache_enable`)."""
        if not (table.cache_enable and table.cache_shape and table.name in self.specs):
            return None
        cache = self.caches.get(table.name)
        if cache is None:
            spec = self.specs[table.name]
            stale = self.settings["mode"] == "stale"
            cache = self.caches[table.name] = RowCache(
                table.name,
                spec["rows"],
                tuple(spec["row_shape"]),
                table.dtype.np_dtype,
                table.cache_shape[0],
                lag=self.settings["staleness"] if stale else 0,
                shared=max(self.workers, self.settings["worker_num"]) > 1
                or any(spec.get(key, 0) > 0 for key in ("expire", "max_rows")),
            )
        return cache


class _Running:
    session: Session | None = None


_running = _Running()


def settings_now() -> dict[str, Any]:
    """The settings that a session is made by.

    Raises:
        ContextError: as `as_workers`.
    """
    held = {"wal_dir": context.place("wal_dir") or None, "resets": context.ps_resets()}
    settings = dict(context._ps) | held
    return settings | as_workers(settings)


def session_for(settings: dict[str, Any]) -> Session:
    """The session that settings ask for; one under other settings is ended."""
    session = _running.session
    if session is None or session.settings != settings:
        end()
        session = _running.session = Session(connect(settings), settings)
        report.sources["servers"] = session.facts
    return session


def running() -> Session | None:
    """The session that there is under the present settings."""
    session = _running.session
    return session if session is not None and session.settings == settings_now() else None


def workers_now(settings: dict[str, Any]) -> int:
    """How many workers make up the step that comes next, as far as is known here."""
    session = _running.session
    if session is None or session.settings != settings:
        return settings["worker_num"]
    return session.workers


def session_before(settings: dict[str, Any]) -> Session | None:
    """The session, before anything was declared: None where servers can have nothing yet.

    Servers that may have values from before this process are connected to.

    Raises:
        ParameterServerError: they cannot be reached.
    """
    session = _running.session
    if session is not None and session.settings == settings:
        return session
    return session_for(settings) if others_before(settings) else None


def end() -> None:
    """End the session, with what it started."""
    session, _running.session = _running.session, None
    report.sources.pop("servers", None)
    if session is not None:
        membership.set_workers_of_servers(None)
        background.settle()  # servers may be writing
        session.client.close()


own_exit.register(end)
