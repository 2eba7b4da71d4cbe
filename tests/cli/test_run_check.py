"""`paramesh run --check`: what scripts use of MindSpore, read without running them."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

import paramesh
from paramesh.cli import main
from paramesh.scripts import absent, differences, judging, offered, reader

ROOT = Path(__file__).parent.parent.parent
M, G, D = judging.MISSING, judging.GUARDED, judging.DIFFERENT

#: Text -> (state, name without `mindspore.`, line) of all that is not simply there.
TEXTS: dict[str, tuple[str, list[tuple[str, str, int]]]] = {
    "everything there": (
        "import mindspore as ms\nfrom mindspore import nn, ops\nms.Tensor(1)\nnn.Dense(1, 2)\n"
        "import mindspore.common.initializer as init\ninit.initializer\ninit.Normal\n"
        "from mindspore.train.callback import LossMonitor\nms.ParallelMode.DATA_PARALLEL\n"
        "ms.context.ParallelMode.AUTO_PARALLEL\nops.ReduceOp.SUM\n",
        [],
    ),
    "aliases": (
        "import mindspore as ms\nimport mindspore.nn as n\n"
        "from mindspore.ops import operations as P\n"
        "from mindspore.ops import composite as C, functional as F\nmake = n\n"
        "n.Nope\nP.Nope\nC.Nope\nF.Nope\nms.nn.Nope\nmake.Nope\n",
        [
            (M, "nn.Nope", 6),
            (M, "ops.operations.Nope", 7),
            (M, "ops.composite.Nope", 8),
            (M, "ops.functional.Nope", 9),
            (M, "nn.Nope", 10),
            (M, "nn.Nope", 11),
        ],
    ),
    "modules": (
        "import mindspore.rewrite as ds\nimport mindspore.rewrite.vision\n"
        "from mindspore.rewrite import vision\nds.GeneratorDataset(1).batch(2)\n"
        "vision.Resize\nds.vision.c_transforms.Resize.x\nmindspore.rewrite.config.set_seed\n",
        [
            (M, "rewrite", 1),
            (M, "rewrite.vision", 2),
            (M, "rewrite.vision", 3),
            (M, "rewrite.GeneratorDataset", 4),
            (M, "rewrite.vision.Resize", 5),
            (M, "rewrite.vision.c_transforms.Resize", 6),
            (M, "rewrite.config.set_seed", 7),
        ],
    ),
    "a star": (
        "from mindspore.nn import *\nDense(1, 2)\nActQuant()\nmine()\nlen([])\n",
        [(M, "nn.ActQuant", 3)],
    ),
    "names that are something else": (
        "from mindspore import nn\ndef f(nn):\n    return nn.Nope\n"
        "def g():\n    nn = 1\n    return nn.Nope\nx = [nn.Nope for nn in []]\n"
        "class A:\n    nn = 1\n    def h(self):\n        return nn.Nope2\n",
        [(M, "nn.Nope2", 11)],
    ),
    "conditions on the version": (
        "import mindspore as ms\nfrom packaging import version\n"
        "from mindspore import version as theirs, __version__\n"
        "if version.parse(ms.__version__) < version.parse('2.0.0rc'):\n    ms.Old\n"
        "else:\n    ms.New\n"
        "if __version__.startswith('1.') or int(theirs.__version__.split('.')[0]) < 2:\n"
        "    ms.Old2\nif not ms.__version__[:3] in ('1.8', '1.9') and ms.__version__ > x:\n"
        "    ms.New2\nelse:\n    ms.New3\na = ms.Old3 if ms.__version__ < '2' else ms.New4\n"
        "if version.parse('1') < version.parse('2'):\n    ms.New5\nelse:\n    ms.New6\n"
        "if ms.__version__ > '2.2':\n    ms.TextIsLess\n",
        [
            (M, "New", 7),
            (M, "New2", 11),
            (M, "New3", 13),
            (M, "New4", 14),
            (M, "New5", 16),
            (M, "New6", 18),
        ],
    ),
    "what a try catches": (
        "try:\n    from mindspore import old_jit\nexcept ImportError:\n"
        "    from mindspore import jit as old_jit\n"
        "try:\n    from mindspore import jit\nexcept ImportError:\n"
        "    from mindspore import old_jit as jit\n"
        "try:\n    from mindspore import nope\nexcept (ImportError, OSError):\n"
        "    from mindspore import nope2\n"
        "try:\n    from mindspore import nope3\nexcept ValueError:\n    pass\n",
        [
            (G, "old_jit", 2),
            (G, "old_jit", 8),
            (G, "nope", 10),
            (M, "nope2", 12),
            (M, "nope3", 14),
        ],
    ),
    "what a try binds counts": (
        "try:\n    from mindspore import nn as m\nexcept ImportError:\n    import nothing as m\n"
        "m.Nope\n",
        [(M, "nn.Nope", 5)],
    ),
    "keywords": (
        "import mindspore as ms\nfrom mindspore import nn\nnn.Dense(1, 2, bias=True)\n"
        "ms.Model(None, keep_batchnorm=True)\nnn.Dense(1, 2, has_bias=True)\n"
        "ms.set_context(mode=1, device_target='Ascend', nothing=1)\n"
        "ms.context.set_context(device_id=0, device_target='CPU')\n"
        "ms.set_auto_parallel_context(nope=1)\n",
        [
            (M, "nn.Dense(bias=)", 3),
            (M, "Model(keep_batchnorm=)", 4),
            (D, "set_context(device_target=)", 6),
            (M, "set_context(nothing=)", 6),
            (D, "context.set_context(device_id=)", 7),
            (M, "set_auto_parallel_context(nope=)", 8),
        ],
    ),
    "methods": (
        "import mindspore as ms\nfrom mindspore import Tensor, Parameter, nn\nx = Tensor(1)\n"
        "x.asnumpy()\nx.nope()\nms.Tensor(2).nope2\nx = x + 1\nx.nope3\n"
        "def f(y: Tensor, z: 'any'):\n    y.nope4\n    z.nope5\n    y.shape\n"
        "class Net(nn.Cell):\n    def construct(self, x):\n"
        "        self.register_backward_pre_hook()\n        self.offload()\n        self.nope6()\n"
        "    def offload(self): ...\np = Parameter(x)\np.set_data(1)\n",
        [
            (M, "Tensor.nope", 5),
            (M, "Tensor.nope2", 6),
            (M, "Tensor.nope4", 10),
            (M, "nn.Cell.register_backward_pre_hook", 15),
            (D, "Parameter", 2),
            (D, "Parameter.set_data", 20),
        ],
    ),
    "attributes that are set": ("import mindspore.nn as nn\nnn.Mine = 1\ndel nn.Mine\n", []),
}


@pytest.mark.parametrize("case", TEXTS)
def test_what_a_text_uses(case: str) -> None:
    text, expected = TEXTS[case]
    found = judging.judge(reader.read(text, case).uses)
    shown = [(f.state, f.name.removeprefix("mindspore."), f.line) for f in found]
    assert sorted(e for e in shown if e[0] != judging.THERE) == sorted(expected)
    assert len(shown) > len(expected) or not expected or case == "modules"


def test_what_is_there_is_counted() -> None:
    found = judging.judge(reader.read("from mindspore import nn\nnn.Dense\nnn.ReLU", "x").uses)
    assert [(f.state, f.name, f.line) for f in found] == [
        ("there", "mindspore.nn", 1),
        ("there", "mindspore.nn.Dense", 2),
        ("there", "mindspore.nn.ReLU", 3),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    main_guard = "if __name__ == '__main__': pass\n"
    files = {
        "good.py": "import mindspore\n" + main_guard,
        "bad.py": "from src.net import Net\nfrom mindspore.rewrite import vision\n" + main_guard,
        "worse.py": "import src.net\nimport other\n" + main_guard,
        "alone.py": "from mindspore import nn\n",
        "plain.py": "import os\n" + main_guard,
        "src/__init__.py": "",
        "src/net.py": "from . import layers\nfrom .layers import L\n",
        "src/layers.py": "from mindspore import nn\nnn.Linear(1, 2)\n",
        "unused/__init__.py": "import mindspore.nope\n",
        ".hidden/no.py": "import mindspore.nope\n" + main_guard,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def checked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str]:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--check", *words])
    return ended.value.code, capsys.readouterr().out


def test_a_script_is_read_with_what_it_imports(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = checked(capsys, "--json", str(folder / "bad.py"))
    assert code == 1
    said = json.loads(text)
    assert said["missing"] == 2
    assert [Path(f["path"]).name for f in said["files"]] == [
        "bad.py", "__init__.py", "net.py", "layers.py"
    ]  # fmt: skip
    missing = [u for f in said["files"] for u in f["uses"] if u["state"] == "missing"]
    assert [(u["name"], u["line"]) for u in missing] == [
        ("mindspore.rewrite.vision", 2), ("mindspore.nn.Linear", 2)
    ]  # fmt: skip
    assert missing[1]["advice"] == "Use mindspore.nn.Dense."
    bad = folder / "bad.py"
    bad.write_text(bad.read_text() + "import mindspore as ms\nms.Parameter\nms.Parameter\n")
    code, text = checked(capsys, str(folder / "bad.py"))
    assert code == 1
    assert re.search(r"  mindspore\.Parameter: .*\n +\S*bad\.py:5, \S*bad\.py:6\n", text)
    assert re.search(r"layers\.py:2: mindspore\.nn\.Linear: .* Use mindspore\.nn\.Dense\.\n", text)
    assert text.rstrip().endswith("2 missing.")


def test_a_script_with_everything_ends_with_0(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = checked(capsys, str(folder / "good.py"))
    assert code == 0
    assert text.endswith("(1 file): 1 names there, 0 with a difference, 0 missing.\n")


def test_a_folder_gives_a_census(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = checked(capsys, str(folder), "--json")
    assert code == 1
    said = json.loads(text)
    assert [Path(s["script"]).name for s in said["by_script"]] == [
        "alone.py", "bad.py", "good.py", "worse.py"
    ]  # fmt: skip
    assert (said["scripts"], said["complete"]) == (4, 2)
    assert [(m["name"], m["scripts"]) for m in said["missing"]] == [
        ("mindspore.nn.Linear", 2),
        ("mindspore.rewrite.vision", 1),
    ]
    code, text = checked(capsys, str(folder))
    assert code == 1
    assert "     2  mindspore.nn.Linear: Use mindspore.nn.Dense.\n" in text
    assert text.endswith("4 scripts: 2 (50%) have all names that they use.\n")


def test_a_file_that_is_no_python_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.py").write_text("print 1\n")
    code, text = checked(capsys, str(tmp_path / "old.py"))
    assert code == 1
    assert "old.py: line 1: Missing parentheses" in text


def test_advice_leads_to_what_is_there() -> None:
    for path, advice in absent.INSTEAD.items():
        assert offered.find(path).rest, f"{path} is there: take it out of INSTEAD"
        for name in re.findall(r"mindspore(?:\.\w+)+", advice):
            assert not offered.find(name).rest, f"{path}: {name}"


def test_names_elsewhere_and_near_are_found() -> None:
    assert absent.about("mindspore.mint.cat").elsewhere == "mindspore.ops.cat"
    assert absent.about("mindspore.dataset.Normal").elsewhere == ""
    assert absent.about("mindspore.nn.Denes").near == ("Dense",)
    seen = absent.about("mindspore.multiprocessing").instead
    assert seen == "python's own multiprocessing module"
    assert absent.about("mindspore.dataset").followed is True
    assert absent.about("mindspore.ops.ResizeBilinear").followed is False
    assert absent.about("mindspore.nobody.knows").followed is None


def test_what_a_module_imports_for_itself_is_not_offered() -> None:
    assert importlib.import_module("paramesh.compat").importlib  # it is there
    assert offered.find("mindspore.compat.importlib").rest == "importlib"


def sections(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made for the documentation."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    plain = (re.sub(r"[^\w\s-]", "", head).strip().lower() for head in heads)
    return {re.sub(r"[-\s]+", "-", head) for head in plain}


def test_every_difference_is_described_where_it_says() -> None:
    context, target = paramesh.set_context, "device_target"
    listed = [*differences.NAMES.values(), *differences.KEYWORDS.values()]
    listed += differences.METHODS.values()
    for keyword, given in ((target, "Ascend"), ("device_id", 0)):
        found = differences.of_keyword(context, keyword, given)
        assert found is not None
        listed.append(found)
    assert differences.of_keyword(context, target, "CPU") is None
    for what in listed:
        page, _, section = what.link.partition("#")
        assert (ROOT / page).is_file(), what.link
        assert not section or section in sections(ROOT / page), what.link
    for path in [*differences.NAMES, *(path for path, _ in differences.KEYWORDS)]:
        assert not offered.find(path).rest, path
