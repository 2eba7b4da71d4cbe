"""The optimizers of a server: what one update does to a block of elements, in numpy.

Glossary
    update rule a pure function of a block of weights, their gradients, their state and some
                numbers; it returns the new weights and the new state
    slot        a kind of state that a rule keeps for every element, by the local optimizer's name
    numbers     the hyperparameters that change between steps and come with a push: learning rate,
                weight decay, momentum

The rules are those of `paramesh.optim` (see `optim/rules.py` for the papers), operation by
operation and in the same element types. They differ from them where XLA joins a product and a sum
into one operation, or takes a reciprocal root: by a few units in the last place of a step.

Rows of a table are updated when they are met, and only then (MindSpore's sparse and lazy
optimizers): the moments of Adam, AdamWeightDecay, Momentum, SGD, RMSProp and Lion do not decay, and
weight decay does not act, while a row is not met. Adagrad and FTRL, without decay, are the same
either way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

#: Elements that are worked on together: they and their state stay in the cache.
BLOCK = 1 << 16


class Numbers(NamedTuple):
    """The numbers of one update, in the element type of the arithmetic.

    `correction` is `sqrt(1 - beta2**t) / (1 - beta1**t)` for Adam, otherwise 1.
    """

    rate: Any
    decay: Any
    momentum: Any
    correction: Any


#: (weights, gradients, numbers, one array for each slot) -> (new weights, new arrays of the slots)
Update = Callable[..., tuple[Array, ...]]


class UpdateRule(NamedTuple):
    """The update rule of an optimizer.

    Attributes:
        slots: the state for each element: name and first value.
        update: see `Update`.
        corrects: whether `Numbers.correction` is Adam's (otherwise 1).
        betas: the decays of Adam's moments.
        row_slots: those of which a row has one number; the rule is for tables alone.
        decays_gradient: whether weight decay is added to the gradient before `update`.
        write: `update` into given arrays, with fewer passes over the block and the same bits:
            (weights, gradients, numbers, slots, [new weights, *new slots]).
    """

    slots: dict[str, float]
    update: Update
    betas: tuple[float, float] | None = None
    decays_gradient: bool = True
    write: Callable[..., None] | None = None
    row_slots: frozenset[str] = frozenset()


def _rest(decay: float) -> np.float32:
    # As MindSpore, which subtracts in float32.
    return np.float32(1) - np.float32(decay)


def _sgd(momentum: bool, dampening: float, nesterov: bool) -> UpdateRule:
    if not momentum:

        def write(w: Array, g: Array, n: Numbers, slots: list[Array], out: list[Array]) -> None:
            np.multiply(-n.rate, g, out=out[0])
            np.add(w, out[0], out=out[0])

        return UpdateRule({}, lambda w, g, n: (w + -n.rate * g,), write=write)
    rest = 1.0 - dampening

    def update(w: Array, g: Array, n: Numbers, accum: Array, stat: Array) -> tuple[Array, ...]:
        kept = np.where(stat > 0, g, accum * n.momentum + g * w.dtype.type(rest))
        top = g + kept * n.momentum if nesterov else kept
        return w + -n.rate * top, kept, np.zeros_like(stat)

    return UpdateRule({"accum": 0.0, "stat": 1.0}, update)


def _momentum(nesterov: bool) -> UpdateRule:
    def update(w: Array, g: Array, n: Numbers, moments: Array) -> tuple[Array, ...]:
        new = g + n.momentum * moments
        top = g + n.momentum * new if nesterov else new
        return w + -n.rate * top, new

    def write(w: Array, g: Array, n: Numbers, slots: list[Array], out: list[Array]) -> None:
        top = new = np.multiply(n.momentum, slots[0], out=out[1])
        np.add(g, new, out=new)
        if nesterov:
            top = np.multiply(n.momentum, new, out=out[0])
            np.add(g, top, out=top)
        np.multiply(-n.rate, top, out=out[0])
        np.add(w, out[0], out=out[0])

    return UpdateRule({"moments": 0.0}, update, write=write)


def _adam(b1: float, b2: float, eps: float, nesterov: bool, amsgrad: bool) -> UpdateRule:
    def update(w: Array, g: Array, n: Numbers, m: Array, v: Array, *largest: Array) -> Any:
        c1, c2 = w.dtype.type(_rest(b1)), w.dtype.type(_rest(b2))
        d1, d2 = w.dtype.type(b1), w.dtype.type(b2)
        m = d1 * m + c1 * g
        v = d2 * v + c2 * (g * g)
        top = d1 * m + c1 * g if nesterov else m
        largest = tuple(np.maximum(kept, v) for kept in largest)
        bottom = np.sqrt(largest[0] if largest else v)
        bottom += w.dtype.type(eps)
        return w + -(n.rate * n.correction) * (top / bottom), m, v, *largest

    slots = {"moment1": 0.0, "moment2": 0.0} | ({"vhat": 0.0} if amsgrad else {})
    return UpdateRule(slots, update, (b1, b2))


def _adam_weight_decay(b1: float, b2: float, eps: float) -> UpdateRule:
    def update(w: Array, g: Array, n: Numbers, m: Array, v: Array) -> tuple[Array, ...]:
        c1, c2 = w.dtype.type(_rest(b1)), w.dtype.type(_rest(b2))
        m = w.dtype.type(b1) * m + c1 * g
        v = w.dtype.type(b2) * v + c2 * (g * g)
        return w + -n.rate * (m / (np.sqrt(v) + w.dtype.type(eps)) + n.decay * w), m, v

    return UpdateRule({"adam_m": 0.0, "adam_v": 0.0}, update, decays_gradient=False)


def _adagrad(accum: float, update_slots: bool) -> UpdateRule:
    def update(w: Array, g: Array, n: Numbers, total: Array) -> tuple[Array, ...]:
        if update_slots:
            total = total + g * g
        root = np.sqrt(total)
        if root.size and root.min() > 0:  # as below, in half the time
            step = np.divide(g, root, out=root)
        else:  # where the sum is 0 there is no step, as in optax
            step = np.divide(g, root, out=np.zeros_like(g), where=root > 0)
        step *= -n.rate
        step += w
        return step, total

    return UpdateRule({"accum": accum}, update)


def _ftrl(initial_accum: float, lr_power: float, l1: float, l2: float) -> UpdateRule:
    def power(base: Array) -> Array:
        return np.sqrt(base) if lr_power == -0.5 else base ** base.dtype.type(-lr_power)

    def update(w: Array, g: Array, n: Numbers, total: Array, linear: Array) -> tuple[Array, ...]:
        kind = w.dtype.type
        new = total + g * g
        root = power(new)
        linear = linear + g - (root - power(total)) / n.rate * w
        shrunk = (np.sign(linear) * kind(l1) - linear) / (root / n.rate + kind(2.0 * l2))
        return np.where(np.abs(linear) > kind(l1), shrunk, kind(0)), new, linear

    return UpdateRule({"moments": initial_accum, "linear": 0.0}, update)


def _rowwise_adagrad(accum: float, eps: float) -> UpdateRule:
    def update(w: Array, g: Array, n: Numbers, total: Array) -> tuple[Array, ...]:
        axes = tuple(range(1, g.ndim))
        total = total + np.mean(g * g, axis=axes, keepdims=True)
        return w + -n.rate * (g / (np.sqrt(total) + w.dtype.type(eps))), total

    return UpdateRule({"row_accum": accum}, update, row_slots=frozenset({"row_accum"}))


def _rowwise_adam(b1: float, b2: float, eps: float) -> UpdateRule:
    def update(w: Array, g: Array, n: Numbers, m: Array, v: Array) -> tuple[Array, ...]:
        kind = w.dtype.type
        axes = tuple(range(1, g.ndim))
        m = kind(b1) * m + kind(_rest(b1)) * g
        v = kind(b2) * v + kind(_rest(b2)) * np.mean(g * g, axis=axes, keepdims=True)
        return w + -(n.rate * n.correction) * (m / (np.sqrt(v) + kind(eps))), m, v

    slots = {"moment1": 0.0, "moment2": 0.0}
    return UpdateRule(slots, update, (b1, b2), row_slots=frozenset({"moment2"}))


def _rmsprop(decay: float, momentum: float, eps: float, centered: bool) -> UpdateRule:
    def update(w: Array, g: Array, n: Numbers, *state: Array) -> tuple[Array, ...]:
        kind = w.dtype.type
        *means, square, moment = state
        kept, rest = kind(decay), kind(1.0 - decay)
        square = kept * square + rest * (g * g)
        spread = square
        if centered:
            means = [kept * means[0] + rest * g]
            spread = square - means[0] * means[0]
        moment = kind(momentum) * moment + n.rate * (g / np.sqrt(spread + kind(eps)))
        return w + -moment, *means, square, moment

    slots = {"mean_grad": 0.0} if centered else {}
    return UpdateRule(slots | {"mean_square": 1.0, "moment": 0.0}, update)


def _lion(b1: float, b2: float) -> UpdateRule:
    def update(w: Array, g: Array, n: Numbers, moments: Array) -> tuple[Array, ...]:
        kind = w.dtype.type
        top = np.sign(kind(b1) * moments + kind(1.0 - b1) * g)
        return w + -n.rate * (top + n.decay * w), kind(b2) * moments + kind(1.0 - b2) * g

    return UpdateRule({"moments": 0.0}, update, decays_gradient=False)


_MAKERS: dict[str, tuple[Callable[..., UpdateRule], frozenset[str]]] = {
    "SGD": (_sgd, frozenset({"momentum", "dampening", "nesterov"})),
    "Momentum": (_momentum, frozenset({"nesterov"})),
    "Adam": (_adam, frozenset({"b1", "b2", "eps", "nesterov", "amsgrad"})),
    "AdamWeightDecay": (_adam_weight_decay, frozenset({"b1", "b2", "eps"})),
    "Adagrad": (_adagrad, frozenset({"accum", "update_slots"})),
    "RowwiseAdagrad": (_rowwise_adagrad, frozenset({"accum", "eps"})),
    "RowwiseAdam": (_rowwise_adam, frozenset({"b1", "b2", "eps"})),
    "RMSProp": (_rmsprop, frozenset({"decay", "momentum", "eps", "centered"})),
    "Lion": (_lion, frozenset({"b1", "b2"})),
    "FTRL": (_ftrl, frozenset({"initial_accum", "lr_power", "l1", "l2"})),
}
#: Keys of an optimizer's spec that are about all rules.
_COMMON = frozenset({"rule", "group", "decays"})

Spec = Mapping[str, Any]


def make_update_rule(owner: str, spec: Spec) -> UpdateRule:
    """The update rule of a spec, such as `{"rule": "Adam", "b1": …, "group": 0, "decays": True}`.

    Args:
        owner: the full name of the Parameter, for messages.
        spec: `rule`, the arguments of that rule, `group` (whose numbers apply, see `numbers_of`)
            and `decays` (whether weight decay applies).

    Raises:
        ValueError: an unknown rule, or other arguments than its own.
    """
    name = spec.get("rule")
    if name not in _MAKERS:
        raise ValueError(
            f"Parameter '{owner}': the server does not support the optimizer {name!r}. Expected "
            f"one of "
            f"{', '.join(_MAKERS)}."
        )
    maker, wanted = _MAKERS[name]
    given = frozenset(spec) - _COMMON
    if given != wanted:
        raise ValueError(
            f"Parameter '{owner}': the server's {name} takes {sorted(wanted)}, "
            f"but got {sorted(given)}."
        )
    return maker(**{key: spec[key] for key in wanted})


class Powers:
    """beta**t in float32, as t products give it, for any t."""

    def __init__(self) -> None:
        self._known: dict[float, Array] = {}

    def __call__(self, beta: float, t: int) -> np.float32:
        """The power after `t` steps."""
        known = self._known.get(beta)
        if known is None or len(known) <= t:
            factors = np.full(max(1024, 2 * t), beta, np.float32)
            factors[0] = 1
            known = self._known[beta] = np.multiply.accumulate(factors)
        return known[t]


def numbers_of(
    owner: str,
    spec: Spec,
    update_rule: UpdateRule,
    step: int,
    hyper: Mapping[str, float],
    powers: Powers,
    kind: Any,
) -> Numbers:
    """The numbers of one update.

    Args:
        owner: the full name of the Parameter, for messages.
        spec: as for `make_update_rule`. A number of group 3 is looked up as `learning_rate.3`
            first.
        update_rule: made from `spec`.
        step: how many updates there were before this one; `hyper["global_step"]` overrides it.
        hyper: `learning_rate`; `weight_decay` and `momentum` where the rule needs them.
        powers: where the powers of Adam's betas come from.
        kind: numpy's type of the arithmetic.

    Raises:
        ValueError: `hyper` has no learning rate for it.
    """

    def number(name: str, default: float | None) -> Any:
        value = hyper.get(f"{name}.{spec.get('group', 0)}", hyper.get(name, default))
        if value is None:
            raise ValueError(
                f"Parameter '{owner}': a push to the server lacks {name!r}; it has {sorted(hyper)}."
            )
        return kind(value)

    correction = kind(1)
    if update_rule.betas is not None:
        t = int(hyper.get("global_step", step)) + 1
        power1, power2 = (powers(beta, t) for beta in update_rule.betas)
        one = np.float32(1)
        correction = kind(np.sqrt(one - power2) / (one - power1))
    decay = number("weight_decay", 0.0) if spec.get("decays", False) else kind(0)
    return Numbers(number("learning_rate", None), decay, number("momentum", 0.0), correction)


def updated(
    update_rule: UpdateRule,
    w: Array,
    g: Array,
    n: Numbers,
    slots: list[Array],
    out: list[Array] | None = None,
) -> tuple[Array, ...] | list[Array]:
    """One update of a block, with weight decay; arrays of the arithmetic's type.

    Args:
        update_rule: the optimizer's.
        w: weights.
        g: their gradients.
        n: numbers.
        slots: the state.
        out: what the new weights and state are written to, if it is to be; nothing of the others.
    """
    if update_rule.decays_gradient and n.decay:
        g = g + n.decay * w
    if out is None:
        return update_rule.update(w, g, n, *slots)
    if update_rule.write is not None:
        update_rule.write(w, g, n, slots, out)
    else:
        for target, value in zip(out, update_rule.update(w, g, n, *slots), strict=True):
            np.copyto(target, value)
    return out


def arithmetic(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which weights of a type are updated: narrow floats in float32."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype
