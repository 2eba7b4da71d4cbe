"""Served Parameters in checkpoints.

A dense one is stored like any other, and its optimizer state is fetched from the servers. A table
is stored as its trained rows:

    NAME.ids        (rows,) Int64: their ids, sorted
    NAME.rows       (rows, *row): their values
    SLOT.NAME.rows  (rows, *row): a state of the optimizer for each
    NAME.recipe     a JSON text: the initial values of all other rows

The format does not depend on the number of servers. Loaded without servers, it becomes the full
table. In sharded checkpoints servers write it (see `served_save`) and read it (see `stored_rows`)
themselves, and there is more of it (see `specification.checkpoints`).
"""

from __future__ import annotations

import json
import weakref
from typing import Any

import numpy as np

from paramesh.errors import CheckpointError, ParameterStateError
from paramesh.initializer.structured import Constant
from paramesh.optim.optimizer import Optimizer
from paramesh.parameter import Parameter
from paramesh.providers import Loaded
from paramesh.ps.integration import session as sessions
from paramesh.ps.integration.full_tables import owned, writable
from paramesh.ps.integration.session import Session
from paramesh.ps.integration.step_synchronization import skipped_counts
from paramesh.ps.integration.stored_rows import InFile, Waiting, WaitingInFile
from paramesh.ps.server.update_rules import make_update_rule
from paramesh.ps.specification.checkpoints import LIFE
from paramesh.ps.specification.id_range import inside, is_unbounded
from paramesh.ps.specification.initial_values import initial_values_of, recipe_of
from paramesh.ps.specification.specs import is_table, spec_of
from paramesh.sampling.recipe import Recipe
from paramesh.state import trained
from paramesh.state.weak_members import members
from paramesh.tensor.base import Tensor

Array = np.ndarray[Any, Any]


#: By table, what was loaded and no server has yet.
waiting: weakref.WeakKeyDictionary[Parameter, Waiting | WaitingInFile] = weakref.WeakKeyDictionary()


def state_of(name: str, param: Parameter) -> tuple[str, Parameter] | None:
    """(slot, trained Parameter) of a Parameter that is an optimizer's state for a served one."""
    original = None if param._original is None else param._original()
    if original is None or not original.is_param_ps or not name.endswith(f".{original.name}"):
        return None
    return name[: -len(original.name) - 1], original


def on_servers(param: Parameter, session: Session) -> bool:
    """Whether the servers have a served Parameter, whoever declared it.

    Raises:
        ParameterServerError: as `Session.known`.
    """
    if param.name in session.specs:
        return True
    if param in waiting and not session.client.start:
        return False  # rows that were loaded; they are on the servers only if a step was made
    return bool(session.known([spec_of(param)]))


