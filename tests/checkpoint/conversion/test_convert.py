"""Conversion of checkpoint files: every element, names, memory, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import goldens
from paramesh import nn, save_checkpoint
from paramesh.checkpoint.conversion import converter as converting
from paramesh.checkpoint.conversion.converter import KINDS_KEY, Conversion, convert
from paramesh.checkpoint.conversion.renaming import Renaming
from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.formats.storage_dtypes import storage_dtype
from paramesh.checkpoint.opening import FORMATS, open_sink, open_source
from paramesh.dtype import bfloat16, float16, float32
from paramesh.errors import CheckpointError


def write(path: Path, arrays: dict[str, Any], **settings: Any) -> Path:
    entries = [Entry.of(name, storage_dtype(a.dtype), a.shape) for name, a in arrays.items()]
    with open_sink(path, "safetensors", entries, **settings) as sink:
        for name, array in arrays.items():
            sink.write(name, array)
    return path


def read(path: Path) -> dict[str, Any]:
    with open_source(path) as source:
        return {name: source.read(name) for name in source.names()}


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return list(first) == list(second) and all(
        a.dtype == second[n].dtype
        and a.shape == second[n].shape
        and a.tobytes() == second[n].tobytes()
        for n, a in first.items()
    )


NEW = "b.safetensors"
ARRAYS: dict[str, Any] = {
    "fc.weight": np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32),
    "fc.bias": np.array([1, np.nan, -np.inf, 0, 2], np.float32),
    "steps": np.array(3, np.int64),
    "mask": np.array([True, False]),
    "half": np.arange(3, dtype=ml_dtypes.bfloat16),
    "none": np.zeros((0, 4), np.float16),
    "wide": np.array([1e300, 1.0]),
}


@pytest.fixture(params=[1 << 20, 3], ids=["whole", "parts"])
def _parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full arrays, or slices of 3 elements."""
    monkeypatch.setattr(converting, "CHUNK", request.param)
    monkeypatch.setattr(converting, "_SMALL", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "a.safetensors", ARRAYS, appended={"epoch": 3}, metadata={"note": "x"})


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_every_format_keeps_every_bit(path: Path, tmp_path: Path, known: Any) -> None:
    target = tmp_path / f"b{known.suffix}"
    found = convert(path, target)
    assert (found.format, found.arrays, found.changed) == (known.name, len(ARRAYS), {})
    again = tmp_path / "c.safetensors"
    convert(target, again)
    kept = {name: array for name, array in read(again).items() if name in ARRAYS}
    assert same(ARRAYS, kept)


