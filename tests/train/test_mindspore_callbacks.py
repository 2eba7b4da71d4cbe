"""What scripts do with MindSpore's callbacks: subclasses, names by functions, their own loops."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import CheckpointConfig, Model, ModelCheckpoint, Parameter, Tensor, nn, optim
from paramesh.errors import ParameterShapeError
from paramesh.mindspore_internals import InternalCallbackParam
from paramesh.sampling.seed import next_key
from paramesh.train import Callback, LossMonitor, RunContext, TimeMonitor, callback_internals
from type_checks import wrong

X = np.arange(12, dtype=np.float32).reshape(4, 3)
BATCHES = [(X, X[:, :1])] * 2


def trained(callback: Any, epochs: int = 2) -> Model:
    net = nn.Dense(3, 1)
    model = Model(net, nn.MSELoss(), optim.SGD(net.trainable_params(), 1e-3), {"loss"})
    model.train(epochs, BATCHES, callback, progress=False)
    return model


def facts(**more: Any) -> RunContext:
    """A run of which MindSpore's facts are known, not those that are paramesh's own."""
    known = {"cur_epoch_num": 4, "epoch_num": 4, "cur_step_num": 128, "batch_num": 32}
    return RunContext(InternalCallbackParam(known | more))


def test_the_methods_that_scripts_override_are_called() -> None:
    seen: list[str] = []

    def noting(kind: type[Callback]) -> Callback:
        class Mine(kind):  # type: ignore[misc,valid-type]
            def begin(self, run_context: RunContext) -> None:
                super().begin(run_context)
                seen.append("begin")

            def step_end(self, run_context: RunContext) -> None:
                super().step_end(run_context)
                seen.append("step_end")

            def epoch_end(self, run_context: RunContext) -> None:
                super().epoch_end(run_context)
                seen.append("epoch_end")

        return Mine()

    steps = ["begin", "step_end", "step_end"]
    # As in MindSpore, LossMonitor has on_train_epoch_end itself.
    for kind, expected in ((LossMonitor, steps), (TimeMonitor, [*steps, "epoch_end"])):
        seen.clear()
        model = trained(noting(kind), epochs=1)
        assert seen == expected
    model.eval(BATCHES, LossMonitor())  # says nothing of an evaluation, in which there is no step


def test_a_checkpoint_is_saved_where_step_end_is_overridden(tmp_path: Path) -> None:
    class Counting(ModelCheckpoint):
        steps = 0

        def step_end(self, run_context: RunContext) -> None:
            self.steps += 1
            super().step_end(run_context)

    saver = Counting("n", tmp_path, CheckpointConfig(2))
    model = trained(saver)
    assert saver.steps == 4
    model.eval(BATCHES, saver)
    assert sorted(os.listdir(tmp_path)) == ["n-1_2.ckpt", "n-2_2.ckpt"]


def test_names_and_folders_by_functions(tmp_path: Path) -> None:
    saver = ModelCheckpoint(
        lambda args: f"{args.cur_step_num}_mine",
        lambda args: str(tmp_path / f"epoch{args.cur_epoch_num}"),
        CheckpointConfig(2),
    )
    trained(saver)
    assert (tmp_path / "epoch1/2_mine.ckpt").is_file()
    assert (tmp_path / "epoch2/4_mine.ckpt").is_file()
    with pytest.raises(ValueError, match="prefix must be a str without '/', got 'a/b'"):
        trained(ModelCheckpoint(lambda _: "a/b", tmp_path))


def test_step_by_step_in_a_loop_of_ones_own(tmp_path: Path, capsys: Any) -> None:
    net = nn.Dense(3, 1)
    context = facts(train_network=net, net_outputs=Tensor(2.0))
    saver = ModelCheckpoint("own", tmp_path, CheckpointConfig(16))
    manager = callback_internals._CallbackManager([saver, LossMonitor(), TimeMonitor(32)])
    with manager as callbacks:
        callbacks.begin(context)
        callbacks.epoch_begin(context)
        context.original_args().cur_step_num = 160
        callbacks.step_begin(context)
        callbacks.step_end(context)
        callbacks.epoch_end(context)
        callbacks.end(context)
    assert os.listdir(tmp_path) == ["own-4_32.ckpt"]
    assert "epoch: 4 step: 32, loss is 2" in capsys.readouterr().out


def test_the_manager_enters_and_leaves_its_callbacks() -> None:
    seen: list[Any] = []

    class Noting(Callback):
        def __enter__(self) -> Callback:
            seen.append("in")
            return self

        def __exit__(self, *error: object) -> None:
            seen.append(error[0])

    with (
        pytest.raises(KeyError, match="mine"),
        callback_internals._CallbackManager([Noting(), Noting()]),
    ):
        raise KeyError("mine")
    assert seen == ["in", "in", KeyError, KeyError]
    for given in ([None], ["x"], [LossMonitor(), 3]):
        with pytest.raises(TypeError, match="callbacks must be Callbacks"):
            callback_internals._CallbackManager(wrong(given))


def test_the_list_of_checkpoints(tmp_path: Path) -> None:
    manager = callback_internals._CheckpointManager()
    for at, name in enumerate(("a-1_1", "a-1_2", "a-1_3", "b-1_1", "a_1-1_1")):
        path = tmp_path / f"{name}.ckpt"
        path.touch()
        os.utime(path, (1000 + 10 * at, 1000 + 10 * at))
    manager.update_ckpoint_filelist(str(tmp_path), "a")
    names = [Path(f).name for f in manager.ckpoint_filelist]
    assert names == ["a-1_1.ckpt", "a-1_2.ckpt", "a-1_3.ckpt"]
    manager.remove_oldest_ckpoint_file()
    assert manager.ckpoint_num == 2
    assert not (tmp_path / "a-1_1.ckpt").exists()
    manager.keep_one_ckpoint_per_minutes(1, 1030)
    assert [Path(f).name for f in manager.ckpoint_filelist] == ["a-1_2.ckpt"]
    assert callback_internals._chg_ckpt_file_name_if_same_exist(str(tmp_path), "a") == "a_2"


def test_values_for_the_network_that_was_said() -> None:
    net = nn.Dense(1, 1)
    callback_internals._set_cur_net(net)
    listed = [{"name": "bias", "data": Tensor([3.0])}, {"name": "other", "data": Tensor([1.0])}]
    assert callback_internals._checkpoint_cb_for_save_op(listed)
    (bias,) = (p for p in net.get_parameters() if p.name == "bias")
    assert bias.asnumpy().tolist() == [3]
    listed = [
        {"name": "bias", "data": np.full(1, 5, np.float32)},
        {"name": "weight", "data": np.ones(7, np.float32)},
    ]
    with pytest.raises(ParameterShapeError, match="nothing was loaded"):
        callback_internals._checkpoint_cb_for_save_op(listed)
    assert bias.asnumpy().tolist() == [3]


def test_what_a_configuration_takes() -> None:
    config = CheckpointConfig()
    policy = config.get_checkpoint_policy()
    assert policy == {
        "save_checkpoint_steps": 1,
        "save_checkpoint_seconds": None,
        "keep_checkpoint_max": 5,
        "keep_checkpoint_per_n_minutes": None,
        "saved_network": None,
    }
    for name in policy:
        with pytest.raises(TypeError, match=f"CheckpointConfig: {name} must be"):
            CheckpointConfig(**wrong({name: "abc"}))
    with pytest.raises(ValueError, match="one of save_checkpoint_steps, .* must be above 0"):
        CheckpointConfig(0, 0, 0, 0, True)
    with pytest.raises(TypeError, match="original_args must be the facts of a run, got int"):
        RunContext(wrong(666))


def test_a_dataset_of_mindspores_kind_is_set_back_after_each_pass() -> None:
    class Once:
        """Gives its batches once, until it is set back."""

        def __init__(self) -> None:
            self.left, self.resets = list(BATCHES), 0

        def create_tuple_iterator(self, num_epochs: int = -1) -> Any:
            while self.left:
                yield self.left.pop()

        def reset(self) -> None:
            self.left, self.resets = list(BATCHES), self.resets + 1

    once, steps = Once(), []
    net = nn.Dense(3, 1)
    model = Model(net, nn.MSELoss(), optim.SGD(net.trainable_params(), 1e-3), {"loss"})
    counting = paramesh.LambdaCallback(on_train_step_end=steps.append)
    model.train(2, once, counting, progress=False)
    model.eval(once)
    assert len(steps) == 4
    assert once.resets == 3


def test_a_backend_of_predict() -> None:
    model = Model(nn.ReLU())
    with pytest.raises(ValueError, match="backend must be None, got 'lite'"):
        model.predict(Tensor(1.0), backend="lite")
    assert float(model.predict(Tensor(1.0), backend=None)) == 1


def test_descriptions_of_inputs() -> None:
    net = nn.ReLU()
    assert net.get_inputs() is None
    paramesh.set_seed(3)
    described = Tensor(shape=[None, 3], dtype=paramesh.float32)
    assert next_key() == (3, 0)  # nothing was drawn for it
    assert described.shape == (-1, 3)
    assert described.dtype is paramesh.float32
    assert "shape=[-1, 3]" in repr(described)
    net.set_inputs(described)
    assert net.get_inputs() == (described,)
    assert net(Tensor(-X)).asnumpy().max() == 0
    with pytest.raises(ValueError, match=r"of shape \(-1, 3\) that was made without data has no"):
        described.asnumpy()
    with pytest.raises(ValueError, match="by position or by name, got 0 and 0"):
        net.set_inputs()
    assert not Parameter(Tensor(1.0), name="p").has_init


def test_each_path_gives_the_function_that_does_it() -> None:
    import paramesh.train.callback as path  # type: ignore[import-not-found]

    assert path._set_cur_net is path.set_cur_net is callback_internals._set_cur_net


def test_scaled_gradients_as_scripts_divide_them() -> None:
    of = importlib.import_module("paramesh.nn.wrap.loss_scale")
    scale, grad = Tensor(4.0), Tensor(np.array([8.0, 2.0], np.float16))
    (half,) = paramesh.ops.HyperMap()(paramesh.ops.partial(of._grad_scale, scale), (grad,))
    assert half.dtype == paramesh.float16
    assert half.asnumpy().tolist() == [2, 0.5]
    for divide, expected in ((of.grad_scale, [3, 1]), (of.shard_grad_scale, [2, 0.5])):
        total = paramesh.Parameter(Tensor(np.array([12.0, 4.0], np.float32)), name="total")
        assert divide(scale, grad, total).asnumpy().tolist() == expected
        assert total.asnumpy().tolist() == [0, 0]
