"""Where the members of a zip archive lie in its file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEADER = 30


@dataclass(frozen=True)
class MemberPlace:
    """A member of an archive.

    Args:
        name: its path in the archive.
        at: where its first byte lies.
        stored: bytes in the file.
        size: bytes when it is unpacked; the same where it is not compressed.
        compressed: whether it is.
    """

    name: str
    at: int
    stored: int
    size: int
    compressed: bool


def members_of(
    path: Path, data: Any, nbytes: int, damage: Callable[[str], Exception]
) -> dict[str, MemberPlace]:
    """The members by their names.

    Args:
        path: the archive.
        data: its bytes.
        nbytes: how many.
        damage: makes the error for a file that cannot be right.

    Raises:
        CheckpointError: the archive is damaged, encrypted, or compressed otherwise than by deflate.
    """
    found: dict[str, MemberPlace] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise damage(f"it is a zip archive that is damaged or cut short ({error})") from error
    for about in listed:
        if about.flag_bits & 1:
            raise damage(f"'{about.filename}' in it is encrypted")
        if about.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise damage(f"'{about.filename}' in it is compressed in an unknown way")
        head = bytes(data[about.header_offset : about.header_offset + _HEADER])
        if head[:4] != b"PK\x03\x04":
            raise damage(f"'{about.filename}' in it has no header")
        lengths = int.from_bytes(head[26:28], "little"), int.from_bytes(head[28:30], "little")
        at = about.header_offset + _HEADER + sum(lengths)
        if at + about.compress_size > nbytes or about.filename in found:
            raise damage(f"'{about.filename}' in it ends behind the end of the file, or is twice")
        found[about.filename] = MemberPlace(
            about.filename,
            at,
            about.compress_size,
            about.file_size,
            about.compress_type == zipfile.ZIP_DEFLATED,
        )
    return found
