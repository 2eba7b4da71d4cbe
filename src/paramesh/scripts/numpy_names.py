"""Names and printed numbers that NumPy had when scripts were written, and has no more.

MindSpore 2.10 runs with NumPy 1, JAX with NumPy 2 alone. So under `paramesh run` NumPy has the
names that it lost on the way, as what they were, and the `repr` of its scalars is NumPy 1's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

_Array = np.ndarray[Any, Any]


def _in1d(
    ar1: ArrayLike, ar2: ArrayLike, assume_unique: bool = False, invert: bool = False
) -> _Array:
    return np.isin(np.ravel(ar1), ar2, assume_unique=assume_unique, invert=invert)


def _asfarray(a: ArrayLike, dtype: DTypeLike = np.float64) -> _Array:
    inexact = np.issubdtype(np.dtype(dtype), np.inexact)
    return np.asarray(a, dtype if inexact else np.float64)


#: {name: what it was}.
NAMES: dict[str, Any] = {
    **{kind.__name__: kind for kind in (int, float, complex, object, str)},
    "bool8": np.bool_,
    "float_": np.float64,
    "complex_": np.complex128,
    "cfloat": np.complex128,
    "singlecomplex": np.complex64,
    "longfloat": np.longdouble,
    "string_": np.bytes_,
    "unicode_": np.str_,
    **dict.fromkeys(("NaN", "NAN"), np.nan),
    **dict.fromkeys(("Inf", "Infinity", "infty", "PINF"), np.inf),
    "NINF": -np.inf,
    "PZERO": 0.0,
    "NZERO": -0.0,
    "product": np.prod,
    "cumproduct": np.cumprod,
    "alltrue": np.all,
    "sometrue": np.any,
    "round_": np.round,
    "row_stack": np.vstack,
    "mat": np.asmatrix,
    "trapz": np.trapezoid,
    "in1d": _in1d,
    "asfarray": _asfarray,
    "asscalar": lambda a: a.item(),
    "msort": lambda a: np.sort(a, axis=0),
}


def _named(value: object) -> str:
    return getattr(value, "__name__", str(value))


def restore(say: Callable[[str], object]) -> None:
    """Let NumPy have the names, in this process, and scalars the `repr` of NumPy 1.

    `{"accuracy": 0.75}`, which evaluation returns, would be printed as
    `{'accuracy': np.float64(0.75)}`.

    Args:
        say: called with a line when a script uses one for the first time.
    """
    getter = vars(np)["__getattr__"]
    said: set[str] = set()

    def get(name: str) -> Any:
        if name not in NAMES:
            return getter(name)
        if name not in said:
            said.add(name)
            say(
                f"numpy.{name}: NumPy {np.__version__} does not have it any more; the script gets "
                f"what it was: {_named(NAMES[name])}."
            )
        return NAMES[name]

    np.set_printoptions(legacy="1.25")
    # NumPy asks its own function for names that are not there, which is where it says what to use.
    np.__dict__["__getattr__"] = get
