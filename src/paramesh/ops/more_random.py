"""More random numbers: whole channels dropped, other distributions, candidates of sampled softmax.

Keys and seeds are those of `paramesh.ops.random_ops`.

Source: MindSpore's operators of these names, and the papers that they name.
"""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import float32, int64, to_dtype, x64
from paramesh.ops.array import ints
from paramesh.ops.random_ops import both_seeds, key_of
from paramesh.ops.table import Array, Dtype, Floating, function, primitive, tuple_function
from paramesh.tensor.argument_types import Ints
from paramesh.tensor.promotion import cast

# fmt: off
__all__ = [
    "channel_dropout2d", "Dropout2D", "channel_dropout3d", "Dropout3D", "dropout1d", "dropout2d",
    "dropout3d", "gamma", "Gamma", "random_gamma", "RandomGamma", "laplace", "standard_laplace",
    "StandardLaplace", "poisson", "random_poisson", "rrelu",
    "multinomial_with_replacement", "uniform_candidate_sampler",
    "UniformCandidateSampler", "log_uniform_candidate_sampler", "LogUniformCandidateSampler",
]
# fmt: on

# Channels.


def _channels(x: jax.Array, axes: int, keep: float, seed: int | None) -> tuple[Any, Any]:
    """What is left of x, whose last `axes` axes are dropped or kept together, and what is kept."""
    if x.ndim <= axes:
        raise ValueError(f"expected (..., c) and {axes} axes more, got {tuple(x.shape)}.")
    shape = (*x.shape[: x.ndim - axes], *(1,) * axes)
    kept = jax.random.bernoulli(key_of(seed), np.float32(keep), shape)
    kept = jnp.broadcast_to(kept, x.shape)
    scaled = x / keep if keep else jnp.zeros_like(x)
    return jnp.where(kept, scaled, 0).astype(x.dtype), kept


def _checked(keep_prob: float) -> float:
    if not 0 <= keep_prob <= 1:
        raise ValueError(f"keep_prob must be in [0, 1], got {keep_prob}.")
    return keep_prob


@tuple_function
def channel_dropout2d(x: Array, keep_prob: float = 0.5) -> Any:
    """Channels (h, w) kept with this probability, times 1 / keep_prob; and Bool, which are kept."""
    return _channels(x, 2, _checked(keep_prob), None)


@tuple_function
def channel_dropout3d(x: Array, keep_prob: float = 0.5) -> Any:
    """The same of channels (d, h, w) of volumes."""
    return _channels(x, 3, _checked(keep_prob), None)


Dropout2D = primitive(
    "Dropout2D", channel_dropout2d, lambda keep_prob=0.5: {"keep_prob": _checked(keep_prob)}
)
Dropout3D = primitive(
    "Dropout3D", channel_dropout3d, lambda keep_prob=0.5: {"keep_prob": _checked(keep_prob)}
)


def _dropped(x: jax.Array, axes: int, p: float, training: bool) -> Any:
    if not 0 <= p <= 1:
        raise ValueError(f"p must be in [0, 1], got {p}.")
    return _channels(x, axes, 1 - p, None)[0] if training and p else x


@function
def dropout1d(input: Floating, p: float = 0.5, training: bool = True) -> Any:
    """Channels of (n, c, l) or (c, l) set to zero with probability p, others times 1 / (1 - p)."""
    return _dropped(input, 1, p, training)


@function
def dropout2d(input: Floating, p: float = 0.5, training: bool = True) -> Any:
    """Channels of (n, c, h, w) set to zero with probability p, others times 1 / (1 - p)."""
    return _dropped(input, 2, p, training)


@function
def dropout3d(input: Floating, p: float = 0.5, training: bool = True) -> Any:
    """Channels of (n, c, d, h, w) set to zero with probability p, others times 1 / (1 - p)."""
    return _dropped(input, 3, p, training)


# Distributions.


def _sizes(shape: Ints) -> tuple[int, ...]:
    sizes = ints(shape)
    if min(sizes, default=0) < 0:
        raise ValueError(f"shape must have sizes from 0 on, got {sizes}.")
    return sizes


@function
def random_gamma(shape: Ints, alpha: Floating, seed: int | None = None) -> Any:
    """Numbers of the gamma distribution with rate 1: alpha (...) -> (*shape, ...).

    Args:
        shape: how many for each alpha.
        alpha: the shape parameter, above 0.
        seed: for a stream of its own.
    """
    return jax.random.gamma(key_of(seed), alpha, (*_sizes(shape), *alpha.shape), alpha.dtype)


