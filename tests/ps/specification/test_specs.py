"""What a script says of its Parameters, beside what the run that it continues has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.specification.partition import Partition
from paramesh.ps.specification.specs import check_renamed, check_same
from server_loops import LoopClient, LoopServer
from server_runs import MOMENTUM, table_spec

HEAD: dict[str, Any] = {
    "name": "out.weight",
    "kind": "dense",
    "shape": [2, 3],
    "dtype": "float32",
    "recipe": None,
    "optimizer": MOMENTUM,
}
RUN = [HEAD, table_spec()]


def there(partition: Partition) -> list[list[dict[str, Any]]]:
    split = [partition.split_spec(spec) for spec in RUN]
    return [[piece for mine in split for piece in mine[i]] for i in range(partition.servers)]


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("old", RUN, ids=["dense", "table"])
def test_a_parameter_of_another_name(old: dict[str, Any], servers: int) -> None:
    known, new = there(Partition(servers)), old | {"name": "new"}
    with pytest.raises(ParameterServerError, match=f"'new' is not in the run .*'{old['name']}' of"):
        check_renamed([new], known, {"new"})
    # It is trained too, or will not be taken for another one.
    check_renamed([new, old], known, {"new", old["name"]})
    check_renamed([new], known, {"new", old["name"]})
    check_renamed(RUN, known, {spec["name"] for spec in RUN})
    for other in ({"dtype": "float16"}, {"shape": [3, 2], "row_shape": [3]}):
        check_renamed([new | other], known, {"new"})


def test_a_worker_compares_up_to_its_first_step(tmp_path: Path) -> None:
    server = LoopServer(tmp_path / "server-0")
    zeros = np.zeros((2, 3), np.float32)
    push = {"out.weight": {"grad": zeros}}, {"learning_rate": 0.1, "momentum": 0.9}, []
    renamed = HEAD | {"name": "head"}
    try:
        client = LoopClient([server], "ray")
        client.declare([HEAD], {"out.weight": zeros})
        client.step(0, *push)
        again = LoopClient([server], "ray")
        again.worker.compares = True
        assert again.start == 1
        with pytest.raises(ParameterServerError, match="'head' is not in the run"):
            again.declare([renamed], {"head": zeros})
        # A second network, which is trained later.
        third = LoopClient([server], "ray")
        third.worker.compares = True
        third.declare([HEAD], {"out.weight": zeros})
        third.step(1, *push)
        third.declare([renamed], {"head": zeros})
    finally:
        server.close()


def test_a_table_that_the_run_has_as_a_whole_and_the_other_way_round() -> None:
    partition, table = Partition(1), table_spec()
    whole = {
        **{key: table[key] for key in ("name", "dtype", "recipe", "optimizer")},
        "kind": "dense",
        "shape": [table["rows"], *table["row_shape"]],
    }
    for here, other, message in (
        (table, whole, r"is a table of shape \(50, 2\) .* here, but of shape .* as a whole \(with"),
        (
            whole,
            table,
            r"is of shape \(50, 2\) .* as a whole .* here, but a table of .* in the run",
        ),
    ):
        pieces = [list(mine) for mine in partition.split_spec(other)]
        with pytest.raises(ParameterServerError, match=message):
            check_same(partition, [here], pieces)
