"""Sharded checkpoints: the same bits under every other layout, and no half ones."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding

import paramesh
from paramesh import Parameter, Tensor, context, load_checkpoint, nn, save_checkpoint
from paramesh.checkpoint.conversion.converter import Conversion, convert
from paramesh.checkpoint.opening import open_source
from paramesh.checkpoint.records import records_of
from paramesh.checkpoint.sharded import sink, writer
from paramesh.checkpoint.sharded.agreement import Agreement
from paramesh.checkpoint.sharded.source import INDEX, ShardedSource
from paramesh.dtype import x64
from paramesh.errors import CheckpointError, ContextError
from paramesh.parallel import Layout, whole
from paramesh.parallel.modes.parallel_optimizer import SplitState
from paramesh.parallel.modes.per_device import per_device, set_per_device
from paramesh.parameter.pool import is_fully_replicated
from paramesh.state import placement
from paramesh.train.cells import TrainOneStepCell, WithLossCell

X = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)


def semi_auto(devices: int) -> None:
    context.reset()
    mode = "semi_auto_parallel" if devices > 1 else "stand_alone"
    context.set_auto_parallel_context(parallel_mode=mode, device_num=devices)


class Weights(nn.Cell):
    """Parameters of several shapes and types; `parts` shards the matrix."""

    def __init__(self, parts: Any, seed: int) -> None:
        super().__init__()
        draw = np.random.default_rng(seed)
        self.matrix = Parameter(Tensor(draw.normal(size=(8, 16)).astype(np.float32)))
        self.wide = Parameter(Tensor(draw.normal(size=(16, 4, 2))))
        self.one = Parameter(Tensor(np.int64(draw.integers(1 << 62))))
        self.none = Parameter(Tensor(np.zeros((0, 3), np.complex128)))
        self.half = Parameter(Tensor(draw.normal(size=8)).astype(paramesh.bfloat16))
        if parts is not None:
            self.matrix.layout = parts
            self.wide.layout = (1, 1, 2) if parts == (1, 2) else (2, 1, 2)

    def construct(self, x: Any) -> Any:
        return x


def placed(net: Any) -> Any:
    """The network with its values where a program would put them."""
    place = placement.current()
    for param in net.get_parameters():
        sharding = place.known_sharding(param)
        if sharding is not None:
            with x64(param.dtype):
                param._store(jax.device_put(param.asnumpy(), sharding))
    return net


def bits(net: Any) -> dict[str, Any]:
    found = net if isinstance(net, dict) else net.parameters_dict()
    return {name: (p.dtype, p.shape, p.asnumpy().tobytes()) for name, p in found.items()}


GRID = Layout((2, 4), ("a", "b"))("b", "a")


@pytest.mark.parametrize(
    ("devices", "parts"),
    [(8, (2, 4)), (8, (8, 1)), (8, (1, 8)), (8, GRID), (4, (2, 2)), (2, (1, 2)), (1, None)],
    ids=str,
)
def test_the_same_bits_under_another_layout(devices: int, parts: Any, tmp_path: Path) -> None:
    semi_auto(8)
    saved = placed(Weights((2, 4), 0))
    assert not is_fully_replicated(saved.matrix._value)
    path = save_checkpoint(saved, tmp_path / "x.sharded", append_dict={"epoch": 3, "note": "é"})
    with ShardedSource(path) as source:
        assert len(source.slices("matrix")) == 8
        assert len(source.slices("wide")) == 4  # each on two devices, and written once
        assert len(source.slices("one")) == 1
    want = bits(saved)
    semi_auto(devices)
    net = Weights(parts, 1)
    assert bits(net)["matrix"] != want["matrix"]
    found = load_checkpoint(path, net)
    assert bits(net) == want
    assert is_fully_replicated(net.matrix._value) == (parts is None)
    assert net.matrix.sliced == (parts is not None)
    assert (int(found.pop("epoch")), found.pop("note")) == (3, "é")
    assert bits(found) == want
    again = save_checkpoint(net, tmp_path / "y", format="sharded")
    assert bits(load_checkpoint(again)) == want


def test_only_the_bytes_that_are_needed_are_read(tmp_path: Path) -> None:
    semi_auto(8)
    net = placed(Weights((2, 4), 0))
    path = save_checkpoint(net, tmp_path / "x.sharded")
    matrix = net.matrix.asnumpy()
    with ShardedSource(path) as source:
        assert source.bytes_read == 0
        box = ((1, 7), (3, 6))  # from four slices
        np.testing.assert_array_equal(source.read_box("matrix", box), matrix[1:7, 3:6])
        assert source.bytes_read == 6 * 3 * 4
        np.testing.assert_array_equal(source.read_flat("matrix", 15, 50), matrix.ravel()[15:50])
        assert source.bytes_read == (6 * 3 + 35) * 4
        inside = source.read_box("matrix", ((0, 2), (4, 8)))
        assert inside.base is not None  # a view of the file
        assert not inside.flags.writeable
        np.testing.assert_array_equal(source.read_rows("matrix", 2, 5), matrix[2:5])
        with pytest.raises(
            IndexError, match=r"'matrix' has shape \[8, 16\]; the box .* is out of range"
        ):
            source.read_box("matrix", ((0, 9), (0, 1)))
        with pytest.raises(IndexError, match="elements 1 to 129 are out of range"):
            source.read_flat("matrix", 1, 129)
        source.forget()
    np.testing.assert_array_equal(inside, matrix[:2, 4:8])
    with pytest.raises(ValueError, match=r"is closed; 'matrix' cannot be read"):
        source.read("matrix")


def test_a_network_with_layouts_reads_slices(tmp_path: Path, monkeypatch: Any) -> None:
    semi_auto(8)
    path = save_checkpoint(placed(Weights((2, 4), 0)), tmp_path / "x.sharded")
    boxes: list[Any] = []
    read = ShardedSource.read_box
    monkeypatch.setattr(
        ShardedSource,
        "read_box",
        lambda self, name, box: (boxes.append((name, box)), read(self, name, box))[1],
    )
    load_checkpoint(path, Weights((4, 2), 1))
    of_matrix = {box for name, box in boxes if name == "matrix"}
    assert of_matrix == {
        ((i, i + 2), (j, j + 8)) for i in range(0, 8, 2) for j in (0, 8)
    }  # one for each device, and no full array


@pytest.mark.parametrize("rank_list", [None, [0, 1, 4, 5, 2, 3, 6, 7]])
def test_loading_makes_a_mesh_for_each_layout(
    rank_list: list[int] | None, tmp_path: Path, monkeypatch: Any
) -> None:
    """Parameters of one layout share its mesh, also where the layout needs a mesh of its own."""
    semi_auto(8)
    values = {f"p{i}": Tensor(np.full((8, 4), i, np.float32)) for i in range(12)}
    path = save_checkpoint(values, tmp_path / "x.sharded")
    net = nn.Cell()
    for i in range(12):
        layout = Layout((2, 4), (f"rows{i % 2}", "columns"), rank_list)
        param = Parameter(Tensor(np.zeros((8, 4), np.float32)), name=f"p{i}")
        param.layout = layout(f"rows{i % 2}", "columns")
        setattr(net, f"p{i}", param)
    made: list[Any] = []
    new = Mesh.__new__

    def counted(cls: Any, *args: Any, **kwargs: Any) -> Mesh:
        made.append(args)
        return new(cls, *args, **kwargs)

    monkeypatch.setattr(Mesh, "__new__", staticmethod(counted))
    load_checkpoint(path, net)
    assert len(made) <= 1 + (0 if rank_list is None else 2)  # the program's, and one per layout
    meshes = set()
    for param in net.get_parameters():
        sharding = param._get().sharding
        assert isinstance(sharding, NamedSharding)
        meshes.add(sharding.mesh)
    assert len(meshes) == (1 if rank_list is None else 2)
    for i, param in enumerate(net.get_parameters()):
        np.testing.assert_array_equal(param.asnumpy(), np.full((8, 4), i, np.float32))


def training(devices: int, **settings: Any) -> Any:
    context.reset()
    context.set_auto_parallel_context(
        parallel_mode="data_parallel", device_num=devices, gradients_mean=True, **settings
    )
    paramesh.set_seed(1)
    net = nn.SequentialCell(nn.Dense(8, 5), nn.Tanh(), nn.Dense(5, 8))
    return TrainOneStepCell(WithLossCell(net, nn.MSELoss()), nn.Adam(net.trainable_params(), 0.01))


def test_divided_optimizer_state(tmp_path: Path) -> None:
    step = training(8, enable_parallel_optimizer=True)
    step(Tensor(X), Tensor(X))
    moments = [
        p
        for p in step.get_parameters()
        if p._slot is not None and isinstance(p._slot.pool, SplitState)
    ]
    assert len(moments) == 8
    pools = {p._slot.pool for p in moments}
    path = save_checkpoint(step, tmp_path / "x.sharded")
    assert all(not pool._taken.arrays for pool in pools)  # no member was put together
    index = json.loads((path / INDEX).read_text())
    slices = index["arrays"][moments[0].name]["slices"]
    assert len(slices) > 1
    assert all("flat" in one for one in slices)
    want = bits(step)
    with open_source(path) as source:
        assert isinstance(source, ShardedSource)
        for param in moments:
            value = param.asnumpy()
            assert source.read(param.name).tobytes() == value.tobytes()
            box = tuple((0, max(1, size // 2)) for size in value.shape)
            part = value[tuple(slice(*pair) for pair in box)]
            np.testing.assert_array_equal(source.read_box(param.name, box), part)
    moments[0].set_data(moments[0] + 1)  # one that is not in the array of all parts now
    assert bits(load_checkpoint(save_checkpoint(step, tmp_path / "y.sharded"))) == bits(step)
    for settings in ({"enable_parallel_optimizer": True}, {}):
        other = training(2, **settings)
        load_checkpoint(path, other)
        assert bits(other) == want


def test_one_value_for_each_device(tmp_path: Path) -> None:
    context.set_auto_parallel_context(parallel_mode="data_parallel", device_num=4)
    param = Parameter(Tensor(np.zeros((2, 3), np.float32)), name="w", layerwise_parallel=True)
    net = nn.Cell()
    net.w = param
    values = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    set_per_device(param, values)
    path = save_checkpoint(net, tmp_path / "x.sharded")
    with ShardedSource(path) as source:
        assert source.entry("w").shape == (4, 2, 3)
    set_per_device(param, values * 2)
    load_checkpoint(path, net)
    np.testing.assert_array_equal(per_device(param).asnumpy(), values)


def one(value: int) -> dict[str, Any]:
    return {"w": Tensor(np.full((4, 2), value, np.float32))}


def test_what_has_no_index_is_no_checkpoint(tmp_path: Path) -> None:
    path = save_checkpoint(one(1), tmp_path / "x", format="sharded")
    (path / INDEX).rename(tmp_path / "index")
    with pytest.raises(
        CheckpointError, match=r"x' has no index\.json, so it is not a complete checkpoint"
    ):
        load_checkpoint(path)
    (tmp_path / "empty.sharded").mkdir()
    with pytest.raises(CheckpointError, match=r"has no index\.json"):
        load_checkpoint(tmp_path / "empty.sharded")
    (tmp_path / "file.sharded").touch()
    with pytest.raises(CheckpointError, match=r"is a file, but a sharded checkpoint is a folder"):
        load_checkpoint(tmp_path / "file.sharded")
    with pytest.raises(FileExistsError, match=r"is a file, but a sharded checkpoint is a folder"):
        save_checkpoint(one(1), tmp_path / "file.sharded")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        save_checkpoint(one(1), tmp_path / "no" / "x.sharded")


def test_a_new_one_takes_the_place_of_the_old_one(tmp_path: Path, monkeypatch: Any) -> None:
    path = save_checkpoint(one(1), tmp_path / "x", format="sharded")
    (path / "notes.txt").write_text("mine")
    old = sorted(p.name for p in path.iterdir())
    for place in ("write_atomically", "_write_part"):

        def fail(*args: Any) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(writer, place, fail)
            with pytest.raises(OSError, match="No space left"):
                save_checkpoint(one(2), path, format="sharded")
            with pytest.raises(OSError, match="No space left"):
                save_checkpoint(one(2), tmp_path / "new.sharded")
        assert sorted(p.name for p in path.iterdir()) == old
        assert not (tmp_path / "new.sharded").exists()
        np.testing.assert_array_equal(load_checkpoint(path)["w"].asnumpy(), 1)
    write = writer.write_atomically

    def fail_late(*args: Any) -> None:
        write(*args)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_atomically", fail_late)
        with pytest.raises(OSError, match="Input/output"):
            save_checkpoint(one(3), path, format="sharded")
    np.testing.assert_array_equal(load_checkpoint(path)["w"].asnumpy(), 3)
    save_checkpoint(one(1), path, format="sharded")
    with open_source(path) as earlier:
        (path / ".part-00000000-00000.safetensors.1-ab.tmp").touch()  # of one that was killed
        (path / "part-00000000-00000.safetensors").touch()
        handle = save_checkpoint(one(2), path, format="sharded", async_save=True)
        assert handle.wait() == path
        np.testing.assert_array_equal(earlier.read("w"), 1)  # open files stay readable
    np.testing.assert_array_equal(load_checkpoint(path)["w"].asnumpy(), 2)
    assert len(list(path.iterdir())) == 3
    assert (path / "notes.txt").read_text() == "mine"


def by_saving(path: Path, i: int) -> None:
    save_checkpoint(one(i), path, format="sharded")


def by_converting(path: Path, i: int) -> None:
    file = path.parent / f"{i}.safetensors"
    save_checkpoint(one(i), file)
    convert(file, path, Conversion(format="sharded", overwrite=True))


@pytest.mark.parametrize("second", [by_saving, by_converting])
@pytest.mark.parametrize("first", [by_saving, by_converting])
@pytest.mark.parametrize("moment", ["write_atomically", "remove_others"])
def test_two_writers_of_one_folder(
    first: Callable[..., None], second: Callable[..., None], moment: str, tmp_path: Path
) -> None:
    """The second one saves when the first one is about to commit, or has just done so."""
    path = tmp_path / "x.sharded"
    by_saving(path, 0)
    with pytest.MonkeyPatch.context() as patch:
        for module in (writer, sink):
            of_module = getattr(module, moment)

            def interrupted(*args: Any, then: Any = of_module) -> None:
                patch.undo()
                second(path, 2)
                if moment == "write_atomically":
                    np.testing.assert_array_equal(load_checkpoint(path)["w"].asnumpy(), 2)
                then(*args)

            patch.setattr(module, moment, interrupted)
        first(path, 1)
    last = 1 if moment == "write_atomically" else 2
    np.testing.assert_array_equal(load_checkpoint(path)["w"].asnumpy(), last)
    assert len(list(path.iterdir())) == 2


def test_values_are_those_at_the_call(tmp_path: Path) -> None:
    step = training(8, enable_parallel_optimizer=True)
    step(Tensor(X), Tensor(X))
    want = bits(step)
    plan = writer.plan_of(records_of(step, None, everywhere=True))
    step(Tensor(X), Tensor(X))
    assert bits(step) != want
    writer.write(Agreement(tmp_path / "x"), plan, False)
    assert bits(load_checkpoint(tmp_path / "x")) == want


def change(**about: Any) -> Any:
    return lambda index: index["arrays"]["w"].update(about)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda index: index.update(format="x"), "does not say that its format is"),
        (lambda index: index.update(version=3), "has version 3; this paramesh reads version 1"),
        (lambda index: index.update(files=["../x"]), r"names an invalid file '\.\./x'"),
        (lambda index: index.update(files=["part-00000000-00000.safetensors"]), "is missing"),
        (lambda index: index.update(arrays=[]), "must give files and arrays"),
        (lambda index: index.update(append_dict={"w": 1}), "append_dict is invalid"),
        (change(shape=[5, 2]), r"'w': its slices do not fill the shape \[5, 2\]"),
        (change(shape=[-4, 2]), "'w': index.json has an invalid description of it"),
        (change(dtype="int32"), r"does not have its slice .* as 'w/0'"),
        (change(dtype="float9"), "'w': index.json has an invalid description of it"),
        (change(slices=[]), "do not fill"),
        (change(slices=[{"file": 1, "name": "w/0", "ranges": [[0, 4], [0, 2]]}]), "no file 1"),
        (change(slices=[{"file": 0, "name": "x", "ranges": [[0, 4], [0, 2]]}]), "as 'x'"),
        (change(slices=7), "has an invalid description of it"),
    ],
)
def test_a_damaged_index_is_refused(damage: Any, message: str, tmp_path: Path) -> None:
    path = save_checkpoint(one(1), tmp_path / "x", format="sharded")
    index = json.loads((path / INDEX).read_text())
    damage(index)
    (path / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert "Nothing was loaded" in str(caught.value)
    (path / INDEX).write_text("{")
    with pytest.raises(CheckpointError, match="is not valid JSON"):
        load_checkpoint(path)


def test_checksums(tmp_path: Path) -> None:
    path = save_checkpoint(one(1), tmp_path / "x", format="sharded", crc_check=True)
    load_checkpoint(path, crc_check=True, format="sharded")
    with pytest.raises(ValueError, match="is a sharded file"):
        load_checkpoint(path, format="ckpt")
    (part,) = path.glob("part-*")
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        load_checkpoint(path, crc_check=True)


def test_conversion_to_a_file_and_back(tmp_path: Path) -> None:
    semi_auto(8)
    net = placed(Weights((2, 4), 0))
    path = save_checkpoint(net, tmp_path / "x.sharded", append_dict={"epoch": 3})
    done = convert(path, tmp_path / "y.safetensors")
    back = convert(done.path, tmp_path / "z", Conversion("sharded", checksums=True))
    with ShardedSource(back.path) as source:
        assert source.verify()
    for made in (done.path, back.path):
        found = load_checkpoint(made)
        assert int(found.pop("epoch")) == 3
        assert bits(found) == bits(net)


SAVER = """
import sys
import numpy as np
from paramesh.checkpoint import save_checkpoint
from paramesh.tensor import Tensor
for i in range(10**9):
    data = {name: Tensor(np.full(50_000, i, np.int32)) for name in "abc"}
    save_checkpoint(data, sys.argv[1], append_dict={"i": i}, format="sharded")
    if i == 0:
        print("saved", flush=True)
