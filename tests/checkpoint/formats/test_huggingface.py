"""HuggingFace's folders: shards and an index, strictly and inside of the folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import paramesh
from paramesh import nn
from paramesh.checkpoint.conversion.converter import convert
from paramesh.checkpoint.opening import open_sink, open_source
from paramesh.cli.inspect import opened
from paramesh.errors import CheckpointError
from type_checks import present

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, np.float32)
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


def folder(path: Path, where: Any = None, index: str = INDEX) -> Path:
    path.mkdir()
    save_file({"a": A}, path / FIRST)
    save_file({"b": B}, path / SECOND)
    where = {"a": FIRST, "b": SECOND} if where is None else where
    (path / index).write_text(json.dumps({"metadata": {"total_size": 40}, "weight_map": where}))
    return path


@pytest.mark.parametrize("index", [INDEX, "diffusion_pytorch_model.safetensors.index.json"])
@pytest.mark.parametrize("given", ["folder", "index"])
def test_a_folder_and_its_index_are_checkpoints(given: str, index: str, tmp_path: Path) -> None:
    path = folder(tmp_path / "model", index=index)
    place = path if given == "folder" else path / index
    loaded = paramesh.load_checkpoint(str(place), format="huggingface")
    assert list(loaded) == ["a", "b"]
    np.testing.assert_array_equal(loaded["a"].asnumpy(), A)
    np.testing.assert_array_equal(loaded["b"].asnumpy(), B)
    with open_source(place) as source:
        assert (source.format, source.path) == ("huggingface", place)
        assert source.read_rows("a", 1, 2).tolist() == A[1:].tolist()
        assert source.read_box("a", ((0, 2), (1, 2))).tolist() == A[:, 1:2].tolist()
    made = convert(place, tmp_path / "x.safetensors")
    assert list(paramesh.load_checkpoint(made.path)) == ["a", "b"]
    with opened(place) as source:
        assert [entry.name for entry in source.entries()] == ["a", "b"]


def test_a_folder_loads_into_a_network(tmp_path: Path) -> None:
    weight, bias = np.ones((3, 2), np.float32), np.full(3, 2, np.float32)
    (tmp_path / "m").mkdir()
    save_file({"weight": weight}, tmp_path / "m" / "one.safetensors")
    save_file({"bias": bias}, tmp_path / "m" / "two.safetensors")
    where = {"weight": "one.safetensors", "bias": "two.safetensors"}
    (tmp_path / "m" / INDEX).write_text(json.dumps({"weight_map": where}))
    net = nn.Dense(2, 3)
    paramesh.load_checkpoint(tmp_path / "m", net)
    np.testing.assert_array_equal(net.weight.asnumpy(), weight)
    np.testing.assert_array_equal(present(net.bias).asnumpy(), bias)


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    save_file({"a": A}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert list(paramesh.load_checkpoint(tmp_path)) == ["a"]
    save_file({"b": B}, tmp_path / "adapter.safetensors")  # `model` is the usual one
    assert list(paramesh.load_checkpoint(tmp_path)) == ["a"]
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="contains 2 safetensors files .*and no index"):
        paramesh.load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "shard",
    ["../out.safetensors", "/out.safetensors", "..", "", "x/../../out.safetensors", "C:x", 3],
)
def test_shards_outside_are_refused(shard: Any, tmp_path: Path) -> None:
    save_file({"a": A}, tmp_path / "out.safetensors")
    path = folder(tmp_path / "model", {"a": shard})
    with pytest.raises(
        CheckpointError, match="'a' is in .*, which is not the name of a file in its"
    ):
        paramesh.load_checkpoint(path)


def test_what_an_index_may_not_say(tmp_path: Path) -> None:
    path = folder(tmp_path / "model")

    def refused(index: Any, message: str) -> None:
        text = index if isinstance(index, str) else json.dumps(index)
        (path / INDEX).write_text(text)
        with pytest.raises(CheckpointError, match=message) as caught:
            paramesh.load_checkpoint(path)
        assert INDEX in str(caught.value)
        assert "Nothing was loaded" in str(caught.value)

    where = {"a": FIRST, "b": SECOND}
    refused("{", "the index is not valid JSON")
    refused('{"weight_map": {"a": "x", "a": "y"}}', "a name is duplicated")
    refused({"a": FIRST}, "without a weight_map is not an index")
    refused({"weight_map": [1]}, "without a weight_map is not an index")
    gone = {"a": "gone.safetensors", "b": "lost.safetensors"}
    refused(
        {"weight_map": gone},
        r"names 2 shards, and 2 of them are not in the folder: gone\.safetensors, lost\.saf",
    )
    refused(
        {"weight_map": where | {"c": SECOND}},
        f"names 1 arrays that are not in their shards: 'c' in '{SECOND}'",
    )
    refused({"weight_map": {"a": "pytorch_model.bin"}}, "is not a safetensors file. .*can run code")
    save_file({"a": A, "x": A}, path / FIRST)
    save_file({"b": B, "x": A}, path / SECOND)
    refused({"weight_map": where}, "'x' is in .* the index does not say which one to use")
    (path / INDEX).write_text(json.dumps({"weight_map": where | {"x": SECOND}}))
    assert sorted(paramesh.load_checkpoint(path)) == ["a", "b", "x"]
    (path / "model.fp16.safetensors.index.json").write_text("{}")
    assert sorted(paramesh.load_checkpoint(path)) == ["a", "b", "x"]
    (path / INDEX).rename(path / "ema.safetensors.index.json")
    with pytest.raises(
        CheckpointError, match="contains several checkpoints: give the index of one"
    ):
        paramesh.load_checkpoint(path)


def test_it_is_read_and_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in HuggingFace's folders, but cannot write them"):
        open_sink(tmp_path / "x", "huggingface", [])
