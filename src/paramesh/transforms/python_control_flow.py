"""`if` and `while` over Tensors in a compiled function, converted to `cond` and `while_loop`.

MindSpore's graph mode converts python's control flow where its condition is a Tensor. Here programs
are traced, and a condition that is known is python's own affair. Where one is not known, the trace
ends with an error: then the function that asked is rewritten, once, and the program is traced anew.

What is rewritten, in the function that asked, a method or a function of a module:

- `if`, `elif` and `else`, with `return` at the end of branches or anywhere at their ends: the rest
  of the function then belongs to the branch that does not return;
- `while`, without `break`, `continue`, `return` or `else` in it; it has no gradient by reverse
  mode, as `while_loop`;
- `and`, `or` and `not` in their conditions.

A branch or body may assign names, and write Parameters; a name has to have a value of one shape and
element type in both branches, or before and after a turn. `for` loops run as python has them, turn
by turn; `break` and `continue` under a condition that is not known are not converted.

Every condition is looked at when it is reached: where it is known, python's branch runs, as before.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
import types
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from paramesh.array_types import Tree
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.transforms.control_flow import cond, while_loop

_MINE = "__paramesh_control_flow__"


class _Nothing:
    """A name that has no value yet."""

    def __repr__(self) -> str:
        return "no value"


NOTHING = _Nothing()


class ControlFlowError(TypeError):
    """An `if` or `while` over Tensors that cannot be converted; says where, and why."""


# At run time.


def unknown(value: object) -> bool:
    """Whether a condition is a Tensor that a program has yet to compute."""
    return isinstance(value, Tensor) and isinstance(raw(value), jax.core.Tracer)


def both(first: Tree, *others: Callable[[], Any]) -> Any:
    """`first and ...`."""
    for other in others:
        if unknown(first):
            second = other()
            first = _bool(first, second, jnp.logical_and)
        elif not first:
            return first
        else:
            first = other()
    return first


def either(first: Tree, *others: Callable[[], Any]) -> Any:
    """`first or ...`."""
    for other in others:
        if unknown(first):
            first = _bool(first, other(), jnp.logical_or)
        elif first:
            return first
        else:
            first = other()
    return first


def inverted(value: object) -> Any:
    """`not value`."""
    return wrap(jnp.logical_not(raw(value))) if unknown(value) else not value


def _bool(first: Tree, second: Tree, fn: Callable[..., Any]) -> Any:
    parts = [jnp.asarray(raw(v), jnp.bool_).reshape(()) for v in (first, second)]
    return wrap(fn(*parts))


def _array(value: object) -> bool:
    return isinstance(value, Tensor | jax.Array)


def branch(
    test: Tree,
    when_true: Callable[[], tuple[Any, ...]],
    when_false: Callable[[], tuple[Any, ...]],
    names: Sequence[str],
    where: str,
) -> tuple[Any, ...]:
    """The values of `names` after an `if`.

    Args:
        test: the condition.
        when_true: gives the values after its body.
        when_false: gives them after its `else`.
        names: "" for what is returned.
        where: file and line, for errors.
    """
    if not unknown(test):
        return when_true() if test else when_false()
    kept: list[list[Any]] = []

    def values_of(fn: Callable[[], tuple[Any, ...]]) -> Callable[[], list[Any]]:
        def run() -> list[Any]:
            found = list(fn())
            kept.append(found)
            return [value for value in found if _number(value)]

        return run

    try:
        out = iter(cond(test, values_of(when_true), values_of(when_false)))
    except TypeError as error:
        raise _refused(where, "if", names, kept, error) from error
    first, second = kept[-2], kept[-1]
    result: list[Any] = []
    for name, a, b in zip(names, first, second, strict=True):
        if _number(a) and _number(b):
            result.append(next(out))
        elif a is b or (type(a) is type(b) and not _number(a) and a == b):
            result.append(a)
        else:
            raise _refused(where, "if", names, kept, None, name)
    return tuple(result)


def _number(value: object) -> bool:
    if isinstance(value, tuple | list):
        return len(value) > 0 and all(map(_number, value))
    plain = isinstance(value, int | float | complex)
    return _array(value) or plain


def _refused(
    where: str,
    kind: str,
    names: Sequence[str],
    kept: Sequence[Any],
    error: Exception | None,
    name: str = "",
) -> ControlFlowError:
    shown = ", ".join(f"'{n}'" if n else "what is returned" for n in ([name] if name else names))
    values = ""
    if len(kept) > 1:
        at = list(names).index(name) if name else None
        pairs = [kept[-2], kept[-1]] if at is None else [[kept[-2][at]], [kept[-1][at]]]
        values = f" They are {_shown(pairs[0])} and {_shown(pairs[1])}."
    text = (
        f"{where}: this `{kind}` depends on a Tensor and is converted to `ops.cond`, for which "
        f"{shown or 'its values'} must be of one shape and element type in both branches.{values}"
    )
    return ControlFlowError(f"{text} {error}" if error is not None else text)


def _shown(values: Sequence[Any]) -> str:
    parts = [f"{v.dtype}{list(v.shape)}" if _array(v) else repr(v) for v in values]
    return ", ".join(parts)


def loop(
    test: Callable[..., Any],
    body: Callable[..., tuple[Any, ...]],
    start: tuple[Any, ...],
    names: Sequence[str],
    where: str,
) -> tuple[Any, ...]:
    """The values of `names` after a `while`.

    Args:
        test: the condition, of these values.
        body: gives the values after a turn, of those before it.
        start: the values before the first turn.
        names: what a turn assigns.
        where: file and line, for errors.
    """
    values = start
    while True:
        found = test(*values)
        if unknown(found):
            return _converted(test, body, values, names, where)
        if not found:
            return values
        values = body(*values)


def _converted(
    test: Tree, body: Callable[..., Any], values: tuple[Any, ...], names: Sequence[str], where: str
) -> tuple[Any, ...]:
    # What a turn makes before it uses it is no part of what turns hand on.
    carried = [i for i, value in enumerate(values) if _number(value)]
    fixed = list(values)

    def whole(state: Sequence[Any]) -> list[Any]:
        full = list(fixed)
        for i, value in zip(carried, state, strict=True):
            full[i] = value
        return full

    def turn(state: Sequence[Any]) -> list[Any]:
        after = body(*whole(state))
        return [after[i] for i in carried]

    begin = [values[i] if _array(values[i]) else wrap(jnp.asarray(values[i])) for i in carried]
    try:
        out = while_loop(lambda state: test(*whole(state)), turn, begin)
    except TypeError as error:
        shown = ", ".join(f"'{names[i]}'" for i in carried)
        raise ControlFlowError(
            f"{where}: this `while` depends on a Tensor and is converted to `ops.while_loop`, for "
            f"which {shown} must keep shape and element type from turn to turn. {error}"
        ) from error
    full = [NOTHING if value is NOTHING else value for value in fixed]
    for i, value in zip(carried, out, strict=True):
        full[i] = value
    return tuple(full)


# The rewriting.


def _assigned(nodes: Sequence[ast.stmt]) -> list[str]:
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

        def visit_Lambda(self, node: ast.Lambda) -> None:
            pass

        def _comprehension(self, node: ast.AST) -> None:
            pass

        visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815

    for node in nodes:
        Finder().visit(node)
    return list(found)


def _has(nodes: Sequence[ast.AST], kinds: tuple[type, ...], loops: bool = True) -> bool:
    for node in nodes:
        if isinstance(node, kinds):
            return True
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if not loops and isinstance(node, ast.For | ast.While):
            continue
        if _has(list(ast.iter_child_nodes(node)), kinds, loops):
            return True
    return False


def _ends(body: Sequence[ast.stmt]) -> bool:
    """Whether statements return or raise in any case."""
    if not body:
        return False
    last = body[-1]
    if isinstance(last, ast.If):
        return _ends(last.body) and _ends(last.orelse)
    return isinstance(last, ast.Return | ast.Raise)


class _Rewriter:
    def __init__(self, file: str) -> None:
        self.file, self.count = file, 0

    def name(self, what: str) -> str:
        self.count += 1
        return f"__pm_{what}_{self.count}"

    def block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """Statements rewritten, in order."""
        out: list[ast.stmt] = []
        for at, node in enumerate(body):
            if isinstance(node, ast.If) and _has([node], (ast.Return,)):
                rest = body[at + 1 :]
                if not _has([node], (ast.Break, ast.Continue), loops=False):
                    return [*out, *self.returning(node, rest)]
            out += self.statement(node)
        return out

    def statement(self, node: ast.stmt) -> list[ast.stmt]:
        if isinstance(node, ast.If):
            return self.conditional(node)
        if isinstance(node, ast.While):
            return self.repeated(node)
        for field in ("body", "orelse", "finalbody"):
            inner = getattr(node, field, None)
            if isinstance(inner, list) and not isinstance(node, ast.FunctionDef | ast.ClassDef):
                # A `return` inside of a `for` or `with` stays python's.
                kept = [s for part in inner for s in self.statement_inside(part)]
                setattr(node, field, kept)
        return [node]

    def statement_inside(self, node: ast.stmt) -> list[ast.stmt]:
        if _has([node], (ast.Return, ast.Break, ast.Continue)):
            return [node]
        return self.statement(node)

    def returning(self, node: ast.If, rest: list[ast.stmt]) -> list[ast.stmt]:
        """An `if` that returns: the rest of the function belongs to the branches that do not."""
        nothing = ast.Return(ast.Constant(None))
        true, false = (
            self.block([*branch, *([] if _ends(branch) else rest or [nothing])])
            for branch in (node.body, node.orelse)
        )
        names = _assigned([*true, *false])
        parts = []
        for what, body in (("true", true), ("false", false)):
            whole = body if _ends(body) else [*body, nothing]
            parts.append(self.function(what, names, _pack(whole)))
        call = self.call("branch", [
            self.test(node.test),
            self.bound(parts[0].name, names), self.bound(parts[1].name, names), _names([""]),
            self.where(node),
        ])  # fmt: skip
        value = ast.Subscript(call, ast.Constant(0), ast.Load())
        return [*parts, *self.before(names), ast.Return(value)]

    def conditional(self, node: ast.If) -> list[ast.stmt]:
        if _has([node], (ast.Break, ast.Continue), loops=False) or _has([node], (ast.Yield,)):
            return [node]
        names = _assigned([*node.body, *node.orelse])
        parts = []
        for what, body in (("true", node.body), ("false", node.orelse)):
            made = self.block(list(body))
            parts.append(self.function(what, names, [*made, _returned(names)]))
        call = self.call("branch", [
            self.test(node.test),
            self.bound(parts[0].name, names), self.bound(parts[1].name, names), _names(names),
            self.where(node),
        ])  # fmt: skip
        return [*parts, *self.before(names), _unpack(names, call), *self.after(names)]

    def repeated(self, node: ast.While) -> list[ast.stmt]:
        stops = (ast.Break, ast.Continue, ast.Return, ast.Yield)
        if node.orelse or _has(node.body, stops):
            return [node]
        names = _assigned(node.body)
        made = self.block(list(node.body))
        test = self.function("test", names, [ast.Return(self.test(node.test))])
        turn = self.function("turn", names, [*made, _returned(names)])
        call = self.call("loop", [
            _load(test.name), _load(turn.name),
            ast.Tuple([_load(n) for n in names], ast.Load()), _names(names), self.where(node),
        ])  # fmt: skip
        return [test, turn, *self.before(names), _unpack(names, call), *self.after(names)]

    def before(self, names: list[str]) -> list[ast.stmt]:
        """Names without a value get NOTHING."""
        out: list[ast.stmt] = []
        for name in names:
            handler = ast.ExceptHandler(
                ast.Name("NameError", ast.Load()), None, [_assign(name, self.mine("NOTHING"))]
            )
            out.append(ast.Try([ast.Expr(_load(name))], [handler], [], []))
        return out

    def after(self, names: list[str]) -> list[ast.stmt]:
        """Names that still have no value are taken away again."""
        out: list[ast.stmt] = []
        for name in names:
            same = ast.Compare(_load(name), [ast.Is()], [self.mine("NOTHING")])
            out.append(ast.If(same, [ast.Delete([ast.Name(name, ast.Del())])], []))
        return out

    def function(self, what: str, names: list[str], body: list[ast.stmt]) -> ast.FunctionDef:
        taken = ast.arguments([], [ast.arg(n) for n in names], None, [], [], None, [])
        made: Any = ast.FunctionDef(self.name(what), taken, body, [], None)
        made.type_params = []
        return made

    def bound(self, function: str, names: list[str]) -> ast.expr:
        inside = ast.Call(_load(function), [_load(n) for n in names], [])
        return ast.Lambda(ast.arguments([], [], None, [], [], None, []), inside)

    def mine(self, name: str) -> ast.expr:
        return ast.Attribute(_load(_MINE), name, ast.Load())

    def call(self, name: str, args: list[ast.expr]) -> ast.expr:
        return ast.Call(self.mine(name), args, [])

    def where(self, node: ast.stmt) -> ast.expr:
        return ast.Constant(f"{self.file}:{node.lineno}")

    def test(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.BoolOp):
            first, *others = map(self.test, node.values)
            empty = lambda: ast.arguments([], [], None, [], [], None, [])  # noqa: E731
            rest = [ast.Lambda(empty(), other) for other in others]
            return self.call("both" if isinstance(node.op, ast.And) else "either", [first, *rest])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self.call("inverted", [self.test(node.operand)])
        return node


def _load(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


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


def rewritten(fn: types.FunctionType) -> types.FunctionType | None:
    """A function with its control flow converted; None if there is nothing to convert.

    Args:
        fn: the function, whose source can be read.
    """
    try:
        lines, first = inspect.getsourcelines(fn)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return None
    node = tree.body[0]
    if not isinstance(node, ast.FunctionDef) or not _has(node.body, (ast.If, ast.While)):
        return None
    ast.increment_lineno(tree, first - 1)
    file = inspect.getsourcefile(fn) or "?"
    node.decorator_list = []
    node.body = _Rewriter(file).block(node.body)
    # Around it a function whose arguments are what it closes over.
    free = fn.__code__.co_freevars
    arguments = ast.arguments([], [ast.arg(n) for n in (*free, _MINE)], None, [], [], None, [])
    outer: Any = ast.FunctionDef("__pm_outer", arguments, [node, ast.Return(_load(node.name))], [])
    outer.type_params = []
    module = ast.fix_missing_locations(ast.Module([outer], []))
    space: dict[str, Any] = {}
    try:
        exec(compile(module, file, "exec"), fn.__globals__, space)
    except SyntaxError:
        return None
    cells = dict(zip(free, fn.__closure__ or (), strict=True))
    made = space["__pm_outer"](*[None] * len(free), sys.modules[__name__])
    inner: dict[str, Any] = {
        name: cells.get(name, cell)
        for name, cell in zip(made.__code__.co_freevars, made.__closure__ or (), strict=True)
    }
    closure = tuple(inner[name] for name in made.__code__.co_freevars)
    found = types.FunctionType(
        made.__code__, fn.__globals__, fn.__name__, fn.__defaults__, closure or None
    )
    found.__kwdefaults__ = fn.__kwdefaults__
    functools.update_wrapper(found, fn)
    found.__dict__[_MINE] = True
    return found


def learn(error: BaseException) -> bool:
    """Convert the function in which a trace asked for an unknown condition.

    Args:
        error: what ended the trace.

    Returns:
        Whether something was converted, so that the program may be traced anew.
    """
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    asked = [i for i, frame in enumerate(frames) if frame.f_code.co_name == "__bool__"]
    if not asked or not asked[-1]:
        return False
    frame = frames[asked[-1] - 1]
    code = frame.f_code
    if _converts(frame, code):
        return True
    error.add_note(
        "`if` and `while` over Tensors are converted in compiled functions, but this one is not: a "
        "`while` with `break`, `continue` or `return` in it, a condition outside of `if` and "
        "`while`, a lambda, a function inside of another one, or one that is decorated itself."
    )
    return False


def _converts(frame: types.FrameType, code: types.CodeType) -> bool:
    owner = frame.f_locals.get("self")
    for kind in type(owner).__mro__ if owner is not None else ():
        fn = vars(kind).get(code.co_name)
        if isinstance(fn, types.FunctionType) and fn.__code__ is code:
            if _MINE in fn.__dict__ or kind.__module__.startswith("paramesh."):
                return False
            made = rewritten(fn)
            if made is None:
                return False
            setattr(kind, code.co_name, made)
            return True
    fn = frame.f_globals.get(code.co_name)
    if isinstance(fn, types.FunctionType) and fn.__code__ is code and _MINE not in fn.__dict__:
        made = rewritten(fn)
        if made is not None:
            frame.f_globals[code.co_name] = made
            return True
    return False
