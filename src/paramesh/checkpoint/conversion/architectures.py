"""What the checkpoints of the usual architectures of HuggingFace's `transformers` have in them.

Names and shapes tell most kinds of layers (`layer_kinds`). For these architectures it is known of
every array: which kind of layer it belongs to, which is a Parameter of the network itself or of a
layer that paramesh has not (RMSNorm), and keeps its name, and which is no weight at all.

Source: the modelling code of `transformers` (BERT, GPT-2, Llama, ViT, ResNet).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from paramesh.checkpoint.formats.interface import Entry


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Args:
        name: as `transformers` calls it.
        signs: each has to match the end of a name, for a checkpoint to be of this one.
        layers: {pattern of a layer's name: kind}, where names and shapes do not tell it.
        plain: patterns of names of arrays that stay as they are.
        buffers: {pattern of names of arrays that are no weights: what they are}.
    """

    name: str
    signs: tuple[str, ...]
    layers: Mapping[str, str] = field(default_factory=dict)
    plain: tuple[str, ...] = ()
    buffers: Mapping[str, str] = field(default_factory=dict)

    def fits(self, names: Iterable[str]) -> bool:
        """Whether arrays of these names are of this architecture."""
        listed = list(names)
        return all(any(_ends(sign, name) for name in listed) for sign in self.signs)

    def kinds(self, entries: Sequence[Entry]) -> dict[str, str]:
        """{layer's name: kind} of the layers whose kind is known by this architecture alone."""
        found: dict[str, str] = {}
        for entry in entries:
            prefix, _, leaf = entry.name.rpartition(".")
            kind = next((k for p, k in self.layers.items() if _ends(p, prefix)), None)
            if leaf == "weight" and kind is not None:
                found[prefix] = kind
        return found

    def as_they_are(self, names: Iterable[str]) -> set[str]:
        """The names that are known to stay."""
        return {name for name in names if any(_ends(p, name) for p in self.plain)}

    def dropped(self, names: Iterable[str]) -> dict[str, str]:
        """{name: what it is} of the arrays that are no weights."""
        found: dict[str, str] = {}
        for name in names:
            what = next((w for p, w in self.buffers.items() if _ends(p, name)), None)
            if what is not None:
                found[name] = what
        return found


_COUNT = {r"num_batches_tracked": "a count of batches, which nothing here needs"}
_POSITIONS = {r"position_ids": "the numbers of the positions, which are no weights"}

ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        "BERT",
        (r"embeddings\.word_embeddings\.weight", r"attention\.self\.query\.weight"),
        {r"embeddings\.(word|position|token_type)_embeddings": "Embedding"},
        (r"predictions\.bias",),
        _POSITIONS,
    ),
    Architecture(
        "GPT-2",
        (r"wte\.weight", r"attn\.c_attn\.weight"),
        {
            r"wte|wpe": "Embedding",
            r"(attn|crossattention)\.(c_attn|q_attn|c_proj)|mlp\.c_(fc|proj)": "Conv1D",
        },
        (),
        {
            r"attn\.bias": "the causal mask, which is no weight",
            r"attn\.masked_bias": "what masked scores are, which is no weight",
        },
    ),
    Architecture(
        "Llama",
        (r"embed_tokens\.weight", r"self_attn\.q_proj\.weight", r"input_layernorm\.weight"),
        {r"embed_tokens": "Embedding", r"self_attn\.[qkvo]_proj|mlp\.\w+_proj|lm_head": "Dense"},
        # An RMSNorm, with one weight for each feature.
        (r"(input|post_attention)_layernorm\.weight", r"norm\.weight"),
        {r"rotary_emb\.inv_freq": "frequencies, which follow from the configuration"},
    ),
    Architecture(
        "ViT",
        (r"embeddings\.cls_token", r"patch_embeddings\.projection\.weight"),
        {r"patch_embeddings\.projection": "Conv2d"},
        (r"embeddings\.(cls_token|mask_token|position_embeddings)",),
    ),
    Architecture(
        "ResNet",
        (r"embedder\.embedder\.convolution\.weight", r"encoder\.stages\.\d+\.layers.*\.weight"),
        {r"convolution": "Conv2d", r"normalization": "BatchNorm"},
        (),
        _COUNT,
    ),
    # Not of transformers: the one of torchvision, and of timm.
    Architecture(
        "ResNet (torchvision)",
        (r"layer1\.0\.conv1\.weight", r"layer4\.0\.bn1\.running_mean"),
        {r"conv\d|downsample\.0": "Conv2d", r"bn\d|downsample\.1": "BatchNorm"},
        (),
        _COUNT,
    ),
)


def architecture_of(names: Iterable[str]) -> Architecture | None:
    """The architecture that a checkpoint with arrays of these names is of; None if of none."""
    listed = list(names)
    return next((known for known in ARCHITECTURES if known.fits(listed)), None)


def _ends(pattern: str, name: str) -> bool:
    """Whether a pattern matches the end of a name, from a dot on."""
    return re.search(rf"(^|\.)({pattern})$", name) is not None
