"""More update rules like those of `rules.py`: those that adapt a rate to each element.

Adagrad and Adadelta are optax's own (`optax.scale_by_rss(eps=0)`, `optax.scale_by_adadelta`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from paramesh.optim.rules import Rule, Tree, full, over, spread
from paramesh.tensor.argument_types import RawNumber


@functools.cache
def adagrad_frozen() -> optax.GradientTransformation:
    """Adagrad whose sums of squares stay as they are (`update_slots=False`)."""

    @jax.jit
    def leaf(g: Array, accum: Array) -> tuple[Array, ...]:
        return (jnp.where(accum > 0, g * jax.lax.rsqrt(accum), 0.0),)

    def init(params: Tree) -> optax.ScaleByRssState:
        return optax.ScaleByRssState(full(params, 0.1))

    def update(grads: Tree, state: optax.ScaleByRssState, params: Tree = None) -> Any:
        return over(leaf, grads, state.sum_of_squares)[0], state

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


class AccumState(NamedTuple):
    """Sums of squared gradients."""

    accum: Tree


@functools.cache
def proximal_adagrad(accum: float = 0.1, l1: float = 0.0, l2: float = 0.0) -> Rule:
    """Adagrad with a proximal step for `l1 * |w| + l2 / 2 * w**2` (Duchi & Singer 2009)."""

    @jax.jit
    def leaf(g: Array, total: Array, w: Array, rate: RawNumber) -> tuple[Array, ...]:
        total = total + g * g
        eta = rate / jnp.sqrt(total)
        moved = w - eta * g
        shrunk = jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - eta * l1, 0.0) if l1 > 0 else moved
        return shrunk / (1.0 + eta * l2) - w, total

    def init(params: Tree) -> AccumState:
        return AccumState(full(params, accum))

    def update(grads: Tree, state: AccumState, params: Tree, *, learning_rate: Tree) -> Any:
        rates = spread(learning_rate, grads)
        updates, total = over(leaf, grads, state.accum, params, rates)
        return updates, AccumState(total)

    return Rule(init, update)  # type: ignore[arg-type]


class RMSPropState(NamedTuple):
    """`moment` holds rates too: it is what is subtracted."""

    mean_square: Tree
    moment: Tree


class CenteredRMSPropState(NamedTuple):
    """As RMSPropState, with the mean of the gradients."""

    mean_grad: Tree
    mean_square: Tree
    moment: Tree


@functools.cache
def rmsprop(
    decay: float = 0.9, momentum: float = 0.0, eps: float = 1e-10, centered: bool = False
) -> Rule:
    """RMSProp (Hinton 2012; centered: Graves 2013). `eps` is inside the root.

    The mean square starts at 1, and what moves by momentum is rate times direction.
    """

    @jax.jit
    def leaf(
        g: Array, square: Array, moment: Array, rate: RawNumber, mean: Array | None = None
    ) -> tuple[Array, ...]:
        square = decay * square + (1.0 - decay) * (g * g)
        spread_of = square
        if mean is not None:
            mean = decay * mean + (1.0 - decay) * g
            spread_of = square - mean * mean
        moment = momentum * moment + rate * (g / jnp.sqrt(spread_of + eps))
        return (-moment, square, moment) if mean is None else (-moment, mean, square, moment)

    def init(params: Tree) -> Any:
        square, zero = full(params, 1.0), full(params, 0.0)
        return CenteredRMSPropState(zero, square, zero) if centered else RMSPropState(square, zero)

    def update(
        grads: Tree,
        state: Tree,
        params: Tree = None,
        *,
        learning_rate: Tree,
    ) -> Any:
        mean = [state.mean_grad] if centered else []
        rates = spread(learning_rate, grads)
        updates, *new = over(leaf, grads, state.mean_square, state.moment, rates, *mean)
        return updates, type(state)(*new)

    return Rule(init, update)  # type: ignore[arg-type]


class FTRLState(NamedTuple):
    """Sums of squares, and the linear term z of the paper."""

    moments: Tree
    linear: Tree


@functools.cache
def ftrl(initial_accum: float = 0.1, lr_power: float = -0.5) -> Rule:
    """The state of FTRL-Proximal (McMahan et al. 2013, algorithm 1); the weights follow from it.

    `update` gives the state alone and zeros as updates; `ftrl_weights` gives the new weights,
    which do not depend on the old ones (to add a difference would lose digits).
    """

    @jax.jit
    def leaf(g: Array, total: Array, linear: Array, w: Array, rate: RawNumber) -> tuple[Array, ...]:
        new = total + g * g
        grown = (_power(new, -lr_power) - _power(total, -lr_power)) / rate
        return new, linear + g - grown * w

    def init(params: Tree) -> FTRLState:
        return FTRLState(full(params, initial_accum), full(params, 0.0))

    def update(grads: Tree, state: FTRLState, params: Tree, *, learning_rate: Tree) -> Any:
        rates = spread(learning_rate, grads)
        total, linear = over(leaf, grads, state.moments, state.linear, params, rates)
        return jax.tree.map(jnp.zeros_like, grads), FTRLState(total, linear)

    return Rule(init, update)  # type: ignore[arg-type]


def _power(base: Array, exponent: float) -> Array:
    return jnp.sqrt(base) if exponent == 0.5 else base**exponent


@functools.cache
def ftrl_weights(
    lr_power: float = -0.5, l1: float = 0.0, l2: float = 0.0
) -> Callable[[Array, Array, RawNumber], Array]:
    """A function (sums of squares, linear, rate) -> weights, for one leaf."""

    @jax.jit
    def leaf(total: Array, linear: Array, rate: RawNumber) -> Array:
        bottom = _power(total, -lr_power) / rate + 2.0 * l2
        return jnp.where(jnp.abs(linear) > l1, (jnp.sign(linear) * l1 - linear) / bottom, 0.0)

    return leaf


class ASGDState(NamedTuple):
    """Number of steps made; by leaf, weight of the newest value in the average, rate, average."""

    count: Any
    mu: Tree
    eta: Tree
    ax: Tree


@functools.cache
def asgd(lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6) -> Rule:
    """Averaged SGD (Polyak & Juditsky 1992): the average is in the state, the weights are plain."""

    @jax.jit
    def leaf(
        g: Array, mu: Array, eta: Array, ax: Array, w: Array, rate: RawNumber, step: RawNumber
    ) -> tuple[Array, ...]:
        eta = jnp.where(step == 1.0, rate, eta)
        new = w * (1.0 - lambd * eta) - eta * g
        ax = jnp.where(mu == 1.0, new, ax + (new - ax) * mu)
        eta = rate / (1.0 + lambd * rate * step) ** alpha
        return new - w, 1.0 / jnp.maximum(step - t0, 1.0), eta, ax

    def init(params: Tree) -> ASGDState:
        ones = jax.tree.map(lambda _: jnp.ones((), jnp.float32), params)
        zeros = jax.tree.map(jnp.zeros_like, ones)
        return ASGDState(jnp.zeros((), jnp.int32), ones, zeros, full(params, 0.0))

    def update(grads: Tree, state: ASGDState, params: Tree, *, learning_rate: Tree) -> Any:
        steps = spread((state.count + 1).astype(jnp.float32), grads)
        rates = spread(learning_rate, grads)
        updates, *new = over(leaf, grads, state.mu, state.eta, state.ax, params, rates, steps)
        return updates, ASGDState(state.count + 1, *new)

    return Rule(init, update)  # type: ignore[arg-type]


class RpropState(NamedTuple):
    """The last gradients, and the size of each element's step (0 before the first)."""

    prev: Tree
    step_size: Tree


