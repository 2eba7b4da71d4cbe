"""`load_checkpoint` and `load_param_into_net`.

Glossary
    strict      every Parameter of the network gets a value of its shape and element type, and every
                value of the checkpoint has a Parameter; otherwise nothing is loaded
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from paramesh.array_types import Array
from paramesh.checkpoint import gc_pause, stacks
from paramesh.checkpoint.formats import npz_file
from paramesh.checkpoint.formats.assembled_source import SlicedSource
from paramesh.checkpoint.formats.interface import Source
from paramesh.checkpoint.formats.orbax_source import OrbaxSource
from paramesh.checkpoint.formats.storage_dtypes import storable
from paramesh.checkpoint.left_out import under_own_names, warn_of
from paramesh.checkpoint.opening import open_source, readable_format
from paramesh.checkpoint.records import OWN, AppendedNumber, Choice, appended_value
from paramesh.checkpoint.sharded.load import loaded_slices
from paramesh.checkpoint.staging import aligned_copies
from paramesh.dtype import is_64bit
from paramesh.errors import CheckpointError
from paramesh.nn.cell import Cell
from paramesh.parallel.modes.per_device import set_per_device, value_count
from paramesh.parameter import Parameter
from paramesh.parameter.names import reason_not_saveable, shortened
from paramesh.parameter.pool import is_fully_replicated
from paramesh.providers import providers
from paramesh.state import tracing
from paramesh.tensor.base import Tensor, wrap

#: From so many arrays of one shape, each of at most so many bytes, a compiled copy is faster.
_MANY, _SMALL = 64, 1 << 16

#: Numbers in the checkpoints of a training, ours and MindSpore's, that no network has.
_TRAINING_NUMBERS = frozenset(
    {
        "beta1_power",
        "beta2_power",
        "current_iterator_step",
        "global_step",
        "last_overflow_iterator_step",
        "learning_rate",
        "momentum",
        "scale_sense",
        "weight_decay",
    }
)


def load_checkpoint(
    ckpt_file_name: str | os.PathLike[str],
    net: Cell | None = None,
    strict_load: bool = True,
    filter_prefix: str | Iterable[str] | None = None,
    dec_key: bytes | None = None,
    dec_mode: str = "AES-GCM",
    specify_prefix: str | Iterable[str] | None = None,
    choice_func: Choice | None = None,
    crc_check: bool = False,
    remove_redundancy: bool = False,
    format: str | None = None,
) -> dict[str, Any]:
    """Read a checkpoint, and load it into a network if one is given.

    Args:
        ckpt_file_name: a safetensors file, MindSpore's `.ckpt`, PyTorch's `.pt` or `.bin`, flax's
            `.msgpack`, the folder of a sharded checkpoint or of orbax's, or HuggingFace's folder or
            its index. The format is found from the contents. NumPy's `.npz` is read with
            `format="npz"` alone, since such an archive may hold any arrays.
        net: the Cell to load it into, by `load_param_into_net`. Of Parameters with a known
            sharding, only the shards of this process's devices are read from a sharded checkpoint.
        strict_load: as in `load_param_into_net`; the warning also says which names are missing and
            unexpected.
        filter_prefix: names that start with it (or with one of several) are left out.
        dec_key: MindSpore's; None, since encrypted files are not read.
        dec_mode: MindSpore's; ignored.
        specify_prefix: only names that start with it (or with one of several) are read.
        choice_func: only names for which it returns True are read.
        crc_check: verify the checksums of the file, if it has any, before anything is read.
        remove_redundancy: MindSpore's; ignored.
        format: the required format; None for any.

    Returns:
        {name: Parameter}; entries of `append_dict` are Parameters of shape () (numbers, bools) and
        str. Where a run was, which `Model.train(resume=...)` reads, is not among them, nor rows of
        tables that servers have saved, and that `net` has: they
        are read from the checkpoint when they are needed.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is not valid, not complete, encrypted, or does not fit the
            network, or it is an `.npz` and `format` does not say so; nothing was loaded.
        TypeError, ValueError: an invalid argument; another format; an encryption key; no name
            starts with `specify_prefix`.
    """
    if not isinstance(ckpt_file_name, str | os.PathLike) or not os.fspath(ckpt_file_name):
        raise TypeError(
            f"load_checkpoint: ckpt_file_name must be the path of a file, got {ckpt_file_name!r}."
        )
    if net is not None and not isinstance(net, Cell):
        raise TypeError(f"load_checkpoint: net must be a Cell, got {type(net).__name__}.")
    if dec_key is not None:
        raise ValueError(
            "load_checkpoint: dec_key is given, but paramesh does not decrypt. Save the file again "
            "without enc_key in MindSpore."
        )
    path = Path(ckpt_file_name)
    kind = None if format is None else readable_format(format)
    left_out = _prefixes("filter_prefix", filter_prefix)
    chosen = _prefixes("specify_prefix", specify_prefix)
    only = chosen or ("",)

    def wanted(name: str) -> bool:
        return (
            not name.startswith((OWN, *left_out))
            and name.startswith(only)
            and (choice_func is None or choice_func(name))
        )

    with gc_pause.paused(), open_source(path) as source:
        if kind is not None and kind != source.format:
            raise ValueError(
                f"load_checkpoint: '{path}' is a {source.format} file, not format={format!r}."
            )
        if kind is None and source.format == npz_file.FORMAT:
            raise CheckpointError(
                f"'{path}' is a NumPy .npz archive, which may hold any arrays. "
                'If it is a checkpoint, pass format="npz", or convert it once: paramesh convert '
                f"{path} {path.with_suffix('.safetensors')}"
            )
        if chosen and not any(n.startswith(chosen) for n in (*source.names(), *source.appended)):
            raise ValueError(
                f"load_checkpoint: no name in '{path}' starts with specify_prefix="
                f"{specify_prefix!r}."
            )
        if crc_check:
            source.verify()
        found = _parameters(source, wanted, net)
        if net is not None:
            _load(net, found, strict_load, f"Checkpoint '{path}'", wanted)
    return {name: value for name, value in found.items() if isinstance(value, Parameter | str)}


def load_source(
    source: Source, net: Cell, strict_load: bool, what: str
) -> tuple[list[str], list[str]]:
    """Load an open checkpoint into a network.

    Args:
        source: the checkpoint.
        net: the network; of Parameters with a known sharding, only shards are read.
        strict_load: reject missing and unexpected names. Values of other shapes are always
            rejected.
        what: the checkpoint, for messages.

    Returns:
        As `load_param_into_net`.

    Raises:
        CheckpointError: lists everything that does not fit; nothing was loaded.
    """
    found = _parameters(source, lambda name: True, net)
    return _load(net, found, strict_load, what, must_fit=True)


def _parameters(source: Source, wanted: Choice, net: Cell | None) -> dict[str, Any]:
    names = [name for name in source.names() if wanted(name)]
    for name in (*names, *source.appended):
        why = reason_not_saveable(name)
        if why is not None:
            raise CheckpointError(
                f"Checkpoint '{source.path}' has the name {shortened(name)}: {why}. Nothing was "
                "loaded."
            )
    everything = [*names, *filter(wanted, source.appended)]
    left = {} if net is None else providers.left_in_file(source, everything, net)
    names = _readable(source, [name for name in names if name not in left], wanted)
    values: dict[str, Any] = dict.fromkeys(names)
    if net is not None and isinstance(source, SlicedSource | OrbaxSource):
        values |= loaded_slices(source, names, net)
    rest = [name for name in names if values[name] is None]
    values |= zip(rest, _on_device(source, rest), strict=True)
    found: dict[str, Any] = {}
    for name, value in values.items():
        loose = source.scalars_may_be_appended and not value.shape
        found[name] = (AppendedNumber if loose else Parameter)(wrap(value), name)
    for name, value in source.appended.items():
        if wanted(name):
            found[name] = appended_value(name, value)
    return found | left


def _readable(source: Source, names: list[str], wanted: Choice) -> list[str]:
    """The names of arrays that a Tensor can be; a warning says which others there are."""
    others = {name: kind for name, kind in source.skipped.items() if wanted(name)}
    for name in names:
        if not storable(source.entry(name).dtype):
            others[name] = f"{source.entry(name).dtype} {source.entry(name).shape}"
    if others:
        shown = ", ".join(f"'{name}' is {kind}" for name, kind in list(others.items())[:5])
        warnings.warn(
            f"Checkpoint '{source.path}': {len(others)} arrays are left out, since no Tensor has "
            f"their element type: {shown}{', …' if len(others) > 5 else ''}.",
            stacklevel=4,
        )
    return [name for name in names if name not in others]


def _on_device(source: Source, names: list[str]) -> list[Any]:
    """The arrays of these names; each is copied once, from the pages of the file to the device."""
    x64_names = [name for name in names if is_64bit(source.entry(name).dtype)]
    others = [name for name in names if not is_64bit(source.entry(name).dtype)]
    # JAX may alias an aligned numpy array, which would then be invalid when the file is closed.
    found = dict(zip(others, _put(source, others), strict=True))
    if x64_names:
        with jax.enable_x64(True):
            found |= zip(x64_names, _put(source, x64_names), strict=True)
    return [found[name] for name in names]


def _put(source: Source, names: list[str]) -> list[Any]:
    arrays = [source.read(name) for name in names]
    kinds: dict[Any, list[int]] = {}
    for i, array in enumerate(arrays):
        if array.nbytes <= _SMALL:
            kinds.setdefault((array.shape, array.dtype), []).append(i)
    found: list[Any] = [None] * len(arrays)
    for places in kinds.values():
        if len(places) >= _MANY:
            for i in places:
                found[i] = _copied(arrays[i])
    rest = [i for i, array in enumerate(found) if array is None]
    # JAX would copy unaligned arrays twice. These copies have no other owner, so JAX may alias
    # them.
    odd = [i for i in rest if not arrays[i].flags.aligned]
    for i, array in zip(odd, aligned_copies([arrays[i] for i in odd]), strict=True):
        arrays[i] = array
    own = set(odd)
    put = jax.device_put([arrays[i] for i in rest], may_alias=[i in own for i in rest])
    for i, array in zip(rest, put, strict=True):
        found[i] = array
    return found


@jax.jit
def _copied(array: Array) -> Any:
    """For small arrays, a compiled call takes a third of the time of `device_put`."""
    return jnp.copy(array)


def _prefixes(argument: str, given: str | Iterable[str] | None) -> tuple[str, ...]:
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, Iterable):
        prefixes = (given,)
    else:
        prefixes = tuple(given)
    for prefix in prefixes:
        if not isinstance(prefix, str) or not prefix:
            kind = ValueError if isinstance(prefix, str) else TypeError
            raise kind(
                f"load_checkpoint: {argument} must be a non-empty str or several of them, "
                f"got {given!r}."
            )
    return prefixes


def load_param_into_net(
    net: Cell,
    parameter_dict: Mapping[str, Any],
    strict_load: bool = True,
    remove_redundancy: bool = False,
) -> tuple[list[str], list[str]]:
    """Set the Parameters of a Cell to the values of their names.

    A Parameter that has no data yet takes the value without running its initializer. A
    layerwise-parallel one takes a value for each device of this process, or one for all. Entries of
    `append_dict` are ignored.

    Args:
        net: a network, an optimizer, or a training Cell with both.
        parameter_dict: {name: Parameter}, as `load_checkpoint` returns it.
        strict_load: reject missing and unexpected names, and other shapes and element types; what
            optimizers and loss scales have kept is not unexpected to a network alone. If False,
            what fits by name and shape is loaded, floats are cast to floats, and shapes of one
            element to each other; a `LeftOutWarning` lists the values that do not fit.
        remove_redundancy: MindSpore's; ignored.

    A Parameter with several attributes is found under any of their names. If there are values for
    two names, and they differ, that of the Parameter's own name is loaded, with a warning.

    Returns:
        (names in the network without a value, names in the dict that were not used).

    Raises:
        TypeError: `net` is not a Cell, or `parameter_dict` not a mapping of Parameters.
        CheckpointError: lists everything that does not fit; nothing was loaded.
    """
    if not isinstance(net, Cell):
        raise TypeError(f"load_param_into_net: net must be a Cell, got {type(net).__name__}.")
    if not isinstance(parameter_dict, Mapping):
        raise TypeError(
            "load_param_into_net: parameter_dict must be {name: Parameter}, "
            f"got {type(parameter_dict).__name__}."
        )
    for name, value in parameter_dict.items():
        if not isinstance(value, Parameter | str):
            raise TypeError(
                f"load_param_into_net: parameter_dict['{name}'] must be a Parameter, got "
                f"{type(value).__name__}. Wrap it: Parameter(value, name='{name}')."
            )
    if not isinstance(strict_load, bool):
        raise TypeError(f"load_param_into_net: strict_load must be a bool, got {strict_load!r}.")
    return _load(net, parameter_dict, strict_load, "parameter_dict")


def _load(
    net: Cell,
    given: Mapping[str, Any],
    strict: bool,
    source: str,
    could_be_there: Callable[[str], bool] | None = None,
    must_fit: bool = False,
) -> tuple[list[str], list[str]]:
    """Load what fits; returns the missing and the unexpected names.

    With `could_be_there`, which is true of the names that may be in the checkpoint, these are also
    reported if loading is not strict. With `must_fit`, a value of another shape is an error even if
    loading is not strict.
    """
    mine = dict(net.parameters_dict())
    given = stacks.joined(net, mine, under_own_names(net, mine, given, source))
    mine, given, commit = providers.loaded(mine, given)
    values = {
        name: value
        for name, value in given.items()
        if isinstance(value, Parameter) and (name in mine or not isinstance(value, AppendedNumber))
    }
    missing = [name for name in mine if name not in values]
    unexpected = [name for name in values if name not in mine]
    faults: list[str] = []
    if strict or could_be_there is not None:
        names = [name for name in missing if could_be_there is None or could_be_there(name)]
        faults += [f"  missing: {name} {_about(mine[name])}" for name in names]
        others = [name for name in unexpected if not _is_training_state(name, mine, values)]
        faults += [f"  unexpected: {name} {_about(values[name])}" for name in others]
    matched: list[tuple[Parameter, Parameter]] = []
    fatal = strict and bool(faults)
    for name, param in mine.items():
        if name not in values:
            continue
        fault = _misfit(param, values[name], strict)
        if fault is None:
            matched.append((param, values[name]))
            continue
        faults.append(fault.text)
        fatal = fatal or strict or must_fit or fault.fatal
        missing.append(name)
        unexpected.append(name)
    if fatal:
        advice = "" if not strict else " strict_load=False loads what fits, and reports the rest."
        raise CheckpointError(
            f"{source} does not fit {type(net).__name__}, and nothing was loaded.{advice}\n"
            + "\n".join(faults)
        )
    warn_of(source, net, faults)
    for param, value in matched:
        if not value.has_init and _alike(param, value):
            tracing.write(param, value._get())
            param.sliced = not is_fully_replicated(value._get())
            continue
        data = Tensor(value)
        if _of_devices(param, value):
            set_per_device(param, data.astype(param.dtype))
            continue
        if data.dtype is not param.dtype:
            data = data.astype(param.dtype)
        param.set_data(data if data.shape == param.shape else data.reshape(param.shape))
        if not is_fully_replicated(data._get()):
            param.sliced = True
    commit()
    return missing, unexpected


def _is_training_state(name: str, mine: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether a value is the state of an optimizer or a loss scale, for a network without any."""
    if not _TRAINING_NUMBERS.isdisjoint(mine):
        return False
    if name in _TRAINING_NUMBERS:
        return True
    # A moment has a prefix before the name of its Parameter, whose value has to be there, too.
    parts = name.split(".")
    owners = (".".join(parts[at:]) for at in range(1, len(parts)))
    return any(owner in mine and owner in values for owner in owners)


