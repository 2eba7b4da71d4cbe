"""`paramesh run`: a script that knows nothing of paramesh, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from environments import without_virtual_devices
from paramesh.cli import main
from paramesh.scripts import running

RUN = [sys.executable, "-W", "error", "-m", "paramesh", "run"]

NETWORK = """
from mindspore import nn, ops
from mindspore.common.initializer import Normal
class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.fc = nn.Dense(3, 2, weight_init=Normal(0.02))
    def construct(self, x):
        return ops.relu(self.fc(x))
"""

SCRIPT = """
import os, pickle, sys
import numpy as np
import mindspore as ms
import mindspore.nn as nn
import mindspore.common.initializer as init
import mindspore.common.lazy_inline as lazy_inline
from mindspore import *
from mindspore import context
from mindspore.ops import operations as P
from mindspore.train.callback import LossMonitor
from network import Net

class Kept:
    pass

if __name__ == "__main__":
    context.set_context(mode=context.GRAPH_MODE, device_target="Ascend")
    context.set_context(device_target="Ascend")
    print(context.get_context("device_target"), Net()(Tensor(np.ones((4, 3)), ms.float32)).shape)
    print(sys.argv[1:], __name__, os.path.isabs(__file__), sys.path[0] == os.path.dirname(__file__))
    print(type(pickle.loads(pickle.dumps(Kept()))) is Kept, ms.__version__)
    print(init("ones", [2]), ms.nn is nn, P.ReLU is ms.ops.ReLU, LossMonitor is ms.LossMonitor)
    print(hasattr(ms, "rewrite"), ms.common.initializer.Normal is init.Normal)
    assert lazy_inline(len) is lazy_inline.lazy_inline(len) is len
    sys.exit(int(sys.argv[1]))
"""

FAILING = """
import mindspore
def tried(text):
    try:
        exec(text)
    except ImportError as error:
        print(type(error).__mro__[1].__name__, "|", error)
    except AttributeError as error:
        print(type(error).__name__, "|", error)

tried("import mindspore.rewrite as e")
tried("from mindspore import rewrite")
tried("from mindspore.nn import Linear")
tried("from mindspore import multiprocessing")
tried("from mindspore.common.initializer import Normla")
tried("mindspore.nn.Denes")

from mindspore.rewrite import api as optim
from mindspore.nn import AdaSumByGradWrapCell as Absent
import contextlib
with contextlib.suppress(ImportError):
    from mindspore.nn import AdaSumByGradWrapCell as guarded
import numpy as np
there = hasattr(mindspore.nn, "AdaSumByGradWrapCell")
print(isinstance(3, Absent), there, "guarded" in globals(), repr(Absent))
print(np.zeros(1, np.int).dtype, np.float_, np.Inf, np.in1d([[1], [3]], 3), hasattr(np, "no"))
print({"accuracy": np.float64(0.75)}, [np.int32(3), np.True_])
tried("class Mine(Absent): pass")
tried("optim.Adam")
Absent(None, 0.1)
"""


ONLY_PYTHON = """
import logging
import mindspore
from mindspore import Tensor, nn

class Printing(nn.Cell):
    def construct(self, x):
        print("is", x, [x], {"b": x, 1: None}, sep="|")
        if x.sum() > 0:
            print("above 0:", x)
        return x * 2

class Keeping(nn.Cell):
    def __init__(self):
        super().__init__()
        self.calls, self.last, self.rows = 0, None, ["first"]
    def construct(self, x):
        self.calls += 1
        self.last = x + 1
        self.rows.append(self.last)
        return self.last

class Logging(nn.Cell):
    def construct(self, x):
        logging.getLogger("of a script").warning("x %s", x)
        return x

class Telling(nn.Cell):
    def construct(self, x):
        print(f"told {x}")
        return x

printing, keeping = Printing(), Keeping()
for i in range(2):
    printing(Tensor(float(i)))
    keeping(Tensor(float(i)))
