"""`if`, `while` and `a[i]` over Tensors in a compiled function, converted to `cond` and the like.

MindSpore's graph mode converts python's control flow where its condition is a Tensor. Here programs
are traced, and a condition that is known is python's own affair. Where one is not known, the trace
ends with an error: then the function that asked is rewritten, once, and the program is traced anew.

`control_flow_source` says what is rewritten. A branch or body may assign names, and write
Parameters; a name that is read afterwards has to have a value of one shape and element type in both
branches, or before and after a turn.

Every condition is looked at when it is reached: where it is known, python's branch runs, as before.
"""

from __future__ import annotations

import functools
import gc
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from paramesh.array_types import Tree
from paramesh.dtype import DType, x64
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.transforms.branch_effects import ControlFlowError, refused
from paramesh.transforms.control_flow import cond, switch, while_loop
from paramesh.transforms.control_flow_source import rewritten


class _Nothing:
    """A name that has no value yet."""

    def __repr__(self) -> str:
        return "no value"


NOTHING = _Nothing()


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


def chained(first: Tree, *rest: Callable[..., Any]) -> Any:
    """`first < second < third`, of comparisons and functions of the values after the first."""
    found: Tree = True
    for compare, following in zip(rest[::2], rest[1::2], strict=True):
        second = following()
        part = compare(first, second)
        found = both(found, lambda part=part: part)
        if not unknown(found) and not found:
            break
        first = second
    return found


def choice(
    test: Tree, when_true: Callable[[], Any], when_false: Callable[[], Any], where: str
) -> Any:
    """`when_true() if test else when_false()`."""
    return branch(test, lambda: (when_true(),), lambda: (when_false(),), [""], where)[0]


def surely(value: object) -> bool:
    """Whether a condition is known to be true."""
    return not unknown(value) and bool(value)


def inverted(value: object) -> Any:
    """`not value`."""
    return wrap(jnp.logical_not(raw(value))) if unknown(value) else not value


class _Picked:
    """One of several functions, which an index that a program has yet to compute says.

    Args:
        functions: Cells and functions.
        index: from -n to n - 1.
    """

    def __init__(self, functions: Sequence[Callable[..., Any]], index: Tree) -> None:
        self._functions, self._index = tuple(functions), index

    def __call__(self, *args: Tree, **kwargs: Tree) -> Any:
        branches = [functools.partial(fn, *args, **kwargs) for fn in self._functions]
        return switch(self._index, branches)


def picked(values: Tree, index: Tree) -> Any:
    """`values[index]`: with an index not known one of several functions, or of several Tensors."""
    if not unknown(index) or isinstance(values, Tensor | jax.Array | dict):
        return values[index]
    try:
        several = list(values)
    except TypeError:
        return values[index]
    number = jnp.asarray(raw(index)).reshape(())
    if not jnp.issubdtype(number.dtype, jnp.integer) or not several:
        return values[index]
    number = wrap(jnp.where(number < 0, number + len(several), number))
    if all(map(_array, several)):
        return switch(number, [functools.partial(lambda each: each, each) for each in several])
    if all(map(callable, several)):
        return _Picked(several, number)
    return values[index]


def _bool(first: Tree, second: Tree, fn: Callable[..., Any]) -> Any:
    """`and` and `or`: one of the two values where they are alike, as in python, else a Bool."""
    a, b = (jnp.asarray(raw(v), jnp.bool_).reshape(()) for v in (first, second))
    one, other = raw(first), raw(second)
    if not _array(second) or one.shape != other.shape or one.dtype != other.dtype:
        return wrap(fn(a, b))
    with x64(one):
        return wrap(jnp.where(a, other, one) if fn is jnp.logical_and else jnp.where(a, one, other))


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
            try:
                with refused(fn, "if", where):
                    found = list(fn())
            except TypeError as error:
                inside.append(error)
                raise
            kept.append(found)
            return [value for value in found if _number(value)]

        return run

    inside: list[TypeError] = []
    try:
        out = iter(cond(test, values_of(when_true), values_of(when_false)))
    except TypeError as error:
        if error in inside:  # of a branch itself, not of the two together
            raise
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


