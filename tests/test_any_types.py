"""How many arguments and variables are annotated `Any`: the numbers may only fall.

What `Any` is left for: arguments that are handed on to a function of the user's (`*args`,
`**kwargs`), values of libraries without types, and attributes that hold one thing now and another
one later.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

import paramesh

SOURCE = Path(paramesh.__file__).parent

#: The most that a package, or a module beside the packages, may have.
RECORDED: dict[str, int] = {
    "__init__.py": 9,
    "_compat": 5,
    "adapters": 7,
    "checkpoint": 29,
    "cli": 9,
    "dataset": 26,
    "initializer": 1,
    "lazy_names.py": 2,
    "log.py": 15,
    "mindrecord": 4,
    "mindspore_checks.py": 13,
    "mindspore_internals.py": 5,
    "mindspore_names.py": 9,
    "mindspore_primitives.py": 4,
    "mint": 5,
    "nn": 47,
    "numpy.py": 3,
    "ops": 43,
    "optim": 17,
    "parallel": 52,
    "parameter": 4,
    "profiler.py": 5,
    "providers.py": 2,
    "ps": 53,
    "scripts": 6,
    "setting_checks.py": 5,
    "state": 14,
    "tensor": 41,
    "tracebacks.py": 9,
    "train": 22,
    "transforms": 30,
    "views": 4,
}
#: How far a number may lie above what there is: branches that are merged may each take some away.
SLACK = 10


def annotations_of(tree: ast.AST) -> list[tuple[int, ast.expr]]:
    """The annotations of arguments and variables, with their lines; not those of results."""
    return [
        (node.annotation.lineno, node.annotation)
        for node in ast.walk(tree)
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None
    ]


def is_any(annotation: ast.expr) -> bool:
    """Whether an annotation is `Any` itself, in quotes or not; an alias of it is not."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    return ast.unparse(annotation) in ("Any", "typing.Any")


def places_of(source: str) -> list[int]:
    """The lines of a module that have such an annotation."""
    return [line for line, found in annotations_of(ast.parse(source)) if is_any(found)]


def counted() -> dict[str, list[str]]:
    """For each package the places."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        inside = path.relative_to(SOURCE)
        for line in places_of(path.read_text(encoding="utf-8")):
            found.setdefault(inside.parts[0], []).append(f"{inside}:{line}")
    return found


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("def f(a: Any, *b: Any, c: Any = None, **d: Any) -> Any: ...", 4),
        ("x: Any = 1\nclass A:\n    y: 'Any'\n    z: typing.Any", 3),
        ("def f(a: list[Any], b: Tree, c: Any | None): ...", 0),
        ("'''x: Any'''\n# y: Any", 0),
    ],
)
def test_places_of_any(source: str, count: int):
    assert len(places_of(source)) == count


def test_any_gets_rarer():
    found = counted()
    more = {name: places for name, places in found.items() if len(places) > RECORDED.get(name, 0)}
    files = {
        name: Counter(place.partition(":")[0] for place in places).most_common()
        for name, places in more.items()
    }
    told = "\n".join(
        f"  {name}: {len(places)}, recorded are {RECORDED.get(name, 0)}; by file {files[name]}"
        for name, places in more.items()
    )
    assert not more, (
        "arguments or variables with the type Any were added. Give them the type that the code "
        "takes (names for many are in paramesh.array_types, tensor.argument_types and "
        f"dataset.argument_types), or `object` where nothing is done with them:\n{told}"
    )


def test_the_record_follows():
    found = counted()
    stale = {
        name: len(found.get(name, []))
        for name, allowed in RECORDED.items()
        if allowed > len(found.get(name, [])) + SLACK
    }
    assert not stale, f"there are fewer Any than recorded: lower RECORDED to {stale}"
