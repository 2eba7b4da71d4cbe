"""The names and layouts that the layers' parameters have in PyTorch and in Flax.

HuggingFace's files follow PyTorch's modules, and Flax's names are those of `flax.nnx`, with dots:
`encoder.0.kernel`.

Glossary
    kind        which layer some parameters belong to: `Dense`, `Conv2d`, …
    member      one parameter of a kind: its name here, and what it is elsewhere
    part        one parameter elsewhere that a member becomes, or a share of its rows
    prefix      the name of the layer, which comes before its members' names; "" for a network that
                is one layer

Rules are about the members' names, never about the layers': `fc1.weight` becomes `fc1.kernel`.

What has no rule: Flax's recurrent cells have one bias where MindSpore's and PyTorch's have two (and
its GRU lacks one that the numbers need), so recurrent layers stay as they are for Flax; so do the
moving averages of InstanceNorm, `BiDense`, and `bias_k` and `bias_v` of attention, which Flax's
layers do not have. For Flax, attention needs to know the number of heads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from paramesh.checkpoint.conversion.arrangement import (
    SAME,
    Arrangement,
    Flip,
    Split,
    Squeeze,
    Step,
    Transpose,
)

#: Whose names there are rules for.
LIBRARIES = ("torch", "flax")


@dataclass(frozen=True)
class Part:
    """What (a share of the rows of) a member becomes.

    Args:
        name: after the layer's prefix.
        arrangement: of the elements.
    """

    name: str
    arrangement: Arrangement = SAME


Parts = tuple[Part, ...]


@dataclass(frozen=True)
class Member:
    """One parameter of a layer.

    Args:
        name: here, after the layer's prefix.
        torch: what it becomes in PyTorch, one part for each share of its rows; none: no rule.
        flax: the same in Flax.
    """

    name: str
    torch: Parts = ()
    flax: Parts = ()

    def parts(self, library: str) -> Parts:
        """What it becomes in a library."""
        return self.torch if library == "torch" else self.flax


def _member(
    name: str, torch: str | None, flax: str | None, *steps: Step, both: tuple[Step, ...] = ()
) -> Member:
    """A member that becomes one parameter; `steps` are for Flax, `both` come first for both."""
    return Member(
        name,
        () if torch is None else (Part(torch, Arrangement(both)),),
        () if flax is None else (Part(flax, Arrangement((*both, *steps))),),
    )


_BIAS = _member("bias", "bias", "bias")
_FLAT = Squeeze(2)


def _norm(inside: str = "", averages: bool = True, flax: bool = True) -> tuple[Member, ...]:
    found = [
        _member(f"{inside}gamma", "weight", "scale"),
        _member(f"{inside}beta", "bias", "bias"),
    ]
    if averages:
        mean, variance = ("mean", "var") if flax else (None, None)
        found += [
            _member(f"{inside}moving_mean", "running_mean", mean),
            _member(f"{inside}moving_variance", "running_var", variance),
        ]
        if not inside:  # see NAMES_ALONE
            found += [
                _member("mean", "running_mean", mean),
                _member("variance", "running_var", variance),
            ]
    return tuple(found)


def _attention(heads: int | None) -> tuple[Member, ...]:
    """Multi-head attention; without the number of heads there are no rules for Flax."""

    def member(name: str, flax: tuple[str, ...], *steps: Step) -> Member:
        parts = tuple(Part(part, Arrangement(steps)) for part in flax)
        return Member(name, (Part(name),), () if heads is None else parts)

    count = heads or 1
    kernels, biases = ("query.kernel", "key.kernel", "value.kernel"), ("query", "key", "value")
    turned, by_head = Transpose((1, 0)), Split(-1, count)
    return (
        member("in_proj_weight", kernels, turned, by_head),
        *(member(f"{kernel[0]}_proj_weight", (kernel,), turned, by_head) for kernel in kernels),
        member("in_proj_bias", tuple(f"{name}.bias" for name in biases), by_head),
        member("bias_k", ()),
        member("bias_v", ()),
        member("out_proj.weight", ("out.kernel",), turned, Split(0, count)),
        member("out_proj.bias", ("out.bias",)),
    )


#: The table: the members of every kind of layer. A kind's name is the layer's, without the number
#: of axes where they are alike.
KINDS: dict[str, tuple[Member, ...]] = {
    "Dense": (_member("weight", "weight", "kernel", Transpose((1, 0))), _BIAS),
    "BiDense": (_member("weight", "weight", None), _member("bias", "bias", None)),
    "Conv1d": (_member("weight", "weight", "kernel", Transpose((2, 1, 0)), both=(_FLAT,)), _BIAS),
    "Conv2d": (_member("weight", "weight", "kernel", Transpose((2, 3, 1, 0))), _BIAS),
    "Conv3d": (_member("weight", "weight", "kernel", Transpose((2, 3, 4, 1, 0))), _BIAS),
    "Conv1dTranspose": (
        _member("weight", "weight", "kernel", Transpose((2, 0, 1)), Flip(1), both=(_FLAT,)),
        _BIAS,
    ),
    "Conv2dTranspose": (
        _member("weight", "weight", "kernel", Transpose((2, 3, 0, 1)), Flip(2)),
        _BIAS,
    ),
    "BatchNorm": _norm(),
    "BatchNorm3d": _norm("bn2d."),
    "InstanceNorm": _norm(flax=False),
    "LayerNorm": _norm(averages=False),
    "Embedding": (_member("embedding_table", "weight", "embedding"),),
    "Recurrent": (),  # as many as there are layers and directions: see RECURRENT
    "MultiheadAttention": _attention(None),
    "PReLU": (_member("w", "weight", None), _member("a", "weight", None)),
    # The Conv1D of `transformers`, as GPT-2 has it: a Dense whose weight is transposed.
    "Conv1D": (
        Member(
            "weight",
            (Part("weight", Arrangement((Transpose((1, 0)),))),),
            (Part("kernel", Arrangement((Transpose((1, 0)),))),),
        ),
        _BIAS,
    ),
    # With one slope for all channels, as Flax has it.
    "PReLU1": (
        _member("w", "weight", "negative_slope", Squeeze(0)),
        _member("a", "weight", "negative_slope", Squeeze(0)),
    ),
}

#: What some members are called in a layer that is part of a network, and in one that is all of it.
NAMES_INSIDE = ("moving_mean", "moving_variance", "w")
NAMES_ALONE = ("mean", "variance", "a")

_SHARED = ("BatchNorm", "InstanceNorm", "Recurrent", "PReLU1")
#: Which kind a layer's class is; the layers that are not here have no parameters of their own.
KIND_OF_LAYER = {
    **{
        kind: kind
        for kind in KINDS
        if kind not in ("BatchNorm", "InstanceNorm", "Recurrent", "PReLU1", "Conv1D")
    },
    "BatchNorm1d": "BatchNorm",
    "BatchNorm2d": "BatchNorm",
    "InstanceNorm1d": "InstanceNorm",
    "InstanceNorm2d": "InstanceNorm",
    "InstanceNorm3d": "InstanceNorm",
    "GroupNorm": "LayerNorm",
    **dict.fromkeys(("EmbeddingLookup", "EmbeddingBag", "MultiFieldEmbeddingLookup"), "Embedding"),
    **dict.fromkeys(("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"), "Recurrent"),
}

#: The members of recurrent layers, which are PyTorch's.
RECURRENT = re.compile(r"(weight|bias)_(ih|hh)(_l\d+(_reverse)?)?")

#: Layers inside a layer that PyTorch calls otherwise: of a TransformerEncoderLayer.
TORCH_INNER = {"dense1": "linear1", "dense2": "linear2"}


def members(kind: str, prefix: str = "layer") -> tuple[Member, ...]:
    """The members of a kind.

    Args:
        kind: a name of `KINDS`, or `MultiheadAttention:8` for one with 8 heads.
        prefix: name of the layer; "" for a layer that is the whole network, some of whose members
            have other names.

    Raises:
        ValueError: there is no such kind.
    """
    name, colon, heads = kind.partition(":")
    if name == "MultiheadAttention" and colon:
        if not heads.isdecimal() or int(heads) < 1:
            raise ValueError(f"{kind!r}: the number of heads must be a positive integer.")
        return _attention(int(heads))
    if kind not in KINDS:
        raise ValueError(f"There are no name rules for {kind!r}; there are {', '.join(KINDS)}.")
    others = NAMES_INSIDE if not prefix else NAMES_ALONE
    return tuple(member for member in KINDS[kind] if member.name not in others)
