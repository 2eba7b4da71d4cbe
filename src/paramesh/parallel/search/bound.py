"""Which strategies no best choice can have, by a lower bound.

The cost is a sum of terms: one for each class, and one for each link, over its maker and its
users. Any way to move parts of the terms between classes and links (messages) leaves the sum as it
is, and the sum of the least values of all terms is a lower bound. Messages that raise it are found
by block coordinate ascent (MPLP: Globerson and Jaakkola 2007, "Fixing max-product"). With the cost
of a good choice beside it, a strategy whose own bound is above that cost is dropped: nothing is
lost.

The least values of a link take into account that users with the same layout share a copy: over all
ways to put the users into groups, one copy for each group.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from paramesh.parallel.search.model import Array, Model
from paramesh.parallel.search.resharding import Spec

#: Users of a link beyond which each is counted alone, with its part of the cost: a weaker bound.
_MOST_USERS = 5
_NEVER = 1e9


class _Term:
    """A link, with its messages: from the maker's layouts and from those of each user."""

    def __init__(
        self, maker: int, spec_of: Array, uses: list[tuple[int, Array]], cost: Array
    ) -> None:
        self.maker, self.spec_of, self.uses, self.cost = maker, spec_of, uses, cost
        self.to_maker = np.zeros(cost.shape[0])
        self.to_uses = [np.zeros(cost.shape[1]) for _ in uses]

    def margins(self, maker: Array, uses: list[Array]) -> tuple[Array, list[Array]]:
        """The least values by the maker's layout, and by the layout of each user."""
        cost, count = self.cost, len(uses)
        every = (1 << count) - 1
        if count == 1:
            total = cost + uses[0][None, :]
            return maker + total.min(1), [(maker[:, None] + total).min(0)]
        added = [np.zeros(cost.shape[1])]
        for group in range(1, every + 1):
            low = group & -group
            added.append(added[group ^ low] + uses[low.bit_length() - 1])
        one_copy = [None] + [(cost + added[g][None, :]).min(1) for g in range(1, every + 1)]
        least: list[Any] = [np.zeros(cost.shape[0])]
        for group in range(1, every + 1):
            low = group & -group
            rest = part = group ^ low
            best: Any = None
            while True:
                value = one_copy[part | low] + least[rest ^ part]
                best = value if best is None else np.minimum(best, value)
                if not part:
                    break
                part = (part - 1) & rest
            least.append(best)
        by_use: list[Array] = []
        for number in range(count):
            rest = part = every ^ (1 << number)
            best = None
            while True:
                value = added[part][None, :] + (least[rest ^ part] + maker)[:, None]
                best = value if best is None else np.minimum(best, value)
                if not part:
                    break
                part = (part - 1) & rest
            by_use.append((best + cost).min(0) + uses[number])
        return maker + least[every], by_use


def _terms(model: Model) -> list[_Term]:
    terms: list[_Term] = []
    for link in model.links:
        groups = [link.uses]
        share = 1.0
        if len(link.uses) > _MOST_USERS:
            groups, share = [[use] for use in link.uses], 1.0 / len(link.uses)
        for uses in groups:
            specs: list[Spec] = sorted({spec for use in uses for spec in use.specs})
            cost = np.zeros((len(link.specs), len(specs)))
            for use in uses:
                cost[:, [specs.index(spec) for spec in use.specs]] = share * use.cost
            own = [
                (use.klass, np.array([specs.index(use.specs[i]) for i in use.spec_of]))
                for use in uses
            ]
            terms.append(_Term(link.maker, link.spec_of, own, cost))
    return terms


