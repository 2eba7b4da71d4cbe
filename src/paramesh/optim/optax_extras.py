"""What some optax transformations take besides gradients, states and Parameters.

`lookahead` takes two sets of Parameters, fast and slow ones; line searches take a function of the
Parameters that gives the loss.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from paramesh.array_types import Tree
from paramesh.parameter import Parameter
from paramesh.state import tracing
from paramesh.tensor.base import raw


class SlowState(NamedTuple):
    """The state of a lookahead.

    Attributes:
        weights: the slow Parameters.
        inner: optax's state.
    """

    weights: Tree
    inner: Tree


def plain(transform: Any) -> Any:
    """The transformation as one over a single set of Parameters.

    Of `optax.lookahead`, the Parameters are the fast ones, and the slow ones are state:
    `slow.weights.fc1.weight`.

    Source: M. Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back", NeurIPS 2019.
    """
    if not getattr(transform.init, "__qualname__", "").startswith("lookahead."):
        return transform
    inner: Any = optax.with_extra_args_support(transform)

    def init(params: Tree) -> SlowState:
        slow = jax.tree.map(jnp.asarray, params)
        return SlowState(slow, inner.init(optax.LookaheadParams(params, slow)))

    def update(updates: Tree, state: Tree, params: Tree = None, **extra: object) -> Any:
        both = optax.LookaheadParams(params, state.weights)
        moves, after = inner.update(updates, state.inner, both, **extra)
        slow = optax.apply_updates(state.weights, moves.slow)
        return moves.fast, SlowState(slow, after)

    return optax.GradientTransformationExtraArgs(init, update)


def without_typed_keys(
    transform: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """The transformation with the numbers of its random keys (UInt32) as state, not the keys."""
    kinds: list[Any] = []

    def bare(state: Tree) -> Tree:
        flat, tree = jax.tree.flatten(state)
        kinds[:] = [jax.random.key_impl(leaf) if _is_key(leaf) else None for leaf in flat]
        return jax.tree.unflatten(tree, [jax.random.key_data(v) if _is_key(v) else v for v in flat])

    def init(params: Tree) -> Tree:
        return bare(transform.init(params))

    def update(updates: Tree, state: Tree, params: Tree = None, **extra: object) -> Any:
        flat, tree = jax.tree.flatten(state)
        pairs = zip(flat, kinds, strict=True)
        keyed = [v if kind is None else jax.random.wrap_key_data(v, impl=kind) for v, kind in pairs]
        updates, after = transform.update(updates, jax.tree.unflatten(tree, keyed), params, **extra)
        return updates, bare(after)

    return optax.GradientTransformationExtraArgs(init, update)


def _is_key(leaf: object) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def extras(
    given: Mapping[str, Any], gradients: Tree, by_name: Mapping[str, Parameter]
) -> dict[str, Any]:
    """The further arguments of an update, as optax wants them.

    Args:
        given: as the user gave them. A `value_fn` without arguments, which reads the Parameters by
            itself, becomes one of the dict that optax gives it.
        gradients: of the update; they are the `grad` of a line search.
        by_name: the trained Parameters.
    """
    found = {name: _bare(value) for name, value in given.items()}
    if "value_fn" in found:
        found["value_fn"] = _of_values(found["value_fn"], by_name)
        found.setdefault("grad", gradients)
    return found


def _bare(value: object) -> Any:
    """Without Tensors; a function stays what it is."""
    if callable(value) and not hasattr(value, "_get"):
        return value
    return jax.tree.map(raw, value, is_leaf=lambda leaf: hasattr(leaf, "_get"))


def _of_values(fn: Callable[..., Any], by_name: Mapping[str, Parameter]) -> Callable[..., Any]:
    try:
        wants = [
            p
            for p in inspect.signature(fn).parameters.values()
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):  # nothing is known of it
        return fn

    def value(params: Mapping[str, Any], **extra: object) -> Any:
        if wants:
            return raw(fn(params, **extra))
        # A line search only tries: what the function writes meanwhile (random states, averages) is
        # dropped.
        with tracing.overlay({by_name[name]: array for name, array in params.items()}):
            return jnp.asarray(raw(fn())).reshape(())

    return value