RandomGamma = primitive(
    "RandomGamma", random_gamma, lambda seed=0, seed2=0: {"seed": both_seeds(seed, seed2)}
)


@function
def gamma(shape: Ints, alpha: Floating, beta: Floating, seed: int | None = None) -> Any:
    """Numbers of the gamma distribution: alpha and beta (...) -> (*shape, ...).

    Args:
        shape: how many for each pair.
        alpha: the shape parameter, above 0.
        beta: the rate, above 0.
        seed: for a stream of its own.
    """
    alpha, beta = jnp.broadcast_arrays(alpha, beta.astype(alpha.dtype))
    drawn = jax.random.gamma(key_of(seed), alpha, (*_sizes(shape), *alpha.shape), alpha.dtype)
    return drawn / beta


Gamma = primitive("Gamma", gamma, lambda seed=0, seed2=0: {"seed": both_seeds(seed, seed2)})


@function
def standard_laplace(shape: Ints, seed: int | None = None, seed2: int = 0) -> Any:
    """Float32 numbers of Laplace's distribution with mean 0 and scale 1: -> shape."""
    key = key_of(both_seeds(seed or 0, seed2))
    return jax.random.laplace(key, _sizes(shape), jnp.float32)


StandardLaplace = primitive(
    "StandardLaplace", standard_laplace, lambda seed=0, seed2=0: {"seed": both_seeds(seed, seed2)}
)


@function
def laplace(shape: Ints, mean: Floating, lambda_param: Floating, seed: int | None = None) -> Any:
    """Numbers of Laplace's distribution, Float32.

    Args:
        shape: of the result, with which the other two broadcast.
        mean: its mean.
        lambda_param: its scale, above 0.
        seed: for a stream of its own.
    """
    sizes = ints(jnp.broadcast_shapes(_sizes(shape), mean.shape, lambda_param.shape))
    return jax.random.laplace(key_of(seed), sizes, jnp.float32) * lambda_param + mean


@function
def random_poisson(
    shape: Ints, rate: Floating, seed: int | None = None, dtype: Dtype = float32
) -> Any:
    """Counts of Poisson's distribution: rate (...) -> (*shape, ...).

    Args:
        shape: how many for each rate.
        rate: the mean, from 0 on.
        seed: for a stream of its own.
        dtype: of the counts; Float32.
    """
    sizes = (*_sizes(shape), *rate.shape)
    return cast(jax.random.poisson(key_of(seed), rate, sizes), dtype or float32)


@function
def poisson(shape: Ints, mean: Floating, seed: int | None = None) -> Any:
    """Counts of Poisson's distribution, Float32: mean (...) -> (*shape, ...)."""
    return cast(jax.random.poisson(key_of(seed), mean, (*_sizes(shape), *mean.shape)), float32)


# Candidates of sampled softmax.


def _candidates(
    true_classes: jax.Array,
    chances: np.ndarray,
    num_true: int,
    num_sampled: int,
    unique: bool,
    seed: int,
    remove_accidental_hits: bool = False,
) -> Any:
    """Classes by their chances, and how often true and drawn ones are expected."""
    count = len(chances)
    if true_classes.ndim != 2 or true_classes.shape[1] != num_true:
        raise ValueError(
            f"true_classes must be of shape (n, num_true={num_true}), got "
            f"{tuple(true_classes.shape)}."
        )
    if num_sampled < 1 or (unique and num_sampled > count):
        raise ValueError(f"num_sampled={num_sampled} of {count} classes cannot be drawn.")
    key, logits = key_of(seed), jnp.log(jnp.asarray(chances, jnp.float32))
    if unique:  # Gumbel's trick: the largest keys are a draw without replacement
        keys = logits + jax.random.gumbel(key, (count,), jnp.float32)
        if remove_accidental_hits:
            keys = keys.at[true_classes.reshape(-1)].set(-jnp.inf)
        drawn = jax.lax.top_k(keys, num_sampled)[1]
    else:
        drawn = jax.random.categorical(key, logits, shape=(num_sampled,))

    def expected(classes: jax.Array) -> jax.Array:
        chance = jnp.take(jnp.asarray(chances, jnp.float32), classes, mode="clip")
        if not unique:
            return chance * num_sampled
        return -jnp.expm1(num_sampled * jnp.log1p(-chance))

    wanted = to_dtype(true_classes.dtype)
    with x64(true_classes):
        return cast(drawn, wanted), expected(true_classes), expected(drawn)


