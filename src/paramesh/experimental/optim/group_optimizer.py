"""Optimizer: parameter groups that are dicts, which may be looked at and changed between steps.

Glossary
    group    a dict of `params`, `lr` and the options of the update rule (`optimizer.param_groups`)
    options  what a group has for the update rule besides its learning rate; python values, which
             belong to the compiled program: another value compiles another one
    counter  the Parameter that counts the updates
"""

from __future__ import annotations

import types
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import optax

from paramesh import optim
from paramesh.array_types import Array
from paramesh.dtype import DType, int32
from paramesh.errors import GroupOverlapError
from paramesh.experimental.optim import rules
from paramesh.optim import checks, rates
from paramesh.optim.groups import make_group_plan
from paramesh.optim.rule_optimizer import RuleOptimizer, Slots
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.state import tracing
from paramesh.tensor.argument_types import RawNumber
from paramesh.tensor.base import Tensor

#: What stands for Parameters in constructors.
Params = Iterable[Parameter] | Iterable[dict[str, Any]]


class Group(dict[str, Any]):
    """A parameter group. A number or Tensor that is assigned to `lr` becomes its Parameter's value.

    So no program is compiled for it, and schedulers go on to move the same Parameter.
    """

    def __setitem__(self, key: str, value: object) -> None:
        rate = self.get("lr")
        if key == "lr" and isinstance(rate, Parameter) and value is not rate:
            if not isinstance(value, Tensor):
                value = Tensor(np.float32(checks.not_negative("param_groups", "lr", value)))
            rate.assign(value)
            return
        super().__setitem__(key, value)
        tracing.bump_version()  # options are constants of compiled programs

    def update(self, *args: Mapping[str, object], **kwargs: object) -> None:  # type: ignore[override]
        """As of a dict, with `lr` as in an assignment."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value


class Optimizer(optim.Optimizer):
    """Base of the optimizers with parameter groups.

    Args:
        params: Parameters, or dicts with `params` and options that differ from the defaults.
        defaults: {option: value}, with `lr` among them.

    A subclass has `construct(self, gradients)`. It finds in `param_groups` the groups, in
    `group_start_id[i]` which gradient is the first of group i, and in `lrs` their learning rates.

    Raises:
        TypeError: `params` is a set, or holds something else than Parameters or dicts.
        ValueError: no Parameters, or one in two groups; `lr` or `weight_decay` below 0.
    """

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        name = type(self).__name__
        self.__dict__["defaults"] = dict(defaults)
        if isinstance(params, set | frozenset):
            raise TypeError(f"{name}: params is a set, whose order is not the same in every run.")
        items = [params] if isinstance(params, Parameter) else params
        if isinstance(items, Iterable):
            items = list(items)
        if isinstance(items, list) and items and all(isinstance(item, dict) for item in items):
            groups = [self._completed(i, item) for i, item in enumerate(items)]
        else:
            plan = make_group_plan(name, items, 0.0)  # which refuses what is neither
            groups = [self._completed(0, {"params": plan.parameters})]
        # The decay is an option of the rule here: the base class has none.
        super().__init__(
            0.0,
            [{"params": group["params"], "lr": group["lr"]} for group in groups],  # type: ignore[list-item]
        )
        self.__dict__["param_groups"] = []
        for group, rate in zip(groups, self._of_groups, strict=True):
            self._listed(group, rate)
        self.__dict__["state"] = {}

    def _completed(self, i: int, given: object) -> Group:
        """A group with the defaults of what it does not have itself, checked."""
        name = type(self).__name__
        if not isinstance(given, Mapping):
            raise TypeError(f"{name}: a group must be a dict, got {type(given).__name__}.")
        if "params" not in given:
            raise KeyError(f"{name}: group {i} has no 'params'.")
        params = given["params"]
        if isinstance(params, set | frozenset):
            raise TypeError(
                f"{name}: groups[{i}]['params'] is a set, whose order is not the same in every run."
            )
        group = Group({**given, **{k: v for k, v in self.defaults.items() if k not in given}})
        for key, value in list(group.items()):
            if isinstance(value, list):  # which could be changed behind the back of programs
                group[key] = tuple(value)
        group["params"] = [params] if isinstance(params, Parameter) else list(params)
        if "lr" not in group:
            raise KeyError(f"{name}: group {i} has no 'lr', and the defaults have none.")
        rate = group["lr"]
        if not isinstance(rate, Tensor):
            group["lr"] = checks.not_negative(name, f"groups[{i}]['lr']", rate)
        elif rate.ndim:
            raise ValueError(f"{name}: groups[{i}]['lr'] has shape {rate.shape}; give one number.")
        if "weight_decay" in group:
            where = f"groups[{i}]['weight_decay']"
            group["weight_decay"] = checks.not_negative(name, where, group["weight_decay"])
        self.check_options(name, group)
        return group

    def check_options(self, name: str, group: Group) -> None:
        """Refuse options that the update rule cannot take; a subclass's."""

    def _listed(self, group: Group, rate: rates.Rate) -> None:
        dict.__setitem__(group, "lr", rate)
        self.param_groups.append(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Train more Parameters: their gradients come after those of the others.

        Args:
            param_group: `params`, and options that differ from the defaults.

        Raises:
            TypeError, KeyError, ValueError: as for a group of the constructor;
                GroupOverlapError: a Parameter is in another group already.
        """
        i = len(self.param_groups)
        group = self._completed(i, param_group)
        mine = set(self._parameters)
        twice = [param.name for param in group["params"] if param in mine]
        if twice:
            raise GroupOverlapError(
                f"{type(self).__name__}: Parameter '{twice[0]}' is in another group already."
            )
        both = [*self._parameters, *group["params"]]
        make_group_plan(type(self).__name__, both, 0.0)
        params = ParameterTuple(both)
        self.__dict__["_group_of"] += (i,) * len(group["params"])
        self.__dict__["_centralize"] += (False,) * len(group["params"])
        self.__dict__["decay_flags"] += (False,) * len(group["params"])
        rate = rates.make_rate(type(self).__name__, group["lr"], f"learning_rate_group_{i}")
        self.__dict__["_of_groups"] += (rate,)
        self.__dict__["_decay_sources"] += (0.0,)
        self.__dict__["_parameters"] = params
        self.add_state("parameters", params)
        of_each = [self._of_groups[g] for g in self._group_of]
        self.add_state("learning_rate", ParameterTuple(of_each))
        self._listed(group, rate)
        self._extend(ParameterTuple(group["params"]))

    def _extend(self, added: ParameterTuple) -> None:
        """Make state for Parameters that were added."""

    @property
    def group_start_id(self) -> list[int]:
        """Which gradient is the first of each group, and at the end how many there are."""
        starts = [0]
        for group in self.param_groups:
            starts.append(starts[-1] + len(group["params"]))
        return starts

    @property
    def lrs(self) -> list[Parameter]:
        """The learning rate of each group: a Parameter of shape ()."""
        return [group["lr"] for group in self.param_groups]

    def options(self, group: Group) -> tuple[tuple[str, Hashable], ...]:
        """What belongs to the compiled program: the options that `defaults` has, but `lr`."""
        found: list[tuple[str, Hashable]] = []
        for key in self.defaults:
            if key not in ("lr", "params"):
                value = group[key]
                found.append((key, tuple(value) if isinstance(value, list) else value))
        return tuple(found)

    def _cache_key(self) -> tuple[Hashable, ...]:
        # `param_groups` may have been changed since a program was compiled.
        return (*super()._cache_key(), *(self.options(group) for group in self.param_groups))

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            for key in sorted(set(group) - {"params"}):
                value = group[key]
                shown = value.asnumpy().item() if isinstance(value, Parameter) else value
                lines.append(f"    {key}: {shown:g}" if key == "lr" else f"    {key}: {shown}")
        return "\n".join([*lines, ")"])


class Numbers(NamedTuple):
    """What the rule of one Parameter gets: its learning rate, raw, and its group's options."""

    rate: RawNumber
    options: tuple[tuple[str, Hashable], ...]


class GroupRule(Optimizer, RuleOptimizer):
    """An Optimizer with groups whose arithmetic is a function of one Parameter (see `rules`)."""

    elementwise = True
    #: The arithmetic, and the attributes that hold its state, which are prefixes of names too.
    leaf: ClassVar[rules.Leaf]
    columns: ClassVar[tuple[str, ...]] = ()
    #: The attribute of the counter, its type, shape and what it starts from; "": there is none.
    counter: ClassVar[str] = "step_t"
    counter_kind: ClassVar[tuple[DType, tuple[int, ...], int]] = (int32, (), 0)
    #: What columns start from, where it is not 0.
    starts: ClassVar[Mapping[str, float]] = {}

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        if self.counter:
            dtype, shape, start = self.counter_kind
            counter = Parameter(Tensor(np.full(shape, start, dtype.np_dtype)), name=self.counter)
            self.add_state(self.counter, counter)
        for column in self._columns():
            self.add_slots(column, init=self._start(column))

    def _start(self, column: str) -> str | float:
        return self.starts.get(column, "zeros")

    def _columns(self) -> tuple[str, ...]:
        return self.columns

    def _extend(self, added: ParameterTuple) -> None:
        for column in self._columns():
            if not hasattr(self, column):  # nobody needed it before
                self.add_slots(column, init=self._start(column))
                continue
            more = added.clone(column, self._start(column))
            self.add_state(column, ParameterTuple([*getattr(self, column), *more]))
        self._wait_for_pools()

    def slots(self) -> Slots:
        """The counter and the columns, each under its own name."""
        names = [*([self.counter] if self.counter else []), *self._columns()]
        return types.SimpleNamespace, {name: name for name in names}

    def leaf_numbers(self) -> list[Any]:
        """The learning rate and the options of each Parameter's group."""
        options = [self.options(group) for group in self.param_groups]
        return [
            Numbers(rate, options[group])
            for rate, group in zip(self._rates(), self._group_of, strict=True)
        ]

    def rule(self) -> optax.GradientTransformation:
        """The arithmetic of one Parameter, on all of them."""
        leaf, columns, counter = type(self).leaf, self._columns(), self.counter
        start = self.counter_kind[2]

        def init(params: object) -> Any:
            raise NotImplementedError("its state is made by the optimizer")

        def update(
            grads: list[Array],
            state: types.SimpleNamespace,
            params: list[Array],
            *,
            learning_rate: list[Numbers],
        ) -> Any:
            count = getattr(state, counter) + 1 if counter else None
            step = None if count is None else rules.as_step(count, start)
            of_each = [getattr(state, column) for column in columns]
            rows = [
                leaf(numbers.options, g, w, numbers.rate, step, *own)
                for numbers, g, w, *own in zip(learning_rate, grads, params, *of_each, strict=True)
            ]
            updates, *new = (list(column) for column in zip(*rows, strict=True))
            after: dict[str, object] = dict(zip(columns, new, strict=True))
            if counter:
                after[counter] = count
            return updates, types.SimpleNamespace(**after)

        return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]

    def later(self, steps: int) -> dict[Parameter, np.ndarray[Any, Any]]:
        """As in `Optimizer`, and the counter."""
        found = super().later(steps)
        if self.counter:
            counter = getattr(self, self.counter)
            found[counter] = counter.asnumpy() + np.asarray(steps, counter.dtype.np_dtype)
        return found
