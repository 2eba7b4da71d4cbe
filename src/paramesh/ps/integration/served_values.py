"""Where the values of served Parameters are, and how they pass between programs and a worker.

Glossary
    served      a Parameter with `set_param_ps`, while the setting `enable_ps` is on
    table       a served Parameter with `init_in_server`: no worker has all of it
    copy        the values on this worker of a served Parameter that is not a table, at its step
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from paramesh._compat.jax import eval_context
from paramesh.dtype import x64
from paramesh.errors import ParameterStateError
from paramesh.parameter import Parameter
from paramesh.ps.integration import session as sessions
from paramesh.ps.integration.session import Session
from paramesh.ps.specification.specs import is_table, spec_of
from paramesh.sampling.recipe import Recipe
from paramesh.state.placement import Placement

Array = np.ndarray[Any, Any]


class ServedValues(Placement):
    """The part of `Served` that is about values.

    Args:
        inner: the other placement.
        settings: of the parameter server.
    """

    def __init__(self, inner: Placement, settings: dict[str, Any]) -> None:
        self.inner = inner
        self.settings = settings

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

    def rows_in(self, rows: Array) -> Any:
        """What a program takes in of rows."""
        return on_device(rows)

    def copy_in(self, values: Array) -> Any:
        """What a program takes in of the values of a dense Parameter."""
        return on_device(values)

    def out(self, array: jax.Array) -> Array:
        """This worker's slice of what a program gave out."""
        return np.asarray(array)

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


def on_device(array: Array) -> Any:
    """A copy of an array on this worker's device."""
    with eval_context(), x64(array.dtype):
        return jax.device_put(array, may_alias=False)
