"""`paramesh run`: a MindSpore script as it is, or with --check what it needs.

This module loads nothing of what it shows; a command that is not asked for costs nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from paramesh.cli.errors import CommandError

if TYPE_CHECKING:
    from paramesh.scripts.closure import Census, Script
    from paramesh.scripts.judging import Finding

#: Names of a census that are shown without --json.
_SHOWN = 40


@dataclass(frozen=True)
class Program:
    """A program that is ready; it runs when the command line has nothing more to do.

    Attributes:
        run: runs it, shows what it raises, and gives its exit code.
        ready: runs it, and lets through what it raises; None if it cannot be run.
    """

    run: Callable[[], int]
    ready: Callable[[], None] | None = None


def program(
    path: str, arguments: Sequence[str], module: bool, strict: bool, name: str = "run"
) -> Program:
    """Prepare to run a script.

    Args:
        path: of the script, or the name of a module.
        arguments: for it.
        module: whether `path` is a module.
        strict: a `device_target` that is not there is an error.
        name: of the command, for messages.

    Raises:
        CommandError: there is no such program.
    """
    from paramesh.scripts import running

    def say(text: str) -> None:
        sys.stderr.write(f"paramesh {name}: {text}\n")
        sys.stderr.flush()

    if not module and not Path(path).is_file():
        hint = " (for a folder, --check reads it)" if Path(path).is_dir() else ""
        raise CommandError(f"{path}: no such script{hint}; for a module, give -m")
    try:
        running.become_mindspore(say, strict)
        ready = running.prepare(path, arguments, module)
    except SyntaxError as error:
        sys.excepthook(type(error), error.with_traceback(None), None)
        return Program(lambda: 1)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    except ModuleNotFoundError as error:
        here = error.name is not None and f"{path}.".startswith(f"{error.name}.")
        if not module or not (here or isinstance(error, running.CannotRun)):
            raise
        raise CommandError(f"{path}: {error}") from error
    return Program(lambda: running.run(ready), ready)


def check(path: Path, as_json: bool, console: Console) -> int:
    """Show what a script, or each script of a folder, uses of MindSpore.

    Args:
        path: a file or a folder.
        as_json: JSON on stdout.
        console: where tables go.

    Returns:
        The exit code: 1 if something is missing or cannot be read, otherwise 0.

    Raises:
        CommandError: there is nothing to read at `path`.
    """
    from paramesh.scripts.closure import Reader

    if path.is_dir():
        census = Reader(path).census(path)
        if not census.scripts:
            raise CommandError(f"{path}: no script below it uses MindSpore")
        _put(_census_json(census), console) if as_json else _show_census(census, console)
        return 0 if census.complete == len(census.scripts) else 1
    if not path.is_file():
        raise CommandError(f"{path}: no such file or folder")
    script = Reader().script(path)
    _put(_script_json(script), console) if as_json else _show_script(script, console)
    return 1 if script.missing or script.errors else 0


def _put(what: object, console: Console) -> None:
    console.file.write(json.dumps(what, indent=2) + "\n")


def _script_json(script: Script) -> dict[str, Any]:
    return {
        "script": str(script.path),
        "missing": len(script.missing),
        "files": [
            {
                "path": str(file.path),
                "error": file.error,
                "uses": [dataclasses.asdict(finding) for finding in file.findings],
            }
            for file in script.files
        ],
    }


def _census_json(census: Census) -> dict[str, Any]:
    return {
        "scripts": len(census.scripts),
        "complete": census.complete,
        "missing": [
            {"name": name, "scripts": count, "text": some.text, "advice": some.advice}
            for name, count, some in census.missing
        ],
        "by_script": [
            {
                "script": str(script.path),
                "files": len(script.files),
                "missing": sorted(script.missing),
                "errors": [f"{file.path}: {file.error}" for file in script.errors],
            }
            for script in census.scripts
        ],
    }


def _show_script(script: Script, console: Console) -> None:
    from paramesh.scripts import judging

    titles = {
        judging.MISSING: "missing",
        judging.GUARDED: "missing, and the script catches it",
        judging.DIFFERENT: "there, with a difference",
    }
    for file in script.errors:
        console.print(
            f"{_near(file.path)}: {file.error}", markup=False, highlight=False, soft_wrap=True
        )
    for state, title in titles.items():
        rows = [(f.path, each) for f in script.files for each in f.findings if each.state == state]
        if rows:
            console.print(f"{title}\n", style="bold", markup=False, highlight=False, soft_wrap=True)
            if state == judging.DIFFERENT:
                _show_grouped(rows, console)
            else:
                for path, finding in rows:
                    _show_finding(path, finding, console)
            console.print()
    there = script.count(judging.THERE)
    different, missing = script.count(judging.DIFFERENT), len(script.missing)
    files = f"{len(script.files)} file{'s' if len(script.files) != 1 else ''}"
    console.print(
        f"{_near(script.path)} ({files}): {there} names there, {different} with a difference, "
        f"{missing} missing.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _show_grouped(rows: Sequence[tuple[Path, Finding]], console: Console) -> None:
    """Each name once, with its places below it: many scripts use the same few everywhere."""
    places: dict[tuple[str, str], list[str]] = {}
    for path, finding in rows:
        key = finding.name, f"{finding.text}. {finding.advice}"
        places.setdefault(key, []).append(f"{_near(path)}:{finding.line}")
    for (name, text), where in places.items():
        for line in (f"  {name}: {text}", f"    {', '.join(where)}"):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _show_finding(path: Path, finding: Finding, console: Console) -> None:
    where = f"{_near(path)}:{finding.line}"
    text = ". ".join(filter(None, (finding.text.rstrip("."), finding.advice)))
    end = "" if not text or text.endswith((".", "?")) else "."
    line = f"  {where}: {finding.name}" + (f": {text}{end}" if text else "")
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _show_census(census: Census, console: Console) -> None:
    rows = census.missing
    said: set[str] = set()
    if rows:
        console.print("missing, with the number of scripts\n", style="bold", highlight=False)
    for name, count, some in rows[:_SHOWN]:
        advice = some.advice or some.text
        line = f"{count:6}  {name}" + (f": {advice}" if advice and advice not in said else "")
        said.add(advice)
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if len(rows) > _SHOWN:
        console.print(f"        and {len(rows) - _SHOWN} more: --json has all", highlight=False)
    if rows:
        console.print()
    for script in census.scripts:
        for file in script.errors:
            if file.path == script.path:
                console.print(
                    f"{_near(file.path)}: {file.error}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
    count = len(census.scripts)
    console.print(
        f"{count} script{'s' if count != 1 else ''}: {census.complete} "
        f"({census.complete / count:.0%}) have all names that they use.",
        highlight=False,
    )


def _near(path: Path) -> str:
    """The path from here, if it is shorter."""
    return min(str(path), os.path.relpath(path), key=len)
