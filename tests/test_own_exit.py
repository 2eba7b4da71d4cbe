"""What is done when a process ends is not done by a child that it has forked."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from paramesh import own_exit
from paramesh.checkpoint import background

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

PROGRAM = """
import os, sys
from paramesh import own_exit

class Kept:
    def __init__(self, name):
        self.name = name
        own_exit.register(self.close)
    def close(self):
        print(self.name, flush=True)

first, second = Kept("first"), Kept("second")
own_exit.unregister(first.close)
if os.fork() == 0:
    Kept("child's")
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def test_each_process_ends_what_is_its_own() -> None:
    # Only this module of paramesh: a process with JAX should not be forked.
    place = Path(own_exit.__file__)
    program = PROGRAM.replace(
        "from paramesh import own_exit", f"sys.path[:0] = [{str(place.parent)!r}]; import own_exit"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["child's", "3", "second"], done.stderr


def test_a_child_does_not_wait_for_a_save_of_its_parent(tmp_path: Path) -> None:
    gate = threading.Event()

    def write() -> None:
        gate.wait()

    handle = background.start(tmp_path / "a", lambda staging: write)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JAX and Python warn of threads
            child = os.fork()
        if child == 0:
            background.wait_until_done()
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    finally:
        gate.set()
        handle.wait()
