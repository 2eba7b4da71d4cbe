"""The methods of a placement, one class for each purpose, with the defaults of a single device.

`placement.Placement` combines them. A parallel mode overrides what differs; code that uses a
placement for one purpose only says so by the class that it takes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from paramesh import context
from paramesh._compat.jax import ClosedJaxpr
from paramesh.array_types import Array
from paramesh.errors import ContextError
from paramesh.providers import providers
from paramesh.sampling.recipe import Recipe, compute_many
from paramesh.state.divided import Divided
from paramesh.state.implicit_values import PrefetchKey
from paramesh.state.participants import Participants
from paramesh.state.protocols import State


class ProgramPlacement:
    """How programs take in and give out arrays, and what happens around a run of one."""

    #: Part of every compiled program's guard: another placement, another program.
    key: Any = ("stand_alone",)
    #: Whether small Parameters may share flat arrays (`parameter/pool.py`).
    pools = True
    #: How many devices there are.
    count = 1
    #: Whether there is what operators cannot do one by one, outside of programs.
    needs_programs = False
    #: States that pipeline stages have brought to some of the devices each. A program of a single
    #: device cannot take them from different ones.
    scattered: ClassVar[weakref.WeakSet[State]] = weakref.WeakSet()

    @property
    def platform(self) -> str:
        """What programs are compiled for: "cpu", "gpu" or "tpu"; operators differ by platform."""
        return jax.default_backend()

    def adopt(self, params: Sequence[Any]) -> None:
        """Called with the Parameters that a program may use before it is traced."""
        for param in params:
            slot = param._slot
            if slot is not None:
                slot.pool.enter(self)

    def materialise(self, params: Sequence[Any], recipes: Sequence[Recipe]) -> list[Any]:
        """The first arrays of Parameters, computed from their recipes in each Parameter's
        sharding.
        """
        return list(compute_many(recipes))

    def is_placed(self, states: Sequence[Any], arrays: Sequence[Any]) -> bool:
        """Whether no array needs `reshard`; called at every step, with the lock of the states."""
        scattered = ProgramPlacement.scattered
        return not scattered or scattered.isdisjoint(states)

    def reshard(self, states: Sequence[Any], arrays: list[Any]) -> None:
        """Replace, in `arrays`, those that are in another sharding than programs need.

        It may wait for other processes, so it is never called with a lock that readers take; see
        `transforms/relocation.py`.
        """
        scattered = ProgramPlacement.scattered
        for i, state in enumerate(states):
            if state in scattered:
                # A copy, since `device_put` may share memory with what it was given.
                arrays[i] = jax.device_put(arrays[i].copy(), jax.devices()[0])
                scattered.discard(state)

    def place_inputs(self, leaves: list[Any]) -> list[Any]:
        """The raw inputs of a program, sharded over the devices."""
        return leaves

    def constant(self, scalar: object) -> Any:
        """A scalar that programs take at every call, on the devices where they need it."""
        return scalar

    def shape(self, state: State) -> tuple[int, ...]:
        """The shape of a state's array after `reshard`."""
        return state.shape

    def enclose(
        self,
        body: Callable[..., Any],
        states: Sequence[Any],
        written: Callable[[], Sequence[Any]],
    ) -> Callable[..., Any]:
        """A program over resharded arrays, from one over what a single device sees of them.

        Args:
            body: (values of the states, raw inputs, a zero) -> (outputs, new values).
            states: whose values `body` takes.
            written: the states of the new values, known after `body` was traced.
        """
        return body

    def rewritten(self, closed: ClosedJaxpr, states: Sequence[Any], written: Sequence[Any]) -> Any:
        """A traced program, that of `enclose`, as it is to be compiled.

        Args:
            closed: its jaxpr; inputs are the values of the states, the raw inputs and a zero,
                outputs those of the function and the new values.
            states: whose values it takes.
            written: whose new values it returns.
        """
        return closed

    def divided(
        self, closed: ClosedJaxpr, states: Sequence[Any], written: Sequence[Any], name: str
    ) -> Divided | None:
        """A program, that of `rewritten`, as several that run by turns; None: it is one.

        Args:
            closed: its jaxpr; inputs and outputs as for `rewritten`.
            states: whose values it takes.
            written: whose new values it returns.
            name: of the program.
        """
        return None

    def outputs(self, arrays: list[Any]) -> list[Any]:
        """The outputs of a program as the user receives them."""
        return arrays

    def require(self, table: object, key: PrefetchKey, value: object) -> bool:
        """Have a value that belongs to a lookup checked before the running program's steps.

        Args:
            table: in which rows are looked up.
            key: checks it.
            value: traced.

        Returns:
            Whether it will be; False: nothing is known of this table before a program runs.
        """
        return False

    def before_step(
        self, implicit: Sequence[Any], compute_keys: Callable[[], dict[Any, Any]]
    ) -> None:
        """Called before every run of a compiled program with implicit values.

        Args:
            implicit: the implicit values that the program takes in or gives out.
            compute_keys: computes {prefetch key: array} of what has to be known
                before it runs.
        """

    def after_step(self, written: Sequence[Any]) -> None:
        """Called after every run of a compiled program with the states it wrote."""

    def prefetch(self, implicit: Sequence[Any], compute_keys: Callable[[], dict[Any, Any]]) -> None:
        """Called when a run of a program was announced to come after the next one.

        Args:
            implicit: the implicit values that the program takes in or gives out.
            compute_keys: computes {prefetch key: array} of what has to be known before it runs.
        """

    @property
    def prefetches(self) -> bool:
        """Whether `prefetch` has an effect."""
        return False


