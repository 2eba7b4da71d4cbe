"""What a checkpoint holds: arrays by name, and small facts beside them.

Glossary
    appended    the entries of `append_dict`: numbers, bools and strings that belong to no network
                (an epoch, a learning rate), and Tensors, which are saved as any Parameter is
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paramesh.dtype import bool_, int32, int64
from paramesh.errors import CheckpointError, DuplicateNameError
from paramesh.nn.cell import Cell
from paramesh.parameter import Parameter, materialise
from paramesh.tensor import Tensor

Appended = bool | int | float | str
Choice = Callable[[str], bool]


class AppendedNumber(Parameter):
    """A number that `append_dict` put into a checkpoint, as `load_checkpoint` returns it.

    It is a Parameter of shape (), as in MindSpore: Bool, Int32 (Int64 if it does not fit), or
    Float32 (Float64 if it would lose digits). `load_param_into_net` passes over it.
    """


@dataclass
class Records:
    """The contents of one file."""

    arrays: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    appended: dict[str, Appended] = field(default_factory=dict)


def records_of(save_obj: Any, choice: Choice | None) -> Records:
    """The arrays of a Cell, a {name: Tensor} or a [{"name": …, "data": …}].

    Raises:
        TypeError: it is none of these, or an entry is no array.
        DuplicateNameError: two different Tensors of one name.
    """
    chosen = {n: data for n, data in _entries(save_obj) if choice is None or choice(n)}
    materialise(data for data in chosen.values() if isinstance(data, Parameter) and data.has_init)
    return Records({name: _array(name, data) for name, data in chosen.items()})


def _entries(save_obj: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(save_obj, Cell):
        return save_obj.parameters_dict().items()
    if isinstance(save_obj, Mapping):
        return [(_name(name), data) for name, data in save_obj.items()]
    if isinstance(save_obj, list):
        return _unique(save_obj)
    raise TypeError(
        'save_checkpoint takes a Cell, {name: Tensor} or [{"name": str, "data": Tensor}], '
        f"got {type(save_obj).__name__}."
    )


def _unique(listed: list[Any]) -> list[tuple[str, Any]]:
    found: dict[str, Any] = {}
    for i, entry in enumerate(listed):
        if not isinstance(entry, Mapping) or not {"name", "data"} <= set(entry):
            raise TypeError(
                f'save_checkpoint: entry {i} of the list must be {{"name": str, "data": Tensor}}, '
                f"got {entry!r}."
            )
        name, data = _name(entry["name"]), entry["data"]
        if found.setdefault(name, data) is not data:
            raise DuplicateNameError(
                f"save_checkpoint: two different Tensors of the list are named '{name}'; a file "
                "keeps one value for each name."
            )
    return list(found.items())


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"save_checkpoint: a name must be a str that is not empty, got {name!r}.")
    if name == "__metadata__":
        raise ValueError("save_checkpoint: the name '__metadata__' belongs to the file format.")
    return name


def _array(name: str, data: Any) -> np.ndarray[Any, Any]:
    if isinstance(data, Tensor):
        return np.asarray(data._get(), order="C")
    if isinstance(data, np.ndarray):
        return np.asarray(Tensor(data)._get(), order="C")
    raise TypeError(f"save_checkpoint: '{name}' must be a Tensor, got {type(data).__name__}.")


def append(records: Records, append_dict: Any) -> None:
    """Put the entries of `append_dict` into `records`.

    Raises:
        TypeError: no dict; a key that is no str; a value of another kind.
        DuplicateNameError: an entry has the name of a saved Parameter.
    """
    if append_dict is None:
        return
    if not isinstance(append_dict, Mapping):
        raise TypeError(
            f"save_checkpoint: append_dict must be a dict, got {type(append_dict).__name__}."
        )
    for key, value in append_dict.items():
        name = _name(key)
        if name in records.arrays:
            raise DuplicateNameError(
                f"save_checkpoint: append_dict has an entry '{name}', which is also the name of a "
                "saved Parameter."
            )
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, Appended):
            records.appended[name] = value
        elif isinstance(value, Tensor):
            records.arrays[name] = _array(name, value)
        else:
            raise TypeError(
                f"save_checkpoint: append_dict['{name}'] must be a number, bool, str or Tensor, "
                f"got {type(value).__name__}."
            )


def appended_value(name: str, value: Appended) -> AppendedNumber | str:
    """An entry of `append_dict` as `load_checkpoint` returns it.

    Raises:
        CheckpointError: an int of more than 64 bits.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return AppendedNumber(Tensor(value, bool_), name)
    if isinstance(value, float):
        with np.errstate(over="ignore"):
            exact = float(np.float32(value)) == value or value != value
        return AppendedNumber(Tensor(np.array(value, np.float32 if exact else np.float64)), name)
    if not -(2**63) <= value < 2**63:
        raise CheckpointError(f"The appended number '{name}' = {value} does not fit Int64.")
    fits = -(2**31) <= value < 2**31
    return AppendedNumber(Tensor(value, int32 if fits else int64), name)
