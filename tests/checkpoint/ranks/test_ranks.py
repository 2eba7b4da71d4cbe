"""Files of ranks: from one strategy to another and back to the same bits; and what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest

import goldens
from paramesh import (
    Parameter,
    Tensor,
    build_searched_strategy,
    context,
    load_checkpoint,
    load_distributed_checkpoint,
    merge_sliced_parameter,
    nn,
    rank_list_for_transform,
    save_checkpoint,
    transform_checkpoint_by_rank,
    transform_checkpoints,
)
from paramesh.checkpoint import LeftOutWarning
from paramesh.checkpoint.ranks.source import RankSource, rank_files
from paramesh.checkpoint.ranks.strategy import read_strategy
from paramesh.errors import CheckpointError, StrategyFileError
from paramesh.parallel import Layout
from rank_cases import cut, device_num, part, save_ranks, strategy_of
from type_checks import wrong

RECORDED = goldens.load("ranks")
WHOLE = {
    name: (1000 * i + np.arange(np.prod(shape))).reshape(shape).astype(np.float32)
    for i, (name, shape) in enumerate(RECORDED["shapes"].items())
}


def bits(path: Path) -> dict[str, Any]:
    return {n: (p.shape, p.dtype, p.asnumpy().tobytes()) for n, p in load_checkpoint(path).items()}


# MindSpore 2.10's own strategy files, and what its transform_checkpoints makes of them.


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with files of ranks, one for each recorded strategy, and the strategy files."""
    root = tmp_path_factory.mktemp("recorded")
    (root / "None" / "rank_0").mkdir(parents=True)
    save_checkpoint(WHOLE, root / "None" / "rank_0" / "net.ckpt")
    for key, strategy in RECORDED["strategies"].items():
        (root / f"{key}.ckpt").write_bytes(bytes.fromhex(strategy["hex"]))
        table = strategy["layouts"]
        for rank in range(device_num(table)):
            (root / key / f"rank_{rank}").mkdir(parents=True)
            mine = {n: np.ascontiguousarray(cut(v, table[n], rank)) for n, v in WHOLE.items()}
            save_checkpoint(mine, root / key / f"rank_{rank}" / "net.ckpt")
    return root


@pytest.mark.parametrize("pair", RECORDED["transforms"])
def test_transforms_as_mindspore_does(recorded: Path, tmp_path: Path, pair: str) -> None:
    assert RECORDED["transforms"][pair] is True  # every file of MindSpore's was what `cut` makes
    old, new = pair.split("->")
    source, target = (None if k == "None" else str(recorded / f"{k}.ckpt") for k in (old, new))
    transform_checkpoints(recorded / old, tmp_path, "new", source, target)
    table = None if new == "None" else RECORDED["strategies"][new]["layouts"]
    count = 1 if table is None else device_num(table)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"rank_{r}" for r in range(count)]
    for rank in range(count):
        (place,) = (tmp_path / f"rank_{rank}").iterdir()
        assert place.name == f"new{rank}.ckpt"
        found = load_checkpoint(place)
        assert list(found) == list(WHOLE)
        for name, value in WHOLE.items():
            want = value if table is None else cut(value, table[name], rank)
            np.testing.assert_array_equal(found[name].asnumpy(), want)
        # The same file from the ranks that are said to be needed, and none of the others.
        ranks = rank_list_for_transform(rank, source, target)
        needed = {r: recorded / old / f"rank_{r}" / "net.ckpt" for r in ranks}
        alone = tmp_path.parent / f"{tmp_path.name}-{rank}.ckpt"
        transform_checkpoint_by_rank(rank, needed, alone, source, target)
        assert alone.read_bytes() == place.read_bytes()


