"""Errors of operators: which argument is wrong, what was expected, and what all of them were.

Nothing here runs before an operator has failed. Then its arguments are held against the annotations
of its computation, so that a `None` or a string in the place of an axis is named, rather than what
JAX or python did not find in it. Annotations are read mildly: what python can take for an int is an
int, and what is annotated in another way always fits.
"""

from __future__ import annotations

import inspect
import operator
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import jax
import numpy as np

from paramesh.dtype import to_dtype
from paramesh.errors import BroadcastError, ValueNeededError, broadcast_error
from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor
from paramesh.tensor.method_errors import shown

#: For each argument that the table converts: the conversion, and what it takes; "" where the error
#: of the conversion says it.
Conversions = Mapping[str, tuple[Callable[[Any], Any], str]]

#: Exceptions of python's that say nothing of the argument that led to them.
BARE = (AttributeError, KeyError, NameError, OverflowError)

#: What python says of a shape with fewer or more axes than are taken from it.
_UNPACKED = re.compile(
    r"tuple index out of range"
    r"|(?:not enough|too many) values to unpack \(expected (.*?)(?:, got \d+)?\)"
)

_UNIONS = (types.UnionType, get_origin(Literal["a"] | None))
_ARRAYS = (Tensor, jax.Array, np.ndarray)
_AXES = ("axis", "dim")


def bind(
    name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> inspect.BoundArguments:
    """The arguments of a call by the names of a function.

    Raises:
        TypeError: the function does not take them; its parameters are shown.
    """
    signature = inspect.signature(fn)
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}{signature_text(fn)}: {error}.") from None


def signature_text(fn: Callable[..., Any]) -> str:
    """The parameters of a function with their defaults, without annotations."""
    signature = inspect.signature(fn)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(bare))


def explained(
    error: Exception,
    name: str,
    given: Mapping[str, Any],
    compute: Callable[..., Any],
    conversions: Conversions,
) -> Exception:
    """An error of an operator's computation, for whoever called the operator.

    Args:
        error: it.
        name: the form of the operator that was called.
        given: the arguments by name.
        compute: the computation.
        conversions: of the arguments that the table converts.

    Returns:
        A TypeError that names the first argument that does not fit, if there is one and the error
        does not name it; a ValueError for an axis that is none; otherwise the error's own text.
    """
    arguments = ", ".join(f"{key}={shown(value)}" for key, value in given.items())
    kind, text = type(error), str(error)
    found = None if kind is ZeroDivisionError else _misfit(given, compute, conversions)
    if found is not None:
        which, reason = found
        # A name of one letter is a word of the language too.
        mark = rf"\b{which}\b" if len(which) > 1 else rf"\b{which} must"
        if kind in BARE or not re.search(mark, text):
            kind, text = TypeError, reason
    elif kind in (IndexError, ValueError) and _UNPACKED.match(text):
        kind, text = ValueError, _axis_outside(given, conversions) or _too_few(text)
    if found is None and broadcast_error(error) is not None:
        kind = BroadcastError
    if kind in BARE:
        kind = OverflowError if kind is OverflowError else TypeError
    return kind(f"ops.{name}: {text}\nIt was given {arguments}.")


def needing_values(error: Exception, name: str, given: Mapping[str, Any]) -> ValueNeededError:
    """The error of an operator that needs values which a program has yet to compute."""
    if type(error) is ValueNeededError:
        text = str(error)
        if text.startswith("ops."):  # of an operator that this one uses
            return error
    else:
        text = "the operator needs values of a Tensor that a compiled program has yet to compute."
    arguments = ", ".join(f"{key}={shown(value)}" for key, value in given.items())
    return ValueNeededError(f"ops.{name}: {text}\nIt was given {arguments}.")


# Arguments and annotations.


def _misfit(
    given: Mapping[str, Any], compute: Callable[..., Any], conversions: Conversions
) -> tuple[str, str] | None:
    """The first argument that does not fit, and a sentence about it."""
    for name, parameter in _annotated(compute).items():
        if name not in given:
            continue
        many = parameter.kind is parameter.VAR_POSITIONAL
        for value in given[name] if many else (given[name],):
            expected = _expected(value, parameter, conversions.get(name))
            if expected is not None:
                kind = "" if value is None else f" ({type(value).__name__})"
                return name, f"{name} must be {expected}, got {shown(value)}{kind}."
    return None


