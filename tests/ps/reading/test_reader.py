"""A read-only client sees one version of a run, live or ended, and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh import ps
from paramesh.errors import ParameterServerError, ParameterStateError
from paramesh.ps.durability.snapshot import snapshots
from paramesh.ps.reading import reader as readers
from paramesh.ps.resizing.live import resize_live
from server_folders import ROWS, RunOfServers, specs
from type_checks import wrong

EVERYTHING = np.arange(ROWS)
NOTHING = EVERYTHING[:0]


def check(run: ps.RunReader, expected: Any) -> None:
    """What the reader has is a version on plain stores."""
    np.testing.assert_array_equal(run.value("w"), expected.read("w"))
    found = run.lookup("emb/t", EVERYTHING)
    np.testing.assert_array_equal(found, expected.read("emb/t", EVERYTHING))
    ids = expected.rows("emb/t")
    np.testing.assert_array_equal(run.ids("emb/t"), ids)
    blocks = list(run.items("emb/t", block=7))
    assert all(len(one) == len(rows) <= 7 for one, rows in blocks)
    np.testing.assert_array_equal(np.concatenate([NOTHING, *(one for one, _ in blocks)]), ids)
    rows = np.concatenate([found[:0], *(rows for _, rows in blocks)])
    np.testing.assert_array_equal(rows, expected.read("emb/t", ids))


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"servers": 1},
        {"servers": 3, "mode": "stale", "staleness": 2, "snapshot_every": 2},
        {"snapshot_every": 1, "expire": 3},
        {"mode": "async"},
    ],
)
def test_a_run_that_has_ended(settings: dict[str, Any], tmp_path: Path) -> None:
    run = RunOfServers(tmp_path / "run", **settings)
    for _ in range(6):
        run.push()
    run.close()
    before = files(run.folder)
    with ps.connect(run.folder) as read:
        assert read.version == 6
        assert read.names == ["emb/t", "w"]
        assert read.tables == ["emb/t"]
        assert read.shape("w") == tuple(specs()[0]["shape"])
        assert read.shape("emb/t") == (ROWS, 2, 3)
        assert str(read.dtype("emb/t")) == "Float32"
        check(read, run.versions[6])
        shaped = read.lookup("emb/t", [[3, 3], [499, 0]])
        assert shaped.shape == (2, 2, 2, 3)
        np.testing.assert_array_equal(
            shaped[1, 0], run.versions[6].read("emb/t", np.array([499]))[0]
        )
        assert read.lookup("emb/t", []).shape == (0, 2, 3)
        assert repr(read).endswith(f"run', version 6, {len(run.servers)} servers)")
    assert "closed" in repr(read)
    assert files(run.folder) == before


@pytest.mark.parametrize(
    "settings", [{}, {"mode": "stale", "staleness": 1}, {"expire": 2, "snapshot_every": 2}]
)
def test_a_run_that_goes_on(settings: dict[str, Any], tmp_path: Path) -> None:
    """The version stays until `refresh`; if servers differ, it is one that all have."""
    run = RunOfServers(tmp_path, **settings)
    read = ps.connect(tmp_path)
    assert read.version == 0
    check(read, run.versions[0])
    for version in range(1, 7):
        run.push(None if version < 6 else 1)
        if version == 2:
            check(read, run.versions[0])
        if version == 3 or version > 4:
            assert read.refresh() == min(version, 5)
            check(read, run.versions[min(version, 5)])
    assert [server.version for server in run.servers] == [6, 5]
    read.close()
    run.close()


def test_one_that_lags_until_segments_are_dropped(tmp_path: Path) -> None:
    run = RunOfServers(tmp_path, snapshot_every=1)
    run.push()
    read = ps.connect(tmp_path)
    for _ in range(6):
        run.push()
    assert read.refresh() == 7
    check(read, run.versions[7])
    assert any(follower.fresh_starts > 1 for follower in read._followers)
    run.close()


def test_an_iteration_is_of_one_version(tmp_path: Path) -> None:
    run = RunOfServers(tmp_path)
    run.push()
    read = ps.connect(tmp_path)
    blocks = read.items("emb/t", block=4)
    next(blocks)
    read.refresh()  # nothing new: the version stays
    next(blocks)
    run.push()
    read.refresh()
    with pytest.raises(ParameterStateError, match="iterated at version 1, .*to version 2: start"):
        next(blocks)
    run.close()


def test_a_damaged_snapshot_stays_where_it_is(tmp_path: Path) -> None:
    run = RunOfServers(tmp_path, servers=1)
    run.push()
    run.servers[0].snapshot()
    run.push()
    run.close()
    damaged = snapshots(tmp_path / "server-0")[0].path
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with ps.connect(tmp_path) as read:
        check(read, run.versions[2])
    assert damaged.exists()


def test_what_is_asked_for_wrongly(tmp_path: Path) -> None:
    run = RunOfServers(tmp_path)
    run.push()
    run.close()
    read = ps.connect(tmp_path)
    with pytest.raises(ParameterStateError, match="'x' does not exist in the run .* emb/t, w"):
        read.lookup("x", [1])
    with pytest.raises(ParameterStateError, match="'w' is not a table of rows: read it with value"):
        read.lookup("w", [1])
    with pytest.raises(ParameterStateError, match="'emb/t' is a table of rows: read it"):
        read.value("emb/t")
    with pytest.raises(ValueError, match="row 500 is out of range"):
        read.lookup("emb/t", [1, ROWS])
    with pytest.raises(ValueError, match="row 9223372036854775813 is out of range"):
        read.lookup("emb/t", np.array([3, 2**63 + 5], np.uint64))
    with pytest.raises(ValueError, match="row -1 is out of range"):
        read.lookup("emb/t", [-1])
    with pytest.raises(TypeError, match="ids must be integers, got float64"):
        read.lookup("emb/t", [1.5])
    with pytest.raises(TypeError, match=r"connect\(wal_dir\): expected the folder of a run, got 5"):
        ps.connect(wrong(5))
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        read.items("emb/t", block=0)
    read.close()
    with pytest.raises(ParameterStateError, match="this reader was closed"):
        read.lookup("emb/t", [1])


def test_folders_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterServerError, match="is not the wal_dir of a run on servers"):
        ps.connect(tmp_path)
    with pytest.raises(ParameterServerError, match="is not the wal_dir of a run on servers"):
        ps.connect(tmp_path / "nowhere")
    run = RunOfServers(tmp_path, servers=1)
    run.push()
    run.push()
    run.close()
    monkeypatch.setattr(readers, "_PAUSE", 0.0)
    log = max((tmp_path / "server-0").glob("log-*"))
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)
    with pytest.raises(ParameterServerError, match="cannot be read: .*damaged"):
        ps.connect(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 1}')
    with pytest.raises(ParameterServerError, match="run.json' is damaged"):
        ps.connect(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 9}')
    with pytest.raises(ParameterServerError, match=r"another version of paramesh \(format 9"):
        ps.connect(tmp_path)


def test_a_reader_goes_on_with_the_servers_that_the_run_has_moved_to(tmp_path: Path) -> None:
    run = RunOfServers(tmp_path / "run")
    run.push()
    with ps.connect(run.folder) as reader:
        before = reader.value("w")
        resize_live(run.folder, 3)
        assert reader.refresh() == 1
        assert "3 servers" in repr(reader)
        np.testing.assert_array_equal(reader.value("w"), before)
    run.close()
