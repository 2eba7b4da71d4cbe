"""Write `src/paramesh-stubs`: what type checkers cannot read from the source, as declarations.

Run `make stubs`. Names that packages import when they are first used, the paths of MindSpore's
below them (see `compat`), and functions and methods that come from tables are nowhere in the
source for a checker to see. The declarations are read off the modules themselves, so nothing is
written twice; `tests/test_type_stubs.py` compares the files with what would be written.

`mint`'s and `numpy`'s functions and the methods of tables have no annotations of their own; what
an argument takes follows from its kind or its name, as in the tables. `jax.numpy`'s are annotated,
and differ from version to version of JAX: they are written with the pinned one.

Glossary
    home    the module from which a checker is to import a name: where the source defines it
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import paramesh
from paramesh import compat
from paramesh.dtype import DType
from paramesh.ops.lazy import UPPER
from paramesh.ops.table import TABLE, Kind
from paramesh.tensor.method_table import MAKES, WRITES
from paramesh.tensor.methods import ArrayMethods
from paramesh.tensor.operator_methods import OPERATORS
from paramesh.tensor.table_methods import TableMethods

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "src" / "paramesh-stubs"

#: Modules whose names are looked up when they are used, or taken over by a table.
LOOKED_UP = (
    "paramesh",
    "paramesh.checkpoint",
    "paramesh.nn",
    "paramesh.ops",
    "paramesh.ops.functional",
    "paramesh.ops.operations",
    "paramesh.optim",
    "paramesh.train",
)
#: Modules whose functions a table makes.
MADE = (
    "paramesh.mint.arrays",
    "paramesh.mint.elementwise",
    "paramesh.mint.nn.functional",
    "paramesh.numpy",
)

_HEADER = "# Written by `make stubs`; what it says is in tests/support/type_stubs.py.\n"
_TYPES = """from collections.abc import Callable as Callable, Sequence as Sequence
from typing import Any as Any, Literal as Literal, Self as Self, overload as overload

