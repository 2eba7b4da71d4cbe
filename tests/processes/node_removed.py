"""A cluster of three nodes loses the one with a server in the middle of a run.

`python node_removed.py FOLDER`; run by `test_takeover`.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = "0" * 64
os.environ.pop("XLA_FLAGS", None)  # a server needs no eight devices

from typing import Any

import ray
from ray.cluster_utils import Cluster as Nodes

from paramesh.ps.deployment.cluster import Cluster
from paramesh.ps.deployment.connection import RayClient
from server_runs import table_spec
from server_steps import SPECS, START, local_run, train

STEPS = 12


def main(folder: str) -> None:
    where: dict[str, Any] = {"node_ip_address": "127.0.0.2", "num_cpus": 1}
    nodes = Nodes(initialize_head=True, head_node_args={**where, "include_dashboard": False})
    others = [nodes.add_node(**where) for _ in range(2)]
    nodes.wait_for_nodes()
    time.sleep(3)
    cluster = None
    try:
        cluster = Cluster(2, {"workers": 1}, address=nodes.address, folder=folder, standby=True)
        client = RayClient(cluster, timeout=90)
        client.declare([*SPECS, table_spec()], START)
        train(client, 0, 5)
        homes = [homes_of(pair) for pair in cluster.pairs()]
        victims = {node.node_id: node for node in others}
        assert all(serving != standing_by for serving, standing_by in homes), homes
        served = next(server for server in (0, 1) if homes[server][0] in victims)
        victim = victims[homes[served][0]]
        print(f"server {served} of {homes} is on the node to be removed")
        began = time.monotonic()
        nodes.remove_node(victim, allow_graceful=False)
        print(f"the node of server {served} was removed in {time.monotonic() - began:.2f} s")
        began = time.monotonic()
        train(client, 5, 6)
        print(f"next step after {time.monotonic() - began:.2f} s")
        found = train(client, 6, STEPS)
        stats = client.stats()
        assert stats[served]["incarnation"] > 1, stats
        assert found == local_run(2, STEPS)
        print("the same bits")
        client.close()
    finally:
        if cluster is not None:
            cluster.close()
        nodes.shutdown()


def homes_of(pair: list[Any]) -> list[str]:
    """The nodes of the actor that serves, and of the one that stands by."""
    ray_state: Any = importlib.import_module("ray._private.state")
    states = [ray_state.actors(actor._actor_id.hex()) for actor in pair]
    roles = ray.get([actor.look.remote() for actor in pair], timeout=60)
    homes = {
        said["role"]: state["Address"]["NodeID"] for said, state in zip(roles, states, strict=True)
    }
    return [homes["server"], homes["standby"]]


if __name__ == "__main__":
    main(sys.argv[1])