def _alike(param: Parameter, value: Parameter) -> bool:
    mine, given = param._about(), value._about()
    return mine.shape == given.shape and mine.dtype == given.dtype


def _about(param: Parameter) -> str:
    return f"{param.dtype}{list(param.shape)}"


def _of_devices(param: Parameter, value: Parameter) -> bool:
    """Whether a value has an additional first axis, with one value for each device."""
    return param.layerwise_parallel and value.shape[1:] == param.shape != value.shape


class _Misfit(NamedTuple):
    """Why a value does not fit its Parameter.

    Args:
        text: a line of the error or warning.
        fatal: nothing is loaded even with `strict_load=False`.
    """

    text: str
    fatal: bool = False


def _misfit(param: Parameter, value: Parameter, strict: bool) -> _Misfit | None:
    if _alike(param, value):
        return None
    if _of_devices(param, value):
        here = value_count(param)
        if value.shape[0] != here:
            return _Misfit(
                f"  devices: {param.name} is layerwise_parallel, and has values for "
                f"{value.shape[0]} devices in the checkpoint and {here} here: set parallel_mode "
                "and device_num as they were, before loading",
                fatal=True,
            )
        value = Parameter(value[0])
    ones = not strict and param.size == value.size == 1 and param.ndim + value.ndim == 1
    if param.shape != value.shape and not ones:
        return _Misfit(
            f"  shape: {param.name} is {list(param.shape)}, the value {list(value.shape)}"
        )
    floats = param.dtype.is_floating() and value.dtype.is_floating()
    if param.dtype is not value.dtype and (strict or not floats):
        return _Misfit(f"  element type: {param.name} is {param.dtype}, the value {value.dtype}")
    return None