@pytest.mark.parametrize("name", ["lenet", "lenet_crc", "mixed", "sliced", "train_step_adam"])
def test_files_of_mindspore_there_and_back(tmp_path: Path, name: str) -> None:
    path = goldens.DIRECTORY / "ckpt" / f"{name}.ckpt"
    convert(path, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.ckpt")
    assert same(read(path), read(tmp_path / "a.safetensors"))
    assert same(read(path), read(tmp_path / "b.ckpt"))


def test_appended_values_and_metadata_are_kept(path: Path, tmp_path: Path) -> None:
    convert(path, tmp_path / "b.safetensors", Conversion(checksums=True))
    with open_source(tmp_path / "b.safetensors") as source:
        assert source.appended == {"epoch": 3}
        assert source.metadata["note"] == "x"
        assert source.verify()


@pytest.mark.usefixtures("_parts")
def test_element_types_of_floats_change(path: Path, tmp_path: Path) -> None:
    found = convert(path, tmp_path / "b.safetensors", Conversion(dtype=bfloat16))
    new = read(tmp_path / "b.safetensors")
    for name, old in ARRAYS.items():
        kind = ml_dtypes.bfloat16 if old.dtype.kind in "fV" and old.size != 1 else old.dtype
        with np.errstate(over="ignore"):
            assert same({name: old.astype(kind)}, {name: new[name]})
    assert found.overflow == {"wide": 1}


def test_what_becomes_infinite_is_counted(path: Path, tmp_path: Path) -> None:
    found = convert(path, tmp_path / "b.safetensors", Conversion(dtype=float16))
    assert found.overflow == {"wide": 1}
    assert convert(path, tmp_path / "c.safetensors", Conversion(dtype=float32)).overflow == {
        "wide": 1
    }


@pytest.mark.usefixtures("_parts")
def test_there_and_back_through_files(tmp_path: Path) -> None:
    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 4)
            self.conv = nn.Conv1d(4, 4, 3, has_bias=True)
            self.bn = nn.BatchNorm2d(4)
            self.attn = nn.MultiheadAttention(4, 2)
            self.table = nn.Dense(4, 9, has_bias=False)

    path = save_checkpoint(Net(), tmp_path / "a.safetensors")
    layers = {"conv": "Conv1d", "attn": "MultiheadAttention:2"}
    for library in ("torch", "flax"):
        there, back = tmp_path / f"{library}.safetensors", tmp_path / f"{library}2.safetensors"
        # Which names are whose is not for the type checker to know.
        wish: Any = library
        convert(path, there, Conversion(to=wish, layers=layers))
        # The file itself says what its names do not.
        convert(there, back, Conversion(back=wish))
        assert same(read(path), read(back))
    with open_source(tmp_path / "torch.safetensors") as source:
        assert '"attn": "MultiheadAttention:2"' in source.metadata[KINDS_KEY]
    assert read(tmp_path / "flax.safetensors")["conv.kernel"].shape == (3, 4, 4)


def test_kinds_of_layers_go_with_the_names(tmp_path: Path) -> None:
    arrays = {"net.table.embedding_table": np.ones((3, 2), np.float32)}
    path = write(tmp_path / "a.safetensors", arrays)
    wish = Conversion(to="torch", rename=Renaming(["net=model"]))
    convert(path, tmp_path / "b.safetensors", wish)
    assert list(read(tmp_path / "b.safetensors")) == ["model.table.weight"]
    convert(tmp_path / "b.safetensors", tmp_path / "c.safetensors", Conversion(back="torch"))
    assert list(read(tmp_path / "c.safetensors")) == ["model.table.embedding_table"]


def test_choice_and_names(path: Path, tmp_path: Path) -> None:
    wish = Conversion(wanted=lambda name: name.startswith("fc"), rename=Renaming(["fc=head.out"]))
    found = convert(path, tmp_path / "b.safetensors", wish)
    assert list(read(tmp_path / "b.safetensors")) == ["head.out.weight", "head.out.bias"]
    assert found.changed == {"head.out.weight": ["fc.weight"], "head.out.bias": ["fc.bias"]}


@pytest.mark.parametrize(
    ("rules", "name", "new"),
    [
        (["a=b"], "a.w", "b.w"),
        (["a=b"], "a", "b"),
        (["a.=b."], "a.w", "b.w"),
        (["a=b"], "ab.w", "ab.w"),
        (["a="], "a.w", "w"),
        (["a.b=c", "a=d"], "a.b.w", "c.w"),
        (["a=d", "a.b=c"], "a.b.w", "d.b.w"),
        (["*.gamma=*.weight"], "x.y.gamma", "x.y.weight"),
        (["layer*.fc.*=blocks.*.mlp.*"], "layer3.fc.bias", "blocks.3.mlp.bias"),
        (["*=net.*"], "w", "net.w"),
        (["x*=y"], "xyz", "y"),
    ],
)
def test_rules_of_names(rules: list[str], name: str, new: str) -> None:
    assert Renaming(rules)(name) == new