print(keeping.calls, keeping.last, *keeping.rows)
Telling()(Tensor(3.0))
Logging()(Tensor(4.0))
"""


def test_cells_do_what_python_does(tmp_path: Path) -> None:
    (tmp_path / "only.py").write_text(ONLY_PYTHON)
    command = [word.replace("error", "default") for word in RUN]
    done = run(*command, "only.py", at=tmp_path)
    shown = "Tensor(shape=[], dtype=Float32, value= {0})"
    assert done.stdout.splitlines() == [
        f"is|0.0|[{shown}]|{{'b': {shown}, 1: None}}".replace("{0}", "0"),
        f"is|1.0|[{shown}]|{{'b': {shown}, 1: None}}".replace("{0}", "1"),
        "above 0: 1.0",
        "2 2.0 first 1.0 2.0",
        "told 3.0",
    ], done.stderr
    assert "x 4.0" in done.stderr
    assert "traced float32" not in done.stderr
    assert "'Printing' cannot be compiled" not in done.stderr
    for name in ("Keeping", "Telling", "Logging"):
        assert f"'{name}' cannot be compiled, and runs operator by operator" in done.stderr


READING = """
import mindspore
from mindspore import Tensor, nn, ops

net = nn.Dense(2, 1, weight_init="ones", has_bias=False)

def forward(x):
    loss = ops.square(net(x)).sum()
    print("loss", loss.asnumpy())
    return loss * (2 if loss > 5 else 1)