def saved(
    entries: dict[str, Any], session: Session | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """What a checkpoint has for entries of which some are served (see `Placement.saved`)."""
    dumps: dict[str, dict[str, Array]] = {}

    def dump(param: Parameter) -> dict[str, Array] | None:
        if param.name not in dumps and session is not None and on_servers(param, session):
            dumps[param.name] = session.client.dump(param.name)
        return dumps.get(param.name)

    found: dict[str, Any] = {}
    texts: dict[str, str] = {}
    counts = {} if session is None else counts_of(session)
    for name, data in entries.items():
        if not isinstance(data, Parameter):
            found[name] = data
            continue
        if data in counts:
            found[name] = Tensor(counts[data])
            continue
        state = state_of(name, data)
        table = data if state is None else state[1]
        stored = dump(table) if table.is_param_ps else None
        slot = "value" if state is None else state[0]
        if is_table(table):
            if stored is None:
                stored = _of_pending(table)
            if state is None:
                assert table.recipe is not None
                texts[f"{name}.recipe"] = json.dumps(initial_values_of(name, table.recipe))
                found[f"{name}.ids"] = Tensor(stored["ids"])
                found[f"{name}.rows"] = Tensor(stored["value"])
            elif slot in stored:
                found[f"{name}.rows"] = Tensor(stored[slot])
        elif stored is not None and slot in stored:
            # The values too: the copy here is that of a step, which may be an earlier version.
            found[name] = Tensor(stored[slot].reshape(data.shape))
        else:
            found[name] = data
    return found, texts


def counts_of(session: Session) -> dict[Parameter, Array]:
    """What optimizers of served Parameters would have counted if this worker had made all steps.

    A restarted worker without pending steps has made none, and its checkpoint is that of the
    run.
    """
    found: dict[Parameter, Array] = {}
    for optimizer in members(trained.owners):
        if not isinstance(optimizer, Optimizer):
            continue
        if any(param.is_param_ps for param in optimizer.parameters):
            found |= skipped_counts(session, optimizer)
    return found


def _of_pending(table: Parameter) -> dict[str, Array]:
    rows = waiting.get(table)
    if rows is None:
        empty = np.empty((0, *table.shape[1:]), table.dtype.np_dtype)
        return {"ids": np.empty(0, np.int64), "value": empty}
    return rows.everything()


def loaded(mine: dict[str, Any], given: dict[str, Any]) -> Loaded:
    """Tables among what is loaded (see `providers.Providers`).

    Raises:
        CheckpointError: the rows of a table do not fit the network; ParameterStateError: the
            servers train it already.
    """
    mine, given = dict(mine), dict(given)
    calls: list[Any] = []
    for name, param in list(mine.items()):
        if state_of(name, param) is not None or not isinstance(param, Parameter):
            continue
        by_rows = f"{name}.recipe" in given
        if is_table(param) and (by_rows or name in given):
            calls.append(_to_servers(name, param, mine, given))
        elif by_rows:
            _to_full(name, param, mine, given)

    def commit() -> None:
        for call in calls:
            call()

    return mine, given, commit


#: What a checkpoint has of a table besides ids and rows (see `specification.checkpoints`).
_EXTRAS = ("groups", "last", "life", *(name for name, _ in LIFE.values()))


def _taken(
    name: str, param: Parameter, given: dict[str, Any]
) -> tuple[Recipe, Waiting | WaitingInFile]:
    """The recipe and the rows of a table, taken out of what is loaded."""
    start = json.loads(given.pop(f"{name}.recipe"))
    missing = [key for key in (f"{name}.ids", f"{name}.rows") if key not in given]
    if missing:
        raise CheckpointError(f"the rows of table '{name}' are incomplete: {missing} are missing.")
    for extra in _EXTRAS:
        given.pop(f"{name}.{extra}", None)
    ids, rows = given.pop(f"{name}.ids"), given.pop(f"{name}.rows")
    recipe = recipe_of(start, param.shape)
    if isinstance(ids, InFile):
        _check_rows(name, param, rows.shape == (*ids.shape, *param.shape[1:]), rows, "it has")
        return recipe, WaitingInFile(param.name, ids, {"value": rows.name})
    ids, rows = ids.asnumpy(), rows.asnumpy()
    fits = rows.shape == (len(ids), *param.shape[1:]) and inside(ids, param.shape[0]).all()
    _check_rows(name, param, bool(fits), rows, _extent(ids))
    order = np.argsort(ids)  # a sharded checkpoint has them by virtual shard
    return recipe, Waiting(ids[order], {"value": rows[order]}, order)


def _check_rows(name: str, param: Parameter, fits: bool, rows: Array | InFile, extent: str) -> None:
    if not fits or rows.dtype != param.dtype.np_dtype:
        raise CheckpointError(
            f"the rows of table '{name}' do not fit: it is {param.dtype}{list(param.shape)}, the "
            f"file has {rows.dtype}{list(rows.shape)} for ids {extent}."
        )


def _extent(ids: Array) -> str:
    return f"from {ids.min()} to {ids.max()}" if len(ids) else "(none)"


def _to_servers(name: str, param: Parameter, mine: dict[str, Any], given: dict[str, Any]) -> Any:
    session = sessions.running()
    if session is not None and name in session.specs:
        raise ParameterStateError(
            f"Parameter '{name}' is already being trained on the parameter server; load before "
            f"the first step, or stop the servers first: context.reset_ps_context()."
        )
    del mine[name]
    recipe = param.recipe
    if f"{name}.recipe" in given:
        recipe, rows = _taken(name, param, given)
    else:
        full = given.pop(name).asnumpy()
        if full.shape != param.shape:
            raise CheckpointError(
                f"table '{name}' has shape {list(param.shape)}, but the value has shape "
                f"{list(full.shape)}."
            )
        rows = Waiting(np.arange(len(full)), {"value": full.astype(param.dtype.np_dtype)})
    for key, state in list(mine.items()):
        found = state_of(key, state)
        if found is None or found[1] is not param:
            continue
        del mine[key]
        rows.add(found[0], given.pop(f"{key}.rows", given.pop(key, None)))

    def call() -> None:
        assert recipe is not None
        param._declare(recipe)
        waiting[param] = rows

    return call


def _to_full(name: str, param: Parameter, mine: dict[str, Any], given: dict[str, Any]) -> None:
    recipe, rows = _taken(name, param, given)
    if is_unbounded(param.shape[0]):
        raise ParameterStateError(
            f"table '{name}' has a row for any id, so it has to live on the parameter server: call "
            f"context.set_ps_context(enable_ps=True) and set_param_ps(init_in_server=True) before "
            f"loading."
        )
    states = {
        key: (key.removesuffix(f".{name}"), state)
        for key, state in mine.items()
        if key.endswith(f".{name}") and f"{key}.rows" in given
    }
    for key, (slot, _) in states.items():
        rows.add(slot, given.pop(f"{key}.rows"))
    full = {"value": writable(name, recipe)}
    full |= {
        slot: writable(key, state.recipe if state.has_init else None, state)
        for key, (slot, state) in states.items()
    }
    for part in rows.parts():
        for field, values in full.items():
            values[part["ids"]] = part[field]
    given[name] = owned(name, full.pop("value"))
    for key, (slot, _) in states.items():
        given[key] = owned(key, full.pop(slot))


def hand_over(param: Parameter, session: Session, states: dict[str, Parameter]) -> None:
    """Give the servers what was loaded for a Parameter that was just declared.

    Args:
        param: the Parameter.
        session: the connection.
        states: of a dense one, the optimizer's state on this worker by slot; what has values is
            handed over, and weightless again.
    """
    rows = waiting.get(param)
    if isinstance(rows, WaitingInFile):
        session.client.load(rows.order(session.client.partition.shards))
    elif rows is not None:
        session.client.put(param.name, rows.fields, rows.ids)
    waiting.pop(param, None)
    if is_table(param):
        return
    fields = {slot: state.asnumpy() for slot, state in states.items() if not state.has_init}
    if not fields:
        return
    session.client.put(param.name, fields, None)
    slots = make_update_rule(param.name, session.specs[param.name]["optimizer"]).slots
    for slot in fields:
        first = Recipe(Constant(slots[slot]), (0, 0), param.shape, param.dtype)
        states[slot]._declare(first)


def overlay(table: Parameter, ids: Array, values: Array) -> Array:
    """Rows from the recipe, with those that were loaded and that no server has yet."""
    rows = waiting.get(table)
    if rows is not None:
        hit, found = rows.find(ids)
        values[hit] = found
    return values
