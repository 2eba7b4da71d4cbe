"""Checkpoints: what is saved comes back bit for bit, strictly; files are complete or untouched."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from safetensors import safe_open

from paramesh import dtype as mstype
from paramesh import export, nn, optim
from paramesh.checkpoint import load_checkpoint, load_param_into_net, save_checkpoint
from paramesh.checkpoint.opening import open_source
from paramesh.errors import CheckpointError, DuplicateNameError
from paramesh.initializer import initializer
from paramesh.parameter import Parameter
from paramesh.state import placement
from paramesh.tensor import Tensor
from type_checks import present, wrong

DTYPES = [
    *("bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
]


class Net(nn.Cell):
    def __init__(self, out: int = 2) -> None:
        super().__init__()
        self.fc = nn.Dense(3, out)
        self.head = nn.Dense(out, 1, has_bias=False)

    def construct(self, x):
        return self.head(self.fc(x))


class Tied(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.a = Parameter(np.ones(2, np.float32))
        self.b = self.a


def values(cell: nn.Cell) -> dict[str, np.ndarray]:
    return {name: p.asnumpy() for name, p in cell.parameters_dict().items()}


def same_values(a: nn.Cell, b: nn.Cell) -> bool:
    mine, theirs = values(a), values(b)
    return list(mine) == list(theirs) and all(np.array_equal(mine[n], theirs[n]) for n in mine)


@hypothesis.settings(max_examples=30)
@hypothesis.given(
    entries=st.dictionaries(
        st.text("ab.é_ 0", min_size=1, max_size=8),
        st.tuples(
            st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 99)
        ),
        max_size=5,
    )
)
def test_any_array_comes_back_bit_for_bit(entries, tmp_path_factory) -> None:
    def array(dtype, shape, seed):
        kind = getattr(mstype, dtype).np_dtype
        count = int(np.prod(shape)) * kind.itemsize
        bits = np.random.default_rng(seed).integers(0, 256, count, np.uint8)
        if dtype == "bool_":
            bits &= 1
        return bits.view(kind).reshape(shape)  # NaNs of every kind among them

    arrays = {name: array(*how) for name, how in entries.items()}
    path = save_checkpoint(
        {name: Tensor(a) for name, a in arrays.items()},
        tmp_path_factory.mktemp("any") / "x.safetensors",
    )
    found = load_checkpoint(path)
    assert set(found) == set(arrays)
    for name, expected in arrays.items():
        got = found[name].asnumpy()
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        assert got.tobytes() == expected.tobytes()
        assert found[name].name == name.strip() or not name.strip()


def test_a_network_comes_back(tmp_path: Path) -> None:
    net, other = Net(), Net()
    path = save_checkpoint(net, tmp_path / "net")
    assert path == tmp_path / "net.safetensors"
    assert not same_values(net, other)
    assert load_param_into_net(other, load_checkpoint(path)) == ([], [])
    assert same_values(net, other)
    third = Net()
    load_checkpoint(path, third)
    assert same_values(net, third)
    with safe_open(path, framework="np") as file:
        assert file.metadata() == {"format": "paramesh"}


def test_loading_runs_no_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_checkpoint(Net(), tmp_path / "net.safetensors")
    runs = []

    class Counting(placement.Placement):
        def materialise(self, params, recipes):
            runs.extend(recipes)
            return super().materialise(params, recipes)

    counting = Counting()
    monkeypatch.setattr(placement, "current", lambda: counting)
    net = Net()
    assert all(p.has_init for p in net.get_parameters())
    load_checkpoint(path, net)
    assert not any(p.has_init for p in net.get_parameters())
    net(Tensor(np.ones((1, 3), np.float32)))
    assert runs == []
    Net().fc.weight.init_data()
    assert len(runs) == 1  # so they would have been counted


def test_tied_parameters_are_saved_once(tmp_path: Path) -> None:
    assert list(load_checkpoint(save_checkpoint(Tied(), tmp_path / "t"))) == ["a"]


def test_dicts_lists_and_choices(tmp_path: Path) -> None:
    a, b = Tensor(np.ones(2, np.float32)), Parameter(initializer("ones", [3]), name="other")
    listed = [{"name": "a", "data": a}, {"name": "b", "data": b}, {"name": "a", "data": a}]
    for obj in (listed, {"a": a, "b": b}):
        path = save_checkpoint(obj, tmp_path / "x")
        found = load_checkpoint(path)
        assert {n: p.asnumpy().tolist() for n, p in found.items()} == {"a": [1, 1], "b": [1, 1, 1]}
    net = Net()
    path = save_checkpoint(net, tmp_path / "y", choice_func=lambda name: name.startswith("fc"))
    assert set(load_checkpoint(path)) == {"fc.weight", "fc.bias"}
    assert set(load_checkpoint(path, filter_prefix="fc.w")) == {"fc.bias"}
    assert set(load_checkpoint(path, filter_prefix=["fc.w", "fc.b"])) == set()
    assert set(load_checkpoint(path, specify_prefix=["fc.w", "x"])) == {"fc.weight"}
    with pytest.raises(ValueError, match=r"no name in '.*' starts with specify_prefix='x'"):
        load_checkpoint(path, specify_prefix="x")
    for given, error in (("", ValueError), (3, TypeError), ([3], TypeError)):
        with pytest.raises(error, match="filter_prefix must be a non-empty str or several"):
            load_checkpoint(path, filter_prefix=wrong(given))
    assert set(load_checkpoint(path, choice_func=lambda n: "bias" in n)) == {"fc.bias"}
    with pytest.raises(DuplicateNameError, match="two different Tensors of the list .* 'a'"):
        save_checkpoint([{"name": "a", "data": a}, {"name": "a", "data": b}], tmp_path / "x")


def test_appended_entries(tmp_path: Path) -> None:
    given = {
        "epoch": 3,
        "big": 2**40,
        "rate": 0.5,
        "fine": 0.1,
        "done": True,
        "note": "é\n",
        "n": 1e300,
    }
    path = save_checkpoint(
        Net(), tmp_path / "x", append_dict={**given, "extra": Tensor([1, 2], mstype.int8)}
    )
    found = load_checkpoint(path)
    got = {n: found[n] if isinstance(found[n], str) else found[n].asnumpy().item() for n in given}
    assert got == given
    kinds = {n: str(found[n].dtype) for n in given if n != "note"}
    assert kinds == {
        "epoch": "Int32",
        "big": "Int64",
        "rate": "Float32",
        "fine": "Float64",
        "done": "Bool",
        "n": "Float64",
    }
    assert found["epoch"].shape == ()
    assert found.pop("extra").asnumpy().tolist() == [1, 2]
    assert load_param_into_net(Net(), found) == ([], [])
    with pytest.raises(TypeError, match=r"append_dict\['x'\] must be a number, .* got list"):
        save_checkpoint(Net(), tmp_path / "x", append_dict={"x": [1]})
    with pytest.raises(DuplicateNameError, match="also the name of a saved Parameter"):
        save_checkpoint(Net(), tmp_path / "x", append_dict={"fc.bias": 1})


def test_a_network_takes_its_part_of_a_training(tmp_path: Path) -> None:
    net, other = Net(), Net()
    step = nn.TrainOneStepCell(net, nn.Adam(net.trainable_params()))
    path = save_checkpoint(step, tmp_path / "x.ckpt")
    given = load_checkpoint(path)
    missing, unexpected = load_param_into_net(other, given)
    assert missing == []
    assert "global_step" in unexpected
    assert any(name.endswith(".fc.weight") for name in unexpected)
    assert all(np.array_equal(values(net)[n], v) for n, v in values(other).items())
    load_checkpoint(path, other)
    # A training Cell has its own, and what is of another one does not fit.
    with pytest.raises(CheckpointError, match="unexpected: .*moment1"):
        load_param_into_net(nn.TrainOneStepCell(net, nn.SGD(net.trainable_params())), given)
    del given["fc.weight"]
    with pytest.raises(
        CheckpointError, match=r"missing: fc\.weight .*\n  unexpected: .*fc\.weight"
    ):
        load_param_into_net(other, given)


def test_strict_loading_lists_everything_and_loads_nothing(tmp_path: Path) -> None:
    net = Net()
    before = values(net)
    given = {
        "fc.weight": Parameter(np.zeros((4, 3), np.float32)),
        "fc.bias": Parameter(np.zeros(2, np.float64)),
        "tail.weight": Parameter(np.zeros(1, np.float32)),
    }
    with pytest.raises(CheckpointError, match="nothing was loaded") as caught:
        load_param_into_net(net, given)
    for part in (
        "missing: head.weight Float32[1, 2]",
        "unexpected: tail.weight Float32[1]",
        "shape: fc.weight is [2, 3], the value [4, 3]",
        "element type: fc.bias is Float32, the value Float64",
    ):
        assert part in str(caught.value)
    path = save_checkpoint(given, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"Checkpoint '.*x.safetensors' does not fit Net"):
        load_checkpoint(path, net)
    with pytest.raises(CheckpointError, match="strict_load=False loads what fits, and reports"):
        load_checkpoint(path, net)
    assert all(np.array_equal(before[n], v) for n, v in values(net).items())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((1, {}), "net must be a Cell, got int"),
        ((nn.Cell(), [1]), "must be {name: Parameter}, got list"),
        ((nn.Cell(), {"w": Tensor([1.0])}), r"parameter_dict\['w'\] must be a Parameter"),
    ],
)
def test_arguments_of_loading(args, message) -> None:
    with pytest.raises(TypeError, match=message):
        load_param_into_net(*args)


@pytest.mark.parametrize("path", ["", None, 3])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(TypeError, match=f"ckpt_file_name must be the path of a file, got {path!r}"):
        load_checkpoint(path)  # "" was the current folder


@pytest.mark.parametrize("end", ["", "runs/", "runs/.", "runs/.."])
def test_a_folder_is_no_name_of_a_file(end: str, tmp_path: Path) -> None:
    """`Path` would make `runs.ckpt` of `runs/`."""
    (tmp_path / "runs").mkdir()
    folder = f"{tmp_path}/{end}"
    with pytest.raises(ValueError, match=f"must end with the name of a file, got the .*'{folder}'"):
        save_checkpoint(Net(), folder)
    with pytest.raises(ValueError, match=f"must end with the name of a file, got the .*'{folder}'"):
        export(Net(), file_name=folder, file_format="STABLEHLO")
    assert [path.name for path in tmp_path.rglob("*")] == ["runs"]
    sharded = save_checkpoint(Net(), f"{tmp_path}/whole.sharded/", format="sharded")
    assert sharded == tmp_path / "whole.sharded"


def test_formats_by_name_and_by_suffix(tmp_path: Path) -> None:
    net = Net()
    assert save_checkpoint(net, tmp_path / "a", format="ckpt") == tmp_path / "a.ckpt"
    assert save_checkpoint(net, tmp_path / "b.ckpt") == tmp_path / "b.ckpt"
    path = save_checkpoint(net, tmp_path / "c.ckpt", format="safetensors")
    assert path == tmp_path / "c.ckpt.safetensors"
    for name in ("a.ckpt", "b.ckpt", "c.ckpt.safetensors"):
        other = Net()
        load_checkpoint(tmp_path / name, other)
        assert same_values(net, other)
    with pytest.raises(ValueError, match="is a ckpt file, not format='safetensors'"):
        load_checkpoint(tmp_path / "a.ckpt", format="safetensors")
    with pytest.raises(
        ValueError, match="Unknown checkpoint format 'zip'; the formats are 'safetensors'"
    ):
        save_checkpoint(Net(), tmp_path / "x", format="zip")
    with pytest.raises(ValueError, match="in NumPy's archives, but cannot write them"):
        save_checkpoint(Net(), tmp_path / "x", format="npz")
    with pytest.raises(FileNotFoundError, match="There is no checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        save_checkpoint(Net(), tmp_path / "no" / "x")
    with pytest.raises(ValueError, match="enc_key is given, but paramesh does not encrypt"):
        save_checkpoint(Net(), tmp_path / "x", enc_key=b"0123456789ABCDEF")
    with pytest.raises(ValueError, match="dec_key is given, but paramesh does not decrypt"):
        load_checkpoint(tmp_path / "a.ckpt", dec_key=b"0123456789ABCDEF")
    with pytest.raises(TypeError, match="crc_check must be a bool, got 1"):
        save_checkpoint(Net(), tmp_path / "x", crc_check=wrong(1))


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_checksums_are_compared_when_asked(tmp_path: Path, suffix: str) -> None:
    path = save_checkpoint(Net(), tmp_path / f"x{suffix}", crc_check=True)
    assert set(load_checkpoint(path, crc_check=True)) == set(values(Net()))
    raw = bytearray(path.read_bytes())
    with open_source(path) as source:
        raw[source.entry("fc.weight").offset + 1] ^= 4
    path.write_bytes(raw)
    load_checkpoint(path)
    with pytest.raises(CheckpointError, match="checksum .*does not match"):
        load_checkpoint(path, crc_check=True)


@pytest.mark.parametrize("keep", [0, 4, 20, -3])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, keep: int) -> None:
    path = save_checkpoint(Net(), tmp_path / "x")
    path.write_bytes(path.read_bytes()[:keep])
    net = Net()
    with pytest.raises(
        CheckpointError, match=r"x\.safetensors' is not a valid safetensors file"
    ) as caught:
        load_checkpoint(path, net)
    assert "\n" not in str(caught.value)
    assert all(p.has_init for p in net.get_parameters())


def test_damaged_metadata(tmp_path: Path) -> None:
    path = save_checkpoint(Net(), tmp_path / "x", append_dict={"epoch": 1})
    raw = path.read_bytes()
    assert raw.count(b'\\"epoch\\": 1') == 1
    path.write_bytes(raw.replace(b'\\"epoch\\": 1', b'\\"epoch\\": }'))
    with pytest.raises(CheckpointError, match="is not a valid"):
        load_checkpoint(path)


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch, step: str) -> None:
    net = Net()
    path = save_checkpoint(net, tmp_path / "x")
    raw = path.read_bytes()

    def fails(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fails)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(Net(), path)
    assert path.read_bytes() == raw
    assert os.listdir(tmp_path) == ["x.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_those_of_any_file(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    path = save_checkpoint(Net(), tmp_path / "x")
    assert path.stat().st_mode == (tmp_path / "any").stat().st_mode
    path.chmod(0o640)
    save_checkpoint(Net(), path)
    assert path.stat().st_mode & 0o777 == 0o640
    link = tmp_path / "link.safetensors"
    link.symlink_to(path)
    save_checkpoint(Tied(), link)
    assert link.is_symlink()
    assert list(load_checkpoint(path)) == ["a"]


SAVER = """
import sys
import numpy as np
from paramesh.checkpoint import save_checkpoint
from paramesh.tensor import Tensor
beside = sys.argv[2] == "beside"
start = int(sys.argv[3]) if len(sys.argv) > 3 else 0
for i in range(start, 10**9):
    data = {name: Tensor(np.full(50_000, i, np.int32)) for name in "abc"}
    save_checkpoint(data, sys.argv[1], append_dict={"i": i}, async_save=i > start and beside)
    if i == start:
        print("saved", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["at once", "beside"])
