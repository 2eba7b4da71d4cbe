"""`src/paramesh-stubs`: what type checkers are told of names that the source makes or looks up."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from typing import Any

import jax
import numpy as np
import pytest

import type_stubs
from paramesh import Parameter, Tensor, compat, mint
from paramesh import numpy as mnp

PINNED = re.search(
    r"^jax==(.*)$", (type_stubs.ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE
)
X = np.array([[0.5, 0.25], [0.125, 1.0]], np.float32)


def test_there_are_no_other_files() -> None:
    there = {str(p.relative_to(type_stubs.STUBS)) for p in type_stubs.STUBS.rglob("*.*")}
    assert there == set(type_stubs.files()), "run `make stubs`"


def test_the_files_are_what_would_be_written() -> None:
    other_jax = PINNED is None or jax.__version__ != PINNED[1]
    for path, text in type_stubs.files().items():
        if not (path == "numpy.pyi" and other_jax):  # whose signatures are those of another version
            assert (type_stubs.STUBS / path).read_text("utf-8") == text, "run `make stubs`"


def declared(path: str) -> dict[str, str]:
    """What a file says that its functions and methods give."""
    tree = ast.parse(type_stubs.files()[path])
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.unparse(node.returns) for node in found if node.returns is not None}


def fits(value: Any, kind: str) -> bool:
    """Whether a value is of a kind."""
    several = (isinstance(value, tuple | list)) and all(isinstance(v, Tensor) for v in value)
    return {
        "Any": True,
        "Tensor": isinstance(value, Tensor),
        "bool": isinstance(value, bool),
        "int": isinstance(value, int),
        "tuple[Tensor, ...]": several and isinstance(value, tuple),
        "tuple[Tensor, Tensor]": several and isinstance(value, tuple),
        "tuple[Tensor, list[Tensor]]": isinstance(value, tuple)
        and [type(part) for part in value[1:2]] == [list],
        "list[Tensor]": several and isinstance(value, list),
    }.get(kind, False)


def given(names: list[str]) -> list[tuple[Any, ...]]:
    """Arguments to try a function with, for as many as it needs."""
    x = Tensor(X)
    index = Tensor(np.array([[0, 1], [1, 0]], np.int32))
    whole = {n: index for n in ("index", "input_indices", "sorted_sequence")}
    number = {n: 0 for n in ("dim", "axis", "dim0", "axis0", "start", "axis1", "k", "source")}
    number |= {n: 1 for n in ("dim1", "length", "repeats", "chunks", "axis2", "n", "destination")}
    special = {"mask": x > 0.3, "condition": x > 0.3, "tensors": [x, x], "shape": (2, 2)}
    return [tuple((whole | number | special).get(name, x) for name in names)]


def needed(fn: Any, skip: int) -> list[str]:
    """The names of the arguments that a function has to get."""
    listed = list(inspect.signature(fn).parameters.values())[skip:]
    return [p.name for p in listed if p.default is p.empty and p.kind is not p.VAR_KEYWORD]


def outcomes(path: str) -> list[tuple[str, str, Any]]:
    """(name, what is declared, what it gave) of each that takes such arguments."""
    found: list[tuple[str, str, Any]] = []
    method = path.startswith("tensor/")
    for name, kind in declared(path).items():
        module = Parameter(X, name="p") if method else {"numpy.pyi": mnp}.get(path, mint)
        fn = getattr(module, name, None)
        if fn is None:
            continue
        if method:
            table = {**type_stubs.MAKES, **type_stubs.WRITES}
            names = needed(table[name], 1) if name in table else []
        else:
            names = needed(fn, 0)
        for arguments in given(names):
            try:
                found.append((name, kind, fn(*arguments)))
            except (TypeError, ValueError, NotImplementedError, IndexError, KeyError):
                continue  # these arguments are not for it
    return found


@pytest.mark.parametrize(
    ("path", "least"),
    [
        pytest.param("tensor/table_methods.pyi", 120, marks=pytest.mark.slow),
        pytest.param("numpy.pyi", 170, marks=pytest.mark.slow),
        pytest.param("mint/arrays.pyi", 65, marks=pytest.mark.slow),
        pytest.param("mint/elementwise.pyi", 95, marks=pytest.mark.slow),
    ],
)
def test_functions_give_what_is_declared(path: str, least: int) -> None:
    found = outcomes(path)
    wrong = [
        (name, kind, type(value).__name__)
        for name, kind, value in found
        if not fits(value, "Tensor" if kind == "Self" else kind)
    ]
    assert not wrong
    assert len(found) >= least, len(found)


def test_paths_of_mindspore_have_their_names() -> None:
    for path, sources in type_stubs.declared_paths().items():
        module = importlib.import_module(path)
        text = type_stubs.files()[
            f"{path.removeprefix('paramesh.').replace('.', '/')}/__init__.pyi"
        ]
        lines = re.findall(r"^from (\S+) import \*$", text, re.MULTILINE)
        assert lines == list(reversed(sources)), path
        assert module is not None
    left = {f"paramesh.{path}" for path in compat.PATHS} - set(type_stubs.declared_paths())
    # Modules of paramesh's own, and paths below a module that is one file.
    assert len(left) < 12, left


def test_a_function_of_unknown_arguments_would_be_seen() -> None:
    strange = inspect.signature(lambda unheard_of: unheard_of)
    with pytest.raises(KeyError, match="unheard_of"):
        type_stubs.declaration("strange", strange.parameters.values(), "Tensor")