@pytest.mark.parametrize("key", RECORDED["strategies"])
def test_merges_slices(recorded: Path, key: str) -> None:
    table = RECORDED["strategies"][key]["layouts"]
    strategy = build_searched_strategy(str(recorded / f"{key}.ckpt"))
    assert list(strategy) == list(table)
    for name, value in WHOLE.items():
        slices = [
            Parameter(Tensor(np.ascontiguousarray(cut(value, table[name], r))), name=name)
            for r in range(device_num(table))
        ]
        merged = merge_sliced_parameter(slices, strategy)
        assert merged.name == name
        np.testing.assert_array_equal(merged.asnumpy(), value)


def test_mindspore_reads_what_is_transformed_here(recorded: Path, tmp_path: Path) -> None:
    python = os.environ.get("PARAMESH_MINDSPORE_PYTHON")
    if not python:
        pytest.skip("PARAMESH_MINDSPORE_PYTHON names no python that has MindSpore")
    eight, optimizer = (str(recorded / f"{k}.ckpt") for k in ("eight", "optimizer"))
    there, back = tmp_path / "there", tmp_path / "back"
    transform_checkpoints(recorded / "eight", there, "new", eight, optimizer)
    back.mkdir()
    program = f"import mindspore as ms; ms.transform_checkpoints({str(there)!r}, {str(back)!r}, "
    program += f"'old', {optimizer!r}, {eight!r})"
    subprocess.run([python, "-c", program], check=True, timeout=300)
    for rank in range(8):
        theirs = bits(back / f"rank_{rank}" / f"old{rank}.ckpt")
        assert theirs == bits(recorded / "eight" / f"rank_{rank}" / "net.ckpt")


# Any strategies.

KINDS = {"float32": 4, "bfloat16": 2, "int8": 1, "float64": 8, "bool": 1}


@st.composite
def strategies(draw: Any, shapes: dict[str, tuple[int, ...]], count: int) -> dict[str, Any]:
    """A layout for each array, over any matrix of so many devices in any order; None for some."""
    matrix: list[int] = []
    left = count
    while left > 1:
        size = draw(st.sampled_from([n for n in range(2, left + 1) if left % n == 0]))
        matrix.append(size)
        left //= size
    matrix = draw(st.permutations([*matrix, *[1] * (not matrix)]))
    ranks = draw(st.permutations(range(count))) if draw(st.booleans()) else None
    base = Layout(tuple(matrix), tuple(f"d{i}" for i in range(len(matrix))), ranks)
    found: dict[str, Any] = {}
    for name, shape in shapes.items():
        left_over = list(draw(st.permutations(base.alias_name)))
        axes: list[Any] = []
        for size in shape:
            taken: list[str] = []
            while left_over and draw(st.booleans()):
                parts = np.prod([matrix[int(a[1:])] for a in [*taken, left_over[0]]])
                if size % parts:
                    break
                taken.append(left_over.pop(0))
            axes.append(tuple(taken) if len(taken) > 1 else taken[0] if taken else "None")
        found[name] = None if draw(st.integers(0, 9)) == 0 else base(*axes)
    return found


@st.composite
def cases(draw: Any) -> tuple[dict[str, Any], list[tuple[int, dict[str, Any]]]]:
    """Arrays, and strategies for them one after another."""
    sizes = st.sampled_from([1, 2, 4, 6, 8, 12, 24])
    values: dict[str, Any] = {}
    for i in range(draw(st.integers(1, 4))):
        shape = tuple(draw(st.lists(sizes, max_size=3)))
        numbers = np.random.default_rng(i).integers(0, 256, (*shape, 8), np.uint8)
        kind = draw(st.sampled_from(sorted(KINDS)))
        dtype = ml_dtypes.bfloat16 if kind == "bfloat16" else np.dtype(kind)
        if kind == "bool":
            numbers %= 2
        values[f"n{i}.w"] = numbers[..., : KINDS[kind]].copy().view(dtype)[..., 0]
    shapes = {name: v.shape for name, v in values.items()}
    counts = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6, 8, 12]), min_size=2, max_size=3))
    return values, [(count, draw(strategies(shapes, count))) for count in counts]