from paramesh.dtype import DType as DType, DTypeLike as DTypeLike
from paramesh.tensor.argument_types import ArrayLike as ArrayLike, Ints as Ints
from paramesh.tensor.base import Tensor as Tensor
"""
_KINDS = {
    Kind.ARRAY: "ArrayLike",
    Kind.OPERAND: "ArrayLike",
    Kind.FLOATING: "ArrayLike",
    Kind.ARRAYS: "Sequence[ArrayLike]",
    Kind.DTYPE: "DTypeLike | None",
}
#: What an argument without an annotation takes, by its name.
_NAMED = {
    "ArrayLike": """
        other index src value values mask batch1 batch2 mat mat1 mat2 vec vec1 vec2 v y weight
        weights end source condition b input tensor1 tensor2 exponent angle target
        tensor sorted_sequence min max fill_value alpha beta input_indices start append prepend
        grid bounds x a A operands
    """,
    "Ints | None": "axis dim dims axis1 axis2 dim0 dim1 shifts axis0 size shape output_size",
    "Ints": "size indices repeats k length kernel_size axes reps",
    "int": "diagonal offset batch_dims decimals minlength n start_dim end_dim",
    "bool": """
        keepdims keepdim equal_nan non_blocking some as_tuple descending stable inplace
        training
    """,
    "float": "rtol atol lambd nan p eps negative_slope threshold momentum max_val min_val",
    "float | None": "posinf neginf",
    "DTypeLike | None": "dtype",
    "str": "approximate mode reduction",
    "Any": "ord device given object kind order method args kwargs",
}
_BY_NAME = {name: kind for kind, names in reversed(_NAMED.items()) for name in names.split()}
#: What functions and methods give, if not one Tensor.
_GIVES = {
    "tuple[Tensor, ...]": """
        Tensor.chunk Tensor.unbind Tensor.qr Tensor.argmax_with_value Tensor.argmin_with_value
        mint.chunk mint.unbind mint.split mint.meshgrid mint.broadcast_tensors
        mint.sort mint.topk mint.var_mean mint.std_mean mint.cummax mint.cummin
        numpy.diag_indices numpy.ix_ numpy.nonzero numpy.unravel_index
    """,
    # By their arguments.
    "Any": """
        Tensor.nonzero Tensor.unique mint.nonzero mint.max mint.min mint.median mint.unique
        mint.unique_consecutive mint.where
        mint.nn.functional.max_pool2d mint.nn.functional.adaptive_max_pool1d
        mint.nn.functional.adaptive_max_pool2d
        numpy.average numpy.gradient numpy.unique numpy.intersect1d numpy.linspace numpy.geomspace
        numpy.setdiff1d numpy.atleast_1d numpy.atleast_2d numpy.atleast_3d
    """,
    "bool": "mint.allclose mint.equal",
    "int": "numpy.size",
}
_RESULTS = {name: kind for kind, names in _GIVES.items() for name in names.split()}
#: Torch's arguments are the other way round.
_GATHER = (
    "    def gather(self, input_indices: ArrayLike, axis: ArrayLike, batch_dims: int = 0)"
    " -> Tensor: ..."
)
_WHERE = """@overload
def where(condition: ArrayLike, x: ArrayLike, y: ArrayLike) -> Tensor: ...
@overload
def where(condition: ArrayLike) -> tuple[Tensor, ...]: ..."""
#: Annotations of arguments, those of `jax.numpy` among them, and what they are here.
_ANNOTATIONS = {
    "bool": "bool",
    "int": "int",
    "float": "float",
    "str": "str",
    "object": "object",
    "DimSize": "int",
    "Axis": "Ints | None",
    "Ints": "Ints",
    "_Shape": "Ints",
    "Shape": "Ints",
    "Sequence[int]": "Sequence[int]",
    "DTypeLike": "DTypeLike",
    "_dtype.DTypeLike": "DTypeLike",
    "DType": "DTypeLike",
    "Reduction": "str",
    "Any": "Any",
    "DimSize | Shape": "Ints",
}
#: Arguments of `jax.numpy` that mean nothing here.
_LEFT_OUT = ("out", "where", "precision", "preferred_element_type", "out_sharding", "device")
#: Names in modules that are none of theirs.
_NOT_OURS = ("Any", "TYPE_CHECKING", "UPPER", "annotations")
#: Where else a name may be defined.
_BESIDE = ("paramesh.context", "paramesh.mindspore_names", "paramesh.ops.names")


def public(module: types.ModuleType) -> list[str]:
    """The names that a module has for users, also those that it looks up.

    They are read off its source: what a process has imported so far makes no difference.
    """
    tree = ast.parse(inspect.getsource(module))
    names = {*_bound(tree.body), *vars(module).get("__all__", ())}
    for table in ("_LAZY", "_LATER", "_PACKAGES"):
        names |= set(vars(module).get(table, ()))
    if module.__name__.startswith("paramesh.ops"):
        names |= {name for name in UPPER if hasattr(module, name)}
    if getattr(module, "__path__", None):  # a package, which offers what it imports
        names |= set(_imported(tree.body))
        names |= {found.name for found in pkgutil.iter_modules(module.__path__)}
    return sorted(
        name
        for name in names
        if not name.startswith("_")
        and name not in _NOT_OURS
        and f"{module.__name__}.{name}" not in declared_paths()
        and hasattr(module, name)
    )


def _imported(statements: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield from (found.asname or found.name for found in statement.names)


def defined(module: types.ModuleType) -> set[str]:
    """The names that a module's source defines, or imports from where it is defined."""
    found = _defined.get(module.__name__)
    if found is None:
        tree = ast.parse(inspect.getsource(module))
        found = _defined[module.__name__] = set(_bound(tree.body))
        if module.__name__ in MADE:
            found |= set(vars(module)["__all__"])
    return found


_defined: dict[str, set[str]] = {}


def _bound(statements: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name))
        elif isinstance(statement, ast.If | ast.Try):
            yield from _bound(statement.body)


def _same(one: object, other: object) -> bool:
    """Whether they are one thing, or one of a module that was imported twice."""
    ways = ("__module__", "__qualname__")
    named = [tuple(getattr(value, way, None) for way in ways) for value in (one, other)]
    return one is other or (None not in named[0] and named[0] == named[1])


def home(module: types.ModuleType, name: str) -> str | None:
    """Where a checker finds what a name of a module stands for; None: nowhere."""
    value = getattr(module, name)
    tables = [vars(module).get(table, {}) for table in ("_LAZY", "_LATER")]
    looked_up = [table.get(name) for table in tables]
    of_type = "paramesh.dtype" if isinstance(value, DType) else None
    for place in (getattr(value, "__module__", None), of_type, *looked_up, *_BESIDE):
        if isinstance(place, str) and place.split(".")[0] == "paramesh":
            found = importlib.import_module(place)
            if place != module.__name__ and name in defined(found):
                if _same(getattr(found, name, None), value):
                    return place
                raise RuntimeError(f"{place}.{name} is not what {module.__name__}.{name} is")
    return None


