"""Connectionist temporal classification (Graves et al. 2006); sequences turned around, and n-grams.

Glossary
    path        what is read at each step: labels, repeated, with blanks between them
    alpha       logarithm of the probability of all beginnings of paths that end in a place of the
                labels with blanks around them
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import int32, int64
from paramesh.ops.array import axis_in
from paramesh.ops.table import Array, Floating, function, primitive, tuple_function
from paramesh.tensor.known import known_values
from paramesh.tensor.promotion import cast

__all__ = [
    "CTCGreedyDecoder",
    "CTCLoss",
    "CTCLossV2",
    "NoRepeatNGram",
    "ReverseSequence",
    "ctc_greedy_decoder",
    "ctc_loss",
    "ctc_loss_with_gradient",
    "no_repeat_ngram",
    "reverse_sequence",
]


def _alphas(log_p: jax.Array, labels: jax.Array, sizes: jax.Array, blank: int) -> Any:
    """(n, t, 2s + 1): alpha of each step, of labels (n, s) and log probabilities (t, n, c)."""
    n, s = labels.shape
    low = jnp.asarray(-jnp.inf, log_p.dtype)
    places = jnp.full((n, 2 * s + 1), blank, labels.dtype).at[:, 1::2].set(labels)
    before = jnp.pad(places, ((0, 0), (2, 0)), constant_values=-1)[:, :-2]
    # From two places back only over a blank, and not between equal labels.
    skips = (places != blank) & (places != before) & (jnp.arange(2 * s + 1) >= 2)
    step = jnp.take_along_axis(log_p, jnp.broadcast_to(places, (len(log_p), *places.shape)), 2)
    first = jnp.where((jnp.arange(2 * s + 1) == 0) | (jnp.arange(2 * s + 1) == 1), step[0], low)
    first = jnp.where((jnp.arange(2 * s + 1) <= 2 * sizes[:, None]), first, low)

    def turn(alpha: jax.Array, now: Any) -> Any:
        one = jnp.pad(alpha, ((0, 0), (1, 0)), constant_values=low)[:, :-1]
        two = jnp.pad(alpha, ((0, 0), (2, 0)), constant_values=low)[:, :-2]
        two = jnp.where(skips, two, low)
        highest = jnp.maximum(jnp.maximum(alpha, one), two)
        # Without numbers for log(0), whose gradients are NaN.
        safe = jnp.where(highest == low, 0, highest)
        total = sum(jnp.where(a == low, 0, jnp.exp(a - safe)) for a in (alpha, one, two))
        found = jnp.where(highest == low, low, safe + jnp.log(jnp.where(total > 0, total, 1)))
        found = found + now
        return found, found

    _, rest = jax.lax.scan(turn, first, step[1:])
    return jnp.concatenate([first[None], rest]).swapaxes(0, 1)


def _likelihoods(alphas: jax.Array, lengths: jax.Array, sizes: jax.Array) -> Any:
    """-log of the probability of the labels of each sequence, (n,)."""
    n = alphas.shape[0]
    last = alphas[jnp.arange(n), jnp.maximum(lengths - 1, 0)]
    ends = jnp.take_along_axis(last, jnp.stack([2 * sizes, jnp.maximum(2 * sizes - 1, 0)], 1), 1)
    ends = ends.at[:, 1].set(jnp.where(sizes > 0, ends[:, 1], -jnp.inf))
    highest = ends.max(1)
    safe = jnp.where(jnp.isfinite(highest), highest, 0)
    total = jnp.where(jnp.isfinite(ends), jnp.exp(ends - safe[:, None]), 0).sum(1)
    found = safe + jnp.log(jnp.where(total > 0, total, 1))
    return jnp.where(jnp.isfinite(highest), -found, jnp.inf)


@tuple_function
def ctc_loss(
    log_probs: Floating,
    targets: Array,
    input_lengths: Array,
    target_lengths: Array,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """How unlikely the labels of sequences are, whatever step each is read at.

    Args:
        log_probs: (t, n, c): logarithms of the probabilities of the classes at each step.
        targets: (n, s): the labels, or (all of them,), one sequence after another. One outside of
            the classes has the probability 0.
        input_lengths: (n,): steps of each sequence that count.
        target_lengths: (n,): labels of each.
        blank: the class that is no label.
        reduction: `none`, `mean` (each divided by its labels first) or `sum`.
        zero_infinity: 0 in place of infinity, which labels have that do not fit into the steps.

    Returns:
        (the loss, (n,) for `none`; alphas (n, t, 2s + 1)).

    Raises:
        ValueError: another reduction, or shapes that do not fit.
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}.")
    if log_probs.ndim != 3 or not 0 <= blank < log_probs.shape[2]:
        raise ValueError(
            f"log_probs must be (t, n, c) with blank={blank} below c, got {tuple(log_probs.shape)}."
        )
    lengths, sizes = cast(input_lengths, int32), cast(target_lengths, int32)
    labels = cast(targets, int32)
    if labels.ndim == 1:
        starts = jnp.cumsum(sizes) - sizes
        at = starts[:, None] + jnp.arange(labels.shape[0])
        labels = labels[jnp.minimum(at, labels.shape[0] - 1)]
    alphas = _alphas(log_probs, labels, sizes, blank)
    losses = _likelihoods(alphas, lengths, sizes)
    steps, places = jnp.arange(alphas.shape[1]), jnp.arange(alphas.shape[2])
    used = (steps[:, None] < lengths[:, None, None]) & (places <= 2 * sizes[:, None, None])
    alphas = jnp.where(used, alphas, -jnp.inf)
    if zero_infinity:
        losses = jnp.where(jnp.isinf(losses), 0, losses)
    if reduction == "mean":
        losses = (losses / jnp.maximum(sizes, 1)).mean()
    elif reduction == "sum":
        losses = losses.sum()
    return losses, alphas


