"""`paramesh demo`: what it prints and writes, how well it learns, and how it fails."""

from __future__ import annotations

import io
import math
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import paramesh
from environments import without_virtual_devices
from paramesh.cli import main, show
from paramesh.cli.demo import Batches, Report, Settings, counted_recipes, predict, run_demo
from paramesh.cli.digits import DataError, enlarged
from paramesh.cli.lenet import LeNet5
from paramesh.initializer import Constant, HeUniform, Initializer, Normal, One
from paramesh.parameter import Parameter

PROGRAM = [sys.executable, "-W", "error", "-c", "from paramesh.cli import main; main()"]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `paramesh words`."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def write_idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in MNIST's form, made from scikit-learn's digits."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("mnist")
    found: Any = load_digits()
    images = np.rint(enlarged(found.images / 16, 28) * 255)
    for part, here in (("train", slice(0, 320)), ("t10k", slice(320, 420))):
        write_idx(folder / f"{part}-images-idx3-ubyte", images[here])
        write_idx(folder / f"{part}-labels-idx1-ubyte", found.target[here])
    return folder


def quiet(settings: Settings) -> tuple[Report, str]:
    console = Console(file=io.StringIO(), width=80, soft_wrap=True, highlight=False)
    report = run_demo(settings, console)
    assert isinstance(console.file, io.StringIO)
    return report, console.file.getvalue()


@pytest.fixture(scope="module")
def small(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, str, Path]:
    """A run of two epochs: its report, what it printed, and its folder."""
    out = tmp_path_factory.mktemp("out") / "new" / "folder"
    report, printed = quiet(Settings(data, epochs=2, seed=7, out=out))
    return report, printed, out


@pytest.mark.slow  # `make demo` does it, too
@pytest.mark.parametrize(("seed", "epochs"), [(0, 10), (1, None), (2, None)])
def test_learns_the_digits(tmp_path: Path, seed: int, epochs: int | None) -> None:
    report, printed = quiet(Settings(epochs=epochs, seed=seed, out=tmp_path))
    assert report.accuracy >= 0.97
    assert report.restored_accuracy == report.accuracy
    assert report.recipes_run == 0
    assert "1,437 images to learn from, 360 to test with" in printed
    assert printed.count(f"test accuracy: {report.accuracy:.2%}") == 2


def test_what_it_prints(small: tuple[Report, str, Path]) -> None:
    report, printed, out = small
    rows = [line.split() for line in printed.splitlines()]
    assert ["conv1.weight", "(6,", "1,", "5,", "5)", "Float32", "HeUniform(2.24)"] in [
        row[:7] for row in rows
    ]
    assert ["10", "parameters", "241.0", "KiB", "61,706", "61,706"] in rows
    assert "Nothing has been allocated yet: all 10 parameters are recipes" in printed
    assert f"mean loss of the last epoch: {np.mean(report.losses[10:]):.4f}" in printed
    assert len(report.losses) == 20
    assert "recipes run = 0" in printed
    assert f"checkpoint: {out / 'lenet5.safetensors'}\n" in printed
    assert f"picture: {out / 'digits.png'}\n" in printed


def test_what_it_writes(small: tuple[Report, str, Path]) -> None:
    from matplotlib.image import imread

    _, _, out = small
    assert sorted(path.name for path in out.iterdir()) == ["digits.png", "lenet5.safetensors"]
    picture = imread(out / "digits.png")
    assert picture.shape[:2] == (624, 1440)
    assert picture[..., :3].std() > 0.05
    saved = paramesh.load_checkpoint(out / "lenet5.safetensors")
    shapes = {p.name: p.shape for p in LeNet5().get_parameters()}
    assert {name: value.shape for name, value in saved.items()} == shapes


def test_one_seed_gives_one_run(
    small: tuple[Report, str, Path], data: Path, tmp_path: Path
) -> None:
    report, _, out = small
    again, _ = quiet(Settings(data, epochs=2, seed=7, out=tmp_path))
    assert again.losses == report.losses
    files = [path / "lenet5.safetensors" for path in (out, tmp_path)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_over_devices(small: tuple[Report, str, Path], data: Path, tmp_path: Path) -> None:
    from matplotlib.image import imread

    report, printed = quiet(Settings(data, epochs=2, seed=7, out=tmp_path, devices=8))
    np.testing.assert_allclose(report.losses, small[0].losses, rtol=1e-3)
    assert report.recipes_run == 0
    rows = [line.split() for line in printed.splitlines()]
    assert ["fc1.bias", "(120,)", "Float32", "model", "(30,)", "2", "120", "B"] in rows
    assert ["fc2.bias", "(84,)", "Float32", "-", "(84,)", "8", "336", "B"] in rows
    assert ["10", "parameters", "8", "devices", "63.5", "KiB"] in rows
    assert re.search(r"Adam's state takes 70\.\d KiB on each device, of 482\.\d KiB\.", printed)
    picture = imread(tmp_path / "devices.png")
    assert picture.shape[1] == 1430
    assert picture[..., :3].std() > 0.05
    assert paramesh.get_auto_parallel_context("parallel_mode") == "stand_alone"


def test_no_progress(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    words = ["--data", str(data), "--epochs", "1", "--out", str(tmp_path), "--quiet"]
    code, out, err = run(capsys, "demo", *words)
    assert (code, err) == (0, "")
    assert "test accuracy" in out


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ("3", "--devices 3: expected one of 2, 4, 8, 16, 32"),
        ("16", "--devices 16: there are 8 CPU devices; JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force"),
    ],
)
def test_devices_that_are_not_there(
    capsys: pytest.CaptureFixture[str], devices: str, message: str
) -> None:
    code, out, err = run(capsys, "demo", "--devices", devices)
    assert (code, out) == (2, "")
    assert err.startswith(f"paramesh: {message}")


