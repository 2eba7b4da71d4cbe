"""Orbax's checkpoints: every way in which it keeps arrays, and what is wrong with a damaged one."""

from __future__ import annotations

import json
import random
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import goldens
from paramesh import Parameter, Tensor, load_checkpoint, nn, save_checkpoint
from paramesh.checkpoint.conversion.converter import Conversion, convert
from paramesh.checkpoint.formats.boxes import full_box, within
from paramesh.checkpoint.opening import open_source
from paramesh.cli import main
from paramesh.errors import CheckpointError

pytest.importorskip("tensorstore", reason="orbax's checkpoints are read by tensorstore")

KINDS = ["ocdbt", "zarr", "zarr3"]
EXPECTED = {
    "complex": np.array([1 + 2j], np.complex64),
    "cut": np.arange(48, dtype=np.int64).reshape(8, 6),  # in four chunks
    "done": np.array(True),
    "key": np.array([0, 3], np.uint32),
    "lr": np.array(0.25),
    "mask": np.array([True, False]),
    "params.dense.bias": (np.arange(4) / 8).astype(ml_dtypes.bfloat16),
    "params.dense.kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "params.layers.0": np.arange(3, dtype=np.int32),
    "params.layers.1": np.arange(6, dtype=np.float16).reshape(2, 3),
    "scalar": np.array(1.5, np.float32),
    "step": np.array(7),
    "zeros": np.zeros((2, 2), np.float32),
}


def code(words: list[str]) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded checkpoints: a folder for each kind, `steps` and `items` of a manager."""
    place = tmp_path_factory.mktemp("orbax")
    with zipfile.ZipFile(goldens.DIRECTORY / "orbax.zip") as archive:
        archive.extractall(place)
    return place


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of them, to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "orbax"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_leaf_is_read_to_the_same_bits(kind: str, pristine: Path) -> None:
    with open_source(pristine / kind) as source:
        assert source.format == "orbax"
        assert dict(source.appended) == {"note": "first try"}
        assert source.names() == list(EXPECTED)
        for name, array in EXPECTED.items():
            found = source.read(name)
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert found.tobytes() == array.tobytes()
            assert not found.flags.writeable
        assert not source.verify()
    with pytest.raises(ValueError, match="is closed; 'cut' cannot be read"):
        source.read("cut")


@pytest.mark.parametrize("held", [0, 16 << 20], ids=["chunk by chunk", "held as a whole"])
@pytest.mark.parametrize("kind", KINDS)
def test_slices_are_those_of_the_full_array(
    kind: str, held: int, pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paramesh.checkpoint.formats.orbax_source._SMALL", held)
    chance = random.Random(kind)
    with open_source(pristine / kind) as source:
        for _ in range(60):
            name, array = chance.choice(list(EXPECTED.items()))
            start, stop = sorted(chance.randrange(array.size + 1) for _ in range(2))
            part = source.read_flat(name, start, stop)
            assert part.tobytes() == array.reshape(-1)[start:stop].tobytes()
            ends = [sorted(chance.randrange(size + 1) for _ in range(2)) for size in array.shape]
            box = tuple((low, high) for low, high in ends)
            found = source.read_box(name, box)
            assert np.array_equal(found, array[within(box, full_box(array.shape))])


def test_chunks_are_read_once_while_they_are_gone_through(
    pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paramesh.checkpoint.formats.orbax_source._SMALL", 0)
    with open_source(pristine / "zarr") as source:
        reads: list[Any] = []
        read = source._read  # pyright: ignore[reportAttributeAccessIssue]
        monkeypatch.setattr(source, "_read", lambda *what: (reads.append(what), read(*what))[1])
        for at in range(48):
            assert source.read_flat("cut", at, at + 1) == at
    assert reads == [("cut", ((0, 4), (0, 6))), ("cut", ((4, 8), (0, 6)))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_is_loaded_and_a_converted_file_has_the_same(
    kind: str, pristine: Path, tmp_path: Path
) -> None:
    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = Parameter(
                Tensor(np.zeros((3, 4), np.float32)), name="params.dense.kernel"
            )
            self.cut = Parameter(Tensor(np.zeros((8, 6), np.int64)), name="cut")

    net = Net()
    load_checkpoint(
        pristine / kind, net, choice_func=lambda n: n in ("params.dense.kernel", "cut", "step")
    )
    assert np.array_equal(net.kernel.asnumpy(), EXPECTED["params.dense.kernel"])
    assert np.array_equal(net.cut.asnumpy(), EXPECTED["cut"])
    for name in ("plain.safetensors", "plain.sharded"):
        done = convert(pristine / kind, tmp_path / name)
        assert done.arrays == len(EXPECTED)
        assert code(["inspect", str(pristine / kind), str(tmp_path / name)]) == 0
        load_checkpoint(
            tmp_path / name, net, choice_func=lambda n: n in ("cut", "step", "params.dense.kernel")
        )
    done = convert(
        pristine / kind,
        tmp_path / "torch.safetensors",
        Conversion(
            back="flax", rename=lambda n: n.removeprefix("params."), wanted=lambda n: "dense" in n
        ),
    )
    found = load_checkpoint(tmp_path / "torch.safetensors", format="safetensors")
    assert found["dense.weight"].shape == (4, 3)


def test_an_item_alone_has_no_prefix_and_several_have(pristine: Path) -> None:
    alone = load_checkpoint(pristine / "steps" / "10", format="orbax")
    assert list(alone) == ["w"]
    assert alone["w"].asnumpy().tolist() == [10, 10, 10]
    with open_source(pristine / "items" / "4") as source:
        assert source.names() == ["ema.w", "state.w"]
        assert source.metadata["orbax.left_out"] == "about"
        assert source.read("state.w").tolist() == [0, 1, 2]
    assert list(load_checkpoint(pristine / "items" / "4" / "ema")) == ["w"]


def test_a_folder_that_is_no_checkpoint_says_what_to_do(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"contains 2 orbax .* such as '.*steps/10'"):
        load_checkpoint(folder / "steps")
    left = (folder / "zarr").rename(folder / "zarr.orbax-checkpoint-tmp-3")
    with pytest.raises(CheckpointError, match="orbax did not finish saving it"):
        load_checkpoint(left)
    with pytest.raises(FileNotFoundError, match="it is a folder"):
        load_checkpoint(folder)
    with pytest.raises(ValueError, match="is a orbax file, not format='safetensors'"):
        load_checkpoint(folder / "ocdbt", format="safetensors")
    with pytest.raises(ValueError, match="orbax's format, but cannot write them"):
        save_checkpoint({"a": Tensor([1])}, folder / "a", format="orbax")


def test_without_tensorstore_it_says_what_to_install(
    pristine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(CheckpointError, match=r"pip install 'paramesh\[orbax\]'"):
        load_checkpoint(pristine / "ocdbt")
    assert code(["inspect", str(pristine / "ocdbt")]) == 2
    assert "pip install 'paramesh[orbax]'" in capsys.readouterr().err


def tree(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Damage to the description of the tree."""

    def damage(folder: Path) -> None:
        path = folder / "zarr" / "_METADATA"
        about = json.loads(path.read_bytes())
        changed = change(about)
        path.write_text(json.dumps(about if changed is None else changed))

    return damage


