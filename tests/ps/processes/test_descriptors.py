"""A process that has no files left to open."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from paramesh.ps.processes import descriptors

pytest.importorskip("resource")

#: The limit is that of a process, so each case has its own.
BEGINNING = """
import os, resource, threading, time
from paramesh.ps.processes import descriptors

def take_all():
    found = []
    while True:
        try:
            found.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return found

def limits(soft, hard):
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING + program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_limit_is_raised_and_something_kept_back() -> None:
    said = run("limits(64, 300)\nprint(descriptors.raise_limit(), descriptors.raise_limit(100))")
    assert said == "300 200"
    # Less than the reserve: nothing can be kept back.
    assert run("limits(40, 60)\nprint(descriptors.raise_limit(100))") == "40"


def test_the_reserve_is_for_this_process_alone() -> None:
    said = run(
        "limits(100, 100 + descriptors.RESERVE)\n"
        "taken = take_all()\n"
        "files = [descriptors.open_file(os.devnull, os.O_RDONLY) for _ in range(20)]\n"
        "print(len(files), resource.getrlimit(resource.RLIMIT_NOFILE)[0], len(take_all()))"
    )
    assert said == "20 100 0"


def test_without_a_reserve_it_waits_for_others() -> None:
    said = run(
        "limits(100, 100)\n"
        "taken, tries = take_all(), []\n"
        "def call():\n"
        "    tries.append(1)\n"
        "    if len(tries) == 5:\n"
        "        os.close(taken.pop())\n"
        "    return os.open(os.devnull, os.O_RDONLY)\n"
        "print(descriptors.patiently(call) > 0, len(tries))"
    )
    assert said == "True 5"


def test_in_the_end_it_is_an_error() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with pytest.raises(OSError, match="Too many open files"):
        descriptors.patiently(call, patience=0.0)
    assert len(calls) == 2


def test_other_errors_are_none_of_its_business() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise FileNotFoundError(errno.ENOENT, "none")

    with pytest.raises(FileNotFoundError, match="none"):
        descriptors.patiently(call)
    assert len(calls) == 1
