"""`save_checkpoint`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from paramesh.checkpoint import background, gc_pause
from paramesh.checkpoint.formats.huggingface import FORMAT as HUGGINGFACE
from paramesh.checkpoint.formats.huggingface_sink import check_folder
from paramesh.checkpoint.opening import FORMATS, Format, check_entries, format_named, open_sink
from paramesh.checkpoint.records import Choice, PinnedValues, Records, append, records_of
from paramesh.checkpoint.sharded import source as sharded_source
from paramesh.checkpoint.sharded import writer
from paramesh.checkpoint.sharded.agreement import Agreement
from paramesh.checkpoint.staging import Staging
from paramesh.errors import ContextError
from paramesh.files.atomic import names_a_folder


def save_checkpoint(
    save_obj: object,
    ckpt_file_name: str | os.PathLike[str],
    integrated_save: bool = True,
    async_save: bool | str = False,
    append_dict: dict[str, Any] | None = None,
    enc_key: bytes | None = None,
    enc_mode: str = "AES-GCM",
    choice_func: Choice | None = None,
    crc_check: bool = False,
    format: str | None = None,
    base: str | os.PathLike[str] | None = None,
) -> Any:
    """Save Parameters by name; the file is written atomically.

    A Parameter that several Cells share is saved once. One that has no data yet is initialized. Of
    a layerwise-parallel Parameter the values of all devices of this process are saved, as one array
    whose first axis is the devices by rank.

    Args:
        save_obj: a Cell, a dict {name: Tensor}, or a list of {"name": str, "data": Tensor}.
        ckpt_file_name: path of the file; the suffix of the format is added if it is missing, except
            for "sharded" and "huggingface".
        integrated_save: MindSpore's; ignored: files always contain full arrays.
        async_save: write the file in a background thread; it saves the values at the time of the
            call. At most one such save is in progress; the next save of any kind waits until it is
            done, and raises its error if it was not read from the handle. MindSpore's "thread" and
            "process" mean the same.
        append_dict: numbers, bools, strings and Tensors to store in the file.
        enc_key: MindSpore's; None, since files are not encrypted here.
        enc_mode: MindSpore's; ignored.
        choice_func: only names for which it returns True are saved.
        crc_check: store checksums in the file, which `load_checkpoint(crc_check=True)` verifies.
        format: "safetensors"; "ckpt" (MindSpore's); "huggingface": a folder with
            `model.safetensors`, or with shards of 5 GB and an index; or "sharded": a folder, into
            which every process writes the shards of its devices. All processes have to call it,
            with a folder that all of them share; it is replaced atomically. None: by the suffix of
            the name, or else safetensors. Parameter servers write their own parts of a sharded
            checkpoint while steps go on, and nothing of a table comes to this process.
        base: a sharded checkpoint that servers have written in this run, or that the run was loaded
            from: only the rows of tables that have changed since are saved. Such an increment is
            loaded together with its base, which has to stay where it is, seen from there.

    Returns:
        The path of the file (`pathlib.Path`), or a `SaveHandle` with `async_save`.

    Raises:
        TypeError: `save_obj`, a name or an entry of `append_dict` is of another kind.
        DuplicateNameError: two different Parameters have the same name.
        ValueError: an unknown format, or one without such an element type; an encryption key.
        ContextError: values are sharded over several processes, and the format is not "sharded".
        CheckpointError: another process, or a server, could not write its part of a sharded
            checkpoint; `base` is missing, or was not written by servers.
        ParameterServerError: servers cannot be reached, or `base` is not one of this run.
        OSError: from the file system; an existing file is unchanged.
    """
    if not isinstance(ckpt_file_name, str | os.PathLike) or not os.fspath(ckpt_file_name):
        given = type(ckpt_file_name).__name__ if ckpt_file_name else repr(ckpt_file_name)
        raise TypeError(
            f"save_checkpoint: ckpt_file_name must be the path of a file, got {given}. The "
            "arguments are save_checkpoint(save_obj, ckpt_file_name)."
        )
    flags = {"integrated_save": integrated_save, "crc_check": crc_check}
    for flag, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"save_checkpoint: {flag} must be a bool, got {value!r}.")
    if async_save not in (False, True, "thread", "process"):
        raise ValueError(f"save_checkpoint: async_save must be a bool, got {async_save!r}.")
    if enc_key is not None:
        raise ValueError(
            "save_checkpoint: enc_key is given, but paramesh does not encrypt. Save without it, "
            "and encrypt the file or the disk."
        )
    path = Path(ckpt_file_name)
    named = format is None and path.suffix == sharded_source.SUFFIX
    if named or format == sharded_source.FORMAT:
        asked = _Asked(path, save_obj, choice_func, append_dict, crc_check, _base_of(base, path))
        return _save_sharded(asked, bool(async_save))
    if base is not None:
        raise ValueError(
            f"save_checkpoint: base='{os.fspath(base)}' is given, but '{path.name}' is one file. "
            "Increments are sharded checkpoints: use format='sharded'."
        )
    kind = format_of(format, path)
    if kind.name == HUGGINGFACE:
        check_folder(path, overwrite=True)
    elif names_a_folder(ckpt_file_name):
        raise ValueError(
            f"save_checkpoint: ckpt_file_name must end with the name of a file, got the folder "
            f"'{os.fspath(ckpt_file_name)}'."
        )
    elif path.suffix != kind.suffix:
        path = path.with_name(path.name + kind.suffix)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"save_checkpoint: there is no folder '{path.parent}' for '{path.name}'; create it "
            "first."
        )
    records = records_of(save_obj, choice_func)
    append(records, append_dict)
    _check_addressable(records)
    if async_save:
        check_entries(path, kind, records.entries(), records.appended)

        def prepare(staging: Staging) -> Callable[[], None]:
            pinned = records.pin(staging)
            place = path.absolute()  # the script may change its folder meanwhile
            return lambda: write(place, kind, pinned, crc_check)

        return background.start(path, prepare)
    background.wait_until_done()
    with gc_pause.paused():
        write(path, kind, records, crc_check)
    return path


def _check_addressable(records: Records) -> None:
    """Raise if this process does not have all the values that it would have to write."""
    if jax.process_count() == 1:
        return
    for name, tensor in records.tensors.items():
        value = tensor._get()
        if isinstance(value, jax.Array) and not (
            value.is_fully_addressable or value.is_fully_replicated
        ):
            raise ContextError(
                f"save_checkpoint: '{name}' of shape {tensor.shape} is sharded over several "
                "processes, but a single file stores full arrays. Use format='sharded': every "
                "process then writes its own shards."
            )


def _base_of(base: str | os.PathLike[str] | None, path: Path) -> Path | None:
    if base is None:
        return None
    if not isinstance(base, str | os.PathLike):
        raise TypeError(f"save_checkpoint: base must be the path of a checkpoint, got {base!r}.")
    place = Path(base)
    if place.resolve() == path.resolve():
        raise ValueError(
            f"save_checkpoint: base='{base}' is the checkpoint that is to be saved. An increment "
            "needs its base: save it into another folder."
        )
    return place


class _Asked(NamedTuple):
    """What is asked of a sharded save; as the arguments of `save_checkpoint`."""

    path: Path
    save_obj: object
    choice: Choice | None
    append_dict: dict[str, Any] | None
    checksums: bool
    base: Path | None


def _save_sharded(asked: _Asked, in_background: bool) -> Any:
    writer.check_target(asked.path)
    if in_background:
        return background.start(asked.path, lambda staging: _begun(asked, staging))
    background.wait_until_done()
    _begun(asked, None)()
    return asked.path


def _begun(asked: _Asked, staging: Staging | None) -> Callable[[], None]:
    """Begin a save; the function does the rest.

    Args:
        asked: what is asked.
        staging: memory for the present values, which later steps may not change; None: no step is
            made meanwhile.
    """
    path, base = asked.path, asked.base
    if staging is not None:  # the script may change its folder meanwhile
        path = path.absolute()
    records = records_of(asked.save_obj, asked.choice, everywhere=True)
    append(records, asked.append_dict)
    apart = records.apart
    entries = records.entries() + ([] if apart is None else apart.entries())
    check_entries(path, format_named(sharded_source.FORMAT), entries, records.appended)
    if base is not None and apart is None:
        raise ValueError(
            f"save_checkpoint: base='{base}' is given, but no Parameter is on a server: only the "
            "rows of tables on servers can be saved as an increment. Leave base out."
        )
    plan = writer.plan_of(records)
    if staging is not None:
        plan.pin(staging)
    agreement = Agreement(path)
    error: BaseException | None = None
    if apart is not None:
        try:
            apart.begin(path, agreement.token, agreement.count, asked.checksums, base)
        except BaseException as raised:  # other processes wait for this one
            error = raised
    return lambda: writer.write(agreement, plan, asked.checksums, apart, error)


def write(path: Path, kind: Format, records: Records | PinnedValues, checksums: bool) -> None:
    """Write a file, one array at a time."""
    with open_sink(
        path, kind.name, records.entries(), records.appended, checksums=checksums
    ) as sink:
        for name, array in records.values():
            sink.write(name, array)


def format_of(format: str | None, path: Path) -> Format:
    """The format of the argument, or else of the suffix of the file.

    Raises:
        ValueError: there is none of this name.
    """
    if format is not None:
        return format_named(format)
    return next((known for known in FORMATS if known.suffix == path.suffix), FORMATS[0])
