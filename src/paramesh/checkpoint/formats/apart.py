"""The part of a sharded checkpoint that others than the processes write: parameter servers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from paramesh.checkpoint.formats.boxes import Box
from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.formats.tables import Table


class IndexSlice(NamedTuple):
    """A slice in the index; `sharded/source.py` describes the fields."""

    file: int
    name: str
    box: Box
    flat: bool = False
    ranks: Sequence[int] = ()


class Base(NamedTuple):
    """The checkpoint that an increment goes on from: its folder, as the index says it."""

    path: str
    identity: str


class Served(NamedTuple):
    """What the index says of a checkpoint that servers have written.

    Attributes:
        identity: of its content.
        tables: by name.
        base: of an increment.
    """

    identity: str
    tables: Mapping[str, Table]
    base: Base | None = None


class Joined(NamedTuple):
    """What was written.

    Attributes:
        files: the names of the part files.
        arrays: with the slices of each; a slice names its file by the place in `files`.
        texts: to be stored beside the arrays, by name.
        metadata: strings to store.
        served: for the index.
    """

    files: Sequence[str]
    arrays: Sequence[tuple[Entry, list[IndexSlice]]]
    texts: Mapping[str, str]
    metadata: Mapping[str, str]
    served: Served


class Apart(Protocol):
    """Writes its part of one checkpoint, while steps go on (see `ps.integration.served_save`)."""

    def entries(self) -> list[Entry]:
        """One for each array that is written; of what shape is known later."""
        ...

    def begin(self, path: Path, token: str, first: int, checksums: bool, base: Path | None) -> None:
        """Begin; back when later steps do not change what is saved.

        Args:
            path: the folder, which is there.
            token: of the save.
            first: the number of its first part file.
            checksums: store checksums.
            base: the checkpoint that an increment goes on from; None: it is a complete one.
        """
        ...

    def commit(self, index: Callable[[Joined], bytes]) -> None:
        """Wait until all is written, and put the index into the folder."""
        ...

    def give_up(self) -> None:
        """Nothing is to be committed."""
        ...