class Bound:
    """The lower bound of a model, and the best choice found on the way.

    Args:
        model: whose `alive` is narrowed.
        margin: strategies are kept that a choice may have whose cost is above the best one's by
            this part of it, for a search under a limit.
        start: a choice to begin with.

    Attributes:
        low: no choice costs less.
        best: what `choice` costs.
        choice: class -> strategy.
    """

    def __init__(
        self, model: Model, margin: float = 0.0, start: dict[int, int] | None = None
    ) -> None:
        self._model, self._margin = model, margin
        self._terms = _terms(model)
        self._theta = {c: own.copy() for c, own in model.own.items()}
        self.low, self.best = -math.inf, math.inf
        self.choice: dict[int, int] = {}
        if start is not None:
            self.choice = polished(model, start)
            self.best = model.seconds(self.choice)

    def run(self, rounds: int = 24, sweeps: int = 8) -> None:
        """Raise the bound until it meets the best choice, or little is left to decide."""
        model = self._model
        for number in range(rounds):
            for _ in range(sweeps):
                for term in self._terms:
                    self._update(term)
            self._look_for_choices()
            self._drop()
            left = sum(int(alive.sum()) for alive in model.alive.values())
            close = self.best - self.low < 1e-7 * self.best
            if close or (number > 2 and left < 2.5 * len(model.classes)):
                break

    def _of_class(self, klass: int) -> Array:
        return np.where(self._model.alive[klass], self._theta[klass], _NEVER)

    def _given(self, term: _Term) -> tuple[Array, list[Array]]:
        """What the rest of the terms says of the layouts of a link, without its own messages."""
        maker = _least(self._of_class(term.maker), term.spec_of, len(term.to_maker))
        uses = [
            _least(self._of_class(klass), spec_of, len(message))
            for (klass, spec_of), message in zip(term.uses, term.to_uses, strict=True)
        ]
        return maker - term.to_maker, [
            own - message for own, message in zip(uses, term.to_uses, strict=True)
        ]

    def _update(self, term: _Term) -> None:
        maker, uses = self._given(term)
        by_maker, by_uses = term.margins(maker, uses)
        share = 1.0 / (len(uses) + 1)
        new = np.where(maker < _NEVER / 2, by_maker * share - maker, term.to_maker)
        self._theta[term.maker] += (new - term.to_maker)[term.spec_of]
        term.to_maker = new
        for number, (klass, spec_of) in enumerate(term.uses):
            new = by_uses[number] * share - uses[number]
            new = np.where(uses[number] < _NEVER / 2, new, term.to_uses[number])
            self._theta[klass] += (new - term.to_uses[number])[spec_of]
            term.to_uses[number] = new

    def _look_for_choices(self) -> None:
        for order in (self._model.classes, self._model.classes[::-1]):
            choice = polished(self._model, self._greedy(order))
            cost = self._model.seconds(choice)
            if cost < self.best:
                self.best, self.choice = cost, choice

    def _greedy(self, order: list[int]) -> dict[int, int]:
        """Class by class the best strategy, given what is chosen and the messages of the rest."""
        model = self._model
        theta = {c: self._of_class(c).copy() for c in model.classes}
        pending: dict[int, list[_Term]] = {}
        for term in self._terms:
            for klass in {term.maker, *(k for k, _ in term.uses)}:
                pending.setdefault(klass, []).append(term)
        choice: dict[int, int] = {}
        for klass in order:
            choice[klass] = chosen = int(np.argmin(theta[klass]))
            for term in pending.get(klass, ()):
                if len(term.uses) != 1:
                    continue
                (user, spec_of), other = term.uses[0], term.maker
                if klass == term.maker and user not in choice:
                    row = term.cost[term.spec_of[chosen]]
                    theta[user] += (row - term.to_uses[0])[spec_of]
                elif klass == user and other not in choice:
                    column = term.cost[:, spec_of[chosen]]
                    theta[other] += (column - term.to_maker)[term.spec_of]
        return choice

    def _drop(self) -> None:
        """Raise `low`, and drop the strategies that cannot be in a better choice."""
        model = self._model
        slack: dict[int, Array] = {}
        low = 0.0
        for klass in model.classes:
            own = self._of_class(klass)
            low += float(own.min())
            slack[klass] = own - own.min()
        for term in self._terms:
            maker = _open(-term.to_maker, term.spec_of, model.alive[term.maker])
            uses = [
                _open(-message, spec_of, model.alive[klass])
                for (klass, spec_of), message in zip(term.uses, term.to_uses, strict=True)
            ]
            by_maker, by_uses = term.margins(maker, uses)
            least = float(by_maker.min())
            low += least
            slack[term.maker] = slack[term.maker] + (by_maker - least)[term.spec_of]
            for (klass, spec_of), own in zip(term.uses, by_uses, strict=True):
                slack[klass] = slack[klass] + (own - least)[spec_of]
        self.low = max(self.low, low)
        limit = self.best * (1 + self._margin + 1e-9) + 1e-12
        for klass in model.classes:
            model.alive[klass] &= ~(low + slack[klass] > limit)


def _least(values: Array, spec_of: Array, count: int) -> Array:
    """The least value of the strategies with each layout."""
    out = np.full(count, _NEVER)
    np.minimum.at(out, spec_of, values)
    return out


def _open(values: Array, spec_of: Array, alive: Array) -> Array:
    """The values of layouts that some strategy still gives."""
    there = np.zeros(len(values), bool)
    there[spec_of[alive]] = True
    return np.where(there, values, _NEVER)


def polished(model: Model, choice: dict[int, int]) -> dict[int, int]:
    """A choice that no change of one class makes better."""
    choice = dict(choice)
    changed = True
    while changed:
        changed = False
        for klass in model.classes:
            alive = np.flatnonzero(model.alive[klass])
            if len(alive) < 2:
                continue
            cost = _cost_of_each(model, choice, klass)
            best = int(alive[np.argmin(cost[alive])])
            if cost[best] < cost[choice[klass]] * (1 - 1e-12) - 1e-15:
                choice[klass] = best
                changed = True
    return choice


def _cost_of_each(model: Model, choice: dict[int, int], klass: int) -> Array:
    """What each strategy of a class costs while all others stay."""
    cost = model.own[klass].copy()
    for link, number in model.at[klass]:
        if number is None:
            copies: dict[Spec, Array] = {}
            for use in link.uses:
                wanted = use.spec_of[choice[use.klass]]
                copies[use.specs[wanted]] = use.cost[:, wanted]
            for column in copies.values():
                cost += column[link.spec_of]
            continue
        start = link.spec_of[choice[link.maker]]
        mine = link.uses[number]
        there = {
            use.specs[use.spec_of[choice[use.klass]]]
            for i, use in enumerate(link.uses)
            if i != number
        }
        row = np.array(
            [0.0 if spec in there else mine.cost[start, i] for i, spec in enumerate(mine.specs)]
        )
        cost += row[mine.spec_of]
    return cost
