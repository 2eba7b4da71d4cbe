"""Raw values from arrays, numbers and lists: what a Tensor is made from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from paramesh._compat.jax import eval_context
from paramesh.array_types import Array, ArrayLike, HostArray
from paramesh.dtype import DType, float32, int64, to_dtype, x64
from paramesh.state import trace_scope
from paramesh.tensor.operators import Arithmetic
from paramesh.tensor.promotion import cast, scalar_kind


@runtime_checkable
class DLPackArray(Protocol):
    """An array of another library that others can take over."""

    def __dlpack__(self, **options: object) -> Any:
        """The capsule that holds it."""
        ...

    def __dlpack_device__(self) -> Any:
        """Where it lies."""
        ...


#: What a Tensor is made from.
TensorInput: TypeAlias = Arithmetic | ArrayLike | DLPackArray | Sequence[Any]


def as_value(data: TensorInput, dtype: DType | None = None) -> Array:
    """Data of any accepted kind as a raw value that shares no memory with it.

    Raises:
        TypeError: it is not an array of numbers.
    """
    if isinstance(data, Arithmetic):
        data = data._get()  # JAX's tree functions wrap numpy arrays and numbers in Tensors
    if isinstance(data, jax.Array):
        value = data
    elif hasattr(data, "__dlpack__") and not isinstance(data, np.ndarray):
        value = _from_dlpack(data)
    elif isinstance(data, list | tuple) and _has_traced(data):
        value = _stacked(data)
    else:
        array = _as_numpy(data)
        if dtype is not None and dtype.np_dtype != array.dtype:
            array = array.astype(dtype.np_dtype)
        # In a trace, data that is known stays known: it can be kept and used in another trace.
        known = nullcontext() if trace_scope.current() is None else eval_context()
        with known, x64(array):
            return jnp.array(array)
    return value if dtype is None else cast(value, dtype)


def _from_dlpack(data: Any) -> Array:
    """An array of another library (torch, cupy, tensorflow, …), copied.

    Raises:
        TypeError: it has elements that there are not here, or lies where JAX cannot see it.
    """
    if getattr(data, "requires_grad", False):
        data = data.detach()  # torch hands nothing out that it would differentiate
    kind = f"{type(data).__module__.partition('.')[0]}.{type(data).__name__}"
    try:
        with jax.enable_x64(True):
            value = jnp.array(jax.dlpack.from_dlpack(data), copy=True)
    # Each library has errors of its own.
    except Exception as error:
        raise TypeError(
            f"A {kind} cannot be taken over through DLPack ({error}). Give it as a numpy array, on "
            "the CPU."
        ) from error
    to_dtype(value.dtype)
    return value


_PYTHON_DTYPES = {
    "bool": np.dtype(np.bool_),
    "int": int64.np_dtype,
    "float": float32.np_dtype,
    "complex": np.dtype(np.complex128),
}


def _as_numpy(data: TensorInput) -> HostArray:
    if isinstance(data, np.ndarray | np.generic):
        array = np.asarray(data)
        if array.dtype.kind in "OSUVMm" and array.dtype.name != "bfloat16":
            raise TypeError(
                f"A Tensor holds numbers; an array of dtype {array.dtype} is not supported."
            )
        to_dtype(array.dtype)
        return array
    kind = scalar_kind(data)
    if kind is not None:
        return np.asarray(data, _PYTHON_DTYPES[kind])
    if isinstance(data, list | tuple):
        return _from_sequence(data)
    raise TypeError(
        "A Tensor is made from an array, a Tensor, a list or tuple of numbers, or a number; "
        f"got {type(data).__name__} ({data!r})."
    )


def _from_sequence(data: TensorInput) -> HostArray:
    plain = _plain(data)
    try:
        array = np.asarray(plain)
    except ValueError:
        raise TypeError(
            f"Rows of different lengths do not make a Tensor: {str(data)[:200]}"
        ) from None
    if array.size == 0 and array.dtype == np.float64:
        return array.astype(np.float32)
    if array.dtype.kind in "OSU":
        raise TypeError(f"A Tensor is made from numbers, got {str(data)[:200]}")
    kind = {"b": "bool", "i": "int", "u": "int", "f": "float", "c": "complex"}[array.dtype.kind]
    strong = _strong_dtype(data)
    return array.astype(strong if strong is not None else _PYTHON_DTYPES[kind])


def _has_traced(data: TensorInput) -> bool:
    """Whether a nested list has values that a program has yet to compute."""
    if isinstance(data, list | tuple):
        return any(_has_traced(item) for item in data)
    return isinstance(data._get() if isinstance(data, Arithmetic) else data, jax.core.Tracer)


def _stacked(data: Sequence[Any]) -> Array:
    """A nested list with values of a running program, as `_from_sequence` takes known ones."""
    rows = [as_value(item) for item in data]
    if len({row.shape for row in rows}) > 1:
        shapes = ", ".join(str(row.shape) for row in rows)
        raise TypeError(f"Rows of different lengths do not make a Tensor: {shapes}")
    strong = _strong_dtype(data)
    if strong is None:
        kind = np.result_type(*(row.dtype for row in rows)).kind
        strong = _PYTHON_DTYPES[{"b": "bool", "f": "float", "c": "complex"}.get(kind, "int")]
    with x64(strong):
        return jnp.stack([cast(row, to_dtype(strong)) for row in rows])


def _plain(data: TensorInput) -> Any:
    if isinstance(data, list | tuple):
        return [_plain(item) for item in data]
    if isinstance(data, Arithmetic | jax.Array):
        return np.asarray(data._get() if isinstance(data, Arithmetic) else data)
    return data


def _strong_dtype(data: TensorInput) -> np.dtype[Any] | None:
    """The common dtype of a list of arrays; None if any element is a plain python number."""
    found: set[np.dtype[Any]] = set()
    stack: list[Any] = [data]
    while stack:
        item = stack.pop()
        if isinstance(item, list | tuple):
            stack.extend(item)
        elif isinstance(item, Arithmetic):
            found.add(np.dtype(item._get().dtype))
        elif hasattr(item, "dtype"):
            found.add(np.dtype(item.dtype))
        else:
            return None
    return found.pop() if len(found) == 1 else None