CTCLossV2 = primitive(
    "CTCLossV2",
    ctc_loss,
    lambda blank=0, reduction="none", zero_infinity=False: dict(
        blank=blank, reduction=reduction, zero_infinity=zero_infinity
    ),
)


@tuple_function
def ctc_loss_with_gradient(
    x: Floating,
    labels_indices: Array,
    labels_values: Array,
    sequence_length: Array,
    preprocess_collapse_repeated: bool = False,
    ctc_merge_repeated: bool = True,
    ignore_longer_outputs_than_inputs: bool = False,
) -> Any:
    """`ctc_loss` of numbers before the softmax and of sparse labels, with its gradient.

    Args:
        x: (t, n, c): the last class is the blank.
        labels_indices: (m, 2): sequence and place of each label.
        labels_values: (m,): the labels.
        sequence_length: (n,): steps of each sequence that count.
        preprocess_collapse_repeated: not offered.
        ctc_merge_repeated: only True is offered.
        ignore_longer_outputs_than_inputs: a loss of 0 for labels that do not fit into the steps.

    Returns:
        (losses (n,), their gradient by x (t, n, c)).

    Raises:
        ValueError: a setting that is not offered.
    """
    if preprocess_collapse_repeated or not ctc_merge_repeated:
        raise ValueError(
            "preprocess_collapse_repeated=True and ctc_merge_repeated=False are not offered."
        )
    steps, n, classes = x.shape
    rows, places = cast(labels_indices[:, 0], int32), cast(labels_indices[:, 1], int32)
    count = labels_values.shape[0]
    labels = jnp.zeros((n, max(min(count, steps), 1)), jnp.int32)
    labels = labels.at[rows, places].set(cast(labels_values, int32), mode="drop")
    sizes = jnp.zeros(n, jnp.int32).at[rows].add(1)
    lengths = cast(sequence_length, int32)

    def losses_of(x: jax.Array) -> Any:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        alphas = _alphas(jax.nn.log_softmax(wide), labels, sizes, classes - 1)
        losses = _likelihoods(alphas, lengths, sizes)
        if ignore_longer_outputs_than_inputs:
            losses = jnp.where(jnp.isinf(losses), 0, losses)
        return losses.astype(x.dtype)

    losses, back = jax.vjp(losses_of, x)
    return losses, back(jnp.ones_like(losses))[0]


CTCLoss = primitive(
    "CTCLoss",
    ctc_loss_with_gradient,
    lambda preprocess_collapse_repeated=False, ctc_merge_repeated=True,
    ignore_longer_outputs_than_inputs=False: dict(
        preprocess_collapse_repeated=preprocess_collapse_repeated,
        ctc_merge_repeated=ctc_merge_repeated,
        ignore_longer_outputs_than_inputs=ignore_longer_outputs_than_inputs,
    ),
)  # fmt: skip


