"""Processes of one run: what is shown of them, who failed first, and that none is left."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paramesh.cli import supervisor
from paramesh.cli.supervisor import Add, Failure, Interrupted, NoPlace, ProcessSpec, supervise
from paramesh.ps.processes.child import End


def member(label: str, program: str, **more: Any) -> ProcessSpec:
    return ProcessSpec(label, [sys.executable, "-c", program], **more)


def run(*members: ProcessSpec, color: bool = False) -> tuple[Failure | None, list[str], list[str]]:
    out, err = io.BytesIO(), io.BytesIO()
    failure = supervise(members, out, err, color)
    return failure, out.getvalue().decode().splitlines(), err.getvalue().decode().splitlines()


def gone(pid: int) -> bool:
    """Whether a process ends within five seconds."""
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        state = Path(f"/proc/{pid}/stat")
        if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False


FOREVER = "import time; print('up', flush=True); time.sleep(600)"


class TestLines:
    def test_each_behind_its_label(self) -> None:
        failure, out, err = run(
            member("rank 0", "print('one\\n\\n two'); import sys; sys.stderr.write('end')"),
            member(
                "rank 1", "import os; print(os.environ['A'], '\\r50%\\r100%')", variables={"A": "3"}
            ),
        )
        assert failure is None
        assert [line for line in out if "0" in line[:8]] == [
            "[rank 0] one",
            "[rank 0] ",
            "[rank 0]  two",
        ]
        assert [line for line in out if "1" in line[:8]] == ["[rank 1] 100%"]
        assert err == ["[rank 0] end"]

    def test_colours(self) -> None:
        _, out, _ = run(member("rank 0", "print('a')"), member("rank 1", "print('b')"), color=True)
        assert sorted(out) == ["\x1b[33m[rank 1]\x1b[0m b", "\x1b[36m[rank 0]\x1b[0m a"]

    def test_long_lines_and_bytes_that_are_no_text(self) -> None:
        program = "import sys; sys.stdout.buffer.write(b'\\xff' + b'x' * 300_000 + b'\\n')"
        out = io.BytesIO()
        assert supervise([member("r", program)], out, io.BytesIO()) is None
        assert out.getvalue() == b"[r] \xff" + b"x" * 300_000 + b"\n"


class TestFailures:
    def test_the_code_and_the_last_lines(self) -> None:
        program = "import sys; [print(i, file=sys.stderr) for i in range(30)]; sys.exit(3)"
        failure, _, _ = run(member("rank 0", FOREVER), member("rank 1", program))
        assert failure is not None
        assert (failure.label, failure.what, failure.code) == ("rank 1", "exited with code 3", 3)
        assert failure.said == "".join(f"{i}\n" for i in range(10, 30))

    def test_a_kill_comes_before_those_that_fail_of_it(self) -> None:
        failure, out, _ = run(
            member("rank 0", "import time, sys; time.sleep(0.05); sys.exit(1)"),
            member("rank 1", "import time, os; time.sleep(0.15); os.kill(os.getpid(), 9)"),
            member("rank 2", "import os; os.abort()"),
            member("rank 3", FOREVER),
        )
        assert failure is not None
        assert failure.label == "rank 1"
        assert failure.what == "was killed by SIGKILL (signal 9)"
        assert failure.code == 137
        assert out == ["[rank 3] up"] or out == []

    def test_the_report_that_was_made_first(self) -> None:
        reported = (
            "import json, os, sys\n"
            "with open(os.environ['PARAMESH_REPORT'], 'w') as file:\n"
            "    json.dump({'time': %d, 'text': 'Traceback %d', 'code': 1}, file)\n"
            "sys.exit(1)"
        )
        failure, _, _ = run(
            member("rank 0", reported % (20, 0)),
            member("rank 1", reported % (10, 1)),
            member("rank 2", "import sys; sys.exit(1)"),
        )
        assert failure is not None
        assert (failure.label, failure.said) == ("rank 1", "Traceback 1")

    def test_a_server_that_ended_is_the_reason_though_others_saw_it_first(
        self, tmp_path: Path
    ) -> None:
        # As Ray ends its users, without a word; the node that they were on takes longer to see it.
        path = tmp_path / "seen"
        ended = f"import os, sys; open({str(path)!r}, 'w').close(); sys.exit(1)"
        late = (
            f"import os, sys, time\nwhile not os.path.exists({str(path)!r}): time.sleep(0.01)\n"
            "time.sleep(1.0)\nsys.exit(1)"
        )
        assert supervisor.MOMENT < 1.0 < supervisor.SERVER_MOMENT
        failure, _, _ = run(
            member("servers", late, server=True, quiet=True), member("worker 0", ended)
        )
        assert failure is not None
        assert failure.label == "servers"

    def test_a_report_is_the_reason_though_a_server_lives(self) -> None:
        reported = (
            "import json, os, sys\n"
            "with open(os.environ['PARAMESH_REPORT'], 'w') as file:\n"
            "    json.dump({'time': 1, 'text': 'Traceback', 'code': 1}, file)\n"
            "sys.exit(1)"
        )
        failure, _, _ = run(member("servers", FOREVER, server=True), member("worker 0", reported))
        assert failure is not None
        assert (failure.label, failure.said) == ("worker 0", "Traceback")

    def test_those_who_do_not_listen_and_their_children_are_ended(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(supervisor, "_TERM", ((signal.SIGTERM, 0.2), (signal.SIGKILL, 3.0)))
        deaf = (
            "import signal, subprocess, sys, os, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
            f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
            f"os.rename({str(tmp_path / 'pids')!r}, {str(tmp_path / 'ready')!r})\n"
            "time.sleep(600)"
        )
        failing = (
            "import os, sys, time\n"
            f"while not os.path.exists({str(tmp_path / 'ready')!r}): time.sleep(0.01)\n"
            "sys.exit(5)"
        )
        failure, _, _ = run(member("rank 0", deaf), member("rank 1", failing))
        assert failure is not None
        assert (failure.label, failure.code) == ("rank 1", 5)
        for pid in (tmp_path / "ready").read_text().split():
            assert gone(int(pid))

    def test_what_cannot_be_started(self, tmp_path: Path) -> None:
        pid = tmp_path / "pid"
        program = (
            f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
        )
        with pytest.raises(FileNotFoundError):
            run(member("rank 0", program), ProcessSpec("rank 1", [str(tmp_path / "nothing")]))
        if pid.exists() and pid.read_text():
            assert gone(int(pid.read_text()))


class TestServers:
    def test_they_are_ended_when_the_others_are_done(self) -> None:
        server = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
        failure, out, _ = run(
            member("server 0", server, server=True),
            member("worker 0", "import time; time.sleep(0.3); print('done')"),
        )
        assert failure is None
        assert out[-1] == "[worker 0] done"
        assert gone(int(out[0].removeprefix("[server 0] ")))

    def test_one_that_ends_early_is_a_failure(self) -> None:
        failure, _, _ = run(
            member("server 0", "print('bye')", server=True), member("worker 0", FOREVER)
        )
        assert failure == Failure("server 0", "exited with code 0", "", 1)


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_it_is_passed_on_and_members_may_end_by_themselves(
        self, number: signal.Signals
    ) -> None:
        program = (
            "import signal, sys, time\n"
            f"signal.signal({int(number)}, lambda *_: (print('saved'), sys.exit(0)))\n"
            "print('up', flush=True)\n"
            "time.sleep(600)"
        )
        out = _Signalling(2, number)
        before = signal.getsignal(number)
        with pytest.raises(Interrupted, match=number.name):
            supervise([member("0", program), member("1", program)], out, io.BytesIO())
        assert sorted(out.getvalue().decode().split("\n"))[1:] == [
            "[0] saved",
            "[0] up",
            "[1] saved",
            "[1] up",
        ]
        assert signal.getsignal(number) == before

    def test_a_second_one_does_not_wait(self) -> None:
        deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);" + FOREVER
        out = _Signalling(1, signal.SIGINT, again=0.3)
        begun = time.monotonic()
        with pytest.raises(Interrupted):
            supervise([member("0", deaf)], out, io.BytesIO())
        assert time.monotonic() - begun < supervisor.INTERRUPT_SECONDS


class Nowhere:
    """A process of another host, which is lost."""

    def send(self, number: int) -> None:
        pass

    def read_out(self, seconds: float) -> None:
        pass


class _Signalling(io.BytesIO):
    """Sends this process a signal when so many members are up."""

    def __init__(self, count: int, number: int, again: float = 0.0) -> None:
        super().__init__()
        self._left, self._number, self._again = count, number, again

    def write(self, text: Any) -> int:
        if b"up" in text:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), self._number)
                if self._again:
                    timer = threading.Timer(self._again, os.kill, (os.getpid(), self._number))
                    timer.start()
        return super().write(text)


class TestRestarts:
    #: Dies at its first two starts.
    PROGRAM = (
        "import os, sys, pathlib; path = pathlib.Path(sys.argv[1]); count = len(path.read_text());"
        "path.write_text('x' * (count + 1)); print('start', count, flush=True);"
        "count < 2 and os.kill(os.getpid(), 9)"
    )

    def restarted(self, path: Path, restarts: int) -> ProcessSpec:
        path.write_text("")
        command = [sys.executable, "-c", self.PROGRAM, str(path)]
        return ProcessSpec("worker 0", command, restarts=restarts)

    def test_one_that_is_killed_is_started_again(self, tmp_path: Path) -> None:
        failure, out, err = run(self.restarted(tmp_path / "count", 3), member("worker 1", "0"))
        assert failure is None
        assert out == [f"[worker 0] start {i}" for i in range(3)]
        assert err == [
            f"[worker 0] was killed by SIGKILL (signal 9): restarted ({i} of 3)" for i in (1, 2)
        ]

    def test_not_more_often_than_it_may(self, tmp_path: Path) -> None:
        failure, _, _ = run(self.restarted(tmp_path / "count", 1), member("worker 1", FOREVER))
        assert failure is not None
        assert failure.what == "was killed by SIGKILL (signal 9) and had been restarted once"
        assert failure.code == 137

    def test_an_exception_is_no_kill(self) -> None:
        program = "raise ValueError('no good')"
        command = [sys.executable, "-c", program]
        failure, _, err = run(ProcessSpec("worker 0", command, restarts=3))
        assert failure is not None
        assert failure.what == "exited with code 1"
        assert err.count("[worker 0] ValueError: no good") == 1

    def test_one_whose_host_is_lost_is_started_elsewhere(self) -> None:
        logged: list[bytes] = []
        lost = End(-9, {}, "was lost with its host b")

        def vanish(spec: Any, report: Any, line: Any, ended: Any) -> Any:
            line("stdout", b"half a w")
            ended(lost)
            return Nowhere()

        elsewhere = member("worker 0 on c", "print('there')", restarts=2, log=logged.append)
        there = ProcessSpec(
            "worker 0 on b",
            [],
            restarts=2,
            start=vanish,
            again=lambda end: elsewhere if end == lost else there,
            log=logged.append,
        )
        failure, out, err = run(there)
        assert failure is None
        assert out == ["[worker 0 on b] half a w", "[worker 0 on c] there"]
        said = "was lost with its host b: restarted (1 of 2) as worker 0 on c"
        assert err == [f"[worker 0 on b] {said}"]
        assert logged == [b"half a w", said.encode(), b"there"]

    def test_one_that_has_no_place_left_ends_the_run_with_one_sentence(self) -> None:
        def nowhere(end: End) -> ProcessSpec:
            raise NoPlace("no host that is left has room for it")

        vanishing = ProcessSpec(
            "worker 0 on b",
            [],
            restarts=2,
            start=lambda spec, report, line, ended: (
                ended(End(-9, {}, "was lost with its host b")) or Nowhere()
            ),
            again=nowhere,
        )
        failure, _, _ = run(vanishing, member("worker 1", FOREVER))
        assert failure is not None
        assert failure.label == "worker 0 on b"
        assert failure.what == (
            "was lost with its host b, and no host that is left has room for it"
        )
        assert failure.code == 137

    def test_lines_of_others_are_shown_among_those_of_the_run(self) -> None:
        out, left = io.BytesIO(), []

        @contextlib.contextmanager
        def beside(show: Any) -> Iterator[None]:
            show("server 0", b"recovered")
            yield
            left.append(True)

        assert supervise([member("worker 0", "0")], out, io.BytesIO(), beside=beside) is None
        assert (out.getvalue(), left) == (b"[server 0] recovered\n", [True])

    def test_a_quiet_one_is_heard_when_it_fails(self) -> None:
        quiet = ProcessSpec(
            "servers", [sys.executable, "-c", "print('in vain')"], quiet=True, server=True
        )
        failure, out, err = run(quiet, member("worker 0", FOREVER))
        assert failure is not None
        assert (failure.label, failure.said) == ("servers", "in vain\n")
        assert not [line for line in out + err if "servers" in line]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_who_is_added_waits_for_the_one_before_it() -> None:
    out = io.BytesIO()
    text = "import time; print('begin', flush=True); time.sleep(0.3); print('end')"
    spec = ProcessSpec("worker 1", [sys.executable, "-S", "-c", text])

    @contextlib.contextmanager
    def later(add: Add):
        add(dataclasses.replace(spec, label="worker 1 on another-host"))
        yield

    assert supervise([spec], out, io.BytesIO(), later=later) is None
    said = [line.rpartition(b" ")[2] for line in out.getvalue().splitlines()]
    assert said == [b"begin", b"end", b"begin", b"end"]


def test_a_launcher_that_was_killed_leaves_no_folder(tmp_path: Path) -> None:
    program = (
        "import io, sys\nfrom paramesh.cli.supervisor import ProcessSpec, supervise\n"
        "words = [sys.executable, '-c', \"import os, time; print(os.environ['PARAMESH_REPORT'], "
        'flush=True); time.sleep(600)"]\n'
        "supervise([ProcessSpec('one', words)], sys.stdout.buffer, sys.stderr.buffer)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as launcher:
        assert launcher.stdout is not None
        folder = Path(launcher.stdout.readline().decode().split()[-1]).parent
        assert folder.parent == tmp_path
        assert folder.is_dir()
        launcher.kill()
        launcher.wait()
        until = time.monotonic() + 30
        while folder.exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert list(tmp_path.iterdir()) == []
        # What the launcher had started: `paramesh.parallel.processes.worker` would end by itself.
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"PARAMESH_REPORT={folder}".encode() in entry.read_bytes():
                    os.kill(int(entry.parent.name), signal.SIGKILL)
