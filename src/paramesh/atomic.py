"""Files that are there as a whole or not at all.

A file is written beside its place under a temporary name, brought to the disk, and renamed. Until
the rename the old file is untouched, whatever happens; after it the new one is complete.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write(temporary path)` make the file, and move it to `path`.

    The file has the permissions of the old one, or those of any new file of this process.

    A failure, `KeyboardInterrupt` included, leaves the old file and no temporary one. A process
    that is killed may leave a temporary file (its name starts with a dot and ends with `.tmp`).

    Raises:
        OSError: from the file system.
        Exception: whatever `write` raises.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    beside = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        beside.touch(exist_ok=False)
        mode = stat.S_IMODE((target if target.exists() else beside).stat().st_mode)
        write(beside)
        beside.chmod(mode)  # safetensors makes files that nobody else can read
        _to_disk(beside)
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a directory cannot be opened
        _to_disk(target.parent)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() or os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