def names_of(module: types.ModuleType) -> Iterator[str]:
    """The lines that declare the names of a module by their homes."""
    if hasattr(module, "__version__"):
        yield "__version__: str"
    yield f"__all__ = {sorted(vars(module)['__all__'])!r}"
    by_home: dict[str, list[str]] = {}
    for name in public(module):
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            parent, _, last = value.__name__.rpartition(".")
            if parent.split(".")[0] == "paramesh":
                by_home.setdefault(parent, []).append(f"{last} as {name}")
            continue
        place = home(module, name)
        if place is not None:
            by_home.setdefault(place, []).append(f"{name} as {name}")
        elif isinstance(value, int | float | str):
            yield f"{name}: {type(value).__name__}"
        elif callable(value) or isinstance(value, DType):
            yield f"{name}: Any"
    for place, names in sorted(by_home.items()):
        for name in names:
            yield f"from {place} import {name}"


def shown(annotation: object) -> str | None:
    """An annotation as source, in the names of `_TYPES`; None if there is none, or it is odd."""
    if annotation is inspect.Parameter.empty:
        return None
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = text.replace("typing.", "").replace("collections.abc.", "")
    if "SupportsDType" in text:
        return "DTypeLike | None" if "None" in text else "DTypeLike"
    if re.search(r"ArrayLike|\bArray\b|ndarray|TensorLike|NumberLike|RawNumber", text):
        return "ArrayLike" + " | str" * ("str" in text) + " | None" * ("None" in text)
    parts = [p.strip() for p in text.split(" | ") if p.strip() != "None"]
    known = [_ANNOTATIONS.get(part) for part in parts]
    if None in known or not parts:
        return None
    return " | ".join(dict.fromkeys([*map(str, known), *(["None"] if "None" in text else [])]))


def argument(parameter: inspect.Parameter, kind: Kind | None = None) -> str:
    """A parameter as source.

    Raises:
        KeyError: it has neither a kind nor an annotation, and `_NAMED` has not its name.
    """
    annotation = _KINDS[kind] if kind is not None else shown(parameter.annotation)
    if annotation is None:
        annotation = _BY_NAME[parameter.name]
    default = parameter.default
    if isinstance(default, str) and annotation == "float":
        annotation = "float | str"
    if default is None and "None" not in annotation and annotation not in ("Any", "object"):
        annotation += " | None"
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    if default is parameter.empty:
        return f"{stars}{parameter.name}: {annotation}"
    plain = default is None or isinstance(default, bool | int | float | str)
    odd = (isinstance(default, float) and default != default) or not plain
    return f"{parameter.name}: {annotation} = {'...' if odd else repr(default)}"


def declaration(
    name: str,
    parameters: Iterable[inspect.Parameter],
    gives: str,
    kinds: Mapping[str, Kind] | None = None,
    of_self: bool = False,
) -> str:
    """A function or method as source."""
    parts: list[str] = ["self"] if of_self else []
    keywords = False
    listed = [p for p in parameters if p.name not in _LEFT_OUT]
    for i, parameter in enumerate(listed):
        if parameter.kind is parameter.KEYWORD_ONLY and not keywords:
            parts.append("*")
        keywords = keywords or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        parts.append(argument(parameter, (kinds or {}).get(parameter.name)))
        after = listed[i + 1].kind if i + 1 < len(listed) else None
        if parameter.kind is parameter.POSITIONAL_ONLY and after is not parameter.POSITIONAL_ONLY:
            parts.append("/")
    return f"def {name}({', '.join(parts)}) -> {gives}: ..."


def functions_of(module: types.ModuleType) -> Iterator[str]:
    """The lines that declare the functions of a module that a table makes."""
    short = module.__name__.removeprefix("paramesh.")
    short = "mint" if short in ("mint.arrays", "mint.elementwise") else short
    listed = vars(module)["__all__"]
    yield f"__all__ = {listed!r}"
    for name in sorted(set(listed)):
        value = getattr(module, name)
        made_by = type(value).__module__
        if made_by.startswith("paramesh.") and made_by != "paramesh.dtype":
            yield f"from {made_by} import {name} as {name}"
        elif not inspect.isfunction(value):
            yield f"{name}: {_constant(value)}"
        elif value.__module__ != module.__name__:
            yield f"from {value.__module__} import {name} as {name}"
        elif f"{short}.{name}" == "numpy.where":
            yield _WHERE
        else:
            operator = value.__dict__.get("operator")
            signature = inspect.signature(value)
            gives = _RESULTS.get(f"{short}.{name}") or _result(signature)
            kinds = operator.kinds if operator is not None else {}
            yield declaration(name, signature.parameters.values(), gives, kinds)


