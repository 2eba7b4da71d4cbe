"""Recipes: how to make an array's numbers, any slice of them, at any time and in any place.

Glossary
    initializer   what kind of numbers: a distribution, a constant, a function of one's own
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
from collections.abc import Generator, Hashable, Sequence
from typing import Any, Self

import jax
import numpy as np
from jax.sharding import NamedSharding, Sharding

from paramesh import deprecations
from paramesh._compat.jax import check_not_forked, eval_context
from paramesh.array_sizes import check_countable
from paramesh.array_types import HostArray
from paramesh.deprecations import Deprecated
from paramesh.dtype import DType, DTypeLike, bool_, to_dtype, x64_set
from paramesh.errors import RecipeError
from paramesh.sampling import batched, slices
from paramesh.sampling.distribution import DistributionSpec, computed_on
from paramesh.sampling.sampler import Sampler
from paramesh.sampling.seed import Key, get_seed, next_key, set_seed

Array = jax.Array
Index = tuple[slice, ...]
_Host = HostArray

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

    `_initialize` fills a numpy array in place, as in MindSpore. Such an initializer computes the
    full array and then slices it:

        class Triangular(Initializer):
            def __init__(self, scale):
                super().__init__(scale=scale)

            def _initialize(self, arr):
                arr[:] = np.random.triangular(-self.scale, 0, self.scale, arr.shape)

    While it runs, `numpy.random` is seeded from the recipe's key, and restored afterwards; any
    other generator makes it irreproducible.

    Args:
        kwargs: the arguments that make it what it is. They become attributes, are shown by
            `repr`, and two initializers of one class with equal arguments are equal. An
            initializer is not changed after it is made.
    """

    def __init__(self, **kwargs: object) -> None:
        self._kwargs = kwargs
        for name, value in kwargs.items():
            setattr(self, name, value)

    # What subclasses define. The lowest class that defines one of the six decides which is used.

    def draw(self, bits: Sampler) -> Array:
        """The elements of the slice that `bits` describes, of its shape."""
        raise NotImplementedError(_no_numbers(self))

    def _initialize(self, arr: _Host) -> None:
        """Fill `arr` (of the full shape and the element type, zeros at first) in place."""
        raise NotImplementedError(_no_numbers(self))

    def law(self, shape: tuple[int, ...]) -> DistributionSpec:
        """The distribution spec for a full array of this shape.

        Initializers with one sampling function (a function, not a method) share compiled programs,
        whatever their numbers.
        """
        raise NotImplementedError(_no_numbers(self))

    def constant(self, dtype: DType) -> _Host:
        """The one value of all elements, 0-d and of this element type."""
        raise NotImplementedError(_no_numbers(self))

    def whole(self, key: Key, shape: tuple[int, ...], dtype: DType) -> _Host:
        """All elements at once."""
        raise NotImplementedError(_no_numbers(self))

    def part(self, dtype: DType, starts: Sequence[int], shape: tuple[int, ...]) -> Array:
        """The slice at `starts` of this shape, for an initializer that is made for one whole."""
        raise NotImplementedError(_no_numbers(self))

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if there are no such numbers for a full array of this shape."""

    # What users see.

    @property
    def sliceable(self) -> bool:
        """Whether a slice can be computed without the rest."""
        return _style(type(self)) in ("draw", "law", "constant", "part")

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

    def _identity(self) -> Hashable:
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
        f"{type(init).__name__} does not say how to make numbers. Define `draw(self, bits)` "
        "or `_initialize(self, arr)` in it (see the docstring of Initializer)."
    )


@functools.cache
def _style(cls: type) -> str | None:
    """Which of the six methods makes the numbers: the one that the lowest class defines."""
    for base in cls.__mro__:
        if base is Initializer:
            return None
        for name in ("law", "draw", "constant", "part", "whole", "_initialize"):
            if name in vars(base):
                return name
    return None


@dataclasses.dataclass(frozen=True)
class _DrawMethod:
    """The sampling function of an initializer with a `draw` method."""

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
    """Seed numpy's legacy global generator from a key, and restore it afterwards."""
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
        shape: shape of the full array.
        dtype: element type. Types narrower than float32 are computed in float32 and cast; integers
            and bool as numpy casts them; of complex numbers the imaginary part is 0.

    Raises:
        TypeError: `initializer` is not an Initializer, or `dtype` not an element type.
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
        """Number of elements of the full array."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the full array once it is computed."""
        return self.size * self.dtype.itemsize

    @property
    def sliceable(self) -> bool:
        """Whether a slice can be computed without the rest."""
        return self.initializer.sliceable

    def with_dtype(self, dtype: DTypeLike) -> Self:
        """The recipe for the same numbers in another element type."""
        return dataclasses.replace(self, dtype=to_dtype(dtype))

    def with_shape(self, shape: Sequence[int]) -> Self:
        """The recipe with the same initializer and key for a full array of another shape.

        Its numbers differ where they depend on the shape (the bounds of `HeUniform`, for example).
        """
        return dataclasses.replace(self, shape=tuple(shape))

    def compute(self, index: Sequence[slice] | None = None) -> Array:
        """Compute the full array, or its slice `index`, on the default device.

        Inside a JAX trace too, the result is a concrete array.

        Args:
            index: a slice for each axis, with concrete bounds and step 1; missing axes are not
                sliced. The result has the slice's shape. None for the full array.

        Raises:
            TypeError: `index` holds something other than slices of ints.
            IndexError: more slices than axes.
            ValueError: a step other than 1, or 2**63 elements or more.
            NotImplementedError: the initializer does not say how to make numbers.
        """
        starts, shape = self._bounds(index)
        # Not `dtype.x64`, here and below: these programs are complete in themselves, so a program
        # that is being traced does not need the 64-bit mode because of them.
        check_not_forked()
        with eval_context(), x64_set(True):
            return self._slice(starts, shape)

    def compute_sharded(self, sharding: Sharding) -> Array:
        """Compute the array directly into a sharding.

        Every device computes its own shard, and the full array exists nowhere; each process
        computes the shards of its own devices. With an initializer that is not sliceable
        (`Orthogonal`, `Sparse`, one with `_initialize`), each process computes the full array on
        the host and slices it.

        Raises:
            RecipeError: the sharding does not divide the shape.
        """
        try:
            sharding.shard_shape(self.shape)
        except ValueError as error:
            raise RecipeError(
                f"{self!r} cannot be laid out as {sharding}: {error} Expected a sharding whose "
                "number of shards along each axis divides the axis."
            ) from None
        check_not_forked()
        with eval_context(), x64_set(True):
            spec = self._spec()
            here = next(iter(sharding.device_set)).platform
            together = _one_program(sharding) and computed_on(here, self.dtype)
            if spec is not None and together and self.size > batched.SMALL:
                assert isinstance(sharding, NamedSharding)
                return slices.sample_sharded(spec, self.key, self.shape, self.dtype, sharding)
            full = self._full() if not self.sliceable else None
            shards: dict[tuple[int, ...], Array] = {}

            def shard(index: Index | None) -> Array | HostArray:
                starts, shape = self._bounds(index)
                if full is not None:
                    return _slice_of(full, starts, shape)
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
            bounds = index[axis] if axis < len(index) else slice(None)
            if not isinstance(bounds, slice):
                raise TypeError(
                    f"index[{axis}]: expected a slice, got {bounds!r}. Write slice(i, i + 1) for "
                    "one element, slice(None) for the full axis."
                )
            start, stop, step = bounds.indices(n)
            if step != 1:
                raise ValueError(f"index[{axis}]: expected a slice of step 1, got {bounds}.")
            starts.append(start)
            sizes.append(max(stop - start, 0))
        check_countable(sizes, repr(self))
        return tuple(starts), tuple(sizes)

    def _spec(self) -> DistributionSpec | None:
        style = _style(type(self.initializer))
        if style == "law":
            return self.initializer.law(self.shape)
        if style == "draw":
            return DistributionSpec(_DrawMethod(self.initializer), elementwise=False)
        return None

    def _slice(self, starts: Sequence[int], shape: tuple[int, ...]) -> Array:
        spec = self._spec()
        if spec is not None:
            return slices.sample_slice(spec, self.key, self.shape, self.dtype, starts, shape)
        if _style(type(self.initializer)) == "constant":
            return batched.fill(self.initializer.constant(self.dtype), [shape])[0]
        if _style(type(self.initializer)) == "part":
            return self.initializer.part(self.dtype, starts, shape)
        return jax.device_put(_slice_of(self._full(), starts, shape))

    def _full(self) -> _Host:
        style = _style(type(self.initializer))
        if style == "whole":
            return self.initializer.whole(self.key, self.shape, self.dtype)
        if style is None:
            raise NotImplementedError(_no_numbers(self.initializer))
        array = np.zeros(self.shape, self.dtype.np_dtype)
        with _numpy_random_from(self.key):
            self.initializer._initialize(array)
        return array


