"""What Ray needs of a host is looked at before Ray is started."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment import cluster, host_needs
from paramesh.ps.deployment.cluster import HOST
from paramesh.ps.deployment.host_needs import LEAST_FILE, LEAST_FILES, LEAST_ROOM, check_host, hint
from paramesh.ps.processes import descriptors
from type_checks import present


def files(most: int) -> Any:
    of_files = present(descriptors.resource).RLIMIT_NOFILE
    return lambda kind: (64, most) if kind == of_files else (-1, -1)


def room(free: int) -> Any:
    return lambda folder: SimpleNamespace(free=free)


def test_this_host_has_all(tmp_path: Path) -> None:
    check_host(tmp_path, HOST)
    check_host(tmp_path / "none")


@pytest.mark.skipif(descriptors.resource is None, reason="a limit of POSIX")
def test_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors.resource, "getrlimit", files(LEAST_FILES))
    check_host(tmp_path)
    monkeypatch.setattr(descriptors.resource, "getrlimit", files(-1))  # any number
    check_host(tmp_path)
    monkeypatch.setattr(descriptors.resource, "getrlimit", files(LEAST_FILES - 1))
    with pytest.raises(ParameterServerError, match=f"may open {LEAST_FILES - 1} files here"):
        check_host(tmp_path)


@pytest.mark.skipif(descriptors.resource is None, reason="a limit of POSIX")
def test_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_files = present(descriptors.resource).RLIMIT_FSIZE

    def limits(most: int) -> Any:
        return lambda kind: (most if kind == of_files else -1, -1)

    monkeypatch.setattr(descriptors.resource, "getrlimit", limits(LEAST_FILE))
    check_host(tmp_path)
    assert hint(tmp_path).startswith("A process may write files of 75 MiB here")
    monkeypatch.setattr(descriptors.resource, "getrlimit", limits(40 << 10))
    with pytest.raises(ParameterServerError, match=r"may write files of 40 KiB .* needs one of 75"):
        check_host(tmp_path)
    monkeypatch.setattr(descriptors.resource, "getrlimit", limits(-1))
    check_host(tmp_path)
    assert hint(tmp_path) == "Check whether the host is overloaded."


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", room(LEAST_ROOM))
    check_host(tmp_path)
    assert "has 1 MiB left" in hint(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", room(60 << 10))
    with pytest.raises(ParameterServerError, match=rf"'{tmp_path}', .*, has 60 KiB left"):
        check_host(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", room(1 << 40))
    assert hint(tmp_path) == "Check whether the host is overloaded."


def test_a_host_that_cannot_reach_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    check_host(tmp_path)
    with pytest.raises(ParameterServerError, match=rf"itself at {HOST} \(Network is unreachable"):
        check_host(tmp_path, HOST)


@pytest.mark.skipif(sys.platform != "linux", reason="the scratch folder is removed by its janitor")
def test_nothing_is_started_then_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ray:
        def is_initialized(self) -> bool:
            return False

        def init(self, **_: object) -> None:
            raise AssertionError("it was started")

    monkeypatch.setattr(cluster, "ray_module", Ray)
    monkeypatch.setattr(host_needs, "most_files", lambda: 64)
    made: list[str] = []
    make = cluster.tempfile.mkdtemp
    monkeypatch.setattr(
        cluster.tempfile, "mkdtemp", lambda **more: made.append(make(**more)) or made[-1]
    )
    with pytest.raises(ParameterServerError, match="may open 64 files here"):
        cluster.Cluster(1, {"workers": 1}, folder=str(tmp_path))
    assert len(made) == 1
    assert not Path(made[0]).exists()
