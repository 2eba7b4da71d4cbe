"""Opening checkpoint files of any format, to read (`open_source`) and to write (`open_sink`).

A format is one row of `FORMATS`: how to recognise a file, how to read it, how to write it. The
formats of orbax, PyTorch, NumPy and flax are not in the table, since paramesh only reads them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paramesh.checkpoint.formats import (
    flax_file,
    foreign,
    huggingface,
    huggingface_sink,
    mindspore_file,
    npz_file,
    orbax_source,
    safetensors_file,
    torch_file,
)
from paramesh.checkpoint.formats.interface import Appended, Entry, OpenSink, Sink, Source
from paramesh.checkpoint.formats.orbax_folder import is_orbax
from paramesh.checkpoint.sharded.increments import open_sharded
from paramesh.checkpoint.sharded.sink import ShardedSink
from paramesh.checkpoint.sharded.source import FORMAT as SHARDED
from paramesh.checkpoint.sharded.source import SUFFIX, is_sharded
from paramesh.dtype import DType
from paramesh.errors import CheckpointError, ParameterNameError
from paramesh.parameter.names import reason_not_saveable, shortened

__all__ = [
    "Appended",
    "Entry",
    "FORMATS",
    "Sink",
    "Source",
    "format_named",
    "open_sink",
    "open_source",
    "readable_format",
]


@dataclass(frozen=True)
class Format:
    """One format of checkpoint files.

    Args:
        name: what `Source.format` says.
        names: the names of the format for users.
        suffix: of the names of its files.
        recognise: whether a file that begins with these bytes (up to 512) may have this format.
        read: opens a file for reading.
        write: opens a file for writing.
        cannot_hold: why the format does not support an element type; None if it does.
        cannot_name: why an array cannot have a name; None if it can.
    """

    name: str
    names: tuple[str, ...]
    suffix: str
    recognise: Callable[[bytes], bool]
    read: Callable[[Path], Source]
    write: OpenSink
    cannot_hold: Callable[[DType], str | None]
    cannot_name: Callable[[str], str | None]


def _huggingface(path: Path) -> Source:
    index = huggingface.index_of(path)
    if index is not None:
        return huggingface.HuggingFaceSource(path, index)
    only = huggingface.only_file_of(path)
    if only is None:
        raise FileNotFoundError(f"There is no checkpoint '{path}'.")
    return huggingface.source_of(only)


FORMATS: tuple[Format, ...] = (
    Format(
        safetensors_file.FORMAT,
        ("safetensors",),
        ".safetensors",
        safetensors_file.recognise,
        safetensors_file.SafetensorsSource,
        safetensors_file.SafetensorsSink,
        safetensors_file.cannot_hold,
        safetensors_file.check_name,
    ),
    Format(
        mindspore_file.FORMAT,
        ("ckpt", "mindspore"),
        ".ckpt",
        mindspore_file.recognise,
        mindspore_file.MindsporeSource,
        mindspore_file.MindsporeSink,
        mindspore_file.cannot_hold,
        mindspore_file.check_name,
    ),
    Format(
        SHARDED,
        (SHARDED,),
        SUFFIX,
        lambda head: False,  # it is a folder
        open_sharded,
        ShardedSink,
        safetensors_file.cannot_hold,
        safetensors_file.check_name,
    ),
    Format(
        huggingface.FORMAT,
        (huggingface.FORMAT,),
        ".huggingface",
        lambda head: False,  # it is a folder
        _huggingface,
        huggingface_sink.HuggingFaceSink,
        safetensors_file.cannot_hold,
        safetensors_file.check_name,
    ),
)


#: Read-only formats: what `Source.format` says, and the name in messages.
_READ_ALONE = {
    orbax_source.FORMAT: "orbax's format",
    torch_file.FORMAT: "PyTorch's format",
    npz_file.FORMAT: "NumPy's archives",
    flax_file.FORMAT: "flax's msgpack",
}


def format_named(name: str) -> Format:
    """The format with this name, for writing.

    Raises:
        ValueError: there is none.
    """
    for known in FORMATS:
        if name in known.names:
            return known
    names = ", ".join(repr(n) for known in FORMATS for n in known.names)
    if name in _READ_ALONE:
        raise ValueError(
            f"paramesh reads checkpoints in {_READ_ALONE[name]}, but cannot write them; "
            f"write {names}."
        )
    raise ValueError(f"Unknown checkpoint format {name!r}; the formats are {names}.")


def readable_format(name: str) -> str:
    """`Source.format` of the format with this name.

    Raises:
        ValueError: there is none.
    """
    return name if name in _READ_ALONE else format_named(name).name


def open_source(path: str | os.PathLike[str]) -> Source:
    """Open a checkpoint for reading; its format follows from its contents, or else its suffix.

    Opening reads and checks the descriptions of the arrays, but no array. Use it as a context
    manager; arrays that were read stay valid when it is closed.

    Raises:
        TypeError: `path` is not a path.
        FileNotFoundError: there is no such file, or it is a folder that is not a checkpoint.
        CheckpointError: the file is not valid, encrypted, or of an unknown or unsupported format;
            a sharded or orbax checkpoint is not complete; a HuggingFace shard is missing; a library
            that is needed to read it is not installed.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"open_source needs the path of a file, got {path!r}.")
    place = Path(path)
    if is_sharded(place) or (place.suffix == SUFFIX and place.exists()):
        return open_sharded(place)
    if is_orbax(place):
        return orbax_source.OrbaxSource(place)
    index = huggingface.index_of(place)
    if index is not None:
        return huggingface.HuggingFaceSource(place, index)
    only = huggingface.only_file_of(place)
    if only is not None:
        return huggingface.source_of(only)
    if not place.is_file():
        why = foreign.folder_refusal(place)
        if why is not None:
            raise CheckpointError(why)
        raise FileNotFoundError(
            f"There is no checkpoint '{place}'" + (": it is a folder." if place.is_dir() else ".")
        )
    with place.open("rb") as file:
        head = file.read(foreign.LOOKED_AT)
    if FORMATS[0].recognise(head):
        return FORMATS[0].read(place)
    read = _of_other_libraries(place, head)
    if read is not None:
        return read(place)
    why = foreign.refusal(place, head)
    if why is not None:
        raise CheckpointError(why)
    for known in FORMATS:
        if known.recognise(head):
            return known.read(place)
    for known in FORMATS:
        if place.suffix == known.suffix:
            return known.read(place)  # its reader raises the error
    return FORMATS[0].read(place)


