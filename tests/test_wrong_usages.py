"""What somebody reads who makes a mistake: the messages of `golden/wrong_usages.txt`, read by eye.

Each usage of the file is run, and has to fail with the message below it. After a change of words,
`python tests/test_wrong_usages.py` (with tests/support on the path) writes the messages anew: read
the difference before it is committed.
"""

from __future__ import annotations

import re
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Model, Parameter, Tensor, nn, ops, optim

FILE = Path(__file__).parent / "golden" / "wrong_usages.txt"


class Net(nn.Cell):
    """Two dense layers that do not fit together, in a Cell of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.SequentialCell(nn.Dense(4, 8), nn.Dense(9, 3))

    def construct(self, x: Tensor) -> Tensor:
        return self.encoder(x)


class Forgetful(nn.Cell):
    """Its `construct` has no return."""

    def construct(self, x: Tensor) -> None:
        x.sum()


def names() -> dict[str, Any]:
    """What a usage may speak of."""
    net = nn.SequentialCell(nn.Dense(4, 8), nn.ReLU(), nn.Dense(8, 3))
    opt = optim.Adam(net.trainable_params(), 1e-3)
    return {
        "np": np,
        "ps": paramesh,
        "nn": nn,
        "ops": ops,
        "optim": optim,
        "Tensor": Tensor,
        "Parameter": Parameter,
        "Model": Model,
        "Net": Net,
        "Forgetful": Forgetful,
        "net": net,
        "opt": opt,
        "model": Model(net, nn.CrossEntropyLoss(), opt),
        "w": Parameter(np.ones((64, 3), np.float32), name="w"),
        "x": np.ones((2, 4), np.float32),
        "y": np.zeros(2, np.int32),
    }


def usages() -> list[tuple[str, str]]:
    """(usage, message) of the file."""
    blocks = FILE.read_text(encoding="utf-8").split("\n\n")
    return [(usage, message) for usage, _, message in (b.strip().partition("\n") for b in blocks)]


def message_of(usage: str) -> str:
    """What python says of a usage below the traceback, but for its own proposals."""
    # On a new thread: an exception that is still being handled on this one, as tests of
    # interruptions leave behind in CPython, would be the context of the usage's error.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_message_of, usage).result()


def _message_of(usage: str) -> str:
    try:
        exec(usage, names())
    except Exception as error:
        lines = traceback.format_exception(error)
        text = error.args[0] if isinstance(error, KeyError) else str(error)
        others = ("are left out", "JAX has removed")
        notes = [n for n in getattr(error, "__notes__", []) if not any(o in n for o in others)]
        assert len("".join(lines).splitlines()) <= 30, "".join(lines)
        return "\n".join([f"{type(error).__name__}: {text}", *notes])
    return "no error"


def test_the_file_has_many() -> None:
    assert len(usages()) >= 60


@pytest.mark.parametrize(("usage", "message"), usages(), ids=[u for u, _ in usages()])
def test_message(usage: str, message: str) -> None:
    assert message_of(usage) == message


class TestTracebacks:
    def fails(self) -> ValueError:
        with pytest.raises(ValueError, match="cannot multiply shapes") as failed:
            Net()(np.ones((2, 4), np.float32))
        return failed.value

    def test_the_frames_between_are_left_out(self) -> None:
        error = self.fails()
        text = "".join(traceback.format_exception(error))
        assert "return self.encoder(x)" in text
        assert "_construct" not in text
        assert re.search(r"\d+ frames of paramesh and JAX are left out", text)
        assert len(text.splitlines()) < 25

    def test_all_frames_on_request(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PARAMESH_TRACEBACK", "full")
        text = "".join(traceback.format_exception(self.fails()))
        assert "_construct" in text
        assert "left out" not in text
        assert "In Net.encoder.1 (Dense), which was given x=Float32[2, 8]." in text

    def test_without_compiling(self) -> None:
        paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
        text = "".join(traceback.format_exception(self.fails()))
        assert "In Net.encoder.1 (Dense), which was given x=Float32[2, 8]." in text
        assert "_construct" not in text

    def test_a_cause_with_lines_of_the_user_s_stays(self) -> None:
        class Odd(nn.Cell):
            def construct(self, x: Tensor, *, flag: Any = None) -> Tensor:
                try:
                    return self.other(x)
                except ZeroDivisionError as error:
                    raise ValueError("about: division by zero") from error

            def other(self, x: Tensor) -> Tensor:
                return x * (1 // 0)

        with pytest.raises(ValueError, match="about") as failed:
            Odd()(np.ones(3, np.float32), flag=["a" * 100, None, 1, 2, 3])
        text = "".join(traceback.format_exception(failed.value))
        assert "return x * (1 // 0)" in text
        assert "In Odd, which was given x=Float32[3], flag=[a str, None, 1, 2, …]." in text


if __name__ == "__main__":
    written = "\n\n".join(f"{usage}\n{message_of(usage)}" for usage, _ in usages())
    FILE.write_text(written + "\n", encoding="utf-8")
