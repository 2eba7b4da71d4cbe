"""What Parameters start from on a server: recipes as plain data, computed element by element.

Glossary
    start       a distribution or a constant as JSON: `{"law": "normal", "reals": [0.0, 0.01], …}`.
                It names one of a few rules, never code, so it may come from a file or from a
                message
    position    the place of an element in the row-major order of the full array

The numbers are those of the recipe, to the last bit: each element is computed from its position.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_types import Array
from paramesh.dtype import DType, to_dtype, x64_set
from paramesh.errors import RecipeError
from paramesh.initializer import random
from paramesh.initializer.structured import Constant
from paramesh.ps.specification.id_range import is_unbounded
from paramesh.sampling.distribution import (
    DistributionSpec,
    compiled,
    computing_dtype,
    evaluated,
    key_words,
)
from paramesh.sampling.recipe import Initializer, Recipe
from paramesh.sampling.sampler import Sampler

Start = dict[str, Any]
#: Initial values, ids as Int64, numbers of a row, and rows of the table.
_Part = tuple[Start, np.ndarray[Any, Any], int, int]

#: Sampling functions by their names in specs.
_SAMPLING: dict[str, Callable[..., Any]] = {
    "uniform": random._uniform,
    "normal": random._normal,
    "cut_normal": random._truncated_normal,
}
_NAMES = {rule: name for name, rule in _SAMPLING.items()}

#: Programs are compiled for so many elements; more are computed in several runs.
_SIZES = (1 << 10, 1 << 13, 1 << 16, 1 << 19)


def initial_values_of(owner: str, recipe: Recipe) -> Start:
    """A recipe as a start.

    Args:
        owner: the full name of the Parameter, for messages.
        recipe: of the full array.

    Raises:
        RecipeError: its elements cannot be computed one by one.
    """
    common = {"dtype": recipe.dtype.long_name}
    spec = recipe._spec()
    if spec is not None and spec.sample_fn in _NAMES:
        return common | {
            "law": _NAMES[spec.sample_fn],
            "reals": list(spec.reals),
            "integers": list(spec.integers),
            "key": list(recipe.key),
        }
    if hasattr(recipe.initializer, "value") and recipe.sliceable and spec is None:
        value = recipe.initializer.constant(recipe.dtype)
        return common | {"law": "constant", "value": value.item()}
    raise RecipeError(
        f"Parameter '{owner}' is initialized on the server, which does not support "
        f"{recipe.initializer!r}. Use a constant, Uniform, Normal, TruncatedNormal, or an "
        f"initializer scaled by the shape (Xavier…, He…, VarianceScaling); or set "
        f"init_in_server=False, so that the values are sent."
    )


class _Given(Initializer):
    """An initializer that is known by its distribution alone."""

    distribution: str
    reals: tuple[float, ...]
    integers: tuple[int, ...]

    def __init__(self, distribution: str, reals: Sequence[float], integers: Sequence[int]) -> None:
        super().__init__(distribution=distribution, reals=tuple(reals), integers=tuple(integers))

    def law(self, shape: tuple[int, ...]) -> DistributionSpec:
        """The distribution of this name, with these numbers."""
        return DistributionSpec(_SAMPLING[self.distribution], self.reals, self.integers)


def recipe_of(start: Start, shape: Sequence[int]) -> Recipe:
    """The recipe of a start: the same numbers.

    Raises:
        RecipeError: the initial values are not valid.
    """
    dtype = to_dtype(start["dtype"])
    if start.get("law") == "constant":
        return Recipe(Constant(start["value"]), (0, 0), tuple(shape), dtype)
    if start.get("law") not in _SAMPLING:
        raise RecipeError(
            f"the distribution {start.get('law')!r} is not known; expected {sorted(_SAMPLING)}."
        )
    init = _Given(start["law"], start["reals"], start["integers"])
    return Recipe(init, (int(start["key"][0]), int(start["key"][1])), tuple(shape), dtype)


def values_at(start: Start, positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The elements at some positions (uint64, any order) of a start; a flat array.

    Raises:
        RecipeError: the initial values are not valid.
    """
    if start.get("law") not in _SAMPLING:
        return _constant(start, len(positions))
    return _drawn(start, positions, _key_of(start), to_dtype(start["dtype"]))


def _constant(start: Start, count: int) -> np.ndarray[Any, Any]:
    if start.get("law") != "constant":
        raise RecipeError(
            f"the server does not support the distribution {start.get('law')!r}; expected "
            f"{sorted(_SAMPLING)} or constant."
        )
    return np.full(count, start["value"], to_dtype(start["dtype"]).np_dtype)


