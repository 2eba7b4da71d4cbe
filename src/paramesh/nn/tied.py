"""Parameters under several attributes, and the other names that they might have.

A Parameter has one name, that of the attribute where it came first. A file that was written by
another library, or by a network that was put together in another order, may have it under the name
of the other attribute, or under both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from paramesh.parameter import Parameter

if TYPE_CHECKING:
    from paramesh.nn.submodules import Submodules


def other_names(cell: Submodules) -> dict[str, Parameter]:
    """{name: Parameter}: what shared Parameters would be called by their other attributes.

    Prefixes are as `Cell` gives them: from the outermost Cell that gives its children's Parameters
    a prefix. A name that would be that of two Parameters is left out.
    """
    return _shared(_walk(cell, (), False, ()))


def other_paths(cell: Submodules) -> dict[str, Parameter]:
    """{attribute path: Parameter} of shared Parameters, by all of their paths."""
    return _shared(_walk(cell, (), True, ()))


def _shared(found: Iterator[tuple[str, Parameter]]) -> dict[str, Parameter]:
    of: dict[Parameter, dict[str, None]] = {}
    by_name: dict[str, Parameter | None] = {}
    for name, param in found:
        of.setdefault(param, {})[name] = None
        if by_name.setdefault(name, param) is not param:
            by_name[name] = None
    return {
        name: param
        for param, names in of.items()
        if len(names) > 1
        for name in names
        if by_name[name] is param
    }


def _walk(
    cell: Submodules, path: tuple[str, ...], prefixed: bool, above: tuple[Submodules, ...]
) -> Iterator[tuple[str, Parameter]]:
    for attribute, param in cell._params.items():
        if param is not None:
            yield ".".join((*path, attribute)), param
    prefixed = prefixed or cell._auto_prefix
    for attribute, inner in cell._cells.items():
        if inner is not None and inner not in above:
            deeper = (*path, attribute) if prefixed else path
            yield from _walk(inner, deeper, prefixed, (*above, cell))


def alike(one: Any, other: Any) -> bool:
    """Whether two raw values have the same element type, shape and bits.

    Of an array that spans processes, the shards of this process are compared.
    """
    if not getattr(other, "is_fully_addressable", True):
        one, other = other, one
    if getattr(one, "is_fully_addressable", True):
        one, other = np.asarray(one), np.asarray(other)
        return (one.dtype, one.shape) == (other.dtype, other.shape) and _bits(one) == _bits(other)
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if not other.is_fully_addressable:
        pairs = zip(one.addressable_shards, other.addressable_shards, strict=False)
        return all(_bits(a.data) == _bits(b.data) for a, b in pairs if a.index == b.index)
    full = np.asarray(other)
    return all(_bits(shard.data) == _bits(full[shard.index]) for shard in one.addressable_shards)


def _bits(array: object) -> bytes:
    return np.asarray(array).tobytes()
