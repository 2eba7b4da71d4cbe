"""BERT, GPT-2, Llama, ViT and ResNet as a reader of `transformers` writes them with paramesh.

Attributes have the names of `transformers`, so that its converted checkpoints load by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paramesh import Parameter, Tensor, nn, ops
from paramesh.initializer import initializer

WIDTH, HEADS, INNER, WORDS, LAYERS = 32, 4, 64, 100, 2


class Parts(nn.Cell):
    """Cells and Parameters by name, where the network needs no `construct` of theirs."""

    def __init__(self, **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def part(cell: Any, path: str) -> Any:
    """What an attribute path leads to."""
    for name in path.split("."):
        cell = getattr(cell, name)
    return cell


def heads(x: Tensor, count: int) -> Tensor:
    batch, time, width = x.shape
    return x.reshape(batch, time, count, width // count).transpose(0, 2, 1, 3)


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Attention of (batch, heads, time, width) each; the result is (batch, time, all widths)."""
    scores = q @ k.transpose(0, 1, 3, 2) / q.shape[-1] ** 0.5
    if causal:
        seen = np.tril(np.ones(scores.shape[-2:], np.bool_))
        scores = ops.where(Tensor(seen), scores, Tensor(np.float32(-1e9)))
    mixed = (ops.softmax(scores) @ v).transpose(0, 2, 1, 3)
    return mixed.reshape(*mixed.shape[:2], -1)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    return ops.gelu(x, approximate=approximate)


def norm(width: int = WIDTH, epsilon: float = 1e-12) -> nn.Cell:
    return nn.LayerNorm((width,), epsilon=epsilon)


def three(bias: bool = True) -> dict[str, nn.Cell]:
    return {name: nn.Dense(WIDTH, WIDTH, has_bias=bias) for name in ("query", "key", "value")}


