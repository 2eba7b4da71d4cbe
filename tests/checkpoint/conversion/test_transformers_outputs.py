"""Networks of transformers, converted: here they compute what they compute there.

Runs where `transformers` and torch are installed; nothing is downloaded, the weights are random.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import transformers_networks as networks
from paramesh import Tensor, load_checkpoint, load_param_into_net, nn
from paramesh.checkpoint.conversion import Conversion, convert

torch: Any = pytest.importorskip("torch", reason="pip install torch")
load_file: Any = pytest.importorskip("safetensors.torch").load_file
transformers: Any = pytest.importorskip("transformers", reason="pip install transformers")

pytestmark = pytest.mark.slow

BASE = {
    "num_hidden_layers": networks.LAYERS,
    "num_attention_heads": networks.HEADS,
    "hidden_size": networks.WIDTH,
    "intermediate_size": networks.INNER,
    "vocab_size": networks.WORDS,
}
GPT2 = {"n_embd": networks.WIDTH, "n_layer": networks.LAYERS, "n_head": networks.HEADS}
RESNET = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}
#: (its class, its settings, the network here).
CASES: dict[str, tuple[str, dict[str, Any], type[nn.Cell]]] = {
    "bert": ("BertModel", BASE, networks.Bert),
    "gpt2": (
        "GPT2LMHeadModel",
        {**GPT2, "vocab_size": networks.WORDS, "n_positions": 64}
        | {"bos_token_id": 0, "eos_token_id": 0},
        networks.Gpt2,
    ),
    "llama": ("LlamaForCausalLM", {**BASE, "num_key_value_heads": 2}, networks.Llama),
    "vit": ("ViTModel", {**BASE, "image_size": 32, "patch_size": 8}, networks.ViT),
    "resnet": ("ResNetModel", RESNET, networks.ResNet),
}
IDS = np.array([[1, 5, 9, 2, 7], [3, 3, 8, 99, 0]], np.int32)
IMAGES = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)


def of_transformers(name: str) -> Any:
    """The network of transformers with random values, also of norms and of moving averages."""
    kind, settings, _ = CASES[name]
    model_class = getattr(transformers, kind)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**settings)).eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                value.normal_(std=0.3)
                if "running_var" in key:
                    value.abs_().add_(0.5)
    return model


@pytest.mark.parametrize("written", ["folder", "bin"])
@pytest.mark.parametrize("name", CASES)
def test_outputs(name: str, written: str, tmp_path: Path) -> None:
    model = of_transformers(name)
    source = tmp_path / name
    model.save_pretrained(source, max_shard_size="40KB")
    assert (source / "model.safetensors.index.json").exists()
    if written == "bin":  # as folders of older versions have it
        parts = [load_file(part) for part in source.glob("*.safetensors")]
        source = tmp_path / "pytorch_model.bin"
        torch.save({key: value for part in parts for key, value in part.items()}, source)
    target = tmp_path / "net.safetensors"
    done = convert(source, target, Conversion(back="torch"))
    assert done.unknown == {}
    net = CASES[name][2]()
    found = load_checkpoint(target)
    tied = {"lm_head.weight"} if name == "gpt2" else set()
    assert set(found) - tied == {param.name for param in net.get_parameters()}
    load_param_into_net(net, {key: value for key, value in found.items() if key not in tied})
    given = IMAGES if name in ("vit", "resnet") else IDS
    ours = net(Tensor(given))
    with torch.no_grad():
        theirs = model(torch.from_numpy(given).long() if given is IDS else torch.from_numpy(given))
    pairs = zip(ours if isinstance(ours, tuple) else (ours,), theirs.to_tuple(), strict=False)
    for mine, other in pairs:
        np.testing.assert_allclose(mine.asnumpy(), other.numpy(), rtol=1e-3, atol=2e-4)
