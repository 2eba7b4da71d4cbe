"""Whether a path is one and the same folder on several hosts: each reads what another has written.

The host that asks makes a folder in it with a question, a random number. Another one reads that
and writes an answer beside it, which the first one has to find. Nothing of it is left.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from paramesh.files.ownership import open_own

#: Seconds in which a network's file system shows what another host has written, and between looks.
PATIENCE, _PAUSE = 10.0, 0.1
_QUESTION = "question"


class Answer(NamedTuple):
    """What a host finds at the path.

    Attributes:
        there: whether it is a folder there.
        question: the content of the question; None: there is none.
        file: the name of the file with its answer; None: it could not write one.
        content: of that file.
        trouble: why it could not read or write.
    """

    there: bool
    question: str | None = None
    file: str | None = None
    content: str = ""
    trouble: str = ""


class Question(NamedTuple):
    """A question in a folder.

    Attributes:
        folder: that is meant.
        token: by which others find the question.
        content: of it.
    """

    folder: Path
    token: str
    content: str

    @property
    def place(self) -> Path:
        """The folder of the question and its answers."""
        return _place(self.folder, self.token)


def _place(folder: Path, token: str) -> Path:
    return folder / f".hosts-{token}"


@contextmanager
def asked(folder: Path) -> Generator[Question]:
    """A question in a folder, until the end of the `with` block.

    Raises:
        OSError: the folder cannot be written to.
    """
    question = Question(folder, secrets.token_hex(8), secrets.token_hex(16))
    question.place.mkdir(mode=0o700)
    try:
        _write(question.place / _QUESTION, question.content)
        yield question
    finally:
        shutil.rmtree(question.place, ignore_errors=True)


def answered(folder: Path, token: str, name: str) -> Answer:
    """On another host: the answer to the question with this token.

    Args:
        folder: where it is.
        token: of the question.
        name: of the host.
    """
    if not folder.is_dir():
        return Answer(there=False)
    place, trouble = _place(folder, token), ""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            question = (place / _QUESTION).read_text()
            break
        except FileNotFoundError:
            if time.monotonic() > until:
                return Answer(there=True)
            time.sleep(_PAUSE)
        except OSError as error:
            return Answer(there=True, trouble=error.strerror or str(error))
    file, content = f"answer-{name}-{secrets.token_hex(4)}", secrets.token_hex(16)
    try:
        _write(place / file, content)
    except OSError as error:
        trouble = error.strerror or str(error)
        return Answer(True, question, trouble=trouble)
    return Answer(True, question, file, content)


def trouble_with(question: Question, answer: Answer) -> str | None:
    """What is wrong on the host that has answered, in words; None: it has the same folder."""
    if not answer.there:
        return "does not exist there"
    if answer.question is None and answer.trouble:
        return f"cannot be read there ({answer.trouble})"
    if answer.question != question.content:
        return "is another folder there"
    if answer.file is None:
        return f"cannot be written to there ({answer.trouble})"
    until = time.monotonic() + PATIENCE
    while True:
        try:
            if (question.place / answer.file).read_text() == answer.content:
                return None
        except OSError:
            pass
        if time.monotonic() > until:
            return "does not show here what that host writes"
        time.sleep(_PAUSE)


def _write(path: Path, content: str) -> None:
    file = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        os.write(file, content.encode())
        os.fsync(file)
    finally:
        os.close(file)
