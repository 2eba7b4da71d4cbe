"""Scripts with the local modules that they import, and the findings of each file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from paramesh.scripts.judging import MISSING, Finding, judge
from paramesh.scripts.reader import LocalImport, Reading, read

#: Folders that are not searched for scripts.
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


@dataclass(frozen=True)
class File:
    """One file: its findings, or why it could not be read."""

    path: Path
    reading: Reading
    findings: tuple[Finding, ...] = ()
    error: str = ""

    @property
    def uses_mindspore(self) -> bool:
        """Whether it uses a name of MindSpore."""
        return bool(self.reading.uses)


@dataclass(frozen=True)
class Script:
    """A script with the files of its closure, itself first."""

    path: Path
    files: tuple[File, ...]

    @property
    def missing(self) -> dict[str, Finding]:
        """{name: first finding} of the names that are missing in any of the files."""
        found = [f for file in self.files for f in file.findings if f.state == MISSING]
        return {f.name: f for f in reversed(found)}

    @property
    def errors(self) -> list[File]:
        """Files that could not be read."""
        return [file for file in self.files if file.error]

    def count(self, state: str) -> int:
        """The number of different names with a state."""
        return len({f.name for file in self.files for f in file.findings if f.state == state})


@dataclass
class Census:
    """The scripts of a folder, and the names that they miss."""

    scripts: list[Script] = field(default_factory=list)

    @property
    def complete(self) -> int:
        """The number of scripts without missing names."""
        return sum(not script.missing and not script.errors for script in self.scripts)

    @property
    def missing(self) -> list[tuple[str, int, Finding]]:
        """(name, number of scripts, a finding), the most frequent first."""
        counts = Counter(name for script in self.scripts for name in script.missing)
        some = {name: f for script in self.scripts for name, f in script.missing.items()}
        rows = [(name, count, some[name]) for name, count in counts.items()]
        return sorted(rows, key=lambda row: (-row[1], row[0]))


class Reader:
    """Reads each file once, however many scripts import it."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root
        self._files: dict[Path, File] = {}
        self._exists: dict[Path, bool] = {}

    def file(self, path: Path) -> File:
        """The findings of one file."""
        if path not in self._files:
            self._files[path] = self._read(path)
        return self._files[path]

    def _read(self, path: Path) -> File:
        try:
            reading = read(path.read_bytes(), str(path))
        except SyntaxError as error:
            return File(path, Reading(), error=f"line {error.lineno}: {error.msg}")
        except (OSError, ValueError) as error:
            return File(path, Reading(), error=str(error))
        return File(path, reading, tuple(judge(reading.uses)))

    def script(self, path: Path) -> Script:
        """A script and the local modules that it imports, directly or not."""
        wanted, files = [path], dict[Path, File]()
        while wanted:
            each = wanted.pop(0)
            if each not in files:
                files[each] = self.file(each)
                wanted += self.imported(files[each], path.parent)
        return Script(path, tuple(files.values()))

    def imported(self, file: File, beside: Path) -> list[Path]:
        """The local files that a file imports.

        Args:
            file: the file.
            beside: the folder of the script, where python searches first.
        """
        found: dict[Path, None] = {}
        for each in file.reading.imports:
            for path in self._of_import(each, file.path, beside):
                found[path] = None
        return list(found)

    def _of_import(self, what: LocalImport, path: Path, beside: Path) -> Iterable[Path]:
        if what.level:
            places = [path.parent.joinpath(*[".."] * (what.level - 1))]
        else:
            places = [beside, *([self.root] if self.root is not None else []), path.parent]
        parts = what.module.split(".") if what.module else []
        for place in places:
            found = list(self._below(Path(os.path.normpath(place)), parts, what.names))
            if found:
                return found
        return []

    def _below(self, place: Path, parts: list[str], names: Iterable[str]) -> Iterable[Path]:
        for at in range(1, len(parts) + 1):
            module = self._module(place.joinpath(*parts[:at]))
            if module is not None:
                yield module
        for name in names:
            module = self._module(place.joinpath(*parts, name))
            if module is not None:
                yield module

    def _module(self, path: Path) -> Path | None:
        for candidate in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if candidate not in self._exists:
                self._exists[candidate] = candidate.is_file()
            if self._exists[candidate]:
                return candidate
        return None

    def census(self, folder: Path) -> Census:
        """All scripts below a folder that use MindSpore, each with its closure.

        A script is a file that asks whether `__name__` is `"__main__"`, or one that no other file
        of the folder imports.
        """
        files = [self.file(path) for path in sorted(python_files(folder))]
        used = {p for f in files for p in self.imported(f, f.path.parent) if p != f.path}
        out = Census()
        for file in files:
            alone = file.path not in used and file.path.name != "__init__.py"
            if file.reading.is_main or alone:
                script = self.script(file.path)
                if any(each.uses_mindspore for each in script.files) or file.error:
                    out.scripts.append(script)
        return out


def python_files(folder: Path) -> Iterable[Path]:
    """The python files below a folder, except in hidden folders."""
    for place, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in _SKIPPED]
        yield from (Path(place, name) for name in names if name.endswith(".py"))
