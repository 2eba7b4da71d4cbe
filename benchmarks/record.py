"""Where results are kept: `--record` of every program writes its section of RESULTS.md.

    python benchmarks/step.py --record              the section `step` of benchmarks/RESULTS.md
    python benchmarks/step.py --record other.md     of another file, which is made if need be

A section stands between two marks, and has the command, the machine, and what the program printed:

    <!-- record: step -->
    …
    <!-- end of record: step -->

It takes the place of the section of that name; a file without one gets it at its end. Text outside
of the marks stays. No date is written: what counts is the machine and the versions. Nothing is
written if the program fails.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

RESULTS = Path(__file__).parent / "RESULTS.md"
#: Columns that tables may take.
WIDTH = "120"
#: Packages whose versions matter. Programs measure some of them in processes of their own, so that
#: every one that is installed is named.
_PACKAGES = (
    "jax",
    "numpy",
    "optax",
    "flax",
    "equinox",
    "torch",
    "tensorflow",
    "ray",
    "safetensors",
    "orbax-checkpoint",
    "scipy",
    "pillow",
    "opencv-python-headless",
)


#: The beginning of a line that Ray passes on from a process of its own, coloured or not.
_OF_RAY = re.compile(r"(\x1b\[\d+m)?\((raylet|autoscaler|pid=)")


class Tee(io.TextIOBase):
    """A stream that keeps what it passes on. It is no terminal, so that nothing is coloured."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.kept = io.StringIO()

    def write(self, text: str, /) -> int:
        self.kept.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return False


def processor() -> str:
    """The kind of CPU, as the system calls it."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if found is not None:
            return found[1].strip()
    return platform.processor() or platform.machine()


def environment() -> str:
    """One line: CPU, cores, system, Python, and the packages that are installed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    return f"{processor()}, {cores} cores, {platform.system()}; {', '.join(versions)}"


def command(program: str, words: Sequence[str]) -> str:
    """The command as anybody may type it: absolute paths, which are this machine's, as `PATH`."""
    shown = [re.sub(r"(^|=)[/~].*", r"\1PATH", word) for word in words]
    return shlex.join(["python", f"benchmarks/{program}.py", *shown])


def section(key: str, line: str, machine: str, printed: str) -> str:
    """The text of a section, with its marks."""
    # Ray prints what its own processes say, of servers that a benchmark kills, into the results.
    own = (text for text in printed.strip("\n").splitlines() if not _OF_RAY.match(text))
    lines = "\n".join(text.rstrip() for text in own)
    return (
        f"<!-- record: {key} -->\n"
        f"`{line}` on {machine}:\n\n"
        f"```text\n{lines}\n```\n"
        f"<!-- end of record: {key} -->"
    )


def put(text: str, key: str, made: str) -> str:
    """The text of a file with a section put in the place of the one of its key, or at its end.

    Raises:
        ValueError: the file has the section twice, or its end is missing.
    """
    begin, end = f"<!-- record: {key} -->", f"<!-- end of record: {key} -->"
    counts = text.count(begin), text.count(end)
    if counts == (0, 0):
        return f"{text.rstrip()}\n\n## {key}\n\n{made}\n".lstrip()
    if counts != (1, 1) or text.index(end) < text.index(begin):
        raise ValueError(f"the marks of the record '{key}' must be there once, in order: {counts}")
    return text[: text.index(begin)] + made + text[text.index(end) + len(end) :]


def _taken(words: list[str]) -> tuple[list[str], Path | None]:
    """The words without `--record [FILE]`, and the file; None if nobody asks for one."""
    for i, word in enumerate(words):
        if word.startswith("--record="):
            return words[:i] + words[i + 1 :], Path(word.partition("=")[2])
        if word == "--record":
            named = i + 1 < len(words) and not words[i + 1].startswith("-")
            file = Path(words[i + 1]) if named else RESULTS
            return words[:i] + words[i + 1 + named :], file
    return words, None


def run(main: Callable[[], object], variants: Sequence[str] = ()) -> None:
    """Run a program, and record what it prints if its command line says `--record [FILE]`.

    Args:
        main: the program; it finds the rest of the command line in `sys.argv`.
        variants: options that make results of their own, such as `--cached`, or with one value,
            such as `--size=4`; a run with one of them has a section of its own.

    Raises:
        ValueError: see `put`; before the program runs.
    """
    program = Path(sys.argv[0]).stem
    words, file = _taken(sys.argv[1:])
    sys.argv[1:] = words
    if {"-h", "--help"} & set(words):
        print("--record [FILE]: write the results into benchmarks/RESULTS.md, or into FILE\n")
    if file is None:
        main()
        return
    own = [word for word in words if {word, word.partition("=")[0]} & {*variants}]
    key = " ".join([program, *own])
    put(file.read_text() if file.exists() else "", key, "")
    os.environ["COLUMNS"] = WIDTH
    tee = Tee(sys.stdout)
    ended: SystemExit | None = None
    try:
        with contextlib.redirect_stdout(tee):
            main()
    except SystemExit as end:
        if end.code:
            raise
        ended = end
    made = section(key, command(program, words), environment(), tee.kept.getvalue())
    file.write_text(put(file.read_text() if file.exists() else "", key, made))
    if ended is not None:
        raise ended
