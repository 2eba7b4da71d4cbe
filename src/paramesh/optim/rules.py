"""Update rules as optax transformations, where optax lacks one or computes it differently.

Each function here returns an `optax.GradientTransformationExtraArgs`: `init(params)` gives the
first state, `update(grads, state, params, learning_rate=…)` the updates to add to the params and
the next state, for any pytree of float arrays. `learning_rate` is a number, or a tree of numbers
like that of the gradients. States are NamedTuples with the names that MindSpore's optimizers give
them. Where the bias correction stands, what is inside a root and what a state starts from are
MindSpore's (recorded from version 2.10 on CPU); papers are named where there is one.

The arithmetic of one leaf is a jitted function, so that leaves of one shape are traced once. Rules
are cached by their hyperparameters for the same reason.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from paramesh.tensor.argument_types import RawNumber

Tree = Any
Rule = optax.GradientTransformationExtraArgs


def over(leaf: Callable[..., Any], like: Tree, *trees: Tree) -> tuple[Tree, ...]:
    """`leaf` on the leaves of trees shaped like the first; a tree for each thing it returns."""
    flat, shape = jax.tree.flatten(like)
    rest = [shape.flatten_up_to(tree) for tree in trees]
    rows = [leaf(*row) for row in zip(flat, *rest, strict=True)]
    return tuple(shape.unflatten(column) for column in zip(*rows, strict=True))


def spread(value: Tree, like: Tree, fn: Callable[[Any], Any] = lambda value: value) -> Tree:
    """`fn(value)` for every leaf of `like`: computed once for each distinct number."""
    shape = jax.tree.structure(like)
    if jax.tree.structure(value) != shape or jax.tree_util.treedef_is_leaf(shape):
        given = [value] * shape.num_leaves
    else:
        given = shape.flatten_up_to(value)
    done: dict[int, Any] = {}
    for item in given:
        if id(item) not in done:
            done[id(item)] = fn(item)
    return shape.unflatten([done[id(item)] for item in given])


def full(params: Tree, value: float) -> Tree:
    """A state like `params` that starts at one number."""
    return jax.tree.map(lambda p: jnp.full(p.shape, value, p.dtype), params)


def _one(value: float) -> Array:
    return jnp.asarray(value, jnp.float32)


# Momentum.


class SGDState(NamedTuple):
    """`stat` is 1 before the first step, which is not dampened, and 0 after it."""

    accum: Tree
    stat: Tree


@functools.cache
def sgd(dampening: float = 0.0, nesterov: bool = False) -> Rule:
    """Stochastic gradient descent with momentum and dampening; `update` takes `momentum=` too."""

    @jax.jit
    def leaf(
        g: Array, accum: Array, stat: Array, rate: RawNumber, momentum: RawNumber
    ) -> tuple[Array, ...]:
        kept = jnp.where(stat > 0, g, accum * momentum + g * (1.0 - dampening))
        top = g + kept * momentum if nesterov else kept
        return -rate * top, kept, jnp.zeros_like(stat)

    def init(params: Tree) -> SGDState:
        return SGDState(full(params, 0.0), full(params, 1.0))

    def update(
        grads: Tree, state: SGDState, params: Tree = None, *, learning_rate: Tree, momentum: Tree
    ) -> Any:
        rates, momenta = spread(learning_rate, grads), spread(momentum, grads)
        updates, accum, stat = over(leaf, grads, state.accum, state.stat, rates, momenta)
        return updates, SGDState(accum, stat)

    return Rule(init, update)  # type: ignore[arg-type]


# The Adam family.


def _rest(decay: float) -> float:
    # MindSpore subtracts in float32: for 0.999 that differs by 1.3e-5.
    return float(np.float32(1) - np.float32(decay))


class AdamState(NamedTuple):
    """The powers are beta1**t and beta2**t after t steps."""

    beta1_power: Array
    beta2_power: Array
    moment1: Tree
    moment2: Tree


class AmsgradState(NamedTuple):
    """As AdamState, with the largest `moment2` so far."""

    beta1_power: Array
    beta2_power: Array
    moment1: Tree
    moment2: Tree
    vhat: Tree


@functools.partial(jax.jit, static_argnums=1)
def _next_power(power: Array, beta: float) -> tuple[Array, Array]:
    """`power * beta`, and 1 minus that.

    The difference is `(1 - power) + power * (1 - beta)`: `1 - power * beta` near 1 has the rounding
    of the product a thousand times enlarged where it is not a fused multiply-add, which depends on
    what else a program computes.
    """
    single = float(np.float32(beta))
    return power * beta, (1.0 - power) + power * (1.0 - single)


def _squares(g: Array) -> Array:
    return g * g


@functools.cache
def adam(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    nesterov: bool = False,
    amsgrad: bool = False,
    squares: Callable[[Array], Array] = _squares,
) -> Rule:
    """Adam (Kingma & Ba 2015): the rate is corrected, `eps` is added to the uncorrected root.

    `learning_rate * sqrt(1 - b2**t) / (1 - b1**t) * m / (sqrt(v) + eps)`. `nesterov` puts
    `b1 * m + (1 - b1) * g` in place of m (Dozat 2016), `amsgrad` the largest v so far in place of
    v (Reddi et al. 2018). `squares` gives what v averages, and with it the shape of v.
    """
    c1, c2 = _rest(b1), _rest(b2)

    @jax.jit
    def leaf(
        g: Array, m: Array, v: Array, rate: RawNumber, largest: Array | None = None
    ) -> tuple[Array, ...]:
        m = b1 * m + c1 * g
        v = b2 * v + c2 * squares(g)
        top = b1 * m + c1 * g if nesterov else m
        if largest is None:
            return -rate * (top / (jnp.sqrt(v) + eps)), m, v
        largest = jnp.maximum(largest, v)
        return -rate * (top / (jnp.sqrt(largest) + eps)), m, v, largest

    def init(params: Tree) -> Any:
        averaged = jax.tree.map(lambda w: jax.eval_shape(squares, w), params)
        moments = [full(params, 0.0), full(averaged, 0.0), full(averaged, 0.0)]
        if amsgrad:
            return AmsgradState(_one(1.0), _one(1.0), *moments)
        return AdamState(_one(1.0), _one(1.0), *moments[:2])

    def update(grads: Tree, state: Tree, params: Tree = None, *, learning_rate: Tree) -> Any:
        power1, rest1 = _next_power(state.beta1_power, b1)
        power2, rest2 = _next_power(state.beta2_power, b2)
        correction = jnp.sqrt(rest2) / rest1
        rates = spread(learning_rate, grads, lambda rate: rate * correction)
        largest = [state.vhat] if amsgrad else []
        updates, *moments = over(leaf, grads, state.moment1, state.moment2, rates, *largest)
        return updates, type(state)(power1, power2, *moments)

    return Rule(init, update)  # type: ignore[arg-type]


class AdamWeightDecayState(NamedTuple):
    """First and second moment."""

    adam_m: Tree
    adam_v: Tree


@functools.cache
def adam_weight_decay(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6) -> Rule:
    """Adam without bias correction and with decay apart from the gradient, as BERT trains.

    `learning_rate * (m / (sqrt(v) + eps) + weight_decay * w)`; `update` takes `weight_decay=` too.
    """
    c1, c2 = _rest(b1), _rest(b2)

    @jax.jit
    def leaf(
        g: Array, m: Array, v: Array, w: Array, rate: RawNumber, decay: RawNumber
    ) -> tuple[Array, ...]:
        m = b1 * m + c1 * g
        v = b2 * v + c2 * (g * g)
        return -rate * (m / (jnp.sqrt(v) + eps) + decay * w), m, v

    def init(params: Tree) -> AdamWeightDecayState:
        return AdamWeightDecayState(full(params, 0.0), full(params, 0.0))

    def update(
        grads: Tree,
        state: AdamWeightDecayState,
        params: Tree,
        *,
        learning_rate: Tree,
        weight_decay: Tree = 0.0,
    ) -> Any:
        rates, decays = spread(learning_rate, grads), spread(weight_decay, grads)
        updates, m, v = over(leaf, grads, state.adam_m, state.adam_v, params, rates, decays)
        return updates, AdamWeightDecayState(m, v)

    return Rule(init, update)  # type: ignore[arg-type]


class AdaMaxState(NamedTuple):
    """`moment2` is the exponentially weighted infinity norm."""

    beta1_power: Array
    moment1: Tree
    moment2: Tree


@functools.cache
def adamax(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Rule:
    """AdaMax (Kingma & Ba 2015, section 7.1), with `eps` added to the norm."""
    c1 = _rest(b1)

    @jax.jit
    def leaf(g: Array, m: Array, v: Array, rate: RawNumber) -> tuple[Array, ...]:
        m = b1 * m + c1 * g
        v = jnp.maximum(b2 * v, jnp.abs(g))
        return -rate * (m / (v + eps)), m, v

    def init(params: Tree) -> AdaMaxState:
        return AdaMaxState(_one(1.0), full(params, 0.0), full(params, 0.0))

    def update(grads: Tree, state: AdaMaxState, params: Tree = None, *, learning_rate: Tree) -> Any:
        power = state.beta1_power * b1
        rates = spread(learning_rate, grads, lambda rate: rate / (1.0 - power))
        updates, m, v = over(leaf, grads, state.moment1, state.moment2, rates)
        return updates, AdaMaxState(power, m, v)

    return Rule(init, update)  # type: ignore[arg-type]


class LambState(NamedTuple):
    """`count` is the number of steps made."""

    count: Any
    lamb_m: Tree
    lamb_v: Tree


def _bias(decay: float, step: Array) -> Array:
    # 1 - decay**step, without the cancellation that float32 has for a decay near 1.
    return -jnp.expm1(step * math.log(decay))


@functools.cache
def lamb(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6) -> Rule:
    """LAMB (You et al. 2020, algorithm 2), the norms' ratio as in `optax.scale_by_trust_ratio`.

    `update` takes `weight_decay=` too: it belongs to the direction that the ratio scales.
    """
    trust = optax.scale_by_trust_ratio()

    @jax.jit
    def leaf(
        g: Array, m: Array, v: Array, w: Array, decay: RawNumber, bias1: RawNumber, bias2: RawNumber
    ) -> tuple[Array, ...]:
        m = b1 * m + (1.0 - b1) * g
        v = b2 * v + (1.0 - b2) * (g * g)
        return m / bias1 / (jnp.sqrt(v / bias2) + eps) + decay * w, m, v

    @jax.jit
    def scaled(direction: Array, w: Array, rate: RawNumber) -> tuple[Array, ...]:
        scaled: Array = trust.update(direction, trust.init(w), w)[0]  # type: ignore[assignment]
        return (-rate * scaled,)

    def init(params: Tree) -> LambState:
        return LambState(jnp.zeros((), jnp.int32), full(params, 0.0), full(params, 0.0))

    def update(
        grads: Tree,
        state: LambState,
        params: Tree,
        *,
        learning_rate: Tree,
        weight_decay: Tree = 0.0,
    ) -> Any:
        step = (state.count + 1).astype(jnp.float32)
        bias = [spread(_bias(b, step), grads) for b in (b1, b2)]
        decays = spread(weight_decay, grads)
        directions, m, v = over(leaf, grads, state.lamb_m, state.lamb_v, params, decays, *bias)
        (updates,) = over(scaled, directions, params, spread(learning_rate, grads))
        return updates, LambState(state.count + 1, m, v)

    return Rule(init, update)  # type: ignore[arg-type]
