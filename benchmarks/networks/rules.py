"""The optimizers of the networks as optax transforms, for everyone who trains with optax."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from networks.definitions import ADAM_EPSILON, BETA1, BETA2, DECAY, MOMENTUM, Network


class Moments(NamedTuple):
    """First and second moment of every gradient."""

    first: Any
    second: Any


def _uncorrected_adam() -> optax.GradientTransformation:
    """`m / (sqrt(v) + eps)` as BERT trains; optax's own divides the moments by `1 - beta**t`."""

    def init(params: optax.Params) -> Moments:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return Moments(zeros, jax.tree.map(jnp.zeros_like, params))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, Moments]:
        assert isinstance(state, Moments)
        first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, state.first, updates)
        second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, state.second, updates)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + ADAM_EPSILON), first, second)
        return updates, Moments(first, second)

    return optax.GradientTransformation(init, update)


def _decaying(weights: Any) -> Any:
    """False for the weights of norms, which have that in their paths, and True for all others."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "norm" not in jax.tree_util.keystr(path), weights
    )


def optimizer(network: Network) -> optax.GradientTransformation:
    """A: Adam; B: Momentum; C: AdamWeightDecay; D: SGD."""
    if network.key == "A":
        return optax.adam(network.rate)
    if network.key == "B":
        return optax.sgd(network.rate, momentum=MOMENTUM)
    if network.key == "D":
        return optax.sgd(network.rate)
    return optax.chain(
        _uncorrected_adam(),
        optax.add_decayed_weights(DECAY, mask=_decaying),
        optax.scale(-network.rate),
    )
