"""Workers and servers that are killed, frozen and misunderstood, and end with the same bits."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import ray

from chaos_runs import Plan, Run, RunFailed, end_servers, job_on, random_plan, summary
from environments import without_virtual_devices
from paramesh import context
from paramesh.ps.deployment.cluster import Cluster
from paramesh.ps.durability.log import segments
from paramesh.ps.durability.snapshot import snapshots

pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore:subprocess .* is still running:ResourceWarning"
)

SYNC: dict[str, Any] = {"workers": 2, "mode": "sync", "snapshot_every": 4}
STALE: dict[str, Any] = {"workers": 2, "mode": "stale", "staleness": 2, "snapshot_every": 4}
ASYNC: dict[str, Any] = {"workers": 2, "mode": "async"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a Ray cluster that all runs share."""
    here = str(Path(__file__).parents[1] / "support")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", here, prepend=os.pathsep)  # of the workers' processes
        # A server is started for every kill, and more than one device takes longer.
        patch.setenv("XLA_FLAGS", without_virtual_devices()["XLA_FLAGS"])
        base = Cluster(1, {"workers": 1}, job="chaos")
        yield ray.get_runtime_context().gcs_address
        base.close()


@pytest.mark.parametrize("transport", ["ray", pytest.param("zmq", marks=pytest.mark.slow)])
@pytest.mark.parametrize("config", [SYNC, pytest.param(STALE, marks=pytest.mark.slow)])
def test_a_run_with_kills_ends_with_the_bits_of_one_without(
    config: dict[str, Any], transport: str, address: str, tmp_path: Path
) -> None:
    if transport == "zmq":
        pytest.importorskip("zmq")
    job = job_on(address, tmp_path, config, steps=12, mischief=0.02, transport=transport)
    job = dataclasses.replace(
        job,
        # A worker whose push has reached one server alone; a server with half a record.
        deaths={(1, 0): ("between", 2)},
        kills={0: [("half", 4, 1)], 1: [("recovering", 0, 2)]},
    )
    run = Run(job, Plan(((6, 0.0, "both", 1, 0),))).run()
    assert run.kills >= 5, run.landed
    run.check()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"keep_log": False}, "its log was lost or replaced"),
        ({"keep_history": False}, r"step 2 reads version 2; this server has versions 3 to 3"),
    ],
)
def test_control_without_log_or_previous_version_the_run_fails(
    config: dict[str, Any], reason: str, address: str, tmp_path: Path
) -> None:
    job = job_on(address, tmp_path, {"workers": 2} | config, steps=8)
    job = dataclasses.replace(job, deaths={(1, 0): ("between", 2)}, kills={1: [("logged", 5, 1)]})
    run = Run(job)
    with pytest.raises(RunFailed, match=reason):
        run.run()
    end_servers(job)


