"""What scripts ask of MindSpore's `parallel._utils` and `parallel._auto_parallel_context`.

Both are the inside of MindSpore; scripts use them all the same, to look at the parallel settings.
Each function here is the public `get_auto_parallel_context` of one setting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paramesh import context

__all__ = [
    "_get_device_num",
    "_get_enable_parallel_optimizer",
    "_get_full_batch",
    "_get_global_rank",
    "_get_gradients_mean",
    "_get_parallel_mode",
    "_get_pipeline_stages",
    "_is_in_auto_parallel_mode",
    "_is_in_data_parallel_mode",
    "auto_parallel_context",
]


def _getter(setting: str) -> Callable[[], Any]:
    def get() -> Any:
        return context.get_auto_parallel_context(setting)

    get.__name__ = get.__qualname__ = f"_get_{setting}"
    get.__doc__ = f"The parallel setting `{setting}`."
    return get


_get_parallel_mode = _getter("parallel_mode")
_get_device_num = _getter("device_num")
_get_global_rank = _getter("global_rank")
_get_gradients_mean = _getter("gradients_mean")
_get_full_batch = _getter("full_batch")
_get_pipeline_stages = _getter("pipeline_stages")
_get_enable_parallel_optimizer = _getter("enable_parallel_optimizer")


def _is_in_auto_parallel_mode() -> bool:
    """Whether strategies shard the program: semi-automatic or automatic."""
    return _get_parallel_mode() in ("semi_auto_parallel", "auto_parallel")


def _is_in_data_parallel_mode() -> bool:
    """Whether the batch alone is sharded."""
    return _get_parallel_mode() == "data_parallel"


class _Settings:
    """The parallel settings as an object with a `get_…` and a `set_…` for each."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb, _, setting = name.partition("_")
        if verb == "get" and setting:
            return self._checked(name, setting)
        if verb == "set" and setting:
            self._checked(name, setting)
            return lambda value: context.set_auto_parallel_context(**{setting: value})
        raise AttributeError(f"auto_parallel_context() has no '{name}'.")

    @staticmethod
    def _checked(name: str, setting: str) -> Callable[[], Any]:
        try:
            context.get_auto_parallel_context(setting)
        except ValueError as error:
            raise AttributeError(f"auto_parallel_context() has no '{name}': {error}") from error
        return _getter(setting)

    def get_device_num_is_set(self) -> bool:
        """Whether `device_num` was set."""
        return context.device_num() is not None


_settings = _Settings()


def auto_parallel_context() -> _Settings:
    """The parallel settings as one object."""
    return _settings
