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
    "_is_sharding_propagation",
    "_reset_op_id",
    "_reset_op_id_with_offset",
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


def _is_sharding_propagation() -> bool:
    """Whether strategies that were given are propagated, and none are searched for."""
    return (
        _get_parallel_mode() == "auto_parallel"
        and context.get_auto_parallel_context("search_mode") == "sharding_propagation"
    )


def _reset_op_id() -> None:
    """Nothing: operators have no numbers here, so a program does not depend on earlier ones."""


def _reset_op_id_with_offset() -> None:
    """Nothing, as `_reset_op_id`."""


#: Each gradient is reduced by itself.
_APART = {"openstate": False}


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

    def get_enable_all_reduce_fusion(self) -> bool:
        """Whether gradients may travel together: the setting `comm_fusion` does not forbid it."""
        return context.get_auto_parallel_context("comm_fusion") != _APART

    def set_enable_all_reduce_fusion(self, enable_all_reduce_fusion: bool) -> None:
        """Let gradients travel together, or each by itself: the setting `comm_fusion`.

        Args:
            enable_all_reduce_fusion: False is `comm_fusion={"openstate": False}`; True takes that
                back, and leaves what else `comm_fusion` says.

        Raises:
            TypeError: no bool.
        """
        if not isinstance(enable_all_reduce_fusion, bool):
            raise TypeError(
                "set_enable_all_reduce_fusion: enable_all_reduce_fusion must be a bool, got "
                f"{enable_all_reduce_fusion!r}."
            )
        if enable_all_reduce_fusion != self.get_enable_all_reduce_fusion():
            fusion = None if enable_all_reduce_fusion else _APART
            context.set_auto_parallel_context(comm_fusion=fusion)

    def get_device_num_is_set(self) -> bool:
        """Whether `device_num` was set."""
        return context.device_num() is not None


_settings = _Settings()


def auto_parallel_context() -> _Settings:
    """The parallel settings as one object."""
    return _settings
