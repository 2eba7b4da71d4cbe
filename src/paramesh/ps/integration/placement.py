"""Programs over Parameters that live on servers.

Glossary
    served      a Parameter with `set_param_ps`, while the setting `enable_ps` is on
    table       a served Parameter with `init_in_server`: no worker has all of it
    copy        the values on this worker of a served Parameter that is not a table, at its step
    rows        the rows of a table that a program looks up, an implicit input of it
    handed out  an implicit output of a program: a gradient to push, or the numbers of the push

A program that updates served Parameters outputs their gradients and leaves the update to the
servers: the optimizer's state of a served Parameter exists only there. After the program has run,
the gradients are pushed, and the copies get the values of the next step.

The rows that a program looks up must be present when it starts. While it is traced, every lookup
records its indices as a prefetch key: the part of the program that computes them runs first, the
rows are pulled, and then the program runs. The gradient by a table has one row for each index that
was looked up (see `row_gradients`).
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from paramesh._compat.jax import eval_context
from paramesh.dtype import x64
from paramesh.errors import ContextError, ParameterStateError
from paramesh.parameter import Parameter
from paramesh.ps.client.lookups import distinct, gathered
from paramesh.ps.client.row_gradients import Sums, to_push
from paramesh.ps.client.row_ids import check_integers, checked, id_counts, marked
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
from paramesh.ps.integration.served_save import served_save
from paramesh.ps.integration.session import Session
from paramesh.ps.integration.step_synchronization import catch_up
from paramesh.ps.specification.initial_values import rows_of_many
from paramesh.ps.specification.specs import is_table, spec_of, table_initial_values
from paramesh.sampling.recipe import Recipe
from paramesh.state import storage, tracing
from paramesh.state.placement import ImplicitValue, Placement

Array = np.ndarray[Any, Any]


class _Trace(threading.local):
    """What the running trace has met."""

    lookups: dict[Parameter, int] | None = None
    #: Those that are inputs, and those of the lookups that it made. A trace in which one of the
    #: latter is not an input is made again.
    rows: tuple[Rows, ...] = ()
    met: tuple[Rows, ...] = ()
    sums: Sums = Sums()


class Served(Placement):
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

    def __init__(self, inner: Placement, settings: dict[str, Any]) -> None:
        self.inner = inner
        self.settings = settings
        self._trace = _Trace()
        self._rows: dict[Any, Rows] = {}

    @property
    def key(self) -> tuple[Any, ...]:
        """What programs are made for: another number of workers is another share of the mean."""
        return ("served", self.divisor, *self.inner.key)

    @property
    def session(self) -> Session:
        """The connection to the servers; started when it is first asked for."""
        return sessions.session_for(self.settings)

    @property
    def divisor(self) -> int:
        """What a gradient is divided by before it is pushed; the servers add up all workers'."""
        return sessions.workers_now(self.settings)

    # How values pass between programs and this worker's memory.

    def rows_in(self, rows: Array) -> Any:
        """What a program takes in of rows."""
        return _on_device(rows)

    def copy_in(self, values: Array) -> Any:
        """What a program takes in of the values of a dense Parameter."""
        return _on_device(values)

    def out(self, array: jax.Array) -> Array:
        """This worker's slice of what a program gave out."""
        return np.asarray(array)

    # Where Parameters live.

    def adopt(self, params: Sequence[Any]) -> None:
        """As without servers; those that servers have already get their values."""
        super().adopt(params)
        self.take_trained(params)

    def take_trained(self, params: Sequence[Any]) -> None:
        """Give dense Parameters the values that servers have and this worker has never had."""
        for param, array in self._trained(params).items():
            param._store(self.copy_in(array))

    def materialise(self, params: Sequence[Any], recipes: Sequence[Recipe]) -> list[Any]:
        """The first arrays of Parameters, from servers that have them; there are none of tables.

        Raises:
            ParameterStateError: one of them is a table.
        """
        self.check_dense(params)
        trained = self._trained(params)
        others = [(p, r) for p, r in zip(params, recipes, strict=True) if p not in trained]
        made = iter(self.inner.materialise([p for p, _ in others], [r for _, r in others]))
        return [self.copy_in(trained[p]) if p in trained else next(made) for p in params]

    def _trained(self, params: Sequence[Any]) -> dict[Parameter, Array]:
        """The values of dense Parameters that servers have and that no step here has declared."""
        dense = [p for p in params if isinstance(p, Parameter) and p.is_param_ps]
        dense = [p for p in dense if not is_table(p)]
        session = sessions.session_before(self.settings) if dense else None
        if session is None:
            return {}
        # Processes that JAX has joined run the same programs: all ask, or none. Where a step was
        # made, all know it.
        if "rank" in self.settings and not session.client.start:
            return {}
        waiting = {p.name: p for p in dense if session.lacks(p)}
        names = session.known([spec_of(param) for param in waiting.values()]) if waiting else []
        values = session.pull(names) if names else {}
        session.read.update(waiting[name] for name in values)
        return {waiting[name]: array for name, array in values.items()}

    def check_dense(self, params: Sequence[Any]) -> None:
        """Raise ParameterStateError if one of these is a table."""
        for param in params:
            if isinstance(param, Parameter) and is_table(param):
                raise ParameterStateError(
                    f"Parameter '{param.name}' lives on the parameter server (init_in_server), "
                    f"and no worker has all of it. Look up rows with nn.EmbeddingLookup."
                )

    # Lookups.

    def enclose(
        self,
        body: Callable[..., Any],
        states: Sequence[Any],
        written: Callable[[], Sequence[Any]],
    ) -> Callable[..., Any]:
        """The body, with the lookups that it makes counted."""
        rows = tuple(state for state in states if isinstance(state, Rows))

        def counted(values: list[Any], leaves: list[Any], zero: jax.Array) -> Any:
            trace = self._trace
            outer = trace.lookups, trace.rows, trace.met, trace.sums
            trace.lookups, trace.rows, trace.met, trace.sums = {}, rows, (), Sums()
            try:
                return body(values, leaves, zero)
            finally:
                trace.lookups, trace.rows, trace.met, trace.sums = outer

        return counted

    def lookup(self, table: Any, ids: Any, padding: int | None = None) -> Any:
        """Rows of a table on the servers, (...) -> (..., *row); any for the index of padding.

        Raises:
            TypeError: the indices are not integers.
            ValueError: an index outside the table; in a compiled program when it is called.
            ContextError: a transform of JAX alone that looks rows up.
        """
        if not (isinstance(table, Parameter) and is_table(table)):
            return None
        check_integers(table, ids)
        lookups = self._trace.lookups
        if lookups is None:
            if isinstance(ids, jax.core.Tracer):
                raise ContextError(
                    f"Parameter '{table.name}' lives on the parameter server, and its rows are "
                    f"looked up inside a JAX transform that paramesh does not control. Use "
                    f"paramesh's own transforms (jit, grad, …) in graph mode."
                )
            flat = checked(table, np.asarray(ids).reshape(-1), padding)
            rows = self._looked_up_now({table: [flat]})[table][0]
            return _on_device(rows.reshape(*np.shape(ids), *table.shape[1:]))
        number = lookups.get(table, 0)
        lookups[table] = number + 1
        key = (table, number, ids.size, np.dtype(ids.dtype), padding)
        rows = self._rows.get(key)
        if rows is None:
            rows = self._rows[key] = Rows(table, number, ids.size, ids.dtype, padding)
        self._trace.met += (rows,)
        tracing.write(rows.wanted, ids.reshape(-1))
        return tracing.read(rows).reshape(*ids.shape, *rows.shape[1:])

    def _looked_up_now(self, lookups: dict[Parameter, list[Array]]) -> dict[Parameter, list[Array]]:
        """The rows of lookups, by table; each row is requested once, all in one request.

        Args:
            lookups: the ids of each lookup; NO_ID for padding, whose rows are zeros.
        """
        unique = distinct([(table.shape[0], ids) for table, ids in lookups.items()])
        rows = self._rows_of({t: one.ids for t, one in zip(lookups, unique, strict=True)})
        return {
            table: [gathered(rows[table], places) for places in one.places]
            for table, one in zip(lookups, unique, strict=True)
        }

    def _rows_of(self, wanted: dict[Parameter, Array]) -> dict[Parameter, Array]:
        session = sessions.session_before(self.settings)
        found: dict[Parameter, Array] = {}
        trained: dict[str, Array] = {}
        for table, ids in wanted.items():
            if session is not None and checkpointing.on_servers(table, session):
                trained[table.name] = ids
            else:
                found[table] = _initial_rows(table, ids)
        pulled = session.pull_tables(trained) if session is not None else {}
        return found | {table: pulled[table.name] for table in wanted if table.name in pulled}

    # Gradients.

    def variables(self, params: Sequence[Any]) -> Any:
        """Rows in place of tables; the gradient by a table has a row for each index looked up."""
        of_table = {param: self._looked_up(param) for param in params if is_table(param)}
        if not of_table:
            return super().variables(params)
        if self._trace.lookups is None:
            raise ContextError(
                f"Parameter '{next(iter(of_table)).name}' lives on the parameter server: its "
                f"gradient can be computed in compiled programs only. Use graph mode."
            )
        flat = [state for param in params for state in of_table.get(param, [param])]

        def joined(grads: list[Any]) -> list[Any]:
            rest = iter(grads)
            found: list[Any] = []
            for param in params:
                if param not in of_table:
                    found.append(next(rest))
                    continue
                parts = {rows: next(rest) for rows in of_table[param]}
                found.append(self._joined(param, parts))
            return found

        return flat, joined

    def _joined(self, table: Parameter, parts: dict[Rows, Any]) -> Any:
        """The gradient by a table, from those by its rows."""
        # Of rows that are not inputs yet there is no gradient: something of the right shape.
        lacking = [rows for rows in self._trace.met if rows.table is table and rows not in parts]
        zeros = [jnp.zeros(rows.shape, rows.dtype.np_dtype) for rows in lacking]
        if not parts and not zeros:
            return jnp.zeros((0, *table.shape[1:]), table.dtype.np_dtype)
        ids = [] if lacking else self.ids_so_far(table)
        return self._trace.sums.add(ids, [*parts.values(), *zeros], table.shape[0])

    def ids_so_far(self, table: Parameter) -> list[tuple[Any, int | None]]:
        """The traced ids, and that of padding, of the lookups that were made: the first ones."""
        found: list[tuple[Any, int | None]] = []
        for state in self._looked_up(table):
            frame = tracing.current()
            while frame is not None and state.wanted not in frame.written:
                frame = frame.parent
            if frame is None:
                break
            found.append((frame.values[state.wanted], state.padding))
        return found

    def gradient_shape(self, param: Any, given: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the gradient by a Parameter.

        Raises:
            ContextError: the gradient by a table from another program.
        """
        if not is_table(param):
            return param.shape
        if given[0] and not (self._trace.lookups or {}).get(param):
            raise ContextError(
                f"Parameter '{param.name}' lives on the parameter server: the program that "
                f"computes its gradient must also call the optimizer with it. Put both into one "
                f"jit function, or use TrainOneStepCell."
            )
        if self.lacks_rows(param):
            return given
        return (sum(rows.shape[0] for rows in self._looked_up(param)), *param.shape[1:])

    def lacks_rows(self, table: Parameter) -> bool:
        """Whether a lookup was made whose rows are not inputs: the trace will be made again."""
        return any(rows.table is table and rows not in self._trace.rows for rows in self._trace.met)

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

    def _looked_up(self, table: Parameter) -> list[Rows]:
        mine = [rows for rows in self._trace.rows if rows.table is table]
        return sorted(mine, key=lambda rows: rows.number)

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


def _initial_rows(table: Parameter, ids: Array) -> Array:
    """Rows of a table that no server has: those of the recipe, or those that were loaded."""
    width = math.prod(table.shape[1:])
    (values,) = rows_of_many([(table_initial_values(table), ids, width, table.shape[0])])
    return checkpointing.overlay(table, ids, values.reshape(len(ids), *table.shape[1:]))


def _by_table(rows: Sequence[Rows]) -> dict[Parameter, list[Rows]]:
    """Lookups by their tables, in their order."""
    found: dict[Parameter, list[Rows]] = {}
    for one in rows:
        found.setdefault(one.table, []).append(one)
    return {table: sorted(mine, key=lambda one: one.number) for table, mine in found.items()}


def _on_device(array: Array) -> Any:
    with eval_context(), x64(array.dtype):
        return jax.device_put(array, may_alias=False)
