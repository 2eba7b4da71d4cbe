"""A Ray node whose processes have died: which, how, and what to do then.

Ray shows the last lines of its logs, or ends the process of the user without a word of Python. What
it takes to go on is one sentence, and Ray does not know it.
"""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Callable

from paramesh._compat import ray as ray_inside

#: Seconds between two looks at the processes.
LOOK = 0.25

#: What a node that was started by `ray start --block` says of its processes, by version of Ray.
_ENDED = (
    re.compile(r"END (\w+)\.\w+ tail \(exit code\(s\)=(-?\d+)"),
    re.compile(r"^\s*(\w+) \[exit code=(-?\d+)\]", re.MULTILINE),
)
#: Without these no server is reached any more; others of Ray's processes are no loss.
_VITAL = ("raylet", "gcs_server")


def in_words(name: str, code: int) -> str:
    """How one of Ray's processes has ended."""
    if code >= 0:
        return f"Ray's {name} exited with code {code}"
    number = -code
    known = {one.value: one.name for one in signal.Signals}
    text = f"Ray's {name} was killed by {known.get(number, 'a signal')} (signal {number})"
    if number == 9:  # SIGKILL, which not every system has a name for
        text += "; if nobody did that, the memory of this host ran out"
    return text


def what_ended(said: str) -> str | None:
    """Which process a node has ended of, from what it said; None if it does not say."""
    for pattern in _ENDED:
        found = pattern.search(said)
        if found is not None:
            return in_words(found[1], int(found[2]))
    return None


def without_noise(said: str) -> str:
    """What a node said, without the lines that help nobody."""
    lines = said.splitlines()
    kept = [line for line in lines if "[state-dump]" not in line and " I " not in line[:60]]
    return "\n".join(kept).strip()


def what_to_do(wal_dir: str | None, setting: str = "wal_dir") -> str:
    """How a run goes on whose Ray node has ended.

    Args:
        wal_dir: the folder of its logs; None: a temporary one, unless the script has one.
        setting: what the user calls it.
    """
    goes_on = "it goes on from the last step that the servers have"
    if wal_dir is not None:
        return f"Start the run again with the same {setting} ({wal_dir}): {goes_on}."
    return (
        f"A run with a {setting} is started again with the same one: {goes_on}. Without one the "
        "logs of the servers were in a temporary folder, and it begins anew."
    )


class NodeWatch:
    """Says so on stderr, once, when a process of the node that this program has started dies.

    Ray may end this program itself then, at once or a minute later, and says nothing of use.

    Args:
        wal_dir: of the run.
        tell: gets the text.
    """

    def __init__(self, wal_dir: str | None, tell: Callable[[str], None] | None = None) -> None:
        self._wal_dir = wal_dir
        self._tell = tell or _on_stderr
        self._node = ray_inside.node_of_driver()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node watch", daemon=True)
        if self._node is not None:
            self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(LOOK):
            for name, process in self._node.dead_processes():
                if name in _VITAL and not self._stop.is_set():
                    ended = in_words(name, process.returncode)
                    self._tell(f"paramesh: {ended}. {what_to_do(self._wal_dir)}")
                    return

    def close(self) -> None:
        """The node is about to be ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()


def _on_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
