"""SummaryCollector: writes the loss and Parameters while `Model.train` runs.

Source: MindSpore's callback of this name. What it has for MindInsight alone is not written.
"""

from __future__ import annotations

import os
import re
from typing import Any

from paramesh.train import summary_arguments as arguments
from paramesh.train.callbacks import Callback, Facts, RunContext, evaluates, loss_number
from paramesh.train.summary_record import SummaryRecord

__all__ = ["SummaryCollector"]


class SummaryCollector(Callback):
    """Write the loss, the learning rate and what else a run gives, every so many steps.

    Args:
        summary_dir: the folder.
        collect_freq: every so many steps.
        num_process: MindSpore's, without effect.
        collect_specified_data: {what: whether}: `collect_metric` (the loss), and
            `histogram_regular` (a pattern of names of Parameters whose values are written). Others
            are MindInsight's, and nothing is written of them.
        keep_default_action: whether what is not in `collect_specified_data` is collected: the loss.
        custom_lineage_data: {str: int, str or float}; MindSpore's, without effect, like the rest.
        collect_tensor_freq: see `custom_lineage_data`.
        max_file_size: see `custom_lineage_data`.
        export_options: see `custom_lineage_data`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number is below 1, `summary_dir` is empty; an unknown key, or a pattern that
            is none; in training, two collectors among the callbacks.
        NotADirectoryError: `summary_dir` is a file.
        ImportError: in training, tensorboardX is not installed.
    """

    _DEFAULT_SPECIFIED_DATA = arguments.COLLECTED

    def __init__(
        self,
        summary_dir: str | os.PathLike[str],
        collect_freq: int = 10,
        num_process: int = 32,
        collect_specified_data: dict[str, Any] | None = None,
        keep_default_action: bool = True,
        custom_lineage_data: object = None,
        collect_tensor_freq: int | None = None,
        max_file_size: int | None = None,
        export_options: object = None,
    ) -> None:
        owner = "SummaryCollector"
        arguments.check_folder(owner, "summary_dir", summary_dir)
        arguments.check_positive(owner, "collect_freq", collect_freq)
        for name, number in (
            ("collect_tensor_freq", collect_tensor_freq), ("max_file_size", max_file_size),
        ):  # fmt: skip
            if number is not None:
                arguments.check_positive(owner, name, number)
        arguments.check_export(owner, export_options)
        arguments.check_type(owner, "keep_default_action", keep_default_action, bool)
        self._collect_specified_data = arguments.collected(
            owner, collect_specified_data, keep_default_action
        )
        arguments.check_lineage(owner, custom_lineage_data)
        self._dir, self._every = os.path.realpath(summary_dir), collect_freq
        self._record: SummaryRecord | None = None

    def __exit__(self, *error: object) -> None:
        if self._record is not None:
            self._record.close()
            self._record = None

    def begin(self, run_context: RunContext) -> None:
        """Open a file."""
        if not evaluates(run_context):
            self._check_callbacks(run_context.original_args())
            self._record = SummaryRecord(self._dir)

    def _check_callbacks(self, cb_params: Facts) -> None:
        given = cb_params.get("list_callback")
        listed = given if isinstance(given, list | tuple) else []
        if sum(isinstance(callback, SummaryCollector) for callback in listed) > 1:
            raise ValueError(
                "SummaryCollector: callbacks has several of them, whose files would mix. Give one."
            )

    def step_end(self, run_context: RunContext) -> None:
        """Write what is due."""
        if evaluates(run_context):
            return
        args, record = run_context.original_args(), self._record
        if record is None or args.cur_step_num % self._every:
            return
        collected = self._collect_specified_data
        if collected.get("collect_metric"):
            record.add_value("scalar", "loss/auto", loss_number(args.net_outputs))
        pattern = collected.get("histogram_regular")
        if pattern:
            for param in args.train_network.get_parameters():
                if re.match(pattern, param.name):
                    record.add_value("histogram", f"{param.name}/auto", param.asnumpy())
        record.record(args.cur_step_num)

    def end(self, run_context: RunContext) -> None:
        """Close the file."""
        if not evaluates(run_context):
            self.__exit__()
