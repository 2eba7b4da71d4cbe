"""What a placement answers, one class for each purpose, with the answers of a single device.

`placement.Placement` joins them. A parallel mode overrides what it answers otherwise; what uses a
placement for one purpose alone says so by the class that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from paramesh import context
from paramesh.errors import ContextError
from paramesh.providers import providers
from paramesh.sampling.recipe import Recipe, compute_many
from paramesh.state.participants import Participants


class ProgramPlacement:
    """How programs take in and give out arrays, and what happens around a run of one."""

    #: Part of every compiled program's guard: another placement, another program.
    key: Any = ("stand_alone",)
    #: Whether small Parameters may share flat arrays (`parameter/pool.py`).
    pools = True
    #: How many devices there are.
    count = 1

    @property
    def platform(self) -> str:
        """What programs are compiled for: "cpu", "gpu" or "tpu"; operators differ in their ways."""
        return jax.default_backend()

    def adopt(self, params: Sequence[Any]) -> None:
        """Called with the Parameters that a program may use before it is traced."""
        for param in params:
            slot = param._slot
            if slot is not None:
                slot.pool.enter(self)

    def materialise(self, params: Sequence[Any], recipes: Sequence[Recipe]) -> list[Any]:
        """The first arrays of Parameters, made from their recipes where each Parameter lives."""
        return list(compute_many(recipes))

    def settled(self, states: Sequence[Any], arrays: Sequence[Any]) -> bool:
        """Whether all arrays of these states are settled; asked at every step, with their lock."""
        return True

    def reshard(self, states: Sequence[Any], arrays: list[Any]) -> None:
        """Replace, in `arrays`, what is not settled.

        It may wait for other processes, so nobody calls it with a lock that readers take; see
        `transforms/relocation.py`.
        """

    def place_inputs(self, leaves: list[Any]) -> list[Any]:
        """The raw inputs of a program, laid out over the devices."""
        return leaves

    def constant(self, scalar: Any) -> Any:
        """A scalar that programs take at every call, where they want it."""
        return scalar

    def shape(self, state: Any) -> tuple[int, ...]:
        """The shape of a state's settled array."""
        return state.shape

    def enclose(
        self,
        body: Callable[..., Any],
        states: Sequence[Any],
        written: Callable[[], Sequence[Any]],
    ) -> Callable[..., Any]:
        """A program over settled arrays, from one over what a device sees of them.

        Args:
            body: (values of the states, raw inputs, a zero) -> (outputs, new values).
            states: whose values `body` takes.
            written: the states of the new values, known once `body` was traced.
        """
        return body

    def rewritten(self, closed: Any, states: Sequence[Any], written: Sequence[Any]) -> Any:
        """A traced program, that of `enclose`, as it is to be compiled.

        Args:
            closed: its jaxpr; inputs are the values of the states, the raw inputs and a zero,
                outputs those of the function and the new values.
            states: whose values it takes.
            written: whose new values it gives.
        """
        return closed

    def outputs(self, arrays: list[Any]) -> list[Any]:
        """The outputs of a program as the user gets them."""
        return arrays

    def before_step(self, hidden: Sequence[Any], ahead: Callable[[], dict[Any, Any]]) -> None:
        """Called before every run of a compiled program with hidden values.

        Args:
            hidden: what the program takes in or gives out.
            ahead: computes {hidden value: array} of what has to be known before.
        """

    def after_step(self, written: Sequence[Any]) -> None:
        """Called after every run of a compiled program with the states it wrote."""

    def prefetch(self, hidden: Sequence[Any], ahead: Callable[[], dict[Any, Any]]) -> None:
        """Called when a run of a program is said to come after the next one.

        Args:
            hidden: what the program takes in or gives out.
            ahead: computes {hidden value: array} of what has to be known before it runs.
        """

    @property
    def prefetches(self) -> bool:
        """Whether `announced` is of use."""
        return False


class GradientPlacement:
    """Who adds up gradients, and who takes part in a collective operator."""

    def reduce_gradients(
        self,
        params: Sequence[Any],
        grads: Sequence[Any],
        mean: bool | None = None,
        degree: int | None = None,
    ) -> list[Any]:
        """Raw gradients of one device's part of the batch -> of the whole batch; traced.

        Args:
            params: whose gradients they are.
            grads: of this device's part.
            mean: whether sums are divided by `degree`; None for what the settings say.
            degree: None for the number of devices.
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
                f"ops.{operator} is about the {size} devices of '{group}', but with parallel_mode="
                f"'{mode}' a program does not run on each of them. Use "
                "set_auto_parallel_context(parallel_mode='hybrid_parallel'), or 'data_parallel'."
            )
        return Participants(None, ((0,),), 1)

    def variables(
        self, params: Sequence[Any]
    ) -> tuple[Sequence[Any], Callable[[list[Any]], list[Any]]]:
        """What a gradient by Parameters is taken by in a trace, and how theirs are made of it."""
        return params, list

    def gradient_shape(self, param: Any, given: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the gradient by a Parameter, for an optimizer that was given one."""
        return param.shape

    def check_accumulated(self, params: Sequence[Any]) -> None:
        """Raise if gradients by one of these cannot be added up over parts of a batch."""

    def lookup(self, table: Any, ids: Any, padding: int | None = None) -> Any:
        """Rows of a table that lives elsewhere, for raw indices; None for one that lives here.

        `padding` is an index that is no row: what is given for it does not matter.
        """
        return None


class OptimizerPlacement:
    """Where optimizer state lives, and which Parameters an optimizer updates."""

    #: Equal for placements that divide optimizer state in the same way; None: it is not divided.
    division: Any = None

    def divide(self, params: Sequence[Any]) -> Any:
        """How the optimizer state of these Parameters is divided over devices; None: it is whole.

        Returns:
            None or an object with
            `cut(value)`: a device's flat part of a value that all devices have; traceable;
            `join(part, shape)`: the value again; traceable;
            `pool(name, plan, dtype, members, owner)`: the pool that holds such parts.
        """
        return None

    def check_optimizer(self, optimizer: Any) -> None:
        """Raise if this placement cannot have the optimizer's Parameters updated."""

    def updated_elsewhere(self, optimizer: Any, grads: Sequence[Any]) -> frozenset[int]:
        """Which of the optimizer's Parameters are not to be updated by the running program.

        The placement has then noted what is needed to update them: raw gradients, rates and the
        like.
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

    def cut(self, values: tuple[Any, ...], strategies: Any, name: str) -> tuple[Any, ...]:
        """The inputs or outputs of a Cell that has strategies for them; `name` is for messages."""
        return values

    def undivided(self, compute: Callable[..., Any], *operands: Any) -> Any:
        """The result of an operator that the compiler cuts wrongly; `compute` takes raw operands.

        Inside of programs `rewritten` sees to it.
        """
        return compute(*operands)


class ValuePlacement:
    """Where Parameters lie, for checkpoints and for people."""

    #: Whether a Parameter may have one value per device (`layerwise_parallel`).
    per_device = False

    def layouts(self, params: Sequence[Any]) -> list[Any]:
        """How each Parameter is cut over devices, as far as that is known; None for whole."""
        return [None] * len(params)

    def known_sharding(self, param: Any) -> Any:
        """The sharding of a Parameter that is known to be cut over devices; None for others."""
        return None

    def counts(self, param: Any) -> dict[str, Any]:
        """Numbers about a Parameter that lives elsewhere; none about others."""
        return {}

    def saved(self, entries: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """What a checkpoint has for these entries: Tensors by name, and texts by name."""
        return entries, {}
