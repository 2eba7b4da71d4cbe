"""The protocol of one server: against plain stores, with a death at every point."""

from __future__ import annotations

import errno
import os
import struct
import weakref
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh.errors import ParameterServerError, ParameterShapeError
from paramesh.ps.durability import log as logs
from paramesh.ps.durability.record import read_records
from paramesh.ps.durability.snapshot import snapshots
from paramesh.ps.server.server import Server
from paramesh.ps.server.tables import RowsUndo
from paramesh.ps.specification.protocol import (
    POINTS,
    PushesMissing,
    Replaced,
    RunConfig,
    VersionGone,
)
from server_runs import NUMBERS, SPECS, START, Model, Run, contents, updates_of

SYNC = RunConfig(workers=2, snapshot_every=3)
STALE = RunConfig(workers=2, mode="stale", staleness=2, snapshot_every=4)
ASYNC = RunConfig(workers=2, mode="async", snapshot_every=5)
STEPS = 12


def check(run: Run, steps: int = STEPS) -> None:
    assert run.server.version == steps
    assert contents(run.server.store) == contents(Model(run.config).version(steps))


@pytest.mark.parametrize("config", [SYNC, STALE])
def test_run_is_that_of_plain_stores(config: RunConfig, tmp_path: Path) -> None:
    run = Run(tmp_path / "s", config)
    run.finish(STEPS)
    check(run)


@pytest.mark.parametrize("config", [SYNC, STALE])
@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_ends_with_the_same_bits(
    config: RunConfig, point: str, tmp_path: Path
) -> None:
    run = Run(tmp_path / "s", config)
    for _ in range(3):
        run.finish(min(run.next) + 3)
        if point in ("recovering", "reply"):
            run.armed = [point] if point == "recovering" else []
            run.restart()
        else:
            run.armed = [point, "recovering"]
    run.finish(STEPS)
    assert run.kills >= 3
    check(run)


@pytest.mark.parametrize("point", ["applied", "half", "logged", "snapshot"])
def test_killed_with_threads_beside_ends_with_the_same_bits(point: str, tmp_path: Path) -> None:
    """Every record is written while its update is applied, and snapshots while steps go on."""
    run = Run(tmp_path / "s", SYNC, beside=0, snapshots_beside=True)
    for _ in range(3):
        run.armed = [point]
        run.finish(min(run.next) + 3)
    run.server.close()
    run.armed = []
    run.restart()
    run.finish(STEPS)
    if point != "snapshot":  # there a thread ends, and the server lives
        assert run.kills >= 3
    check(run)


