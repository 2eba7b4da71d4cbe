"""RuleOptimizer: an Optimizer whose arithmetic is an optax transformation.

Glossary
    update rule the optax transformation (see `rules.py`), made when it is traced
    slot        a field of the rule's state, and the attribute of the optimizer that holds it
    row         what the update rule computes with at once: a Parameter, or many small ones that
                live in one flat array (`flat.py`)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from paramesh.array_types import Tree
from paramesh.dtype import x64
from paramesh.optim import checks, flat
from paramesh.optim.optimizer import Gradients, Optimizer, centralized, store, work
from paramesh.parameter import ParameterTuple, waiting
from paramesh.state import placement, tracing
from paramesh.tensor.argument_types import RawNumber
from paramesh.tensor.base import raw
from paramesh.tensor.promotion import cast

T = TypeVar("T")

#: The type of an update rule's state, and for each of its fields the attribute that holds it.
Slots = tuple[type[Any], dict[str, str]]


def same(state_type: type[Any], **others: str) -> Slots:
    """Slots whose attributes have the names of the fields, but for `others`."""
    fields: tuple[str, ...] = state_type._fields
    return state_type, {field: others.get(field, field) for field in fields}


class RuleOptimizer(Optimizer):
    """An Optimizer whose arithmetic is an update rule; subclasses give the rule and its slots."""

    keeps_frozen = True

    #: The type of the update rule's state, and the attributes of fields that have other names.
    state_type: ClassVar[type[Any] | None] = None
    state_attributes: ClassVar[Mapping[str, str]] = {}
    #: Whether weight decay is added to the gradient; otherwise the update rule gets it.
    decays_gradient: ClassVar[bool] = True
    #: Whether the rule's `update` takes `learning_rate=`; otherwise it gives a direction, of which
    #: the rate's multiple is subtracted.
    takes_rate: bool = True
    #: Whether each new element depends on the elements in its place alone (no norms, no means):
    #: small Parameters are then updated together, as one flat array.
    elementwise: ClassVar[bool] = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wait_for_pools()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._wait_for_pools()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {
            "_chunks": []
        }  # the process that unpickles it forms its own pools

    def _wait_for_pools(self) -> None:
        self.__dict__["_chunks"] = []
        if self.elementwise:
            waiting.add(self)

    def rule(self) -> optax.GradientTransformation:
        """The optax transformation; made when it is traced, so that nothing here holds closures."""
        raise NotImplementedError(f"{type(self).__name__} has no rule().")

    def slots(self) -> Slots:
        """The type of the update rule's state, and {field: the attribute that holds it}."""
        if self.state_type is None:
            raise NotImplementedError(f"{type(self).__name__} has no state_type, and no slots().")
        return same(self.state_type, **self.state_attributes)

    def add_slots(self, *attributes: str, init: str | float = "zeros") -> None:
        """Keep state for each Parameter under attributes, which are also the prefixes of names."""
        for attribute in attributes:
            self.add_state(attribute, self.clone_parameters(attribute, init))

    def set_betas(self, beta1: float, beta2: float, eps: float) -> None:
        """Set `beta1`, `beta2` and `eps`.

        Raises:
            TypeError: not a float; ValueError: a beta outside of (0, 1), or `eps` not above 0.
        """
        name = type(self).__name__
        self.beta1 = checks.fraction(name, "beta1", beta1)
        self.beta2 = checks.fraction(name, "beta2", beta2)
        self.eps = checks.positive(name, "eps", eps)

    def extra(self) -> dict[str, Any]:
        """Arguments of the update rule besides the learning rate."""
        return {}

    def leaf_numbers(self) -> Sequence[Any]:
        """What the update rule gets as `learning_rate`, for each Parameter: the rate, raw.

        A rule with `takes_rate` may get more of each Parameter than that.
        """
        return self._rates()

    def new_values(
        self, params: list[Array], updates: list[Array], state: Tree, rates_: list[RawNumber]
    ) -> list[Array]:
        """The new raw values of the Parameters."""
        return [_add(w, u) for w, u in zip(params, updates, strict=True)]

    def construct(self, gradients: Gradients) -> tuple[bool, ...]:
        """One update.

        Args:
            gradients: a tuple of float Tensors in the order of `parameters`.

        Returns:
            True for each Parameter, as in MindSpore.
        """
        with x64(*(p.dtype for p in self._parameters)):
            grads = self.check_gradients(gradients)
            elsewhere = placement.current().updated_elsewhere(self, grads)
            frozen = self.frozen()
            rows = flat.rows(self._chunks, len(self._parameters), elsewhere | frozen)
            if not rows:
                self._idle()
                return (True,) * len(self._parameters)
            grads = [row.local(row.gradient(grads)) for row in rows]
            trained = [row.state(flat.TRAINED, self._parameters) for row in rows]
            params = [
                work(row.local(tracing.read(state)))
                for row, state in zip(rows, trained, strict=True)
            ]
            decays = _of_rows(rows, self._decays())
            grads = self._prepared(grads, params, decays, _of_rows(rows, self._centralize))
            rates_ = _of_rows(rows, self.leaf_numbers())
            extra = self.extra()
            if self.takes_rate:
                extra["learning_rate"] = rates_
            if not self.decays_gradient:
                extra["weight_decay"] = decays
            state_type, slots = self.slots()
            before = state_type(**{field: self._read(slot, rows) for field, slot in slots.items()})
            updates: list[Array]
            updates, state = self.rule().update(  # type: ignore[assignment]
                grads, before, params, **extra
            )
            if not self.takes_rate:
                updates = [_down(u, rate) for u, rate in zip(updates, rates_, strict=True)]
            values = self.new_values(params, updates, state, rates_)
            kept = [row.kept(frozen) for row in rows]
            values = _unless(kept, params, values)
            for row, state_of_row, value in zip(rows, trained, values, strict=True):
                full = row.full(cast(value, state_of_row.dtype), state_of_row.shape)
                store(state_of_row, full)
            for field, slot in slots.items():
                value = getattr(state, field)
                if isinstance(getattr(self, slot), ParameterTuple):
                    value = _unless(kept, getattr(before, field), value)
                self._write(slot, value, rows)
            store(self.global_step, raw(self.global_step) + np.int32(1))
        return (True,) * len(self._parameters)

    def _idle(self) -> None:
        """A step in which all Parameters are updated elsewhere: the rule's counters advance."""
        nothing = [jnp.zeros((), jnp.float32)]
        state_type, slots = self.slots()
        kept = {field: self._read(slot, []) for field, slot in slots.items()}
        state = state_type(**{f: nothing if isinstance(v, list) else v for f, v in kept.items()})
        extra = self.extra()
        if self.takes_rate:
            extra["learning_rate"] = nothing
        if not self.decays_gradient:
            extra["weight_decay"] = nothing
        _, state = self.rule().update(nothing, state, nothing, **extra)
        for field, slot in slots.items():
            if not isinstance(getattr(self, slot), ParameterTuple):
                self._write(slot, getattr(state, field), [])
        store(self.global_step, raw(self.global_step) + np.int32(1))

    def _prepared(
        self,
        grads: list[Array],
        params: list[Array],
        decays: list[RawNumber],
        centralize: list[bool],
    ) -> list[Array]:
        if self.loss_scale != 1.0 and self._preprocesses:
            grads = [g * self.reciprocal_scale for g in grads]
        if self.decays_gradient:
            grads = [
                g if isinstance(d, float) and not d else _decayed(g, w, d)
                for g, w, d in zip(grads, params, decays, strict=True)
            ]
        return [
            centralized(g) if wanted else g for g, wanted in zip(grads, centralize, strict=True)
        ]

    def _read(self, attribute: str, rows: list[flat.Row]) -> Any:
        state = getattr(self, attribute)
        if isinstance(state, ParameterTuple):
            return [work(tracing.read(row.state(attribute, state))) for row in rows]
        return None if state is None else raw(state).reshape(())

    def _write(self, attribute: str, value: Any, rows: list[flat.Row]) -> None:
        if attribute == "global_step" or value is None:
            return
        state = getattr(self, attribute)
        if isinstance(state, ParameterTuple):
            for row, item in zip(rows, value, strict=True):
                store(row.state(attribute, state), item)
        else:
            store(state, value.reshape(state.shape))

    def is_made(self) -> bool:
        """Whether its state is there.

        It is not while a constructor runs, on another thread say, nor ever after an exception in
        one. Somebody's traceback may keep such an optimizer alive for long.
        """
        try:
            return all(hasattr(self, slot) for slot in self.slots()[1].values())
        except AttributeError:  # of what `slots` looks at
            return False

    def form_pools(self) -> None:
        """Put small Parameters and their state into flat arrays, as `flat.py` describes.

        What is divided over several processes stays so: no process can put it together.
        """
        if any(chunk.alive() and not chunk.movable() for chunk in self._chunks):
            return
        for chunk in self._chunks:
            chunk.dissolve_state()
        kept: dict[str, Any] = {flat.TRAINED: self._parameters}
        for attribute in self.slots()[1].values():
            state = getattr(self, attribute)
            if isinstance(state, ParameterTuple):
                kept[attribute] = state
        kinds = [
            None if centralize else (group, decays, param.parallel_optimizer)
            for centralize, group, decays, param in zip(
                self._centralize, self._group_of, self.decay_flags, self._parameters, strict=True
            )
        ]
        self.__dict__["_chunks"] = flat.make_chunks(self, kept, kinds)

    def clone_parameters(self, prefix: str, init: str | float = "zeros") -> ParameterTuple:
        """State for each Parameter, named `prefix.name`, weightless until the first update."""
        return self._parameters.clone(prefix, init)


def _unless(kept: list[Array | None], old: list[Array], new: list[Array]) -> list[Array]:
    """New values of rows, but for the elements that stay as they are."""
    return [
        n if stays is None else jnp.where(stays, o, n)
        for stays, o, n in zip(kept, old, new, strict=True)
    ]


def _of_rows(rows: list[flat.Row], values: Sequence[T]) -> list[T]:
    return [values[row.index] for row in rows]


@jax.jit
def _add(w: Array, u: Array) -> Array:
    return w + u


@jax.jit
def _down(u: Array, rate: RawNumber) -> Array:
    return -rate * u


@jax.jit
def _decayed(g: Array, w: Array, decay: RawNumber) -> Array:
    return g + decay * w
