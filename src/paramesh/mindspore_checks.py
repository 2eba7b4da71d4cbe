"""MindSpore's checks of arguments (`_checkparam`), which scripts import though they are its inside.

Each gives the value back, or raises what MindSpore raises: TypeError for another type, ValueError
for another value.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import re
from collections.abc import Callable, Iterable
from typing import Any

EQ, NE, LT, LE, GT, GE = 1, 2, 3, 4, 5, 6
INC_NEITHER, INC_LEFT, INC_RIGHT, INC_BOTH = 7, 8, 9, 10
IN, NOT_IN = 11, 12

_COMPARED: dict[int, tuple[str, Callable[[Any, Any], bool]]] = {
    EQ: ("==", operator.eq),
    NE: ("!=", operator.ne),
    LT: ("<", operator.lt),
    LE: ("<=", operator.le),
    GT: (">", operator.gt),
    GE: (">=", operator.ge),
    IN: ("in", lambda a, b: a in b),
    NOT_IN: ("not in", lambda a, b: a not in b),
}
_RANGES: dict[int, tuple[str, bool, bool]] = {
    INC_NEITHER: ("({}, {})", False, False),
    INC_LEFT: ("[{}, {})", True, False),
    INC_RIGHT: ("({}, {}]", False, True),
    INC_BOTH: ("[{}, {}]", True, True),
}


class Rel:
    """The relations by MindSpore 1.x's names."""

    EQ, NE, LT, LE, GT, GE = EQ, NE, LT, LE, GT, GE
    INC_NEITHER, INC_LEFT, INC_RIGHT, INC_BOTH = INC_NEITHER, INC_LEFT, INC_RIGHT, INC_BOTH
    IN, NOT_IN = IN, NOT_IN


def _who(name: str | None, prim: str | None) -> str:
    return f"For '{prim}', the '{name or 'input'}'" if prim else f"The '{name or 'input'}'"


def check(
    arg_name: str | None,
    arg_value: object,
    value_name: str,
    value: Any,
    rel: int = EQ,
    prim_name: str | None = None,
    excp_cls: type[Exception] = ValueError,
) -> Any:
    """The value, if it is so related to another one."""
    sign, holds = _COMPARED[rel]
    if not holds(arg_value, value):
        raise excp_cls(
            f"{_who(arg_name, prim_name)} should be {sign} '{value_name}', but got "
            f"'{arg_value}' and {value_name} is {value}."
        )
    return arg_value


def check_number(
    arg_value: Any, value: Any, rel: int, kind: type, arg_name: str | None = None,
    prim_name: str | None = None,
) -> Any:  # fmt: skip
    """The value, if it is a number of a kind, so related to another one."""
    wrong = isinstance(arg_value, bool) or not isinstance(arg_value, (int, float))
    if wrong or (kind is int and not isinstance(arg_value, int)):
        raise TypeError(
            f"{_who(arg_name, prim_name)} must be {kind.__name__}, but got '{arg_value}' with type "
            f"'{type(arg_value).__name__}'."
        )
    if kind is float and (math.isinf(arg_value) or math.isnan(arg_value)):
        raise ValueError(f"{_who(arg_name, prim_name)} must be finite, but got {arg_value}.")
    sign, holds = _COMPARED[rel]
    if not holds(arg_value, value):
        raise ValueError(
            f"{_who(arg_name, prim_name)} must be {kind.__name__} and must {sign} {value}, but got "
            f"'{arg_value}' with type '{type(arg_value).__name__}'."
        )
    return arg_value


def check_is_number(
    arg_value: Any, arg_type: type, arg_name: str | None = None, prim_name: str | None = None
) -> Any:
    """The value, if it is an int, or a float that is finite."""
    if isinstance(arg_value, bool) or not isinstance(arg_value, arg_type):
        raise TypeError(
            f"{_who(arg_name, prim_name)} must be a {arg_type.__name__}, but got "
            f"{type(arg_value).__name__}."
        )
    if arg_type is float and not math.isfinite(arg_value):
        raise ValueError(f"{_who(arg_name, prim_name)} must be finite, but got {arg_value}.")
    return arg_value


