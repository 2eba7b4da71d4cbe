"""Static analysis of what one file uses of MindSpore; nothing is run.

Names are tracked as python binds them, in the order of the text: imports and their aliases, names
that are assigned from those, and certain instances of classes. The bodies of functions are read
after their module, since they are called later.

Glossary
    symbol      what a name refers to: a path of MindSpore, an instance of the class at a path, or
                something else (None)
    guarded     in a `try` that catches the error of a missing name
    fallback    the handlers of such a `try`
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable
from dataclasses import dataclass, field

from paramesh.scripts import versions
from paramesh.scripts.offered import TOP

_CATCHES = frozenset({"ImportError", "ModuleNotFoundError", "AttributeError", "Exception"})
_TENSORS = frozenset({"Tensor", "common.Tensor", "common.tensor.Tensor"})
_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True)
class Use:
    """One place that uses a name of MindSpore.

    Args:
        kind: "import", "name", "call", "star" (a name that a star import may have brought),
            "method" (of an instance of the class at `path` without its last name), or "self" (the
            same, in a subclass of it).
        path: dotted, from `mindspore` on.
        line: in the file, from 1.
        keywords: of a call, with the values that are constants.
        guard: number of the `try` that catches the error if it is missing.
        fallback: number of the `try` of whose fallback it is a part.
    """

    kind: str
    path: str
    line: int
    keywords: tuple[tuple[str, object], ...] = ()
    guard: int | None = None
    fallback: int | None = None


@dataclass(frozen=True)
class LocalImport:
    """An import of another module, which may be a local one.

    Args:
        module: dotted; may be empty for `from . import name`.
        level: number of leading dots.
        names: imported from it.
    """

    module: str
    level: int = 0
    names: tuple[str, ...] = ()


@dataclass
class Reading:
    """The uses and imports of a file, and whether it is a program."""

    uses: list[Use] = field(default_factory=list)
    imports: list[LocalImport] = field(default_factory=list)
    is_main: bool = False


@dataclass(frozen=True)
class _Instance:
    """The result of calling a path, or `self` in a subclass of it."""

    path: str
    own: frozenset[str] | None = None


_Symbol = str | _Instance | None


class _Scope:
    def __init__(self, parent: _Scope | None, of_class: bool = False) -> None:
        self.parent, self.of_class = parent, of_class
        self.symbols: dict[str, _Symbol] = {}
        self.stars: list[str] = []

    def find(self, name: str) -> tuple[bool, _Symbol]:
        """Whether a name is bound in the text, and its symbol."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.symbols and (scope is self or not scope.of_class):
                return True, scope.symbols[name]
            scope = scope.parent
        return False, None


def read(text: str | bytes, name: str) -> Reading:
    """Read one file.

    Args:
        text: its contents.
        name: for errors.

    Raises:
        SyntaxError: it is not valid in this version of python.
        ValueError: the text has null bytes.
    """
    reader = _Reader()
    reader.run(ast.parse(text, name))
    return reader.reading


