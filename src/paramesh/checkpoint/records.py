"""The contents of a checkpoint to save: Tensors by name, and the entries of `append_dict`.

Glossary
    appended    the entries of `append_dict`: numbers, bools and strings that belong to no network
                (an epoch, a learning rate), and Tensors, which are saved like Parameters
    pinned      values that later steps cannot change: copies in host memory, or arrays of another
                device that are not donated while they are referenced
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import numpy as np

from paramesh.checkpoint.formats.apart import Apart
from paramesh.checkpoint.formats.interface import Appended, Entry, number_array
from paramesh.checkpoint.staging import Staging
from paramesh.errors import DuplicateNameError
from paramesh.nn.cell import Cell
from paramesh.parallel.modes.per_device import all_devices_values, per_device, value_count
from paramesh.parameter import Parameter, materialise
from paramesh.state import placement, storage
from paramesh.tensor.base import Tensor, wrap

Choice = Callable[[str], bool]


#: Names of `append_dict` that begin with it are paramesh's own: where a run was.
OWN = "paramesh."


class AppendedNumber(Parameter):
    """A number from `append_dict`, as `load_checkpoint` returns it.

    It is a Parameter of shape (), as in MindSpore: Bool, Int32 (Int64 if it does not fit), or
    Float32 (Float64 if it would lose digits); from MindSpore's files, of the type that is there,
    and any array of shape () in them may be one. `load_param_into_net` passes over it unless the
    network has a Parameter of its name.
    """


@dataclass
class Records:
    """The contents of one file, before they are arrays in host memory."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    appended: dict[str, Appended] = field(default_factory=dict)
    #: What is written by others.
    apart: Apart | None = None

    def entries(self) -> list[Entry]:
        """The entries of the file."""
        return [Entry.of(name, data.dtype, data.shape) for name, data in self.tensors.items()]

    def values(self) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        """(name, array in host memory) of each Tensor, copied there one at a time.

        All are of the same step, even if other threads train meanwhile.
        """
        for name, value in current_values(self.tensors).items():
            yield name, value if isinstance(value, np.ndarray) else _on_the_host(value)

    def pin(self, staging: Staging) -> PinnedValues:
        """The current values, whatever training does next.

        Values in host memory are copied. Values on another device stay there: an array that is
        referenced is not donated, but copied on its device, which is faster than a copy to the host
        that training would have to wait for.
        """
        return PinnedValues(
            self.entries(), pinned_values(self.tensors, staging), dict(self.appended)
        )


@dataclass
class PinnedValues:
    """The contents of one file; later steps do not change them."""

    _entries: list[Entry]
    arrays: dict[str, Any]
    appended: dict[str, Appended]

    def entries(self) -> list[Entry]:
        """The entries of the file."""
        return self._entries

    def values(self) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        """(name, array in host memory) of each."""
        for name, value in self.arrays.items():
            yield name, host(value) if isinstance(value, Tensor) else value


def pinned_values(tensors: Mapping[str, Tensor], staging: Staging) -> dict[str, Any]:
    """For each Tensor a copy in host memory, or a Tensor with its array on another device."""
    found: dict[str, Any] = {}
    for name, value in current_values(tensors).items():
        view = isinstance(value, np.ndarray)
        found[name] = value if view else _on_the_host(value) if _on_host(value) else wrap(value)
    here = {name: value for name, value in found.items() if not isinstance(value, Tensor)}
    return found | dict(zip(here, staging.copies(list(here.values())), strict=True))


