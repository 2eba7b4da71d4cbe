"""Checkpoints of transformers: every array of them has a rule.

`golden/architectures.json` has the names and shapes of small networks of transformers 5.24.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from paramesh import load_checkpoint, save_checkpoint
from paramesh.checkpoint.conversion.architectures import architecture_of
from paramesh.checkpoint.conversion.converter import Conversion, Converted, convert

SHAPES = json.loads((Path(__file__).parents[2] / "golden" / "architectures.json").read_text())
NAMES = {"bert": "BERT", "gpt2": "GPT-2", "llama": "Llama", "vit": "ViT", "resnet": "ResNet"}


def written(model: str, folder: Path, **more: np.ndarray) -> Path:
    """A checkpoint with arrays of these names and shapes, all different."""
    random = np.random.default_rng(0)
    arrays = {
        name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES[model].items()
    }
    return save_checkpoint(arrays | more, folder / f"{model}.safetensors")


def converted(source: Path, **wishes: str) -> tuple[Converted, dict[str, np.ndarray]]:
    target = source.with_suffix(".new.safetensors")
    found = convert(source, target, Conversion(overwrite=True, **wishes))  # type: ignore[arg-type]
    return found, {name: value.asnumpy() for name, value in load_checkpoint(target).items()}


@pytest.mark.parametrize("model", SHAPES)
def test_every_array_has_a_rule(model: str, tmp_path: Path) -> None:
    source = written(model, tmp_path)
    found, arrays = converted(source, back="torch")
    assert found.architecture == NAMES[model]
    assert found.unknown == {}
    assert len(arrays) + len(found.dropped) == len(SHAPES[model])
    leaves = {name.rpartition(".")[2] for name in arrays}
    assert leaves <= {
        *("weight", "bias", "gamma", "beta", "embedding_table", "moving_mean", "moving_variance"),
        *("cls_token", "position_embeddings"),
    }
    first = {name: value.asnumpy() for name, value in load_checkpoint(source).items()}
    _, again = converted(tmp_path / f"{model}.new.safetensors", to="torch")
    assert set(again) == set(first) - set(found.dropped)
    for name, array in again.items():
        np.testing.assert_array_equal(array, first[name], err_msg=name)


def test_gpt2_has_its_weights_the_other_way(tmp_path: Path) -> None:
    mask = {"transformer.h.0.attn.bias": np.ones((1, 1, 5, 5), np.bool_)}
    source = written("gpt2", tmp_path, **mask)
    found, arrays = converted(source, back="torch")
    assert found.dropped == {
        "transformer.h.0.attn.bias": "the causal mask, which is no weight",
    }
    weight = load_checkpoint(source)["transformer.h.0.attn.c_attn.weight"].asnumpy()
    np.testing.assert_array_equal(arrays["transformer.h.0.attn.c_attn.weight"], weight.T)
    assert arrays["transformer.wte.embedding_table"].shape == (11, 4)
    assert arrays["lm_head.weight"].shape == (11, 4)


def test_what_stays_as_it_is(tmp_path: Path) -> None:
    _, arrays = converted(written("llama", tmp_path), back="torch")
    assert "model.layers.0.input_layernorm.weight" in arrays
    assert "model.embed_tokens.embedding_table" in arrays
    found, arrays = converted(written("resnet", tmp_path), back="torch")
    assert all(name.endswith("num_batches_tracked") for name in found.dropped)
    assert len(found.dropped) == 6
    assert "resnet.embedder.embedder.normalization.moving_mean" in arrays


@pytest.mark.parametrize("model", SHAPES)
def test_from_torch_to_flax_in_one_go(model: str, tmp_path: Path) -> None:
    source = written(model, tmp_path)
    found, arrays = converted(source, back="torch", to="flax")
    _, here = converted(source, back="torch")
    between = tmp_path / f"{model}.new.safetensors"
    _, twice = converted(between, to="flax")
    assert here.keys() != arrays.keys()
    assert arrays.keys() == twice.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, twice[name])
    assert set(found.changed) <= set(arrays)
    assert found.architecture == NAMES[model]


def test_other_checkpoints_are_of_none() -> None:
    assert architecture_of(["fc.weight", "fc.bias"]) is None
    assert architecture_of(["xwte.weight", "attn.c_attn.weight"]) is None
