"""What `paramesh launch` runs in each process: joins the others, then runs the program.

    python -m paramesh.parallel.processes.worker train.py --lr 0.1
    python -m paramesh.parallel.processes.worker -m project.train --lr 0.1

The program runs as if Python had been started with it. It is one of several from its first line on,
so it needs no call of its own.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import threading
from collections.abc import Sequence
from types import TracebackType

from paramesh.parallel.processes import failures
from paramesh.parallel.processes.membership import join, leave

#: The variable with the process id of `paramesh launch`.
LAUNCHER = "PARAMESH_LAUNCHER"
_OURS = "PARAMESH_"
#: What says where the servers are stays: it is looked at when the script asks for servers.
_OF_SERVERS = "PARAMESH_PS_"
_PR_SET_PDEATHSIG = 1
_INTERRUPTED = 130
#: Less than `paramesh launch` waits at Ctrl-C.
_PARTING_SECONDS = 10.0


def main(words: Sequence[str]) -> None:
    """Join the others and run a program.

    Args:
        words: the path of a script, or -m and the name of a module; then its arguments.
    """
    failures.watch()
    _end_with_the_launcher()
    try:
        join()
        # What the program starts itself, such as readers of data, is not this process again.
        for name in [name for name in os.environ if name.startswith(_OURS)]:
            if not name.startswith(_OF_SERVERS):
                del os.environ[name]
        _run(words)
    except SystemExit as error:
        if error.code:
            _exit(error.code)
        raise
    except KeyboardInterrupt:  # each process would show where it was
        failures.report("interrupted", _INTERRUPTED)
        _wait_for_the_others()
        failures.end(_INTERRUPTED)
    except BaseException as error:
        trace = _of_program(error.__traceback__)
        sys.excepthook(type(error), error.with_traceback(trace), trace)


def _run(words: Sequence[str]) -> None:
    if words[0] == "-m":
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
        runpy.run_path(words[0], run_name="__main__")


def _wait_for_the_others() -> None:
    """Let all save what they have: JAX ends those that still run when process 0 has ended."""
    parting = threading.Thread(target=leave, daemon=True)
    parting.start()
    parting.join(_PARTING_SECONDS)


def _exit(code: object) -> None:
    """What Python does at `sys.exit(code)`, without the wait for the others."""
    if isinstance(code, int):
        failures.report(f"sys.exit({code})", code)
        failures.end(code & 0xFF)
    failures.fail(str(code))


def _of_program(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames that started the program."""
    ours = (__file__, runpy.__file__)
    while trace is not None and (
        trace.tb_frame.f_code.co_filename in ours
        or trace.tb_frame.f_code.co_filename.startswith("<frozen ")
    ):
        trace = trace.tb_next
    return trace


def _end_with_the_launcher() -> None:
    """A launcher that was killed can end nobody: on Linux the kernel does it."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(launcher):  # it ended before the kernel was asked
        failures.end(1)


if __name__ == "__main__":
    main(sys.argv[1:])
