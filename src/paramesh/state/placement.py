"""The seam through which parallel modes and the parameter server reach compiled programs.

A placement answers two questions: where does each Parameter live, and who adds up its gradient?
The one here is the answer of a single device. Upper floors bring others: `by_mode` makes the one
for the parallel mode that is set, and `use` installs one by hand. The programs below know none of
them by name.

Glossary
    state       what programs take in and give out: a Parameter, a pool of them, or a hidden value
    settled     an array of a state that lies where programs of the placement want it
    members     the devices that a collective operator is about, by the name of their group
    hidden      a value that a placement has programs take in or give out besides the Parameters
    ahead       a hidden value of a program that has to be known before it runs: a smaller program,
                cut out of it, computes it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from paramesh import context
from paramesh.errors import ContextError
from paramesh.sampling.recipe import Recipe, compute_many
from paramesh.state import storage

#: The name of the group of all devices, and its other name.
WORLD, OTHER_WORLD = "hccl_world_group", "nccl_world_group"


@dataclass(frozen=True)
class Participants:
    """The devices that a collective operator is about.

    Attributes:
        axis: the name of the axis over all devices of the running program; None if it is one
            device's alone.
        parts: the ranks of the group, or of each of the groups, that the name stands for.
        count: how many devices run the program.
    """

    axis: str | None
    parts: tuple[tuple[int, ...], ...]
    count: int


def _size_of_one(group: str) -> int:
    if group not in (WORLD, OTHER_WORLD):
        raise ValueError(
            f"there is no group {group!r}. Make it: paramesh.communication.init(), then "
            f"create_group({group!r}, [0, 1])."
        )
    return 1


#: How many devices are in a group; `paramesh.communication.init` sets it.
group_size: Callable[[str], int] = _size_of_one


class ImplicitValue:
    """A value that programs take in or give out for a placement; to them, it is a Parameter.

    Args:
        name: for messages.
        shape: of its array.
        dtype: its DType.

    Attributes:
        per_device: every device has a part of its own of it, of this shape; the array has the parts
            joined along the first axis.
    """

    _slot = None
    _recipe = None
    is_init = False
    layerwise_parallel = False
    per_device = False

    def __init__(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self._contents: Any = None
        self._domain = storage.Domain()

    @property
    def value(self) -> Any:
        """The raw value, None before the first."""
        return self._contents

    def _cache_key(self) -> Any:
        return self.shape

    def _concrete(self) -> Any:
        return self._contents

    def _store(self, value: Any) -> None:
        storage.commit([(self, "_contents", value)])


class PrefetchKey(ImplicitValue):
    """A hidden value that programs write, and that is known before they run."""


class Placement:
    """Everything on one device, nobody else to add gradients with."""

    #: Part of every compiled program's guard: another placement, another program.
    key: Any = ("stand_alone",)
    #: Whether small Parameters may share flat arrays (`parameter/pool.py`).
    pools = True
    #: Equal for placements that divide optimizer state in the same way; None: it is whole.
    division: Any = None
    #: Whether a Parameter may have one value per device (`layerwise_parallel`).
    per_device = False
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

    def reshard(self, states: Sequence[Any], arrays: list[Any]) -> None:
        """Replace, in `arrays` and in the states, what is not settled; with their lock held."""

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
        size = group_size(group)
        if size > 1:
            mode = context.get_auto_parallel_context("parallel_mode")
            raise ContextError(
                f"ops.{operator} is about the {size} devices of '{group}', but with parallel_mode="
                f"'{mode}' a program does not run on each of them. Use "
                "set_auto_parallel_context(parallel_mode='hybrid_parallel'), or 'data_parallel'."
            )
        return Participants(None, ((0,),), 1)

    def divide(self, params: Sequence[Any]) -> Any:
        """How the optimizer state of these Parameters is divided over devices; None: it is whole.

        Returns:
            None or an object with
            `cut(value)`: a device's flat part of a value that all devices have; traceable;
            `join(part, shape)`: the value again; traceable;
            `pool(name, plan, dtype, members, owner)`: the pool that holds such parts.
        """
        return None

    def variables(
        self, params: Sequence[Any]
    ) -> tuple[Sequence[Any], Callable[[list[Any]], list[Any]]]:
        """What a gradient by Parameters is taken by in a trace, and how theirs are made of it."""
        return params, list

    def gradient_shape(self, param: Any, given: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the gradient by a Parameter, for an optimizer that was given one."""
        return param.shape

    def lookup(self, table: Any, ids: Any, padding: int | None = None) -> Any:
        """Rows of a table that lives elsewhere, for raw indices; None for one that lives here.

        `padding` is an index that is no row: what is given for it does not matter.
        """
        return None

    # Optimizers.

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

    def check_accumulated(self, params: Sequence[Any]) -> None:
        """Raise if gradients by one of these cannot be added up over parts of a batch."""

    # Values.

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

    def layouts(self, params: Sequence[Any]) -> list[Any]:
        """How each Parameter is cut over devices, as far as that is known; None for whole."""
        return [None] * len(params)

    def known_sharding(self, param: Any) -> Any:
        """The sharding of a Parameter that is known to be cut over devices; None for others."""
        return None

    def before_step(self, hidden: Sequence[Any], ahead: Callable[[], dict[Any, Any]]) -> None:
        """Called before every run of a compiled program with hidden values.

        Args:
            hidden: what the program takes in or gives out.
            ahead: computes {hidden value: array} of what has to be known before.
        """

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

    def counts(self, param: Any) -> dict[str, Any]:
        """Numbers about a Parameter that lives elsewhere; none about others."""
        return {}

    def saved(self, entries: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """What a checkpoint has for these entries: Tensors by name, and texts by name."""
        return entries, {}

    def after_step(self, written: Sequence[Any]) -> None:
        """Called after every run of a compiled program with the states it wrote."""


_single = Placement()


class _Choice:
    """The placement in force, looked up again when a setting moved."""

    by_hand: Placement | None = None
    current: Placement = _single
    settings: Any = None


_choice = _Choice()


def _unknown(mode: str) -> Placement:
    raise NotImplementedError(f"nobody knows how to place Parameters in {mode!r} mode")


def _no_table(params: Sequence[Any]) -> Any:
    raise NotImplementedError("nobody knows how to show layouts")


#: Makes the table of the layouts of Parameters; the package's face sets it.
table: Callable[[Sequence[Any]], Any] = _no_table

_strategies = 0


def strategies_moved() -> None:
    """An operator that programs have used got another strategy: they are traced again."""
    global _strategies
    _strategies += 1
    _choice.settings = None


def strategies() -> int:
    """Moves with `strategies_moved`."""
    return _strategies


#: Makes the placement of a parallel mode from the settings; the package's face sets it.
by_mode: Callable[[str], Placement] = _unknown


def _as_it_is(place: Placement) -> Placement:
    return place


Loaded = tuple[dict[str, Any], dict[str, Any], Callable[[], None]]


def _nothing() -> None:
    return None


def _as_given(mine: dict[str, Any], given: dict[str, Any]) -> Loaded:
    return mine, given, _nothing


#: Has a look at what is loaded: ({name: Parameter}, contents of a checkpoint) -> what is left of
#: both for plain values, and a call that gives the rest its place. The package's face sets it.
loaded: Callable[[dict[str, Any], dict[str, Any]], Loaded] = _as_given

#: What the other settings make of the placement of the mode; the package's face sets it.
around: Callable[[Placement], Placement] = _as_it_is


def current() -> Placement:
    """The placement in force.

    Raises:
        ContextError: the parallel settings do not fit this machine.
    """
    settings = context.program_key()
    if settings is not _choice.settings:
        mode = context.get_auto_parallel_context("parallel_mode")
        if _choice.by_hand is not None:
            _choice.current = _choice.by_hand
        else:
            _choice.current = around(_single if mode == "stand_alone" else by_mode(mode))
        _choice.settings = settings
    return _choice.current


def use(placement: Placement | None) -> Placement | None:
    """Install a placement (None: what the settings say); returns what was installed before."""
    before = _choice.by_hand
    _choice.by_hand, _choice.settings = placement, None
    return before