def _slice_of(full: _Host, starts: Sequence[int], shape: Sequence[int]) -> _Host:
    return full[tuple(slice(s, s + n) for s, n in zip(starts, shape, strict=True))].copy()


def _one_program(sharding: Sharding) -> bool:
    """Whether all shards can be computed by one program: named axes, in the devices' own memory."""
    if not isinstance(sharding, NamedSharding):
        return False
    if sharding.memory_kind is None:
        return True
    device = next(iter(sharding.device_set))
    return sharding.memory_kind == device.default_memory().kind


def cast_on_host(values: _Host, dtype: DType) -> _Host:
    """`spec.cast` for a numpy array."""
    if dtype is bool_:
        return values != 0
    if dtype.is_integer() and values.dtype.kind == "f":
        values = values.astype(np.int64)
    return values.astype(dtype.np_dtype)


def compute_many(recipes: Sequence[Recipe]) -> list[Array]:
    """Compute many recipes; the same numbers as `[r.compute() for r in recipes]`, faster.

    Arrays of one kind and element type are computed by one program, whatever their shapes. A shape
    with so many elements that compiling a program for it is worth it has its own.
    """
    results: list[Any] = [None] * len(recipes)
    specs = [recipe._spec() for recipe in recipes]
    kinds = [_kind(recipe, spec) for recipe, spec in zip(recipes, specs, strict=True)]
    counts = collections.Counter(zip(kinds, (recipe.shape for recipe in recipes), strict=True))
    groups: dict[Hashable, list[int]] = {}
    for at, (recipe, spec, kind) in enumerate(zip(recipes, specs, kinds, strict=True)):
        check_countable(recipe.shape, repr(recipe))
        alone = spec is not None and not batched.cheaper_in_rows(
            recipe.size, counts[kind, recipe.shape]
        )
        if kind is None or alone:
            results[at] = recipe.compute()
        else:
            groups.setdefault(kind, []).append(at)
    check_not_forked()
    with eval_context(), x64_set(True):
        for group in groups.values():
            shapes = [recipes[at].shape for at in group]
            first = recipes[group[0]]
            pieces = [
                (spec, recipes[at].key, 0, recipes[at].shape)
                for at in group
                if (spec := specs[at]) is not None
            ]
            if pieces:
                arrays = batched.sample_rows(pieces, first.dtype)
            else:
                arrays = batched.fill(first.initializer.constant(first.dtype), shapes)
            for at, array in zip(group, arrays, strict=True):
                results[at] = array
    return results


def _kind(recipe: Recipe, spec: DistributionSpec | None) -> Hashable:
    """What recipes that can be computed together have in common; None: computed alone."""
    if recipe.size == 0:
        return None
    if spec is not None:
        return (spec.sample_fn, recipe.dtype) if spec.elementwise else None
    if _style(type(recipe.initializer)) == "constant":
        return (recipe.initializer.constant(recipe.dtype).tobytes(), recipe.dtype)
    return None
