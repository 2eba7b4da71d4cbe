"""The arithmetic of the optimizers with groups, for one Parameter at a time.

Each function takes `(options, g, w, rate, step, *state)`: the options of the group as pairs, the
gradient, the Parameter, the learning rate, the number of this update (from 1), and the state that
the optimizer keeps for the Parameter, all raw and at least Float32. It gives what to add to the
Parameter, and the new state. The rules are torch's, which MindSpore's `mint.optim` has by the same
names; where `experimental.optim` computes another way, the docstring says how. Papers are named.

Each is a jitted function, traced once for each shape and set of options.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

Options = tuple[tuple[str, Any], ...]
Leaf = Callable[..., tuple[Array, ...]]


def leaf(compute: Callable[..., tuple[Array, ...]]) -> Any:
    """A rule of a function that takes the options as a dict, and the gradient as it is to be used.

    `maximize` turns the gradient around; `weight_decay` times the Parameter is added to it.
    """

    @functools.partial(jax.jit, static_argnums=0)
    def rule(
        options: Options, g: Array, w: Array, rate: Array, step: Array | None, *state: Array
    ) -> tuple[Array, ...]:
        o = dict(options)
        if o.get("maximize"):
            g = -g
        if o.get("weight_decay") and not getattr(compute, "decoupled", False):
            g = g + o["weight_decay"] * w
        return compute(o, g, w, rate, step, *state)

    functools.update_wrapper(rule, compute)
    return staticmethod(rule)


def as_step(count: Array, start: int) -> Array:
    """The number of this update as Float32, of a counter that started from `start`."""
    return (count - start).astype(jnp.float32)


def bias(beta: float, step: Array) -> Array:
    """`1 - beta**step`, without the cancellation that float32 has for a beta near 1."""
    return -jnp.expm1(step * math.log(beta)) if beta > 0 else jnp.ones_like(step)


def _moments(o: dict[str, Any], g: Array, m: Array, v: Array) -> tuple[Array, Array]:
    b1, b2 = o["betas"]
    return m * b1 + g * (1 - b1), v * b2 + g * g * (1 - b2)


def _adam_step(
    o: dict[str, Any], g: Array, rate: Array, step: Array, m: Array, v: Array, *largest: Array
) -> tuple[Array, ...]:
    b1, b2 = o["betas"]
    m, v = _moments(o, g, m, v)
    if o["amsgrad"]:
        largest = tuple(jnp.maximum(each, v) for each in largest)
    top = largest[0] if o["amsgrad"] else v
    root = jnp.sqrt(top) / jnp.sqrt(bias(b2, step)) + o["eps"]
    return -(rate / bias(b1, step)) * (m / root), m, v, *largest


def _adam(
    o: dict[str, Any], g: Array, w: Array, rate: Array, step: Array, *state: Array
) -> tuple[Array, ...]:
    return _adam_step(o, g, rate, step, *state)


def _adam_uncorrected(
    o: dict[str, Any], g: Array, w: Array, rate: Array, step: Array, *state: Array
) -> tuple[Array, ...]:
    root = jnp.sqrt(bias(o["betas"][1], step))
    return _adam_step({**o, "eps": o["eps"] / root}, g, rate, step, *state)


def _adamw(
    o: dict[str, Any], g: Array, w: Array, rate: Array, step: Array, *state: Array
) -> tuple[Array, ...]:
    change, *rest = _adam_step(o, g, rate, step, *state)
    return change - rate * o["weight_decay"] * w, *rest


_adamw.__dict__["decoupled"] = True


def _sgd_of(o: dict[str, Any], g: Array, first: Array, buffer: Array) -> tuple[Array, Array]:
    """The direction and the new buffer, which starts as the first gradient."""
    if not o["momentum"]:
        return g, buffer
    buffer = jnp.where(first, g, o["momentum"] * buffer + (1 - o["dampening"]) * g)
    return (g + o["momentum"] * buffer if o["nesterov"] else buffer), buffer


def _sgd(
    o: dict[str, Any], g: Array, w: Array, rate: Array, step: Array, buffer: Array
) -> tuple[Array, ...]:
    direction, buffer = _sgd_of(o, g, step == 1, buffer)
    return -rate * direction, buffer


def _sgd_with_stat(
    o: dict[str, Any], g: Array, w: Array, rate: Array, step: None, accum: Array, stat: Array
) -> tuple[Array, ...]:
    direction, accum = _sgd_of(o, g, stat > 0, accum)
    return -rate * direction, accum, jnp.zeros_like(stat) if o["momentum"] else stat


def _adagrad(
    o: dict[str, Any], g: Array, w: Array, rate: Array, step: Array, accum: Array
) -> tuple[Array, ...]:
    accum = accum + g * g
    rate = rate / (1 + (step - 1) * o["lr_decay"])
    return -rate * g / (jnp.sqrt(accum) + o["eps"]), accum


def _adadelta(
    o: dict[str, Any], g: Array, w: Array, rate: Array, step: None, accum: Array, moved: Array
) -> tuple[Array, ...]:
    rho, eps = o["rho"], o["eps"]
    accum = rho * accum + (1 - rho) * (g * g)
    change = jnp.sqrt(moved + eps) / jnp.sqrt(accum + eps) * g
    return -rate * change, accum, rho * moved + (1 - rho) * (change * change)


def _adamax(
    o: dict[str, Any], g: Array, w: Array, rate: Array, step: Array, m: Array, norm: Array
) -> tuple[Array, ...]:
    b1, b2 = o["betas"]
    m = m * b1 + g * (1 - b1)
    norm = jnp.maximum(norm * b2, jnp.abs(g) + o["eps"])
    return -(rate / bias(b1, step)) * m / norm, m, norm


def _rmsprop(
    o: dict[str, Any], g: Array, w: Array, rate: Array, step: None,
    mean: Array, square: Array, moment: Array,
) -> tuple[Array, ...]:  # fmt: skip
    alpha = o["alpha"]
    square = alpha * square + (1 - alpha) * (g * g)
    average = square
    if o["centered"]:
        mean = alpha * mean + (1 - alpha) * g
        average = square - mean * mean
    change = g / (jnp.sqrt(average) + o["eps"])
    if o["momentum"]:
        moment = o["momentum"] * moment + change
        change = moment
    return -rate * change, mean, square, moment


def _rprop(
    o: dict[str, Any], g: Array, w: Array, rate: Array, step: Array, before: Array, size: Array
) -> tuple[Array, ...]:
    less, more = o["etas"]
    size = jnp.where(step == 1, rate, size)
    turned = jnp.sign(g * before)
    factor = jnp.where(turned > 0, more, jnp.where(turned < 0, less, 1.0))
    size = jnp.clip(size * factor, *o["step_sizes"])
    g = jnp.where(turned < 0, 0.0, g)
    return -jnp.sign(g) * size, g, size


def _radam(
    o: dict[str, Any], g: Array, w: Array, rate: Array, step: Array, m: Array, v: Array
) -> tuple[Array, ...]:
    b1, b2 = o["betas"]
    m, v = _moments(o, g, m, v)
    most = 2 / (1 - b2) - 1
    length = most - 2 * step * (1 - bias(b2, step)) / bias(b2, step)
    there = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
    rectified = jnp.sqrt(jnp.where(length > 5, there, 1.0))
    adapted = rectified * jnp.sqrt(bias(b2, step)) / (jnp.sqrt(v) + o["eps"])
    return -rate * (m / bias(b1, step)) * jnp.where(length > 5, adapted, 1.0), m, v


def _nadam(
    o: dict[str, Any], g: Array, w: Array, rate: Array, step: Array,
    m: Array, v: Array, product: Array,
) -> tuple[Array, ...]:  # fmt: skip
    b1, b2 = o["betas"]
    now = b1 * (1 - 0.5 * 0.96 ** (step * o["momentum_decay"]))
    then = b1 * (1 - 0.5 * 0.96 ** ((step + 1) * o["momentum_decay"]))
    product = product * now
    m, v = _moments(o, g, m, v)
    root = jnp.sqrt(v / bias(b2, step)) + o["eps"]
    change = (1 - now) / (1 - product) * g + then / (1 - product * then) * m
    return -rate * change / root, m, v, product


def _asgd(
    o: dict[str, Any], g: Array, w: Array, rate: Array, step: Array,
    eta: Array, mu: Array, mean: Array,
) -> tuple[Array, ...]:  # fmt: skip
    eta = jnp.where(step == 1, rate, eta)
    change = -o["lambd"] * eta * w - eta * g
    new = w + change
    mean = jnp.where(mu == 1, new, mean + (new - mean) * mu)
    eta = jnp.broadcast_to(rate / (1 + o["lambd"] * rate * step) ** o["alpha"], eta.shape)
    mu = jnp.broadcast_to(1 / jnp.maximum(1.0, step - o["t0"]), mu.shape)
    return change, eta, mu, mean


#: Adam (Kingma & Ba 2015), with `eps` beside the corrected root. With `amsgrad` (Reddi et al. 2018)
#: there is a fifth column, the largest second moment.
adam = leaf(_adam)
#: Adam with `eps` beside the root before its correction, as `experimental.optim.Adam`.
adam_uncorrected = leaf(_adam_uncorrected)
#: Adam with decay apart from the gradient (Loshchilov & Hutter 2019).
adamw = leaf(_adamw)
#: Momentum, whose buffer starts as the first gradient; without momentum the gradient itself.
sgd = leaf(_sgd)
#: The same, with `stat`, which is 1 before the first update and 0 after it, in place of a counter.
sgd_with_stat = leaf(_sgd_with_stat)
#: Adagrad (Duchi et al. 2011), `eps` beside the root.
adagrad = leaf(_adagrad)
#: Adadelta (Zeiler 2012).
adadelta = leaf(_adadelta)
#: Adamax (Kingma & Ba 2015, section 7.1), `eps` in the norm.
adamax = leaf(_adamax)
#: RMSprop (Hinton), from a mean square of 0.
rmsprop = leaf(_rmsprop)
#: Rprop (Riedmiller & Braun 1993).
rprop = leaf(_rprop)
#: RAdam (Liu et al. 2020).
radam = leaf(_radam)
#: NAdam (Dozat 2016).
nadam = leaf(_nadam)
#: Averaged gradient descent (Polyak & Juditsky 1992).
asgd = leaf(_asgd)
