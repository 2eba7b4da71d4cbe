"""Ranks and groups, by MindSpore's calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, communication, context
from paramesh.errors import ContextError
from paramesh.parallel.communication import management


@pytest.fixture
def joined() -> Iterator[None]:
    communication.init()
    yield
    if communication.GlobalComm.INITED:
        communication.release()


def test_the_paths_of_mindspore() -> None:
    assert management.get_rank is communication.get_rank
    assert communication.GlobalComm.WORLD_COMM_GROUP == "hccl_world_group"


@pytest.mark.parametrize(
    ("call", "args"),
    [
        ("get_rank", ()),
        ("get_group_size", ()),
        ("get_local_rank", ()),
        ("get_local_rank_size", ()),
        ("create_group", ("pair", [0, 1])),
        ("destroy_group", ("pair",)),
        ("get_world_rank_from_group_rank", ("pair", 0)),
        ("get_group_rank_from_world_rank", (0, "pair")),
        ("release", ()),
    ],
)
def test_init_comes_first(call: str, args: Any) -> None:
    with pytest.raises(ContextError, match=f"{call}: call paramesh.communication.init.. first"):
        getattr(communication, call)(*args)


def test_init_and_release() -> None:
    communication.init("nccl")
    communication.init()
    assert communication.GlobalComm.INITED
    assert communication.GlobalComm.BACKEND == "gloo"
    communication.create_group("pair", [0, 1])
    communication.release()
    assert not communication.GlobalComm.INITED
    communication.init()
    with pytest.raises(ValueError, match="no group 'pair'; there are 'hccl_world_group'"):
        communication.get_rank("pair")
    communication.release()


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [("mpi", ValueError, "'mpi' is not one of 'hccl'"), (3, TypeError, "a str or None, got 3")],
)
def test_other_backends(name: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        communication.init(name)
    assert not communication.GlobalComm.INITED


@pytest.mark.usefixtures("joined")
class TestRanks:
    def test_the_world(self) -> None:
        assert communication.get_rank() == communication.get_local_rank() == 0
        assert communication.get_group_size() == communication.get_local_rank_size() == 8
        assert communication.get_group_size(communication.NCCL_WORLD_COMM_GROUP) == 8
        context.set_auto_parallel_context(device_num=4)
        assert communication.get_group_size() == 4

    def test_a_group(self) -> None:
        communication.create_group("odd", [3, 0, 5])
        assert communication.get_rank("odd") == communication.get_local_rank("odd") == 1
        assert communication.get_group_size("odd") == 3
        assert communication.get_world_rank_from_group_rank("odd", 2) == 5
        assert communication.get_group_rank_from_world_rank(3, "odd") == 0
        communication.destroy_group("odd")
        communication.create_group("odd", [0])

    def test_several_groups_of_one_name(self) -> None:
        communication.create_group("rows", [[4, 5, 6, 7], [0, 1, 2, 3]])
        assert communication.get_group_size("rows") == 4
        assert communication.get_rank("rows") == 0
        assert communication.get_group_rank_from_world_rank(6, "rows") == 2

    def test_in_a_program_every_device_has_its_rank(self) -> None:
        context.set_auto_parallel_context(parallel_mode="hybrid_parallel", device_num=4)
        communication.create_group("pairs", [[2, 1], [0, 3]])

        @paramesh.jit
        def ranks(x: Any) -> Any:
            where = communication.get_rank() * 10 + communication.get_rank("pairs")
            return x * 0 + where * communication.get_group_size("pairs")

        got = ranks(Tensor(np.zeros(4, np.int32))).asnumpy()
        np.testing.assert_array_equal(got, [0, 22, 40, 62])

    @pytest.mark.parametrize(
        ("ranks", "error", "says"),
        [
            ([0, 8], ValueError, r"\[0, 8\]\): there are 8 devices, so ranks are 0..7"),
            ([1, 1], ValueError, "a rank is there twice"),
            ([[0, 1], [1, 2]], ValueError, "a rank is there twice"),
            ([[0], []], ValueError, "a group is empty"),
            ([], TypeError, "needs the ranks of the group"),
            ([0, "1"], TypeError, "ranks are ints"),
            (3, TypeError, "needs the ranks of the group"),
        ],
    )
    def test_bad_groups(self, ranks: Any, error: Any, says: str) -> None:
        with pytest.raises(error, match=says):
            communication.create_group("bad", ranks)
        communication.create_group("bad", [0])

    def test_names(self) -> None:
        communication.create_group("pair", [1, 2])
        with pytest.raises(ValueError, match="a group 'pair' already; destroy_group it first"):
            communication.create_group("pair", [0, 1])
        with pytest.raises(ValueError, match="'hccl_world_group' is the group of all devices"):
            communication.destroy_group("hccl_world_group")
        with pytest.raises(TypeError, match="name must be a str, got 3"):
            communication.create_group(3, [0, 1])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"Rank 0 is in no group 'pair', which is \[\[1, 2"):
            communication.get_rank("pair")
        with pytest.raises(ValueError, match="Rank 0 is in no group 'pair'"):
            communication.get_group_rank_from_world_rank(0, "pair")
        communication.create_group("here", [0, 2])
        with pytest.raises(ValueError, match=r"group_rank_id=2 is outside 0..1: 'here' has 2"):
            communication.get_world_rank_from_group_rank("here", 2)


def test_a_worker_of_servers_has_its_own_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAMESH_PS_WORKERS", "4")
    monkeypatch.setenv("PARAMESH_PS_RANK", "2")
    communication.init()
    try:
        assert communication.get_rank() == 2
        assert communication.get_group_size() == 4
    finally:
        communication.release()