@hypothesis.settings(max_examples=15)
@hypothesis.given(case=cases(), suffix=st.sampled_from([".ckpt", ".safetensors"]))
def test_any_strategy_to_any_other_and_back(
    tmp_path_factory: pytest.TempPathFactory, case: Any, suffix: str
) -> None:
    values, steps = case
    root = tmp_path_factory.mktemp("ranks")
    files = [
        strategy_of(root / f"{i}.json", values, layouts, count)
        for i, (count, layouts) in enumerate(steps)
    ]
    at = save_ranks(root / "0", values, steps[0][1], steps[0][0], suffix)
    for i, (count, layouts) in enumerate(steps[1:], 1):
        new = root / str(i)
        transform_checkpoints(at, new, "x", files[i - 1], files[i], output_format=suffix[1:])
        for rank in range(count):
            found = load_checkpoint(new / f"rank_{rank}" / f"x{rank}{suffix}")
            assert list(found) == list(values)
            for name, value in values.items():
                mine = part(value, layouts[name], rank)
                assert found[name].shape == mine.shape
                assert found[name].asnumpy().tobytes() == mine.tobytes()
        at = new
    transform_checkpoints(at, root / "whole", "x", files[-1], None)
    merged = load_checkpoint(root / "whole" / "rank_0" / "x0.ckpt")
    assert {n: p.asnumpy().tobytes() for n, p in merged.items()} == {
        n: v.tobytes() for n, v in values.items()
    }


@hypothesis.given(case=cases(), data=st.data())
def test_any_box_is_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, case: Any, data: Any
) -> None:
    values, ((count, layouts), *_) = case
    root = tmp_path_factory.mktemp("ranks")
    strategy = strategy_of(root / "s.json", values, layouts, count)
    folder = save_ranks(root / "0", values, layouts, count, ".safetensors")
    with RankSource(folder, rank_files(folder), read_strategy("s", strategy)) as source:
        for name, value in values.items():
            assert source.read(name).tobytes() == value.tobytes()
            box = tuple(
                tuple(sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))))
                for n in value.shape
            )
            want = value[(*(slice(*ends) for ends in box), ...)]
            assert source.read_box(name, box).tobytes() == want.tobytes()


# Loading into networks.