class GradientPlacement:
    """Who reduces gradients, and who takes part in a collective operator."""

    def reduce_gradients(
        self,
        params: Sequence[Any],
        grads: Sequence[Any],
        mean: bool | None = None,
        degree: int | None = None,
    ) -> list[Any]:
        """Raw gradients of one device's shard of the batch -> of the global batch; traced.

        Args:
            params: whose gradients they are.
            grads: of this device's shard.
            mean: whether sums are divided by `degree`; None: as the settings say.
            degree: None: the number of devices.
        """
        return list(grads)

    def participants(self, group: str, operator: str) -> Participants:
        """Who takes part in a collective operator of the running program.

        Raises:
            ValueError: there is no group of that name.
            ContextError: programs do not run on all of its devices.
        """
        size = providers.group_size(group)
        if size > 1:
            mode = context.get_auto_parallel_context("parallel_mode")
            raise ContextError(
                f"ops.{operator} needs the {size} devices of '{group}', but with parallel_mode="
                f"'{mode}' a program does not run on each of them. Use "
                "set_auto_parallel_context(parallel_mode='hybrid_parallel'), or 'data_parallel'."
            )
        return Participants(None, ((0,),), 1)

    def meet(
        self,
        operator: str,
        key: Hashable,
        compute: Callable[..., Sequence[Any]],
        arrays: Sequence[Any],
    ) -> list[Any]:
        """`compute(*arrays)`, in which devices meet: in the running program, or outside of one.

        Args:
            operator: what it is, for messages.
            key: equal for equal computations.
            compute: takes what one device has, and gives several arrays.
            arrays: raw.

        Raises:
            ProgramNeededError: outside of programs, where this process has several devices.
        """
        return list(compute(*arrays))

    @property
    def meets(self) -> bool:
        """Whether devices can meet here, if there are several: in a program, or outside of one."""
        return True

    def seen(self, array: Array) -> Any:
        """A state's array as code outside of programs computes with it."""
        return array

    def before_eager(self, params: Callable[[], Iterable[Any]]) -> None:
        """Called before a Cell or a gradient is computed operator by operator.

        Args:
            params: gives the Parameters that it may use.
        """

    def variables(
        self, params: Sequence[Any]
    ) -> tuple[Sequence[Any], Callable[[list[Any]], list[Any]]]:
        """What to differentiate by instead of Parameters, and their gradients from those."""
        return params, list

    def gradient_shape(self, param: State, given: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the gradient by a Parameter, for an optimizer that was given one."""
        return param.shape

    def check_accumulated(self, params: Sequence[Any]) -> None:
        """Raise if gradients by one of these cannot be accumulated over micro-batches."""

    def lookup(self, table: Any, ids: Any, padding: int | None = None) -> Any:
        """Rows of a table that lives elsewhere, for raw indices; None for one that lives here.

        `padding` is an index that is not a row: any value may be returned for it.
        """
        return None


class OptimizerPlacement:
    """Where optimizer state lives, and which Parameters an optimizer updates."""

    #: Equal for placements that shard optimizer state in the same way; None: it is replicated.
    division: Any = None

    def divide(self, params: Sequence[Any]) -> Any:
        """How the optimizer state of these Parameters is sharded; None: it is replicated.

        Returns:
            None or an object with
            `shard(value)`: a device's flat shard of a replicated value; traceable;
            `join(part, shape)`: the value again; traceable;
            `pool(name, layout, dtype, members, owner)`: the pool that holds such shards.
        """
        return None

    def check_optimizer(self, optimizer: Any) -> None:
        """Raise if the optimizer's Parameters cannot be updated under this placement."""

    def updated_elsewhere(self, optimizer: Any, grads: Sequence[Any]) -> frozenset[int]:
        """Which of the optimizer's Parameters are not to be updated by the running program.

        The placement has then recorded what is needed to update them: raw gradients, learning rates
        and so on.
        """
        return frozenset()

    def check_conditional(self, params: Sequence[Any]) -> None:
        """Raise if an update of one of these cannot be made conditional on a value in a program."""


class OperatorPlacement:
    """How the results of single operators and Cells are sharded."""

    def operate(
        self, operator: Any, args: tuple[Any, ...], compute: Callable[[tuple[Any, ...]], Any]
    ) -> Any:
        """The result of an operator that has a strategy; `compute` takes the arguments."""
        return compute(args)

    def constrain(self, values: tuple[Any, ...], strategies: object, name: str) -> tuple[Any, ...]:
        """The inputs or outputs of a Cell that has strategies for them; `name` is for messages."""
        return values

    def in_stage(self, stage: int, name: str, arrays: Sequence[Any], begins: bool) -> Sequence[Any]:
        """The raw inputs or outputs of a Cell that has a pipeline stage.

        Args:
            stage: of the Cell.
            name: of the Cell.
            arrays: its inputs or outputs.
            begins: whether they are inputs.
        """
        return arrays

    def follow_data(self, params: Sequence[State]) -> None:
        """Note Parameters that belong to the stage whose results they meet.

        Args:
            params: of Cells around those that have a stage.
        """

    def value_of(self, kind: str, value: Array) -> Any:
        """What a Cell that goes through stages gives; raw.

        Args:
            kind: equal for calls of one Cell in one state (train flags, attributes).
            value: the value.
        """
        return value

    def sensitivity(self, value: Array) -> Any:
        """What the backward pass of a micro-batch starts from; raw."""
        return value

    def undivided(self, compute: Callable[..., Any], *operands: object) -> Any:
        """The result of an operator that XLA partitions wrongly; `compute` takes raw operands.

        Inside of programs `rewritten` handles it.
        """
        return compute(*operands)


class ValuePlacement:
    """Shardings and values of Parameters, for checkpoints and for messages."""

    #: Whether a Parameter may have one value per device (`layerwise_parallel`).
    per_device = False

    def layouts(self, params: Sequence[Any]) -> list[Any]:
        """How each Parameter is sharded, as far as that is known; None: replicated."""
        return [None] * len(params)

    def known_sharding(self, param: object) -> Any:
        """The sharding of a Parameter that is known to be sharded; None for others."""
        return None

    def counts(self, param: object) -> dict[str, Any]:
        """Statistics of a Parameter that lives elsewhere; empty for others."""
        return {}

    def row_report(self, param: object) -> dict[str, Any]:
        """Which rows of a table on servers were admitted and dropped; {} elsewhere."""
        return {}

    def items(self, param: Any, block: int) -> Iterator[tuple[Any, Any]]:
        """The rows of a table in blocks, as (ids, rows) in numpy: all, or the trained ones."""
        values = param.asnumpy()
        for first in range(0, len(values), block):
            rows = values[first : first + block]
            yield np.arange(first, first + len(rows)), rows

    def saved(self, entries: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """What a checkpoint has for these entries: Tensors by name, and texts by name."""
        return entries, {}

    def saved_apart(
        self, entries: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, str], Any | None]:
        """As `saved`, for a checkpoint of several files.

        Returns:
            Tensors by name, texts by name, and what writes the rest itself (see
            `checkpoint.apart.Apart`), if anything is left.
        """
        return (*self.saved(entries), None)
