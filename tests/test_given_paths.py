"""A relative path leads where it led when it was given, whatever the current folder is later."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from paramesh import Tensor, context, nn, save_checkpoint
from paramesh import dataset as ds
from paramesh.checkpoint import background
from paramesh.mindrecord import FileWriter
from paramesh.ps.integration.session import settings_now
from paramesh.train import (
    BackupAndRestore,
    Callback,
    CheckpointConfig,
    CheckpointManager,
    Model,
    ModelCheckpoint,
    Summary,
    SummaryCollector,
)

#: What is left to do when the script is in another folder.
Rest = Callable[[], object]
BATCH = Tensor(np.ones((1, 2), np.float32)), Tensor(np.ones((1, 1), np.float32))


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, beside which there is `later`."""
    for name in ("given", "later"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "given")
    return tmp_path / "given"


def move() -> None:
    os.chdir("../later")


def trained(*callbacks: Callback, **settings: Any) -> Rest:
    net = nn.Dense(2, 1)
    model = Model(net, nn.MSELoss(), nn.SGD(net.trainable_params(), 0.1))
    return lambda: model.train(1, [BATCH], list(callbacks), progress=False, **settings)


class _Stops(Callback):
    """The script changes its folder while it is trained, and is interrupted."""

    def on_train_step_end(self, run_context: object) -> None:
        move()
        raise KeyboardInterrupt


def interrupted(**settings: str) -> Rest:
    with pytest.raises(KeyboardInterrupt):
        trained(_Stops(), **settings)()
    os.chdir("../given")
    return lambda: None


def saved_beside(path: str) -> Rest:
    """The thread begins to write when the script is elsewhere."""
    save_checkpoint(nn.Dense(2, 1), "first.safetensors", async_save=True).wait()
    pool, gate = background._writer._pool, threading.Event()
    assert pool is not None
    pool.submit(gate.wait)
    handle = save_checkpoint(nn.Dense(2, 1), path, async_save=True)
    return lambda: (gate.set(), handle.wait())


def recorded() -> Rest:
    writer = FileWriter("a.mindrecord", 1)
    writer.add_schema({"x": {"type": "int32"}})
    writer.write_raw_data([{"x": 1}])
    return writer.commit


WRITERS: dict[str, tuple[Callable[[], Rest], str]] = {
    "folder": (lambda: trained(ModelCheckpoint("n", "made", CheckpointConfig(1))), "made/*.ckpt"),
    "no folder": (lambda: trained(ModelCheckpoint("n")), "n-1_1.ckpt"),
    "manager": (lambda: trained(CheckpointManager("made", every_steps=1)), "made/step-1.*"),
    "backup": (lambda: trained(BackupAndRestore("made", delete_checkpoint=False)), "made/*.ckpt"),
    "summary": (lambda: trained(Summary("made")), "made/events*"),
    "collector": (lambda: trained(SummaryCollector("made")), "made/events*"),
    "interrupt": (interrupted, "paramesh-interrupted.safetensors"),
    "named": (lambda: interrupted(interrupt_checkpoint="b.safetensors"), "b.safetensors"),
    "thread": (lambda: saved_beside("a.safetensors"), "a.safetensors"),
    "sharded": (lambda: saved_beside("a.sharded"), "a.sharded"),
    "mindrecord": (recorded, "a.mindrecord"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_files_are_written_to_the_folder_of_the_moment_in_which_they_were_named(
    name: str, given: Path
) -> None:
    if name in ("summary", "collector"):
        pytest.importorskip("tensorboardX")
    begin, pattern = WRITERS[name]
    rest = begin()
    move()
    rest()
    assert list(given.glob(pattern))
    assert not list((given.parent / "later").iterdir())


def test_files_of_datasets_are_found_after_the_folder_was_changed(given: Path) -> None:
    (given / "a.txt").write_text("one\ntwo\n")
    folder = given / "images" / "cat"
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(b"no image")
    recorded()()
    lines = ds.TextFileDataset("*.txt", shuffle=False)
    images = ds.ImageFolderDataset("images", shuffle=False)
    rows = ds.MindDataset("a.mindrecord", shuffle=False)
    move()
    read = [row["text"].item() for row in lines.create_dict_iterator(output_numpy=True)]
    assert read == ["one", "two"]
    (row,) = images.create_dict_iterator(output_numpy=True)
    assert row["image"].tobytes() == b"no image"
    assert [int(row["x"]) for row in rows.create_dict_iterator(output_numpy=True)] == [1]


def test_settings_keep_what_was_given_and_where_it_leads(given: Path) -> None:
    context.set_ps_context(wal_dir="runs/a")
    context.set_auto_parallel_context(
        strategy_ckpt_config={"save_file": "s.json", "load_file": "l.json"}
    )
    context.set_context(compilation_cache_dir="programs")
    move()
    assert context.get_ps_context("wal_dir") == "runs/a"
    assert context.get_auto_parallel_context("strategy_ckpt_save_file") == "s.json"
    assert settings_now()["wal_dir"] == str(given / "runs/a")
    assert context.place("strategy_ckpt_save_file") == str(given / "s.json")
    assert context.place("strategy_ckpt_load_file") == str(given / "l.json")
    assert jax.config.values["jax_compilation_cache_dir"] == str(given / "programs")
    context.set_ps_context(timeout=5)
    assert context.place("wal_dir") == str(given / "runs/a")
    # The same name from here is another folder.
    before = context.program_key()
    context.set_ps_context(wal_dir="runs/a")
    assert settings_now()["wal_dir"] == str(given.parent / "later" / "runs/a")
    assert context.program_key() != before
    context.reset()
    assert context.place("wal_dir") == context.place("strategy_ckpt_save_file") == ""
    assert settings_now()["wal_dir"] is None
