"""Which Parameters optimizers train, and which came to a network after they were made.

An optimizer has the Parameters that it was given. What a network gets later (a layer, another
Parameter in the place of one, or one that is no longer frozen) is trained by nobody, and nothing
else says so: a gradient by the optimizer's Parameters is computed as before. So a Cell notes when
each of its parts came, from the first optimizer on, and a gradient by Parameters of an optimizer
compares. What was there before the optimizer, and was not given to it, was left out on purpose.

Glossary
    owner       an optimizer, of its `parameters`
    late        of a part of a Cell: it came after the owner was made
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias, cast

from paramesh.errors import UntrainedWarning
from paramesh.state import trace_scope, versions
from paramesh.state.weak_members import members

#: {id of a part: (the part, the version counter when it came)}.
_Since: TypeAlias = dict[int, tuple[weakref.ref[Hashable], int]]
#: So many names are in a warning.
_SHOWN = 5


class Trainable(Hashable, Protocol):
    """A Parameter."""

    _requires_grad: bool
    _unfrozen_at: int

    @property
    def name(self) -> str:
        """The full name."""
        ...


class Composite(Hashable, Protocol):
    """A Cell."""

    @property
    def _params(self) -> Mapping[str, Trainable | None]: ...
    @property
    def _cells(self) -> Mapping[str, Composite | None]: ...
    def parameters_and_names(self) -> Iterable[tuple[str, Trainable]]:
        """(attribute path, Parameter)."""
        ...


class Owner(Protocol):
    """An optimizer.

    Attributes:
        _made_at: the version counter when it was made.
        _named: Parameters that were named in a warning.
    """

    _made_at: int
    _parameters: Iterable[Trainable]
    _named: weakref.WeakSet[Trainable]


#: All optimizers that exist.
owners: weakref.WeakSet[object] = weakref.WeakSet()


class _Watch:
    """What was late last, by the version counter; None while there was no optimizer."""

    latest: int | None = None


_watch = _Watch()


def own(owner: object) -> None:
    """Record an optimizer that is made now."""
    owner.__dict__.update(_made_at=versions.version(), _named=weakref.WeakSet())
    owners.add(owner)
    _watch.latest = _watch.latest or 0


def added(fields: dict[str, object], part: Hashable) -> None:
    """Note when a Cell got a part, if an optimizer may be older; the version has moved since.

    Args:
        fields: the attributes of the Cell.
        part: a Cell or Parameter.
    """
    if _watch.latest is None:
        return
    since = cast(_Since, fields.setdefault("_since", {}))
    known = since.get(id(part))
    if known is None or known[0]() is not part:
        _watch.latest = versions.version()
        since[id(part)] = weakref.ref(part), _watch.latest


def unfrozen(param: Trainable) -> None:
    """Note when a Parameter is no longer frozen, if an optimizer may be older."""
    if _watch.latest is not None:
        _watch.latest = param._unfrozen_at = versions.version()


def check(cells: Iterable[object], weights: Iterable[Trainable]) -> None:
    """Warn of Parameters that came to a network after its optimizer, and are trained by none.

    Args:
        cells: the network.
        weights: Parameters by which its gradient is computed.

    Emits:
        UntrainedWarning: once for each Parameter and optimizer.
    """
    if not _watch.latest:
        return
    mine = owners_of(weights)
    if all(owner._made_at >= _watch.latest for owner in mine):
        return
    owned = {param for owner in _all() for param in owner._parameters}
    for owner in mine:
        search = _Search(owner, owned)
        for cell in cells:
            search.visit(cast(Composite, cell), "")
        fresh = {path: p for path, p in search.late.items() if p not in owner._named}
        if fresh:
            owner._named.update(fresh.values())
            _warn(owner, fresh)


def warn_unused(function: str, weights: Sequence[Trainable]) -> None:
    """Warn that a function uses none of the Parameters of an optimizer that it is to train.

    Args:
        function: its name.
        weights: Parameters by which its gradient was computed.

    Emits:
        UntrainedWarning: once for each optimizer.
    """
    for owner in owners_of(weights):
        if weights[0] in owner._named:
            continue
        owner._named.update(weights)
        warnings.warn(
            f"The gradients by the Parameters of {type(owner).__name__} ({_list(weights)}) are "
            f"zeros: '{function}' uses none of them, so nothing is trained. Equal names do not "
            "make Parameters the same; make the optimizer of net.trainable_params() of the "
            "network that is called there.",
            UntrainedWarning,
            stacklevel=trace_scope.stacklevel(),
        )


def owners_of(weights: Iterable[Trainable]) -> list[Owner]:
    """The optimizers that exist and train one of these Parameters."""
    wanted = set(weights)
    return [o for o in _all() if not wanted.isdisjoint(o._parameters)]


def _all() -> list[Owner]:
    return cast(list[Owner], members(owners))


class _Search:
    """Looks for the late, trainable Parameters of Cells that an owner trains, without an owner."""

    def __init__(self, owner: Owner, owned: set[Trainable]) -> None:
        self._made_at, self._mine, self._owned = owner._made_at, set(owner._parameters), owned
        self._seen: dict[Composite, tuple[bool, dict[str, Trainable]]] = {}
        #: {path: Parameter} of what was found.
        self.late: dict[str, Trainable] = {}

    def visit(
        self, cell: Composite, path: str, settled: bool = False
    ) -> tuple[bool, dict[str, Trainable]]:
        """(whether the Cell is one that the owner was made for, late ones if it is not).

        Args:
            cell: the Cell.
            path: of its attributes, with a dot.
            settled: it is not late where it was found.
        """
        if cell in owners:
            return False, {}
        known = self._seen.get(cell)
        if known is not None:
            return known
        self._seen[cell] = False, {}
        since = cast(_Since, cell.__dict__.get("_since") or {})
        trained, late = False, dict[str, Trainable]()
        for name, param in cell._params.items():
            if param is None:
                continue
            new = self._is_late(since, param)
            trained = trained or (param in self._mine and (settled or not new))
            if (new or param._unfrozen_at > self._made_at) and self._is_free(param):
                late[f"{path}{name}"] = param
        for name, part in cell._cells.items():
            if part is None:
                continue
            below = f"{path}{name}."
            new = self._is_late(since, part)
            has, more = self.visit(part, below, not new)
            if new:
                if not has:
                    found = part.parameters_and_names() if part not in owners else ()
                    late |= {f"{below}{at}": p for at, p in found if self._is_free(p)}
            else:
                trained = trained or has
                late |= more
        if trained:
            self.late |= late
            late = {}
        self._seen[cell] = trained, late
        return trained, late

    def _is_late(self, since: _Since, part: object) -> bool:
        known = since.get(id(part))
        return known is not None and known[0]() is part and known[1] > self._made_at

    def _is_free(self, param: Trainable) -> bool:
        return param._requires_grad and param not in self._owned


def _list(params: Iterable[Trainable]) -> str:
    names = [param.name for param in params]
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _warn(owner: Owner, found: Mapping[str, Trainable]) -> None:
    name = type(owner).__name__
    warnings.warn(
        f"Parameters that no optimizer trains: {_list(found.values())}. They came to the network, "
        f"or were unfrozen, after {name} was made, so they keep their values. Make {name} of "
        "net.trainable_params() once the network is complete, and the training step after it; or "
        "set requires_grad=False for those that are to stay as they are.",
        UntrainedWarning,
        stacklevel=trace_scope.stacklevel(),
    )
