"""Programs over Parameters that live on servers: their updates, and the steps of a worker.

Glossary
    handed out  an implicit output of a program: a gradient to push, or the numbers of the push

A program that updates served Parameters outputs their gradients and leaves the update to the
servers: the optimizer's state of a served Parameter exists only there. After the program has run,
the gradients are pushed, and the copies get the values of the next step. Where the values are is in
`served_values`, and how a program looks up rows in `served_lookups`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from paramesh.errors import ContextError, ParameterStateError
from paramesh.parameter import Parameter
from paramesh.ps.client.row_gradients import to_push
from paramesh.ps.client.row_ids import checked, id_counts, marked
from paramesh.ps.integration import checkpointing
from paramesh.ps.integration import session as sessions
from paramesh.ps.integration.implicit_values import Gradient, Hyper, Rows
from paramesh.ps.integration.optimizers import (
    check_optimizer,
    numbers,
    prepared,
    states_of,
    update_rule_spec,
)
from paramesh.ps.integration.served_lookups import ServedLookups
from paramesh.ps.integration.served_save import served_save
from paramesh.ps.integration.served_values import Array
from paramesh.ps.integration.step_synchronization import catch_up
from paramesh.ps.specification.specs import is_table, spec_of
from paramesh.state import storage, tracing
from paramesh.state.placement import ImplicitValue


class Served(ServedLookups):
    """Parameters on servers, the others as another placement has them.

    Args:
        inner: the other placement.
        settings: of the parameter server.
    """

    pools = True

    #: Of how many devices the values of a hidden state that each has its own of are joined.
    parts = 1

    #: Whether the hot rows of tables can stay on the device (`vocab_cache_size`).
    caches_rows = True

    def check_optimizer(self, optimizer: Any) -> None:
        """Raise OptimizerError if the servers do not have the optimizer."""
        check_optimizer(optimizer, [p for p in optimizer._parameters if p.is_param_ps])

    def check_conditional(self, params: Sequence[Any]) -> None:
        """Raise ContextError: what was pushed cannot be taken back."""
        for param in params:
            if param.is_param_ps:
                raise ContextError(
                    f"Parameter '{param.name}' lives on the parameter server, where an update "
                    f"cannot be made conditional: dynamic loss scaling does not work with it. "
                    f"Use a fixed loss scale: FixedLossScaleManager with "
                    f"drop_overflow_update=False."
                )

    def check_accumulated(self, params: Sequence[Any]) -> None:
        """Raise ContextError for a table: a program knows its rows only as a whole."""
        for param in params:
            if is_table(param):
                raise ContextError(
                    f"Parameter '{param.name}' is a table on the parameter server, whose rows are "
                    "looked up once for the full batch: grad_accumulation_step must be 1. Use "
                    "smaller batches."
                )

    def updated_elsewhere(self, optimizer: Any, grads: Sequence[Any]) -> frozenset[int]:
        """The served Parameters; their gradients are handed out, or pushed outside of programs."""
        params = optimizer._parameters
        indices = [i for i, param in enumerate(params) if param.is_param_ps]
        if not indices:
            return frozenset()
        for i in indices:
            if not params[i].requires_grad:
                raise ContextError(
                    f"Parameter '{params[i].name}' was frozen (requires_grad=False) after "
                    f"{type(optimizer).__name__} was made, but it lives on the parameter server, "
                    "which trains it. Create the optimizer again from trainable_params()."
                )
        if tracing.current() is None:
            catch_up(self.session, optimizer)
        handed: list[ImplicitValue] = []
        for i in indices:
            known = self._trace.sums.parts_of(grads[i])
            given = self.changed(params[i], grads[i]) if known is None else known
            grad = prepared(optimizer, i, given, self.divisor)
            gradient = Gradient(params[i], grad.shape, grad.dtype)
            gradient.spec = spec_of(params[i]) | {"optimizer": update_rule_spec(optimizer, i)}
            gradient.states = states_of(optimizer, i)
            if is_table(params[i]):
                gradient.rows, gradient.summed = self._looked_up(params[i]), known is None
            handed.append(gradient)
            tracing.write(gradient, grad)
        names, values = numbers(optimizer, indices)
        hyper = Hyper(names, optimizer)
        tracing.write(hyper, values)
        if tracing.current() is None:
            self.before_step(handed, dict)
            self.after_step([*handed, hyper])
        return frozenset(indices)

    def changed(self, param: Parameter, given: object) -> Any:
        """What is pushed of a gradient that was changed after it was computed."""
        return given

    # Steps.

    def before_step(
        self, implicit: Sequence[Any], compute_keys: Callable[[], dict[Any, Any]]
    ) -> None:
        """Declare what the program will push, and pull the rows that it looks up."""
        gradients = [state for state in implicit if isinstance(state, Gradient)]
        self._check_owners(gradients)
        if any(self.session.specs.get(g.param.name) != g.spec for g in gradients):
            self._declare(gradients)
        for state in implicit:
            optimizer = state.optimizer() if isinstance(state, Hyper) else None
            if optimizer is not None:
                catch_up(self.session, optimizer)
        rows = [state for state in implicit if isinstance(state, Rows)]
        if not rows:
            return
        step_rows = self.session.rows
        if gradients:
            step_rows.begin()
        known = {state: self.out(array) for state, array in compute_keys().items()}
        for key, value in known.items():
            key.check(value)
        by_table = _by_table(rows)
        for state in rows:
            state.ids = checked(state.table, known[state.wanted], state.padding)
        lookups = {table: [state.ids for state in mine] for table, mine in by_table.items()}
        found = step_rows.fetched(lookups, self._rows_of, self.rows_in, self.caches_rows)
        for state, values in zip(
            [state for mine in by_table.values() for state in mine], found, strict=True
        ):
            state._store(values)

    def prefetch(self, implicit: Sequence[Any], compute_keys: Callable[[], dict[Any, Any]]) -> None:
        """Note which rows the following step will look up."""
        session = sessions.running()
        rows = [state for state in implicit if isinstance(state, Rows)]
        if session is None or not rows or not self.prefetches:
            return

        def lookups() -> dict[Parameter, list[Array]]:
            known = {state: self.out(array) for state, array in compute_keys().items()}
            return {
                table: [marked(known[state.wanted], state.padding) for state in mine]
                for table, mine in _by_table(rows).items()
            }

        session.rows.announcing(lookups)

    @property
    def prefetches(self) -> bool:
        """Whether rows of an announced batch come earlier than others."""
        session = sessions.running()
        if session is None:
            return False
        return session.remote or (self.caches_rows and bool(session.caches))

    def counts(self, param: Any) -> dict[str, Any]:
        """How many rows of a table this worker has pulled, and what became of those it cached."""
        session = sessions.running()
        if session is None:
            return {}
        found: dict[str, Any] = {"rows_pulled": session.pulled.get(param.name, 0)}
        found |= dataclasses.asdict(id_counts(param))
        cache = session.caches.get(param.name)
        return found if cache is None else found | cache.counts.as_dict()

    def row_report(self, param: Any) -> dict[str, Any]:
        """What the servers say of the rows of a table (see `row_life.RowLife.report`), together."""
        session = sessions.running()
        if session is None or not is_table(param) or not param.row_life:
            return {}
        parts = [
            one["life"][param.name] for one in session.client.stats() if param.name in one["life"]
        ]
        if not parts:
            return {}
        found: dict[str, Any] = {}
        for key, value in parts[0].items():
            if isinstance(value, int):
                found[key] = sum(part[key] for part in parts)
            else:
                found[key] = sorted(tuple(event) for part in parts for event in part[key])
        return found

    def items(self, param: Any, block: int) -> Iterator[tuple[Array, Array]]:
        """The trained rows of a table, in blocks; the loaded ones if none was trained yet."""
        if not is_table(param):
            yield from super().items(param, block)
            return
        session = sessions.session_before(self.settings)
        if session is not None and checkpointing.on_servers(param, session):
            yield from session.client.items(param.name, block)
            return
        rows = checkpointing.waiting.get(param)
        if rows is not None:
            yield from rows.blocks(block)

    def _declare(self, gradients: list[Gradient]) -> None:
        dense = {g.param.name: g.param for g in gradients if not is_table(g.param)}
        values = {name: self.out(param._concrete()) for name, param in dense.items()}
        fresh = set(self.session.declare([g.spec for g in gradients], values))
        for gradient in gradients:
            # What was loaded is on the servers already if a step was made.
            if gradient.param.name in fresh and not self.session.client.start:
                checkpointing.hand_over(gradient.param, self.session, gradient.states)
        self._take_over(self.session.pull(sorted(fresh & dense.keys())), dense)

    def saved(self, entries: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """What a checkpoint has for these entries: what is served, from the servers."""
        return checkpointing.saved(entries, sessions.session_before(self.settings))

    def saved_apart(
        self, entries: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, str], Any | None]:
        """As `saved`; servers write what they have."""
        session = sessions.session_before(self.settings)
        return served_save(session, entries, jax.process_index() == 0)

    def after_step(self, written: Sequence[Any]) -> None:
        """Push what was handed out; the copies become those of the next step."""
        gradients = [state for state in written if isinstance(state, Gradient)]
        if not gradients:
            return
        session = self.session
        session.rows.ask_ahead(lambda table: checkpointing.on_servers(table, session))
        updates: dict[str, dict[str, Array]] = {}
        for gradient in gradients:
            grad = self.out(gradient.value)
            gradient._store(None)
            if is_table(gradient.param):
                updates[gradient.param.name] = self._to_push(gradient, grad)
            else:
                updates[gradient.param.name] = {"grad": grad}
        hyper: dict[str, float] = {}
        for state in written:
            if isinstance(state, Hyper):
                hyper |= zip(state.names, self.out(state.value).tolist(), strict=True)
        self._take_over(session.step(updates, hyper), session.owners)
        session.rows.end()

    def _to_push(self, gradient: Gradient, grad: Array) -> dict[str, Array]:
        lookups = [rows.ids for rows in gradient.rows]
        known = None
        if self.parts == 1:
            known = self.session.rows.distinct_of(gradient.param, lookups)
        # Of each device all lookups: as the gradients are joined.
        ids = np.concatenate([one.reshape(self.parts, -1) for one in lookups], axis=1).reshape(-1)
        return to_push(ids, grad, gradient.param.shape[0], gradient.summed, known)

    def _check_owners(self, gradients: list[Gradient]) -> None:
        session = self.session
        for gradient in gradients:
            name, param = gradient.param.name, gradient.param
            if session.owners.setdefault(name, param) is not param:
                raise ParameterStateError(
                    f"another Parameter named '{name}' already lives on the parameter server. "
                    f"Rename this one, or stop the servers first: context.reset_ps_context()."
                )
            if session.copies.get(name, param._value) is not param._value:
                raise ParameterStateError(
                    f"Parameter '{name}' lives on the parameter server but its value on this "
                    f"worker was changed after its first step. Set (or load) it before the first "
                    f"step."
                )

    def _take_over(self, values: dict[str, Array], params: dict[str, Parameter]) -> None:
        """The servers' values become those of this worker: all of them, or none."""
        taken = [(params[name], self.copy_in(array)) for name, array in values.items()]
        if taken:
            storage.unite([param for param, _ in taken])
            storage.inside(taken[0][0], self._copied, taken)

    def _copied(self, taken: list[tuple[Parameter, Any]]) -> None:
        for param, _ in taken:
            storage.check_free(param)
        copies = self.session.copies | {param.name: array for param, array in taken}
        changes = [(param, "_contents", array) for param, array in taken]
        storage.commit([*changes, (self.session, "copies", copies)])


def _by_table(rows: Sequence[Rows]) -> dict[Parameter, list[Rows]]:
    """Lookups by their tables, in their order."""
    found: dict[Parameter, list[Rows]] = {}
    for one in rows:
        found.setdefault(one.table, []).append(one)
    return {table: sorted(mine, key=lambda one: one.number) for table, mine in found.items()}
