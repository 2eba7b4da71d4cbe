"""`paramesh merge` and `paramesh reshard`: the same bits in other shards, and what goes wrong."""

from __future__ import annotations

import math
import os
import re
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

from paramesh import load_checkpoint, save_checkpoint
from paramesh.checkpoint.conversion.reshard import Resharding, reshard
from paramesh.checkpoint.opening import open_source
from paramesh.checkpoint.ranks.strategy import RankStrategy
from paramesh.checkpoint.sharded.source import ShardedSource
from paramesh.cli import main
from paramesh.errors import CheckpointError
from paramesh.parallel import Layout
from rank_cases import save_ranks, strategy_of

VALUES = {
    "fc.weight": np.arange(96 * 512, dtype=np.float32).reshape(96, 512),
    "fc.bias": np.arange(96, dtype=np.float32),
    "epoch": np.array(3, np.int64),
}
LAYOUTS = {
    "fc.weight": Layout((2, 4), ("a", "b"))("b", "a"),
    "fc.bias": Layout((2, 4), ("a", "b"))("b"),
}


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `paramesh words`."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def same(path: Path, values: dict[str, Any] = VALUES) -> bool:
    found = load_checkpoint(path)
    return {n: (p.shape, p.asnumpy().tobytes()) for n, p in found.items()} == {
        n: (v.shape, v.tobytes()) for n, v in values.items()
    }


@pytest.fixture
def at(tmp_path: Path) -> Path:
    """A folder with the same values in one file and in files of ranks, and the strategy file."""
    save_checkpoint(VALUES, tmp_path / "net.safetensors")
    save_ranks(tmp_path / "run", VALUES, LAYOUTS, 8, ".ckpt")
    strategy_of(tmp_path / "s.json", {n: VALUES[n] for n in LAYOUTS}, LAYOUTS, 8)
    return tmp_path


def test_ranks_and_folders_become_one_file(capsys: Any, at: Path) -> None:
    words = ["merge", at / "run", at / "a.ckpt", "--strategy", at / "s.json"]
    assert run(capsys, *words) == (
        0,
        f"{at}/run -> {at}/a.ckpt (ckpt): 3 parameters, 192.4 KiB, from 8 files.\n",
        "",
    )
    assert same(at / "a.ckpt")
    files = sorted((at / "run").rglob("*.ckpt"), reverse=True)  # the order says nothing here
    assert run(capsys, "merge", *files, at / "b.ckpt", "--strategy", at / "s.json")[0] == 0
    assert (at / "b.ckpt").read_bytes() == (at / "a.ckpt").read_bytes()
    assert run(capsys, "reshard", at / "net.safetensors", at / "c", "--processes", 3)[0] == 0
    words = ["merge", at / "c", at / "d.safetensors", "--only", "fc", "--checksums"]
    assert run(capsys, *words)[0] == 0
    with open_source(at / "d.safetensors") as source:
        assert source.verify()
        assert source.names() == ["fc.weight", "fc.bias"]


def test_files_without_ranks_are_taken_in_their_order(capsys: Any, at: Path) -> None:
    for rank in range(8):
        (at / "run" / f"rank_{rank}" / "net.ckpt").rename(at / f"{chr(97 + rank)}.ckpt")
    files = [at / f"{letter}.ckpt" for letter in "abcdefgh"]
    assert run(capsys, "merge", *files, at / "x.ckpt", "--strategy", at / "s.json")[0] == 0
    assert same(at / "x.ckpt")


def test_resharding(capsys: Any, at: Path) -> None:
    code, out, err = run(capsys, "reshard", at / "net.safetensors", at / "a", "--processes", 3)
    assert (code, err) == (0, "")
    assert out == (
        f"{at}/net.safetensors -> {at}/a (sharded): 3 parameters, 192.4 KiB, in 5 slices and "
        "3 files of 64.0 KiB to 64.4 KiB each.\n"
    )
    assert same(at / "a")
    words = ["--strategy", at / "s.json", "--processes", 2]
    assert run(capsys, "reshard", at / "a", at / "b", *words)[0] == 0
    assert same(at / "b")
    with ShardedSource(at / "b") as source:
        assert len(source.parts()) == 2
        assert len(source.slices("fc.weight")) == 8
        assert {box for _, box in source.slices("fc.bias")} == {
            ((i, i + 24),) for i in range(0, 96, 24)
        }
    words = ["--devices", 8, "--layout", "fc.w*=4,2", "--from-strategy", at / "s.json"]
    assert run(capsys, "reshard", at / "run", at / "c", *words)[0] == 0
    assert same(at / "c")
    assert run(capsys, "convert", at / "c", at / "d.sharded")[0] == 0
    assert same(at / "d.sharded")
    assert run(capsys, "inspect", at / "c", at / "d.sharded")[0] == 0


