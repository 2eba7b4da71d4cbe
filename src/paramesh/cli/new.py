"""`paramesh new`: a small project to start from."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console

from paramesh.cli.errors import CommandError
from paramesh.cli.project_files import FILES

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def new_project(path: Path, console: Console) -> None:
    """Write the files of a project.

    Args:
        path: the folder; its last part is the project's name.
        console: where to say what was written.

    Raises:
        CommandError: it is no name, is there already, or cannot be written.
    """
    name = path.name
    if not _NAME.fullmatch(name):
        raise CommandError(
            f"{name or path}: a project's name has letters, digits, - and _, and begins with a "
            "letter"
        )
    try:
        if path.is_dir() and not any(path.iterdir()):
            folder = path
        elif path.exists():
            raise CommandError(f"{path} is there already; give another name")
        else:
            path.mkdir(parents=True)
            folder = path
        for file, text in FILES.items():
            (folder / file).write_text(text.replace("NAME", name), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{error.filename or path}: cannot be written: {error.strerror}") from (
            error
        )
    console.print(f"{path}: {', '.join(FILES)}.", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"Next: cd {path} && python train.py, and python -m pytest for its test.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