def test_async_state_is_the_replay_of_the_log(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", ASYNC)
    for point in ("half", "applied", "staged", "logged"):
        run.finish(min(run.next) + 2)
        run.armed = [point]
    run.finish(STEPS)
    assert run.kills == 4
    # Every push once, though each was sent again by everybody after each death.
    assert run.server.version == 2 * STEPS
    assert run.server.workers.next_push == {0: STEPS, 1: STEPS}
    kept = contents(run.server.store)
    run.server.close()
    assert contents(Server(tmp_path / "s", ASYNC).store) == kept


def test_control_without_the_log_the_values_are_lost(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", RunConfig(workers=2, keep_log=False))
    run.finish(3)
    with pytest.raises(AssertionError, match="an applied update was lost"):
        run.restart()


@pytest.mark.parametrize("keep", [True, False])
def test_control_without_history_a_lagging_worker_cannot_go_on(keep: bool, tmp_path: Path) -> None:
    run = Run(tmp_path / "s", RunConfig(workers=2, keep_history=keep))
    run.finish(3)
    if keep:  # a worker that was killed between two servers reads what the other one is at
        expected = Model(run.config).version(2).read("w")
        np.testing.assert_array_equal(run.server.read(2, "w"), expected)
    else:
        with pytest.raises(VersionGone, match="step 2 reads version 2"):
            run.server.read(2, "w")


def test_versions_before_a_snapshot_are_there_after_a_restart(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", SYNC)
    run.finish(6)  # the last thing was a snapshot
    assert snapshots(tmp_path / "s")[0].version == 6
    run.restart()
    for version in (5, 6):
        expected = Model(SYNC).version(version)
        np.testing.assert_array_equal(run.server.read(version, "w"), expected.read("w"))
        ids = np.arange(50)
        np.testing.assert_array_equal(run.server.read(version, "t", ids), expected.read("t", ids))


def test_pushes_that_cannot_be(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", SYNC)
    server = run.server
    good = updates_of(0, 0, run.read(0))
    with pytest.raises(ParameterServerError, match="pushed step 1, and the server is at version 0"):
        server.push(0, 1, 1, good, NUMBERS)
    with pytest.raises(
        ParameterServerError, match="incarnation 7, but the server accepts incarnation 1"
    ):
        server.push(0, 7, 0, good, NUMBERS)
    with pytest.raises(
        ParameterShapeError, match="has 6 elements on this server, but its gradient has 5"
    ):
        server.push(0, 1, 0, {"w": {"grad": np.zeros(5, np.float32)}}, NUMBERS)
    with pytest.raises(ParameterServerError, match="learning_rate=nan"):
        server.push(0, 1, 0, good, {"learning_rate": float("nan")})
    assert not server.stats()["staged"]
    server.push(0, 1, 0, good, NUMBERS)
    server.push(0, 1, 0, good, NUMBERS)
    other = good | {"w": {"grad": good["w"]["grad"] + 1}}
    with pytest.raises(ParameterServerError, match="step 0 twice, with different gradients"):
        server.push(0, 1, 0, other, NUMBERS)
    without = {"t": good["t"]}
    with pytest.raises(ParameterServerError, match="of 'w' in step 0, and worker 1 did not: their"):
        server.push(1, 1, 0, without, NUMBERS)
    server.declare([SPECS[0] | {"name": "v[0:6]"}], {"v[0:6]": START["w"]})
    more = good | {"v[0:6]": good["w"]}
    with pytest.raises(ParameterServerError, match="worker 1 pushed gradients of 'v' in step 0"):
        server.push(1, 1, 0, more, NUMBERS)
    with pytest.raises(ParameterServerError, match="with different hyperparameters"):
        server.push(1, 1, 0, good, NUMBERS | {"learning_rate": 0.2})
    with pytest.raises(ParameterServerError, match="worker 2 does not exist"):
        server.hello(2, None)
    with pytest.raises(VersionGone, match="step 1 reads version 1; this server has"):
        server.read(1, "w")
    assert server.version == 0


def test_replaced_worker_is_not_listened_to(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", SYNC)
    run.finish(2)
    update = updates_of(2, 0, run.read(2))
    run.replace_worker(0)
    run.restart()
    with pytest.raises(ParameterServerError, match="was replaced and must exit"):
        run.server.push(0, 1, 2, update, NUMBERS)
    run.finish(STEPS)
    check(run)


def test_frozen_server_that_wakes_up_changes_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", SYNC)
    run.finish(2)
    zombie = run.server
    update = [updates_of(2, worker, run.read(2)) for worker in range(2)]
    run.server = run._started()
    zombie.push(0, 1, 2, update[0], NUMBERS)
    with pytest.raises(ParameterServerError, match="has taken over: it is fenced"):
        zombie.push(1, 1, 2, update[1], NUMBERS)
    assert zombie.version == 2
    # One that was frozen in the middle of a record writes its other half behind its successor.
    zombie._log._write([b"the other half"])
    run.finish(4)
    run.restart()
    run.finish(STEPS)
    check(run)


@pytest.mark.parametrize("beside", [0, 1 << 20])
def test_full_disk_acknowledges_nothing(
    beside: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "s", SYNC, beside=beside)
    run.finish(2)
    real, room = os.writev, [True]

    def writev(file: int, parts: Any) -> int:
        if room[0]:
            return real(file, parts)
        real(file, [bytes(parts[0])[:10]])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "writev", writev)
    run.push(0)
    room[0] = False
    with pytest.raises(ParameterServerError, match="No space left on device"):
        run.push(1)
    assert run.server.version == 2
    assert contents(run.server.store) == contents(Model(SYNC).version(2))
    room[0] = True
    run.push(1)
    run.restart()
    run.finish(STEPS)
    check(run)


def test_record_of_an_update_that_fails_is_taken_back(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", SYNC, beside=0)
    run.finish(1)
    size = run.server.stats()["bytes_logged"]
    update = [updates_of(1, worker, run.read(1)) for worker in range(2)]
    run.server.push(0, 1, 1, update[0], {})
    with pytest.raises(ValueError, match="lacks 'learning_rate'"):
        run.server.push(1, 1, 1, update[1], {})
    assert run.server.stats()["bytes_logged"] == size
    run.restart()
    run.finish(STEPS)
    check(run)


def test_full_disk_takes_no_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path / "s", SYNC)
    before = contents(run.server.store)

    def writev(file: int, parts: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "writev", writev)
        with pytest.raises(ParameterServerError, match="No space left on device"):
            run.server.put("w", {"value": np.ones(6, np.float32)}, None)
    with pytest.raises(ParameterShapeError):
        run.server.put("w", {"value": np.ones(6, np.float32), "moments": np.ones(7)}, None)
    assert contents(run.server.store) == before
    run.restart()
    run.finish(STEPS)
    check(run)


def test_log_of_an_earlier_format_is_refused(tmp_path: Path) -> None:
    Run(tmp_path / "s", SYNC).server.close()
    (_, _, path) = logs.segments(tmp_path / "s")[0]
    content = path.read_bytes()
    path.write_bytes(b"pmrecord" + content[8:])
    with pytest.raises(ParameterServerError, match="written by an earlier version of paramesh"):
        Server(tmp_path / "s", SYNC)


def test_values_given_once_more_by_a_worker_that_is_back_change_nothing(tmp_path: Path) -> None:
    given = {"value": np.full(6, 3, np.float32), "moments": np.ones(6, np.float32)}
    run = Run(tmp_path / "s", RunConfig(workers=2, snapshot_every=2))
    run.server.put("w", given, None)
    run.finish(5)
    for _ in range(2):
        before = contents(run.server.store)
        run.server.put("w", given, None)
        assert contents(run.server.store) == before
        run.restart()
    with pytest.raises(ParameterServerError, match="'t' was given values at version 5"):
        run.server.put("t", {"value": np.ones((1, 2), np.float32)}, np.array([3]))


def test_an_error_between_update_and_record_takes_the_update_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "s", SYNC)
    run.finish(2)
    run.push(0)

    def too_many(folder: Path) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(logs, "latest_incarnation", too_many)
        with pytest.raises(OSError, match="Too many open files"):
            run.push(1)
    assert contents(run.server.store) == contents(Model(SYNC).version(2))
    run.push(1)
    # And where the record is there already, but nobody could tell whether the server is fenced.
    run.push(0)
    answers = iter([run.server.incarnation])
    with monkeypatch.context() as patched:
        patched.setattr(logs, "latest_incarnation", lambda f: next(answers, None) or too_many(f))
        with pytest.raises(OSError, match="Too many open files"):
            run.push(1)
    with pytest.raises(ParameterServerError, match="could not be repaired"):
        run._send(1, run.next[1])
    assert run.server.version == 3
    run.restart()
    assert run.server.version == 4
    run.next[1] += 1
    run.finish(STEPS)
    check(run)


def test_pushes_that_died_with_the_server_are_missed(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", STALE)
    run.finish(3)
    for _ in range(2):
        run.push(0)
    update = updates_of(5, 0, run.read(5))
    held = run.held[0]
    run.server.close()
    run.server = run._started()  # and worker 0 has seen nothing of it
    for _ in range(2):
        with pytest.raises(PushesMissing, match="its push of step 3 has not arrived"):
            run.server.push(0, 1, 5, update, NUMBERS)
        with pytest.raises(PushesMissing, match="worker 0 is at step 5"):
            run.server.check_pushed(0, 5)
    for step in (3, 4):
        run.server.push(0, 1, step, held[step], NUMBERS)
    run.server.push(0, 1, 5, update, NUMBERS)
    run.next[0], held[5] = 6, update
    run.finish(STEPS)
    check(run)


def test_the_last_worker_that_leaves_knows_it(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", SYNC)
    run.finish(4)
    assert run.server.leave(1, 1) == 1
    run.restart()
    assert run.server.leave(1, 1) == 1
    run.replace_worker(1)
    with pytest.raises(Replaced):
        run.server.leave(1, 1)
    run.server.snapshot()
    run.server.snapshot()
    assert run.server.leave(0, 1) == 1
    run.server.snapshot()
    run.finish(6)
    run.restart()
    assert run.server.leave(1, 2) == 0


def test_two_starts_at_once_are_two_incarnations(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: logs.start_incarnation(tmp_path), range(32)))
    assert len(set(numbers)) == 32


def test_damaged_log_is_an_error_and_not_a_fresh_start(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", RunConfig(workers=2))
    run.finish(4)
    run.restart()
    run.finish(6)
    run.server.close()
    (_, _, path) = logs.segments(tmp_path / "s")[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ParameterServerError, match="is damaged at byte"):
        Server(tmp_path / "s", run.config)
    path.unlink()
    with pytest.raises(ParameterServerError, match="lacks record 0"):
        Server(tmp_path / "s", run.config)


def test_damaged_snapshot_falls_back_to_the_one_before(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", SYNC)
    run.finish(8)
    newest, before = snapshots(tmp_path / "s")
    content = bytearray(newest.path.read_bytes())
    content[-100] ^= 1
    newest.path.write_bytes(content)
    run.restart()
    # It is gone: otherwise the next one would push out the good one, before it can replace it.
    assert snapshots(tmp_path / "s") == [before]
    run.finish(9)
    run.restart()
    run.finish(STEPS)
    check(run)
    run.server.close()
    for snapshot in snapshots(tmp_path / "s"):
        snapshot.path.write_bytes(snapshot.path.read_bytes()[:200])
    assert before.version == 3
    with pytest.raises(ParameterServerError, match="cannot be recovered: .* is not complete"):
        Server(tmp_path / "s", SYNC)


def test_log_of_another_run_is_refused(tmp_path: Path) -> None:
    Run(tmp_path / "s", SYNC).server.close()
    with pytest.raises(ParameterServerError, match="a run of 2 workers in mode 'sync'"):
        Server(tmp_path / "s", RunConfig(workers=3))
    Run(tmp_path / "stale", STALE).server.close()
    with pytest.raises(ParameterServerError, match=r"staleness 2; .* 'stale', staleness 1\."):
        Server(tmp_path / "stale", RunConfig(workers=2, mode="stale", staleness=1))


def test_files_are_for_their_owner_and_hold_no_pickle(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", SYNC)
    run.finish(7)
    files = list((tmp_path / "s").iterdir())
    kinds = {path.name.partition("-")[0] for path in files}
    assert kinds == {"claim", "incarnation", "log", "snapshot"}
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o600, path
        assert not path.read_bytes().startswith(b"\x80")
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700


def test_an_undo_that_was_discarded_holds_no_rows(tmp_path: Path) -> None:
    """A table's share of memory is that of its rows, and of the versions that may be read."""
    run = Run(tmp_path / "s", RunConfig())
    held = []
    for _ in range(4):
        run.finish(min(run.next) + 1)
        (undo,) = run.server._history._undos
        parts = [part for part in undo.parts.values() if isinstance(part, RowsUndo)]
        assert parts
        held += [weakref.ref(array) for part in parts for array in part.before.values()]
        del undo, parts
    here = [one for one in held if one() is not None]
    assert len(here) == len(held) // 4


def test_old_files_are_dropped(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", SYNC)
    run.finish(24)
    assert len(snapshots(tmp_path / "s")) == 2
    assert len(logs.segments(tmp_path / "s")) <= 3
    assert logs.segments(tmp_path / "s")[0][0] > 0


def test_a_question_of_a_worker_changes_nothing(tmp_path: Path) -> None:
    """It may come late or twice, from a process that is dead: the one after it is listened to."""
    server = Server(tmp_path / "s", SYNC)
    assert server.hello(0, None, 5)["worker"] == 1
    assert server.hello(0, 1, 5)["worker"] == 1
    assert server.hello(0, None, 6)["worker"] == 2
    assert server.hello(0, 1, 5)["worker"] == 1
    assert server.hello(0, 2, 6)["worker"] == 2
    with pytest.raises(Replaced, match="as incarnation 1, but the server accepts incarnation 2"):
        server.hello(0, 1, 5)
    server.close()


@pytest.mark.parametrize("snapshot", [False, True])
def test_two_processes_that_are_one_incarnation_are_an_error(
    snapshot: bool, tmp_path: Path
) -> None:
    server = Server(tmp_path / "s", SYNC)
    server.hello(0, 1, 5)
    if snapshot:
        server.snapshot()
    server.close()
    server = Server(tmp_path / "s", SYNC)
    assert server.hello(0, 1, 5)["worker"] == 1
    with pytest.raises(Replaced, match="two processes are incarnation.*was not started twice"):
        server.hello(0, 1, 6)
    server.close()


def test_what_a_server_goes_on_from_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fsync: who wrote it may have been killed before that, and a power cut comes later."""
    run = Run(tmp_path / "s", RunConfig(workers=2))
    run.finish(3)
    run.server.close()
    synced: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{file}")))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    server = Server(tmp_path / "s", RunConfig(workers=2), fsync=True)
    first, second = sorted(path.name for path in (tmp_path / "s").glob("log-*"))
    assert first in synced
    assert synced[-1] == "s"  # the name of the new segment
    server.hello(0, 2)
    assert synced[-1] == second
    server.close()


def test_a_damaged_older_snapshot_keeps_no_server_from_starting(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", RunConfig(workers=2, snapshot_every=2))
    run.finish(6)
    newest, older = snapshots(run.folder)
    assert newest.version == run.server.version  # none of the log is behind it
    content = bytearray(older.path.read_bytes())
    content[100] ^= 1
    older.path.write_bytes(content)
    run.restart()
    run.finish(9)
    check(run, 9)


def test_damage_in_a_record_that_is_passed_over(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", RunConfig(workers=2))
    run.finish(3)
    (path,) = run.folder.glob("log-*")
    content = path.read_bytes()
    (text_size,) = struct.unpack_from("<Q", content, 16)
    whole = [record.meta for record in read_records(path, arrays=False)]
    for at in range(64, 64 + text_size, 7):
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        with pytest.raises(
            ParameterServerError, match="at byte 0: the checksum of its text does not match"
        ):
            list(read_records(path, arrays=False))
    # A head of a former version has no sum of the text.
    head = bytearray(content[:60])
    head[32:40] = bytes(8)
    former = bytes(head) + struct.pack("<I", zlib.crc32(head)) + content[64:]
    path.write_bytes(former)
    assert [record.meta for record in read_records(path, arrays=False)] == whole
    path.write_bytes(former.replace(b'"meta"', b'"mets"', 1))
    with pytest.raises(
        ParameterServerError, match="is damaged at byte 0: its text is not valid JSON"
    ):
        list(read_records(path, arrays=False))
