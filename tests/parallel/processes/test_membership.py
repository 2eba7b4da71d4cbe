"""What the environment says of a process, and how processes meet."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from environments import without_virtual_devices
from paramesh.errors import ContextError
from paramesh.parallel.processes.membership import Membership, detect, join

SLURM = {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "7"}
OPEN_MPI_4 = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}
OPEN_MPI_5 = {"OMPI_COMM_WORLD_LOCAL_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "2"}

#: The environment without the eight devices of the tests.
alone = without_virtual_devices()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class TestDetect:
    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            ({}, None),
            ({"RANK_SIZE": "1", "RANK_ID": "0"}, None),
            ({"RANK_SIZE": "4", "RANK_ID": "2"}, ("127.0.0.1:8118", 4, 2, None)),
            (
                {"RANK_SIZE": "4", "RANK_ID": "2", "DEVICE_ID": "2", "MS_SCHED_HOST": "n1"},
                ("n1:8118", 4, 2, (2,)),
            ),
            (
                {"MS_WORKER_NUM": "2", "MS_NODE_ID": "1", "MS_SCHED_HOST": "10.0.0.1"}
                | {"MS_SCHED_PORT": "9000", "MS_ROLE": "MS_WORKER", "RANK_SIZE": "8"},
                ("10.0.0.1:9000", 2, 1, None),
            ),
            (SLURM | {"SLURM_NTASKS": "8", "SLURM_PROCID": "5"}, (None, 8, 5, None)),
            # The script of a batch job is not a step: it starts them.
            ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}, None),
            (
                OPEN_MPI_4 | {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"},
                (None, 4, 3, None),
            ),
            (
                OPEN_MPI_5 | {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"},
                ("127.0.0.1:61440", 4, 2, (2,)),
            ),
            (
                OPEN_MPI_5
                | {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "6"}
                | {"JAX_COORDINATOR_ADDRESS": "n1:7000"},
                ("n1:7000", 8, 6, (2,)),
            ),
            (
                {"PARAMESH_PROCESSES": "2", "PARAMESH_PROCESS": "1", "PARAMESH_DEVICES": "4-7"}
                | {"PARAMESH_COORDINATOR": "127.0.0.1:5000", "RANK_SIZE": "8"},
                ("127.0.0.1:5000", 2, 1, (4, 5, 6, 7)),
            ),
        ],
    )
    def test_who_says_it(self, variables: dict[str, str], expected: Any) -> None:
        found = detect(variables)
        if expected is None:
            assert found is None
            return
        assert found is not None
        assert (found.address, found.count, found.index, found.devices) == expected
        for name in ("RANK_ID", "MS_NODE_ID", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"):
            if name in variables:
                assert f"{name}={variables[name]}" in found.said_by

    def test_jax_finds_the_same(self) -> None:
        from jax._src.clusters import ClusterEnv

        variables = SLURM | {"SLURM_NTASKS": "8", "SLURM_PROCID": "5"}
        for more in (
            variables,
            OPEN_MPI_4
            | {
                "OMPI_COMM_WORLD_SIZE": "4",
                "OMPI_COMM_WORLD_RANK": "3",
                "OMPI_COMM_WORLD_LOCAL_RANK": "3",
            },
        ):
            found = detect(more)
            with pytest.MonkeyPatch.context() as patch:
                for name, value in more.items():
                    patch.setenv(name, value)
                seen = ClusterEnv.auto_detect_unset_distributed_params(*[None] * 6)
            assert isinstance(found, Membership)
            assert seen[1:3] == (found.count, found.index)

    @pytest.mark.parametrize(
        ("variables", "message"),
        [
            ({"RANK_SIZE": "4"}, "RANK_SIZE=4 is set, but RANK_ID is not"),
            ({"RANK_SIZE": "four", "RANK_ID": "0"}, "RANK_SIZE='four' must be an integer"),
            ({"RANK_SIZE": "4", "RANK_ID": "4"}, r"RANK_ID=4 is outside 0\.\.3: .*RANK_SIZE=4"),
            ({"MS_WORKER_NUM": "0"}, r"MS_WORKER_NUM=0 is outside 1\.\."),
            ({"MS_WORKER_NUM": "2"}, "MS_WORKER_NUM=2 is set, but MS_NODE_ID is not"),
            (
                {"MS_WORKER_NUM": "2", "MS_NODE_ID": "0", "MS_SCHED_PORT": "0"},
                r"MS_SCHED_PORT=0 is outside 1\.\.65535",
            ),
            ({"MS_WORKER_NUM": "2", "MS_ROLE": "MS_PSERVER"}, "MS_ROLE=MS_PSERVER: expected"),
            (
                OPEN_MPI_5 | {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "6"},
                r"several hosts.*mpirun -x JAX_COORDINATOR_ADDRESS",
            ),
        ],
    )
    def test_what_contradicts_itself(self, variables: dict[str, str], message: str) -> None:
        with pytest.raises(ContextError, match=message):
            detect(variables)

    def test_the_scheduler_ends(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            detect({"MS_WORKER_NUM": "2", "MS_ROLE": "MS_SCHED"})
        assert caught.value.code == 0
        assert "MS_ROLE=MS_SCHED: worker 0 does" in capsys.readouterr().err


class TestJoin:
    def test_alone(self) -> None:
        assert join() is False

    def test_devices_are_in_use_already(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import jax

        jax.devices()
        monkeypatch.setenv("RANK_SIZE", "2")
        monkeypatch.setenv("RANK_ID", "0")
        monkeypatch.setenv("MS_SCHED_PORT", str(free_port()))
        with pytest.raises(ContextError, match=r"0 of 2 \(RANK_SIZE=2.*used before.*communication"):
            join()

    def test_nobody_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        port = free_port()
        monkeypatch.setenv("RANK_SIZE", "2")
        monkeypatch.setenv("RANK_ID", "1")
        monkeypatch.setenv("MS_SCHED_PORT", str(port))
        with pytest.raises(ContextError, match=rf"1 of 2 did not reach.*:{port} within 0\.1 s"):
            join(timeout=0.1)

    def test_the_port_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RANK_SIZE", "2")
        monkeypatch.setenv("RANK_ID", "0")
        with socket.socket() as taken:
            taken.bind(("", 0))
            taken.listen()
            monkeypatch.setenv("MS_SCHED_PORT", str(taken.getsockname()[1]))
            with pytest.raises(ContextError, match=r"process 0 of 2.*cannot be opened.*MS_SCHED_"):
                join()

    def test_two_processes_with_mindspores_variables(self) -> None:
        program = (
            "import paramesh\n"
            "paramesh.set_context(device_target='CPU')  # looks at the devices, so it joins first\n"
            "import jax\n"
            "from paramesh.parallel.processes.membership import join, leave\n"
            "print(join(), jax.process_index(), jax.process_count(), len(jax.devices()))\n"
            "leave()\n"
        )
        port = str(free_port())
        running = [
            subprocess.Popen(
                [sys.executable, "-c", program],
                env=alone | {"MS_WORKER_NUM": "2", "MS_NODE_ID": rank, "MS_SCHED_PORT": port},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in "01"
        ]
        results = [process.communicate(timeout=120) for process in running]
        for rank, (out, errors) in enumerate(results):
            assert out.splitlines()[-1:] == [f"True {rank} 2 2"], errors

    @pytest.mark.slow
    def test_without_a_launcher_the_others_learn_of_a_failure(self) -> None:
        program = (
            "from paramesh.parallel.processes.membership import join\n"
            "import time\n"
            "join(heartbeat=2)\n"
            "import jax\n"
            "if jax.process_index() == 1:\n"
            "    raise ValueError('the weights are no good')\n"
            "time.sleep(100)\n"
        )
        port = str(free_port())
        first, second = (
            subprocess.Popen(
                [sys.executable, "-c", program],
                env=alone | {"RANK_SIZE": "2", "RANK_ID": rank, "MS_SCHED_PORT": port},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in "01"
        )
        _, said = second.communicate(timeout=60)
        assert second.returncode == 1
        assert said.endswith("ValueError: the weights are no good\n")
        _, said = first.communicate(timeout=60)
        assert first.returncode != 0
        assert "unhealthy (stopped sending heartbeats):\n1\n" in said

    def test_the_others_do_not_come(self) -> None:
        variables = {"RANK_SIZE": "2", "RANK_ID": "0", "MS_SCHED_PORT": str(free_port())}
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from paramesh.parallel.processes.membership import join; join(0.5)",
            ],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert "process 0 of 2 waited 0.5 s for the others" in done.stderr
        assert "RANK_SIZE=2, RANK_ID=0" in done.stderr
