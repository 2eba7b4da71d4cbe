"""PyTorch's files: what torch 2.14 wrote is read bit for bit, and nothing in them is run.

`golden/torch` was written by torch.save: `tree` (and `before_1.6`, in the old format) has all kinds
of arrays, `training` a network and its optimizer, `module` a whole module, `script` TorchScript,
`evil` and `evil_before_1.6` a call of os.system.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh.checkpoint.formats import loose_arrays, torch_pickle
from paramesh.checkpoint.opening import open_source
from paramesh.errors import CheckpointError

FILES = Path(__file__).parents[2] / "golden" / "torch"
BASE = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("name", ["tree.pt", "before_1.6.pt"])
def test_what_torch_wrote(name: str) -> None:
    found = paramesh.load_checkpoint(FILES / name)
    state = {k.removeprefix("state_dict."): v for k, v in found.items() if k.startswith("state_")}
    expected = {
        "fc.weight": BASE,
        "fc.bias": np.array([1.5, -2], np.float32),
        "tied": BASE,
        "turned": BASE.T,
        "part": BASE[1:, 1:3],
        "half": BASE[:1].astype(np.float16),
        "bf16": BASE[:1],
        "i64": np.array([2**40, -1]),
        "u8": np.array([7], np.uint8),
        "flags": np.array([True, False]),
        "c64": np.array([1 + 2j], np.complex64),
        "scalar": np.float32(3),
        "none": np.zeros((0, 3), np.float32),
    }
    assert list(state) == list(expected)
    for key, array in expected.items():
        assert state[key].shape == np.shape(array), key
        np.testing.assert_array_equal(state[key].asnumpy().astype(array.dtype), array)
    assert str(state["bf16"].dtype) == "BFloat16"
    assert str(state["i64"].dtype) == "Int64"
    assert found["list.0"].asnumpy().tolist() == [1, 2]
    assert found["param"].asnumpy().tolist() == [4.0]
    assert (found["epoch"].asnumpy(), found["lr"].asnumpy(), found["name"]) == (3, 0.5, "net")
    assert "nothing" not in found


@pytest.mark.parametrize("name", ["tree.pt", "before_1.6.pt"])
def test_slices_of_arrays(name: str) -> None:
    with open_source(FILES / name) as source:
        assert source.format == "torch"
        assert not source.verify()
        for key, array in (("turned", BASE.T), ("part", BASE[1:, 1:3]), ("tied", BASE)):
            key = "state_dict." + key
            flat = array.reshape(-1)
            assert source.read_flat(key, 1, 3).tolist() == flat[1:3].tolist()
            assert source.read_flat(key, 2, 2).shape == (0,)
            assert source.read_rows(key, 1, 2).tolist() == array[1:2].tolist()
            box = ((0, 2), (1, 2))
            assert source.read_box(key, box).tolist() == array[:2, 1:2].tolist()
            found = source.read(key)
            assert not found.flags.writeable
        source.close()
        with pytest.raises(ValueError, match=r"is closed; 'state_dict\.turned' cannot be read"):
            source.read("state_dict.turned")
    assert found.tolist() == BASE.tolist()


def test_types_that_no_tensor_has_are_reported() -> None:
    with pytest.warns(UserWarning, match=r"1 arrays are left out.*'f8' is Float8E4M3FN \(2,\)"):
        found = paramesh.load_checkpoint(FILES / "types.pt")
    assert found["u16"].asnumpy().tolist() == [65535]
    with open_source(FILES / "types.pt") as source:
        assert source.read("f8").astype(np.float32).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", ["evil.pt", "evil_before_1.6.pt"])
def test_nothing_is_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = Path("/tmp/paramesh_evil")
    mark.unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=r"it names posix\.system, which would have to be r"):
        paramesh.load_checkpoint(FILES / name)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("module.pt", r"names torch\.nn\.modules\.linear\.Linear, .*save its state_dict\(\)"),
        ("script.pt", r"is a program \(TorchScript\)"),
    ],
)
def test_what_is_more_than_arrays(name: str, told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        paramesh.load_checkpoint(FILES / name)


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, print, bytearray])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_other_function_is_called(function: Any, protocol: int) -> None:
    data = pickle.dumps({"x": Calls(function, "1")}, protocol)
    with pytest.raises(torch_pickle.RefusedError, match=r"it names (builtins|__builtin__)\."):
        torch_pickle.loads_bytes(data)


def test_what_the_list_holds_is_inert() -> None:
    """Nothing on the list comes from torch, or makes memory of the size that a pickle says."""
    for (module, name), thing in torch_pickle._ALLOWED.items():
        home = getattr(thing, "__module__", None)
        assert home in (None, "collections", torch_pickle.__name__, "paramesh.dtype"), (
            module,
            name,
        )


def edited(edit: Any) -> bytes:
    """tree.pt with another data.pkl, or another list of members."""
    made = io.BytesIO()
    with zipfile.ZipFile(FILES / "tree.pt") as old, zipfile.ZipFile(made, "w") as new:
        for about in old.infolist():
            data = edit(about.filename, old.read(about))
            if data is not None:
                new.writestr(about.filename, data)
    return made.getvalue()


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda n, d: None if n.endswith("data/0") else d, "its storage '0' is not in the file"),
        (lambda n, d: d[:8] if n.endswith("data/0") else d, "its storage has 8 bytes"),
        (lambda n, d: b"big" if n.endswith("byteorder") else d, "numbers are big-endian"),
        (lambda n, d: d[:40] if n.endswith(".pkl") else d, "its pickle is damaged"),
        (lambda n, d: d.replace(b"K\x03K\x04\x86", b"K\x63K\x04\x86"), "ends behind its storage"),
        (lambda n, d: d.replace(b"FloatStorage", b"WeirdStorage"), r"names torch\.WeirdStorage"),
        (lambda n, d: d.replace(b"\x07\x00\x00\x00storage", b"\x07\x00\x00\x00starage"), "outside"),
    ],
)
def test_damaged_files(edit: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(edited(edit))
    with pytest.raises(CheckpointError, match=told):
        open_source(path)


def test_truncated_files(tmp_path: Path) -> None:
    for name in ("tree.pt", "before_1.6.pt"):
        whole = (FILES / name).read_bytes()
        for size in (0, 5, 30, 200, len(whole) // 2, len(whole) - 1):
            path = tmp_path / "x.bin"
            path.write_bytes(whole[:size])
            with pytest.raises(CheckpointError, match=r"Nothing was loaded"):
                open_source(path)


def test_compressed_members(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with (
        zipfile.ZipFile(FILES / "tree.pt") as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for about in old.infolist():
            new.writestr(about.filename, old.read(about))
    found = paramesh.load_checkpoint(path)
    np.testing.assert_array_equal(found["state_dict.turned"].asnumpy(), BASE.T)


def test_a_tree_that_grows_without_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loose_arrays, "_MOST_LEAVES", 1000)
    tree: Any = [1]
    for _ in range(40):
        tree = [tree, tree]
    path = tmp_path / "x.pt"
    path.write_bytes(edited(lambda n, d: pickle.dumps(tree, 2) if n.endswith(".pkl") else d))
    with pytest.raises(CheckpointError, match="nested more than 64 deep, or are too many"):
        open_source(path)
