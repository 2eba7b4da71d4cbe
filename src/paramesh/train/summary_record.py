"""SummaryRecord: what MindSpore's scripts write for MindInsight.

MindInsight is no longer developed; the files here are those of TensorBoard, through tensorboardX
(extra `summary`), with the same names of values.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from paramesh.array_types import ArrayLike, HostArray
from paramesh.ops import graph_marks
from paramesh.train.summary_arguments import EXPORT_FORMATS, WRITTEN, check_export, check_folder

__all__ = ["SummaryRecord", "_cache_summary_tensor_data", "write_histogram"]

_DEFAULT_EXPORT_OPTIONS = EXPORT_FORMATS  # MindSpore's name, which scripts import
_logger = logging.getLogger("paramesh")


class SummaryRecord:
    """Writes values of steps; used with `with`, or closed by `close`.

    What the operators `ScalarSummary`, `TensorSummary`, `HistogramSummary` and `ImageSummary` are
    given while it is open is recorded, too.

    Args:
        log_dir: the folder, made if it is not there.
        file_prefix: what the file's name has behind those of TensorBoard.
        file_suffix: the end of the name.
        num_process: MindSpore's, without effect, like the four last.
        network: see `num_process`.
        max_file_size: see `num_process`.
        raise_exception: see `num_process`.
        export_options: {"tensor_format": "npy"} or None; see `num_process`.

    Raises:
        TypeError, ValueError: an argument of the wrong type; an empty `log_dir`; other
            `export_options`.
        NotADirectoryError: `log_dir` is a file.
        ImportError: tensorboardX is not installed.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        file_prefix: str = "events",
        file_suffix: str = "_MS",
        num_process: int = 32,
        network: object = None,
        max_file_size: int | None = None,
        raise_exception: bool = False,
        export_options: object = None,
    ) -> None:
        check_folder("SummaryRecord", "log_dir", log_dir)
        check_export("SummaryRecord", export_options)
        if not isinstance(raise_exception, bool):
            raise TypeError(
                f"SummaryRecord: raise_exception must be a bool, got {raise_exception!r}."
            )
        for argument, part in (("file_prefix", file_prefix), ("file_suffix", file_suffix)):
            if not isinstance(part, str) or "/" in part:
                raise TypeError(
                    f"SummaryRecord: {argument} must be a part of a file's name, got {part!r}."
                )
        try:
            library = importlib.import_module("tensorboardX")
        except ImportError as error:
            raise ImportError(
                "SummaryRecord writes through tensorboardX, which is not installed: "
                "pip install 'paramesh[summary]'."
            ) from error
        self._dir = os.path.realpath(os.fspath(log_dir))
        self._writer: Any = library.SummaryWriter(
            logdir=self._dir, filename_suffix=f".{file_prefix}{file_suffix}"
        )
        self._mode = "train"
        self._values: list[tuple[str, str, Any]] = []
        graph_marks.listeners.append(self._given)

    def __enter__(self) -> SummaryRecord:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def log_dir(self) -> str:
        """The folder."""
        return self._dir

    def _given(self, kind: str, name: str, value: ArrayLike) -> None:
        self._values.append((kind, name, np.asarray(value)))

    def set_mode(self, mode: str) -> None:
        """Say which part of the names of values follow.

        Args:
            mode: "train" or "eval".

        Raises:
            ValueError: another mode.
        """
        if mode not in ("train", "eval"):
            raise ValueError(f"SummaryRecord: mode must be 'train' or 'eval', got {mode!r}.")
        self._mode = mode

    def add_value(self, plugin: str, name: str, value: ArrayLike) -> None:
        """Take a value for the next `record`.

        Args:
            plugin: "scalar", "tensor", "image" (n, c, h, w) or "histogram". Lineage, graphs and
                landscapes are MindInsight's, and nothing is written of them.
            name: of the value.
            value: a Tensor or number.

        Raises:
            ValueError: no name.
        """
        if not name:
            raise ValueError("SummaryRecord.add_value: name must not be empty.")
        if plugin in WRITTEN:
            self._values.append((plugin, name, np.asarray(value)))

    def record(
        self,
        step: int,
        train_network: object = None,
        plugin_filter: Callable[[str], bool] | None = None,
    ) -> bool:
        """Write what was taken.

        Args:
            step: the number of the step.
            train_network: MindSpore's, without effect.
            plugin_filter: a function that says of which kinds values are written; None: all.

        Returns:
            Whether it could.

        Raises:
            TypeError: `step` is not an int.
        """
        if not isinstance(step, int) or isinstance(step, bool):
            raise TypeError(f"SummaryRecord.record: step must be an int, got {step!r}.")
        if self._writer is None:
            return False
        values, self._values = self._values, []
        for kind, name, value in values:
            if plugin_filter is None or plugin_filter(kind):
                self._write(kind, name, value, step)
        return True

    def _write(self, kind: str, name: str, value: HostArray, step: int) -> None:
        if kind == "scalar":
            self._writer.add_scalar(name, float(value.reshape(-1)[0]), step)
        elif kind == "image":
            images = value if value.ndim == 4 else value[None]
            self._writer.add_images(name, images[:10], step)
        else:
            write_histogram(self._writer, name, value, step)

    def flush(self) -> None:
        """Have all that was recorded on disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Write, and end; a second call does nothing."""
        if self._writer is not None:
            graph_marks.listeners.remove(self._given)
            self._writer.close()
            self._writer = None


class _Writer(Protocol):
    """What tensorboardX has for it."""

    def add_histogram(self, tag: str, values: HostArray, global_step: int) -> object:
        """Write a distribution."""


def write_histogram(writer: _Writer, name: str, value: HostArray, step: int) -> None:
    """Write the distribution of the finite values; a line in the log if there is none."""
    flat = value.astype(np.float64).reshape(-1)
    finite = flat[np.isfinite(flat)]
    if finite.size:
        writer.add_histogram(name, finite, step)
    else:
        _logger.warning("step %s: '%s' has no finite value, so no histogram.", step, name)


_KIND_OF_NAME = re.compile(r"(.+)\[:(Scalar|Tensor|Image|Histogram)\]")


def _cache_summary_tensor_data(summary: Iterable[Mapping[str, Any]]) -> bool:
    """Hand values to the SummaryRecords that are open, as the summaries of a graph.

    Args:
        summary: dicts with the `data` and a `name` with the kind behind it, as `x[:Scalar]`.

    Returns:
        True.

    Raises:
        ValueError: a name without a kind.
    """
    for each in summary:
        match = _KIND_OF_NAME.fullmatch(each["name"])
        if match is None:
            raise ValueError(
                f"A summary's name must end with its kind, such as 'x[:Scalar]', got "
                f"{each['name']!r}."
            )
        for listen in graph_marks.listeners:
            listen(match[2].lower(), match[1], each["data"])
    return True