def _unchanged(before: object, after: object) -> bool:
    plain = isinstance(before, str | bytes | DType) and type(before) is type(after)
    return before is after or (plain and before == after)


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
        after = watched(lambda: body(*whole(state)))
        for i, before in enumerate(fixed):
            if i not in carried and before is not NOTHING and not _unchanged(before, after[i]):
                error = ControlFlowError(
                    f"{where}: this `while` depends on a Tensor and is converted to "
                    f"`ops.while_loop`, which hands on Tensors and numbers, and tuples and lists "
                    f"of them. A turn assigns a {type(after[i]).__name__} to '{names[i]}', which "
                    f"was a {type(before).__name__}: assign its Tensors to names of their own."
                )
                inside.append(error)
                raise error
        return [after[i] for i in carried]

    def watched(fn: Callable[[], Any]) -> Any:
        try:
            with refused(fn, "while", where):
                return fn()
        except TypeError as error:
            inside.append(error)
            raise

    inside: list[TypeError] = []
    begin = [values[i] if _array(values[i]) else wrap(jnp.asarray(values[i])) for i in carried]
    try:
        out = while_loop(lambda state: watched(lambda: test(*whole(state))), turn, begin)
    except TypeError as error:
        if error in inside:  # of a turn itself, not of two turns together
            raise
        shown = ", ".join(f"'{names[i]}'" for i in carried)
        raise ControlFlowError(
            f"{where}: this `while` depends on a Tensor and is converted to `ops.while_loop`, for "
            f"which {shown} must keep shape and element type from turn to turn. {error}"
        ) from error
    full = [NOTHING if value is NOTHING else value for value in fixed]
    for i, value in zip(carried, out, strict=True):
        full[i] = value
    return tuple(full)


# Learning.

#: {(code, file): the code of the same function, rewritten}.
_made: dict[tuple[types.CodeType, str], types.CodeType | None] = {}
#: Codes that are the result.
_results: set[types.CodeType] = set()


#: What python asks a Tensor for a condition, and for an index of a tuple or list.
_ASKING = frozenset({"__bool__", "__index__"})


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
    asked = [i for i, frame in enumerate(frames) if frame.f_code.co_name in _ASKING]
    if not asked or not asked[-1]:
        return False
    asking = asked[-1] - 1
    if frames[asked[-1]].f_code.co_name == "__index__":  # of a CellList, which asks by itself
        while asking and frames[asking].f_code.co_filename.endswith("containers.py"):
            asking -= 1
    if _converts(frames[asking], frames):
        return True
    error.add_note(
        "`if` and `while` over Tensors are converted in compiled functions, but this one is not: a "
        "loop with `return` or `else` in it, a function without source, or a bool() that is no "
        "part of `if`, `while`, `and`, `or` or `not`."
    )
    return False


def _converts(frame: types.FrameType, frames: Sequence[types.FrameType]) -> bool:
    """Whether the functions that run a frame's code have other code now."""
    code = frame.f_code
    if code in _results or frame.f_globals.get("__name__", "").startswith("paramesh."):
        return False
    functions = _functions_of(code) or _functions_near(code, frames)
    place = (code, code.co_filename)
    if place not in _made and functions:
        made = _made[place] = rewritten(functions[0])
        if made is not None:
            _results.add(made)
    made = _made.get(place)
    if made is None:
        return False
    for fn in functions:
        fn.__code__ = made
    # A function that is made anew in each trace, by a function that calls it, has its code there.
    for outer in dict.fromkeys(each.f_code for each in frames):
        swapped = _swapped(outer, code, made)
        if swapped is not outer:
            for fn in _functions_of(outer) or _functions_near(outer, frames):
                fn.__code__ = swapped
    return True


def _functions_of(code: types.CodeType) -> list[types.FunctionType]:
    found = gc.get_referrers(code)
    return [fn for fn in found if isinstance(fn, types.FunctionType) and fn.__code__ is code]


def _functions_near(
    code: types.CodeType, frames: Sequence[types.FrameType]
) -> list[types.FunctionType]:
    """The functions of a code among what frames know, and the methods of it.

    The collector does not see objects that `gc.freeze` has put away.
    """
    found: dict[int, types.FunctionType] = {}
    for frame in frames:
        values = list(frame.f_locals.values())
        if frame.f_code is code:
            values += frame.f_globals.values()
        for value in values:
            classes = value.__mro__ if isinstance(value, type) else type(value).__mro__
            members = [member for each in classes for member in vars(each).values()]
            for one in (value, *members):
                for fn in _inside(one):
                    if isinstance(fn, types.FunctionType) and fn.__code__ is code:
                        found[id(fn)] = fn
    return list(found.values())


def _inside(value: object) -> Iterator[object]:
    """It, and the functions that it is made of."""
    yield value
    if isinstance(value, types.MethodType | classmethod | staticmethod):
        yield value.__func__
    held = getattr(value, "__dict__", None)
    if isinstance(held, dict):
        yield from (held[name] for name in ("__wrapped__", "fn") if name in held)


def _swapped(outer: types.CodeType, old: types.CodeType, new: types.CodeType) -> types.CodeType:
    """A code with another one in the place of one that it makes functions of; or itself."""
    consts = tuple(
        new if const is old else _swapped(const, old, new)
        if isinstance(const, types.CodeType) else const
        for const in outer.co_consts
    )  # fmt: skip
    same = all(a is b for a, b in zip(consts, outer.co_consts, strict=True))
    return outer if same else outer.replace(co_consts=consts)
