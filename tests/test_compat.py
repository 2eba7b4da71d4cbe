"""MindSpore's import paths, and `import mindspore` giving paramesh."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest

import paramesh
from environments import without_virtual_devices
from markdown_blocks import blocks
from paramesh import compat
from type_checks import present, untyped, wrong

GUIDE = Path(__file__).parent.parent / "docs" / "how-to" / "parameters.md"


def public(module: types.ModuleType) -> list[str]:
    """The names that a module offers; the modules that it uses itself are not among them."""
    listed = getattr(module, "__all__", None)
    return list(listed or ()) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    ]


def run(program: str, directory: Path, expect: int = 0) -> str:
    """What a fresh interpreter prints for `program`, which has to end with the given exit code."""
    environment = without_virtual_devices()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done.stdout.strip() if expect == 0 else done.stderr.strip()


@pytest.mark.parametrize("path", compat.PATHS)
def test_a_path_gives_what_its_home_gives(path: str) -> None:
    module = importlib.import_module(f"paramesh.{path}")
    # Where paramesh has a file of its own at MindSpore's path, that file has its own names alone.
    own = (
        public(module)
        if module.__name__ == f"paramesh.{path}" and present(module.__spec__).origin
        else []
    )
    given: set[str] = set()
    for home in map(importlib.import_module, compat.PATHS[path]):
        for name in own or public(home):
            if own and not hasattr(home, name):
                continue
            if f"{path}.{name}" in compat.PATHS:  # a module, once it has been imported
                continue
            # Of two homes with one name, the first gives it.
            if name not in given:
                assert getattr(module, name) is getattr(home, name), name
                given.add(name)
    assert given


def test_a_path_of_one_module_is_that_module() -> None:
    for path in ("common.dtype", "common.initializer", "common.tensor"):
        (home,) = compat.PATHS[path]
        assert importlib.import_module(f"paramesh.{path}") is importlib.import_module(home)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (
            "common.initializer",
            "initializer Normal One Zero XavierUniform HeNormal TruncatedNormal",
        ),
        ("common.parameter", "Parameter ParameterTuple"),
        ("common", "Tensor Parameter ParameterTuple set_seed float32"),
        ("common.api", "jit"),
        ("nn.optim", "Momentum Adam SGD Optimizer"),
        ("nn.learning_rate_schedule", "LearningRateSchedule CosineDecayLR WarmUpLR"),
        ("nn.wrap.cell_wrapper", "WithLossCell TrainOneStepCell"),
        ("nn.metrics", "Accuracy Loss"),
        ("train.callback", "Callback LossMonitor TimeMonitor ModelCheckpoint CheckpointConfig"),
        ("train.model", "Model"),
        ("train.serialization", "save_checkpoint load_checkpoint load_param_into_net"),
        ("train.loss_scale_manager", "FixedLossScaleManager DynamicLossScaleManager"),
    ],
)
def test_what_scripts_import_from_a_path(path: str, names: str) -> None:
    module = importlib.import_module(f"paramesh.{path}")
    missing = [name for name in names.split() if not hasattr(module, name)]
    assert missing == []


@pytest.mark.parametrize("path", ["nothing", "common.nothing", "train.nothing"])
def test_an_unknown_path_is_not_found(path: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=rf"No module named 'paramesh\.{path}'"):
        importlib.import_module(f"paramesh.{path}")


def test_an_unknown_name_of_a_path_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from paramesh.common import nothing")


def test_installing_twice_adds_one_finder() -> None:
    compat.install()
    assert sum(type(f) is compat._Finder and f.top == "paramesh" for f in sys.meta_path) == 1


def test_as_mindspore_runs_a_script(tmp_path: Path) -> None:
    printed = run(
        """
        import paramesh
        paramesh.compat.as_mindspore()

        import numpy as np
        import mindspore as ms
        from mindspore import nn, Tensor
        from mindspore.common.initializer import Normal
        import mindspore.ops as ops
        from mindspore.train.callback import LossMonitor

        class Net(nn.Cell):
            def __init__(self):
                super().__init__()
                self.fc = nn.Dense(3, 2, weight_init=Normal(0.02))

            def construct(self, x):
                return ops.relu(self.fc(x))

        net = Net()
        print(net(Tensor(np.ones((4, 3)), ms.float32)).shape)
        print(ms.Parameter(1.0, name="p"))
        print(ms is paramesh, Normal is paramesh.initializer.Normal, isinstance(net, paramesh.Cell))
        print(LossMonitor is paramesh.train.LossMonitor)
        """,
        tmp_path,
    )
    assert printed.splitlines() == [
        "(4, 2)",
        "Parameter (name=p, shape=(), dtype=Float32, requires_grad=True)",
        "True True True",
        "True",
    ]


def test_as_mindspore_makes_no_second_copy_of_a_module(tmp_path: Path) -> None:
    printed = run(
        """
        import paramesh, sys
        paramesh.compat.as_mindspore()
        import mindspore.context, mindspore.ops, mindspore.nn
        pairs = [(sys.modules[f"mindspore.{n}"], sys.modules[f"paramesh.{n}"])
                 for n in ("context", "ops", "nn")]
        print(all(one is other for one, other in pairs))
        """,
        tmp_path,
    )
    assert printed == "True"


def test_as_mindspore_says_what_a_path_is_that_there_is_not(tmp_path: Path) -> None:
    said = run(
        "import paramesh; paramesh.compat.as_mindspore(); import mindspore.explainer",
        tmp_path,
        expect=1,
    )
    assert "paramesh does not have mindspore.explainer." in said


def test_as_mindspore_refuses_beside_an_imported_mindspore() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mindspore", types.ModuleType("mindspore"))
        with pytest.raises(ImportError, match="the real 'mindspore' is imported in this process"):
            compat.as_mindspore()


def test_as_mindspore_refuses_beside_an_installed_mindspore(tmp_path: Path) -> None:
    (tmp_path / "mindspore").mkdir()
    (tmp_path / "mindspore" / "__init__.py").touch()
    said = run("import paramesh; paramesh.compat.as_mindspore()", tmp_path, expect=1)
    assert "ImportError: as_mindspore(): MindSpore is installed here, and would be shadowed" in said


def test_mindspore_is_not_found_unless_asked_for(tmp_path: Path) -> None:
    said = run("import paramesh, mindspore", tmp_path, expect=1)
    assert "No module named 'mindspore'" in said


def test_the_guides_examples_run_as_mindspore(tmp_path: Path) -> None:
    found = blocks(GUIDE.read_text(encoding="utf-8"))
    examples = [b.text for b in found if b.kind == "python" and "default_input=" in b.text]
    assert len(examples) == 4
    imports = "from paramesh import Tensor, Parameter\nfrom paramesh import dtype as mstype\n"
    program = imports + "\n".join(examples)
    (tmp_path / "script.py").write_text(program.replace("paramesh", "mindspore"), encoding="utf-8")
    start = "import paramesh, runpy; paramesh.compat.as_mindspore(); runpy.run_path('script.py')"
    printed = run(start, tmp_path).splitlines()
    assert len([line for line in printed if "Parameter (name=" in line]) == 10


def test_a_name_does_not_depend_on_what_was_imported_before(tmp_path: Path) -> None:
    printed = run(
        """
        import paramesh.common.initializer
        from paramesh.common import initializer
        print(callable(initializer))
        """,
        tmp_path,
    )
    assert printed == "True"


#: Paths of MindSpore's scripts that go through attributes alone.
ATTRIBUTES = """
    common.initializer.HeUniform common.dtype.float32 common.initializer.initializer
    train.callback.LossMonitor train.callback._callback.Callback
    train.serialization.load_checkpoint nn.loss.SoftmaxCrossEntropyWithLogits nn.optim.Momentum
    nn.optim.adam.Adam nn.layer.Dense nn.layer.activation.ReLU nn.wrap.cell_wrapper.WithLossCell
    nn.metrics.Accuracy nn.utils.no_init_parameters ops.operations.MatMul
    ops.operations.nn_ops.ReLU ops.functional.tensor_add ops.composite.GradOperation
    ops.primitive.constexpr ops.function.broadcast_to communication.management.init
    LossMonitor ModelCheckpoint CheckpointConfig FixedLossScaleManager Accuracy
    amp.build_train_network train.amp.auto_mixed_precision context.set_context
    version.__version__ train.data_sink dataset.engine.datasets_vision.ImageFolderDataset
    nn.optim.optimizer.opt_init_args_register log.get_log_config
    dataset.core.validator_helpers.INT32_MAX train.train_thor.dataset_helper.DatasetHelper
    parallel.Layout common.parameter.ParameterTuple common.generator.Generator