"""


def test_a_killed_save_leaves_a_complete_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "x"
    chance = random.Random(0)
    process = subprocess.Popen([sys.executable, "-c", SAVER, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"saved\n"
        for _ in range(20):
            time.sleep(chance.uniform(0.001, 0.03))
            assert_whole(path)  # while it is being written anew
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert_whole(path)
    save_checkpoint(one(1), path, format="sharded")
    assert len(list(path.iterdir())) == 2


def assert_whole(path: Path) -> None:
    found = load_checkpoint(path)
    i = found.pop("i").asnumpy().item()
    assert sorted(found) == ["a", "b", "c"]
    assert all((p.asnumpy() == i).all() for p in found.values())


# Several processes. Started by `paramesh launch`, this file is one of them.


def in_one_process(folder: Path) -> None:
    context.reset()
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel")
    paramesh.set_seed(5)
    net = Weights((2, 2), 0)
    place = placement.current()
    sharding = place.known_sharding(net.matrix)
    value = net.matrix.asnumpy()
    net.matrix._store(
        jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
    )
    assert net.matrix._value is not None
    assert not net.matrix._value.is_fully_addressable
    save_checkpoint(net, folder / "net.sharded", append_dict={"epoch": 3}, crc_check=True)
    with pytest.raises(ContextError, match="'matrix' .* is sharded over .* Use format='sharded'"):
        save_checkpoint(net, folder / "net.safetensors")
    other = Weights((4, 1), 1)
    load_checkpoint(folder / "net.sharded", other)
    np.testing.assert_array_equal(whole(other.matrix), value)
    assert other.matrix._value is not None
    assert other.matrix._value.addressable_data(0).shape == (2, 16)

    step = training(4, enable_parallel_optimizer=True)
    rows = X[jax.process_index() * 8 :][:8]
    step(Tensor(rows), Tensor(rows))
    with pytest.raises(ContextError, match="format='sharded'"):
        save_checkpoint(step, folder / "step.safetensors")
    save_checkpoint(step, folder / "step.sharded")
    again = training(4, enable_parallel_optimizer=True)
    load_checkpoint(folder / "step.sharded", again)
    losses = [float(s(Tensor(rows), Tensor(rows))) for s in (step, again)]
    assert losses[0] == losses[1], losses
    save_checkpoint(step, folder / "a.sharded")
    save_checkpoint(again, folder / "b.sharded")

    own = nn.Cell()
    own.w = Parameter(Tensor(np.zeros(3, np.float32)), layerwise_parallel=True)
    first = 2 * jax.process_index()
    values = np.stack([np.full(3, first + i, np.float32) for i in range(2)])
    set_per_device(own.w, values)
    save_checkpoint(own, folder / "own.sharded")
    set_per_device(own.w, values * 0)
    load_checkpoint(folder / "own.sharded", own)
    np.testing.assert_array_equal(per_device(own.w).asnumpy(), values)

    handle = save_checkpoint(step, folder / "beside.sharded", async_save=True)
    for _ in range(3):  # collectives, while the other thread waits for the other process
        step(Tensor(rows), Tensor(rows))
    assert handle.wait(60) == folder / "beside.sharded"
    assert bits_of_folder(folder / "beside.sharded") == bits_of_folder(folder / "a.sharded")
    if jax.process_index() == 1:
        writer._write_part = fail_to_write
    told = OSError if jax.process_index() == 1 else CheckpointError
    message = "No space left" if jax.process_index() == 1 else "since process 1 could not write"
    with pytest.raises(told, match=message):
        save_checkpoint(other, folder / "net.sharded")
    with pytest.raises(told, match=message):
        save_checkpoint(other, folder / "new.sharded")
    if jax.process_index() == 1:  # Ctrl-C in one process alone
        writer._write_part = interrupted
    told = KeyboardInterrupt if jax.process_index() else CheckpointError
    for beside in (False, True):
        with pytest.raises(told) as caught:
            save_and_wait(other, folder / "new.sharded", beside)
        if jax.process_index() == 0:
            assert "process 1 could not write (process 1: KeyboardInterrupt)" in str(caught.value)


def save_and_wait(net: Any, path: Path, beside: bool) -> None:
    made = save_checkpoint(net, path, async_save=beside)
    if beside:
        made.wait(60)


def bits_of_folder(path: Path) -> dict[str, Any]:
    with ShardedSource(path) as source:
        return {name: source.read(name).tobytes() for name in source.names()}


def interrupted(*args: Any) -> None:
    raise KeyboardInterrupt


def fail_to_write(*args: Any) -> None:
    raise OSError(28, "No space left on device")


def test_two_processes_save_and_one_loads(tmp_path: Path) -> None:
    words = ["-n", 2, "--devices-per-process", 2, __file__, tmp_path]
    program = [sys.executable, "-c", "from paramesh.cli import main; main()", "launch"]
    done = subprocess.run([*program, *map(str, words)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    net = Weights(None, 1)
    found = load_checkpoint(tmp_path / "net.sharded", net, crc_check=True)
    assert int(found["epoch"]) == 3
    assert bits(net) == bits(Weights(None, 0))
    with ShardedSource(tmp_path / "net.sharded") as source:
        writers = [re.sub("part-.{8}-", "", p.name) for p, _ in source.slices("matrix")]
        assert sorted(writers) == [f"0000{i}.safetensors" for i in (0, 0, 1, 1)]
    assert not (tmp_path / "new.sharded").exists()
    one_step = training(4, enable_parallel_optimizer=True)
    load_checkpoint(tmp_path / "step.sharded", one_step)
    assert bits(load_checkpoint(tmp_path / "step.sharded")) == bits(one_step)
    a, b = (load_checkpoint(tmp_path / f"{name}.sharded") for name in "ab")
    assert bits(a) == bits(b)
    np.testing.assert_array_equal(
        load_checkpoint(tmp_path / "own.sharded")["w"].asnumpy()[:, 0], [0, 1, 2, 3]
    )


if __name__ == "__main__":
    in_one_process(Path(sys.argv[1]))