@given(st.text("ab.", min_size=1, max_size=8))
def test_a_prefix_is_put_on_and_taken_off(name: str) -> None:
    assert Renaming(["net="])(Renaming(["*=net.*"])(name)) == name


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("a", "'a' is not of the form OLD=NEW"),
        ("=b", "'=b' is not of the form OLD=NEW"),
        ("a=*", "'a=\\*' has more \\* in its new name"),
    ],
)
def test_invalid_rules(rule: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Renaming([rule])


@pytest.mark.parametrize(
    ("target", "wish", "kind", "message"),
    [
        ("a.safetensors", Conversion(), FileExistsError, "is the source itself"),
        ("link.safetensors", Conversion(overwrite=True), FileExistsError, "is the source itself"),
        ("old.safetensors", Conversion(), FileExistsError, "already exists, and was left"),
        ("folder.safetensors", Conversion(overwrite=True), FileExistsError, "is a folder"),
        ("no/b.safetensors", Conversion(), FileNotFoundError, "There is no folder"),
        ("b.bin", Conversion(), ValueError, "no suffix of a known format"),
        ("b.bin", Conversion(format="zip"), ValueError, "Unknown checkpoint format 'zip'"),
        (NEW, Conversion(layers={"a": "Dense"}), ValueError, "Layer kinds need a library"),
        (NEW, Conversion(rename=lambda name: "x"), ValueError, "Two arrays would be named"),
        (NEW, Conversion(rename=lambda name: ""), ValueError, "leave an empty name for 'fc.we"),
    ],
)
def test_what_is_refused_changes_nothing(
    path: Path, tmp_path: Path, target: str, wish: Conversion, kind: Any, message: str
) -> None:
    (tmp_path / "old.safetensors").write_text("old")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "link.safetensors").symlink_to(path)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    content = path.read_bytes()
    with pytest.raises(kind, match=message):
        convert(path, tmp_path / target, wish)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before
    assert path.read_bytes() == content
    assert (tmp_path / "old.safetensors").read_text() == "old"


def test_an_old_file_is_replaced_only_by_a_complete_one(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write(tmp_path / "b.safetensors", {"old": np.ones(2)})
    real = converting.assemble

    def failing(source: Any, planned: Any) -> Any:
        if planned.entry.name == "mask":
            raise OSError("the disk is gone")
        return real(source, planned)

    with monkeypatch.context() as patched:
        patched.setattr(converting, "assemble", failing)
        with pytest.raises(OSError, match="the disk is gone"):
            convert(path, target, Conversion(overwrite=True))
    assert list(read(target)) == ["old"]
    assert len(list(tmp_path.iterdir())) == 2
    convert(path, target, Conversion(overwrite=True))
    assert same(read(target), ARRAYS)


def test_damaged_kinds_in_the_file(tmp_path: Path) -> None:
    arrays = {"fc.weight": np.ones((2, 2), np.float32)}
    path = write(tmp_path / "a.safetensors", arrays, metadata={KINDS_KEY: "[1]"})
    with pytest.raises(
        CheckpointError, match=r"'paramesh\.layers' is not a JSON object of prefixes"
    ):
        convert(path, tmp_path / "b.safetensors", Conversion(back="torch"))


_PROGRAM = """
import resource, sys
from paramesh.checkpoint.conversion.converter import Conversion, convert
from paramesh.dtype import float64
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(peak())
for at, wish in enumerate((Conversion(), Conversion(to="flax"), Conversion(dtype=float64))):
    convert(sys.argv[1], f"{sys.argv[2]}/{at}.safetensors", wish)
    print(peak())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in Linux's units")
def test_memory_is_bounded_by_the_largest_array(tmp_path: Path) -> None:
    # Six arrays of 32 MiB, one of them in one row: 192 MiB in all, 64 MiB the largest as float64.
    shape = {f"l{at}.weight": (2048, 4096) for at in range(5)} | {"row": (1, 2048 * 4096)}
    block = np.ones((2048, 4096), np.float32)
    path = write(tmp_path / "a.safetensors", {n: block.reshape(s) for n, s in shape.items()})
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, path, tmp_path], capture_output=True, text=True, check=True
    )
    before, *peaks = map(int, done.stdout.split())
    for peak, largest in zip(peaks, (32 << 20, 32 << 20, 64 << 20), strict=True):
        # Parts and Python need room besides the array; what is promised is 1.5 times and 200 MB.
        assert peak - before < 1.5 * largest + (40 << 20), (peak - before, largest)