@hypothesis.given(data=st.data())
def test_any_sharding_of_any_sharding(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    root = tmp_path_factory.mktemp("cuts")
    shape = tuple(data.draw(st.lists(st.sampled_from([1, 4, 8, 24]), max_size=3)))
    first = np.arange(math.prod(shape), dtype=np.int16).reshape(shape)
    values: dict[str, np.ndarray] = {"a.w": first}
    values["b"] = np.arange(40_000, dtype=np.int32).reshape(5, 8000)  # cut without a layout
    at = save_checkpoint(values, root / "0.safetensors")
    for i in range(1, 4):
        processes = data.draw(st.sampled_from([1, 2, 3, 4, 7]))
        devices = processes * data.draw(st.sampled_from([1, 2]))
        layouts, left = {}, devices
        parts: list[int] = []
        for size in shape:
            parts.append(
                data.draw(st.sampled_from([p for p in (1, 2, 4) if not (size % p or left % p)]))
            )
            left //= parts[-1]
        if shape and devices in (1, 2, 4, 8):
            layouts["a.*"] = tuple(parts)
        with open_source(at) as source:
            done = reshard(source, root / f"{i}", Resharding(processes, devices, None, layouts))
        assert sum(done.part_bytes) == sum(v.nbytes for v in values.values())
        assert (
            max(done.part_bytes) - min(done.part_bytes)
            <= 40_000 * 4 // min(processes, 5) + 2 * 24**3
        )
        at = done.path
        assert same(at, values)


def test_a_strategy_with_ranks_in_another_order(tmp_path: Path) -> None:
    layout = Layout((2, 2), ("a", "b"), [3, 1, 0, 2])("b", "a")
    path = save_checkpoint({"w": np.arange(16).reshape(4, 4)}, tmp_path / "net.safetensors")
    with open_source(path) as source:
        reshard(source, tmp_path / "x", Resharding(4, 4, RankStrategy({"w": layout})))
    with ShardedSource(tmp_path / "x") as source:
        for file, box in source.slices("w"):
            rank = int(file.name.split("-")[2].split(".")[0])
            index = layout.slice_index((4, 4), rank)
            assert box == tuple((part.start, part.stop) for part in index)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["merge", "{at}/none", "{at}/x.ckpt"], "There is no checkpoint '{at}/none'."),
        (["merge", "{at}/run", "{at}/x.ckpt"], "{at}/run: 8 per-rank files need the strategy file"),
        (
            ["merge", "{at}/run", "{at}/x.ckpt", "--strategy", "{at}/no"],
            "Strategy file '{at}/no'",
        ),
        (
            ["merge", "{at}/run", "{at}/x.ckpt", "--strategy", "{net}"],
            "{at}/net.safetensors: neither JSON nor",
        ),
        (
            ["merge", "{net}", "{net}"],
            "'{at}/net.safetensors' is the s",
        ),
        (["merge", "{net}", "{at}/old.ckpt"], "'{at}/old.ckpt' already exists"),
        (["merge", "{net}", "{at}/x"], "'{at}/x' has no suffix of a known format"),
        (
            ["merge", "{net}", "{at}/x.sharded"],
            "{at}/x.sharded: merge writes one file",
        ),
        (
            ["merge", "{net}", "{at}/x.ckpt", "--strategy", "{at}/s.json"],
            "{at}/net.safetensors is a complete checkpoint",
        ),
        (
            ["merge", "{net}", "{at}/x.ckpt", "--only", "no"],
            "{net}: no p",
        ),
        (
            ["merge", "{rank}", "{at}/old.ckpt", "{at}/x.ckpt"],
            "{at}/old.ckpt: has no rank_N in its path",
        ),
        (
            ["merge", "{rank}", "{rank}", "{at}/x.ckpt"],
            "{at}/run/rank_0/net.ckpt and {at}/run/rank_0/net.ckpt are both of rank 0",
        ),
        (
            ["reshard", "{net}", "{at}/x"],
            "give --processes, --devices or --strategy",
        ),
        (
            ["reshard", "{net}", "{at}/run", "--processes", "2"],
            "'{at}/run' is ",
        ),
        (
            ["reshard", "{net}", "{at}/old.ckpt", "--processes", "2"],
            "'{at}/old.ckpt' is ",
        ),
        (
            ["reshard", "{net}", "{at}/no/x", "--processes", "2"],
            "There is no folder",
        ),
        (
            ["reshard", "{net}", "{at}/x", "--devices", "8", "--processes", "3"],
            "8 devices cannot be divided among 3 processes evenly.",
        ),
        (
            [
                "reshard",
                "{net}",
                "{at}/x",
                "--strategy",
                "{at}/s.json",
                "--devices",
                "4",
            ],
            "strategy file '{at}/s.json' is for 8",
        ),
        (
            ["reshard", "{net}", "{at}/x", "--devices", "8", "--layout", "fc=a"],
            "--layout fc=a: expected PATTERN=COUNTS",
        ),
        (
            ["reshard", "{net}", "{at}/x", "--devices", "8", "--layout", "no=2"],
            "No parameter matches the layout's pattern 'no'.",
        ),
        (
            [
                "reshard",
                "{net}",
                "{at}/x",
                "--devices",
                "8",
                "--layout",
                "fc.bias=5",
            ],
            "Parameter 'fc.bias': ",
        ),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    capsys: Any, at: Path, words: list[str], message: str
) -> None:
    names = {"at": at, "net": at / "net.safetensors", "rank": at / "run/rank_0/net.ckpt"}
    (at / "old.ckpt").write_bytes(b"old")
    before = sorted(at.rglob("*"))
    code, out, err = run(capsys, *(word.format(**names) for word in words))
    assert (code, out) == (2, "")
    assert err.startswith("paramesh: " + message.format(**names))
    assert err.count("\n") == 1
    assert sorted(at.rglob("*")) == before


