"""Methods of Tensor that draw numbers: into the Tensor itself, or a new one of its shape.

The numbers are those of the operators: from the default generator, others in every call.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Self

import jax.numpy as jnp

from paramesh.array_types import Array, Tree
from paramesh.dtype import to_dtype, x64
from paramesh.providers import providers
from paramesh.tensor.promotion import cast


class RandomMethods:
    """See the module."""

    __slots__ = ()
    _get: Callable[[], Tree]
    _put: Callable[[Array], None]
    _wrap: Callable[[Array], Tree]

    def _drawn(self, name: str, *, floating: bool = True) -> Array:
        """Numbers of the standard distribution of an operator, in the Tensor's shape."""
        value: Tree = self._get()
        dtype = to_dtype(value.dtype)
        if floating and not dtype.is_floating():
            raise TypeError(f"the Tensor must be of a floating type, got {dtype}.")
        draw = providers.operator(name)
        wide = "float64" if dtype.np_dtype.itemsize > 4 else "float32"
        return draw(self._wrap(value), dtype=to_dtype(wide))._get()

    def _written(self, value: Array) -> Self:
        self._put(cast(value, to_dtype(self._get().dtype)))
        return self

    def normal_(self, mean: float = 0, std: float = 1, *, generator: None = None) -> Self:
        """Write normal numbers into this Tensor, and give it.

        Raises:
            TypeError: another element type than a floating one, or a generator.
            ValueError: `std` is negative.
        """
        _refuse("normal_", generator)
        if std < 0:
            raise ValueError(f"Tensor.normal_: std must be at least 0, got {std}.")
        return self._written(_scaled(self._drawn("randn_like"), std, mean))

    def uniform_(self, from_: float = 0, to: float = 1, *, generator: None = None) -> Self:
        """Write numbers uniform in [from_, to) into this Tensor, and give it.

        Raises:
            TypeError: another element type than a floating one, or a generator.
            ValueError: `from_` is above `to`.
        """
        _refuse("uniform_", generator)
        return self._written(self._uniform("uniform_", from_, to))

    def uniform(self, from_: float = 0.0, to: float = 1.0, generator: None = None) -> Any:
        """A Tensor of this shape and element type, uniform in [from_, to).

        Raises:
            TypeError: another element type than a floating one, or a generator.
            ValueError: `from_` is above `to`.
        """
        _refuse("uniform", generator)
        drawn = self._uniform("uniform", from_, to)
        return self._wrap(cast(drawn, to_dtype(self._get().dtype)))

    def _uniform(self, name: str, low: float, high: float) -> Array:
        if low > high:
            raise ValueError(f"Tensor.{name}: from_ must be at most to, got {low} and {high}.")
        return _scaled(self._drawn("rand_like"), high - low, low)

    def random_(self, from_: int = 0, to: int | None = None, *, generator: None = None) -> Self:
        """Write whole numbers of [from_, to) into this Tensor, and give it.

        Args:
            from_: the least.
            to: above the largest; None: what the element type can hold exactly, at most 2**31 - 1.
            generator: not here: numbers come from the default generator.

        Raises:
            TypeError: a Bool or complex Tensor, or a generator.
            ValueError: `from_` is not below `to`.
        """
        _refuse("random_", generator)
        value: Tree = self._get()
        dtype = to_dtype(value.dtype)
        if dtype.kind in ("bool", "complex"):
            raise TypeError(f"Tensor.random_: numbers do not fit into {dtype}.")
        if to is None:
            exact = dtype.is_floating()
            most = 2 ** (jnp.finfo(value.dtype).nmant + 1) if exact else jnp.iinfo(value.dtype).max
            to = min(int(most), 2**31 - 1)
        low, high = operator.index(from_), operator.index(to)
        if low >= high:
            raise ValueError(f"Tensor.random_: from_ must be below to, got {low} and {high}.")
        draw = providers.operator("randint_like")
        return self._written(draw(self._wrap(value), low, high)._get())

    def bernoulli_(self, p: object = 0.5, *, generator: None = None) -> Self:
        """Write 1 with probability p and 0 otherwise into this Tensor, and give it.

        Args:
            p: one number, or a Tensor that broadcasts to this one.
            generator: not here: numbers come from the default generator.

        Raises:
            TypeError: a generator. ValueError: p, a number, is not in [0, 1].
        """
        _refuse("bernoulli_", generator)
        if isinstance(p, int | float) and not 0 <= p <= 1:
            raise ValueError(f"Tensor.bernoulli_: p must be in [0, 1], got {p}.")
        value: Tree = self._get()
        draw = providers.operator("rand_like")
        given: Tree = p
        chance: Tree = given._get() if hasattr(p, "_get") else p
        drawn = draw(self._wrap(value), dtype=to_dtype("float32"))._get()
        return self._written(jnp.broadcast_to(drawn < chance, value.shape))

    def exponential_(self, lambd: float = 1, *, generator: None = None) -> Self:
        """Write numbers of the density lambd * exp(-lambd * x) into this Tensor, and give it.

        Raises:
            TypeError: another element type than a floating one, or a generator.
            ValueError: `lambd` is not positive.
        """
        _refuse("exponential_", generator)
        if lambd <= 0:
            raise ValueError(f"Tensor.exponential_: lambd must be positive, got {lambd}.")
        drawn: Tree = self._drawn("rand_like")
        with x64(drawn):
            return self._written(-jnp.log1p(-drawn) / lambd)

    def cauchy(self, median: float = 0.0, sigma: float = 1.0) -> Any:
        """A Float32 Tensor of this shape with numbers of Cauchy's distribution.

        Raises:
            ValueError: `sigma` is not positive.
        """
        if sigma <= 0:
            raise ValueError(f"Tensor.cauchy: sigma must be positive, got {sigma}.")
        draw = providers.operator("rand_like")
        drawn: Tree = draw(self._wrap(self._get()), dtype=to_dtype("float32"))._get()
        return self._wrap(median + sigma * jnp.tan(jnp.pi * (drawn - 0.5)))

    def log_normal(self, mean: float = 1.0, std: float = 2.0) -> Any:
        """A Tensor of this shape and element type whose logarithm is normal.

        Raises:
            TypeError: another element type than a floating one. ValueError: `std` is negative.
        """
        if std < 0:
            raise ValueError(f"Tensor.log_normal: std must be at least 0, got {std}.")
        drawn = _scaled(self._drawn("randn_like"), std, mean)
        with x64(drawn):
            return self._wrap(cast(jnp.exp(drawn), to_dtype(self._get().dtype)))


def _scaled(drawn: Tree, factor: float, more: float) -> Array:
    with x64(drawn):
        return drawn * factor + more


def _refuse(name: str, generator: object) -> None:
    if generator is not None:
        raise TypeError(
            f"Tensor.{name}: expected generator=None, got {type(generator).__name__}. Numbers come "
            "from the default generator; paramesh.set_seed repeats them."
        )
