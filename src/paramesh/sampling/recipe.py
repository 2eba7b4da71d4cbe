"""Recipes: how to make an array's numbers, any slice of them, at any time and in any place.

Glossary
    initializer   what kind of numbers: a distribution, a constant, a rule of one's own
    recipe        an initializer with a key, a shape and an element type: the numbers themselves,
                  though none of them has been computed
    key           (seed, counter), fixed when the recipe is made and never changed (see `seed`)
    sliceable     a slice can be computed without computing the rest

The numbers of a recipe are a pure function of its initializer, key, shape and element type. When,
where, in which order and in which pieces they are computed makes no difference, to the last bit.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import math
import operator
import threading
from collections.abc import Generator, Sequence
from typing import Any, Self

import jax
import numpy as np
from jax.sharding import NamedSharding, Sharding

from paramesh import deprecations
from paramesh._compat.jax import check_not_forked, eval_context
from paramesh.deprecations import Deprecated
from paramesh.dtype import DType, bool_, to_dtype, x64_set
from paramesh.errors import RecipeError
from paramesh.sampling import batched, sampler
from paramesh.sampling.distribution import DistributionSpec, Sampler, computed_on
from paramesh.sampling.seed import Key, get_seed, next_key, set_seed

Array = jax.Array
Index = tuple[slice, ...]
_Host = np.ndarray[Any, Any]

__all__ = [
    "DistributionSpec",
    "Initializer",
    "Key",
    "Recipe",
    "Sampler",
    "compute_many",
    "get_seed",
    "next_key",
    "set_seed",
]

__getattr__ = deprecations.renamed(
    __name__,
    {
        "Draw": Deprecated("paramesh.sampling.recipe.Sampler", "Sampler"),
        "Law": Deprecated("paramesh.sampling.recipe.DistributionSpec", "DistributionSpec"),
    },
)


class Initializer:
    """Base class of everything that says how to make numbers.

    For an initializer of your own, define one of two methods.

    `draw` computes the elements of any slice from what `bits` (a `Sampler`) gives: random
    numbers and indices of these elements. Such an initializer is sliceable:

        class Triangular(Initializer):
            def __init__(self, scale):
                super().__init__(scale=scale)

            def draw(self, bits):
                return (bits.uniform() - bits.uniform()) * self.scale

    It is traced by JAX, so it uses `jax.numpy`, has no side effects, and depends on nothing but
    `bits` and the initializer's arguments.

    `_initialize` fills a numpy array in place, as in MindSpore. Such an initializer is computed
    whole and then cut:

        class Triangular(Initializer):
            def __init__(self, scale):
                super().__init__(scale=scale)

            def _initialize(self, arr):
                arr[:] = np.random.triangular(-self.scale, 0, self.scale, arr.shape)

    While it runs, `numpy.random` is seeded from the recipe's key, and put back afterwards; a
    generator of another kind makes it irreproducible.

    Args:
        kwargs: the arguments that make it what it is. They become attributes, are shown by
            `repr`, and two initializers of one class with equal arguments are equal. An
            initializer is not changed after it is made.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._kwargs = kwargs
        for name, value in kwargs.items():
            setattr(self, name, value)

    # What subclasses define. The lowest class that defines one of the five decides which is used.

    def draw(self, bits: Sampler) -> Array:
        """The elements of the slice that `bits` describes, of its shape."""
        raise NotImplementedError(_no_numbers(self))

    def _initialize(self, arr: _Host) -> None:
        """Fill `arr` (of the whole's shape and element type, zeros at first) in place."""
        raise NotImplementedError(_no_numbers(self))

    def law(self, shape: tuple[int, ...]) -> DistributionSpec:
        """A rule and its numbers for a whole of this shape.

        Initializers with one rule (a function, not a method) share compiled programs, whatever
        their numbers.
        """
        raise NotImplementedError(_no_numbers(self))

    def constant(self, dtype: DType) -> _Host:
        """The one value of all elements, 0-d and of this element type."""
        raise NotImplementedError(_no_numbers(self))

    def whole(self, key: Key, shape: tuple[int, ...], dtype: DType) -> _Host:
        """All elements at once."""
        raise NotImplementedError(_no_numbers(self))

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if there are no such numbers for a whole of this shape."""

    # What users see.

    @property
    def sliceable(self) -> bool:
        """Whether a slice can be computed without the rest."""
        return _style(type(self)) in ("draw", "law", "constant")

    def __call__(self, arr: _Host) -> None:
        """Fill a numpy array in place with numbers under a key of their own.

        Inside the `_initialize` of another initializer, the key belongs to that recipe.
        """
        key = _running.nested_key()
        recipe = Recipe(self, next_key() if key is None else key, arr.shape, to_dtype(arr.dtype))
        arr[...] = np.asarray(recipe.compute())

    def _arguments(self) -> dict[str, Any]:
        known = dict(vars(self))
        return known.pop("_kwargs", {}) | {k: v for k, v in known.items() if not k.startswith("_")}

    def _identity(self) -> Any:
        items = vars(self) | {"_kwargs": None}
        identity = tuple((k, type(v), v) for k, v in sorted(items.items()))
        try:
            hash(identity)
        except TypeError:
            return id(self)
        return identity

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Initializer):
            return NotImplemented
        return type(self) is type(other) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((type(self), self._identity()))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self._arguments().items())
        return f"{type(self).__name__}({arguments})"


def _no_numbers(init: Initializer) -> str:
    return (
        f"{type(init).__name__} says nothing about how to make numbers. Define `draw(self, bits)` "
        "or `_initialize(self, arr)` in it (see the docstring of Initializer)."
    )


@functools.cache
def _style(cls: type) -> str | None:
    """Which of the five methods makes the numbers: the one that the lowest class defines."""
    for base in cls.__mro__:
        if base is Initializer:
            return None
        for name in ("law", "draw", "constant", "whole", "_initialize"):
            if name in vars(base):
                return name
    return None


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """The rule of an initializer with a `draw` method."""

    initializer: Initializer

    def __call__(self, bits: Sampler) -> Array:
        return self.initializer.draw(bits)

    def __repr__(self) -> str:
        return f"{type(self.initializer).__name__}.draw"


class _Running(threading.local):
    """The key of the `_initialize` that runs on this thread, and the keys drawn from it."""

    key: Key | None = None
    nested = 0

    def nested_key(self) -> Key | None:
        if self.key is None:
            return None
        self.nested += 1
        # Above all counters of `next_key`, below the 64 bits that a counter has.
        return self.key[0], self.key[1] + (self.nested << 48)


_running = _Running()
_numpy_random_lock = threading.RLock()


@contextlib.contextmanager
def _numpy_random_from(key: Key) -> Generator[None]:
    """Seed numpy's legacy global generator from a key, and put it back afterwards."""
    with _numpy_random_lock:
        state = np.random.get_state()
        outer = _running.key, _running.nested
        _running.key, _running.nested = key, 0
        np.random.seed([key[0], key[1] & 0xFFFFFFFF, key[1] >> 32])
        try:
            yield
        finally:
            np.random.set_state(state)
            _running.key, _running.nested = outer


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The numbers of one array, none of them computed.

    Attributes:
        initializer: what kind of numbers.
        key: (seed, counter), from `next_key()`.
        shape: shape of the whole array.
        dtype: element type. Types narrower than float32 are computed in float32 and cast; integers
            and bool as numpy casts them; of complex numbers the imaginary part is 0.

    Raises:
        TypeError: `initializer` is no Initializer, or `dtype` no element type.
        ValueError: `initializer` has no numbers for this shape.
    """

    initializer: Initializer
    key: Key
    shape: tuple[int, ...]
    dtype: DType

    def __post_init__(self) -> None:
        if not isinstance(self.initializer, Initializer):
            raise TypeError(
                f"Recipe(initializer): expected an Initializer such as Normal(0.01), got "
                f"{self.initializer!r}."
            )
        object.__setattr__(self, "shape", tuple(operator.index(n) for n in self.shape))
        object.__setattr__(self, "dtype", to_dtype(self.dtype))
        self.initializer.check(self.shape)

    @property
    def size(self) -> int:
        """Number of elements of the whole."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the whole takes once it is computed."""
        return self.size * self.dtype.itemsize

    @property
    def sliceable(self) -> bool:
        """Whether a slice can be computed without the rest."""
        return self.initializer.sliceable

    def with_dtype(self, dtype: Any) -> Self:
        """The recipe for the same numbers in another element type."""
        return dataclasses.replace(self, dtype=to_dtype(dtype))

    def with_shape(self, shape: Sequence[int]) -> Self:
        """The recipe with the same initializer and key for a whole of another shape.

        Its numbers are others where they depend on the shape (the spread of `HeUniform`, say).
        """
        return dataclasses.replace(self, shape=tuple(shape))

    def compute(self, index: Sequence[slice] | None = None) -> Array:
        """Compute the whole, or the slice `index` of it, on the default device.

        Inside a JAX trace too, the result is a concrete array.

        Args:
            index: a slice for each axis, with concrete bounds and step 1; axes not named are taken
                whole. The result has the slice's shape. None for the whole.

        Raises:
            TypeError: `index` holds something other than slices of ints.
            IndexError: more slices than axes.
            ValueError: a step other than 1.
            NotImplementedError: the initializer does not say how to make numbers.
        """
        starts, shape = self._bounds(index)
        # Not `dtype.x64`, here and below: these programs are complete in themselves, so one that is
        # being traced does not become wide because of them.
        check_not_forked()
        with eval_context(), x64_set(True):
            return self._slice(starts, shape)

    def compute_sharded(self, sharding: Sharding) -> Array:
        """Compute the whole, laid out as `sharding` says.

        Every device computes its own shard, and the whole exists nowhere; each process computes
        what its own devices hold. With an initializer that is not sliceable (`Orthogonal`,
        `Sparse`, one with `_initialize`), each process computes the whole on the host and cuts it.

        Raises:
            RecipeError: the sharding does not divide the shape.
        """
        try:
            sharding.shard_shape(self.shape)
        except ValueError as error:
            raise RecipeError(
                f"{self!r} cannot be laid out as {sharding}: {error} Expected a sharding whose "
                "number of parts along each axis divides the axis."
            ) from None
        check_not_forked()
        with eval_context(), x64_set(True):
            law = self._law()
            here = next(iter(sharding.device_set)).platform
            together = _one_program(sharding) and computed_on(here, self.dtype)
            if law is not None and together and self.size > batched.SMALL:
                assert isinstance(sharding, NamedSharding)
                return sampler.draw_sharded(law, self.key, self.shape, self.dtype, sharding)
            whole = self._whole() if not self.sliceable else None
            shards: dict[Any, Any] = {}

            def shard(index: Index | None) -> Any:
                starts, shape = self._bounds(index)
                if whole is not None:
                    return _cut(whole, starts, shape)
                at = (*starts, *shape)
                if at not in shards:
                    shards[at] = self._slice(starts, shape)
                return shards[at]

            return jax.make_array_from_callback(
                self.shape, sharding, shard, dtype=self.dtype.np_dtype
            )

    def _bounds(self, index: Sequence[slice] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        index = () if index is None else tuple(index)
        if len(index) > len(self.shape):
            raise IndexError(
                f"index has {len(index)} slices, but the array of shape {self.shape} has "
                f"{len(self.shape)} axes."
            )
        starts, sizes = [], []
        for axis, n in enumerate(self.shape):
            part = index[axis] if axis < len(index) else slice(None)
            if not isinstance(part, slice):
                raise TypeError(
                    f"index[{axis}]: expected a slice, got {part!r}. Write slice(i, i + 1) for one "
                    "element, slice(None) for the whole axis."
                )
            start, stop, step = part.indices(n)
            if step != 1:
                raise ValueError(f"index[{axis}]: expected a slice of step 1, got {part}.")
            starts.append(start)
            sizes.append(max(stop - start, 0))
        return tuple(starts), tuple(sizes)

    def _law(self) -> DistributionSpec | None:
        style = _style(type(self.initializer))
        if style == "law":
            return self.initializer.law(self.shape)
        if style == "draw":
            return DistributionSpec(_Drawn(self.initializer), elementwise=False)
        return None

    def _slice(self, starts: Sequence[int], shape: tuple[int, ...]) -> Array:
        law = self._law()
        if law is not None:
            return sampler.draw_slice(law, self.key, self.shape, self.dtype, starts, shape)
        if _style(type(self.initializer)) == "constant":
            return batched.fill(self.initializer.constant(self.dtype), [shape])[0]
        return jax.device_put(_cut(self._whole(), starts, shape))

    def _whole(self) -> _Host:
        style = _style(type(self.initializer))
        if style == "whole":
            return self.initializer.whole(self.key, self.shape, self.dtype)
        if style is None:
            raise NotImplementedError(_no_numbers(self.initializer))
        array = np.zeros(self.shape, self.dtype.np_dtype)
        with _numpy_random_from(self.key):
            self.initializer._initialize(array)
        return array


def _cut(whole: _Host, starts: Sequence[int], shape: Sequence[int]) -> _Host:
    return whole[tuple(slice(s, s + n) for s, n in zip(starts, shape, strict=True))].copy()


def _one_program(sharding: Sharding) -> bool:
    """Whether all shards can be computed by one program: named axes, in the devices' own memory."""
    if not isinstance(sharding, NamedSharding):
        return False
    if sharding.memory_kind is None:
        return True
    device = next(iter(sharding.device_set))
    return sharding.memory_kind == device.default_memory().kind


def cast_on_host(values: _Host, dtype: DType) -> _Host:
    """`law.cast` for a numpy array."""
    if dtype is bool_:
        return values != 0
    if dtype.is_integer() and values.dtype.kind == "f":
        values = values.astype(np.int64)
    return values.astype(dtype.np_dtype)


def compute_many(recipes: Sequence[Recipe]) -> list[Array]:
    """Compute many recipes; the same numbers as `[r.compute() for r in recipes]`, sooner.

    Arrays of one kind and element type are computed by one program, whatever their shapes, except
    for shapes of which there is so much that a program of their own pays.
    """
    results: list[Any] = [None] * len(recipes)
    laws = [recipe._law() for recipe in recipes]
    kinds = [_kind(recipe, law) for recipe, law in zip(recipes, laws, strict=True)]
    counts = collections.Counter(zip(kinds, (recipe.shape for recipe in recipes), strict=True))
    groups: dict[Any, list[int]] = {}
    for at, (recipe, law, kind) in enumerate(zip(recipes, laws, kinds, strict=True)):
        alone = law is not None and not batched.cheaper_in_rows(
            recipe.size, counts[kind, recipe.shape]
        )
        if kind is None or alone:
            results[at] = recipe.compute()
        else:
            groups.setdefault(kind, []).append(at)
    check_not_forked()
    with eval_context(), x64_set(True):
        for members in groups.values():
            shapes = [recipes[at].shape for at in members]
            first = recipes[members[0]]
            pieces = [
                (law, recipes[at].key, 0, recipes[at].shape)
                for at in members
                if (law := laws[at]) is not None
            ]
            if pieces:
                arrays = batched.draw_rows(pieces, first.dtype)
            else:
                arrays = batched.fill(first.initializer.constant(first.dtype), shapes)
            for at, array in zip(members, arrays, strict=True):
                results[at] = array
    return results


def _kind(recipe: Recipe, law: DistributionSpec | None) -> Any:
    """What recipes that can be computed together have in common; None: computed alone."""
    if recipe.size == 0:
        return None
    if law is not None:
        return (law.rule, recipe.dtype) if law.elementwise else None
    if _style(type(recipe.initializer)) == "constant":
        return (recipe.initializer.constant(recipe.dtype).tobytes(), recipe.dtype)
    return None