def rows_of_many(
    parts: Sequence[_Part],
) -> list[np.ndarray[Any, Any]]:
    """The initial values of rows of several tables, (ids, width) each.

    The numbers of a row of a bounded table are those at its place in the full array, as
    `values_at`. In an unbounded table the id is the position of all elements of a row, and a word
    of the key says which element: a function of the recipe, the id and the element alone, and no
    two rows have the same numbers of the generator.

    Args:
        parts: (initial values, ids as Int64, numbers of a row, rows of the table).

    Raises:
        RecipeError: initial values are not valid.
    """
    found: list[Any] = []
    alike: dict[Any, list[int]] = {}
    for at, (start, ids, width, _) in enumerate(parts):
        if start.get("law") in _SAMPLING:
            kind = start["law"], start["dtype"], tuple(start["reals"]), tuple(start["integers"])
            alike.setdefault(kind, []).append(at)
            found.append(np.empty(len(ids) * width, to_dtype(start["dtype"]).np_dtype))
        else:
            found.append(_constant(start, len(ids) * width))
    for members in alike.values():
        _draw_rows([(parts[at], found[at]) for at in members])
    return [
        mine.reshape(len(ids), width) for (_, ids, width, _), mine in zip(parts, found, strict=True)
    ]


def _draw_rows(members: Sequence[tuple[_Part, np.ndarray[Any, Any]]]) -> None:
    """Write the initial values of rows with one distribution into arrays, a block at a time."""
    start, dtype = members[0][0][0], members[0][1].dtype
    for block in _blocks([len(out) for _, out in members], _SIZES[-1]):
        placed = [_placed(*members[at][0], first, stop) for at, first, stop in block]
        positions, words = zip(*placed, strict=True)
        key = words[0]
        if len(words) > 1:
            each = [
                np.broadcast_to(word.reshape(len(word), -1), (len(word), len(position)))
                for word, position in zip(words, positions, strict=True)
            ]
            key = np.concatenate(each, axis=1)
        values = _drawn(start, np.concatenate(positions), key, to_dtype(dtype))
        at = 0
        for member, first, stop in block:
            members[member][1][first:stop] = values[at : at + stop - first]
            at += stop - first


def _blocks(lengths: Sequence[int], size: int) -> Iterator[list[tuple[int, int, int]]]:
    """Arrays that follow one another, in blocks of so many elements: (which, first, stop)."""
    block: list[tuple[int, int, int]] = []
    room = size
    for at, length in enumerate(lengths):
        first = 0
        while first < length:
            stop = min(length, first + room)
            block.append((at, first, stop))
            room -= stop - first
            first = stop
            if not room:
                yield block
                block, room = [], size
    if block:
        yield block


def _placed(
    start: Start, ids: np.ndarray[Any, Any], width: int, rows: int, first: int, stop: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The positions of some elements of rows, and the words of their key, or of each element's.

    Args:
        start: the initial values.
        ids: of all rows.
        width: numbers of a row.
        rows: of the table.
        first: of the elements of all rows, one after the other, the first one that is wanted.
        stop: the one after the last.
    """
    key = _key_of(start)
    begin, end = first // width, -(-stop // width)
    some = slice(first - begin * width, stop - begin * width)
    mine = ids[begin:end].astype(np.uint64)[:, None]
    columns = np.arange(width, dtype=np.uint64)
    if not is_unbounded(rows):
        return (mine * np.uint64(width) + columns).reshape(-1)[some], key
    words = np.repeat(key[:, None], stop - first, axis=1)
    words[2] ^= np.tile(columns.astype(np.uint32), end - begin)[some]
    return np.repeat(mine, width, axis=1).reshape(-1)[some], words


def _key_of(start: Start) -> np.ndarray[Any, Any]:
    return np.array(key_words((int(start["key"][0]), int(start["key"][1]))), np.uint32)


def _drawn(
    start: Start, positions: np.ndarray[Any, Any], key: np.ndarray[Any, Any], dtype: DType
) -> np.ndarray[Any, Any]:
    """The elements at positions; `key`: its three words, or these for each element."""
    out = np.empty(positions.shape, dtype.np_dtype)
    header = np.array([0, *start["integers"]], np.uint64)
    reals = np.array(start["reals"], computing_dtype(dtype))
    largest = _SIZES[-1]
    for first in range(0, len(positions), largest):
        part = slice(first, first + largest)
        count = len(positions[part])
        size = next(n for n in _SIZES if n >= count)
        padded = np.zeros(size, np.uint64)
        padded[:count] = positions[part]
        words = key
        if key.ndim > 1:
            words = np.zeros((len(key), size), np.uint32)
            words[:, :count] = key[:, part]
        with x64_set(True):
            program = _program(start["law"], size, dtype)
            out[part] = np.asarray(program(words, header, reals, padded))[:count]
    return out


@functools.cache
def _program(distribution: str, size: int, dtype: DType) -> Callable[..., Any]:
    sample_fn = _SAMPLING[distribution]

    def paramesh_draw_at(key: Array, header: Array, reals: Array, positions: Array) -> Any:
        zero = header[0].astype(jnp.uint32)
        words = [key[i] for i in range(len(key))]
        place = (positions.astype(jnp.uint32), (positions >> jnp.uint64(32)).astype(jnp.uint32))
        draw = Sampler((size,), None, computing_dtype(dtype), words, zero, place)
        integers = [header[i] for i in range(1, header.shape[0])]
        return evaluated(sample_fn, draw, list(reals), integers, dtype)

    return compiled(paramesh_draw_at, jax.default_backend())
