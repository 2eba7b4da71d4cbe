"""`paramesh launch --servers`: who is started with what, and that nothing is left."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from paramesh.cli import app, launch_servers
from paramesh.cli.errors import CommandError
from paramesh.cli.launch import Launch, _failure_text, workers
from paramesh.cli.launch_servers import Servers, served
from paramesh.cli.supervisor import Failure
from paramesh.errors import ParameterServerError
from paramesh.files import live_entries
from paramesh.ps.deployment import environment, registry
from paramesh.ps.deployment.node_failure import what_ended
from paramesh.ps.deployment.spread import ClusterHost
from paramesh.ps.durability import run_lock
from paramesh.ps.durability.run_folder import RunFolder
from paramesh.ps.durability.run_settings import Identity


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text("")
    return path


def test_members_of_a_run_with_a_node_of_its_own(script: Path) -> None:
    asked = Servers(2, workers=3, restarts=5)
    with served(asked) as deployment:
        hosts, variables = deployment.processes, deployment.variables
        folder = Path(variables[environment.SCRATCH]).parent
        assert folder.is_dir()
        assert folder.stat().st_mode & 0o077 == 0
        (host,) = hosts
        assert (host.label, host.server, host.quiet) == ("servers", True, True)
        assert host.variables["RAY_AUTH_TOKEN"] == variables["RAY_AUTH_TOKEN"]
        members = workers(Launch(1, str(script), servers=asked), variables)
    assert not folder.exists()
    assert [member.label for member in members] == ["worker 0", "worker 1", "worker 2"]
    for at, member in enumerate(members):
        said = environment.outside(member.variables)
        assert said.settings["server_num"] == 2
        assert said.settings["worker_num"] == 3
        assert said.settings["address"] == variables[environment.ADDRESS]
        assert member.variables[environment.RANK] == str(at)
        assert member.variables["PARAMESH_PROCESSES"] == "1"
        assert member.restarts == 5
    assert len({member.variables["RAY_AUTH_TOKEN"] for member in members}) == 1


def test_processes_that_jax_joins_are_not_started_again(script: Path) -> None:
    members = workers(Launch(2, str(script), servers=Servers(1)), {environment.SERVERS: "1"})
    assert [member.label for member in members] == ["rank 0", "rank 1"]
    assert [member.variables[environment.RANK] for member in members] == ["0", "1"]
    assert [member.variables["PARAMESH_PROCESSES"] for member in members] == ["2", "2"]
    assert [member.restarts for member in members] == [0, 0]
    assert environment.WORKERS not in members[0].variables


def test_devices_of_workers(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --other")
    members = workers(Launch(1, str(script), devices=2, servers=Servers(1, workers=2)), {})
    flags = {member.variables["XLA_FLAGS"] for member in members}
    assert flags == {"--other --xla_force_host_platform_device_count=2"}
    assert [m.variables["CUDA_VISIBLE_DEVICES"] for m in members] == ["0,1", "2,3"]


def test_a_cluster_on_a_network_needs_token_and_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    with (
        pytest.raises(ParameterServerError, match="without a token .* and encryption"),
        served(Servers(2, workers=2, address="ray://10.0.0.7:10001")),
    ):
        pass


class IdleCrew:
    """A cluster whose only host is this one."""

    def __init__(self, address: str, job: str) -> None:
        self.address, self.hosts, self.here = address, [ClusterHost("127.0.0.1", "me", "n")], 0

    def close(self) -> None:
        pass


class Idle:
    def dismiss(self) -> None:
        pass


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    made: list[Path] = []
    monkeypatch.setattr(launch_servers, "Janitor", lambda folder: made.append(folder) or Idle())
    with pytest.raises(ParameterServerError, match="is not installed"), served(Servers(2)):
        pass
    assert len(made) == 1
    assert not made[0].exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "2"], "go with --servers"),
        (["--servers", "2", "--workers", "2", "-n", "2"], "give -n or --workers, not both"),
    ],
)
def test_options_that_do_not_fit(words: list[str], message: str, script: Path) -> None:
    done = CliRunner().invoke(app, ["launch", *words, str(script)])
    assert isinstance(done.exception, CommandError)
    assert message in str(done.exception)


#: What `ray start --block` says last when one of its processes was killed.
NODE = """[state-dump] \tNodeManager.deadline_timer.record_metrics - 1 total (1 active)
[2026-11-29 05:08:48,112 I 32006 32006] (raylet) accessor.cc:475: Received address
... ERR scripts.py:128 -- ----- END raylet.out tail (exit code(s)=-9 (signal 9)) -----
... ERR scripts.py:1315 -- Remaining processes will be killed.
"""


@pytest.mark.parametrize("folder", [None, Path("/data/run")])
def test_a_node_that_died_is_reported_with_what_to_do(folder: Path | None, script: Path) -> None:
    servers = Servers(2, workers=2, wal_dir=folder)
    failure = Failure(launch_servers.HOST_LABEL, "exited with code 1", NODE, 1)
    text = _failure_text(failure, Launch(1, str(script), servers=servers))
    assert text.startswith("\nparamesh: Ray's raylet was killed by SIGKILL (signal 9); if nobody")
    if folder is None:
        assert "A run with a --wal-dir is started again with the same one" in text
        assert "Without one the logs of the servers were in a temporary folder" in text
    else:
        assert "Start the run again with the same --wal-dir (/data/run): it goes on from" in text
    assert len(text.strip().splitlines()) == 1


def test_a_node_that_could_not_start_is_reported_with_its_output(script: Path) -> None:
    failure = Failure(launch_servers.HOST_LABEL, "exited with code 1", NODE[:70] + "\nno port\n", 1)
    text = _failure_text(failure, Launch(1, str(script), servers=Servers(1, workers=1)))
    assert "paramesh: Ray, which runs the servers, exited with code 1. The servers and" in text
    assert text.endswith("Its last output:\n\nno port\n")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("  gcs_server [exit code=1]\n", "Ray's gcs_server exited with code 1"),
        ("  raylet [exit code=-11]\n", "Ray's raylet was killed by SIGSEGV (signal 11)"),
        ("all is well", None),
    ],
)
def test_how_other_versions_of_ray_say_it(said: str, expected: str | None) -> None:
    assert what_ended(said) == expected


def test_the_run_is_entered_with_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_entries, "folders", lambda: [tmp_path / "runs"])
    with served(Servers(2, workers=3, wal_dir=tmp_path / "wal")) as deployment:
        variables = deployment.variables
        (run,) = registry.runs()
        assert run.address == variables[environment.ADDRESS]
        assert run.token == variables["RAY_AUTH_TOKEN"]
        assert (run.servers, run.workers, run.wal_dir) == (2, 3, str(tmp_path / "wal"))
    assert registry.runs() == []


@pytest.mark.parametrize("address", [None, "127.0.0.1:1"])
def test_a_second_launch_starts_nothing(
    address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one has no worker yet, so no worker's lock says that the run is going on."""
    monkeypatch.setattr(run_lock, "_PARTING", 0.1)
    for name in ("check_address", "join"):
        monkeypatch.setattr(launch_servers, name, lambda *_: None)
    monkeypatch.setattr(launch_servers, "Crew", IdleCrew)
    monkeypatch.setattr(live_entries, "folders", lambda: [tmp_path / "runs"])
    wal = tmp_path / "wal {1}"
    asked = Servers(2, workers=3, wal_dir=wal, address=address)
    started: list[Any] = []
    said = (
        rf"the run in '{re.escape(str(wal))}' is going on: process {os.getpid()} on host .* has "
        "launched it. .* has started nothing"
    )
    with served(asked), monkeypatch.context() as patched:
        patched.setattr(launch_servers, "Janitor", started.append)
        patched.setattr(launch_servers, "Crew", lambda *given: started.append(given))
        patched.setattr(launch_servers, "_entry", started.append)
        with pytest.raises(ParameterServerError, match=said), served(asked):
            pass
    assert started == []
    with served(asked):  # the place is free again
        pass


def test_a_launch_beside_workers_that_another_program_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "_PARTING", 0.1)
    theirs = RunFolder(str(tmp_path / "wal"), Identity(2), 0)
    theirs.enter("theirs")
    asked = Servers(2, workers=3, wal_dir=tmp_path / "wal")
    try:
        with (
            pytest.raises(ParameterServerError, match=rf"process {os.getpid()} on host .* has it"),
            served(asked),
        ):
            pass
    finally:
        theirs.leave()
    with served(asked):
        mine = RunFolder(str(tmp_path / "wal"), Identity(2), 0)
        mine.enter("mine")  # its own workers are not refused
        mine.leave()