class Bert(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings = Parts(
            word_embeddings=nn.Embedding(WORDS, WIDTH),
            position_embeddings=nn.Embedding(512, WIDTH),
            token_type_embeddings=nn.Embedding(2, WIDTH),
            LayerNorm=norm(),
        )
        self.encoder = Parts(layer=nn.CellList([self._layer() for _ in range(LAYERS)]))
        self.pooler = Parts(dense=nn.Dense(WIDTH, WIDTH))

    def _layer(self) -> nn.Cell:
        attention: Any = Parts(output=Parts(dense=nn.Dense(WIDTH, WIDTH), LayerNorm=norm()))
        attention.self = Parts(**three())
        return Parts(
            attention=attention,
            intermediate=Parts(dense=nn.Dense(WIDTH, INNER)),
            output=Parts(dense=nn.Dense(INNER, WIDTH), LayerNorm=norm()),
        )

    def construct(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        places = Tensor(np.arange(ids.shape[1], dtype=np.int32))
        words = self.embeddings
        x = words.word_embeddings(ids) + words.position_embeddings(places)
        x = words.LayerNorm(x + words.token_type_embeddings(ops.zeros_like(ids)))
        for layer in self.encoder.layer:
            own = part(layer, "attention.self")
            q, k, v = (heads(cell(x), HEADS) for cell in (own.query, own.key, own.value))
            out = layer.attention.output
            x = out.LayerNorm(x + out.dense(attend(q, k, v, causal=False)))
            out = layer.output
            x = out.LayerNorm(x + out.dense(gelu(layer.intermediate.dense(x))))
        return x, ops.tanh(self.pooler.dense(x[:, 0]))


class Gpt2(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.transformer = Parts(
            wte=nn.Embedding(WORDS, WIDTH),
            wpe=nn.Embedding(64, WIDTH),
            h=nn.CellList([self._layer() for _ in range(LAYERS)]),
            ln_f=norm(epsilon=1e-5),
        )

    def _layer(self) -> nn.Cell:
        return Parts(
            ln_1=norm(epsilon=1e-5),
            attn=Parts(c_attn=nn.Dense(WIDTH, 3 * WIDTH), c_proj=nn.Dense(WIDTH, WIDTH)),
            ln_2=norm(epsilon=1e-5),
            mlp=Parts(c_fc=nn.Dense(WIDTH, 4 * WIDTH), c_proj=nn.Dense(4 * WIDTH, WIDTH)),
        )

    def construct(self, ids: Tensor) -> Tensor:
        inside = self.transformer
        x = inside.wte(ids) + inside.wpe(Tensor(np.arange(ids.shape[1], dtype=np.int32)))
        for layer in inside.h:
            q, k, v = ops.split(layer.attn.c_attn(layer.ln_1(x)), WIDTH, -1)
            mixed = attend(heads(q, HEADS), heads(k, HEADS), heads(v, HEADS), causal=True)
            x = x + layer.attn.c_proj(mixed)
            x = x + layer.mlp.c_proj(gelu(layer.mlp.c_fc(layer.ln_2(x)), "tanh"))
        return inside.ln_f(x) @ inside.wte.embedding_table.T


class RMSNorm(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter(initializer("ones", [WIDTH]))

    def construct(self, x: Tensor) -> Tensor:
        return self.weight * x * ops.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)


class Llama(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.model = Parts(
            embed_tokens=nn.Embedding(WORDS, WIDTH),
            layers=nn.CellList([self._layer() for _ in range(LAYERS)]),
            norm=RMSNorm(),
        )
        self.lm_head = nn.Dense(WIDTH, WORDS, has_bias=False)

    def _layer(self) -> nn.Cell:
        def dense(before: int, after: int) -> nn.Cell:
            return nn.Dense(before, after, has_bias=False)

        return Parts(
            input_layernorm=RMSNorm(),
            self_attn=Parts(
                q_proj=dense(WIDTH, WIDTH),
                k_proj=dense(WIDTH, WIDTH // 2),
                v_proj=dense(WIDTH, WIDTH // 2),
                o_proj=dense(WIDTH, WIDTH),
            ),
            post_attention_layernorm=RMSNorm(),
            mlp=Parts(
                gate_proj=dense(WIDTH, INNER),
                up_proj=dense(WIDTH, INNER),
                down_proj=dense(INNER, WIDTH),
            ),
        )

    def construct(self, ids: Tensor) -> Tensor:
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            own, y = layer.self_attn, layer.input_layernorm(x)
            q = rotated(heads(own.q_proj(y), HEADS))
            k, v = rotated(heads(own.k_proj(y), HEADS // 2)), heads(own.v_proj(y), HEADS // 2)
            k, v = ops.repeat_interleave(k, 2, 1), ops.repeat_interleave(v, 2, 1)
            x = x + own.o_proj(attend(q, k, v, causal=True))
            y = layer.post_attention_layernorm(x)
            x = x + layer.mlp.down_proj(ops.silu(layer.mlp.gate_proj(y)) * layer.mlp.up_proj(y))
        return self.lm_head(self.model.norm(x))


def rotated(x: Tensor) -> Tensor:
    """Rotary position embedding of (batch, heads, time, width), in halves (RoFormer, 2021)."""
    time, width = x.shape[-2:]
    rates = 10000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.tile(np.outer(np.arange(time), rates), 2).astype(np.float32)
    turned = ops.concat([-x[..., width // 2 :], x[..., : width // 2]], -1)
    return x * Tensor(np.cos(angles)) + turned * Tensor(np.sin(angles))


class ViT(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        patches = nn.Conv2d(3, WIDTH, 8, 8, pad_mode="valid", has_bias=True)
        self.embeddings = Parts(
            patch_embeddings=Parts(projection=patches),
            cls_token=Parameter(initializer("zeros", [1, 1, WIDTH])),
            position_embeddings=Parameter(initializer("zeros", [1, 17, WIDTH])),
        )
        self.encoder = Parts(layer=nn.CellList([self._layer() for _ in range(LAYERS)]))
        self.layernorm = norm()
        self.pooler = Parts(dense=nn.Dense(WIDTH, WIDTH))

    def _layer(self) -> nn.Cell:
        return Parts(
            layernorm_before=norm(),
            attention=Parts(attention=Parts(**three()), output=Parts(dense=nn.Dense(WIDTH, WIDTH))),
            layernorm_after=norm(),
            intermediate=Parts(dense=nn.Dense(WIDTH, INNER)),
            output=Parts(dense=nn.Dense(INNER, WIDTH)),
        )

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        own = self.embeddings
        patches = own.patch_embeddings.projection(images)
        patches = patches.reshape(*patches.shape[:2], -1).transpose(0, 2, 1)
        first = ops.broadcast_to(own.cls_token, (patches.shape[0], 1, WIDTH))
        x = ops.concat([first, patches], 1) + own.position_embeddings
        for layer in self.encoder.layer:
            y, inner = layer.layernorm_before(x), layer.attention.attention
            q, k, v = (heads(cell(y), HEADS) for cell in (inner.query, inner.key, inner.value))
            x = x + layer.attention.output.dense(attend(q, k, v, causal=False))
            y = layer.intermediate.dense(layer.layernorm_after(x))
            x = x + layer.output.dense(gelu(y))
        x = self.layernorm(x)
        return x, ops.tanh(self.pooler.dense(x[:, 0]))


class ResNet(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.embedder = Parts(embedder=self._layer(3, 8, 7, 2))
        self.pooler = nn.MaxPool2d(3, 2, pad_mode="pad", padding=1)
        blocks = [self._block(8, 16, 1), self._block(16, 32, 2)]
        stages = [Parts(layers=nn.CellList([block])) for block in blocks]
        self.encoder = Parts(stages=nn.CellList(stages))

    def _layer(self, before: int, after: int, kernel: int, stride: int) -> nn.Cell:
        return Parts(
            convolution=nn.Conv2d(
                before, after, kernel, stride, pad_mode="pad", padding=kernel // 2
            ),
            normalization=nn.BatchNorm2d(after),
        )

    def _block(self, before: int, after: int, stride: int) -> nn.Cell:
        layers = [self._layer(before, after, 3, stride), self._layer(after, after, 3, 1)]
        return Parts(layer=nn.CellList(layers), shortcut=self._layer(before, after, 1, stride))

    def construct(self, images: Tensor) -> Tensor:
        def run(layer: Any, x: Tensor) -> Tensor:
            return layer.normalization(layer.convolution(x))

        x = self.pooler(ops.relu(run(self.embedder.embedder, images)))
        for stage in self.encoder.stages:
            (block,) = stage.layers
            y = run(block.layer[1], ops.relu(run(block.layer[0], x)))
            x = ops.relu(y + run(block.shortcut, x))
        return x
