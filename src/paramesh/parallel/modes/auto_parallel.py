"""MindSpore 2's `AutoParallel`: a network with the settings that it is parallel under.

In MindSpore the settings belong to the one network. Here they are those of
`set_auto_parallel_context`, made when a method is called, so they hold for all programs of the
process from then on; a program gives the same numbers under all of them. What speaks to MindSpore's
compiler is checked and noted in the log of `paramesh` as having no effect.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from paramesh.context import set_auto_parallel_context
from paramesh.errors import ContextError
from paramesh.nn.cell import Cell
from paramesh.parallel.layouts.layout import Layout

__all__ = ["AutoParallel"]

_logger = logging.getLogger("paramesh")

_MODES: dict[str, dict[str, Any]] = {
    "semi_auto": {"parallel_mode": "semi_auto_parallel"},
    "sharding_propagation": {
        "parallel_mode": "auto_parallel",
        "search_mode": "sharding_propagation",
    },
    "recursive_programming": {
        "parallel_mode": "auto_parallel",
        "search_mode": "recursive_programming",
    },
}


class AutoParallel(Cell):
    """A network that is sharded over all devices.

    Its Parameters keep their names, and calls go to the network.

    Args:
        network: a Cell, or a function of Tensors.
        parallel_mode: "semi_auto" (by the strategies that operators have), "sharding_propagation"
            (these, in `auto_parallel`) or "recursive_programming" (what has none is searched).

    Raises:
        TypeError: `network` cannot be called.
        ValueError: another mode.
    """

    def __init__(self, network: object, parallel_mode: str = "semi_auto") -> None:
        super().__init__(auto_prefix=False)
        if not callable(network):
            raise TypeError(
                f"AutoParallel(network): expected a Cell or a function, got {network!r}."
            )
        if parallel_mode not in _MODES:
            raise ValueError(
                f"AutoParallel(parallel_mode): {parallel_mode!r} is not one of "
                f"{', '.join(map(repr, _MODES))}."
            )
        self.network = network
        self.parallel_mode = parallel_mode
        set_auto_parallel_context(**_MODES[parallel_mode])

    def construct(self, *args: Any, **kwargs: Any) -> Any:
        """What the network gives."""
        return self.network(*args, **kwargs)

    # What is sharded.

    def dataset_strategy(self, config: object) -> None:
        """Say how inputs are sharded: the setting `dataset_strategy`.

        Args:
            config: "data_parallel", "full_batch", or a tuple with a tuple of ints or a Layout for
                each input.

        Raises:
            TypeError: neither, or a tuple of something else.
            ValueError: another text, or None.
        """
        call = "AutoParallel.dataset_strategy"
        if config is None or (
            isinstance(config, str) and config not in ("data_parallel", "full_batch")
        ):
            raise ValueError(
                f"{call}: config must be 'data_parallel', 'full_batch' or a tuple, got {config!r}."
            )
        if not isinstance(config, str | tuple):
            raise TypeError(f"{call}: config must be a str or a tuple, got {config!r}.")
        for entry in config if isinstance(config, tuple) else ():
            is_strategy = isinstance(entry, tuple) and all(type(n) is int for n in entry)
            if not is_strategy and not isinstance(entry, Layout):
                raise TypeError(
                    f"{call}: an entry must be a tuple of ints or a Layout, got {entry!r}."
                )
        set_auto_parallel_context(dataset_strategy=config, full_batch=config == "full_batch")

    def hsdp(
        self, shard_size: int = -1, threshold: int = 64, optimizer_level: str = "level1"
    ) -> None:
        """Shard the state of the optimizer: the settings of the parallel optimizer.

        Args:
            shard_size: over at most so many devices; -1: all that would hold copies.
            threshold: kilobytes; state of smaller Parameters is not sharded.
            optimizer_level: "level1" (state) or "level2" (gradients too), which are the same here:
                gradients are sharded like the state that they move.

        Raises:
            TypeError: no ints; ValueError: out of range, or another level.
            ContextError: "level3", which shards Parameters: give them a `layout` for that, or have
                them searched for.
        """
        if optimizer_level == "level3":
            raise ContextError(
                "AutoParallel.hsdp: optimizer_level='level3' shards the Parameters themselves. "
                "Give them a layout (Parameter.layout, Cell.shard), or use "
                "parallel_mode='recursive_programming', which finds one under device_memory."
            )
        if optimizer_level not in ("level1", "level2"):
            raise ValueError(
                "AutoParallel.hsdp: optimizer_level must be 'level1', 'level2' or 'level3', got "
                f"{optimizer_level!r}."
            )
        set_auto_parallel_context(
            enable_parallel_optimizer=True,
            parallel_optimizer_config={
                "parallel_optimizer_threshold": threshold,
                "optimizer_weight_shard_size": shard_size,
            },
        )

    def pipeline(
        self,
        stages: int = 1,
        output_broadcast: bool = False,
        interleave: bool = False,
        scheduler: str = "1f1b",
    ) -> None:
        """The settings `pipeline_stages`, `pipeline_config` and `pipeline_result_broadcast`.

        Args:
            stages: how many stages; Cells say by `pipeline_stage` where they belong.
            output_broadcast: recorded; the process has the results of all stages.
            interleave: False only.
            scheduler: "1f1b" or "gpipe".

        Raises:
            TypeError, ValueError: as the settings.
        """
        set_auto_parallel_context(
            pipeline_stages=stages,
            pipeline_config={"pipeline_interleave": interleave, "pipeline_scheduler": scheduler},
            pipeline_result_broadcast=output_broadcast,
        )

    # What is sent.

    def comm_fusion(self, config: Mapping[str, Any]) -> None:
        """Say which gradients travel together: the setting `comm_fusion`, which checks it."""
        set_auto_parallel_context(comm_fusion=dict(config) if config else None)

    def enable_fp32_communication(self) -> None:
        """Add 16-bit gradients up as Float32, which is the default here."""
        set_auto_parallel_context(gradient_fp32_sync=True)

    def disable_gradient_fp32_sync(self) -> None:
        """Add 16-bit gradients up as they are."""
        set_auto_parallel_context(gradient_fp32_sync=False)

    def enable_gradients_mean(self) -> None:
        """The setting `gradients_mean`: of no effect here, where the loss is that of the batch."""
        set_auto_parallel_context(gradients_mean=True)

    def disable_loss_repeated_mean(self) -> None:
        """Noted: a loss that several devices compute is one value here, and counts once."""
        _no_effect("disable_loss_repeated_mean", "a loss is one global value, and counts once")

    # Files.

    def save_param_strategy_file(self, file_path: str) -> None:
        """Have the layouts of Parameters written to a file: `strategy_ckpt_save_file`.

        Raises:
            TypeError: no str.
        """
        set_auto_parallel_context(
            strategy_ckpt_save_file=_path("save_param_strategy_file", file_path)
        )

    def load_param_strategy_file(self, file_path: str) -> None:
        """Take the layouts of Parameters from a file: `strategy_ckpt_load_file`.

        Raises:
            TypeError: no str.
        """
        set_auto_parallel_context(
            strategy_ckpt_load_file=_path("load_param_strategy_file", file_path)
        )

    def disable_strategy_file_only_for_trainable_params(self) -> None:
        """Nothing to do: strategy files speak of all Parameters."""

    def save_operator_strategy_file(self, file_path: str) -> None:
        """Refused: see `load_operator_strategy_file`."""
        _no_operator_file("save_operator_strategy_file", file_path)

    def load_operator_strategy_file(self, file_path: str) -> None:
        """Refused: operators have no names here that another run could find them by.

        Raises:
            TypeError: no str.
            ContextError: otherwise.
        """
        _no_operator_file("load_operator_strategy_file", file_path)

    def set_group_ckpt_save_file(self, file_path: str) -> None:
        """Noted: checkpoints find the devices by the layouts in them.

        Raises:
            TypeError: no str.
        """
        _path("set_group_ckpt_save_file", file_path)
        _no_effect("set_group_ckpt_save_file", "checkpoints have their layouts in them")

    # What speaks to MindSpore's compiler.

    def no_init_parameters_in_compile(self) -> None:
        """Nothing to do: `compile` never makes the values of Parameters."""

    def transformer_opt(self, file_path: str | None) -> None:
        """Noted: XLA schedules what is sent and computed."""
        _no_effect("transformer_opt", "XLA schedules what is sent and computed")

    def auto_memory_offload(self, config: Mapping[str, Any]) -> None:
        """Noted: see the setting `device_memory`, and `Cell.recompute`."""
        _no_effect("auto_memory_offload", "use the setting device_memory, and Cell.recompute")

    def print_local_norm(self) -> None:
        """Noted: gradients are global values here, without a norm of each device."""
        _no_effect("print_local_norm", "gradients are global values; look at their norm")

    def dump_local_norm(self, file_path: str) -> None:
        """Noted, as `print_local_norm`.

        Raises:
            TypeError: no str.
        """
        _path("dump_local_norm", file_path)
        _no_effect("dump_local_norm", "gradients are global values; look at their norm")

    def enable_device_local_norm(self) -> None:
        """Noted, as `print_local_norm`."""
        _no_effect("enable_device_local_norm", "gradients are global values; look at their norm")


def _path(method: str, file_path: object) -> str:
    if not isinstance(file_path, str):
        raise TypeError(
            f"AutoParallel.{method}: file_path must be a str, got {type(file_path).__name__}."
        )
    return file_path


def _no_operator_file(method: str, file_path: object) -> None:
    _path(method, file_path)
    raise ContextError(
        f"AutoParallel.{method}: there are no files of operators' strategies. Use "
        "save_param_strategy_file and load_param_strategy_file: layouts of Parameters decide the "
        "rest."
    )


def _no_effect(method: str, reason: str) -> None:
    _logger.warning("AutoParallel.%s has no effect here: %s.", method, reason)
