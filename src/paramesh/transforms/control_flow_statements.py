"""What statements have in them: names that they assign and read, loops, and how they end."""

from __future__ import annotations

import ast
from collections.abc import Sequence

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
LOOPS = (ast.For, ast.While, ast.AsyncFor)
EXITS = (ast.Break, ast.Continue)


def has(nodes: Sequence[ast.AST], kinds: tuple[type, ...], loops: bool = True) -> bool:
    """Whether there is a node of these kinds, outside of functions, and of loops if not `loops`."""
    for node in nodes:
        if isinstance(node, kinds):
            return True
        if isinstance(node, SCOPES) or (not loops and isinstance(node, LOOPS)):
            continue
        if has(list(ast.iter_child_nodes(node)), kinds, loops):
            return True
    return False


def assigned(nodes: Sequence[ast.stmt]) -> list[str]:
    """Names that statements assign, outside of functions and classes in them."""
    found: dict[str, None] = {}

    class Finder(ast.NodeVisitor):
        def visit_Name(self, node: ast.Name) -> None:
            if isinstance(node.ctx, ast.Store | ast.Del):
                found[node.id] = None

        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            if not node.name.startswith("__pm_"):
                found[node.name] = None

        def visit_ClassDef(self, node: ast.ClassDef) -> None:
            found[node.name] = None

        def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = None

        visit_ImportFrom = visit_Import  # noqa: N815

        def visit_Lambda(self, node: ast.Lambda) -> None:
            pass

        def _comprehension(self, node: ast.AST) -> None:
            pass

        visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815

    for node in nodes:
        Finder().visit(node)
    return list(found)


def loads(nodes: Sequence[ast.AST]) -> dict[str, int]:
    """How often each name is read."""
    found: dict[str, int] = {}
    for top in nodes:
        for node in ast.walk(top):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found[node.id] = found.get(node.id, 0) + 1
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = found.get(node.target.id, 0) + 1
    return found


#: Statements after which the names that they assign have a value.
_GIVING = (
    ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Import, ast.ImportFrom, ast.FunctionDef,
    ast.ClassDef,
)  # fmt: skip


def read_first(nodes: Sequence[ast.stmt]) -> set[str]:
    """Names that statements may read before they assign them."""
    found: set[str] = set()

    def read(node: ast.AST, known: set[str]) -> None:
        found.update(name for name in loads([node]) if name not in known)

    def through(nodes: Sequence[ast.stmt], known: set[str]) -> set[str]:
        for node in nodes:
            if isinstance(node, ast.If):
                read(node.test, known)
                known = through(node.body, set(known)) & through(node.orelse, set(known))
            elif isinstance(node, ast.While):
                read(node.test, known)
                through(node.body, set(known))
                through(node.orelse, set(known))
            elif isinstance(node, ast.For):
                read(node.iter, known)
                through(node.body, known | names_of(node.target))
                through(node.orelse, set(known))
            elif isinstance(node, ast.With):
                for item in node.items:
                    read(item.context_expr, known)
                    if item.optional_vars is not None:
                        known = known | names_of(item.optional_vars)
                known = through(node.body, known)
            elif isinstance(node, ast.Try):
                tried = through(node.body, set(known))
                for handler in node.handlers:
                    caught = {handler.name} if handler.name else set()
                    through(handler.body, known | caught)
                through(node.orelse, tried)
                known = through(node.finalbody, set(known))
            else:
                read(node, known)
                if isinstance(node, _GIVING):
                    known = known | set(assigned([node]))
        return known

    def names_of(target: ast.expr) -> set[str]:
        return {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}

    through(nodes, set())
    return found


def ends(body: Sequence[ast.stmt]) -> bool:
    """Whether statements return or raise in any case."""
    if not body:
        return False
    last = body[-1]
    if isinstance(last, ast.If):
        return ends(last.body) and ends(last.orelse)
    return isinstance(last, ast.Return | ast.Raise)