def _check_range(
    arg_value: object,
    lower: Any,
    upper: Any,
    rel: int,
    kind: type,
    name: str | None,
    prim: str | None,
) -> Any:
    check_number(arg_value, arg_value, EQ, kind, name, prim)
    shown, with_lower, with_upper = _RANGES[rel]
    above = arg_value >= lower if with_lower else arg_value > lower
    below = arg_value <= upper if with_upper else arg_value < upper
    if not (above and below):
        raise ValueError(
            f"{_who(name, prim)} must be in range of {shown.format(lower, upper)}, but got "
            f"{arg_value} with type '{type(arg_value).__name__}'."
        )
    return arg_value


def check_int_range(
    arg_value: object, lower_limit: int, upper_limit: int, rel: int, arg_name: str | None = None,
    prim_name: str | None = None,
) -> int:  # fmt: skip
    """The value, if it is an int in a range; `rel` says which ends belong to it."""
    return _check_range(arg_value, lower_limit, upper_limit, rel, int, arg_name, prim_name)


def check_float_range(
    arg_value: object, lower_limit: float, upper_limit: float, rel: int,
    arg_name: str | None = None,
    prim_name: str | None = None,
) -> float:  # fmt: skip
    """The value, if it is a number in a range; `rel` says which ends belong to it."""
    return _check_range(arg_value, lower_limit, upper_limit, rel, float, arg_name, prim_name)


def _against(rel: int, value: float, kind: type, doc: str) -> Callable[..., Any]:
    def checked(
        arg_value: object, arg_name: str | None = None, prim_name: str | None = None
    ) -> Any:
        return check_number(arg_value, value, rel, kind, arg_name, prim_name)

    checked.__doc__ = doc
    return checked


check_positive_int = _against(GT, 0, int, "The value, if it is an int above 0.")
check_negative_int = _against(LT, 0, int, "The value, if it is an int below 0.")
check_non_negative_int = _against(GE, 0, int, "The value, if it is an int from 0.")
check_non_positive_int = _against(LE, 0, int, "The value, if it is an int up to 0.")
check_positive_float = _against(GT, 0.0, float, "The value, if it is a number above 0.")
check_non_negative_float = _against(GE, 0.0, float, "The value, if it is a number from 0.")


def check_int(
    arg_value: object,
    value: int,
    rel: int,
    arg_name: str | None = None,
    prim_name: str | None = None,
) -> int:
    """The value, if it is an int so related to another one."""
    return check_number(arg_value, value, rel, int, arg_name, prim_name)


def check_float(
    arg_value: object,
    value: float,
    rel: int,
    arg_name: str | None = None,
    prim_name: str | None = None,
) -> float:
    """The value, if it is a number so related to another one."""
    return check_number(arg_value, value, rel, float, arg_name, prim_name)


def check_is_int(
    arg_value: object, arg_name: str | None = None, prim_name: str | None = None
) -> int:
    """The value, if it is an int."""
    return check_is_number(arg_value, int, arg_name, prim_name)


def check_is_float(
    arg_value: object, arg_name: str | None = None, prim_name: str | None = None
) -> float:
    """The value, if it is a finite float."""
    return check_is_number(arg_value, float, arg_name, prim_name)


def check_bool(
    arg_value: object, arg_name: str | None = None, prim_name: str | None = None
) -> bool:
    """The value, if it is a bool."""
    if not isinstance(arg_value, bool):
        raise TypeError(
            f"{_who(arg_name, prim_name)} must be a bool, but got {type(arg_value).__name__}."
        )
    return arg_value


def check_string(
    arg_value: object, valid_values: Iterable[str], arg_name: str | None = None,
    prim_name: str | None = None,
) -> str:  # fmt: skip
    """The value, if it is one of these texts."""
    valid = list(valid_values)
    if not isinstance(arg_value, str) or arg_value not in valid:
        raise ValueError(
            f"{_who(arg_name, prim_name)} must be one of {valid}, but got '{arg_value}' with type "
            f"'{type(arg_value).__name__}'."
        )
    return arg_value