@functools.cache
def rprop(
    eta_minus: float = 0.5, eta_plus: float = 1.2, smallest: float = 1e-6, largest: float = 50.0
) -> Rule:
    """Resilient backpropagation (Riedmiller & Braun 1993), a turned element waiting one step."""

    @jax.jit
    def leaf(g: Array, prev: Array, size: Array, rate: RawNumber) -> tuple[Array, ...]:
        size = jnp.where(size == 0, rate, size)
        same = g * prev
        factor = jnp.where(same > 0, eta_plus, jnp.where(same < 0, eta_minus, 1.0))
        size = jnp.clip(size * factor.astype(size.dtype), smallest, largest)
        g = jnp.where(same < 0, 0.0, g)
        return -jnp.sign(g) * size, g, size

    def init(params: Tree) -> RpropState:
        return RpropState(full(params, 0.0), full(params, 0.0))

    def update(grads: Tree, state: RpropState, params: Tree = None, *, learning_rate: Tree) -> Any:
        rates = spread(learning_rate, grads)
        updates, prev, size = over(leaf, grads, state.prev, state.step_size, rates)
        return updates, RpropState(prev, size)

    return Rule(init, update)  # type: ignore[arg-type]


class AdaFactorState(NamedTuple):
    """Means of squares: by rows and columns for two axes and more, otherwise for each element.

    What a leaf has no use for has shape (1,). `exp_avg` is None without first moment.
    """

    afactor_step: Array
    exp_avg: Tree
    exp_avg_sq_row: Tree
    exp_avg_sq_col: Tree
    exp_avg_sq: Tree


