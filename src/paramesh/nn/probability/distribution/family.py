"""`Family`: a distribution whose operations are formulas over raw arrays.

A class of a family has static methods `_raw_log_prob(x, *parameters)`, `_raw_mean(*parameters)`,
`_raw_kl_loss(*parameters_b, *parameters)`, `_raw_sample(key, shape, *parameters)` and so on. Which
parameters a call has is decided here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from paramesh import random
from paramesh.dtype import DType, DTypeLike, float_type, to_dtype
from paramesh.nn.probability import arguments
from paramesh.nn.probability.distribution.base import Distribution
from paramesh.tensor.base import Tensor, raw, wrap

_OF_VALUES = frozenset(
    "prob log_prob cdf log_cdf survival_function log_survival".split()  # noqa: SIM905
)


class Family(Distribution):
    """A distribution with named parameters and formulas.

    Args:
        values: its parameters in the order of `NAMES`; None: given in each call.
        seed: of samples.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError, ValueError: as `Distribution`; another dtype, or a parameter outside of its
            range.
    """

    NAMES: ClassVar[tuple[str, ...]]
    #: Those of the parameters that are above 0.
    POSITIVE: ClassVar[frozenset[str]] = frozenset()
    DTYPES: ClassVar[tuple[DType, ...]] = float_type

    def __init__(
        self, values: tuple[Any, ...], seed: int | None, dtype: DTypeLike, name: str
    ) -> None:
        owner = type(self).__name__
        if to_dtype(dtype) not in self.DTYPES:
            allowed = ", ".join(map(str, self.DTYPES))
            raise TypeError(f"{owner}: dtype must be one of {allowed}, got {dtype}.")
        given = dict(zip(self.NAMES, values, strict=True))
        super().__init__(seed, dtype, name, {**given, "param_dict": given})
        for key, value in given.items():
            kept = self._add_parameter(value, key)
            setattr(self, f"_{key}_value", kept)
            if kept is not None:
                self._check_parameter(key, np.asarray(kept))
        if all(value is not None for value in values):
            self._check_parameters(*(np.asarray(x) for x in self.default_parameters))

    def _check_parameter(self, name: str, value: np.ndarray[Any, Any]) -> None:
        if name in self.POSITIVE and not (value > 0).all():
            raise ValueError(f"{type(self).__name__}: {name} must be above 0, got {value}.")

    def _check_parameters(self, *values: np.ndarray[Any, Any]) -> None:
        """Raise ValueError if the parameters do not fit together."""

    def _get_dist_type(self) -> str:
        return type(self).__name__

    def _get_dist_args(self, *args: object, **kwargs: object) -> tuple[Tensor | None, ...]:
        given = self._named(self.NAMES, args, kwargs)
        for name, value in given.items():
            if value is not None:
                arguments.check_tensor(self.name, name, value)
        return tuple(
            default if given[name] is None else given[name]
            for name, default in zip(self.NAMES, self.default_parameters, strict=True)
        )

    def _named(
        self, names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """The arguments by name, None where not given."""
        if len(args) > len(names) or not set(kwargs) <= set(names[len(args) :]):
            raise TypeError(
                f"{self.name}: expected at most the arguments {', '.join(names)}, got {len(args)} "
                f"and by name {', '.join(kwargs) or 'none'}."
            )
        return dict.fromkeys(names) | dict(zip(names, args, strict=False)) | kwargs

    def _raw_parameters(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        found = self._get_dist_args(*args, **kwargs)
        missing = [n for n, x in zip(self.NAMES, found, strict=True) if x is None]
        if missing:
            raise TypeError(
                f"{self.name}: {', '.join(missing)} was given neither to the distribution nor in "
                "this call."
            )
        arrays = [raw(x).astype(self.parameter_type.np_dtype) for x in found]
        return self._together(arrays)

    def _together(self, arrays: list[Any]) -> list[Any]:
        return list(jnp.broadcast_arrays(*arrays))

    def _way(self, operation: str) -> Callable[..., Any] | None:
        formula = getattr(type(self), f"_raw_{operation}", None)
        if operation == "cross_entropy" and hasattr(type(self), "_raw_kl_loss"):
            return self._cross
        if formula is None:
            return super()._way(operation)
        if operation in _OF_VALUES:
            return functools.partial(self._at, formula)
        if operation == "kl_loss":
            return functools.partial(self._divergence, formula)
        if operation == "sample":
            return functools.partial(self._drawn, formula)
        return lambda *args, **kwargs: wrap(formula(*self._raw_parameters(args, kwargs)))

    def _at(
        self, formula: Callable[..., Any], value: Tensor, *args: object, **kwargs: object
    ) -> Tensor:
        x = raw(self._check_value(value, "value")).astype(self.parameter_type.np_dtype)
        return wrap(formula(x, *self._raw_parameters(args, kwargs)))

    def _divergence(
        self, formula: Callable[..., Any], dist: str, *args: object, **kwargs: object
    ) -> Tensor:
        if dist != self.get_dist_type():
            raise ValueError(
                f"{self.name}: the other distribution must be '{self.get_dist_type()}', got "
                f"{dist!r}."
            )
        others = tuple(f"{name}_b" for name in self.NAMES)
        given = self._named((*others, *self.NAMES), args, kwargs)
        for name in others:
            arguments.check_tensor(self.name, name, given[name])
        dtype = self.parameter_type.np_dtype
        other = self._together([raw(given[name]).astype(dtype) for name in others])
        own = self._raw_parameters((), {name: given[name] for name in self.NAMES})
        return wrap(formula(*other, *own))

    def _cross(self, dist: str, *args: object, **kwargs: object) -> Tensor:
        count = len(self.NAMES)
        own = {k: v for k, v in kwargs.items() if k in self.NAMES}
        return self.entropy(*args[count:], **own) + self.kl_loss(dist, *args, **kwargs)

    def _drawn(
        self, formula: Callable[..., Any], shape: object = (), *args: object, **kwargs: object
    ) -> Tensor:
        if not isinstance(shape, tuple) or not all(isinstance(n, int) for n in shape):
            raise TypeError(f"{self.name}: shape must be a tuple of ints, got {shape!r}.")
        key = random.next_key()
        if self.seed:
            key = jax.random.fold_in(key, np.uint32(self.seed & 0xFFFFFFFF))
        drawn = formula(key, shape, *self._raw_parameters(args, kwargs))
        return wrap(drawn).astype(self.dtype)