def _result(signature: inspect.Signature) -> str:
    """What a function of `jax.numpy` gives over Tensors; others give a Tensor."""
    annotation = signature.return_annotation
    text = annotation if isinstance(annotation, str) else "Array"
    if "|" in text:
        return "Any"
    return text.replace("Array", "Tensor").replace("Any", "Tensor")


def _constant(value: object) -> str:
    if isinstance(value, DType):
        return "DType"
    return "None" if value is None else type(value).__name__


def methods() -> Iterator[str]:
    """The lines that declare the methods of Tensor that come from tables."""
    yield "class TableMethods:"
    for name, value in vars(TableMethods).items():
        if name in vars(ArrayMethods):
            continue  # declared there
        if name in MAKES or name in WRITES:
            fn = MAKES.get(name) or WRITES[name]
            parameters = list(inspect.signature(fn).parameters.values())[1:]
            gives = "Self" if name in WRITES else _RESULTS.get(f"Tensor.{name}", "Tensor")
            if name == "gather":
                yield _GATHER
                continue
            yield "    " + declaration(name, parameters, gives, of_self=True)
        elif inspect.isfunction(value):
            signature = inspect.signature(value)
            parameters = list(signature.parameters.values())[1:]
            gives = {"bool": "bool", "int": "int"}.get(str(signature.return_annotation), "Tensor")
            gives = "Any" if name == "type" else gives
            yield "    " + declaration(name, parameters, gives, of_self=True)


def operator_methods() -> Iterator[str]:
    """The same of those that are operators."""
    yield "OPERATORS: dict[str, str]"
    yield "class OperatorMethods:"
    for method, name in OPERATORS.items():
        if method in {**vars(ArrayMethods), **vars(TableMethods)}:
            continue  # declared there
        operator = TABLE.get(name)
        form = operator.compute if operator is not None else getattr(paramesh.ops, name)
        parameters = list(inspect.signature(form).parameters.values())[1:]
        source = inspect.getsource(form)
        decorated = next((line[1:] for line in source.splitlines() if line.startswith("@")), "")
        gives = {"tuple_function": "tuple[Tensor, ...]", "other_function": "Any"}.get(decorated)
        kinds = operator.kinds if operator is not None else {}
        yield "    " + declaration(method, parameters, gives or "Tensor", kinds, of_self=True)


@functools.cache
def files() -> dict[str, str]:
    """{path below the folder: what it has to say}."""
    found: dict[str, list[str]] = {}
    for name in LOOKED_UP:
        module = importlib.import_module(name)
        found[_path(name, is_package=True)] = ["from typing import Any as Any", *names_of(module)]
    for name in MADE:
        found[_path(name)] = [_TYPES, *functions_of(importlib.import_module(name))]
    for name, lines in (("table_methods", methods()), ("operator_methods", operator_methods())):
        found[f"tensor/{name}.pyi"] = [_TYPES, *lines]
    for path, sources in declared_paths().items():
        lines = found.setdefault(_path(path, is_package=True), [])
        # The first that has a name wins, and so does what is said last.
        lines += [f"from {source} import *" for source in reversed(sources)]
        parent, _, last = path.rpartition(".")
        line = f"from {parent} import {last} as {last}"
        above = found.get(_path(parent, is_package=True), [line])
        if line not in above:
            above.append(line)
    texts = {path: "\n".join([_HEADER, *lines]) + "\n" for path, lines in found.items()}
    return texts | {"py.typed": "partial\n"}


@functools.cache
def declared_paths() -> dict[str, tuple[str, ...]]:
    """{path of MindSpore's: its modules}; those below a module that is one file are left out."""
    found: dict[str, tuple[str, ...]] = {}
    for path, sources in sorted(compat.PATHS.items()):
        parent = f"paramesh.{path}".rpartition(".")[0]
        file = ROOT / "src" / f"{parent.replace('.', '/')}.py"
        # Below paramesh, modules of its own come first.
        own = ROOT / "src" / "paramesh" / path.replace(".", "/")
        if own.exists() or own.with_suffix(".py").exists():
            continue
        if parent in LOOKED_UP or not file.exists():
            found[f"paramesh.{path}"] = sources
    return found


def _path(name: str, is_package: bool = False) -> str:
    inside = name.removeprefix("paramesh").removeprefix(".").replace(".", "/")
    if is_package:
        return f"{inside}/__init__.pyi".removeprefix("/")
    return f"{inside}.pyi"


def main() -> None:
    """Write all files, and remove those that are no longer among them."""
    wanted = files()
    for path in STUBS.rglob("*"):
        if path.is_file() and str(path.relative_to(STUBS)) not in wanted:
            path.unlink()
    for path, text in wanted.items():
        (STUBS / path).parent.mkdir(parents=True, exist_ok=True)
        (STUBS / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