def _annotated(compute: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(compute, eval_str=True).parameters
    except NameError:  # annotations of type checkers alone
        return inspect.signature(compute).parameters


def _expected(
    value: object,
    parameter: inspect.Parameter,
    conversion: tuple[Callable[[Any], Any], str] | None,
) -> str | None:
    """What was expected in the place of a value; None if it fits."""
    if value is None and parameter.default is None:
        return None
    if conversion is None:
        hint = parameter.annotation
        return None if _fits(value, hint) else _words(hint)
    convert, words = conversion
    if value is not None:
        try:
            convert(value)
        except (TypeError, ValueError, OverflowError):
            # Of another library's array the conversion says what is wrong with it.
            told = hasattr(value, "__dlpack__") and not isinstance(value, _ARRAYS)
            return None if told else words or None
        return None
    return words or None


def _fits(value: object, hint: object) -> bool:
    kinds = [*_alternatives(hint)]
    return any(_is_one(value, kind) for kind in kinds)


def _alternatives(hint: object) -> Iterator[Any]:
    if get_origin(hint) in _UNIONS:
        for each in get_args(hint):
            yield from _alternatives(each)
    else:
        yield hint


def _is_one(value: object, hint: object) -> bool:
    """Whether a value may be given for one annotation."""
    if hint is None or hint is type(None):
        return value is None
    if hint is int or hint is bool:
        return _is_int(value)
    if hint is float or hint is complex:
        return hasattr(value, "__float__") or hasattr(value, "__complex__")
    if hint is str:
        return isinstance(value, str)
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) in (Sequence, tuple):
        if hasattr(value, "tolist"):
            return True
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            return False
        return all(_fits(item, get_args(hint)[0]) for item in value)
    if isinstance(hint, type) and issubclass(hint, _ARRAYS):
        return isinstance(value, _ARRAYS if hint is not Parameter else Parameter)
    return True


def _is_int(value: object) -> bool:
    if isinstance(value, np.bool_):
        return True
    try:
        operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        # Of a Tensor in a program the value is not known, and its own error says so.
        return isinstance(value, _ARRAYS) and to_dtype(value.dtype).kind in ("int", "uint")
    return True


def _words(hint: object) -> str:
    """An annotation in words."""
    words: list[str] = []
    for kind in _alternatives(hint):
        text = _word(kind)
        if text not in words:
            words.append(text)
    return ", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else words[0]


def _many(kind: object) -> str:
    """The plural of an annotation in words."""
    alone = _words(kind).replace("a tuple", "tuples")
    plurals = {"an int": "ints", "a number": "numbers", "a bool": "bools", "a Tensor": "Tensors"}
    for one, several in plurals.items():
        alone = alone.replace(one, several)
    return alone


def _word(kind: object) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, get_args(kind)))
    if get_origin(kind) in (Sequence, tuple):
        return f"a tuple of {_many(get_args(kind)[0])}"
    if isinstance(kind, type) and issubclass(kind, _ARRAYS):
        return "a Parameter" if kind is Parameter else "a Tensor"
    known: dict[object, str] = {
        int: "an int",
        bool: "a bool",
        float: "a number",
        complex: "a number",
        str: "a string",
    }
    return known.get(kind, "None" if kind in (None, type(None)) else str(kind))


def _too_few(text: str) -> str:
    found = _UNPACKED.match(text)
    count = found and found[1]
    if count is None:
        return "an argument has fewer axes than the operator needs."
    return f"an argument has another number of axes than the operator needs, which is {count}."


def _axis_outside(given: Mapping[str, Any], conversions: Conversions) -> str | None:
    """A sentence about an axis that the first array does not have."""
    arrays = [given[name] for name in conversions if hasattr(given.get(name), "shape")]
    arrays += [given[name] for name in conversions if isinstance(given.get(name), int | float)]
    for name in _AXES:
        axis = given.get(name)
        if arrays and isinstance(axis, int):
            ndim = np.ndim(arrays[0])
            if not -ndim <= axis < ndim:
                there = f"expected {-ndim} to {ndim - 1}" if ndim else "there is none"
                return f"{name} {axis} is outside the {ndim} axes: {there}."
    return None
