"""The source of a function with its `if`, `while` and the like as calls, for conditions not known.

What is rewritten, in a function whose source can be read:

- `if`, `elif` and `else`, with `return` at the end of branches or anywhere at their ends: the rest
  of the function then belongs to the branch that does not return;
- `while`, with `break` and `continue` but without `return` and `else` in it;
- `break` and `continue` in a `for` loop, which itself runs as python has it, turn by turn;
- `a if condition else b`, and `and`, `or`, `not` and chained comparisons anywhere;
- `a[i]`, for a Tensor `i` that picks one of a tuple or list of Cells, functions or Tensors.

`python_control_flow` has what the calls do. Functions inside of the function stay as they are: they
are rewritten by themselves when they ask for a condition.
"""

from __future__ import annotations
import __future__

import ast
import copy
import functools
import inspect
import operator
import textwrap
import types
from collections.abc import Iterator, Sequence
from typing import cast

from paramesh.transforms.control_flow_statements import (
    EXITS,
    LOOPS,
    SCOPES,
    assigned,
    ends,
    has,
    loads,
    read_first,
)

#: The module whose functions the rewritten code calls.
RUN_TIME = "paramesh.transforms.python_control_flow"

_FUTURES = functools.reduce(
    operator.or_,
    (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names),
)


def rewritten(fn: types.FunctionType) -> types.CodeType | None:
    """The code of a function with its control flow as calls; None if there is nothing to rewrite.

    Args:
        fn: the function; its code may be replaced by the result.
    """
    try:
        lines, first = inspect.getsourcelines(fn.__code__)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return None
    node = tree.body[0] if tree.body else None
    if not isinstance(node, ast.FunctionDef) or node.name != fn.__code__.co_name:
        return None
    if not has(node.body, _ASKING):
        return None
    ast.increment_lineno(tree, first - 1)
    file = inspect.getsourcefile(fn) or "?"
    _strip(node)
    owner = _class_of(fn)
    if owner:
        node = _Mangled(owner).visit(node)
    if "__class__" in fn.__code__.co_freevars and fn.__code__.co_argcount:
        node = _Super(fn.__code__.co_varnames[0]).visit(node)
    node.body = _Exits().block(node.body)
    node.body = _Rewriter(file, node).block(node.body)
    # Around it a function whose arguments are what it closes over.
    free = fn.__code__.co_freevars
    arguments = ast.arguments([], [ast.arg(n) for n in free], None, [], [], None, [])
    outer = _definition("__pm_outer", arguments, [node])
    module = ast.fix_missing_locations(ast.Module([outer], []))
    flags = fn.__code__.co_flags & _FUTURES
    try:
        whole = compile(module, file, "exec", flags=flags, dont_inherit=True)
    except SyntaxError:
        return None
    (made,) = (code for code in _codes(whole, 2) if code.co_name == node.name)
    if made.co_freevars != free:
        return None
    return made.replace(co_qualname=fn.__code__.co_qualname)


def _codes(code: types.CodeType, depth: int) -> Iterator[types.CodeType]:
    """The codes of functions in a code, `depth` levels below it."""
    if not depth:
        yield code
        return
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _codes(const, depth - 1)


def _strip(node: ast.FunctionDef) -> None:
    """Take away what belongs to the function, and not to its code."""
    node.decorator_list, node.returns = [], None
    args = node.args
    listed = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    for arg in filter(None, listed):
        arg.annotation = None
    args.defaults = [ast.Constant(None) for _ in args.defaults]
    args.kw_defaults = [d and ast.Constant(None) for d in args.kw_defaults]


def _class_of(fn: types.FunctionType) -> str:
    """The name of the class in whose body a function was defined; '' for none."""
    parts = fn.__qualname__.split(".")
    return parts[-2] if len(parts) > 1 and parts[-2] != "<locals>" else ""


class _Super(ast.NodeTransformer):
    """`super()` with its arguments, which only the function itself can leave out."""

    def __init__(self, first: str) -> None:
        self.first = first

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
            node.args = [_load("__class__"), _load(self.first)]
        return node


