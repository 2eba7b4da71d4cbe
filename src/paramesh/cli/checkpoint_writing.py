"""What `convert`, `merge` and `reshard` share: they read a checkpoint and write another one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from paramesh.checkpoint.formats.interface import Source
from paramesh.cli.errors import CommandError
from paramesh.cli.figures import chooser
from paramesh.cli.inspect import progress
from paramesh.errors import CheckpointError, LayoutError

#: Called with (bytes done, bytes in total).
Advance = Callable[[int, int], None]


@contextmanager
def writing(target: Path) -> Generator[None]:
    """Turn what can go wrong into an error of one line.

    Raises:
        CommandError: the new checkpoint cannot be written.
    """
    try:
        yield
    except FileExistsError as error:
        hint = "; --force replaces it" if str(error).endswith("was left unchanged.") else ""
        raise CommandError(str(error).removesuffix(".") + hint) from error
    except (CheckpointError, LayoutError, FileNotFoundError, ValueError) as error:
        raise CommandError(" ".join(str(error).split())) from error
    except OSError as error:
        raise CommandError(f"{error.filename or target}: {error.strerror or error}") from error


def selection(source: Source, patterns: Sequence[str]) -> Callable[[str], bool]:
    """Tells which names of a checkpoint are selected; all of them without patterns.

    Raises:
        CommandError: no name matches the patterns.
    """
    wanted = chooser(patterns)
    if patterns and not any(map(wanted, source.names())):
        listed = " or ".join(map(repr, patterns))
        raise CommandError(f"{source.path}: no parameter matches {listed}")
    return wanted


@contextmanager
def arrays_progress(what: str, source: Source, wanted: Callable[[str], bool]) -> Generator[Advance]:
    """A progress bar over the bytes of the selected arrays, whatever files they lie in.

    The new checkpoint may have more or fewer bytes: the bar shows which fraction of it is written.
    """
    size = sum(entry.nbytes for entry in source.entries() if wanted(entry.name))
    shown = 0
    with progress(what, size) as advance:

        def show(done: int, total: int) -> None:
            nonlocal shown
            now = int(size * done / total) if total else size
            advance(now - shown)
            shown = now

        yield show