@tuple_function
def ctc_greedy_decoder(inputs: Array, sequence_length: Array, merge_repeated: bool = True) -> Any:
    """The labels of the likeliest path of each sequence, as a sparse matrix; not inside programs.

    Args:
        inputs: (t, n, c): logarithms of probabilities, or logits; the last class is the blank.
        sequence_length: (n,): steps of each sequence that count.
        merge_repeated: a label that follows itself without a blank counts once.

    Returns:
        (positions (labels, 2) in Int64: sequence and place; labels in Int64; shape (2,) in Int64;
        minus the sum of the largest numbers of each sequence (n, 1)).

    Raises:
        ValueError: another shape, or a sequence of more than t steps.
    """
    if inputs.ndim != 3 or tuple(sequence_length.shape) != (inputs.shape[1],):
        raise ValueError(
            f"inputs must be (t, n, c) and sequence_length (n,), got {tuple(inputs.shape)} and "
            f"{tuple(sequence_length.shape)}."
        )
    steps, count, classes = inputs.shape
    lengths = known_values(sequence_length, "the number of labels is a value")
    if lengths.max(initial=0) > steps or lengths.min(initial=0) < 0:
        raise ValueError(f"sequence_length must be from 0 to {steps}, got {lengths.tolist()}.")
    best = known_values(jnp.argmax(inputs, -1), "the number of labels is a value").T
    places, labels = [], []
    for row, (path, length) in enumerate(zip(best, lengths, strict=True)):
        kept = path[:length]
        if merge_repeated:
            kept = kept[np.diff(kept, prepend=-1) != 0]
        kept = kept[kept != classes - 1]
        places += [(row, at) for at in range(len(kept))]
        labels += kept.tolist()
    longest = 1 + max((at for _, at in places), default=-1)
    inside = jnp.arange(steps)[:, None] < sequence_length
    scores = -jnp.where(inside, inputs.max(-1), 0).sum(0)[:, None]
    found = (np.array(places).reshape(-1, 2), np.array(labels), np.array([count, longest]))
    whole = (cast(jnp.asarray(each, jnp.int32), int64) for each in found)
    return *whole, scores.astype(inputs.dtype)


CTCGreedyDecoder = primitive(
    "CTCGreedyDecoder",
    ctc_greedy_decoder,
    lambda merge_repeated=True: {"merge_repeated": merge_repeated},
)


@function
def reverse_sequence(x: Array, seq_lengths: Array, seq_dim: int, batch_dim: int = 0) -> Any:
    """The beginnings of sequences turned around; what is behind stays.

    Args:
        x: (...).
        seq_lengths: (n,): how much of each sequence is turned around.
        seq_dim: the axis along the sequences.
        batch_dim: the axis of the n sequences.
    """
    along, batch = axis_in(seq_dim, x.ndim), axis_in(batch_dim, x.ndim)
    size = x.shape[along]
    steps = jnp.arange(size, dtype=jnp.int32)
    lengths = cast(seq_lengths, int32)[:, None]
    at = jnp.where(steps < lengths, lengths - 1 - steps, steps)
    shape = [x.shape[batch] if i == batch else size if i == along else 1 for i in range(x.ndim)]
    at = at if batch < along else at.T
    return jnp.take_along_axis(x, at.reshape(shape), along)


ReverseSequence = primitive(
    "ReverseSequence",
    reverse_sequence,
    lambda seq_dim, batch_dim=0: {"seq_dim": seq_dim, "batch_dim": batch_dim},
)


@function
def no_repeat_ngram(state_seq: Array, log_probs: Floating, ngram_size: int = 1) -> Any:
    """Probabilities without words that would repeat an n-gram: those get the lowest number.

    Args:
        state_seq: (n, beams, m) words so far.
        log_probs: (n, beams, words) logarithms of probabilities of the next word.
        ngram_size: how many words may not come again in this order, from 1 to m.

    Raises:
        ValueError: shapes that do not fit, or another `ngram_size`.
    """
    if state_seq.ndim != 3 or log_probs.shape[:-1] != state_seq.shape[:2]:
        raise ValueError(
            f"expected (n, beams, m) and (n, beams, words), got {tuple(state_seq.shape)} and "
            f"{tuple(log_probs.shape)}."
        )
    length, known = state_seq.shape[-1], ngram_size - 1
    if not 1 <= ngram_size <= length:
        raise ValueError(f"ngram_size must be from 1 to {length}, got {ngram_size}.")
    windows = jnp.arange(length - known)[:, None] + jnp.arange(known)
    last = state_seq[..., length - known :]
    again = (state_seq[..., windows] == last[..., None, :]).all(-1)
    words = jax.nn.one_hot(state_seq[..., known:], log_probs.shape[-1], dtype=bool)
    refused = (words & again[..., None]).any(-2)
    return jnp.where(refused, jnp.finfo(log_probs.dtype).min, log_probs)


NoRepeatNGram = primitive(
    "NoRepeatNGram", no_repeat_ngram, lambda ngram_size=1: {"ngram_size": ngram_size}
)
