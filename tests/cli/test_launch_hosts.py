"""Workers over the hosts of a cluster: who is where, with what, and where it goes afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paramesh.cli import launch_hosts
from paramesh.cli.errors import CommandError
from paramesh.cli.launch import Launch, _failure_text, workers
from paramesh.cli.launch_hosts import CREW_LABEL, HostsOfRun, Wanted, forwarded, hosts_variables
from paramesh.cli.launch_servers import Servers
from paramesh.cli.log_folder import LogFolder
from paramesh.cli.supervisor import Failure, NoPlace, ProcessSpec
from paramesh.errors import ParameterServerError
from paramesh.ps.deployment import environment
from paramesh.ps.deployment.spread import ClusterHost
from paramesh.ps.processes.child import End

LOST = End(-9, {}, "was lost with its host")


class FakeCrew:
    """Three hosts; this one is the second."""

    def __init__(self, gpus: int = 0, count: int = 3) -> None:
        self.hosts = [
            ClusterHost(f"10.0.0.{at + 1}", name, f"n{name}", gpus)
            for at, name in enumerate("abc"[:count])
        ]
        self.here = min(1, count - 1)
        self.address = "10.0.0.1:6379"
        self.on_loss: Any = None
        self.begun = False
        self.checked: Any = None
        self.started: list[Any] = []

    def begin(self) -> None:
        self.begun = True

    def check(self, *asked: Any) -> None:
        self.checked = asked

    def start(self, host: int, words: Any, variables: Any, line: Any, ended: Any) -> Any:
        self.started.append((host, list(words), dict(variables)))
        return None


class FakeEntry:
    def __init__(self) -> None:
        self.places: list[str] = []

    def move(self, places: list[str]) -> None:
        self.places = places


@pytest.fixture(autouse=True)
def _safe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_hosts, "check_address", lambda address: None)


def spread(hosts: HostsOfRun, count: int, entry: Any = None, logs: Any = None) -> list[ProcessSpec]:
    made = [
        ProcessSpec(f"worker {at}", ["python", "-m", "w", "train.py"], {"R": str(at)}, restarts=3)
        for at in range(count)
    ]
    return hosts.spread(made, entry, logs)


def run(spec: ProcessSpec) -> None:
    assert spec.start is not None
    spec.start(spec, Path("report"), lambda *_: None, lambda end: None)


def test_labels_hosts_and_what_is_started_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("MINE", "7")
    crew, entry = FakeCrew(), FakeEntry()
    hosts = HostsOfRun(crew, Wanted(1, 4, variables=["MINE", "B=x=y"]))  # type: ignore[arg-type]
    watch, *specs = spread(hosts, 4, entry)
    assert (watch.label, watch.server, crew.begun) == (CREW_LABEL, True, True)
    # Server 0 is at home on a: workers go to b and c first.
    assert [spec.label for spec in specs] == [
        "worker 0 on b", "worker 1 on c", "worker 2 on a", "worker 3 on b",
    ]  # fmt: skip
    assert entry.places == hosts.places == ["b", "c", "a", "b"]
    assert [spec.start is None for spec in specs] == [True, False, False, True]
    run(specs[1])
    ((host, words, variables),) = crew.started
    assert (host, words) == (2, ["-m", "w", "train.py"])
    assert variables["R"] == "1"
    assert (variables["JAX_PLATFORMS"], variables["MINE"], variables["B"]) == ("cpu", "7", "x=y")
    assert "PATH" not in variables
    assert hosts_variables(hosts, None) == {
        environment.HOSTS: "10.0.0.1,10.0.0.2,10.0.0.3",
        environment.ADDRESS: "10.0.0.1:6379",
    }


def test_a_killed_worker_stays_and_a_lost_one_moves() -> None:
    crew, entry = FakeCrew(), FakeEntry()
    hosts = HostsOfRun(crew, Wanted(1, 3))  # type: ignore[arg-type]
    shown: list[tuple[str, bytes]] = []
    _, _, worker, _ = spread(hosts, 3, entry)
    assert worker.again is not None
    assert worker.again(End(-9)).label == "worker 1 on c"
    with hosts.shown(lambda *line: shown.append(line), None):
        crew.on_loss(2)
    text = b"host c (10.0.0.3) is lost: what ran there is started again on the others"
    assert shown == [(CREW_LABEL, text)]
    moved = worker.again(LOST)
    assert (moved.label, moved.restarts) == ("worker 1 on b", 3)
    assert moved.start is None
    assert entry.places == ["b", "b", "a"]
    crew.on_loss(1)
    assert moved.again is not None
    last = moved.again(LOST)
    assert last.label == "worker 1 on a"
    run(last)
    assert crew.started[0][0] == 0
    crew.on_loss(0)
    assert last.again is not None
    with pytest.raises(NoPlace, match="no host that is left has room for it"):
        last.again(LOST)


def test_gpus_are_given_out_on_each_host() -> None:
    hosts = HostsOfRun(FakeCrew(gpus=4), Wanted(1, 6, devices=2))  # type: ignore[arg-type]
    _, *specs = spread(hosts, 6)
    seen = [(spec.label[-1], spec.variables["CUDA_VISIBLE_DEVICES"]) for spec in specs]
    assert sorted(seen) == [(host, gpus) for host in "abc" for gpus in ("0,1", "2,3")]
    with pytest.raises(ParameterServerError, match="7 workers do not fit: .* room for 6"):
        HostsOfRun(FakeCrew(gpus=4), Wanted(1, 7, devices=2))  # type: ignore[arg-type]


def test_hosts_that_are_chosen_and_one_alone(tmp_path: Path) -> None:
    crew = FakeCrew()
    two = HostsOfRun(crew, Wanted(2, 2, hosts=["c", "10.0.0.2"]))  # type: ignore[arg-type]
    assert (two.addresses, two.places, two.several) == ("10.0.0.2,10.0.0.3", ["b", "c"], True)
    two.check(tmp_path, "train.py")
    assert crew.checked == ([2], tmp_path, str(Path("train.py").absolute()))
    with pytest.raises(CommandError, match=r"several hosts \(b \(.*\), c .* give --hosts b"):
        two.check(None, "train.py")
    crew.checked = None
    alone = HostsOfRun(crew, Wanted(2, 2, hosts=["b"]))  # type: ignore[arg-type]
    alone.check(None, "train.py")
    assert (alone.several, crew.checked) == (False, None)
    assert hosts_variables(alone, None) == {environment.HOSTS: "10.0.0.2"}
    other = HostsOfRun(crew, Wanted(2, 2, hosts=["a"]))  # type: ignore[arg-type]
    assert other.several  # than the one that the launcher is on


def test_several_hosts_need_a_safe_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsafe(address: str) -> None:
        raise ParameterServerError(f"{address} is not on this host")

    monkeypatch.setattr(launch_hosts, "check_address", unsafe)
    HostsOfRun(FakeCrew(count=1), Wanted(1, 1))  # type: ignore[arg-type]
    with pytest.raises(ParameterServerError, match=r"10\.0\.0\.1:6379 is not on this host"):
        HostsOfRun(FakeCrew(), Wanted(1, 1))  # type: ignore[arg-type]


def test_variables_that_travel() -> None:
    environ = {"JAX_X": "1", "XLA_FLAGS": "2", "PYTHONPATH": "3", "PARAMESH_Y": "4", "PATH": "5"}
    environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "secret", "HOME": "6"}
    found = forwarded(["HOME"], environ)
    assert found == {
        name: environ[name] for name in environ if name[-5:] not in ("TOKEN", "PATH")
    } | {"PYTHONPATH": "3"}
    with pytest.raises(CommandError, match="--env NOT: there is no such variable"):
        forwarded(["NOT"], environ)


def test_lines_are_kept_by_worker_and_host(tmp_path: Path) -> None:
    hosts = HostsOfRun(FakeCrew(), Wanted(1, 2))  # type: ignore[arg-type]
    _, _, worker = spread(hosts, 2, None, LogFolder(tmp_path))
    assert worker.log is not None
    worker.log(b"step 1")
    (line,) = (tmp_path / "logs" / "worker-1.log").read_text().splitlines()
    assert line.endswith(" c step 1")


def test_the_end_of_the_cluster_is_one_sentence_with_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("")
    servers = Servers(2, 2, "10.0.0.1:6379", Path("/data/run"))
    launch = Launch(1, str(script), servers=servers)
    text = _failure_text(Failure(CREW_LABEL, "exited with code 1", "connection lost\n", 1), launch)
    assert text.startswith("\nparamesh: the Ray cluster at 10.0.0.1:6379 is gone: its head, or")
    assert "Start the run again with the same --wal-dir (/data/run)" in text
    assert text.endswith("Ray's last word: connection lost\n")
    assert len(workers(launch, {})) == 2
