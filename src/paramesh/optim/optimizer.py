"""Optimizer: a Cell that updates Parameters from their gradients, and keeps its state in others.

Glossary
    parameters  the Parameters it trains, in the order in which it takes their gradients
    state       Parameters of its own: `global_step`, the learning rates, and the state of its
                update rule for each trained Parameter, named by a prefix and its name
                (`moments.fc1.weight`)
    source      where the learning rate or weight decay of a group comes from: a Parameter, a
                number or a schedule

`opt(gradients)` makes one update: compiled as one program when it is called by itself in graph
mode, and as part of the program when it is called inside one. For an optimizer of one's own there
are three ways: `from_optax`, a `RuleOptimizer`, or a subclass of `Optimizer` with MindSpore's
`construct`:

    class SignDescent(nn.Optimizer):
        def construct(self, gradients):
            gradients = self.scale_grad(self.decay_weight(gradients))
            for param, gradient in zip(self.parameters, gradients):
                param.assign(param - self.get_lr() * ops.sign(gradient))
            self.global_step.assign(self.global_step + 1)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paramesh import context
from paramesh.dtype import int32, to_dtype
from paramesh.errors import DuplicateNameError, OptimizerError, ParameterShapeError
from paramesh.initializer.factory import initializer
from paramesh.nn.cell import Cell
from paramesh.nn.containers import CellList
from paramesh.nn.submodules import Submodules
from paramesh.ops.table import TARGETS
from paramesh.optim import checks, groups, rates
from paramesh.optim.groups import Parameters, WeightDecay
from paramesh.optim.members import Members
from paramesh.optim.rates import LearningRate
from paramesh.optim.row_updates import RowUpdates
from paramesh.parameter import Parameter, ParameterTuple, Pool
from paramesh.state import placement, trace_scope, tracing, trained
from paramesh.tensor.argument_types import RawNumber, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.promotion import cast
from paramesh.transforms.compiled_function import CompiledFunction

T = TypeVar("T")

#: One gradient for each Parameter, in their order; None for one that is frozen.
Gradients = Sequence[TensorLike | None]

_EXEMPT = ("beta", "gamma")


class Optimizer(Members, Cell):
    """Base of all optimizers.

    Without groups, `weight_decay` applies to all Parameters but those with `beta` or `gamma` in
    their names; with groups, to every Parameter of a group that has none of its own.

    Args:
        learning_rate: a number; a list of numbers, an iterable or a Tensor of shape (steps,) with
            a rate for each step; a Tensor of shape (); a `LearningRateSchedule`; or a function of
            the step, such as an optax schedule.
        parameters: Parameters, or groups of them (see `groups.py`).
        weight_decay: a number, or a schedule Cell.
        loss_scale: the factor of the loss; the gradients are divided by it.

    Raises:
        TypeError, KeyError, ValueError, RuntimeError: see `groups.make_group_plan` and
            `rates.make_rate`; `loss_scale` is not above 0.
    """

    _instead: ClassVar[Mapping[str, str]] = {
        **Cell._instead,
        "step": "optimizer(gradients), with the gradients of its parameters",
        "param_groups": "get_lr(), get_weight_decay() and parameters",
        "update": "optimizer(gradients), which changes the Parameters",
        "apply_gradients": "optimizer(gradients)",
        "minimize": "value_and_grad(), and optimizer(gradients)",
        "lr": "learning_rate",
    }

    #: Whether `construct` leaves Parameters that are frozen, and their state, as they are; in a
    #: class that has a `construct` and does not say so, they are put back.
    keeps_frozen = False
    #: Whether an update takes `value`, the loss, and `value_fn`, a function that gives it.
    takes_loss = False

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        mine = vars(cls)
        if "construct" in mine and not mine.get("keeps_frozen", False):
            cls.construct = _restoring_frozen(mine["construct"])  # type: ignore[method-assign]

    def __init__(
        self,
        learning_rate: LearningRate,
        parameters: Parameters,
        weight_decay: WeightDecay = 0.0,
        loss_scale: float = 1.0,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.__dict__["_by_name"] = {}
        name = type(self).__name__
        self.loss_scale = checks.positive(name, "loss_scale", loss_scale, allow_int=True)
        self.reciprocal_scale = 1.0 / self.loss_scale
        group_plan = groups.make_group_plan(name, parameters, weight_decay)
        params = ParameterTuple(group_plan.parameters)
        self.is_group = group_plan.grouped
        self.is_group_params_ordered = group_plan.ordered
        self._group_of = tuple(group_plan.group_of)
        self._centralize = tuple(group_plan.groups[i].centralize for i in group_plan.group_of)
        self._preprocesses = True
        self.add_state(
            "global_step", Parameter(initializer("zeros", [1], int32), name="global_step")
        )
        self._set_rates(name, learning_rate, group_plan.groups)
        self.add_state("parameters", params)
        self.__dict__["_parameters"] = params
        self._set_decays([group.weight_decay for group in group_plan.groups])
        trained.own(self)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_made_at", "_named"):  # set anew: a copy is a new optimizer
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        trained.own(self)

    def _set_rates(self, name: str, default: LearningRate, all_groups: list[groups.Group]) -> None:
        shared = None
        sources: list[rates.Rate] = []
        for i, group in enumerate(all_groups):
            if group.rate is not None:
                rate_name = f"learning_rate_group_{i}"
                sources.append(rates.make_rate(name, group.rate, rate_name))
            else:
                if shared is None:
                    shared = rates.make_rate(name, default, "learning_rate")
                sources.append(shared)
        if shared is None and default is not None:
            rates.make_rate(name, default, "learning_rate")  # not used, but checked
        self.is_group_lr = any(group.rate is not None for group in all_groups)
        self.dynamic_lr = any(isinstance(source, Cell) for source in sources)
        if self.dynamic_lr:
            cells = [s if isinstance(s, Cell) else rates.ConstantLR(s) for s in sources]
            sources = list(cells)
            self.learning_rate: Any = (
                CellList([cells[i] for i in self._group_of], auto_prefix=False)
                if self.is_group_lr
                else cells[0]
            )
        elif self.is_group_lr:
            of_each = [sources[i] for i in self._group_of]
            self.add_state("learning_rate", ParameterTuple(of_each))  # type: ignore[arg-type]
        else:
            self.add_state("learning_rate", sources[0])  # type: ignore[arg-type]
        self.__dict__["_of_groups"] = tuple(sources)

    @property
    def target(self) -> str:
        """Where updates are computed: what was set, or the kind of device that is used.

        MindSpore updates rows of sparse gradients there. Here setting it is of no effect: an update
        is part of the compiled program, on the devices that hold the Parameters.
        """
        kind = context.get_context("device_target") or jax.default_backend().upper()
        return self.__dict__.get("_target", kind)

    @target.setter
    def target(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(
                f"{type(self).__name__}.target: expected a str, got {type(value).__name__}."
            )
        if value not in TARGETS:
            raise ValueError(
                f"{type(self).__name__}.target: {value!r} is not one of {', '.join(TARGETS)}."
            )
        self.__dict__["_target"] = value

    @property
    def sparse_opt(self) -> RowUpdates:
        """MindSpore's operator for sparse gradients, of which scripts say where it runs."""
        return RowUpdates(functools.partial(setattr, self, "target"))

    @property
    def _sources(self) -> tuple[rates.Rate, ...]:
        """Where the learning rate of each group comes from."""
        if self.is_group_lr:
            return self._of_groups
        return (self.learning_rate,) * len(self._of_groups)

    def _set_decays(self, decays: list[WeightDecay]) -> None:
        of_each = [decays[i] for i in self._group_of]
        cells = [decay for decay in decays if isinstance(decay, Cell)]
        if cells and self.is_group:
            self._decay_cells = CellList(cells, auto_prefix=False)
        self.__dict__["_decay_sources"] = tuple(decays)
        self.weight_decay: Any = tuple(of_each) if self.is_group else decays[0]
        self.dynamic_weight_decay = bool(cells)
        self.decay_flags = tuple(
            (isinstance(decay, Cell) or decay > 0)
            and (self.is_group or not any(word in param.name for word in _EXEMPT))
            for param, decay in zip(self._parameters, of_each, strict=True)
        )

    # State.

    def add_state(self, attribute: str, state: Parameter | ParameterTuple) -> None:
        """Keep state Parameters under an attribute; they are found by name everywhere else.

        Raises:
            DuplicateNameError: another Parameter here has the name of one of them.
        """
        single = not isinstance(state, ParameterTuple)
        for param in (state,) if single else state:
            other = self._by_name.setdefault(param.name, param)
            if other is not param:
                raise DuplicateNameError(
                    f"{type(self).__name__}: its own state and a trained Parameter are both named "
                    f"'{param.name}'. Rename the trained one: {other}."
                )
            key = attribute if single and attribute not in self._params else param.name
            trace_scope.refuse_created(param, type(self).__name__)
            self._params[key] = param
        self.__dict__[attribute] = state
        self._changed()

    def update_parameters_name(self, prefix: str = "", recurse: bool = True) -> None:
        """Does nothing: the state is named after the trained Parameters, wherever this Cell is.

        (Renaming would put the prefix on the trained Parameters too.)
        """

    def _assigned_to(self, owner: Submodules, name: str) -> None:
        """Where another optimizer of the Cell has these names, the attribute's goes before them."""
        trained = {id(param) for param in self._parameters}
        state = {
            key: p for key, p in self._params.items() if p is not None and id(p) not in trained
        }
        replaced = owner._cells.get(name)
        own = {id(param) for param in state.values()}
        own.update(id(p) for p in (replaced.get_parameters() if replaced is not None else ()))
        taken = {p.name for p in owner.get_parameters() if id(p) not in own}
        if not any(param.name in taken for param in state.values()):
            return
        renamed = {key: f"{name}.{param.name}" for key, param in state.items()}
        params = dict(self._params)
        self._params.clear()
        for key, param in params.items():
            new = renamed.get(key)
            if param is not None and new is not None:
                del self._by_name[param.name]
                key, param.name = (new if key == param.name else key), new
                self._by_name[new] = param
            self._params[key] = param
        self._changed()

    def later(self, steps: int) -> dict[Parameter, np.ndarray[Any, Any]]:
        """The values that step counters will have after some more steps.

        They change with every step in the same way, whatever the gradients are.
        """
        return {self.global_step: self.global_step.asnumpy() + np.int32(steps)}

    @property
    def unique(self) -> bool:
        """True: each Parameter gets one gradient, of its full shape; what is set has no effect."""
        return True

    @unique.setter
    def unique(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"{type(self).__name__}.unique must be a bool, got {value!r}.")

    def frozen(self) -> frozenset[int]:
        """Which of `parameters` are frozen (`requires_grad=False`) now: they do not move."""
        params = enumerate(self._parameters)
        return frozenset([i for i, param in params if not param.requires_grad])

    def _cache_key(self) -> tuple[Hashable, ...]:
        # A program that updates Parameters in a flat array looks at none of them by itself.
        return (*super()._cache_key(), self.frozen())

    # Learning rates and weight decay.

    def get_lr(self) -> Any:
        """The learning rate of the next update.

        Returns:
            The Parameter `learning_rate`, if it does not move with the step, otherwise a Tensor of
            shape (); a tuple of these, one for each Parameter, if groups have rates of their own.
        """
        if not self.dynamic_lr:
            return self.learning_rate
        values = self._by_group(self._sources)
        if not self.is_group_lr:
            return wrap(jnp.asarray(values[0]))
        return tuple(wrap(jnp.asarray(values[i])) for i in self._group_of)

    def get_lr_parameter(self, param: Parameter | Sequence[Parameter]) -> Any:
        """The Parameter that holds the learning rate of a Parameter (or a list of them for a list).

        For a rate that a schedule computes, the schedule.

        Raises:
            TypeError: `param` is neither a Parameter nor a list of them.
            ValueError: this optimizer does not train it.
        """
        if isinstance(param, list | tuple):
            return [self.get_lr_parameter(p) for p in param]
        if not isinstance(param, Parameter):
            raise TypeError(f"get_lr_parameter takes a Parameter, got {type(param).__name__}.")
        for i, mine in enumerate(self._parameters):
            if mine is param:
                source = self._sources[self._group_of[i]]
                if isinstance(source, rates.ListedLR | rates.ConstantLR):
                    return source.learning_rate
                return source
        raise ValueError(f"{type(self).__name__} does not train Parameter '{param.name}'.")

    def get_weight_decay(self) -> Any:
        """The weight decay of the next update as a Tensor of shape (); with groups, a tuple."""
        values = self._by_group(self._decay_sources)
        if not self.is_group:
            return wrap(jnp.asarray(values[0], jnp.float32))
        return tuple(wrap(jnp.asarray(values[i], jnp.float32)) for i in self._group_of)

    def _by_group(self, sources: Sequence[rates.Rate | float]) -> list[RawNumber]:
        """The present value of each source: a python number, or a raw Float32 scalar."""
        schedules = list({id(s): s for s in sources if isinstance(s, Cell)}.values())
        done: dict[int, RawNumber] = {
            id(source): raw(value)
            for source, value in zip(schedules, self._scheduled(schedules), strict=True)
        }
        for source in sources:
            if not isinstance(source, Cell):
                done[id(source)] = raw(source) if isinstance(source, Parameter) else source
        return [done[id(source)] for source in sources]

    def _scheduled(self, schedules: Sequence[Cell]) -> Sequence[Tensor]:
        """What schedules give for the present step, Float32 scalars."""

        def now() -> tuple[Tensor, ...]:
            step = wrap(raw(self.global_step))
            values = (raw(schedule(step)) for schedule in schedules)
            return tuple(wrap(jnp.asarray(value, jnp.float32).reshape(())) for value in values)

        eager = context.get_context("mode") == context.PYNATIVE_MODE
        if eager or not schedules or tracing.current() is not None:
            return now()
        # The program reads the step. As an input it would be a batch in data parallel. The program
        # keeps its schedules, so no others come to have their identities.
        way = ("present", *map(id, schedules))
        return CompiledFunction(now, kept_with=self, way=way)()

    def _rates(self) -> list[RawNumber]:
        """The learning rate of each Parameter, raw."""
        values = self._by_group(self._sources)
        return [values[i] for i in self._group_of]

    def _decays(self) -> list[RawNumber]:
        """The weight decay of each Parameter: raw or a python number, 0.0 where none applies."""
        if not any(self.decay_flags) or not self._preprocesses:
            return [0.0] * len(self.decay_flags)
        values = self._by_group(self._decay_sources)
        return [
            values[i] if flag else 0.0
            for i, flag in zip(self._group_of, self.decay_flags, strict=True)
        ]

    # Gradients, for optimizers with a `construct` of their own.

    def flatten_gradients(self, gradients: Gradients) -> Gradients:
        """The gradients as they are: the state here is not flat."""
        return gradients

    def decay_weight(self, gradients: Gradients) -> tuple[Tensor, ...]:
        """Gradients with `weight_decay * loss_scale * parameter` added where decay applies.

        Raises:
            TypeError, ValueError: as `check_gradients`.
        """
        grads = self.check_gradients(gradients)
        scale = self.loss_scale if self._preprocesses else 1.0
        return tuple(
            wrap(g) if isinstance(decay, float) and not decay else wrap(g + decay * scale * work(p))
            for g, decay, p in zip(grads, self._decays(), self._parameters, strict=True)
        )

    def gradients_centralization(self, gradients: Gradients) -> tuple[Tensor, ...]:
        """Gradients of convolution kernels less their means, in groups that ask for it."""
        grads = self.check_gradients(gradients)
        return tuple(
            wrap(centralized(g) if wanted else g)
            for g, wanted in zip(grads, self._centralize, strict=True)
        )

    def scale_grad(self, gradients: Gradients) -> tuple[Tensor, ...]:
        """Gradients divided by `loss_scale`."""
        grads = self.check_gradients(gradients)
        if self.loss_scale == 1.0 or not self._preprocesses:
            return tuple(map(wrap, grads))
        return tuple(wrap(g * self.reciprocal_scale) for g in grads)

    def check_gradients(self, gradients: Gradients) -> list[Array]:
        """Raw gradients, at least Float32, in the order of `parameters`.

        Raises:
            TypeError: not a tuple or list of float Tensors; the Parameter is named.
            OptimizerError: another number of them, or None among them (a ValueError);
                ParameterShapeError: another shape than the Parameter's.
        """
        name, params = type(self).__name__, self._parameters
        if isinstance(gradients, Tensor | jax.Array) or not isinstance(gradients, Iterable):
            raise TypeError(
                f"{name} takes the gradients as one tuple of {len(params)}, in the order of its "
                f"parameters; got {type(gradients).__name__}."
            )
        gradients = tuple(gradients)
        if len(gradients) != len(params):
            few = len(gradients) < len(params)
            which = f"; the first without one is '{params[len(gradients)].name}'" if few else ""
            raise OptimizerError(
                f"{name} trains {len(params)} Parameters, "
                f"but got {len(gradients)} gradients{which}."
            )
        return [self._gradient(p, g) for p, g in zip(params, gradients, strict=True)]

    def _gradient(self, param: Parameter, gradient: TensorLike | None) -> Array:
        name = type(self).__name__
        if gradient is None and not param.requires_grad:
            return jnp.zeros(param.shape, _at_least_float32(param))
        if gradient is None:
            raise OptimizerError(
                f"{name}: the gradient of Parameter '{param.name}' is None. Does the loss depend "
                "on it? Leave it out of the optimizer, or give zeros."
            )
        value = raw(gradient)
        if not hasattr(value, "dtype") or not to_dtype(value.dtype).is_floating():
            raise TypeError(
                f"{name}: the gradient of Parameter '{param.name}' must be a float Tensor, "
                f"got {getattr(value, 'dtype', type(value).__name__)}."
            )
        expected = placement.current().gradient_shape(param, tuple(value.shape))
        if value.shape != expected:
            raise ParameterShapeError(
                f"{name}: Parameter '{param.name}' has shape {expected}, its gradient "
                f"{tuple(value.shape)}. Are the gradients in the order of `parameters`?"
            )
        return work(value)

    def broadcast_params(self, optim_result: T) -> T:
        """`optim_result` unchanged: the placement decides where Parameters live."""
        return optim_result

    def construct(self, gradients: Gradients) -> Any:
        """One update; to be written by every subclass that has no update rule."""
        raise NotImplementedError(
            f"{type(self).__name__} has no construct(self, gradients): write one that updates "
            "self.parameters and global_step."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """One update from the gradients of `parameters`, in their order.

        Raises:
            RuntimeError: a list of learning rates is used up.
            TypeError, ValueError: as `check_gradients`.
        """
        if self.dynamic_lr and tracing.current() is None:
            self._refuse_beyond_list()
        placement.current().check_optimizer(self)
        return super().__call__(*args, **kwargs)

    def _refuse_beyond_list(self) -> None:
        lists = [s for s in self._sources if isinstance(s, rates.ListedLR)]
        if not lists:
            return
        step, shortest = int(np.asarray(self.global_step._get())[0]), min(lists, key=_steps)
        if step >= shortest.steps():
            raise RuntimeError(
                f"{type(self).__name__}: '{shortest.learning_rate.name}' has rates for "
                f"{shortest.steps()} steps, and this is step {step + 1}. Give a longer list, or a "
                "schedule such as nn.CosineDecayLR."
            )


def _restoring_frozen(construct: Callable[..., Any]) -> Callable[..., Any]:
    """A `construct` after which frozen Parameters, and their state, are as they were."""

    @functools.wraps(construct)
    def run(self: Optimizer, *args: object, **kwargs: object) -> Any:
        frozen = {self._parameters[i] for i in self.frozen()}
        if not frozen:
            return construct(self, *args, **kwargs)
        kept = [*frozen]
        for state in self._params.values():
            reference = None if state is None else state._original
            original = None if reference is None else reference()
            if original in frozen:
                kept.append(state)
        before = [tracing.read(param) for param in kept]
        result = construct(self, *args, **kwargs)
        for param, value in zip(kept, before, strict=True):
            tracing.write(param, value)
        return result

    return run


def _at_least_float32(param: Parameter) -> np.dtype[Any]:
    return np.dtype(np.float32) if param.dtype.itemsize < 4 else param.dtype.np_dtype


def _steps(listed: rates.ListedLR) -> int:
    return listed.steps()


def work(value: object) -> Array:
    """The raw value that arithmetic is done with: Float16 and BFloat16 are widened to Float32."""
    given = raw(value)
    return given.astype(jnp.float32) if given.dtype.itemsize < 4 else given


def centralized(gradient: Array) -> Array:
    """A convolution kernel's gradient less its mean over all axes but the first; others as is."""
    # Yong et al. 2020. MindSpore documents it for convolutions alone, whose kernels have at least
    # three axes.
    if gradient.ndim < 3:
        return gradient
    return gradient - jnp.mean(gradient, axis=tuple(range(1, gradient.ndim)), keepdims=True)


def store(param: Parameter | Pool, value: Array) -> None:
    """Write a raw value, cast to the Parameter's element type."""
    tracing.write(param, cast(value, param.dtype))