def _of_other_libraries(path: Path, head: bytes) -> Callable[[Path], Source] | None:
    """What reads a file of PyTorch, NumPy or flax; None if it is none of them."""
    if torch_file.recognise(head):
        return torch_file.TorchSource
    if head[:4] == b"PK\x03\x04":
        names = foreign.names_in_zip(path)
        if torch_file.recognise_zip(names):
            return torch_file.TorchSource
        return npz_file.NpzSource if npz_file.recognise_zip(names) else None
    is_flax = path.suffix == flax_file.SUFFIX or flax_file.recognise(head)
    return flax_file.FlaxSource if is_flax and path.suffix != ".ckpt" else None


def open_sink(
    path: str | os.PathLike[str],
    format: str,
    entries: Sequence[Entry],
    appended: Mapping[str, Appended] | None = None,
    metadata: Mapping[str, str] | None = None,
    checksums: bool = False,
) -> Sink:
    """Open a checkpoint for writing; use it as a context manager and `write` every entry in order.

    Args:
        path: where the file appears, complete, when the context ends without an error.
        format: "safetensors", "ckpt" or "sharded" (a folder with one part file).
        entries: all arrays that will be written; `Entry.of` makes one, those of a Source do too.
        appended: the entries of `append_dict`.
        metadata: strings to keep, where the format has a place for them.
        checksums: store checksums of the arrays in the file, for `Source.verify`.

    Raises:
        ValueError: the format is unknown, or does not support an element type or a name; or two
            entries (or an entry and an appended one) have the same name.
        OSError: from the file system.
    """
    kind = format_named(format)
    given = appended or {}
    check_entries(Path(path), kind, entries, given)
    return kind.write(Path(path), entries, given, metadata or {}, checksums)


def check_entries(
    path: Path, kind: Format, entries: Sequence[Entry], appended: Mapping[str, Appended]
) -> None:
    """Reject what a format does not support, before anything is written.

    Raises:
        ValueError: as `open_sink`; ParameterNameError: a name that no file can store.
    """
    for name in (*appended, *(entry.name for entry in entries)):
        why = reason_not_saveable(name)
        if why is not None:
            raise ParameterNameError(f"Cannot write {shortened(name)} to '{path}': {why}.")
    seen = set(appended)
    for entry in entries:
        why = kind.cannot_hold(entry.dtype) or kind.cannot_name(entry.name)
        if why is not None:
            raise ValueError(f"Cannot write '{entry.name}' to '{path}': {why}.")
        if entry.name in seen:
            raise ValueError(f"Cannot write '{path}': the name '{entry.name}' is duplicated.")
        seen.add(entry.name)