def tell(
    capsys: pytest.CaptureFixture[str], what: str, runs: list[Run], kills: dict[str, int]
) -> None:
    """Print what landed."""
    with capsys.disabled():
        print(f"\n{len(runs)} runs {what}, all as they must be; kills by mode: {kills}")
        print(summary(runs), flush=True)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute, beside everything else on this machine."""
    loop = "while True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["ray", "zmq"])
@pytest.mark.parametrize(("wanted", "others"), [(200, 0), (300, 16)])
def test_many_kills(
    wanted: int,
    others: int,
    transport: str,
    address: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs: list[Run] = []
    modes = [(SYNC, 0.0), (STALE, 0.03), (ASYNC, 0.02), (SYNC, 0.03), (STALE, 0.0)]
    kills: dict[str, int] = dict.fromkeys(("sync", "stale", "async"), 0)

    def one(seed: int) -> Run:
        config, mischief = modes[seed % len(modes)]
        config = config | {"workers": 2 + seed % 2}
        job = job_on(
            address, tmp_path / f"run-{seed}", config, steps=40, seed=seed, mischief=mischief
        )
        # Beside others, servers have the time that users give them by default.
        timeout = context.get_ps_context("timeout") if others else job.timeout
        job = dataclasses.replace(job, transport=transport, timeout=timeout)
        job, plan = random_plan(job, events=16, points=9, deaths=6)
        run = Run(job, plan, limit=900 * (1 + others // 4)).run()
        run.check()
        return run

    # Beside others, runs share the machine with each other too: it takes less time for the same.
    at_once = 4 if others else 1
    seeds = iter(range(60))
    with busy(others), ThreadPoolExecutor(at_once) as pool:
        going = {pool.submit(one, next(seeds)) for _ in range(at_once)}
        while going:
            ended, going = wait(going, return_when=FIRST_COMPLETED)
            for run in (future.result() for future in ended):
                mode = str(run.job.config["mode"])
                kills[mode] += run.kills
                runs.append(run)
                with capsys.disabled():
                    print(f"{mode}: {run.kills} kills in {run.seconds:.0f} s", flush=True)
                if sum(kills.values()) < wanted or min(kills.values()) < 30:
                    going.add(pool.submit(one, next(seeds)))
    tell(capsys, f"of clients beside {others} busy processes", runs, kills)


@pytest.mark.slow
@pytest.mark.parametrize(("config", "mischief"), [(SYNC, 0.02), (STALE, 0.0), (ASYNC, 0.02)])
def test_kills_of_servers_and_their_standbys(
    config: dict[str, Any],
    mischief: float,
    address: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = job_on(address, tmp_path, config, steps=30, seed=1, mischief=mischief, standby=True)
    job, plan = random_plan(job, events=14, points=5, deaths=2)
    run = Run(job, plan, limit=600).run()
    run.check()
    tell(capsys, "with standbys", [run], {config["mode"]: run.kills})
    assert run.kills >= 12, run.landed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "mischief", "standby"), [(SYNC, 0.02, False), (STALE, 0.0, False), (SYNC, 0.0, True)]
)
def test_kills_of_workers_that_train_a_network(
    config: dict[str, Any],
    mischief: float,
    standby: bool,
    address: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calm = job_on(address, tmp_path / "calm", config, steps=24, seed=5, network=True)
    calm = dataclasses.replace(calm, name=f"{tmp_path.name}-calm")
    undisturbed = Run(calm, limit=300).run()
    job = dataclasses.replace(
        calm,
        name=f"{tmp_path.name}-killed",
        folder=tmp_path / "killed",
        mischief=mischief,
        standby=standby,
    )
    job, plan = random_plan(job, events=8, points=4, deaths=3)
    run = Run(job, plan, limit=600).run()
    run.check_as(undisturbed)
    tell(capsys, "that train a network", [run], {config["mode"]: run.kills})
    assert run.kills >= 10, run.landed


# What cannot be recovered is one error.


@pytest.mark.slow
def test_full_disk_is_one_error_and_the_run_goes_on_later(address: str, tmp_path: Path) -> None:
    job = job_on(address, tmp_path / "run", SYNC | {"snapshot_every": 0}, steps=14)
    run = Run(job, Plan(((5, 0.0, "full disk", 1, 0),)))
    with pytest.raises(RunFailed, match="cannot be written"):
        run.run()
    for said in run.ends():  # the one whose push it was, and the one that waits for it
        assert "cannot be written" in said
        assert "was not applied and not acknowledged" in said
    end_servers(job)
    Run(dataclasses.replace(job, name="later")).run().check()


@pytest.mark.slow
def test_damaged_log_is_an_error_of_all_workers(address: str, tmp_path: Path) -> None:
    job = job_on(address, tmp_path / "run", {"workers": 2}, steps=6)
    Run(job).run().check()
    (_, _, path) = segments(tmp_path / "run" / "servers" / "server-0")[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    run = Run(dataclasses.replace(job, name="later", steps=8))
    with pytest.raises(RunFailed, match=r"server 0 cannot start, .* is damaged at byte"):
        run.run()
    assert all("is damaged at byte" in said for said in run.ends())
    end_servers(run.job)


@pytest.mark.slow
def test_torn_log_and_damaged_snapshot_recover(address: str, tmp_path: Path) -> None:
    job = job_on(address, tmp_path / "run", STALE, steps=10)
    Run(job).run().check()
    torn, damaged = (tmp_path / "run" / "servers" / f"server-{i}" for i in range(2))
    # The records of the last steps are lost, as by a power cut; all workers start again too.
    (_, _, path) = [s for s in segments(torn) if s[2].stat().st_size > 10_000][-1]
    size = path.stat().st_size
    os.truncate(path, max(size - 300_000, size // 2))
    newest = snapshots(damaged)[0].path
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    for notes in (tmp_path / "run").glob("seen-*"):
        notes.unlink()  # those workers are gone: nobody sees that the versions have fallen
    Run(dataclasses.replace(job, name="later", steps=16)).run().check()


@pytest.mark.slow
def test_server_that_never_comes_is_an_error(address: str, tmp_path: Path) -> None:
    job = job_on(address, tmp_path / "run", SYNC, timeout=10.0)
    folder = tmp_path / "run" / "servers" / "server-1"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "incarnation")  # whoever reads it waits for ever
    run = Run(job)
    with pytest.raises(RunFailed, match=r"server \[1\] did not answer \['hello'\] within 10 s"):
        run.run()
    assert all("did not answer" in said for said in run.ends())
    end_servers(job)


@pytest.mark.slow
def test_worker_that_never_comes_is_an_error(address: str, tmp_path: Path) -> None:
    job = job_on(address, tmp_path / "run", SYNC, timeout=10.0)
    run = Run(job, absent=frozenset({1}))
    with pytest.raises(RunFailed, match=r"another of the 2 workers has stopped"):
        run.run()
    end_servers(job)
