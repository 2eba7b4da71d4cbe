"""PyNative mode in processes of one device each: the numbers of graph mode.

Started by `paramesh launch`, this file is one of the processes. Each compares what it computes
operator by operator with what it computes in programs.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

QUICK = ("one_step_cell",)


def layers() -> dict[str, Callable[[], Any] | None]:
    """A layer that is in the network, by name."""
    from paramesh import nn

    return {
        "none": None,
        "BatchNorm": lambda: nn.BatchNorm2d(4),
        "SyncBatchNorm": lambda: nn.SyncBatchNorm(4),
        "Dropout": lambda: nn.Dropout(p=0.3),
    }


#: Settings of the parallel context.
SETTINGS: dict[str, dict[str, Any]] = {
    "mean": {"gradients_mean": True},
    "sum": {},
    "hybrid": {"gradients_mean": True, "parallel_mode": "hybrid_parallel"},
    "divided": {"gradients_mean": True, "enable_parallel_optimizer": True},
    "broadcast": {"gradients_mean": True, "parameter_broadcast": True},
    "full_batch": {"gradients_mean": True, "full_batch": True},
    "accumulated": {"gradients_mean": True, "grad_accumulation_step": 2},
}


def part(array: Any) -> Any:
    """What this process holds of a batch."""
    import jax

    rows = len(array) // jax.process_count()
    return array[jax.process_index() * rows :][:rows]


def set_up(mode: int, settings: dict[str, Any]) -> None:
    from paramesh import context

    context.reset()
    context.set_context(mode=mode)
    context.set_auto_parallel_context(**{"parallel_mode": "data_parallel", **settings})


def compare(name: str, graph: Any, eager: Any) -> None:
    """Parameters alike, and the loss of graph mode the mean of those of the processes."""
    import numpy as np

    from paramesh._compat.jax import process_allgather

    losses = np.mean(process_allgather(np.array(eager[0], np.float32)), axis=0)
    np.testing.assert_allclose(losses, graph[0], rtol=1e-5, err_msg=name)
    assert eager[1].keys() == graph[1].keys(), name
    for param, value in graph[1].items():
        np.testing.assert_allclose(
            eager[1][param], value, rtol=1e-4, atol=1e-5, err_msg=f"{name}: {param}"
        )


def compare_forms(forms: dict[str, Any], cases: list[tuple[str, str]]) -> None:
    """Each form, with each (settings, layer)."""
    import training_forms
    from paramesh import context

    for settings, layer in cases:
        x, y = training_forms.X, training_forms.Y
        inputs = (x, y) if settings == "full_batch" else (part(x), part(y))
        # With sums of gradients, other forms than those that always take means.
        chosen = {n: f for n, f in forms.items() if settings != "sum" or n != "all_reduced"}
        # What is divided over processes cannot be read in one.
        of_graph = SETTINGS["mean" if settings == "divided" else settings]
        set_up(context.GRAPH_MODE, of_graph)
        once = training_forms.trained(
            training_forms.one_step_cell, inputs, layers()[layer], optimizer=made
        )
        for name, form in chosen.items():
            if settings == "accumulated" and name in ("functional", "all_reduced", "own_cell"):
                continue  # they compute the whole batch
            graph = once
            if name == "own_cell" and layer != "none":  # it runs the network twice
                set_up(context.GRAPH_MODE, of_graph)
                graph = training_forms.trained(form, inputs, layers()[layer], optimizer=made)
            set_up(context.PYNATIVE_MODE, SETTINGS[settings])
            eager = trained_without_state(form, inputs, layers()[layer], settings == "divided")
            expected = graph
            if settings == "divided":
                expected = graph[0], {k: v for k, v in graph[1].items() if k in eager[1]}
            compare(f"{name}, {settings}, {layer}", expected, eager)


def made(params: Any) -> Any:
    from paramesh import nn

    return nn.Momentum(params, 0.05, 0.9)


def trained_without_state(form: Any, inputs: Any, layer: Any, divided: bool) -> Any:
    """As `trained`, without the optimizer's state where it is divided."""
    import jax

    import training_forms
    from paramesh import Tensor, nn

    if not divided:
        return training_forms.trained(form, inputs, layer, optimizer=made)
    net = training_forms.network(layer).set_train()
    optimizer = made(net.trainable_params())
    step = form(net, nn.MSELoss(), optimizer)
    x, y = inputs
    losses = [float(step(Tensor(x * (1 + i)), Tensor(y))) for i in range(training_forms.STEPS)]
    held = [p._slot.pool for p in optimizer.moments if p._slot is not None]
    assert held, "the state is not divided"
    count = jax.process_count()
    assert all(pool.shape == (-(-pool.layout.size // count),) for pool in held)
    return losses, {param.name: param.asnumpy() for param in net.get_parameters()}


def compare_collectives() -> None:
    """Operators and their gradients, outside of programs and in one."""
    import jax
    import numpy as np

    import paramesh
    from paramesh import Tensor, communication, context, ops

    rank, size = jax.process_index(), jax.process_count()
    x = Tensor(np.random.default_rng(rank).normal(size=(2 * size, 4)).astype(np.float32))
    w = Tensor(np.random.default_rng(9).normal(size=(1024,)).astype(np.float32))
    if "pairs" not in paramesh.parallel.processes.groups._groups:
        communication.create_group("pairs", [[i, i + 1] for i in range(0, size, 2)])
    ring = tuple((i + 1) % size for i in range(size))
    back = tuple((i - 1) % size for i in range(size))
    operators: dict[str, Callable[[Any], Any]] = {
        "sum": ops.AllReduce(),
        "max": ops.AllReduce(ops.ReduceOp.MAX),
        "prod": ops.AllReduce(ops.ReduceOp.PROD),
        "pairs": ops.AllReduce(group="pairs"),
        "gather": ops.AllGather(),
        "scatter": ops.ReduceScatter(),
        "scatter max": ops.ReduceScatter(ops.ReduceOp.MAX),
        "all to all": ops.AlltoAll(size, 0, 1),
        "broadcast": lambda x: ops.Broadcast(size - 1)((x,))[0],
        "exchange": lambda x: ops.NeighborExchange([ring], [back])((x,))[0],
        "scalar": lambda x: ops.AllReduce()(x.sum()).reshape((1,)),
    }
    for name, operator in operators.items():

        def loss(x: Any, operator: Callable[[Any], Any] = operator) -> Any:
            out = operator(x)
            return (out * out * w[: out.size].reshape(out.shape)).sum()

        found: dict[int, Any] = {}
        for mode in (context.GRAPH_MODE, context.PYNATIVE_MODE):
            set_up(mode, {})
            if mode == context.GRAPH_MODE:
                found[mode] = paramesh.jit(operator)(x), paramesh.grad(loss)(x)
                # Outside of programs it is the same in graph mode.
                np.testing.assert_array_equal(operator(x).asnumpy(), found[mode][0].asnumpy())
            else:
                found[mode] = operator(x), paramesh.grad(loss)(x)
        for one, other in zip(found[0], found[1], strict=True):
            np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), rtol=1e-5, err_msg=name)


def compare_broadcast() -> None:
    """Processes of different seeds train what process 0 has drawn."""
    import jax
    import numpy as np

    import paramesh
    from paramesh import Tensor, context, nn
    from paramesh._compat.jax import process_allgather

    for kind in ("cell", "gradient"):
        set_up(context.PYNATIVE_MODE, {"parameter_broadcast": True})
        paramesh.set_seed(5 + jax.process_index())
        net = nn.Dense(3, 2, weight_init="normal")
        x = Tensor(np.ones((2, 3), np.float32))
        if kind == "cell":
            net(x)
        else:
            paramesh.grad(net, None, net.trainable_params())(x)
        both = process_allgather(net.weight.asnumpy())
        np.testing.assert_array_equal(both[0], both[1], err_msg=kind)
        paramesh.set_seed(5)
        expected = nn.Dense(3, 2, weight_init="normal").weight.asnumpy()
        np.testing.assert_array_equal(both[0], expected, err_msg=kind)


def compare_mixed() -> None:
    """Steps that run operator by operator, and steps that are programs, in turn.

    The optimizers of one setting still live when the next one begins.
    """
    import numpy as np

    import paramesh
    import training_forms
    from paramesh import Tensor, context, nn

    kept: list[Any] = []

    def trained(settings: str, steps: str) -> dict[str, Any]:
        set_up(context.PYNATIVE_MODE, SETTINGS[settings])
        # What a program takes from eager code is broadcast, moving averages of a process too.
        layer = None if settings == "broadcast" else layers()["BatchNorm"]
        net = training_forms.network(layer).set_train()
        optimizer = nn.Adam(net.trainable_params(), 0.01)
        kept.append(optimizer)
        eager = training_forms.functional(net, nn.MSELoss(), optimizer)
        program = paramesh.jit(eager)
        for i, how in enumerate(steps):
            step = program if how == "p" else eager
            step(Tensor(part(training_forms.X) * (1 + i)), Tensor(part(training_forms.Y)))
        return {param.name: param.asnumpy() for param in net.get_parameters()}

    for settings in ("divided", "broadcast", "mean"):
        expected = trained(settings, "pppp")
        for steps in ("epep", "pepe"):
            for name, value in trained(settings, steps).items():
                told = f"{settings}, {steps}: {name}"
                np.testing.assert_allclose(value, expected[name], 1e-5, 1e-6, err_msg=told)


def main(task: str, folder: str) -> None:
    """One process."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
    warnings.simplefilter("error")
    import jax

    import training_forms
    from paramesh import communication
    from paramesh.parallel.modes import meeting

    communication.init()
    if task == "quick":
        forms = {name: training_forms.FORMS[name] for name in QUICK}
        compare_forms(forms, [("mean", "none")])
        assert [program.traces for program in meeting.programs()] == [1]
    else:
        compare_collectives()
        compare_broadcast()
        compare_mixed()
        compare_forms(
            training_forms.FORMS,
            [("mean", layer) for layer in layers()] + [(name, "none") for name in SETTINGS],
        )
    Path(folder, f"done-{jax.process_index()}").touch()


def launch(folder: Path, task: str, processes: int) -> None:
    words = ["-n", processes, "--devices-per-process", 1, __file__, task, folder]
    program = [sys.executable, "-c", "from paramesh.cli import main; main()", "launch"]
    done = subprocess.run([*program, *map(str, words)], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-6000:]
    assert len(list(folder.glob("done-*"))) == processes


def test_a_training_step_in_two_processes(tmp_path: Path) -> None:
    launch(tmp_path, "quick", 2)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_all_forms_settings_and_operators(tmp_path: Path, processes: int) -> None:
    launch(tmp_path, "all", processes)


if __name__ == "__main__":
    main(*sys.argv[1:])
