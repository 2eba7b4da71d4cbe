"""HuggingFace's folders: shards and an index, strictly and inside of the folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import paramesh
from paramesh import nn
from paramesh.checkpoint.conversion.converter import Conversion, convert
from paramesh.checkpoint.formats import huggingface_sink
from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.opening import open_sink, open_source
from paramesh.cli.inspect import opened
from paramesh.errors import CheckpointError
from type_checks import present

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, np.float32)
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
TORCH = Path(__file__).parents[2] / "golden" / "torch"


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
    refused({"weight_map": {"a": "model.txt"}}, "is not a file of arrays that paramesh reads")
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


def test_one_file_where_one_is_enough(tmp_path: Path) -> None:
    net = nn.Dense(2, 3)
    path = paramesh.save_checkpoint(net, tmp_path / "m", append_dict={"e": 3}, format="huggingface")
    assert path == tmp_path / "m"
    assert [place.name for place in path.iterdir()] == ["model.safetensors"]
    fresh = nn.Dense(2, 3)
    found = paramesh.load_checkpoint(path, fresh)
    assert list(found) == ["weight", "bias", "e"]
    np.testing.assert_array_equal(fresh.weight.asnumpy(), net.weight.asnumpy())


def test_shards_and_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_sink, "SHARD_BYTES", 24)
    arrays = {"a": A, "b": B, "c": B + 1, "d": np.array(2, np.float32)}
    first = paramesh.save_checkpoint(arrays, tmp_path / "x.safetensors", append_dict={"e": 3})
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text("{}")
    found = convert(first, path, Conversion(format="huggingface", checksums=True))
    assert found.arrays == 4
    assert sorted(place.name for place in path.iterdir()) == [
        "config.json",
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        INDEX,
    ]
    index = json.loads((path / INDEX).read_text())
    assert index["metadata"] == {"total_size": 24 + 16 + 16 + 4}
    assert index["weight_map"]["d"] == "model-00003-of-00003.safetensors"
    loaded = paramesh.load_checkpoint(path, crc_check=True)
    assert list(loaded) == ["a", "b", "c", "d", "e"]
    np.testing.assert_array_equal(loaded["c"].asnumpy(), B + 1)

    with pytest.raises(FileExistsError, match="is there already, and was left as it is"):
        convert(first, path, Conversion(format="huggingface"))
    convert(
        first, path, Conversion(format="huggingface", wanted=lambda n: n == "a", overwrite=True)
    )
    assert {p.name for p in path.iterdir()} == {"config.json", "model.safetensors"}
    assert {p.name for p in tmp_path.iterdir()} == {"model", "x.safetensors"}


def test_a_folder_that_is_not_finished_changes_nothing(tmp_path: Path) -> None:
    path = folder(tmp_path / "model")
    entries = [Entry.of("a", paramesh.float32, (2, 3)), Entry.of("b", paramesh.float32, (4,))]
    with (
        pytest.raises(ValueError, match="'b' was not written"),
        open_sink(path, "huggingface", entries) as sink,
    ):
        sink.write("a", A + 1)
    assert list(paramesh.load_checkpoint(path)) == ["a", "b"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file, but HuggingFace's checkpoints are fold"):
        paramesh.save_checkpoint(nn.Dense(1, 1), tmp_path / "file", format="huggingface")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        paramesh.save_checkpoint(nn.Dense(1, 1), tmp_path / "no" / "x", format="huggingface")


def test_files_of_pytorch_in_folders(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    shutil.copy(TORCH / "training.pt", path / "pytorch_model.bin")
    assert next(iter(paramesh.load_checkpoint(path))) == "model.weight"
    with open_source(path) as source:
        names = source.names()
    (path / "pytorch_model.bin").rename(path / "pytorch_model-00001-of-00001.bin")
    where = dict.fromkeys(names, "pytorch_model-00001-of-00001.bin")
    (path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    with open_source(path) as source:
        assert source.format == "huggingface"
        assert source.names() == names
    assert paramesh.load_checkpoint(path)["model.weight"].shape == (2, 2)
    folder(tmp_path / "both")
    shutil.copy(TORCH / "training.pt", tmp_path / "both" / "pytorch_model.bin")
    assert list(paramesh.load_checkpoint(tmp_path / "both")) == ["a", "b"]