def test_seeds_differ() -> None:
    images = np.arange(10, dtype=np.float32).repeat(32 * 32).reshape(10, 1, 32, 32)
    orders = [
        [y.asnumpy().tolist() for _, y in Batches(images, np.arange(10, dtype=np.int32), seed)]
        for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_recipes_are_counted() -> None:
    net = LeNet5()
    with counted_recipes() as counter:
        predict(net, np.zeros((1, 1, 32, 32), np.float32))
        predict(net, np.zeros((1, 1, 32, 32), np.float32))
    assert counter.runs == 10


def test_allocation_says_what_exists() -> None:
    params = LeNet5().trainable_params()
    params[0].init_data()
    assert show.allocation(params) == "1 of 10 parameters have data: 0.6 KiB are allocated."


def test_table_of_a_parameter_without_recipe() -> None:
    console = Console(file=io.StringIO(), width=80)
    live = Parameter(np.ones((2, 3), np.float16), name="live[x]", requires_grad=False)
    console.print(show.parameter_table([live]))
    assert isinstance(console.file, io.StringIO)
    rows = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["live[x]", "(2,", "3)", "Float16", "-", "6", "no"] in rows
    assert ["1", "parameters", "0.0", "KiB", "6", "0"] in rows


@pytest.mark.parametrize(
    ("init", "text"),
    [
        (One(), "One()"),
        (Constant(2), "Constant(2)"),
        (Normal(1e-5), "Normal(1e-05, 0)"),
        (HeUniform(math.sqrt(5)), "HeUniform(2.24)"),
        (None, "-"),
    ],
)
def test_short_names_of_initializers(init: Initializer | None, text: str) -> None:
    assert show.short(init) == text


def test_grid_shows_the_first_digits_and_then_wrong_ones() -> None:
    labels = np.zeros(100, np.int32)
    predictions = labels.copy()
    predictions[50:70] = 1
    assert show.chosen(predictions, labels) == [*range(32), *range(50, 58)]
    assert show.chosen(predictions[:5], labels[:5]) == [0, 1, 2, 3, 4]


def test_picture_of_one_step_and_of_no_folder(tmp_path: Path) -> None:
    blank, label = np.zeros((1, 1, 32, 32), np.float32), np.zeros(1, np.int32)
    show.draw(tmp_path / "p.png", [2.0], 1, blank, label, label)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="no/p.png: cannot be written: No such file"):
        show.draw(tmp_path / "no" / "p.png", [2.0], 1, blank, label, label)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"paramesh {paramesh.__version__}\n", "")
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "demo" in out
    code, out, _ = run(capsys, "demo", "--help")
    assert code == 0
    for option in ("--data", "--epochs", "--seed", "--out", "--devices"):
        assert option in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo", "--epochs", "0"], "Invalid value for '--epochs'"),
        (["demo", "--epochs", "many"], "Invalid value for '--epochs'"),
        (["demo", "--seed", "-1"], "Invalid value for '--seed'"),
        (["demo", "--speed", "1"], "No such option: --speed"),
        (["dance"], "No such command 'dance'"),
    ],
)
def test_wrong_arguments(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err


def test_wrong_paths(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    assert run(capsys, "demo", "--data", str(tmp_path / "no")) == (
        2,
        "",
        f"paramesh: {tmp_path / 'no'}: no such folder; "
        "--data expects the folder of MNIST's files\n",
    )
    (tmp_path / "file").touch()
    code, out, err = run(capsys, "demo", "--data", str(data), "--out", str(tmp_path / "file"))
    assert (code, out) == (2, "")
    assert err == f"paramesh: --out {tmp_path / 'file'}: cannot be made: File exists\n"


def test_damaged_file(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    for path in data.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:-1])
    code, out, err = run(capsys, "demo", "--data", str(tmp_path), "--out", str(tmp_path / "out"))
    assert (code, out) == (2, "")
    assert err.startswith(f"paramesh: {tmp_path / 'train-images-idx3-ubyte'}: truncated: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("module", "what"), [("sklearn.datasets", "scikit-learn"), ("matplotlib.figure", "matplotlib")]
)
def test_missing_extra(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    module: str,
    what: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = run(capsys, "demo", "--out", str(tmp_path / "out"))
    assert (code, out) == (2, "")
    assert err.startswith("paramesh: the ")
    assert err.endswith(f"{what}, which is not installed: pip install 'paramesh[demo]'\n")
    assert err.count("\n") == 1


def test_faults_of_paramesh_itself_keep_their_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr("paramesh.cli.demo.train", fail)
    with pytest.raises(LookupError, match="a bug"):
        main(["demo", "--out", str(tmp_path)])


def test_interrupt_in_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("paramesh.cli.demo.train", interrupt)
    code, _, err = run(capsys, "demo", "--out", str(tmp_path))
    assert code == 130
    assert err.strip() == "paramesh: interrupted"


def test_interrupt_of_a_real_process(tmp_path: Path) -> None:
    words = ["demo", "--epochs", "500", "--out", str(tmp_path)]
    with subprocess.Popen(
        [*PROGRAM, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stderr is not None
        found = any("epoch" in line for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert found, err
    assert process.returncode == 130
    assert err.endswith("\nparamesh: interrupted\n")
    saved = tmp_path / "interrupted.safetensors"
    assert str(saved) in err
    assert "fc3.weight" in paramesh.load_checkpoint(saved)


def test_help_loads_neither_extras_nor_devices() -> None:
    program = (
        "import sys; from paramesh.cli import app; import jax;"
        " print([m for m in ('matplotlib', 'sklearn') if m in sys.modules]);"
        " jax.config.update('jax_num_cpu_devices', 3)"
    )
    environment = without_virtual_devices()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