def _types(valid: Any) -> tuple[type, ...]:
    return tuple(valid) if isinstance(valid, Iterable) else (valid,)


def check_value_type(
    arg_name: str, arg_value: object, valid_types: Any, prim_name: str | None = None
) -> Any:
    """The value, if it is of one of these types; a bool is an int only where bool is among them."""
    kinds = _types(valid_types)
    strange = isinstance(arg_value, bool) and bool not in kinds
    if strange or not isinstance(arg_value, kinds):
        names = ", ".join(kind.__name__ for kind in kinds)
        what = f"'{names}'" if len(kinds) == 1 else f"one of '{names}'"
        who = f"For '{prim_name}', the" if prim_name else "The"
        raise TypeError(
            f"{who} type of '{arg_name}' should be {what}, but got type "
            f"'{type(arg_value).__name__}'."
        )
    return arg_value


def check_subclass(
    arg_name: str, type_: Any, template_types: Any, prim_name: str, addition_error_info: Any = None
) -> None:
    """Raise if a type is no subclass of these, nor one of these DTypes."""
    kinds = _types(template_types)
    for kind in kinds:
        if type_ is kind or type_ == kind:
            return
        if isinstance(type_, type) and isinstance(kind, type) and issubclass(type_, kind):
            return
    raise TypeError(
        f"For '{prim_name}', the type of '{arg_name}' should be one of {list(kinds)}, but got "
        f"{type_}. {addition_error_info or ''}".rstrip()
    )


def check_type_name(arg_name: str, arg_type: Any, valid_types: Any, prim_name: str | None) -> Any:
    """The type, if it is one of these."""
    valid = list(_types(valid_types))
    if arg_type not in valid:
        raise TypeError(
            f"{_who(arg_name, prim_name)} should be one of {valid}, but got {arg_type}."
        )
    return arg_type


def check_str_by_regular(
    target: str, reg: str | None = None, flag: int = re.ASCII, prim_name: str | None = None
) -> bool:
    """True, if a text begins with a match of the expression; without one, if it is a plain name.

    A plain name is of letters, digits, `_` and `.`, and does not begin with a dot.
    """
    wanted = r"\w[\w.]*$" if reg is None else reg
    if re.match(wanted, target, flag) is None:
        raise ValueError(f"{_who(None, prim_name)} must match '{wanted}', but got '{target}'.")
    return True


def twice(x: int | tuple[int, int]) -> tuple[int, int]:
    """A pair: itself, or an int two times."""
    if isinstance(x, int):
        return x, x
    if isinstance(x, tuple) and len(x) == 2 and all(isinstance(i, int) for i in x):
        return x
    raise TypeError(f"The argument must be an int, or a tuple of two ints, but got {x!r}.")


def args_type_check(*type_args: object, **type_kwargs: object) -> Callable[..., Any]:
    """A decorator: arguments of these names have to be None, or of these types."""

    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(func)
        kinds = signature.bind_partial(*type_args, **type_kwargs).arguments

        @functools.wraps(func)
        def call(*args: object, **kwargs: object) -> Any:
            for name, value in signature.bind(*args, **kwargs).arguments.items():
                if value is not None and name in kinds and not isinstance(value, kinds[name]):
                    raise TypeError(
                        f"The parameter '{name}' of {func.__name__} must be {kinds[name]}, but got "
                        f"{type(value)}."
                    )
            return func(*args, **kwargs)

        return call

    return decorate


#: Bounds that scripts take from the checks of datasets.
UINT8_MAX, UINT32_MAX = 2**8 - 1, 2**32 - 1
INT32_MIN, INT32_MAX, INT64_MIN, INT64_MAX = -(2**31), 2**31 - 1, -(2**63), 2**63 - 1


class Validator:
    """The checks as static methods, as MindSpore 1.x has them."""


for _name, _check in list(globals().items()):
    if _name.startswith("check") and callable(_check):
        setattr(Validator, _name, staticmethod(_check))

__all__ = [
    name for name in list(globals())
    if name.startswith("check") or (name.isupper() and not name.startswith("_"))
]  # fmt: skip
__all__ += ["Rel", "Validator", "args_type_check", "twice"]