@pytest.mark.parametrize("suffix", ["safetensors", "ckpt", "sharded"])
def test_kills_in_a_loop_leave_the_old_checkpoint_or_the_new_one(
    tmp_path: Path, suffix: str, how: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    chance = random.Random(f"{suffix} {how}")
    last = -1
    for number in range(15):
        start = number * 10**6
        command = [sys.executable, "-c", SAVER, str(path), how, str(start)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert present(process.stdout).readline() == b"saved\n"
                time.sleep(chance.uniform(0.0, 0.2))
            finally:
                process.kill()
        found = check_whole(path)
        assert start <= found < start + 10**6
        assert found > last
        last = found
    assert {p.name for p in tmp_path.iterdir() if not p.name.startswith(".")} == {path.name}


@pytest.mark.parametrize(("suffix", "how"), [("safetensors", "beside"), ("ckpt", "at once")])
def test_a_killed_process_leaves_a_complete_file(tmp_path: Path, suffix: str, how: str) -> None:
    path = tmp_path / f"x.{suffix}"
    chance = random.Random(0)
    for _ in range(2):
        command = [sys.executable, "-c", SAVER, str(path), how]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert present(process.stdout).readline() == b"saved\n"
            for _ in range(5):
                time.sleep(chance.uniform(0.001, 0.03))
                check_whole(path)  # while it is being written anew
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            present(process.stdout).close()
        check_whole(path)


def check_whole(path: Path) -> int:
    found = load_checkpoint(path)
    i = found.pop("i").asnumpy().item()
    assert sorted(found) == ["a", "b", "c"]
    assert all((p.asnumpy() == i).all() for p in found.values())
    return i


def test_an_optimizer_comes_back(tmp_path: Path) -> None:
    def make():
        net = Net()
        return net, optim.Momentum(net.trainable_params(), 0.1, 0.9)

    net, opt = make()
    grads = tuple(Tensor(np.ones(p.shape, np.float32)) for p in opt.parameters)
    opt(grads)
    path = save_checkpoint(opt, tmp_path / "x")
    other, opt2 = make()
    load_checkpoint(path, opt2)
    assert same_values(net, other)
    opt(grads)
    opt2(grads)
    assert same_values(opt, opt2)