class Net(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Dense(8, 8)

    def construct(self, x: Any) -> Any:
        return self.fc(x)


LAYOUT = Layout((2, 4), ("a", "b"))("b", "a")


@pytest.fixture
def sharded_net(tmp_path: Path) -> tuple[Net, list[Path], Path]:
    """A network, the files of the eight ranks that it was sharded over, and the strategy file."""
    net = Net()
    values = {name: p.asnumpy() for name, p in net.parameters_dict().items()}
    layouts = {"fc.weight": LAYOUT, "fc.bias": None}
    folder = save_ranks(tmp_path / "run", values, layouts, 8, ".ckpt")
    strategy = strategy_of(tmp_path / "strategy.json", values, layouts, 8)
    return net, list(rank_files(folder).values()), strategy


@pytest.mark.parametrize("predict", [None, "dict", "file"])
def test_a_network_is_loaded_slice_by_slice(sharded_net: Any, predict: str | None) -> None:
    net, files, strategy = sharded_net
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    fresh = Net()
    wanted = {"dict": {"fc.weight": ([8], [0, -1], [1, 8]), "other": LAYOUT}, "file": strategy}
    chosen = None if predict is None else wanted[predict]
    missing = load_distributed_checkpoint(fresh, files, chosen, strategy, strict_load=True)
    assert missing == ([], [])
    for mine, theirs in zip(fresh.get_parameters(), net.get_parameters(), strict=True):
        np.testing.assert_array_equal(mine.asnumpy(), theirs.asnumpy())
    shard = fresh.fc.weight._get().addressable_data(0).shape
    assert shard == {None: (8, 8), "dict": (1, 8), "file": (2, 4)}[predict]


def test_the_strategy_may_come_from_the_settings(sharded_net: Any) -> None:
    net, files, strategy = sharded_net
    with pytest.raises(ValueError, match="train_strategy_filename is needed"):
        load_distributed_checkpoint(Net(), files)
    context.set_auto_parallel_context(strategy_ckpt_load_file=str(strategy))
    fresh = Net()
    load_distributed_checkpoint(fresh, [str(p) for p in files])
    np.testing.assert_array_equal(fresh.fc.weight.asnumpy(), net.fc.weight.asnumpy())


def test_a_failed_load_changes_nothing(sharded_net: Any, tmp_path: Path) -> None:
    _, files, strategy = sharded_net

    class Other(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Dense(8, 4)

    other = Other()
    with pytest.raises(CheckpointError, match="nothing was loaded"):
        load_distributed_checkpoint(other, files, {"fc.weight": LAYOUT}, strategy)
    assert other.fc.weight.has_init
    assert other.fc.weight.layout is None


# Which files are read.


def test_no_more_than_what_is_needed_is_opened(recorded: Path, monkeypatch: Any) -> None:
    folder = recorded / "optimizer"
    strategy = read_strategy("s", recorded / "optimizer.ckpt")
    with RankSource(folder, rank_files(folder), strategy) as source:
        assert source.ranks == list(range(8))  # `emb` is split into eight
    layout = Layout((2, 4), ("dp", "mp"))("mp", "None")
    values = {"w": np.arange(32, dtype=np.int16).reshape(8, 4)}
    for kept in ((0, 1, 2, 3), (4, 5, 6, 7), (0, 5, 2, 7)):
        root = recorded / f"kept-{kept[0]}{kept[1]}"
        save_ranks(root / "all", values, {"w": layout}, 8, ".ckpt")
        s = read_strategy("s", strategy_of(root / "s.json", values, {"w": layout}, 8))
        files = {r: p for r, p in rank_files(root / "all").items() if r in kept}
        with RankSource(root, files, s) as source:
            np.testing.assert_array_equal(source.read("w"), values["w"])
            assert source.ranks == sorted(kept)


def test_the_last_file_that_all_ranks_have(tmp_path: Path) -> None:
    names = {0: ["net-1_9.ckpt", "net-1_10.ckpt", "net-2_5.ckpt"], 1: ["x-1_9.ckpt", "x-1_10.ckpt"]}
    for rank, files in names.items():
        (tmp_path / f"rank_{rank}").mkdir()
        for name in files:
            (tmp_path / f"rank_{rank}" / name).touch()
        (tmp_path / f"rank_{rank}" / f".{files[0]}.1-2.tmp.ckpt").touch()  # half a save
    found = rank_files(tmp_path)
    assert [p.name for p in found.values()] == ["net-1_10.ckpt", "x-1_10.ckpt"]
    for rank in names:
        for name in names[rank]:
            (tmp_path / f"rank_{rank}" / name).unlink()
        for name in ("step9.ckpt", "step10.ckpt"):
            (tmp_path / f"rank_{rank}" / name).touch()
    assert {p.name for p in rank_files(tmp_path).values()} == {"step10.ckpt"}


def test_what_a_strategy_does_not_name(tmp_path: Path) -> None:
    layout = Layout((2,), ("a",))("a")
    values = {"w": np.arange(4.0), "b": np.arange(3.0), "epoch": np.array(7)}
    folder = save_ranks(tmp_path / "run", values, {"w": layout}, 2, ".ckpt")
    strategy = strategy_of(tmp_path / "s.json", {"w": values["w"]}, {"w": layout}, 2)
    transform_checkpoints(folder, tmp_path / "whole", "x", strategy)
    merged = load_checkpoint(tmp_path / "whole/rank_0/x0.ckpt")
    assert {n: p.asnumpy().tolist() for n, p in merged.items()} == {
        "w": [0, 1, 2, 3],
        "b": [0, 1, 2],
        "epoch": 7,
    }
    with pytest.warns(LeftOutWarning, match=r"does not name b of '.*': left out"):
        transform_checkpoints(folder, tmp_path / "same", "x", strategy, strategy)
    assert list(load_checkpoint(tmp_path / "same/rank_0/x0.ckpt")) == ["w", "epoch"]
    save_checkpoint({**values, "w": np.arange(2.0), "b": -values["b"]}, folder / "rank_1/net.ckpt")
    with pytest.raises(StrategyFileError, match=r"'b' is not in .*s.json', so every rank should"):
        transform_checkpoints(folder, tmp_path / "no", "x", strategy)
    assert not (tmp_path / "no").exists()


# Errors.


def fc(rows: int = 4, name: str = "fc.weight", kind: Any = np.float32) -> Parameter:
    return Parameter(Tensor(np.ones((rows, 8), kind)), name=name)


TWO = {"fc.weight": ([2], [0, -1], [4, 8])}


@pytest.mark.parametrize(
    ("given", "strategy", "kind", "message"),
    [
        ((fc(), fc()), TWO, TypeError, "sliced_parameters must be a list, got tuple"),
        ([], TWO, ValueError, "sliced_parameters is empty"),
        ([np.ones(3)], TWO, TypeError, r"sliced_parameters\[0\] must be a Parameter, got ndarray"),
        ([fc(), fc(name="x")], TWO, ValueError, "slice 1 'x'"),
        ([fc(name="x")], TWO, KeyError, "no entry 'x'"),
        ([fc()], "two", TypeError, r"strategy must be \{name: layout\} or None, got str"),
        ([fc()], TWO, ValueError, "has 1 slices, but its strategy is for 2 devices"),
        ([fc(), fc(2)], TWO, ValueError, r"slice 1 'fc.weight' Float32\[2, 8\]"),
        ([fc(), fc(kind=np.float16)], None, ValueError, r"slice 1 'fc.weight' Float16"),
        ([fc(), fc()], {"fc.weight": 3}, ValueError, "Parameter 'fc.weight': a strategy must be"),
        ([fc(), fc()], {"fc.weight": ([2], [0], [4])}, ValueError, "has a layout of 1 axes"),
    ],
)
def test_slices_that_cannot_be_merged(given: Any, strategy: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        merge_sliced_parameter(given, strategy)


def test_without_a_strategy_slices_follow_one_another() -> None:
    merged = merge_sliced_parameter([fc(1), fc(3)])
    assert merged.shape == (4, 8)
    with pytest.raises(ValueError, match="has no axis along which 2 slices"):
        merge_sliced_parameter([Parameter(Tensor(1.0), name="x")] * 2)


def _edit(file: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        place = folder / file
        found = {n: p.asnumpy() for n, p in load_checkpoint(place).items()}
        place.unlink()
        save_checkpoint(change(found), place)

    return edit


@pytest.mark.parametrize(
    ("harm", "kind", "message"),
    [
        (
            lambda at: (at / "rank_1/net.ckpt").unlink(),
            ValueError,
            r"rank_1' has no checkpoint in it",
        ),
        (
            lambda at: ((at / "rank_1/net.ckpt").unlink(), (at / "rank_1").rmdir()),
            ValueError,
            r"The file of rank 1 is needed for slice \[1, 0\] of Layout.*, but it is missing",
        ),
        (
            lambda at: (at / "rank_0").rename(at / "rank_7"),
            ValueError,
            "There is no rank 7: .* is for 2 devices",
        ),
        (
            lambda at: (at / "rank_1/net.ckpt").write_bytes(b"\n\xff\xff"),
            CheckpointError,
            "rank_1/net.ckpt' is not a valid ckpt file",
        ),
        (
            _edit("rank_1/net.ckpt", lambda d: {**d, "more": np.ones(1)}),
            CheckpointError,
            "rank_1/net.ckpt' has 'more', but '.*rank_0/net.ckpt' does not",
        ),
        (
            _edit("rank_1/net.ckpt", lambda d: {**d, "w": d["w"].astype(np.float16)}),
            CheckpointError,
            r"'w' is Float32\[2, 4\] in '.*rank_0.*', but Float16\[2, 4\] in '.*rank_1",
        ),
        (
            lambda at: (at / "rank_0/net.safetensors").touch(),
            ValueError,
            "has .ckpt and .safetensors files",
        ),
        (lambda at: (at / "rank_00").mkdir(), ValueError, "rank_00' has no checkpoint"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, harm: Any, kind: Any, message: str) -> None:
    values = {"w": np.arange(16, dtype=np.float32).reshape(4, 4)}
    layouts = {"w": Layout((2,), ("a",))("a", "None")}
    folder = save_ranks(tmp_path / "run", values, layouts, 2, ".ckpt")
    strategy = strategy_of(tmp_path / "s.json", values, layouts, 2)
    harm(folder)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind, match=message):
        transform_checkpoints(folder, tmp_path / "new", "x", strategy)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_strategy_that_does_not_fit(tmp_path: Path) -> None:
    values = {"w": np.arange(12, dtype=np.float32).reshape(4, 3)}
    layouts = {"w": Layout((2,), ("a",))("a", "None")}
    folder = save_ranks(tmp_path / "run", values, layouts, 2, ".ckpt")
    strategy = strategy_of(tmp_path / "s.json", values, layouts, 2)
    flat = {"w": np.zeros(4)}
    other = strategy_of(tmp_path / "o.json", flat, {"w": Layout((2,), ("a",))("a")}, 2)
    three = {"w": np.zeros((3, 3))}
    odd = strategy_of(tmp_path / "d.json", three, {"w": Layout((3,), ("a",))("a", "None")}, 3)
    (tmp_path / "text").write_text("nothing")
    for src, dst, message in [
        (other, None, "o.json' has a layout of 1 axes"),
        (strategy, other, "o.json' does not fit: Parameter 'w'.* is for arrays of 1 axes"),
        (strategy, odd, "d.json' does not fit: Parameter 'w'.*cannot be split into 3 equal"),
        (tmp_path / "text", None, "text: neither JSON nor MindSpore's protobuf"),
        (tmp_path / "none", None, "none' cannot be read: No such file"),
    ]:
        with pytest.raises(StrategyFileError, match=message):
            transform_checkpoints(folder, tmp_path / "new", "x", src, dst)
        assert not (tmp_path / "new").exists()
        assert issubclass(StrategyFileError, ValueError)  # MindSpore's
    with pytest.raises(StrategyFileError, match="has a layout of 2 axes, but .* one of 1"):
        rank_list_for_transform(0, strategy, other)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda at: rank_list_for_transform(wrong("0")),
            TypeError,
            "a rank must be an int, got '0'",
        ),
        (lambda at: rank_list_for_transform(True), TypeError, "a rank must be an int"),
        (
            lambda at: rank_list_for_transform(0, wrong(3)),
            TypeError,
            "src_strategy_file must be the path",
        ),
        (lambda at: rank_list_for_transform(2, at / "s", at / "s"), ValueError, "no rank 2"),
        (
            lambda at: build_searched_strategy(wrong(3)),
            TypeError,
            "strategy_filename must be a path",
        ),
        (
            lambda at: transform_checkpoint_by_rank(0, wrong([]), "x.ckpt"),
            TypeError,
            "must be {rank: file",
        ),
        (lambda at: transform_checkpoint_by_rank(0, {}, "x"), ValueError, "must end with .ckpt or"),
        (
            lambda at: transform_checkpoint_by_rank(0, {0: at / "no"}, at / "x.ckpt"),
            ValueError,
            "there is no file '.*no' of rank 0",
        ),
        (
            lambda at: transform_checkpoint_by_rank(
                0, {0: at / "run/rank_0/net.ckpt"}, at / "x.ckpt", at / "s"
            ),
            ValueError,
            "The file of rank 1 is needed for 'w', but it is missing",
        ),
        (
            lambda at: transform_checkpoints(at / "no", at, "x"),
            NotADirectoryError,
            "no' is not a folder",
        ),
        (
            lambda at: transform_checkpoints(at / "run", at / "no/new", "x"),
            NotADirectoryError,
            "no' is not a folder",
        ),
        (lambda at: transform_checkpoints(at / "run", at / "run", "x"), ValueError, "another fold"),
        (lambda at: transform_checkpoints(at / "run", at, "a/b"), TypeError, "ckpt_prefix must be"),
        (
            lambda at: transform_checkpoints(at / "run", at, "x", output_format="zip"),
            ValueError,
            "output_format must be 'ckpt' or 'safetensors', got 'zip'",
        ),
        (
            lambda at: load_distributed_checkpoint(
                Net(), [at / "run/rank_0/net.ckpt"], None, at / "s"
            ),
            ValueError,
            "1 files are given, but .* is for 2 devices",
        ),
        (lambda at: load_distributed_checkpoint(wrong(3), []), TypeError, "network must be a Cell"),
        (lambda at: load_distributed_checkpoint(Net(), "x"), TypeError, "must be a list of paths"),
        (
            lambda at: load_distributed_checkpoint(Net(), [], dec_key=b"x"),
            ValueError,
            "paramesh does not decrypt",
        ),
    ],
)
def test_arguments_that_cannot_be(tmp_path: Path, call: Any, kind: Any, message: str) -> None:
    values = {"w": np.arange(16, dtype=np.float32).reshape(4, 4)}
    layouts = {"w": Layout((2,), ("a",))("a", "None")}
    save_ranks(tmp_path / "run", values, layouts, 2, ".ckpt")
    strategy_of(tmp_path / "s", values, layouts, 2)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind, match=message):
        call(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_old_files_of_the_same_names_are_replaced(tmp_path: Path) -> None:
    values = {"w": np.arange(16, dtype=np.float32).reshape(4, 4)}
    layouts = {"w": Layout((2,), ("a",))("a", "None")}
    folder = save_ranks(tmp_path / "run", values, layouts, 2, ".ckpt")
    strategy = strategy_of(tmp_path / "s", values, layouts, 2)
    new = tmp_path / "new"
    (new / ".transform-dead").mkdir(parents=True)  # of one that was killed
    for _ in range(2):
        transform_checkpoints(folder, new, "x", strategy, strategy)
    assert sorted(str(p.relative_to(new)) for p in new.rglob("*")) == [
        "rank_0",
        "rank_0/x0.ckpt",
        "rank_1",
        "rank_1/x1.ckpt",
    ]


KILLED = """
import sys, time
from paramesh import transform_checkpoints
from paramesh.checkpoint.ranks import write as rank_write
write = rank_write._write
def slow(source, entry, boxes, sinks):
    write(source, entry, boxes, sinks)
    print(entry.name, flush=True)
    time.sleep(60)
rank_write._write = slow
transform_checkpoints(*sys.argv[1:3], "x", sys.argv[3], sys.argv[3])
"""


def test_a_killed_transform_leaves_nothing_that_is_taken_for_a_checkpoint(tmp_path: Path) -> None:
    values = {"w": np.arange(16, dtype=np.float32).reshape(4, 4), "v": np.ones(4)}
    layouts = {"w": Layout((2,), ("a",))("a", "None"), "v": None}
    folder = save_ranks(tmp_path / "run", values, layouts, 2, ".ckpt")
    strategy = strategy_of(tmp_path / "s", values, layouts, 2)
    new = tmp_path / "new"
    words = [sys.executable, "-c", KILLED, str(folder), str(new), str(strategy)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "w\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert [p.name[:11] for p in new.iterdir()] == [".transform-"]
    with pytest.raises(ValueError, match="has no folders rank_0"):
        rank_files(new)
    transform_checkpoints(folder, new, "x", strategy, strategy)
    assert sorted(p.name for p in new.iterdir()) == ["rank_0", "rank_1"]