class _Mangled(ast.NodeTransformer):
    """Private names as the compiler makes them in the body of a class."""

    def __init__(self, owner: str) -> None:
        self.owner = owner.lstrip("_")

    def _name(self, name: str) -> str:
        private = name.startswith("__") and not name.endswith("__") and bool(self.owner)
        return f"_{self.owner}{name}" if private else name

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self._name(node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        node.attr = self._name(node.attr)
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg = self._name(node.arg)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        return node


_ASKING = (ast.If, ast.While, ast.IfExp, ast.BoolOp, ast.Not, ast.Subscript)


class _Exits:
    """`break` and `continue` as names that say so, and conditions that ask for them.

    What follows a statement with a `break` in it runs if the name is still false.
    """

    def __init__(self) -> None:
        self.count = 0

    def block(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Statements with the loops among them changed, in order."""
        return [made for node in body for made in self.statement(node)]

    def statement(self, node: ast.stmt) -> list[ast.stmt]:
        if isinstance(node, SCOPES):
            return [node]
        for field in ("body", "orelse", "finalbody"):
            inner = getattr(node, field, None)
            if isinstance(inner, list):
                setattr(node, field, self.block(inner))
        if isinstance(node, ast.While) and has([node.test], (ast.NamedExpr,)):
            node = _asked_inside(node)
        if isinstance(node, ast.While | ast.For) and self.can(node):
            return self.loop(node)
        return [node]

    def can(self, node: ast.While | ast.For) -> bool:
        if node.orelse or has(node.body, (ast.Return, ast.Yield, ast.YieldFrom)):
            return False
        return has(node.body, EXITS, loops=False) and _only_in_branches(node.body)

    def loop(self, node: ast.While | ast.For) -> list[ast.stmt]:
        self.count += 1
        stop, skip = f"__pm_stop_{self.count}", f"__pm_skip_{self.count}"
        breaks = has(node.body, (ast.Break,), loops=False)
        skips = has(node.body, (ast.Continue,), loops=False)
        body = self.guarded(node.body, stop, skip)
        if skips:
            body = [_assign(skip, ast.Constant(False)), *body]
        if not breaks:
            node.body = body
            return [node]
        go_on: ast.expr = ast.UnaryOp(ast.Not(), _load(stop))
        if isinstance(node, ast.While):
            node.test = ast.BoolOp(ast.And(), [go_on, node.test])
            node.body = body
        else:
            surely = ast.If(_call("surely", [_load(stop)]), [ast.Break()], [])
            node.body = [surely, ast.copy_location(ast.If(go_on, body, []), node)]
        return [_assign(stop, ast.Constant(False)), cast(ast.stmt, node)]

    def guarded(self, body: Sequence[ast.stmt], stop: str, skip: str) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for at, node in enumerate(body):
            if isinstance(node, EXITS):
                name = stop if isinstance(node, ast.Break) else skip
                return [*out, _assign(name, ast.Constant(True))]
            if isinstance(node, LOOPS) or not has([node], EXITS, loops=False):
                out.append(node)
                continue
            exits = [
                name
                for name, kind in ((stop, ast.Break), (skip, ast.Continue))
                if has([node], (kind,), loops=False)
            ]
            assert isinstance(node, ast.If)
            node.body = self.guarded(node.body, stop, skip)
            node.orelse = self.guarded(node.orelse, stop, skip)
            out.append(node)
            rest = self.guarded(body[at + 1 :], stop, skip)
            if rest:
                asked = [ast.UnaryOp(ast.Not(), _load(name)) for name in exits]
                test = asked[0] if len(asked) == 1 else ast.BoolOp(ast.And(), list(asked))
                out.append(ast.copy_location(ast.If(test, rest, []), node))
            return out
        return out or [ast.Pass()]


def _asked_inside(node: ast.While) -> ast.While:
    """`while (a := b) > c` as a loop that asks in its body, where `a` is assigned to."""
    leaves = ast.If(ast.UnaryOp(ast.Not(), node.test), [ast.Break()], [])
    asks = ast.copy_location(leaves, node)
    return ast.copy_location(ast.While(ast.Constant(True), [asks, *node.body], node.orelse), node)


def _only_in_branches(body: Sequence[ast.stmt]) -> bool:
    """Whether `break` and `continue` of this loop are in `if` statements alone."""
    for node in body:
        if isinstance(node, ast.If):
            if not _only_in_branches([*node.body, *node.orelse]):
                return False
        elif not isinstance(node, (*EXITS, *LOOPS)) and has([node], EXITS, loops=False):
            return False
    return True


class _Expressions(ast.NodeTransformer):
    """`and`, `or`, `not`, `a < b < c`, `a if c else b` and `a[i]` as calls."""

    def __init__(self, file: str) -> None:
        self.file = file

    def _as_is(self, node: ast.AST) -> ast.AST:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _as_is  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        if has(node.values, _BINDING):
            return node
        name = "both" if isinstance(node.op, ast.And) else "either"
        return _call(name, [node.values[0], *map(_later, node.values[1:])])

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return _call("inverted", [node.operand]) if isinstance(node.op, ast.Not) else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) == 1 or has([node], _BINDING):
            return node
        args = [node.left]
        for op, value in zip(node.ops, node.comparators, strict=True):
            taken = ast.arguments([], [ast.arg("a"), ast.arg("b")], None, [], [], None, [])
            args += [ast.Lambda(taken, ast.Compare(_load("a"), [op], [_load("b")])), _later(value)]
        return _call("chained", args)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        index = node.slice
        several = isinstance(index, ast.Slice | ast.Tuple | ast.Constant)
        if several or not isinstance(node.ctx, ast.Load) or has([node], _BINDING):
            return node
        return _call("picked", [node.value, index])

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        if has([node], _BINDING):
            return node
        where = ast.Constant(f"{self.file}:{node.lineno}")
        return _call("choice", [node.test, _later(node.body), _later(node.orelse), where])


#: What may not move into a lambda.
_BINDING = (ast.NamedExpr, ast.Yield, ast.YieldFrom, ast.Await)


class _Rewriter:
    """The statements of one function.

    Args:
        file: for errors.
        node: the function.
    """

    def __init__(self, file: str, node: ast.FunctionDef) -> None:
        self.file, self.count = file, 0
        self.loads = loads(node.body)
        self.expressions = _Expressions(file)
        self.outside = {
            name
            for part in ast.walk(node)
            if isinstance(part, ast.Global | ast.Nonlocal)
            for name in part.names
        }

    def name(self, what: str) -> str:
        self.count += 1
        return f"__pm_{what}_{self.count}"

    def block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """Statements rewritten, in order."""
        out: list[ast.stmt] = []
        for at, node in enumerate(body):
            if isinstance(node, ast.If) and has([node], (ast.Return,)):
                rest = body[at + 1 :]
                if self.may_move([node, *rest]):
                    return [*out, *self.returning(node, rest)]
            out += self.statement(node)
        return out

    def may_move(self, nodes: Sequence[ast.stmt]) -> bool:
        """Whether statements may become a function of their own."""
        return (
            not has(nodes, EXITS, loops=False)
            and not has(nodes, (ast.Yield, ast.YieldFrom, ast.Await))
            and self.outside.isdisjoint(assigned(nodes))
        )

    def statement(self, node: ast.stmt) -> list[ast.stmt]:
        if isinstance(node, ast.If):
            return self.conditional(node)
        if isinstance(node, ast.While):
            return self.repeated(node)
        if isinstance(node, SCOPES):
            return [node]
        for field, value in list(ast.iter_fields(node)):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                # A `return` inside of a `for` or `with` stays python's.
                setattr(node, field, [s for part in value for s in self.statement_inside(part)])
            elif isinstance(value, ast.expr):
                setattr(node, field, self.expressions.visit(value))
            elif isinstance(value, list) and value and isinstance(value[0], ast.expr):
                setattr(node, field, [self.expressions.visit(each) for each in value])
        return [node]

    def statement_inside(self, node: ast.stmt) -> list[ast.stmt]:
        if has([node], (ast.Return,)) or has([node], EXITS, loops=False):
            return [node]
        return self.statement(node)

    def returning(self, node: ast.If, rest: list[ast.stmt]) -> list[ast.stmt]:
        """An `if` that returns: the rest of the function belongs to the branches that do not."""
        nothing = ast.Return(ast.Constant(None))
        true, false = (
            self.block([*branch, *([] if ends(branch) else _copies(rest) or [nothing])])
            for branch in (node.body, node.orelse)
        )
        names = assigned([*true, *false])
        parts = []
        for what, body in (("true", true), ("false", false)):
            whole = body if ends(body) else [*body, nothing]
            parts.append(self.function(what, names, _pack(whole)))
        call = _call("branch", [
            self.expressions.visit(node.test),
            self.bound(parts[0].name, names), self.bound(parts[1].name, names), _names([""]),
            self.where(node),
        ])  # fmt: skip
        value = ast.Subscript(call, ast.Constant(0), ast.Load())
        return [*parts, *self.before(names), ast.Return(value)]

    def kept(self, names: list[str], node: ast.stmt, body: Sequence[ast.stmt]) -> list[str]:
        """Those of the names that are read after a statement, or when it comes again in a loop."""
        own, early = loads([node]), read_first(body)
        return [n for n in names if n in early or self.loads.get(n, 0) > own.get(n, 0)]

    def conditional(self, node: ast.If) -> list[ast.stmt]:
        if not self.may_move([node]):
            return [node]
        names = assigned([*node.body, *node.orelse])
        kept = self.kept(names, node, [node])
        parts = []
        for what, body in (("true", node.body), ("false", node.orelse)):
            made = self.block(list(body))
            parts.append(self.function(what, names, [*made, _returned(kept)]))
        call = _call("branch", [
            self.expressions.visit(node.test),
            self.bound(parts[0].name, names), self.bound(parts[1].name, names), _names(kept),
            self.where(node),
        ])  # fmt: skip
        return [*parts, *self.before(names), _unpack(kept, call), *self.after(names)]

    def repeated(self, node: ast.While) -> list[ast.stmt]:
        moves = self.may_move(node.body) and not has([node.test], _BINDING)
        if node.orelse or has(node.body, (ast.Return,)) or not moves:
            return [node]
        asks: ast.stmt = ast.Expr(node.test)
        names = self.kept(assigned(node.body), node, [asks, *node.body])
        made = self.block(list(node.body))
        asked = [ast.Return(self.expressions.visit(node.test))]
        test = self.function("test", names, list(asked))
        turn = self.function("turn", names, [*made, _returned(names)])
        call = _call("loop", [
            _load(test.name), _load(turn.name),
            ast.Tuple([_load(n) for n in names], ast.Load()), _names(names), self.where(node),
        ])  # fmt: skip
        return [test, turn, *self.before(names), _unpack(names, call), *self.after(names)]

    def before(self, names: list[str]) -> list[ast.stmt]:
        """Names without a value get NOTHING."""
        out: list[ast.stmt] = []
        for name in names:
            handler = ast.ExceptHandler(_load("NameError"), None, [_assign(name, _mine("NOTHING"))])
            out.append(ast.Try([ast.Expr(_load(name))], [handler], [], []))
        return out

    def after(self, names: list[str]) -> list[ast.stmt]:
        """Names that still have no value are taken away again."""
        out: list[ast.stmt] = []
        for name in names:
            same = ast.Compare(_load(name), [ast.Is()], [_mine("NOTHING")])
            out.append(ast.If(same, [ast.Delete([ast.Name(name, ast.Del())])], []))
        return out

    def function(self, what: str, names: list[str], body: list[ast.stmt]) -> ast.FunctionDef:
        taken = ast.arguments([], [ast.arg(n) for n in names], None, [], [], None, [])
        return _definition(self.name(what), taken, body)

    def bound(self, function: str, names: list[str]) -> ast.expr:
        return _later(ast.Call(_load(function), [_load(n) for n in names], []))

    def where(self, node: ast.stmt) -> ast.expr:
        return ast.Constant(f"{self.file}:{node.lineno}")


# Nodes.


def _definition(name: str, arguments: ast.arguments, body: list[ast.stmt]) -> ast.FunctionDef:
    made = ast.FunctionDef(name, arguments, body, [], None)
    made.__dict__["type_params"] = []  # from Python 3.12 on
    return made


def _copies(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The same statements anew: rewriting changes nodes, and both branches may have them."""
    return copy.deepcopy(list(body))


def _load(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _mine(name: str) -> ast.expr:
    """A name of the module at run time, which needs no name of its own in the function."""
    modules = ast.Attribute(
        ast.Call(_load("__import__"), [ast.Constant("sys")], []), "modules", ast.Load()
    )
    return ast.Attribute(
        ast.Subscript(modules, ast.Constant(RUN_TIME), ast.Load()), name, ast.Load()
    )


def _call(name: str, args: Sequence[ast.expr]) -> ast.expr:
    return ast.Call(_mine(name), list(args), [])


def _later(node: ast.expr) -> ast.expr:
    return ast.Lambda(ast.arguments([], [], None, [], [], None, []), node)


def _assign(name: str, value: ast.expr) -> ast.stmt:
    return ast.Assign([ast.Name(name, ast.Store())], value)


def _names(names: list[str]) -> ast.expr:
    return ast.Tuple([ast.Constant(n) for n in names], ast.Load())


def _returned(names: list[str]) -> ast.stmt:
    return ast.Return(ast.Tuple([_load(n) for n in names], ast.Load()))


def _unpack(names: list[str], call: ast.expr) -> ast.stmt:
    if not names:
        return ast.Expr(call)
    targets: list[ast.expr] = [ast.Name(n, ast.Store()) for n in names]
    return ast.Assign([ast.Tuple(targets, ast.Store())], call)


def _pack(body: list[ast.stmt]) -> list[ast.stmt]:
    """Each `return x` as `return (x,)`."""

    class Packer(ast.NodeTransformer):
        def visit_Return(self, node: ast.Return) -> ast.Return:
            return ast.Return(ast.Tuple([node.value or ast.Constant(None)], ast.Load()))

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
            return node

        def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
            return node

    return [Packer().visit(node) for node in body]