class _Reader(ast.NodeVisitor):
    def __init__(self) -> None:
        self.reading = Reading()
        self.scope = _Scope(None)
        self.later: list[tuple[ast.AST, _Scope, _Instance | None]] = []
        self.of_class: _Instance | None = None
        self.guard: int | None = None
        self.fallback: int | None = None
        self.weak = False
        self.tries = 0

    def run(self, tree: ast.Module) -> None:
        for statement in tree.body:
            self.visit(statement)
        while self.later:
            node, self.scope, owner = self.later.pop(0)
            self._body_of(node, owner)

    # What is recorded.

    def _use(
        self, kind: str, path: str, node: ast.AST, **more: tuple[tuple[str, object], ...]
    ) -> None:
        line = getattr(node, "lineno", 0)
        guards = {"guard": self.guard, "fallback": self.fallback}
        self.reading.uses.append(Use(kind, path, line, **more, **guards))  # type: ignore[arg-type]

    def _bind(self, name: str, symbol: _Symbol) -> None:
        if not (self.weak and name in self.scope.symbols):
            self.scope.symbols[name] = symbol

    def _bind_all(self, target: ast.AST, symbol: _Symbol = None) -> None:
        if isinstance(target, ast.Name):
            self._bind(target.id, symbol)
            return
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self._bind(node.id, None)
        self.visit(target)

    def _symbol(self, node: ast.AST | None) -> _Symbol:
        if isinstance(node, ast.Name):
            return self.scope.find(node.id)[1]
        if isinstance(node, ast.Attribute):
            owner = self._symbol(node.value)
            return f"{owner}.{node.attr}" if isinstance(owner, str) else None
        if isinstance(node, ast.Call):
            function = self._symbol(node.func)
            return _Instance(function) if isinstance(function, str) else None
        return None

    # Imports.

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            if top == TOP:
                self._use("import", alias.name, node)
                self._bind(alias.asname or top, alias.name if alias.asname else TOP)
            else:
                self.reading.imports.append(LocalImport(alias.name))
                self._bind(alias.asname or top, None)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level or module.partition(".")[0] != TOP:
            names = tuple(alias.name for alias in node.names)
            self.reading.imports.append(LocalImport(module, node.level, names))
            for alias in node.names:
                self._bind(alias.asname or alias.name, None)
            return
        for alias in node.names:
            if alias.name == "*":
                self._use("import", module, node)
                self.scope.stars.append(module)
            else:
                self._use("import", f"{module}.{alias.name}", alias)
                self._bind(alias.asname or alias.name, f"{module}.{alias.name}")

    # Uses.

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = self._symbol(node.value)
        if isinstance(owner, str) and not isinstance(node.value, ast.Call):
            if isinstance(node.ctx, ast.Load):
                self._use("name", f"{owner}.{node.attr}", node)
            return
        if isinstance(owner, _Instance) and isinstance(node.ctx, ast.Load):
            if owner.own is None:
                self._use("method", f"{owner.path}.{node.attr}", node)
            elif node.attr not in owner.own:
                self._use("self", f"{owner.path}.{node.attr}", node)
        self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load) or node.id in _BUILTINS:
            return
        scope: _Scope | None = self.scope
        if scope.find(node.id)[0]:
            return
        while scope is not None:
            for module in scope.stars:
                self._use("star", f"{module}.{node.id}", node)
            scope = scope.parent

    def visit_Call(self, node: ast.Call) -> None:
        path = self._symbol(node.func)
        if isinstance(path, str):
            keywords = tuple(
                (k.arg, k.value.value if isinstance(k.value, ast.Constant) else None)
                for k in node.keywords
                if k.arg is not None
            )
            if keywords:
                self._use("call", path, node, keywords=keywords)
        self.generic_visit(node)

    # Bindings.

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        symbol = self._symbol(node.value)
        for target in node.targets:
            self._bind_all(target, symbol)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)
        self._bind_all(node.target, self._annotated(node.annotation) or self._symbol(node.value))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bind_all(node.target, self._symbol(node.value))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        self._bind_all(node.target)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self._bind_all(node.target)
        self._statements([*node.body, *node.orelse])

    visit_AsyncFor = visit_For  # noqa: N815

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._bind_all(item.optional_vars)
        self._statements(node.body)

    visit_AsyncWith = visit_With  # noqa: N815

    def _annotated(self, annotation: ast.AST | None) -> _Symbol:
        path = self._symbol(annotation)
        below = path.partition(".")[2] if isinstance(path, str) else ""
        return _Instance(str(path)) if below in _TENSORS else None

    def _statements(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    def visit_If(self, node: ast.If) -> None:
        if self.scope.parent is None and _asks_for_main(node.test):
            self.reading.is_main = True
        self.visit(node.test)
        holds = versions.decided(node.test, self._symbol)
        if holds is not False:
            self._statements(node.body)
        if holds is not True:
            self._statements(node.orelse)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit(node.test)
        holds = versions.decided(node.test, self._symbol)
        if holds is not False:
            self.visit(node.body)
        if holds is not True:
            self.visit(node.orelse)

    def visit_Try(self, node: ast.Try | ast.TryStar) -> None:
        before = self.guard, self.fallback, self.weak
        catches = any(_catches(handler) for handler in node.handlers)
        self.tries += 1
        mine = self.tries
        if catches:
            self.guard = mine
        self._statements(node.body)
        for handler in node.handlers:
            self.guard, self.fallback, self.weak = before
            if _catches(handler):
                self.fallback, self.weak = mine, True
            if handler.name:
                self._bind(handler.name, None)
            self._statements(handler.body)
        self.guard, self.fallback, self.weak = before
        self._statements([*node.orelse, *node.finalbody])

    visit_TryStar = visit_Try  # noqa: N815

    # Scopes.

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        self._arguments(node.args)
        if node.returns is not None:
            self.visit(node.returns)
        self._bind(node.name, None)
        self.later.append((node, self.scope, self.of_class if self.scope.of_class else None))

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._arguments(node.args)
        self.later.append((node, self.scope, None))

    def _arguments(self, arguments: ast.arguments) -> None:
        """Read the expressions that are evaluated where the function is defined."""
        given = [*arguments.defaults, *arguments.kw_defaults]
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            given.append(each.annotation)
        for node in given:
            if node is not None:
                self.visit(node)

    def _body_of(self, node: ast.AST, owner: _Instance | None) -> None:
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        self.scope = _Scope(self.scope)
        listed = node.args
        positional = [*listed.posonlyargs, *listed.args]
        for each in (*positional, *listed.kwonlyargs, listed.vararg, listed.kwarg):
            if each is not None:
                starred = each is listed.vararg or each is listed.kwarg
                self._bind(each.arg, None if starred else self._annotated(each.annotation))
        if owner is not None and positional:
            self._bind(positional[0].arg, owner)
        if isinstance(node, ast.Lambda):
            self.visit(node.body)
        else:
            self._statements(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for each in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(each)
        bases = [self._symbol(base) for base in node.bases]
        outer = self.scope, self.of_class
        self.of_class = None
        if len(bases) == 1 and isinstance(bases[0], str):
            self.of_class = _Instance(bases[0], frozenset(_own_names(node)))
        self.scope = _Scope(self.scope, of_class=True)
        self._statements(node.body)
        self.scope, self.of_class = outer
        self._bind(node.name, None)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> None:
        self.scope = _Scope(self.scope)
        for generator in node.generators:
            self.visit(generator.iter)
            self._bind_all(generator.target)
            for test in generator.ifs:
                self.visit(test)
        parts = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        for part in parts:
            self.visit(part)
        assert self.scope.parent is not None
        self.scope = self.scope.parent

    visit_ListComp = _comprehension  # noqa: N815
    visit_SetComp = _comprehension  # noqa: N815
    visit_GeneratorExp = _comprehension  # noqa: N815
    visit_DictComp = _comprehension  # noqa: N815


def _own_names(node: ast.ClassDef) -> Iterable[str]:
    """The names that the text of a class defines: methods and attributes."""
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield each.name
        elif isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store):
            yield each.attr
        elif isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            yield each.id


def _catches(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(k is None or (isinstance(k, ast.Name) and k.id in _CATCHES) for k in kinds)


def _asks_for_main(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and any(
        isinstance(side, ast.Name) and side.id == "__name__"
        for side in (test.left, *test.comparators)
    )