def factored_shapes(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Shapes of the row means, column means and elementwise means that AdaFactor keeps."""
    if len(shape) < 2:
        return (1,), (1,), shape
    return shape[:-1], shape[:-2] + shape[-1:], (1,)


def _rms(x: Array) -> Array:
    return jnp.sqrt(jnp.mean(x * x))


@functools.cache
def adafactor(
    eps: tuple[float, float] = (1e-30, 1e-3),
    clip_threshold: float = 1.0,
    decay_rate: float = 0.8,
    beta1: float | None = 0.9,
    scale_parameter: bool = True,
    relative_step: bool = True,
    warmup_init: bool = False,
) -> Rule:
    """Adafactor (Shazeer & Stern 2018), with momentum over the clipped, scaled update.

    `update` takes `weight_decay=` too: the weights shrink by rate times decay.
    """

    @jax.jit
    def leaf(
        g: Array,
        row: Array,
        col: Array,
        sq: Array,
        w: Array,
        rate: RawNumber,
        decay: RawNumber,
        b2: RawNumber,
        avg: Array | None = None,
    ) -> tuple[Array, ...]:
        if scale_parameter:
            rate = rate * jnp.maximum(eps[1], _rms(w))
        square = g * g + eps[0]
        if g.ndim >= 2:
            row = b2 * row + (1.0 - b2) * jnp.mean(square, axis=-1)
            col = b2 * col + (1.0 - b2) * jnp.mean(square, axis=-2)
            rows = jax.lax.rsqrt(row / jnp.mean(row, axis=-1, keepdims=True))
            direction = g * rows[..., None] * jax.lax.rsqrt(col)[..., None, :]
        else:
            sq = b2 * sq + (1.0 - b2) * square
            direction = g * jax.lax.rsqrt(sq)
        direction = direction / jnp.maximum(1.0, _rms(direction) / clip_threshold) * rate
        new = [row, col, sq]
        if avg is not None:
            decay1 = beta1 or 0.0
            direction = decay1 * avg + (1.0 - decay1) * direction
            new.insert(0, direction)
        return (-direction - rate * decay * w, *new)

    def init(params: Tree) -> AdaFactorState:
        def state(which: int) -> Tree:
            return jax.tree.map(
                lambda p: jnp.zeros(factored_shapes(p.shape)[which], jnp.float32), params
            )

        avg = full(params, 0.0) if beta1 else None
        return AdaFactorState(jnp.zeros((), jnp.float32), avg, state(0), state(1), state(2))

    def update(
        grads: Tree,
        state: AdaFactorState,
        params: Tree,
        *,
        learning_rate: Tree = 0.0,
        weight_decay: Tree = 0.0,
    ) -> Any:
        step = state.afactor_step + 1.0
        if relative_step:
            least = 1e-6 * step if warmup_init else jnp.float32(1e-2)
            learning_rate = jnp.minimum(least, jax.lax.rsqrt(step))
        b2 = spread(1.0 - step ** jnp.float32(-decay_rate), grads)
        rates, decays = spread(learning_rate, grads), spread(weight_decay, grads)
        squares = (state.exp_avg_sq_row, state.exp_avg_sq_col, state.exp_avg_sq)
        avg = [state.exp_avg] if beta1 else []
        updates, *new = over(leaf, grads, *squares, params, rates, decays, b2, *avg)
        return updates, AdaFactorState(step, *([] if beta1 else [None]), *new)

    return Rule(init, update)  # type: ignore[arg-type]
