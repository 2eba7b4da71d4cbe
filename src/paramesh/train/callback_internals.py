"""What scripts import of the inside of MindSpore's callbacks, and what each is here.

`_CallbackManager` calls callbacks in a loop of one's own; `_CheckpointManager` keeps a list of
files; the others belong to saving from inside of a graph.
"""

from __future__ import annotations

import contextlib
import os
import time
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from paramesh.nn import loading
from paramesh.nn.cell import Cell
from paramesh.tensor.base import Tensor
from paramesh.train.callbacks import Callback, Callbacks, RunContext, as_callbacks
from paramesh.train.model_checkpoint import numbered_prefix

__all__ = [
    "_CallbackManager",
    "_CheckpointManager",
    "_checkpoint_cb_for_save_op",
    "_chg_ckpt_file_name_if_same_exist",
    "_set_cur_net",
    "set_cur_net",
]

_MOMENTS = [
    f"{phase}{moment}"
    for phase in ("", "on_train_", "on_eval_")
    for moment in ("begin", "epoch_begin", "step_begin", "step_end", "epoch_end", "end")
]


class _CallbackManager(Callback):
    """Several callbacks as one; with `with`, each is entered and left.

    Args:
        callbacks: a Callback or several; None for none.

    Raises:
        TypeError: something else.
    """

    def __init__(self, callbacks: Callbacks | None) -> None:
        self._callbacks = as_callbacks(callbacks)
        self._entered = contextlib.ExitStack()

    def __enter__(self) -> _CallbackManager:
        for callback in self._callbacks:
            self._entered.enter_context(callback)
        return self

    def __exit__(self, *error: object) -> None:
        kind, value, trace = error
        assert kind is None or isinstance(kind, type)
        assert value is None or isinstance(value, BaseException)
        assert trace is None or isinstance(trace, types.TracebackType)
        self._entered.__exit__(kind, value, trace)


def _forwarded(moment: str) -> Any:
    def called(self: _CallbackManager, run_context: RunContext) -> None:
        for callback in self._callbacks:
            getattr(callback, moment)(run_context)

    called.__name__ = moment
    called.__doc__ = f"Call `{moment}` of each."
    return called


for _moment in _MOMENTS:
    setattr(_CallbackManager, _moment, _forwarded(_moment))


class _CheckpointManager:
    """The checkpoints of a prefix in a folder, from the oldest to the newest."""

    def __init__(self) -> None:
        self._files: list[str] = []

    @property
    def ckpoint_filelist(self) -> list[str]:
        """Their paths."""
        return self._files

    @property
    def ckpoint_num(self) -> int:
        """How many there are."""
        return len(self._files)

    def update_ckpoint_filelist(self, directory: str, ckpoint_prefix: str) -> None:
        """Look for them.

        Args:
            directory: the folder.
            ckpoint_prefix: what the names have before the last `-`.
        """
        found = [
            path
            for path in Path(directory).glob("*.ckpt")
            if path.stem.rpartition("-")[0] == ckpoint_prefix
        ]
        self._files = [str(path) for path in sorted(found, key=lambda p: p.stat().st_mtime_ns)]

    def remove_ckpoint_file(self, file_name: str) -> None:
        """Delete one of them."""
        Path(file_name).unlink(missing_ok=True)
        name = os.path.realpath(file_name)
        self._files = [each for each in self._files if os.path.realpath(each) != name]

    def remove_oldest_ckpoint_file(self) -> None:
        """Delete the oldest; nothing if there is none."""
        if self._files:
            self.remove_ckpoint_file(self._files[0])

    def keep_one_ckpoint_per_minutes(self, minutes: float, cur_time: float) -> None:
        """Delete those of the last minutes but the oldest of these.

        Args:
            minutes: how many.
            cur_time: the present time, as `time.time()` gives it.
        """
        latest = [f for f in self._files if cur_time - Path(f).stat().st_mtime < 60 * minutes]
        for file_name in latest[1:]:
            self.remove_ckpoint_file(file_name)


_network: Cell | None = None


def _set_cur_net(net: Cell) -> None:
    """Say which network `_checkpoint_cb_for_save_op` writes to."""
    global _network
    _network = net


set_cur_net = _set_cur_net


def _checkpoint_cb_for_save_op(parameter_list: Iterable[Mapping[str, Any]]) -> bool:
    """Write values to the Parameters of the network of `_set_cur_net`.

    Args:
        parameter_list: dicts with a `name` and `data`.

    Returns:
        Whether there is a network.

    Raises:
        ParameterShapeError, ParameterDtypeError: values do not fit their Parameters; none is
            written.
    """
    if _network is None:
        return False
    mine = dict(_network.parameters_dict())
    given = {
        each["name"]: each["data"] if isinstance(each["data"], Tensor) else Tensor(each["data"])
        for each in parameter_list
        if each["name"] in mine
    }
    loading.check_all("_checkpoint_cb_for_save_op", mine, given)
    for name, value in given.items():
        mine[name].set_data(value)
    return True


def _chg_ckpt_file_name_if_same_exist(directory: str, prefix: str, exception: bool = False) -> str:
    """The prefix, with a number behind it if there are checkpoints of it already.

    Args:
        directory: with the files of earlier runs.
        prefix: what their names start with.
        exception: whether the name is of a save at an error, which gets the time behind it.
    """
    if exception:
        return f"{prefix}_{int(time.time())}"
    return numbered_prefix(Path(directory), prefix)
