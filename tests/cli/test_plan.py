"""`paramesh plan` on scripts, for the CPU, whose compiler is always there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paramesh import Parameter, Tensor, nn
from paramesh.cli import main
from paramesh.scripts.planning import first_step
from paramesh.train import TrainOneStepCell, WithLossCell

SCRIPT = """
import os
import sys
import numpy as np
import mindspore as ms
from mindspore import Tensor, nn

ms.set_context(mode=ms.GRAPH_MODE, device_target="Ascend")
ms.set_auto_parallel_context(parallel_mode="data_parallel", device_num=8)
net = nn.SequentialCell(nn.Dense(64, 256), nn.ReLU(), nn.Dense(256, 64))
x = Tensor(np.ones((int(sys.argv[1]), 64), np.float32))
print("before:", net(x).shape)
sys.stdout.flush()
os.write(1, b"past sys.stdout\\n")
os.system("echo from a child")
rule = nn.Momentum(net.trainable_params(), 0.1, 0.9)
step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), rule)
for _ in range(3):
    try:
        step(x, x)
    except Exception:
        print("caught")
    print("trained")
"""

#: Gradients by one program, and the update by another.
APART = """
import numpy as np
import mindspore as ms
from mindspore import Tensor, nn

net = nn.Dense(64, 64)
rule = nn.Adam(net.trainable_params(), 1e-3)
gradients = ms.value_and_grad(lambda x: net(x).sum(), None, rule.parameters)
rule(gradients(Tensor(np.ones((8, 64), np.float32)))[1])
"""


def run(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "paramesh", "plan", *words],
        cwd=folder,
        env=environment | {"JAX_PLATFORMS": "cpu", "PARAMESH_TARGETS": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_script_is_planned_and_its_training_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    words = ("train.py", "--target", "cpu:8", "--memory", "1GB", "--html", "plan.html")
    done = run(*words, "--json", "--", "32", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["devices"] == 8
    assert found["memory"]["fits"] is True
    assert [row["name"] for row in found["parameters"]] == [
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    ]
    for said in ("before: (32, 64)", "past sys.stdout", "from a child"):
        assert said in done.stderr
    assert "trained" not in done.stderr
    assert "caught" not in done.stderr
    assert "paramesh plan: device_target='Ascend': this machine has CPU" in done.stderr
    page = (tmp_path / "plan.html").read_text()
    assert "train.py" in page
    assert not re.search(r"/\*(STYLE|SCRIPT|DATA)\*/|https?://(?!www.w3.org/2000/svg)", page)
    data = json.loads(re.search(r'type="application/json">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    weight = next(row for row in data["rows"] if row["name"] == "0.weight")
    assert len(weight["held"]) == 8
    assert len(set(weight["held"])) == weight["parts"]


@pytest.mark.slow
def test_a_step_that_does_not_fit_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    done = run("train.py", "--target", "cpu:2", "--memory", "10KB", "--", "8", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "It does not fit" in done.stdout
    assert "what would make it fit" in done.stdout


@pytest.mark.slow
def test_an_update_alone_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "apart.py").write_text(APART)
    done = run("apart.py", "--target", "cpu:2", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "Adam"
    assert "the first compiled call that trains is that of Adam alone" in done.stderr


@pytest.mark.slow
def test_a_script_without_a_step(tmp_path: Path) -> None:
    (tmp_path / "none.py").write_text("print('nothing')")
    done = run("none.py", "--target", "cpu:1", folder=tmp_path)
    assert done.returncode == 2
    assert "none.py: ended without a compiled training step" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train.py"], "give a script and its devices"),
        (["--calibrate", "train.py"], "--calibrate stands alone"),
        (["train.py", "--target", "h100"], "a target is a kind and a shape"),
        (
            ["train.py", "--target", "cpu:1", "--memory", "much"],
            "--memory must be bytes",
        ),
        (["no_such.py", "--target", "cpu:1"], "no_such.py: no such script"),
        (["train.py", "--target", "cpu:1", "--html", "nowhere/a.html"], "there is no folder"),
        (["train.py", "--target", "cpu:1", "--html", "."], "is a folder"),
    ],
)
def test_mistakes(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *words])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_a_script_that_ends_before_a_step_is_said_to_leave_no_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paramesh.cli.plan._step", lambda asked: 3)
    (tmp_path / "usage.py").write_text("")
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(tmp_path / "usage.py"), "--target", "cpu:1"])
    assert ended.value.code == 3
    assert "usage.py: ended with exit code 3 before its first" in capsys.readouterr().err


def test_output_in_ascii_has_what_stands_for_our_own_characters() -> None:
    text = "… and 3 more, 5.0 µs, 2 × 3, gewicht_ä"
    encoded = text.encode("ascii", errors="paramesh.printable")
    assert encoded == b"... and 3 more, 5.0 us, 2 x 3, gewicht_\\xe4"


def _training() -> tuple[Callable[[], object], Parameter]:
    net = nn.Dense(4, 4)
    step = TrainOneStepCell(WithLossCell(net, nn.MSELoss()), nn.SGD(net.trainable_params(), 0.1))
    x = Tensor(np.ones((2, 4), np.float32))
    return lambda: step(x, x), net.weight


def test_a_script_that_catches_everything_trains_nothing() -> None:
    train, weight = _training()
    before = weight.asnumpy()
    caught: list[str] = []

    def script() -> None:
        for _ in range(3):
            try:
                train()
            except BaseException as error:
                caught.append(type(error).__name__)

    found = first_step(script)
    assert not isinstance(found, int)
    assert found[0].__name__ == "TrainOneStepCell"
    assert len(caught) == 3
    np.testing.assert_array_equal(weight.asnumpy(), before)


def test_the_step_of_a_thread_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    train, _ = _training()

    def script() -> None:
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()

    assert not isinstance(first_step(script), int)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("given", "code", "says"), [(None, 0, ""), (3, 3, ""), ("why", 1, "why\n")]
)
def test_exit_codes_of_a_script(
    given: object, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert first_step(lambda: sys.exit(given)) == code  # type: ignore[arg-type]
    assert capsys.readouterr().err == says