def test_force_replaces(capsys: Any, at: Path) -> None:
    words = ["reshard", at / "net.safetensors", at / "x", "--processes", 2]
    assert run(capsys, *words)[0] == 0
    first = sorted((at / "x").iterdir())
    code, _, err = run(capsys, *words)
    assert (code, err) == (
        2,
        f"paramesh: '{at}/x' already exists, and was left unchanged; --force replaces it\n",
    )
    assert sorted((at / "x").iterdir()) == first
    assert run(capsys, *words, "--force")[0] == 0
    assert same(at / "x")
    assert len(list((at / "x").iterdir())) == 3
    assert set(first).isdisjoint({p for p in (at / "x").iterdir() if p.name != "index.json"})
    code, _, err = run(capsys, "reshard", at / "x", at / "x", "--processes", 4, "--force")
    assert (code, err) == (2, f"paramesh: {at}/x is the source itself: give another folder\n")


def test_a_full_disk_leaves_what_was_there(capsys: Any, at: Path, monkeypatch: Any) -> None:
    words = ["reshard", at / "net.safetensors", at / "x", "--processes", 2]
    assert run(capsys, *words)[0] == 0
    before = {p: p.read_bytes() for p in (at / "x").iterdir()}

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    for target in ("x", "y"):
        words = ["reshard", at / "net.safetensors", at / target, "--processes", 3, "--force"]
        code, _, err = run(capsys, *words)
        assert code == 2
        part = re.escape(f"{at}/{target}/part-")
        assert re.fullmatch(rf"paramesh: {part}.*\.safetensors: No space left on device\n", err)
    assert {p: p.read_bytes() for p in (at / "x").iterdir()} == before
    assert not (at / "y").exists()


KILLED = """
import sys, time
from paramesh.checkpoint.sharded.sink import ShardedSink
from paramesh.cli import main
write = ShardedSink.write_slices
def slow(self, name, read):
    write(self, name, read)
    print(name, flush=True)
    time.sleep(60)
ShardedSink.write_slices = slow
main(sys.argv[1:])
"""


def test_a_killed_one_leaves_no_checkpoint(capsys: Any, at: Path) -> None:
    words = ["reshard", str(at / "net.safetensors"), str(at / "x.sharded"), "--processes", "3"]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *words], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "fc.weight\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (at / "x.sharded").is_dir()
    with pytest.raises(
        CheckpointError, match="has no index.json, so it is not a complete checkpoint"
    ):
        load_checkpoint(at / "x.sharded")
    assert run(capsys, *words, "--force")[0] == 0  # what is left goes with it
    assert same(at / "x.sharded")
    assert len(list((at / "x.sharded").iterdir())) == 4


@pytest.mark.parametrize("command", ["merge", "reshard"])
def test_help_has_examples(capsys: Any, command: str) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"paramesh {command} run.sharded" in out
    for option in ("--strategy", "--only", "--checksums", "--force"):
        assert option in out