def current_values(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The current value of each Tensor, all of one step: an array, or a view of a pool's array."""
    values = storage.still(list(tensors.values()), _current_value)
    return dict(zip(tensors, values, strict=True))


def _current_value(tensor: Tensor) -> Any:
    view = _pooled(tensor)
    return tensor._get() if view is None else view


def _on_host(value: object) -> bool:
    return not isinstance(value, jax.Array) or all(
        device.platform == "cpu" for device in value.sharding.device_set
    )


def _pooled(tensor: Tensor) -> np.ndarray[Any, Any] | None:
    """The value of a Parameter that lies in a pool's array, as a view of it."""
    slot = tensor._slot if isinstance(tensor, Parameter) else None
    return None if slot is None else slot.pool.view(slot.at)


def records_of(save_obj: object, choice: Choice | None, everywhere: bool = False) -> Records:
    """The Tensors of a Cell, a {name: Tensor} or a [{"name": …, "data": …}].

    Args:
        save_obj: one of these.
        choice: takes those names alone for which it returns True.
        everywhere: of layerwise-parallel Parameters, take the values of the devices of all
            processes, and not of this one alone; and leave to servers what they have.

    Raises:
        TypeError: it is none of these, or an entry is no array.
        DuplicateNameError: two different Tensors of one name.
    """
    chosen = {n: data for n, data in _entries(save_obj) if choice is None or choice(n)}
    apart: Apart | None = None
    if everywhere:
        chosen, texts, apart = placement.current().saved_apart(chosen)
    else:
        chosen, texts = placement.current().saved(chosen)
    tensors = {name: _tensor(name, data, everywhere) for name, data in chosen.items()}
    materialise(data for data in tensors.values() if isinstance(data, Parameter) and data.has_init)
    return Records(tensors, dict(texts), apart)


def _entries(save_obj: object) -> Iterable[tuple[str, Any]]:
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
        if isinstance(entry, Parameter):
            entry = {"name": entry.name, "data": entry}
        if not isinstance(entry, Mapping) or not {"name", "data"} <= set(entry):
            raise TypeError(
                f"save_checkpoint: entry {i} of the list must be a Parameter or "
                f'{{"name": str, "data": Tensor}}, got {entry!r}.'
            )
        name, data = _name(entry["name"]), entry["data"]
        if found.setdefault(name, data) is not data:
            raise DuplicateNameError(
                f"save_checkpoint: two different Tensors of the list are named '{name}'; a file "
                "keeps one value for each name."
            )
    return list(found.items())


def _name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"save_checkpoint: a name must be a non-empty str, got {name!r}.")
    return name


def _tensor(name: str, data: object, everywhere: bool) -> Tensor:
    if everywhere and isinstance(data, Parameter) and data.layerwise_parallel:
        values = all_devices_values(data)
        return data if values is None else values
    if isinstance(data, Parameter) and data.layerwise_parallel and value_count(data) > 1:
        return per_device(data)
    if isinstance(data, Tensor):
        return data
    if isinstance(data, np.ndarray):
        return Tensor(data)
    raise TypeError(f"save_checkpoint: '{name}' must be a Tensor, got {type(data).__name__}.")


def host(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A Tensor's values in the host's memory: of a CPU the very bytes, of another device a copy.

    The copy is not kept in the array, as `np.asarray` of it would do for as long as it lives.
    """
    view = _pooled(tensor)
    return _on_the_host(tensor._get()) if view is None else view


def _on_the_host(value: object) -> np.ndarray[Any, Any]:
    if isinstance(value, jax.Array) and value.size:
        try:  # the quickest, which many small arrays need
            return np.frombuffer(cast(Any, value), value.dtype).reshape(value.shape)
        except (BufferError, RuntimeError, TypeError, ValueError):
            pass  # bfloat16, or on several devices, or not on the CPU
    if isinstance(value, jax.Array) and value.is_fully_addressable and value.is_fully_replicated:
        full: Any = value.addressable_data(0)
        try:
            return np.from_dlpack(full)
        except (BufferError, RuntimeError, TypeError):  # bfloat16, or memory of another device
            return np.asarray(full)
    return np.asarray(value)


def append(records: Records, append_dict: object) -> None:
    """Put the entries of `append_dict` into `records`.

    Raises:
        TypeError: no dict; a key that is no str; a value of another kind.
        ValueError: an int of more than 64 bits.
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
        if name in records.tensors:
            raise DuplicateNameError(
                f"save_checkpoint: append_dict has an entry '{name}', which is also the name of a "
                "saved Parameter."
            )
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, Appended):
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ValueError(
                    f"save_checkpoint: append_dict['{name}'] = {value} does not fit Int64; keep it "
                    "as a str."
                )
            records.appended[name] = value
        elif isinstance(value, Tensor):
            records.tensors[name] = value
        else:
            raise TypeError(
                f"save_checkpoint: append_dict['{name}'] must be a number, bool, str or Tensor, "
                f"got {type(value).__name__}."
            )


def appended_value(name: str, value: Appended) -> AppendedNumber | str:
    """An entry of `append_dict` as `load_checkpoint` returns it."""
    return value if isinstance(value, str) else AppendedNumber(Tensor(number_array(value)), name)
