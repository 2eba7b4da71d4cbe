"""Lookups in tables on servers, and gradients by their rows, within programs.

Glossary
    rows        the rows of a table that a program looks up, an implicit input of it

The rows that a program looks up must be present when it starts. While it is traced, every lookup
records its indices as a prefetch key: the part of the program that computes them runs first, the
rows are pulled, and then the program runs. The gradient by a table has one row for each index that
was looked up (see `row_gradients`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from paramesh.errors import ContextError, ProgramNeededError
from paramesh.parameter import Parameter
from paramesh.ps.client.lookups import distinct, gathered
from paramesh.ps.client.row_gradients import Sums
from paramesh.ps.client.row_ids import check_integers, checked
from paramesh.ps.integration import checkpointing
from paramesh.ps.integration import session as sessions
from paramesh.ps.integration.implicit_values import Rows
from paramesh.ps.integration.served_values import Array, ServedValues, on_device
from paramesh.ps.specification.initial_values import rows_of_many
from paramesh.ps.specification.specs import is_table, table_initial_values
from paramesh.state import tracing
from paramesh.state.placement import Placement, PrefetchKey


class Trace(threading.local):
    """What the running trace has met."""

    lookups: dict[Parameter, int] | None = None
    #: Those that are inputs, and those of the lookups that it made. A trace in which one of the
    #: latter is not an input is made again.
    rows: tuple[Rows, ...] = ()
    met: tuple[Rows, ...] = ()
    sums: Sums = Sums()


class ServedLookups(ServedValues):
    """The part of `Served` that is about lookups."""

    def __init__(self, inner: Placement, settings: dict[str, Any]) -> None:
        super().__init__(inner, settings)
        self._trace = Trace()
        self._rows: dict[Any, Rows] = {}

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
            return on_device(rows.reshape(*np.shape(ids), *table.shape[1:]))
        number = lookups.get(table, 0)
        lookups[table] = number + 1
        key = (table, number, ids.size, np.dtype(ids.dtype), padding)
        rows = self._rows.get(key)
        if rows is None:
            rows = self._rows[key] = Rows(table, number, ids.size, ids.dtype, padding)
        self._trace.met += (rows,)
        tracing.write(rows.wanted, ids.reshape(-1))
        return tracing.read(rows).reshape(*ids.shape, *rows.shape[1:])

    def require(self, table: object, key: PrefetchKey, value: object) -> bool:
        """As in `Placement`; of tables on the servers, whose ids are known then."""
        if not (isinstance(table, Parameter) and is_table(table)) or self._trace.lookups is None:
            return False
        tracing.write(key, value)
        return True

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

    #: A Cell that computes a gradient by a table runs as one.
    needs_programs = True

    def variables(self, params: Sequence[Any]) -> Any:
        """Rows in place of tables; the gradient by a table has a row for each index looked up.

        Raises:
            ProgramNeededError: outside of programs.
        """
        of_table = {param: self._looked_up(param) for param in params if is_table(param)}
        if not of_table:
            return super().variables(params)
        if self._trace.lookups is None:
            raise ProgramNeededError(
                f"Parameter '{next(iter(of_table)).name}' lives on the parameter server: its "
                "gradient can be computed in compiled programs only. Put the step under "
                "paramesh.jit, or use graph mode: "
                "paramesh.set_context(mode=paramesh.GRAPH_MODE)."
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

    def _looked_up(self, table: Parameter) -> list[Rows]:
        mine = [rows for rows in self._trace.rows if rows.table is table]
        return sorted(mine, key=lambda rows: rows.number)


def _initial_rows(table: Parameter, ids: Array) -> Array:
    """Rows of a table that no server has: those of the recipe, or those that were loaded."""
    width = math.prod(table.shape[1:])
    (values,) = rows_of_many([(table_initial_values(table), ids, width, table.shape[0])])
    return checkpointing.overlay(table, ids, values.reshape(len(ids), *table.shape[1:]))
