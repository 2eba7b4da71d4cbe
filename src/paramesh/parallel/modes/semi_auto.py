"""semi_auto_parallel: one program over the global view, sharded over the devices by strategies.

The program text is that of one device. Operators and Cells with strategies pin how their inputs and
outputs are sharded (`jax.lax.with_sharding_constraint`), XLA finds the rest and puts in the
communication (GSPMD: Xu et al. 2021, arXiv:2105.04663). Parameters are sharded as the operators
that use them say (`parameter_layouts.py`), and none of them exists in full anywhere if it is
sharded.

A program is traced once to learn the layouts. Then Parameters that are still recipes compute their
slices in place, live ones are moved, and what a step writes is pinned to where it was read.

What crosses the border of a program:
    inputs      sharded along axis 0, replicated, or by strategies, as the settings say (see
                `program_inputs.py`)
    outputs     global values; in several processes, replicated.

auto_parallel with search_mode="sharding_propagation" is the same: no strategies are searched for,
XLA propagates those that were given. `auto.py` has the modes that search.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from paramesh import context
from paramesh._compat.jax import ClosedJaxpr
from paramesh.array_types import Array
from paramesh.errors import ContextError, LayoutError
from paramesh.parallel.layouts.layout import Layout
from paramesh.parallel.layouts.mesh import device_mesh
from paramesh.parallel.layouts.own_mesh import as_said, is_over
from paramesh.parallel.layouts.parameter_layouts import Finding, ParameterLayouts, original_of
from paramesh.parallel.layouts.program_inputs import ProgramInputs
from paramesh.parallel.layouts.strategy import layout_of
from paramesh.parallel.layouts.strategy_file import load_strategy, save_strategy
from paramesh.parallel.modes.per_device import PerDevice
from paramesh.parallel.operators.operands import name_of, replaced
from paramesh.parallel.operators.operator_layouts import (
    CallLayouts,
    layouts_of_call,
    output_layouts,
)
from paramesh.parallel.partitioning.eager import undivided
from paramesh.parallel.partitioning.rewriting import rewritten
from paramesh.parallel.partitioning.rules import (
    has_own_rule,
    has_several_meshes,
    own_partitioning,
)
from paramesh.parameter import Parameter
from paramesh.sampling.recipe import Recipe, compute_many
from paramesh.state import placement, tracing
from paramesh.state.placement import Participants, Placement
from paramesh.tensor.base import raw, wrap


class _Thread(threading.local):
    #: The findings of the running trace; None outside of programs of this mode.
    found: dict[Parameter, Finding] | None = None


class SemiAuto(Placement):
    """Parameters and values sharded by strategies, over one mesh.

    Args:
        devices: of all processes, by rank.
        mode: `semi_auto_parallel` or `auto_parallel`.

    Raises:
        FileNotFoundError, CheckpointError: the strategy file of the settings cannot be read.
    """

    pools = False

    def __init__(self, devices: Sequence[Any], mode: str) -> None:
        settings = context.get_auto_parallel_context
        self.mode = mode
        self.devices = tuple(devices)
        self.count = len(devices)
        self.mesh = device_mesh(devices)
        self.key = (mode, tuple(d.id for d in devices), placement.strategies())
        self._everywhere = NamedSharding(self.mesh, PartitionSpec())
        self._alone = all(d.process_index == jax.process_index() for d in devices)
        replicated = settings("full_batch")
        self._inputs = ProgramInputs(
            self.mesh, "full_batch" if replicated else settings("dataset_strategy")
        )
        self._save_to = context.place("strategy_ckpt_save_file")
        self._saved: Any = None
        self._met: weakref.WeakSet[Parameter] = weakref.WeakSet()
        path = context.place("strategy_ckpt_load_file")
        self._basis = (self.key, path)
        self._layouts = ParameterLayouts(
            self.count,
            settings("enable_parallel_optimizer"),
            load_strategy(path) if path else {},
            path,
            settings("parallel_optimizer_config"),
        )
        self._thread = _Thread()
        self._shardings: weakref.WeakKeyDictionary[Parameter, NamedSharding]
        self._shardings = weakref.WeakKeyDictionary()
        #: By the id of a list of states: the list, and where each of them lives.
        self._lists: dict[int, tuple[Sequence[Any], list[NamedSharding]]] = {}
        self._version: int | None = None

    # The layouts of Parameters.

    def layout_of(self, param: Parameter) -> Layout | None:
        """How a Parameter is sharded, as far as is known; None if replicated.

        Raises:
            TypeError, LayoutError: a layout that was given does not fit the devices.
        """
        finding = self._finding(param)
        if finding is not None:
            return finding.layout
        original = original_of(param)
        if original is None:
            return None
        return self._layouts.split(original, self.layout_of(original))

    def layouts(self, params: Sequence[Any]) -> list[Any]:
        """How each Parameter is sharded, as far as is known; None if replicated."""
        return [self.layout_of(param) for param in params]

    def _finding(self, param: Parameter) -> Finding | None:
        running = self._thread.found
        if running is not None and param in running:
            return running[param]
        found: Finding | None = param._found
        if found is not None and found.basis == self._basis:
            return found
        return self._layouts.said(param, self._basis)

    def sharding_of(self, param: Parameter) -> NamedSharding:
        """Where a Parameter lives."""
        if self._thread.found is not None:  # the trace may yet fail
            return self._sharding(self.layout_of(param), param.name)
        self._forget()
        sharding = self._shardings.get(param)
        if sharding is None:
            sharding = self._shardings[param] = self._sharding(self.layout_of(param), param.name)
        return sharding

    def known_sharding(self, param: Any) -> Any:
        """The sharding of a Parameter that is known to be sharded; None for others."""
        sharding = self.sharding_of(param)
        return None if sharding.is_fully_replicated else sharding

    def _forget(self) -> None:
        """Drop what is out of date."""
        if self._version != tracing.version():
            self._shardings.clear()
            self._lists.clear()
            self._version = tracing.version()

    def _sharding(self, layout: Layout | None, name: str = "") -> NamedSharding:
        return self._everywhere if layout is None else layout.sharding(self.mesh, name)

    def _use(self, param: Parameter, layout: Layout, reason: str, exact: bool) -> None:
        found = self._thread.found
        assert found is not None
        before = self._finding(param)
        finding = self._layouts.used(param, layout, reason, exact, before)
        found[param] = finding._replace(basis=self._basis)

    # Where Parameters live.

    def adopt(self, params: Sequence[Any]) -> None:
        """Take Parameters out of pools, and refuse those with one value per device."""
        for param in params:
            slot = param._slot
            per_device = slot is not None and isinstance(slot.pool, PerDevice)
            if param.layerwise_parallel or per_device:
                raise ContextError(
                    f"Parameter '{param.name}' has one value per device (layerwise_parallel), but "
                    f"{self.mode} has one global view. Use data_parallel or hybrid_parallel, or "
                    "make the Parameter without layerwise_parallel."
                )
            if slot is not None:
                slot.pool.dissolve(again=False)

    def materialise(self, params: Sequence[Any], recipes: Sequence[Recipe]) -> list[Any]:
        """Only the slices of sharded Parameters, in place; the others on one device."""
        arrays: list[Any] = [None] * len(params)
        replicated: list[int] = []
        for i, (param, recipe) in enumerate(zip(params, recipes, strict=True)):
            sharding = self.sharding_of(param)
            if sharding.is_fully_replicated:
                replicated.append(i)
            else:
                arrays[i] = recipe.compute_sharded(sharding)
                param.sliced = True
        for i, array in zip(
            replicated, compute_many([recipes[i] for i in replicated]), strict=True
        ):
            arrays[i] = array
        return arrays

    def is_placed(self, states: Sequence[Any], arrays: Sequence[Any]) -> bool:
        """Whether all of them are in their places."""
        self._forget()
        known = self._lists.get(id(states))
        if known is None or known[0] is not states:
            known = self._lists[id(states)] = (states, [self.sharding_of(s) for s in states])
        places = known[1]
        for i, array in enumerate(arrays):
            wanted, sharding = places[i], array.sharding
            if sharding is wanted or sharding == wanted:
                continue
            if not _in_place(array, wanted):
                return False
            places[i] = sharding
        return True

    def reshard(self, states: Sequence[Any], arrays: list[Any]) -> None:
        """Move to its place what is not there."""
        for i, (state, array) in enumerate(zip(states, arrays, strict=True)):
            wanted = self.sharding_of(state)
            if array.sharding.is_equivalent_to(wanted, array.ndim):
                if not is_over(array, wanted.mesh):  # a step may donate it: not the user's own
                    arrays[i] = as_said(array.copy(), wanted)
            else:
                arrays[i] = self._moved(array, wanted)
                state.sliced = not wanted.is_fully_replicated

    def _moved(self, array: Array, sharding: NamedSharding) -> Any:
        if self._alone:
            # device_put may share memory with its argument, which a step would then donate
            return jax.device_put(array.copy(), sharding)
        if len(array.sharding.device_set) == self.count:
            return jax.jit(_same, out_shardings=sharding)(array)
        value = np.asarray(array)
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    # Programs.

    def place_inputs(self, leaves: list[Any]) -> list[Any]:
        """Lay inputs out over the devices (see `program_inputs.py`).

        Raises:
            LayoutError: an input does not fit.
        """
        return self._inputs.place(leaves)

    def enclose(
        self,
        body: Callable[..., Any],
        states: Sequence[Any],
        written: Callable[[], Sequence[Any]],
    ) -> Callable[..., Any]:
        """The body itself, with what it writes pinned to where it lives."""

        def over_all(values: list[Any], leaves: list[Any], zero: Array) -> Any:
            outer = self._thread.found
            found = self._thread.found = {}
            try:
                arrays, results = body(values, leaves, zero)
                pinned = [
                    self._written(state, value)
                    for state, value in zip(written(), results, strict=True)
                ]
                if not self._alone:
                    arrays = [
                        jax.lax.with_sharding_constraint(array, self._everywhere)
                        for array in arrays
                    ]
            finally:
                self._thread.found = outer
            self._keep(found, [*states, *written()])
            return arrays, pinned

        return over_all

    def _written(self, state: Any, value: object) -> Any:
        """A new value of a state, where it lives."""
        sharding = self._sharding(self.layout_of(state), state.name)
        return jax.lax.with_sharding_constraint(value, sharding)

    def rewritten(self, closed: ClosedJaxpr, states: Sequence[Any], written: Sequence[Any]) -> Any:
        """The program with what XLA partitions wrongly partitioned by rules of paramesh."""
        if self.count == 1:
            return closed
        several = has_several_meshes(closed, self.mesh) or any(
            self.sharding_of(state).mesh != self.mesh for state in states
        )
        way = own_partitioning(self.mesh, self.platform, several)
        return rewritten(closed, has_own_rule, way)

    def _keep(self, found: dict[Parameter, Finding], states: Sequence[Any]) -> None:
        moved = False
        for param, finding in found.items():
            if param._found != finding:
                param._found = finding
                moved = True
        if moved:
            tracing.bump_version()
        self._met.update(states)
        self._save()

    def _save(self) -> None:
        """Write the strategy file, if the settings ask for one and it changes."""
        if self._save_to and jax.process_index() == 0:
            table = {p.name: (p.shape, p.dtype, self.layout_of(p)) for p in self._met}
            table = dict(sorted(table.items()))
            if table != self._saved:
                save_strategy(self._save_to, table, self.count)
                self._saved = table

    def participants(self, group: str, operator: str) -> Participants:
        """Nobody but one: values are global here, and the compiler finds the collectives.

        Raises:
            ContextError: always, but on one device.
        """
        if self.count == 1:
            return Participants(None, ((0,),), 1)
        raise ContextError(
            f"ops.{operator}: in {self.mode} values are global, and the compiler finds what the "
            "devices send each other. Leave the operator out, or use hybrid_parallel."
        )

    def operate(
        self, operator: Any, args: tuple[Any, ...], compute: Callable[[tuple[Any, ...]], Any]
    ) -> Any:
        """The result of an operator with its inputs and outputs pinned by its strategy.

        Outside of programs of this mode the strategy has no effect.

        Raises:
            TypeError, LayoutError: the strategy does not fit the inputs, the devices, or the
                layout of a Parameter.
        """
        if self._thread.found is None:
            return compute(args)
        name, settings = operator.name, operator.settings
        strategy = operator.in_strategy
        found = CallLayouts([], [])
        if strategy is not None:
            attrs = operator.attrs
            found = layouts_of_call(name, strategy, args, self.count, settings, compute, attrs)
            exact = any(isinstance(entry, Layout) for entry in strategy)
            values = {}
            for operand, layout in found.inputs:
                if isinstance(operand.value, Parameter):
                    self._use(operand.value, layout, f"{operator!r} with {strategy}", exact)
                    if operand.value in found.written:  # it has to see the Parameter itself
                        continue
                values[operand.at] = self._pinned(operand.value, layout)
            args = replaced(args, values)
        out = compute(args)
        results = list(out) if isinstance(out, tuple | list) else [out]
        shapes = [tuple(result.shape) for result in results]
        layouts = output_layouts(name, found.outputs, operator.out_strategy, shapes, self.count)
        results = [
            self._pinned(result, layout) for result, layout in zip(results, layouts, strict=True)
        ]
        return type(out)(results) if isinstance(out, tuple | list) else results[0]

    def undivided(self, compute: Callable[..., Any], *operands: object) -> Any:
        """Outside of programs, on full arrays."""
        if self.count == 1 or self._thread.found is not None:
            return compute(*operands)
        return undivided(compute, operands, self._everywhere)

    def constrain(self, values: tuple[Any, ...], strategies: Any, name: str) -> tuple[Any, ...]:
        """The inputs or outputs of a Cell, pinned by its strategies.

        Raises:
            TypeError, LayoutError: a strategy does not fit.
        """
        if self._thread.found is None:
            return values
        if len(strategies) != len(values):
            raise LayoutError(
                f"{name} {strategies} has {len(strategies)} entries, but there are {len(values)} "
                "values; it needs one entry for each."
            )
        pinned: list[Any] = []
        for i, (value, strategy) in enumerate(zip(values, strategies, strict=True)):
            if not hasattr(value, "shape") or not hasattr(value, "dtype"):
                if strategy not in (None, ()):
                    raise LayoutError(
                        f"{name}: value {i} is {type(value).__name__} ({value!r}), which cannot be "
                        f"sharded by {strategy}; its entry must be None or ()."
                    )
                pinned.append(value)
                continue
            try:
                layout = layout_of(strategy, tuple(value.shape), self.count, name_of(value))
            except (LayoutError, TypeError) as error:
                raise type(error)(f"{name}, value {i}: {error}") from None
            pinned.append(self._pinned(value, layout))
        return tuple(pinned)

    def _pinned(self, value: object, layout: Layout | None) -> Any:
        if layout is None:
            return value
        return wrap(jax.lax.with_sharding_constraint(raw(value), self._sharding(layout)))

    # Gradients.

    def reduce_gradients(
        self,
        params: Sequence[Parameter],
        grads: Sequence[Any],
        mean: bool | None = None,
        degree: int | None = None,
    ) -> list[Any]:
        """The gradients, of the global batch already, sharded like the optimizer's state."""
        if self._thread.found is None:
            return list(grads)
        pinned: list[Any] = []
        for param, grad in zip(params, grads, strict=True):
            layout = self._layouts.split(param, self.layout_of(param))
            pinned.append(
                jax.lax.with_sharding_constraint(grad, self._sharding(layout, param.name))
            )
        return pinned


def _same(array: Array) -> Any:
    return array


def _in_place(array: Array, wanted: NamedSharding) -> bool:
    return array.sharding.is_equivalent_to(wanted, array.ndim) and is_over(array, wanted.mesh)
