"""Served Parameters beside data parallelism: some are updated on servers, the others by all-reduce.

Glossary
    process     one worker of the servers, whatever number of devices it has
    served      as in `placement`; all other Parameters are as in `parallel.data_parallel`

A step is one program over all devices of all processes. In it the gradients of the others are
summed over all devices. Those of served Parameters are summed over the devices of this process
alone and handed out; each process pushes its part, and the servers add the parts up in the order of
the processes. If somebody looks at one before the optimizer does (clips it, say), it is summed over
all devices first, and what becomes of it is pushed in equal or disjoint parts. So where a Parameter
lives does not change its gradient: it is the sum over all devices (the mean with `gradients_mean`),
in either place.

A table's rows are an input of which every device has its own shard: those that its shard of the
batch looks up. A process pulls the rows of all its devices together, each once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from paramesh._compat.jax import eval_context
from paramesh.dtype import x64
from paramesh.errors import ContextError, ProgramNeededError
from paramesh.parallel.modes import meeting
from paramesh.parallel.modes.data_parallel import DataParallel
from paramesh.parallel.modes.meeting import DEVICES
from paramesh.parallel.modes.semi_auto import SemiAuto
from paramesh.parameter import Parameter
from paramesh.ps.integration import session as sessions
from paramesh.ps.integration.placement import Served
from paramesh.ps.specification.specs import is_table
from paramesh.state.placement import Participants, Placement
from paramesh.state.protocols import State

Array = np.ndarray[Any, Any]


class Hybrid(Served):
    """Served Parameters on servers, the others on every device.

    Args:
        inner: of all devices.
        settings: of the parameter server.
    """

    per_device = True

    #: A cache is one device's: here the rows go to each where its shard of the batch is.
    caches_rows = False

    def __init__(self, inner: DataParallel, settings: dict[str, Any]) -> None:
        super().__init__(inner, settings)
        self.inner: DataParallel = inner
        self.devices = inner.devices
        self.count = inner.count
        self.parts = inner.local
        self.division = inner.division
        #: The served Parameters whose gradients the running trace has added up.
        self._reduced: set[Parameter] = set()

    # What passes between programs and this process's memory.

    def rows_in(self, rows: Array) -> Any:
        """The rows of this process's devices, each where it belongs."""
        with eval_context(), x64(rows.dtype):
            return self.inner.joined_shards(rows)

    def copy_in(self, values: Array) -> Any:
        """The same values on every device."""
        with eval_context(), x64(values.dtype):
            return self.inner.to_all(values)

    def out(self, array: jax.Array) -> Array:
        """The shards of this process's devices, joined."""
        return self.inner.at_hand(array)

    # Where Parameters live.

    def adopt(self, params: Sequence[Any]) -> None:
        """As in data_parallel.

        Raises:
            ContextError: a served Parameter with a value on each device; as in data_parallel.
        """
        for param in params:
            if isinstance(param, Parameter) and param.is_param_ps and param.layerwise_parallel:
                raise ContextError(
                    f"Parameter '{param.name}' has layerwise_parallel=True, a value of its own on "
                    "each device, and set_param_ps, one value on the servers. Remove one of the "
                    "two."
                )
        self.inner.adopt(params)
        self.take_trained(params)

    def is_placed(self, states: Sequence[Any], arrays: Sequence[Any]) -> bool:
        """As in data_parallel."""
        return self.inner.is_placed(states, arrays)

    def reshard(self, states: Sequence[Any], arrays: list[Any]) -> None:
        """Copy to all devices what is not there."""
        self.inner.reshard(states, arrays)

    def shape(self, state: State) -> tuple[int, ...]:
        """The shape of the array over all devices."""
        return self.inner.shape(state)

    def divide(self, params: Sequence[Any]) -> Any:
        """As in data_parallel; the servers have the state of served Parameters."""
        if any(param.is_param_ps for param in params):
            return None
        return self.inner.divide(params)

    # Programs.

    def place_inputs(self, leaves: list[Any]) -> list[Any]:
        """As in data_parallel."""
        return self.inner.place_inputs(leaves)

    def constant(self, scalar: object) -> Any:
        """As in data_parallel."""
        return self.inner.constant(scalar)

    def outputs(self, arrays: list[Any]) -> list[Any]:
        """As in data_parallel."""
        return self.inner.outputs(arrays)

    def participants(self, group: str, operator: str) -> Participants:
        """As in data_parallel."""
        return self.inner.participants(group, operator)

    @property
    def meets(self) -> bool:
        """As in data_parallel."""
        return self.inner.meets

    def meet(
        self,
        operator: str,
        key: Hashable,
        compute: Callable[..., Sequence[Any]],
        arrays: Sequence[Any],
    ) -> list[Any]:
        """As in data_parallel."""
        return self.inner.meet(operator, key, compute, arrays)

    def seen(self, array: jax.Array) -> Any:
        """As in data_parallel."""
        return self.inner.seen(array)

    def before_eager(self, params: Callable[[], Iterable[Any]]) -> None:
        """As in data_parallel; served Parameters have the values of the servers."""
        self.inner.before_eager(lambda: [p for p in params() if not p.is_param_ps])

    def enclose(
        self,
        body: Callable[..., Any],
        states: Sequence[Any],
        written: Callable[[], Sequence[Any]],
    ) -> Callable[..., Any]:
        """Run the body on every device, with the lookups that it makes counted."""
        self._reduced = set()
        return self.inner.enclose(super().enclose(body, states, written), states, written)

    # Gradients.

    @property
    def divisor(self) -> int:
        """1: `reduce_gradients` has made a mean where one is wanted."""
        return 1

    def reduce_gradients(
        self,
        params: Sequence[Any],
        grads: Sequence[Any],
        mean: bool | None = None,
        degree: int | None = None,
    ) -> list[Any]:
        """The sums (or means) over all devices; of served Parameters a part will be pushed.

        Raises:
            ProgramNeededError: outside of programs, if some are served: what each device looked
                up and what is pushed is known of a program alone.
        """
        served_one = next((param for param in params if param.is_param_ps), None)
        if served_one is not None and not meeting.inside():
            raise ProgramNeededError(
                f"Parameter '{served_one.name}' lives on the parameter server, and with "
                f"{self.inner.mode} its gradient is reduced in compiled programs alone. Put the "
                "step under paramesh.jit, or use graph mode: "
                "paramesh.set_context(mode=paramesh.GRAPH_MODE)."
            )
        results = list(grads)
        table = [i for i, param in enumerate(params) if param.is_param_ps and is_table(param)]
        served = [i for i, param in enumerate(params) if param.is_param_ps and i not in table]
        others = [i for i, param in enumerate(params) if not param.is_param_ps]
        full = self.inner.reduce_gradients(
            [params[i] for i in others], [grads[i] for i in others], mean, degree
        )
        for i, value in zip(others, full, strict=True):
            results[i] = value
        self._reduce_dense([params[i] for i in served], served, results, mean, degree)
        factor = self.inner.factor(mean, degree)
        for i in table:
            ids = self.ids_so_far(params[i])
            results[i] = self._trace.sums.over_devices(
                ids, grads[i], params[i].shape[0], factor, DEVICES
            )
        self._reduced.update(params[i] for i in (*table, *served))
        return results

    def _reduce_dense(
        self,
        params: Sequence[Any],
        at: list[int],
        results: list[Any],
        mean: bool | None,
        degree: int | None,
    ) -> None:
        mine = self.inner.reduce_here([results[i] for i in at], mean, degree)
        if self.parts == self.count:
            for i, value in zip(at, mine, strict=True):
                results[i] = value
            return
        # Of several processes each pushes its part, unless somebody looks at the sum.
        full = self.inner.reduce_gradients(params, [results[i] for i in at], mean, degree)
        for i, value, part in zip(at, full, mine, strict=True):
            self._trace.sums.know(value, part)
            results[i] = value

    def changed(self, param: Any, given: Any) -> Any:
        """This device's places of a table's gradient; of a dense one this process's share."""
        if is_table(param):
            size = given.shape[0] // self.count
            return jax.lax.dynamic_slice_in_dim(given, jax.lax.axis_index(DEVICES) * size, size)
        processes = self.count // self.parts
        return given if processes == 1 else given / processes

    def gradient_shape(self, param: Any, given: tuple[int, ...]) -> tuple[int, ...]:
        """As in `Served`; a reduced gradient by a table has the places of all devices."""
        shape = super().gradient_shape(param, given)
        if not is_table(param) or param not in self._reduced or self.lacks_rows(param):
            return shape
        return (shape[0] * self.count, *shape[1:])

    def updated_elsewhere(self, optimizer: Any, grads: Sequence[Any]) -> frozenset[int]:
        """As in `Served`.

        Raises:
            ContextError: gradients by served Parameters of one device alone.
        """
        for param in optimizer._parameters:
            if param.is_param_ps and param not in self._reduced:
                raise ContextError(
                    f"Parameter '{param.name}' lives on the parameter server, and its gradient "
                    f"is not reduced over the devices yet. Pass {type(optimizer).__name__} the "
                    f"result of nn.DistributedGradReducer; TrainOneStepCell does this "
                    f"automatically."
                )
        return super().updated_elsewhere(optimizer, grads)


def placement_around(place: Placement) -> Placement:
    """The placement of a mode, with served Parameters on servers.

    Raises:
        ContextError: the mode has no room for served Parameters.
    """
    settings = sessions.settings_now()
    if isinstance(place, SemiAuto) and place.count == 1:
        # On one device there is nothing to shard; MindSpore's example of servers sets this mode.
        place = Placement()
    if place.key == Placement.key:
        return Served(place, settings)
    if not isinstance(place, DataParallel):
        raise ContextError(
            f"enable_ps=True and parallel_mode='{place.key[0]}' cannot be used together: Parameters"
            " on servers are replicated to every worker, and this mode shards Parameters. Use "
            "'data_parallel' (or 'hybrid_parallel') beside servers, or enable_ps=False, or "
            "device_num=1."
        )
    return Hybrid(place, settings)
