"""Parameter groups: which Parameters get which learning rate, weight decay and centralization.

Glossary
    group       a dict with `params` and, as wanted, `lr`, `weight_decay`, `grad_centralization`
    order       a dict with `order_params` alone: all Parameters, in the order of the gradients
    predicate   in place of a list in `params`: a function of a Parameter that says whether it
                belongs to the group; it chooses from `order_params`

    nn.Momentum(
        [
            {"params": by_name("*.bias", "*.beta"), "weight_decay": 0.0},
            {"params": rest, "weight_decay": 1e-4},
            {"order_params": net.trainable_params()},
        ],
        learning_rate=0.1,
        momentum=0.9,
    )

A group that gets nothing, a Parameter that two groups claim and one that no group claims are
errors that name the Parameters.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paramesh.errors import (
    HOW_TO_RENAME,
    DuplicateNameError,
    GroupOverlapError,
    OptimizerError,
    ParameterDtypeError,
)
from paramesh.nn.cell import Cell
from paramesh.optim import checks
from paramesh.optim.rates import LearningRate
from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor

Predicate = Callable[[Parameter], bool]
#: A weight decay: a constant, or a schedule of the step.
WeightDecay = float | Cell
#: What an optimizer trains: Parameters, or groups of them.
Parameters = Iterable[Parameter] | Iterable[Mapping[str, Any]]

_KEYS = ("params", "lr", "weight_decay", "grad_centralization", "order_params")
_SHOWN = 10


class by_name:  # noqa: N801 - reads as a function where groups are written
    """A predicate: names that match one of several patterns (`*`, `?` and `[…]` as in file names).

    Args:
        patterns: compared with the full name, upper and lower case distinguished.

    Raises:
        TypeError: a pattern that is not a str, or no patterns.
    """

    def __init__(self, *patterns: str) -> None:
        if not patterns or not all(isinstance(p, str) for p in patterns):
            raise TypeError(f"by_name takes patterns such as '*.bias', got {patterns!r}.")
        self.patterns = patterns

    def __call__(self, param: Parameter) -> bool:
        """Whether one of the patterns matches the name."""
        return any(fnmatch.fnmatchcase(param.name, p) for p in self.patterns)

    def __repr__(self) -> str:
        return f"by_name({', '.join(map(repr, self.patterns))})"


def rest(param: Parameter) -> bool:
    """As `params` of one group: every Parameter that no other group claims."""
    return True


@dataclass(frozen=True)
class Group:
    """What one group asks for; `rate` is None where it has none of its own."""

    rate: LearningRate | None
    weight_decay: WeightDecay
    centralize: bool


@dataclass(frozen=True)
class GroupPlan:
    """All Parameters in the order of the gradients, and the group of each."""

    parameters: list[Parameter]
    groups: list[Group]
    group_of: list[int]
    grouped: bool
    ordered: bool = False  # by `order_params`


def make_group_plan(owner: str, parameters: object, weight_decay: object) -> GroupPlan:
    """Parameters or groups, as given to an optimizer, checked and put in order.

    Raises:
        TypeError: not an iterable of Parameters or of dicts; ParameterDtypeError: a Parameter
            that is not of a float type.
        KeyError: a group without `params`, or with a key that groups do not have.
        ValueError: no Parameters; DuplicateNameError: one twice or two of one name;
            OptimizerError: an empty group, or an order that is not that of the groups.
        RuntimeError: GroupOverlapError: a Parameter in two groups.
    """
    items = _items(owner, parameters)
    decay = check_decay(owner, "weight_decay", weight_decay)
    dicts = [isinstance(item, dict) for item in items]
    if not any(dicts):
        params = _parameters(owner, "params", items)
        _refuse_duplicates(owner, params)
        _refuse_integers(owner, params)
        return GroupPlan(params, [Group(None, decay, False)], [0] * len(params), False)
    if not all(dicts):
        raise TypeError(f"{owner}: params holds both groups (dicts) and Parameters; give one kind.")
    return _grouped(owner, items, decay)


def _items(owner: str, parameters: object) -> list[Any]:
    if parameters is None:
        raise ValueError(
            f"{owner}: params is None; give a list of Parameters, e.g. net.trainable_params()."
        )
    if isinstance(parameters, Tensor | dict | str) or not isinstance(parameters, Iterable):
        raise TypeError(
            f"{owner}: params must be a list of Parameters or of groups, "
            f"got {type(parameters).__name__}."
        )
    items = list(parameters)
    if not items:
        raise OptimizerError(
            f"{owner}: params is empty. Is there a Parameter with requires_grad=True?"
        )
    return items


def _parameters(owner: str, where: str, items: Iterable[Any]) -> list[Parameter]:
    params = list(items)
    for i, param in enumerate(params):
        if not isinstance(param, Parameter):
            cell = hasattr(param, "trainable_params")
            raise TypeError(
                f"{owner}: {where}[{i}] must be a Parameter, got {type(param).__name__}."
                + (" Give net.trainable_params() for a network." if cell else "")
            )
    return params


def _refuse_duplicates(owner: str, params: list[Parameter]) -> None:
    at: dict[str, int] = {}
    for i, param in enumerate(params):
        first = at.setdefault(param.name, i)
        if first == i:
            continue
        if params[first] is param:
            raise DuplicateNameError(f"{owner}: Parameter '{param.name}' is given twice.")
        raise DuplicateNameError(
            f"{owner}: two different Parameters are named '{param.name}': params[{first}] "
            f"{params[first]} and params[{i}] {param}. The state is kept by name: give one of "
            f"them another name. {HOW_TO_RENAME}"
        )


def _refuse_integers(owner: str, params: list[Parameter]) -> None:
    wrong = [f"'{p.name}' ({p.dtype})" for p in params if not p.dtype.is_floating()]
    if wrong:
        raise ParameterDtypeError(
            f"{owner}: only Parameters of a float type can be trained, got {', '.join(wrong)}. "
            "Leave them out, or create them with requires_grad=False."
        )


def check_decay(owner: str, name: str, decay: object) -> WeightDecay:
    """A weight decay: a number of at least 0, or a schedule Cell.

    Raises:
        TypeError: something else. ValueError: below 0.
    """
    return decay if isinstance(decay, Cell) else checks.not_negative(owner, name, decay)


def _grouped(owner: str, items: list[dict[str, Any]], decay: WeightDecay) -> GroupPlan:
    order: list[Parameter] | None = None
    group_dicts: list[dict[str, Any]] = []
    for i, item in enumerate(items):
        unknown = [key for key in item if key not in _KEYS]
        if unknown:
            raise KeyError(
                f"{owner}: group {i} has the key {unknown[0]!r}; a group has {', '.join(_KEYS)}."
            )
        if "order_params" in item:
            if len(item) > 1:
                raise OptimizerError(
                    f"{owner}: group {i} has 'order_params' and {sorted(set(item) - {_KEYS[4]})}; "
                    "'order_params' stands in a dict of its own."
                )
            if order is not None:
                raise OptimizerError(f"{owner}: 'order_params' is given twice; give it once.")
            order = _parameters(owner, "order_params", _items(owner, item["order_params"]))
            _refuse_duplicates(f"{owner}: order_params", order)
        elif "params" not in item:
            raise KeyError(f"{owner}: group {i} has no 'params'.")
        else:
            group_dicts.append(item)
    if not group_dicts:
        raise OptimizerError(f"{owner}: no group has 'params'.")
    chosen = _choose(owner, group_dicts, order)
    for i, params in enumerate(chosen):
        if not params:
            raise OptimizerError(f"{owner}: {_empty(i, group_dicts[i]['params'], order)}")
    group_of = _assign(owner, chosen)
    in_groups = [p for params in chosen for p in params]
    params = in_groups if order is None else _ordered(owner, in_groups, order)
    _refuse_duplicates(owner, params)
    _refuse_integers(owner, params)
    groups = [_settings(owner, i, item, decay) for i, item in enumerate(group_dicts)]
    return GroupPlan(params, groups, [group_of[p] for p in params], True, order is not None)


def _settings(owner: str, i: int, item: dict[str, Any], decay: WeightDecay) -> Group:
    name = f"groups[{i}]['weight_decay']"
    own = check_decay(owner, name, item["weight_decay"]) if "weight_decay" in item else decay
    centralize = checks.boolean(
        owner, f"groups[{i}]['grad_centralization']", item.get("grad_centralization", False)
    )
    if "lr" in item and item["lr"] is None:
        raise TypeError(f"{owner}: groups[{i}]['lr'] is None; leave it out for the default rate.")
    return Group(item.get("lr"), own, centralize)


def _choose(
    owner: str, group_dicts: list[dict[str, Any]], order: list[Parameter] | None
) -> list[list[Parameter]]:
    chosen: list[list[Parameter]] = []
    rests = [i for i, item in enumerate(group_dicts) if item["params"] is rest]
    if len(rests) > 1:
        raise OptimizerError(f"{owner}: groups {rests} are both 'rest'; one can be.")
    for i, item in enumerate(group_dicts):
        wanted = item["params"]
        where = f"groups[{i}]['params']"
        if isinstance(wanted, Tensor):
            raise TypeError(f"{owner}: {where} must be a list of Parameters, got a single one.")
        if callable(wanted):
            if order is None:
                raise OptimizerError(
                    f"{owner}: {where} is a predicate ({_called(wanted)}), but there is nothing to "
                    "choose from: add {'order_params': net.trainable_params()} to the groups."
                )
            chosen.append([] if wanted is rest else [p for p in order if wanted(p)])
        elif wanted is None or isinstance(wanted, str) or not isinstance(wanted, Iterable):
            raise TypeError(
                f"{owner}: {where} must be a list of Parameters or a predicate, got {wanted!r}."
            )
        else:
            chosen.append(_parameters(owner, where, wanted))
    if rests and order is not None:
        taken = {p for params in chosen for p in params}
        chosen[rests[0]] = [p for p in order if p not in taken]
    return chosen


def _called(predicate: object) -> str:
    return getattr(predicate, "__name__", None) or repr(predicate)


def _empty(i: int, wanted: object, order: list[Parameter] | None) -> str:
    if not callable(wanted):
        return f"group {i} has no Parameters."
    names = [p.name for p in order or ()]
    return (
        f"no Parameter belongs to group {i}, predicate {_called(wanted)}. "
        f"There are: {_listed(names)}."
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _assign(owner: str, chosen: list[list[Parameter]]) -> dict[Parameter, int]:
    group_of: dict[Parameter, int] = {}
    for i, params in enumerate(chosen):
        for param in params:
            other = group_of.setdefault(param, i)
            if other != i:
                twice = [p.name for p in params if group_of.get(p, i) != i]
                raise GroupOverlapError(
                    f"{owner}: groups {other} and {i} both have {_listed(twice)}; a Parameter "
                    "belongs to one group."
                )
    return group_of


def _ordered(owner: str, in_groups: list[Parameter], order: list[Parameter]) -> list[Parameter]:
    unclaimed = [p.name for p in order if p not in set(in_groups)]
    if unclaimed:
        raise OptimizerError(
            f"{owner}: no group has {_listed(unclaimed)} of order_params. Add a group for them, "
            "e.g. {'params': paramesh.optim.rest}."
        )
    unordered = [p.name for p in in_groups if p not in set(order)]
    if unordered:
        raise OptimizerError(f"{owner}: order_params lacks {_listed(unordered)}.")
    return order
