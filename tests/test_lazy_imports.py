"""Imports that are strings keep to the floors that import-linter applies to import statements.

A string can name a module in any form: in a table of `lazy_names.homes`, in `import_module`, in
`sys.modules`. So every string in `src` that is the full name of a module counts as an import.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src"

#: Imports of an upper floor by a lower one, {(the lower module, the upper one)}.
UPWARD = {
    # The error about a path of MindSpore's that is not here; nothing imports the table before.
    ("paramesh.compat", "paramesh.scripts.absent"),
    # Names that MindSpore has in the lower package, when a user asks for them.
    ("paramesh.nn", "paramesh.optim"),
    ("paramesh.nn", "paramesh.train"),
    ("paramesh.ops.lazy", "paramesh.mindspore_inner_operators"),
    ("paramesh.ops.lazy", "paramesh.mindspore_primitives"),
    ("paramesh.ops.lazy", "paramesh.transforms"),
    ("paramesh.parallel", "paramesh.mindspore_names"),
    ("paramesh.train", "paramesh.mindspore_later_names"),
    ("paramesh.train", "paramesh.mindspore_names"),
    ("paramesh.ops.lazy", "paramesh.transforms.higher_derivatives"),
    ("paramesh.ops.lazy", "paramesh.transforms.loop_classes"),
}

#: What deprecated paths stand for; only `paramesh.compat`, an upper floor, imports it.
TABLES_OF_OTHERS = {"paramesh.deprecations"}

#: Strings that are the name of a module, and stand for something else: {(module, string)}.
NOT_IMPORTS = {
    ("paramesh.train.position", "paramesh.random"),  # a key of checkpoints
}

#: Modules that import what is computed while they run: the paths and names that a user or a script
#: asks for, or the steps ("module:function") of a parent process.
COMPUTED = {
    "paramesh",
    "paramesh.child_processes",
    "paramesh.compat",
    "paramesh.lazy_names",
    "paramesh.ops.lazy",
    "paramesh.scripts.offered",
    "paramesh.scripts.running",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES.rglob("*.py")}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def floors() -> dict[str, int]:
    """{module or package right under paramesh: its height}, from pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [c["layers"] for c in settings["contracts"] if c.get("containers") == ["paramesh"]]
    return {name.strip("()"): -i for i, name in enumerate(layers)}


def height(module: str) -> int:
    """How high a module is; `paramesh` itself is above all."""
    _, _, rest = module.partition(".")
    return floors()[rest.partition(".")[0]] if rest else 1


def imports_named_by_strings(module: str, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            given = node.value.partition(":")[0]
            if given in MODULES and "." in given and (module, given) not in NOT_IMPORTS:
                yield given


def upward(trees: dict[str, ast.AST]) -> set[tuple[str, str]]:
    return {
        (module, target)
        for module, tree in trees.items()
        if module not in TABLES_OF_OTHERS
        for target in imports_named_by_strings(module, tree)
        if height(target) > height(module)
    }


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            own = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if own == name:
                yield node


def test_strings_import_upward_only_where_it_is_listed() -> None:
    assert upward(dict(TREES)) == UPWARD


def test_an_unlisted_one_would_be_seen() -> None:
    tree = ast.parse('f = lambda: importlib.import_module("paramesh.train.model")')
    assert upward({"paramesh.nn.cell": tree}) == {("paramesh.nn.cell", "paramesh.train.model")}


def test_tables_of_lazy_names_are_literal_and_name_modules() -> None:
    tables = [call.args[0] for tree in TREES.values() for call in calls(tree, "homes")]
    assert len(tables) == 7
    for table in tables:
        found: dict[str, str] = ast.literal_eval(table)
        assert found.keys() <= MODULES.keys()


def test_only_listed_modules_import_what_the_source_does_not_name() -> None:
    given = {
        (module, call.args[0].value if isinstance(call.args[0], ast.Constant) else None)
        for module, tree in TREES.items()
        for call in calls(tree, "import_module")
    }
    assert {module for module, name in given if name is None} == COMPUTED
    names = {str(name) for _, name in given if name is not None}
    assert {name for name in names if name.startswith("paramesh")} <= MODULES.keys()


def test_the_strings_that_are_left_out_exist() -> None:
    strings = {
        (module, node.value)
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
    }
    assert strings >= NOT_IMPORTS
