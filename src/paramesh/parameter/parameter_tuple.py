"""ParameterTuple: several Parameters that can be told apart by their names."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable
from typing import Any, Self

import jax

from paramesh.errors import HOW_TO_RENAME, DuplicateNameError
from paramesh.initializer.factory import InitLike
from paramesh.parameter.names import DEFAULT_NAME, check_prefix
from paramesh.parameter.parameter import Parameter
from paramesh.providers import providers
from paramesh.tensor.base import Tensor


class ParameterTuple(tuple[Parameter, ...]):
    """A tuple of Parameters with different names.

    Args:
        iterable: Parameters; the same one may come twice. Several that were given no name are
            numbered `Parameter$1`, `Parameter$2`, ….

    Raises:
        TypeError: not an iterable, or an element is not a Parameter.
        DuplicateNameError: two different Parameters have one name.
    """

    def __new__(cls, iterable: Iterable[Parameter]) -> Self:
        """The tuple, checked."""
        if isinstance(iterable, Tensor):
            raise TypeError(
                "ParameterTuple takes an iterable of Parameters, got a single one: write (p,)."
            )
        params = tuple(iterable)
        for i, param in enumerate(params):
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"ParameterTuple takes Parameters; element {i} is a {type(param).__name__}."
                )
        unnamed = {id(p): p for p in params if p.name == DEFAULT_NAME}
        if len(unnamed) > 1:
            for i, param in enumerate(unnamed.values(), 1):
                param.name = f"{DEFAULT_NAME}${i}"
        by_name: dict[str, Parameter] = {}
        for param in params:
            other = by_name.setdefault(param.name, param)
            if other is not param:
                raise DuplicateNameError(
                    f"ParameterTuple: two different Parameters are named '{param.name}': {other} "
                    f"and {param}. Give one of them another name. {HOW_TO_RENAME}"
                )
        return super().__new__(cls, params)

    def clone(self, prefix: str, init: InitLike = "same") -> ParameterTuple:
        """Clones of all, named `prefix.name`, starting from `init` (see `Parameter.clone`).

        Raises:
            TypeError: `prefix` is not a str.
            ParameterNameError: it has characters other than 0-9 A-Z a-z _ and dot, or none.
            DuplicateNameError: one Parameter is in the tuple twice.
        """
        prefix = check_prefix(prefix)
        clones: list[Parameter] = []
        for param in self:
            twin = param.clone(init)
            twin.name = f"{prefix}.{param.name}"
            twin._original = weakref.ref(param)  # whose layout it follows
            clones.append(twin)
        return ParameterTuple(clones)

    def __reduce__(self) -> tuple[Any, ...]:
        return ParameterTuple, (list(self),)

    def __deepcopy__(self, memo: dict[int, object]) -> ParameterTuple:
        return ParameterTuple([copy.deepcopy(p, memo) for p in self])

    def _repr_html_(self) -> str:
        return providers.html(self)

    def __str__(self) -> str:
        return super().__repr__()


def _flatten(params: ParameterTuple) -> tuple[Any, None]:
    return [(jax.tree_util.SequenceKey(i), param) for i, param in enumerate(params)], None


def _unflatten(_: object, leaves: Iterable[object]) -> Any:
    # What a function of JAX makes of Parameters are Tensors.
    return tuple(leaves)


jax.tree_util.register_pytree_with_keys(ParameterTuple, _flatten, _unflatten)