def array(**changes: Any) -> Callable[[Path], None]:
    """Damage to the description of an array."""

    def damage(folder: Path) -> None:
        path = folder / "zarr" / "cut" / ".zarray"
        path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))

    return damage


def leaf(about: dict[str, Any]) -> dict[str, Any]:
    return about["tree_metadata"]["('cut',)"]


def no_database(folder: Path) -> None:
    shutil.rmtree(folder / "zarr")
    (folder / "ocdbt" / "manifest.ocdbt").unlink()
    (folder / "ocdbt").rename(folder / "zarr")


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no JSON": (
        lambda f: (f / "zarr" / "_METADATA").write_text("{"),
        "_METADATA is not valid JSON",
    ),
    "a list": (tree(lambda about: [about]), "_METADATA is not a JSON object"),
    "no tree": (tree(lambda about: about.pop("tree_metadata") and None), "has no tree_metadata"),
    "no keys": (
        tree(lambda about: leaf(about).pop("key_metadata") and None),
        "has an invalid description of it",
    ),
    "odd key": (
        tree(lambda about: leaf(about).update(key_metadata=[{"key": []}])),
        "a key is",
    ),
    "outside": (
        tree(lambda about: leaf(about).update(key_metadata=[{"key": "../ocdbt"}])),
        r"'\.\./ocdbt': an array cannot have this name",
    ),
    "no name": (tree(lambda about: leaf(about).update(key_metadata=[])), "cannot have this name"),
    "twice": (
        tree(lambda about: leaf(about).update(key_metadata=[{"key": "step"}])),
        "'step': the name is duplicated",
    ),
    "no strings": (lambda f: (f / "zarr" / "_strings.json").unlink(), "_strings.json is missing"),
    "a str less": (
        lambda f: (f / "zarr" / "_strings.json").write_text("{}"),
        "'note': _strings.json does not have it",
    ),
    "no array": (lambda f: shutil.rmtree(f / "zarr" / "cut"), "'cut' cannot be read: .*NOT_FOUND"),
    "no chunk": (
        lambda f: (f / "zarr" / "cut" / "1.0").unlink(),
        "'cut' cannot be read: .*chunk {1, 0} .* is missing",
    ),
    "half a chunk": (
        lambda f: (f / "zarr" / "cut" / "1.0").write_bytes(
            (f / "zarr" / "cut" / "1.0").read_bytes()[:-4]
        ),
        "'cut' cannot be read: ",
    ),
    "another shape": (array(shape=[80, 60]), "'cut' cannot be read: .*is missing"),
    "too many bytes": (array(shape=[1 << 59, 16]), "'cut': .*is not a valid shape"),
    "too many chunks": (
        array(shape=[1 << 40, 4]),
        "'cut': a chunk of .* bytes does not fit into memory",
    ),
    "a chunk without end": (
        array(chunks=[1 << 45, 8]),
        "'cut': a chunk of .* bytes does not fit into memory",
    ),
    "another type": (array(dtype="|S8"), "'cut' cannot be read: "),
    "no database": (no_database, "cannot be read: "),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_error_that_says_what_and_where(damage: str, folder: Path) -> None:
    harm, message = DAMAGES[damage]
    harm(folder)
    with pytest.raises(CheckpointError, match=f"(?s)orbax/zarr'.*{message}.*Nothing was loaded"):
        load_checkpoint(folder / "zarr")


def test_the_command_line_says_it_in_a_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "zarr" / "cut" / "1.0").unlink()
    target = tmp_path / "new.safetensors"
    for words in (
        ["inspect", str(folder / "zarr"), "--stats"],
        ["convert", str(folder / "zarr"), str(target)],
    ):
        assert code(words) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "chunk {1, 0}" in error
    assert not target.exists()