@tuple_function
def uniform_candidate_sampler(
    true_classes: Array,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: int = 0,
    remove_accidental_hits: bool = False,
) -> Any:
    """Classes for sampled softmax (Jean et al. 2015), all equally likely.

    Args:
        true_classes: (n, num_true): integers, the true classes.
        num_true: how many each example has.
        num_sampled: how many classes to draw.
        unique: without putting back.
        range_max: how many classes there are.
        seed: for a stream of its own.
        remove_accidental_hits: with `unique`: true classes are drawn last.

    Returns:
        (drawn (num_sampled,), how often each true class is expected (n, num_true), and each drawn
        one (num_sampled,)).
    """
    chances = np.full(operator.index(range_max), 1 / range_max)
    return _candidates(
        true_classes, chances, num_true, num_sampled, unique, seed, remove_accidental_hits
    )


@tuple_function
def log_uniform_candidate_sampler(
    true_classes: Array,
    num_true: int = 1,
    num_sampled: int = 5,
    unique: bool = True,
    range_max: int = 5,
    seed: int = 0,
) -> Any:
    """Classes for sampled softmax, by log(1 + 1 / (c + 1)): for classes sorted by how frequent.

    Args:
        true_classes: (n, num_true): integers, the true classes.
        num_true: how many each example has.
        num_sampled: how many classes to draw.
        unique: without putting back.
        range_max: how many classes there are.
        seed: for a stream of its own.

    Returns:
        (drawn, how often each true class is expected, and each drawn one), as of the uniform one.
    """
    ranks = np.arange(operator.index(range_max))
    chances = np.log1p(1 / (ranks + 1)) / np.log(range_max + 1)
    return _candidates(true_classes, chances, num_true, num_sampled, unique, seed)


UniformCandidateSampler = primitive(
    "UniformCandidateSampler",
    uniform_candidate_sampler,
    lambda num_true, num_sampled, unique, range_max, seed=0, remove_accidental_hits=False: dict(
        num_true=num_true,
        num_sampled=num_sampled,
        unique=unique,
        range_max=range_max,
        seed=seed,
        remove_accidental_hits=remove_accidental_hits,
    ),
)
LogUniformCandidateSampler = primitive(
    "LogUniformCandidateSampler",
    log_uniform_candidate_sampler,
    lambda num_true=1, num_sampled=5, unique=True, range_max=5, seed=0: dict(
        num_true=num_true, num_sampled=num_sampled, unique=unique, range_max=range_max, seed=seed
    ),
)

# Slopes and classes by chance.


@function
def rrelu(input: Floating, lower: float = 1 / 8, upper: float = 1 / 3) -> Any:
    """x, and below 0 x times a number of its own, uniform in [lower, upper) (Xu et al. 2015).

    Raises:
        ValueError: `lower` is above `upper`.
    """
    if lower > upper:
        raise ValueError(f"lower must be at most upper, got {lower} and {upper}.")
    slope = jax.random.uniform(key_of(None), input.shape, input.dtype, lower, upper)
    return jnp.where(input >= 0, input, input * slope)


@function
def multinomial_with_replacement(
    x: Floating, seed: int, offset: int, numsamples: int, replacement: bool = False
) -> Any:
    """Classes drawn in proportion to their weights: (c,) or (n, c) -> Int64 (..., numsamples).

    Args:
        x: weights, of at least 0 and not all 0.
        seed: for a stream of its own, with `offset`.
        offset: see `seed`.
        numsamples: how many are drawn of each row.
        replacement: whether a class may be drawn again; otherwise at most c are drawn.

    Raises:
        ValueError: more draws than classes without replacement, or another number of axes.
    """
    if x.ndim not in (1, 2):
        raise ValueError(f"x must be (c,) or (n, c), got {tuple(x.shape)}.")
    if numsamples < 1 or (not replacement and numsamples > x.shape[-1]):
        raise ValueError(
            f"numsamples must be from 1 to the {x.shape[-1]} classes without replacement, got "
            f"{numsamples}."
        )
    key, weights = key_of(both_seeds(seed, offset)), jnp.log(x)
    if replacement:
        drawn = jax.random.categorical(key, weights, -1, (numsamples, *x.shape[:-1]))
        return cast(jnp.moveaxis(drawn, 0, -1), int64)
    noisy = weights + jax.random.gumbel(key, x.shape, x.dtype)
    return cast(jax.lax.top_k(noisy, numsamples)[1], int64)
