"""What a network costs under layouts that people give by hand, in the cost model of the search.

A peer is a program: the network's step with its Parameters, states, batch and activations pinned as
its authors say, and whatever they leave open decided by the search. So no program that somebody
writes with these pins costs less in the model.

The layouts:

    data parallel               everything of the batch is cut over all devices
    ZeRO-1, ZeRO-2, ZeRO-3      and the states, and the gradients, and the Parameters are cut over
                                all devices (Rajbhandari et al. 2020, arXiv:1910.02054)
    Megatron                    columns, then rows, heads, vocabulary (Shoeybi et al. 2019,
                                arXiv:1909.08053); on two axes the first is data parallel
    …, sequence parallel        and between them the positions (Korthikanti et al. 2022,
                                arXiv:2205.05198)
    …, ZeRO-1                   and the states cut over the data parallel axis too
    experts                     each device has some experts, and some rows of the batch (Lepikhin
                                et al. 2020, arXiv:2006.16668)
    D-Rec                       what MindSpore's recursive search finds (`drec.py`)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paramesh.parallel.search.clusters import put_into_clusters
from paramesh.parallel.search.graph import graph_of, live
from paramesh.parallel.search.machine import Target, machine
from paramesh.parallel.search.plan import Given, Plan, Program, plan_of
from paramesh.parallel.search.problem import Problem, spec_on
from paramesh.parallel.search.solve import solve
from searched.networks import ByHand, Layout, Network, Weights

DEVICES = tuple(range(8))


@dataclass(frozen=True)
class Peer:
    """A layout of everything.

    Attributes:
        weights, states: (name, shape) -> layout.
        gradients: the same, or None to leave them open.
        pins: kind -> layout of an activation.
        batch: kind of cut of the rows.
    """

    weights: Callable[[str, Sequence[int]], Layout]
    states: Callable[[str, Sequence[int]], Layout]
    gradients: Callable[[str, Sequence[int]], Layout] | None
    pins: dict[str, Layout]
    batch: str


def step_of(network: Network, pin: Any = None, pin_gradient: Any = None) -> Any:
    """The training step with Adam: (weights, first, second, batch) -> (loss, and the first three).

    Args:
        network: its network.
        pin: (kind, activation) -> the activation.
        pin_gradient: (path, gradient) -> the gradient.
    """
    held = pin or (lambda kind, x: x)

    def step(weights: Weights, first: Weights, second: Weights, batch: Any) -> Any:
        value, grads = jax.value_and_grad(lambda w: network.loss(w, batch, held))(weights)
        if pin_gradient is not None:
            grads = jax.tree_util.tree_map_with_path(pin_gradient, grads)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, grads)
        weights = jax.tree.map(
            lambda w, m, v: w - 1e-3 * m / (jnp.sqrt(v) + 1e-8), weights, first, second
        )
        return value, weights, first, second

    return step


def program_of(network: Network, hosts: int = 1) -> Program:
    """The step with nothing pinned."""
    return _program(network, step_of(network), {}, hosts)


def _program(network: Network, step: Any, given: dict[int, Given], hosts: int) -> Program:
    states = (network.weights,) * 3
    closed = live(jax.make_jaxpr(step)(*states, network.batch))
    paths = jax.tree_util.tree_flatten_with_path(states)[0]
    names = [jax.tree_util.keystr(path) for path, _ in paths]
    names += [""] * len(jax.tree.leaves(network.batch))
    tied = {n + 1: n for n in range(len(paths))}
    return Program(closed, tuple(names), tied, given, DEVICES, hosts)


def last_of(path: Any) -> str:
    """The last name of a path: "up" of weights["blocks"][1]["up"]."""
    keys = [str(entry.key) for entry in path if hasattr(entry, "key")]
    return keys[-1] if keys else ""


# The layouts.


def whole(name: str, shape: Sequence[int]) -> Layout:
    return (None,) * len(shape)


def cut(name: str, shape: Sequence[int], over: str = "all", parts: int = 8) -> Layout:
    """Over devices along the largest dimension that they divide."""
    for dim in sorted(range(len(shape)), key=lambda d: -shape[d]):
        if shape[dim] and shape[dim] % parts == 0:
            return tuple(over if d == dim else None for d in range(len(shape)))
    return whole(name, shape)


def peers_of(network: Network, sizes: tuple[int, ...]) -> dict[str, Peer]:
    """By name, the layouts for a network on a mesh of one axis, or of a "dp" and a "tp" axis."""
    found: dict[str, Peer] = {}
    rows: dict[str, Layout] = {
        kind: tuple("all" if d == dim else None for d in range(rank))
        for kind, (dim, rank) in network.kinds.items()
    }
    if len(sizes) == 1:
        found = {
            "data parallel": Peer(whole, whole, whole, rows, "all"),
            "ZeRO-1": Peer(whole, cut, None, rows, "all"),
            "ZeRO-2": Peer(whole, cut, cut, rows, "all"),
            "ZeRO-3": Peer(cut, cut, cut, rows, "all"),
        }
    for name, own in network.by_hand.items():
        if own.batch == "all" and len(sizes) > 1:
            continue
        lies = functools.partial(_by_hand, own)
        found[name] = Peer(lies, lies, None, dict(own.pins), own.batch)
        if own.batch == "dp" and len(sizes) > 1:
            states = functools.partial(_with_rows, own, sizes[0])
            found[f"{name}, ZeRO-1"] = Peer(lies, states, None, dict(own.pins), own.batch)
    return found


def _by_hand(own: ByHand, name: str, shape: Sequence[int]) -> Layout:
    return own.weights.get(name, whole(name, shape))


def _with_rows(own: ByHand, parts: int, name: str, shape: Sequence[int]) -> Layout:
    """As by hand, and over the data parallel axis along the largest dimension that is not cut."""
    lies = list(_by_hand(own, name, shape))
    left = [d for d in range(len(shape)) if lies[d] is None and shape[d] % parts == 0]
    if left:
        lies[max(left, key=lambda d: shape[d])] = "dp"
    return tuple(lies)


# A peer as a program.


class Places:
    """Layouts of a peer as JAX has them, on a mesh of devices."""

    def __init__(self, devices: Sequence[Any], sizes: tuple[int, ...]) -> None:
        names = tuple(f"a{axis}" for axis in range(len(sizes)))
        self.mesh = Mesh(np.array(devices).reshape(sizes), names)
        self._over = {"all": names, "dp": names[:-1], "tp": names[-1:]}

    def of(self, layout: Layout) -> NamedSharding:
        entries = [(self._over[own] or None) if own else None for own in layout]
        return NamedSharding(self.mesh, PartitionSpec(*entries))

    def tree(self, lies: Callable[[str, Sequence[int]], Layout], weights: Weights) -> Any:
        def place(path: Any, own: Any) -> NamedSharding:
            return self.of(lies(last_of(path), own.shape))

        return jax.tree_util.tree_map_with_path(place, weights)


def pinned(network: Network, peer: Peer, places: Places) -> tuple[Any, Any]:
    """The step with a peer's pins, and the places of its arguments."""

    def pin(kind: str, x: Any) -> Any:
        if kind not in peer.pins:
            return x
        return jax.lax.with_sharding_constraint(x, places.of(peer.pins[kind]))

    def pin_gradient(path: Any, grad: Any) -> Any:
        assert peer.gradients is not None
        place = places.of(peer.gradients(last_of(path), grad.shape))
        return jax.lax.with_sharding_constraint(grad, place)

    step = step_of(network, pin, pin_gradient if peer.gradients else None)
    dims = network.kinds.get("steps", (0, 0))[0]  # the rows of a batch that is over time

    def rows(own: Any) -> NamedSharding:
        return places.of(tuple(peer.batch if d == dims else None for d in range(len(own.shape))))

    weights, states = (places.tree(lies, network.weights) for lies in (peer.weights, peer.states))
    return step, (weights, states, states, jax.tree.map(rows, network.batch))


