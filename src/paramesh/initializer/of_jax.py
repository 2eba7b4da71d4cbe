"""JAX's initializers (`jax.nn.initializers`, or any function of a key, a shape and a dtype)."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from paramesh.dtype import DType, float32, x64_set
from paramesh.sampling.recipe import Initializer, Key


class JaxInitializer(Initializer):
    """The numbers of `fn(key, shape, dtype)`.

    The recipe keeps its key (seed, counter), and the function is called when the numbers are
    needed, with `jax.random.key(seed)` into which the counter is folded. It is computed whole on
    one device and then cut, so that the numbers are the same on any number of devices.

    JAX's fans are those of weights (in, out), unless `in_axis` and `out_axis` say otherwise; layers
    here have weights (out, in), so give `in_axis=-1, out_axis=-2` to those that have fans.

    Args:
        fn: from `jax.nn.initializers`, or another function of (key, shape, dtype).

    Raises:
        TypeError: `fn` is not callable.
    """

    fn: Callable[..., Any]

    def __init__(self, fn: Callable[..., Any]) -> None:
        if not callable(fn) or isinstance(fn, type):
            raise TypeError(
                "JaxInitializer(fn): expected a function of (key, shape, dtype), such as "
                f"jax.nn.initializers.normal(0.02), got {fn!r}."
            )
        super().__init__(fn=fn)

    def check(self, shape: tuple[int, ...]) -> None:
        """The function gives an array of the shape."""
        try:
            made = jax.eval_shape(lambda key: self.fn(key, shape, np.float32), _key((0, 0)))
            wrong = None if made.shape == shape else f"it gives the shape {made.shape}"
        except Exception as error:
            wrong = str(error)
        if wrong is not None:
            raise ValueError(
                f"{self!r} makes no array of shape {shape}: {wrong.splitlines()[0]} Expected a "
                "function of (key, shape, dtype), such as jax.nn.initializers.normal(0.02)."
            )

    def whole(self, key: Key, shape: tuple[int, ...], dtype: DType) -> np.ndarray[Any, Any]:
        """All elements."""
        inexact = dtype.is_floating() or dtype.is_complex()
        with x64_set(dtype.itemsize >= 8):
            made = np.asarray(self.fn(_key(key), shape, (dtype if inexact else float32).np_dtype))
        return made.astype(dtype.np_dtype)

    def __reduce__(self) -> Any:
        try:
            pickle.dumps(self.fn)
        except Exception as error:
            raise pickle.PicklingError(
                f"{self!r} cannot be pickled, since its function is made inside another "
                f"({error}). Call init_data() before: what is pickled then are the numbers."
            ) from None
        return type(self), (self.fn,)

    def __deepcopy__(self, memo: dict[int, Any]) -> JaxInitializer:
        return self

    def __repr__(self) -> str:
        name = getattr(self.fn, "__qualname__", type(self.fn).__name__)
        return f"JaxInitializer({name.split('.<locals>')[0]})"


def _key(key: Key) -> Any:
    seed, counter = key
    made = jax.random.key(np.uint32(seed & 0xFFFFFFFF), impl="threefry2x32")
    for word in (seed >> 32, counter >> 32, counter & 0xFFFFFFFF):
        made = jax.random.fold_in(made, np.uint32(word))
    return made