grad = mindspore.value_and_grad(forward, None, net.trainable_params())
value, (by_weight,) = grad(Tensor([[1.0, 2.0]], mindspore.float32))
print(value, by_weight)
"""


def run(*words: str, at: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, env=without_virtual_devices() | variables, cwd=at, capture_output=True, text=True
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "network.py").write_text(NETWORK)
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "failing.py").write_text(FAILING)
    installed = tmp_path / "installed" / "mindspore"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("raise RuntimeError('the real one')")
    return tmp_path


def test_a_script_runs_as_python_runs_it(folder: Path) -> None:
    elsewhere = folder / "installed"
    done = run(*RUN, str(folder / "train.py"), "5", "--lr=1", at=elsewhere)
    assert done.returncode == 5, done.stderr
    assert done.stdout.splitlines() == [
        "CPU (4, 2)",
        "['5', '--lr=1'] __main__ True True",
        "True 2.10.0",
        "[1. 1.] True True True",
        "False True",
    ]
    told = "paramesh run: device_target='Ascend': this machine has CPU, so the script runs on that."
    assert [line for line in done.stderr.splitlines() if "device_target" in line] == [told]


def test_a_script_that_watches_its_end_sees_a_good_one(tmp_path: Path) -> None:
    (tmp_path / "watched.py").write_text(
        "import atexit\nfrom paramesh.ps.processes.exit_status import ExitStatus\n"
        "end = ExitStatus()\natexit.register(lambda: print('end:', end.error()))\n"
    )
    done = run(*RUN, "watched.py", at=tmp_path)
    assert (done.returncode, done.stdout) == (0, "end: None\n"), done.stderr


def test_paramesh_wins_over_an_installed_mindspore_and_strict_refuses_ascend(folder: Path) -> None:
    done = run(
        *RUN, "--strict", "-m", "train", "0", at=folder, PYTHONPATH=str(folder / "installed")
    )
    assert done.returncode == 1
    assert "MindSpore is installed here too, but `import mindspore` gives paramesh" in done.stderr
    assert "device_target='Ascend', but JAX runs on CPU here, and --strict rejects" in done.stderr
    assert done.stdout == ""


def test_what_is_missing_is_explained_at_the_users_line(folder: Path) -> None:
    done = run(*RUN, "failing.py", at=folder)
    assert done.returncode == 1
    said = done.stdout.splitlines()
    assert [line.partition(" |")[0] for line in said[:6]] == ["ModuleNotFoundError"] * 5 + [
        "AttributeError"
    ]
    for line in said[:2]:
        assert "paramesh does not have mindspore.rewrite. MindSpore 2.10 has it." in line
    assert said[2].endswith("Use mindspore.nn.Dense.")
    assert said[3].endswith("Use python's own multiprocessing module.")
    assert ".Normla. Did you mean Normal" in said[4]
    assert said[5].endswith("module 'mindspore.nn' has no attribute 'Denes'. Did you mean Dense?")
    # What may not be used stays an object until it is.
    assert said[6:8] == [
        "False False False <mindspore.nn.AdaSumByGradWrapCell, which paramesh does not have>",
        "int64 <class 'numpy.float64'> inf [False  True] False",
    ]
    assert said[8] == "{'accuracy': 0.75} [3, True]"
    assert "paramesh does not have mindspore.nn.AdaSumByGradWrapCell." in said[9]
    assert "paramesh does not have mindspore.rewrite.api.Adam." in said[10]
    deferred, trace = done.stderr.split("Traceback (most recent call last):\n")
    assert [line.partition(" MindSpore 2.10")[0] for line in deferred.splitlines()] == [
        "paramesh run: paramesh does not have mindspore.rewrite.",
        "paramesh run: paramesh does not have mindspore.nn.AdaSumByGradWrapCell.",
        *(
            f"paramesh run: numpy.{name}: NumPy {np.__version__} does not have it any more; the "
            f"script gets what it was: {was}."
            for name, was in (
                ("int", "int"),
                ("float_", "float64"),
                ("Inf", "inf"),
                ("in1d", "_in1d"),
            )
        ),
    ]
    assert "The script runs on, and using it is an error." in deferred
    lines = trace.splitlines()
    assert lines[:2] == [
        f'  File "{folder / "failing.py"}", line 30, in <module>',
        "    Absent(None, 0.1)",
    ]
    assert lines[-1].startswith("paramesh.scripts.absent.NotOffered: paramesh does not have")
    assert len(lines) == 3 or "^" in lines[2]
    refused = run(*RUN, "--strict", "failing.py", at=folder)
    assert refused.returncode == 1
    assert 'failing.py", line 18, in <module>' in refused.stderr
    assert "NotOffered: paramesh does not have mindspore.rewrite." in refused.stderr


@pytest.mark.slow
def test_it_runs_in_the_processes_of_launch(folder: Path) -> None:
    words = [sys.executable, "-m", "paramesh", "launch", "-n", "1", "-m", "paramesh", "run"]
    done = run(*words, "train.py", "0", at=folder)
    assert done.returncode == 0, done.stderr
    assert "[rank 0] CPU (4, 2)" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("error", "code"), [(ValueError("no good"), 1), (KeyboardInterrupt(), 130)]
)
def test_an_exception_is_shown_from_the_program_on(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def program() -> None:
        raise error

    assert running.run(program) == code
    shown = capsys.readouterr().err
    assert type(error).__name__ in shown
    assert "running.py" not in shown
    assert "in program" in shown


@pytest.mark.slow
def test_a_package_without_a_main_module(folder: Path) -> None:
    done = run(*RUN, "-m", "email", at=folder)
    assert done.returncode == 2
    assert done.stderr == "paramesh: email: No module named 'email.__main__' that can be run\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.py"], "nothing.py: no such script; for a module, give -m"),
        (["."], ".: no such script (for a folder, --check reads it)"),
        (["--json", "train.py"], "--json goes with --check"),
        (["--check", "train.py", "--epochs"], "--check takes one PATH and --json"),
        (["--check", "nothing.py"], "nothing.py: no such file or folder"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = os.getcwd()
    os.chdir(folder)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["run", *words])
    finally:
        os.chdir(before)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"paramesh: {message}")
    assert said.count("\n") == 1


def test_a_step_may_read_values(tmp_path: Path) -> None:
    (tmp_path / "reading.py").write_text(READING)
    command = [word.replace("error", "default") for word in RUN]
    done = run(*command, "reading.py", at=tmp_path)
    assert done.stdout.splitlines() == ["loss 9.0", "18.0 [[12. 24.]]"], done.stderr
    assert "'grad_of_forward' cannot be compiled, and runs operator by operator" in done.stderr
    refused = run(*RUN, "--strict", "reading.py", at=tmp_path)
    assert refused.returncode == 1
    assert 'reading.py", line 9, in forward' in refused.stderr