def modelled(
    network: Network, peer: Peer, sizes: tuple[int, ...], target: Target, hosts: int = 1
) -> Plan:
    """The best plan with a peer's pins."""
    places = Places(jax.devices()[: math.prod(sizes)], sizes)
    step, lies = pinned(network, peer, places)
    given = {n: Given(one, "the peer") for n, one in enumerate(jax.tree.leaves(lies))}
    program = _program(network, step, given, hosts)
    problem = problem_of(program, sizes, target)
    return plan_of(program, problem, solve(problem))


def problem_of(program: Program, sizes: tuple[int, ...], target: Target) -> Problem:
    """A program on a mesh, with what it is given."""
    graph = graph_of(program.closed, program.names)
    put_into_clusters(graph)
    fixed = {}
    for number, one in program.given.items():
        ndim = len(program.closed.jaxpr.invars[number].aval.shape)
        spec = spec_on(sizes, DEVICES, one.sharding, ndim)
        assert spec is not None, (program.names[number], one.sharding)
        fixed[number] = spec
    on = machine(sizes, target, program.hosts)
    return Problem(graph, on, fixed, program.tied, program.devices)


def compiled(
    network: Network,
    peer: Peer,
    sizes: tuple[int, ...],
    devices: Sequence[Any],
    donate: bool = True,
) -> Any:
    """The step with a peer's pins, as XLA compiles it; what is open XLA's propagation decides."""
    step, lies = pinned(network, peer, Places(devices, sizes))
    run = jax.jit(
        step,
        in_shardings=lies,
        out_shardings=(None, *lies[:3]),
        donate_argnums=(0, 1, 2) if donate else (),
    )
    return run.lower(*((network.weights,) * 3), network.batch).compile()
