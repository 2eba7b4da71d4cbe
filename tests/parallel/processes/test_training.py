"""Training over real processes: the numbers of one device, and of a run that nothing disturbed.

Started by `paramesh launch`, this file is one of the processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(16, 8)).astype(np.float32)
Y = DRAW.normal(size=(16, 8)).astype(np.float32)
STEPS = 5
#: Settings, and whether each process gives the global batch (or its slice). By ((2, 1), …) the
#: first half lies on the devices 0, 2, 4 and 6, so that each process holds both.
SEMI_AUTO: list[tuple[dict[str, Any], bool]] = [
    ({"full_batch": True, "enable_parallel_optimizer": True}, True),
    ({"dataset_strategy": "data_parallel"}, False),
    ({"dataset_strategy": ((8, 1), (8, 1))}, False),
    ({"dataset_strategy": ((2, 1), (2, 1))}, True),
]
DATA_PARALLEL: list[dict[str, Any]] = [
    {"gradients_mean": True},
    {"gradients_mean": True, "parameter_broadcast": True},
]


def network(parts: tuple[int, int] = (0, 0)) -> Any:
    """Two dense layers, sharded by (data, model) axes; (0, 0): not sharded."""
    import paramesh
    from paramesh import nn

    paramesh.set_seed(1)
    net = nn.SequentialCell(nn.Dense(8, 32), nn.Tanh(), nn.Dense(32, 8))
    dp, mp = parts
    if dp:
        net[0].matmul.shard(((dp, 1), (mp, 1)))
        net[2].matmul.shard(((dp, mp), (1, mp)))
    return net


def training(parts: tuple[int, int] = (0, 0)) -> Any:
    """A training step."""
    from paramesh import nn
    from paramesh.train.cells import TrainOneStepCell, WithLossCell

    net = network(parts)
    adam = nn.Adam(net.trainable_params(), 0.01)
    return TrainOneStepCell(WithLossCell(net, nn.MSELoss()), adam)


def part(array: Any) -> Any:
    """What this process holds of a batch."""
    import jax

    rows = len(array) // jax.process_count()
    return array[jax.process_index() * rows :][:rows]


def train_in_all_modes() -> list[Any]:
    """What one process sees in each mode."""
    from paramesh import Tensor, context

    seen: list[Any] = []
    for settings, whole in SEMI_AUTO:
        context.reset()
        context.set_auto_parallel_context(
            parallel_mode="semi_auto_parallel", device_num=8, **settings
        )
        step = training((2, 4))
        x, y = (Tensor(a if whole else part(a)) for a in (X, Y))
        losses = [float(step(x, y)) for _ in range(STEPS)]
        weight = next(iter(step.get_parameters()))
        held = weight._value.addressable_data(0).shape
        out = step.network.backbone_network(x).asnumpy()
        seen.append({"losses": losses, "held": held, "out": out.tolist()})
    for settings in DATA_PARALLEL:
        context.reset()
        context.set_auto_parallel_context(parallel_mode="data_parallel", **settings)
        step = training()
        x, y = Tensor(part(X)), Tensor(part(Y))
        losses = [float(step(x, y)) for _ in range(STEPS)]
        weights = [p.asnumpy().tolist() for p in step.get_parameters()]
        seen.append({"losses": losses, "weights": weights})
    return seen


#: Layouts of a weight of shape (16, 8), for any number of devices n.
LAYOUTS = ("whole", "rows", "columns", "both", "swapped")


def layout(kind: str, n: int) -> Any:
    from paramesh.parallel import Layout

    grid = Layout((n // 2, 2), ("a", "b"))
    return {
        "whole": (1, 1),
        "rows": (n, 1),
        "columns": (1, n),
        "both": (n // 2, 2),
        "swapped": grid("b", "a"),
    }[kind]


def weight() -> Any:
    import paramesh
    from paramesh import Parameter
    from paramesh.initializer import initializer

    paramesh.set_seed(5)
    return Parameter(initializer("normal", (16, 8)), name="w")


def slices_of_all_layouts() -> list[Any]:
    """[(kind, rows, columns, values)] of what one process holds of a weight."""
    import jax

    from paramesh import context

    context.reset()
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel")
    seen: list[Any] = []
    for kind in LAYOUTS:
        param = weight()
        param.layout = layout(kind, jax.device_count())
        param.init_data()
        for shard in param._value.addressable_shards:
            index = [
                part.indices(size)[:2] for part, size in zip(shard.index, (16, 8), strict=True)
            ]
            seen.append((kind, *index, np.asarray(shard.data).view(np.uint32).tolist()))
    return seen


def read_a_sharded_parameter() -> list[Any]:
    """The error of a process that reads one, and its full value."""
    import jax

    from paramesh import ParameshError
    from paramesh.parallel import whole

    param = weight()
    param.layout = layout("columns", jax.device_count())
    param.init_data()
    told = []
    for read in (param.asnumpy, param.tolist, lambda: np.asarray(param)):
        try:
            read()
        except ParameshError as error:
            told.append(str(error))
    return [told, whole(param).view(np.uint32).tolist()]


def train_with_checkpoints(folder: Path, steps: int, killed_at: int = 0) -> list[str]:
    """Losses from the last checkpoint in a folder to a step, bit for bit; rank 1 may be killed."""
    import jax

    from paramesh import Tensor, load_checkpoint, load_param_into_net, nn
    from paramesh.train import Callback, CheckpointConfig, Model, ModelCheckpoint

    net = network()
    model = Model(net, nn.MSELoss(), nn.Adam(net.trainable_params(), 0.01))
    saved = sorted(folder.glob("*.ckpt"), key=lambda p: int(p.stem.split("_")[0].split("-")[1]))
    done = 0
    if saved:
        state = load_checkpoint(str(saved[-1]))
        done = int(state.pop("epoch_num"))
        load_param_into_net(model.train_network, state)
    losses: list[str] = []

    class Watch(Callback):
        def on_train_step_end(self, run_context: Any) -> None:
            args = run_context.original_args()
            losses.append(float(args.net_outputs).hex())
            if args.cur_epoch_num == killed_at and jax.process_index() == 1:
                os.kill(os.getpid(), signal.SIGKILL)

    class Batches:  # one batch is an epoch, another one each time
        def __iter__(self) -> Any:
            scale = np.float32(1 + 0.1 * (done + len(losses)))
            yield Tensor(part(X) * scale), Tensor(part(Y))

    callbacks: list[Callback] = []
    if jax.process_index() == 0:
        config = CheckpointConfig(save_checkpoint_steps=2, append_info=["epoch_num"])
        callbacks.append(ModelCheckpoint("run", folder, config))
    model.train(steps, Batches(), [*callbacks, Watch()], initial_epoch=done, progress=False)
    return losses


def main(task: str, folder: str) -> None:
    """One process."""
    import jax

    from paramesh import context

    if task == "modes":
        seen: Any = {"modes": train_in_all_modes(), "slices": slices_of_all_layouts()}
        seen["read"] = read_a_sharded_parameter()
    elif task == "slices":
        seen = {"slices": slices_of_all_layouts()}
    else:
        context.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True)
        whole = Path(folder) / "whole"
        if not whole.exists():
            seen = train_with_checkpoints(whole, 8)
            (Path(folder) / f"whole-{jax.process_index()}.json").write_text(json.dumps(seen))
            train_with_checkpoints(Path(folder) / "cut", 8, killed_at=5)
        seen = train_with_checkpoints(Path(folder) / "cut", 8)
    (Path(folder) / f"{task}-{jax.process_index()}.json").write_text(json.dumps(seen))


def launch(
    folder: Path, task: str, processes: int, devices: int
) -> subprocess.CompletedProcess[str]:
    words = ["-n", processes, "--devices-per-process", devices, __file__, task, folder]
    program = [sys.executable, "-c", "from paramesh.cli import main; main()", "launch"]
    return subprocess.run([*program, *map(str, words)], capture_output=True, text=True, timeout=240)


def results(folder: Path, task: str) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{task}-*.json"))]


def assert_slices_are_those_of_the_full_array(
    seen: list[Any], processes: int, devices: int
) -> None:
    bits = weight().asnumpy().view(np.uint32)
    # What is not sharded lies on one device of each process until a program uses it.
    assert len(seen) == (len(LAYOUTS) - 1) * processes * devices + processes
    for kind, (top, bottom), (left, right), values in seen:
        np.testing.assert_array_equal(values, bits[top:bottom, left:right], err_msg=kind)


@pytest.mark.slow
def test_the_same_as_on_one_device(tmp_path: Path) -> None:
    from paramesh import Tensor

    step = training()
    losses = [float(step(Tensor(X), Tensor(Y))) for _ in range(STEPS)]
    out = step.network.backbone_network(Tensor(X)).asnumpy()
    weights = [p.asnumpy() for p in step.get_parameters()]
    done = launch(tmp_path, "modes", 2, 4)
    assert done.returncode == 0, done.stderr
    for seen in results(tmp_path, "modes"):
        assert len(seen["modes"]) == len(SEMI_AUTO) + len(DATA_PARALLEL)
        for case in seen["modes"]:
            np.testing.assert_allclose(case["losses"], losses, rtol=1e-4)
            if "out" in case:
                np.testing.assert_allclose(case["out"], out, rtol=1e-4, atol=1e-5)
                assert case["held"] == [8, 8]
            else:
                for here, there in zip(case["weights"], weights, strict=True):
                    np.testing.assert_allclose(here, there, rtol=1e-3, atol=1e-5)
        told, bits = seen["read"]
        assert len(told) == 3
        assert len(set(told)) == 1
        assert "Parameter 'w' of shape (16, 8) is sharded over several processes" in told[0]
        np.testing.assert_array_equal(bits, weight().asnumpy().view(np.uint32))
    slices = [part for seen in results(tmp_path, "modes") for part in seen["slices"]]
    assert_slices_are_those_of_the_full_array(slices, 2, 4)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(2, 1), (4, 1), (4, 2)])
def test_initial_values_are_the_same_bit_for_bit(
    tmp_path: Path, processes: int, devices: int
) -> None:
    done = launch(tmp_path, "slices", processes, devices)
    assert done.returncode == 0, done.stderr
    slices = [part for seen in results(tmp_path, "slices") for part in seen["slices"]]
    assert_slices_are_those_of_the_full_array(slices, processes, devices)


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_result(tmp_path: Path) -> None:
    first = launch(tmp_path, "restart", 2, 1)
    assert first.returncode == 137, first.stderr
    assert "paramesh: rank 1 of 2 was killed by SIGKILL" in first.stderr
    assert not results(tmp_path, "restart")
    second = launch(tmp_path, "restart", 2, 1)
    assert second.returncode == 0, second.stderr
    whole = results(tmp_path, "whole")
    assert len(whole[0]) == 8
    assert len(set(whole[0])) == 8
    for rank, losses in enumerate(results(tmp_path, "restart")):
        assert losses == whole[rank][4:]


if __name__ == "__main__":
    main(*sys.argv[1:])
