"""Saving beside training: the values at the call, files in order, and no error that nobody sees."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from paramesh import nn, optim
from paramesh.checkpoint import SaveHandle, background, load_checkpoint, save, save_checkpoint
from paramesh.checkpoint.save import write
from paramesh.errors import CheckpointError
from paramesh.tensor import Tensor


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    background.wait_until_done()


class Gate:
    """Holds the writing thread until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.threads: list[str] = []
        monkeypatch.setattr(save, "write", self)

    def __call__(self, *args) -> None:
        self.threads.append(threading.current_thread().name)
        assert self.opened.wait(60)
        write(*args)


def value(path: Path, name: str) -> list[float]:
    return load_checkpoint(path)[name].asnumpy().tolist()


def test_what_is_saved_are_the_values_at_the_call(tmp_path: Path, monkeypatch) -> None:
    gate = Gate(monkeypatch)
    net = nn.Dense(2, 1, has_bias=False)
    opt = optim.Momentum(net.trainable_params(), 0.1, 0.9)
    step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), opt)
    x, y = Tensor(np.ones((4, 2), np.float32)), Tensor(np.ones((4, 1), np.float32))
    step(x, y)
    loose = np.ones(3, np.float32)
    before = {name: p.asnumpy().copy() for name, p in step.parameters_dict().items()}
    handle = save_checkpoint(step, tmp_path / "x", async_save=True, append_dict={"n": 1})
    assert isinstance(handle, SaveHandle)
    assert not handle.done()
    assert not (tmp_path / "x.safetensors").exists()
    with pytest.raises(TimeoutError):
        handle.wait(0.01)
    for _ in range(3):  # donates whatever it may
        step(x, y)
    assert not np.array_equal(net.weight.asnumpy(), before["weight"])
    gate.opened.set()
    assert handle.wait() == tmp_path / "x.safetensors"
    assert handle.done()
    assert handle.exception() is None
    assert "saved" in repr(handle)
    found = load_checkpoint(handle.path)
    assert found.pop("n").asnumpy().item() == 1
    assert {n: v.asnumpy().tolist() for n, v in found.items()} == {
        n: v.tolist() for n, v in before.items()
    }
    assert gate.threads == ["paramesh-save_0"]
    gate.opened.clear()
    second = save_checkpoint({"a": loose}, tmp_path / "x", async_save=True)
    loose[:] = 7
    gate.opened.set()
    assert value(second.wait(), "a") == [1, 1, 1]


def test_files_appear_in_order(tmp_path: Path, monkeypatch) -> None:
    gate = Gate(monkeypatch)
    for i in range(5):
        save_checkpoint({"a": Tensor([float(i)])}, tmp_path / "x", async_save=i % 3 != 2)
        gate.opened.set()
    background.wait_until_done()
    assert value(tmp_path / "x.safetensors", "a") == [4.0]


def failing(*_) -> None:
    raise OSError(28, "No space left on device")


def test_an_error_surfaces_at_the_next_save(tmp_path: Path, monkeypatch) -> None:
    good = save_checkpoint({"a": Tensor([1.0])}, tmp_path / "x")
    for again in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", failing)
            handle = save_checkpoint({"a": Tensor([2.0])}, tmp_path / "x", async_save=True)
            with pytest.raises(OSError, match="No space left") as caught:
                save_checkpoint({"a": Tensor([3.0])}, tmp_path / "x", async_save=again)
        assert "earlier save of" in caught.value.__notes__[0]
        assert "failed" in repr(handle)
        assert value(good, "a") == [1.0]
        save_checkpoint({"a": Tensor([1.0])}, tmp_path / "x")  # reported once
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", failing)
        handle = save_checkpoint({"a": Tensor([2.0])}, tmp_path / "x", async_save=True)
        assert isinstance(handle.exception(), OSError)
    save_checkpoint({"a": Tensor([4.0])}, tmp_path / "x")  # the handle has reported it
    assert value(good, "a") == [4.0]


def test_what_cannot_be_saved_is_an_error_at_the_call(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not read elements of type Complex64"):
        save_checkpoint({"a": Tensor(np.ones(1, "c8"))}, tmp_path / "x.ckpt", async_save=True)
    with pytest.raises(ValueError, match="async_save must be a bool, got 'foo'"):
        save_checkpoint({}, tmp_path / "x", async_save="foo")


PROGRAM = """
import sys
import numpy as np
from paramesh.checkpoint import save_checkpoint
from paramesh.tensor import Tensor
if sys.argv[2] == "fail":
    def failing(*_):
        raise OSError(28, "No space left on device")
    import os
    os.fsync = failing
save_checkpoint({"a": Tensor(np.arange(1 << 20))}, sys.argv[1], async_save=True)
"""


@pytest.mark.parametrize("how", ["work", "fail"])
def test_the_end_of_the_program_waits_and_tells(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), how], capture_output=True, text=True, check=True
    )
    if how == "work":
        assert done.stderr == ""
        assert load_checkpoint(path)["a"].asnumpy()[-1] == (1 << 20) - 1
    else:
        assert f"'{path}' could not be saved in the background" in done.stderr
        assert "No space left on device" in done.stderr
        with pytest.raises((CheckpointError, FileNotFoundError), match="There is no checkpoint"):
            load_checkpoint(path)
