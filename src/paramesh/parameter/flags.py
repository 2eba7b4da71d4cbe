"""Attributes of a Parameter that take only what they mean: real bools, small ints.

numpy bools, 0 and 1 are refused as in MindSpore, so that a flag read back is what was set.
"""

from __future__ import annotations

from typing import Any, overload

from paramesh.state import tracing

#: Attributes that copies and clones carry over, with their defaults.
CARRIED: dict[str, Any] = {
    "requires_grad": True,
    "layerwise_parallel": False,
    "parallel_optimizer": True,
    "parallel_optimizer_comm_recompute": False,
    "comm_fusion": 1,
    "requires_aggr": True,
    "cache_enable": False,
    "key": -1,
}

_LARGEST = 2**31 - 1


class Flag:
    """A True-or-False attribute.

    Args:
        trace_static: compiled programs depend on it, so that setting it makes them look again.
    """

    def __init__(self, trace_static: bool = False) -> None:
        self._trace_static = trace_static

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._slot = "_" + name

    @overload
    def __get__(self, param: None, owner: Any = None) -> Flag: ...
    @overload
    def __get__(self, param: object, owner: Any = None) -> bool: ...
    def __get__(self, param: Any, owner: Any = None) -> Any:
        return self if param is None else getattr(param, self._slot)

    def __set__(self, param: Any, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(
                f"Parameter '{param.name}': {self._name} must be True or False, "
                f"got {type(value).__name__} ({value!r})."
            )
        setattr(param, self._slot, value)
        if self._trace_static:
            tracing.bump_version()


class IntAttribute:
    """An attribute that is a 32-bit int.

    Args:
        low: the smallest value; with one, a bool is refused too.
    """

    def __init__(self, low: int | None = None) -> None:
        self._low = low

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._slot = "_" + name

    @overload
    def __get__(self, param: None, owner: Any = None) -> IntAttribute: ...
    @overload
    def __get__(self, param: object, owner: Any = None) -> int: ...
    def __get__(self, param: Any, owner: Any = None) -> Any:
        return self if param is None else getattr(param, self._slot)

    def __set__(self, param: Any, value: int) -> None:
        wrong_bool = isinstance(value, bool) and self._low is not None
        if not isinstance(value, int) or wrong_bool or abs(value) > _LARGEST:
            raise TypeError(
                f"Parameter '{param.name}': {self._name} must be a 32-bit int, got {value!r}."
            )
        if self._low is not None and value < self._low:
            raise ValueError(
                f"Parameter '{param.name}': {self._name} must be at least {self._low}, got {value}."
            )
        setattr(param, self._slot, int(value))