"""


@pytest.mark.parametrize("top", [pytest.param("paramesh", marks=pytest.mark.slow), "mindspore"])
def test_paths_are_attributes_without_an_import(top: str, tmp_path: Path) -> None:
    program = f"""
        import functools, paramesh
        paramesh.compat.as_mindspore()
        import {top}
        for path in {ATTRIBUTES.split()!r}:
            functools.reduce(getattr, path.split("."), {top})
        print("all")
        """
    assert run(program, tmp_path) == "all"


@pytest.mark.parametrize("top", [pytest.param("paramesh", marks=pytest.mark.slow), "mindspore"])
def test_every_path_says_of_an_unknown_name_that_it_is_unknown(top: str, tmp_path: Path) -> None:
    program = f"""
        import importlib, paramesh
        paramesh.compat.as_mindspore()
        for path in paramesh.compat.PATHS:
            module = importlib.import_module("{top}." + path)
            try:
                module.Nothing
            except AttributeError as error:
                assert "Nothing" in str(error)
        print("all")
        """
    assert run(program, tmp_path) == "all"


def test_no_path_is_loaded_before_it_is_asked_for(tmp_path: Path) -> None:
    program = f"""
        import sys, paramesh
        below = tuple("paramesh." + path for path in {list(compat.PATHS)!r})
        homes = ("paramesh.nn", "paramesh.ops", "paramesh.train", "paramesh.optim")
        print([m for m in sys.modules if m in below or m in homes])
        """
    assert run(program, tmp_path) == "[]"


@pytest.mark.parametrize("name", ["initializer", "tensor"])
def test_a_module_where_mindspore_has_a_function_is_called_like_it(name: str) -> None:
    module = importlib.import_module(f"paramesh.{name}")
    given = ("ones", [2]) if name == "initializer" else ([1.0, 1.0],)
    for form in (module, getattr(paramesh.common, name), getattr(module, name)):
        assert untyped(form)(*given).asnumpy().tolist() == [1, 1]
    assert getattr(paramesh.common, name) is module
    assert callable(module)
    with pytest.raises(TypeError, match="not callable"):
        wrong(paramesh.dtype)()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nn.Linear", r"module 'paramesh\.nn' has no attribute 'Linear'\. Use nn\.Dense\."),
        ("nn.Denes", r"module 'paramesh\.nn' has no attribute 'Denes'\. Did you mean Dense\?"),
        ("LosMonitor", r"module 'paramesh' has no attribute 'LosMonitor'\. .* LossMonitor\?"),
        ("optim.Adma", r"has no attribute 'Adma'\. Did you mean Adam\?"),
        ("train.TimeMonitr", r"has no attribute 'TimeMonitr'\. Did you mean TimeMonitor\?"),
        ("common.Parametr", r"'paramesh\.common' has no attribute 'Parametr'\. .* Parameter"),
        ("zzz", r"module 'paramesh' has no attribute 'zzz'\.$"),
    ],
)
def test_a_name_that_there_is_not_gets_a_suggestion(path: str, message: str) -> None:
    with pytest.raises(AttributeError, match=message):
        functools.reduce(getattr, path.split("."), paramesh)
