"""`mint.distributed` in processes of one device each.

Started by `paramesh launch`, this file is one of the processes; each checks what it has.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def collectives(dist: Any, rank: int, size: int) -> None:
    """To which all processes come."""
    import numpy as np

    from paramesh import Tensor, int32, int64

    def rows(*shape: int, dtype: Any = np.float32) -> Any:
        return (np.arange(np.prod(shape)).reshape(shape) + 10 * rank).astype(dtype)

    every = [np.arange(4.0) + 10 * r for r in range(size)]
    for op, wanted in {
        "sum": np.sum(every, 0),
        "avg": np.mean(every, 0),
        "max": every[-1],
        "min": every[0],
        "prod": np.prod(every, 0),
    }.items():
        x = Tensor(rows(4))
        assert dist.all_reduce(x, op) is None
        np.testing.assert_allclose(x.asnumpy(), wanted, rtol=1e-6, err_msg=op)
    wide = Tensor(np.array([2**40 + rank]), int64)
    handle = dist.all_reduce(wide, async_op=True)
    handle.wait()
    assert wide.asnumpy()[0] == size * 2**40 + sum(range(size))
    x = Tensor(rows(4))
    dist.reduce(x, dst=1)
    np.testing.assert_array_equal(x.asnumpy(), np.sum(every, 0) if rank == 1 else rows(4))
    x = Tensor(np.array([rank == 1, False]))
    dist.broadcast(x, src=1)
    assert x.asnumpy().tolist() == [True, False]
    parts = [Tensor(np.zeros(4, np.float32)) for _ in range(size)]
    dist.all_gather(parts, Tensor(rows(4)))
    np.testing.assert_array_equal([p.asnumpy() for p in parts], every)
    joined = Tensor(np.zeros(4 * size, np.float32))
    dist.all_gather_into_tensor(joined, Tensor(rows(4)))
    np.testing.assert_array_equal(joined.asnumpy(), np.concatenate(every))
    uneven = Tensor(np.zeros(sum(range(1, size + 1)), np.float32))
    dist.all_gather_into_tensor_uneven(uneven, Tensor(rows(rank + 1)), list(range(1, size + 1)))
    wanted = np.concatenate([np.arange(r + 1.0) + 10 * r for r in range(size)])
    np.testing.assert_array_equal(uneven.asnumpy(), wanted)
    total = np.sum([np.arange(2.0 * size) + 10 * r for r in range(size)], 0)
    mine = Tensor(np.zeros(2, np.float32))
    for op, factor in (("sum", 1), ("avg", size)):
        dist.reduce_scatter_tensor(mine, Tensor(rows(2 * size)), op)
        np.testing.assert_allclose(mine.asnumpy() * factor, total[2 * rank :][:2], rtol=1e-6)
    dist.reduce_scatter(mine, [Tensor(rows(2)) for _ in range(size)], "max")
    np.testing.assert_array_equal(mine.asnumpy(), np.arange(2.0) + 10 * (size - 1))
    own = Tensor(np.zeros(rank + 1, np.float32))
    sizes = list(range(1, size + 1))
    dist.reduce_scatter_tensor_uneven(own, Tensor(rows(sum(sizes))), sizes)
    at = sum(sizes[:rank])
    whole = np.sum([np.arange(float(sum(sizes))) + 10 * r for r in range(size)], 0)
    np.testing.assert_array_equal(own.asnumpy(), whole[at : at + rank + 1])
    # Each sends (rank + 1) elements that say from whom to whom.
    sent = [Tensor(np.full(rank + 1, 10 * rank + to), int32) for to in range(size)]
    got = [Tensor(np.zeros(r + 1), int32) for r in range(size)]
    dist.all_to_all(got, sent)
    assert [set(t.asnumpy().tolist()) for t in got] == [{10 * r + rank} for r in range(size)]
    out = Tensor(np.zeros((size, 2), np.float32))
    dist.all_to_all_single(out, Tensor(rows(size, 2)))
    wanted = [[2 * rank + 10 * r, 2 * rank + 1 + 10 * r] for r in range(size)]
    np.testing.assert_array_equal(out.asnumpy(), wanted)
    out = Tensor(np.zeros(sum(sizes), np.float32))
    dist.all_to_all_single(out, Tensor(np.full(size * (rank + 1), rank, np.float32)), sizes,
                           [rank + 1] * size)  # fmt: skip
    np.testing.assert_array_equal(out.asnumpy(), np.repeat(np.arange(size), sizes))
    kept = [Tensor(np.zeros(4, np.float32)) for _ in range(size)] if rank == 0 else None
    dist.gather(Tensor(rows(4)), kept, dst=0)
    assert kept is None or [k.asnumpy()[0] for k in kept] == [10 * r for r in range(size)]
    x = Tensor(np.zeros(2, np.float32))
    dist.scatter(x, [Tensor(np.full(2, r, np.float32)) for r in range(size)] if rank == 1 else None,
                 src=1)  # fmt: skip
    assert x.asnumpy().tolist() == [rank, rank]
    with pytest.raises(TypeError, match=r"output_tensor must have shape \(.*\) and type float32"):
        dist.all_gather_into_tensor(Tensor(np.zeros(3, np.float32)), Tensor(rows(4)))
    dist.barrier()


def messages(dist: Any, rank: int, size: int) -> None:
    """Which two processes exchange, or some of them."""
    import numpy as np

    import paramesh
    from paramesh import Tensor

    after, before = (rank + 1) % size, (rank - 1) % size
    large = np.full(700_000, rank, np.float32)  # several chunks
    wait = dist.isend(Tensor(large), after)
    x = Tensor(np.zeros(700_000, np.float32))
    assert dist.recv(x, before) == 0
    wait.wait()
    assert set(x.asnumpy()) == {before}
    half = Tensor(np.full(3, rank + 0.5), paramesh.bfloat16)
    got = Tensor(np.zeros(3), paramesh.bfloat16)
    for one in dist.batch_isend_irecv(
        [dist.P2POp("isend", half, after), dist.P2POp(dist.irecv, got, before)]
    ):
        one.wait()
    assert float(got.astype(paramesh.float32).asnumpy()[0]) == before + 0.5
    objects: list[Any] = [None] * size
    dist.all_gather_object(objects, {"rank": rank})
    assert objects == [{"rank": r} for r in range(size)]
    if rank == 0:
        dist.send_object_list(["a", 1], dst=1)
    elif rank == 1:
        found = [None, None]
        dist.recv_object_list(found, src=0)
        assert found == ["a", 1]
    found = [rank, "x"] if rank == 1 else [None, None]
    dist.broadcast_object_list(found, src=1)
    assert found == [1, "x"]
    found = [None] * size if rank == 0 else None
    dist.gather_object(rank, found, dst=0)
    assert found is None or found == list(range(size))
    found = [None]
    dist.scatter_object_list(found, [f"for {r}" for r in range(size)] if rank == 0 else None)
    assert found == [f"for {rank}"]


def in_groups(dist: Any, rank: int, size: int) -> None:
    """Where the members of a group alone come to an operation."""
    import numpy as np

    from paramesh import Tensor

    even, odd = list(range(0, size, 2)), list(range(1, size, 2))
    names = [dist.new_group(even), dist.new_group(odd)]
    mine, other = names if rank % 2 == 0 else names[::-1]
    ranks = even if rank % 2 == 0 else odd
    assert other == ""
    assert dist.get_process_group_ranks(mine) == ranks
    assert dist.get_world_size(mine) == len(ranks)
    assert dist.get_rank(mine) == ranks.index(rank)
    assert dist.get_global_rank(mine, 0) == ranks[0]
    assert dist.get_group_rank(mine, rank) == ranks.index(rank)
    for _ in range(2 + rank % 2):  # the two groups do not come as often
        x = Tensor(np.array([float(rank)], np.float32))
        dist.all_reduce(x, group=mine)
        assert x.asnumpy()[0] == sum(ranks)
    first = ranks[0]
    x = Tensor(np.array([float(rank)], np.float32))
    dist.broadcast(x, first, mine)
    assert x.asnumpy()[0] == first
    with pytest.raises(ValueError, match=f"src={1 - first} is not in the group"):
        dist.broadcast(x, 1 - first, mine)


def main(task: str, folder: str) -> None:
    import jax

    from paramesh.mint import distributed as dist

    dist.init_process_group(world_size=jax.process_count() if jax.process_count() > 1 else -1)
    rank, size = dist.get_rank(), dist.get_world_size()
    assert dist.is_initialized()
    tasks = {"collectives": collectives, "messages": messages, "groups": in_groups}
    for name, run in tasks.items():
        if task in ("all", name):
            run(dist, rank, size)
    Path(folder, f"done-{rank}").touch()
    dist.destroy_process_group()
    assert not dist.is_initialized()


def launch(folder: Path, task: str, processes: int) -> None:
    words = ["-n", processes, "--devices-per-process", 1, __file__, task, folder]
    program = [sys.executable, "-c", "from paramesh.cli import main; main()", "launch"]
    done = subprocess.run([*program, *map(str, words)], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    assert len(list(folder.glob("done-*"))) == processes


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_exchange_what_torch_says(tmp_path: Path, processes: int) -> None:
    launch(tmp_path, "all", processes)


if __name__ == "__main__":
    main(*sys.argv[1:])
