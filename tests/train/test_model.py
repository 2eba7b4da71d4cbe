"""Model: training in either mode, evaluating, predicting, stopping and going on."""

from __future__ import annotations

import functools
import importlib
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh import context, nn, optim, set_seed, train
from paramesh import dtype as mstype
from paramesh.checkpoint import load_checkpoint
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor
from paramesh.train import (
    Callback,
    CheckpointConfig,
    DynamicLossScaleManager,
    FixedLossScaleManager,
    LambdaCallback,
    LearningRateScheduler,
    LossMonitor,
    Model,
    ModelCheckpoint,
    RunContext,
    Summary,
    TimeMonitor,
)
from type_checks import wrong

random = np.random.default_rng(0)
X = random.normal(size=(32, 4)).astype(np.float32)
Y = (X @ random.normal(size=(4, 3))).argmax(axis=1).astype(np.int32)
BATCHES = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 32, 8)]


class Net(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Dense(4, 8)
        self.head = nn.Dense(8, 3)

    def construct(self, x):
        return self.head(self.fc(x))


class Normed(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def construct(self, x):
        return self.head(self.norm(self.fc(x)))


def model(net: type[nn.Cell] = Net, seed: int = 1, rate: float = 0.05, **more) -> Model:
    set_seed(seed)
    network = net()
    more.setdefault("metrics", {"accuracy", "loss"})
    opt = optim.Momentum(network.trainable_params(), rate, 0.9, **more.pop("optimizer", {}))
    return Model(network, nn.CrossEntropyLoss(), opt, **more)


class Losses(LambdaCallback):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[float] = []

    def step_end(self, run_context) -> None:
        self.found.append(float(run_context.original_args().net_outputs.asnumpy()))


def losses(mode: int, epochs: int = 2) -> list[float]:
    context.set_context(mode=mode)
    seen = Losses()
    model().train(epochs, BATCHES, seen, progress=False)
    return seen.found


def values(cell: nn.Cell) -> list[np.ndarray]:
    return [p.asnumpy() for p in cell.get_parameters()]


def assert_same(a: nn.Cell, b: nn.Cell) -> None:
    for x, y in zip(values(a), values(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_both_modes_learn_the_same() -> None:
    compiled, eager = losses(context.GRAPH_MODE, 1), losses(context.PYNATIVE_MODE, 1)
    assert len(compiled) == 4
    np.testing.assert_allclose(compiled, eager, rtol=1e-5)


def test_training_evaluating_and_predicting() -> None:
    m = model(Normed)
    before = m.eval(BATCHES)
    assert set(before) == {"accuracy", "loss"}
    m.train(6, BATCHES, progress=False)
    assert m.train_network._program().traces == 1  # one program for all epochs
    after = m.eval(BATCHES)
    assert after["loss"] < 0.7 * before["loss"]
    assert after["accuracy"] > before["accuracy"]
    outputs = m.predict(X)
    assert (outputs.asnumpy().argmax(axis=1) == Y).mean() == after["accuracy"]
    moving = m.predict_network.norm.moving_mean.asnumpy()
    m.eval(BATCHES)
    np.testing.assert_array_equal(m.predict_network.norm.moving_mean.asnumpy(), moving)
    assert (moving != 0).all()


class Dataset:
    """As MindSpore's datasets are used."""

    def create_tuple_iterator(self, num_epochs: int, output_numpy: bool):
        assert (num_epochs, output_numpy) == (1, True)
        return iter(BATCHES)

    def get_dataset_size(self) -> int:
        return len(BATCHES)


class OlderDataset:
    """A stand-in for a dataset, with the arguments of MindSpore 1.x."""

    def create_tuple_iterator(self, num_epochs: int = -1, do_copy: bool = True):
        return iter([tuple(map(Tensor, batch)) for batch in BATCHES])


class ResetDataset:
    """A stand-in for a dataset that is its own iterator, and is reset after an epoch."""

    def __init__(self) -> None:
        self.at = 0

    def create_tuple_iterator(self, num_epochs: int = -1, do_copy: bool = True):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self.at == len(BATCHES):
            raise StopIteration
        self.at += 1
        return tuple(map(Tensor, BATCHES[self.at - 1]))

    def reset(self) -> None:
        self.at = 0


class Recorder(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[np.ndarray] = []

    def construct(self, x, y):
        self.found.extend((x.asnumpy(), y.asnumpy()))
        return x.mean()


@pytest.mark.parametrize(
    "dataset",
    [
        BATCHES,
        lambda: iter(BATCHES),
        [{"data": x, "label": y} for x, y in BATCHES],
        [[Tensor(x), y.tolist()] for x, y in BATCHES],
        Dataset(),
        OlderDataset(),
        ResetDataset(),
    ],
    ids=[
        *("tuples", "function", "dicts", "Tensors and lists", "MindSpore's", "MindSpore 1.x's"),
        "reset",
    ],
)
def test_any_dataset_gives_its_batches(dataset) -> None:
    context.set_context(mode=context.PYNATIVE_MODE)
    network = Recorder()
    Model(network).train(2, dataset, progress=False, dataset_sink_mode=True)
    expected = [array for batch in BATCHES * 2 for array in batch]
    assert len(network.found) == len(expected)
    for x, z in zip(network.found, expected, strict=True):
        np.testing.assert_array_equal(x, z)


def test_datasets_that_run_dry() -> None:
    m = model()
    before = values(m.train_network)
    with pytest.raises(ValueError, match="a generator, which is used up after one pass, but 2"):
        m.train(2, (b for b in BATCHES), progress=False)
    with pytest.raises(ValueError, match="train_dataset gave no batch"):
        m.train(1, [], progress=False)
    with pytest.raises(TypeError, match="train_dataset must be an iterable of batches"):
        m.train(1, wrong(3), progress=False)
    for x, y in zip(before, values(m.train_network), strict=True):
        np.testing.assert_array_equal(x, y)
    m.train(1, (b for b in BATCHES[:1]), progress=False)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"network": 1}, TypeError, "network must be a Cell"),
        ({"optimizer": 1}, TypeError, "optimizer must be an Optimizer"),
        ({"amp_level": "O7"}, ValueError, "amp_level must be one of"),
        ({"metrics": {"speed"}}, ValueError, "No metric is called 'speed'"),
        ({"eval_indexes": [1]}, ValueError, "eval_indexes must be three ints"),
        ({"loss_scale_manager": FixedLossScaleManager()}, ValueError, "needs an optimizer"),
    ],
)
def test_arguments(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        Model(**({"network": nn.Dense(1, 1)} | arguments))


def test_arguments_of_train() -> None:
    m = model()
    for bad in (0, -1):
        with pytest.raises(ValueError, match="epoch must be at least 1"):
            m.train(bad, BATCHES)
    for given in ("True", 1):
        with pytest.raises(TypeError, match="train: dataset_sink_mode must be a bool, got"):
            model().train(1, BATCHES, dataset_sink_mode=wrong(given))
        with pytest.raises(TypeError, match="eval: dataset_sink_mode must be a bool, got"):
            model().eval(BATCHES, dataset_sink_mode=wrong(given))
    with pytest.raises(TypeError, match="epoch must be an int, got 1.5"):
        m.train(wrong(1.5), BATCHES)
    with pytest.raises(TypeError, match="give an instance, not the class"):
        m.train(1, BATCHES, wrong(LossMonitor))
    with pytest.raises(TypeError, match="callbacks must be Callbacks, got str"):
        m.train(1, BATCHES, wrong(["x"]))
    with pytest.raises(ValueError, match="eval needs metrics"):
        Model(nn.Dense(1, 1)).eval(BATCHES)


# Callbacks.


def test_the_order_of_the_moments(capsys) -> None:
    moments = [
        f"on_{mode}_{moment}"
        for mode in ("train", "eval")
        for moment in ("begin", "epoch_begin", "step_begin", "step_end", "epoch_end", "end")
    ]
    seen: list[tuple] = []

    def note(name):
        def noted(run):
            args = run.original_args()
            seen.append((name, args.cur_epoch_num, args.cur_step_num, args.cur_step_in_epoch))

        return noted

    log = LambdaCallback(**{name: note(name) for name in moments})
    m = model()
    m.train(2, BATCHES[:1], log, progress=False)
    m.eval(BATCHES[:1], log)
    assert seen == [
        ("on_train_begin", 0, 0, 0),
        ("on_train_epoch_begin", 1, 0, 0),
        ("on_train_step_begin", 1, 1, 1),
        ("on_train_step_end", 1, 1, 1),
        ("on_train_epoch_end", 1, 1, 1),
        ("on_train_epoch_begin", 2, 1, 0),
        ("on_train_step_begin", 2, 2, 1),
        ("on_train_step_end", 2, 2, 1),
        ("on_train_epoch_end", 2, 2, 1),
        ("on_train_end", 2, 2, 1),
        ("on_eval_begin", 0, 0, 0),
        ("on_eval_epoch_begin", 0, 0, 0),
        ("on_eval_step_begin", 0, 1, 1),
        ("on_eval_step_end", 0, 1, 1),
        ("on_eval_epoch_end", 0, 1, 1),
        ("on_eval_end", 0, 1, 1),
    ]
    with pytest.raises(ValueError, match="have no method 'on_lunch'"):
        LambdaCallback(on_lunch=print)
    assert capsys.readouterr() == ("", "")  # progress=False says nothing


class Followed(Callback):
    """Notes the moments of evaluations; stops them after the first batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def step_end(self, run_context: RunContext) -> None:
        """Of the training, with one more loss than its batches."""
        assert run_context.original_args().mode == "train"

    def _note(self, moment: str, run_context: RunContext) -> None:
        args = run_context.original_args()
        at = args.cur_epoch_num, args.cur_step_num, args.batch_num
        self.seen.append((moment, args.mode, *at, sorted(args.eval_results)))

    def on_eval_begin(self, run_context: RunContext) -> None:
        self._note("begin", run_context)

    def on_eval_step_begin(self, run_context: RunContext) -> None:
        self._note("step_begin", run_context)

    def on_eval_step_end(self, run_context: RunContext) -> None:
        self._note("step_end", run_context)
        run_context.request_stop()

    def on_eval_end(self, run_context: RunContext) -> None:
        self._note("end", run_context)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        self._note("epoch", run_context)


def test_callbacks_follow_the_evaluations_of_a_training() -> None:
    follow, m = Followed(), model()
    m.fit(3, BATCHES, BATCHES[:2], 2, [follow, LossMonitor(), TimeMonitor()])
    results = ["accuracy", "eval_loss", "loss"]
    evaluation = [
        ("begin", "eval", 2, 0, 2, []),
        ("step_begin", "eval", 2, 1, 2, []),
        ("step_end", "eval", 2, 1, 2, []),
        ("end", "eval", 2, 1, 2, results),
    ]
    epochs = [("epoch", "train", n, 4 * n, 4, results if n == 2 else []) for n in (1, 2, 3)]
    assert follow.seen == [epochs[0], *evaluation, *epochs[1:]]


@pytest.mark.parametrize(("frequency", "epochs"), [(1, [1, 2, 3]), (2, [2]), ([1, 3], [1, 3])])
def test_the_epochs_that_are_evaluated(frequency: Any, epochs: list[int]) -> None:
    seen: list[int] = []
    note = LambdaCallback(on_eval_end=lambda run: seen.append(run.original_args().cur_epoch_num))
    model().fit(3, BATCHES[:1], BATCHES[:1], frequency, note)
    assert seen == epochs


def test_what_stops_an_evaluation_leaves_the_counts_of_the_training(tmp_path: Path) -> None:
    def interrupt(run: RunContext) -> None:
        raise KeyboardInterrupt

    m, saved = model(), tmp_path / "x.safetensors"
    with pytest.raises(KeyboardInterrupt):
        m.train(
            2,
            BATCHES,
            LambdaCallback(on_eval_step_begin=interrupt),
            valid_dataset=BATCHES,
            interrupt_checkpoint=saved,
        )
    assert int(np.asarray(load_checkpoint(saved)["step_num"].asnumpy())) == 4


def test_monitors_validation_and_stopping(capsys) -> None:
    seen = []
    stop = LambdaCallback(
        on_train_step_end=lambda run: run.original_args().cur_step_num == 5 and run.request_stop(),
        on_train_epoch_end=lambda run: seen.append(run.original_args().eval_results),
        on_train_end=lambda run: seen.append("end"),
    )
    m = model()
    m.train(
        9,
        BATCHES,
        [LossMonitor(2), TimeMonitor(data_time=True), stop],
        valid_dataset=BATCHES,
        valid_frequency=2,
    )
    assert seen[0] == {}
    assert set(seen[1]) == {"accuracy", "loss", "eval_loss"}
    assert seen[1]["eval_loss"] == seen[1]["loss"]
    assert seen[2:] == ["end"]
    out, err = capsys.readouterr()
    lines = [line for line in out.splitlines() if "loss is" in line]
    assert [line.split(",")[0] for line in lines] == ["epoch: 1 step: 2", "epoch: 1 step: 4"]
    assert len(re.findall(r"Train epoch time: .* \(data time: \d+\.\d{3} ms\)", out)) == 2
    first, second = err.splitlines()
    assert first.startswith("epoch 1/9: 4 steps in ")
    assert second.startswith("epoch 2/9: 1 step in ")
    assert "val accuracy" in second


def test_a_loss_that_is_not_finite_stops() -> None:
    bad = [(np.full((8, 4), np.inf, np.float32), Y[:8])]
    with pytest.raises(ValueError, match="epoch: 1 step: 1: the loss is nan"):
        model().train(1, bad, LossMonitor(), progress=False)


def test_the_learning_rate_follows_a_function() -> None:
    m = model(rate=0.5)
    m.train(2, BATCHES, LearningRateScheduler(lambda lr, step: lr / 2), progress=False)
    rate = m.train_network.optimizer.learning_rate.asnumpy()
    np.testing.assert_allclose(rate, 0.5 / 2**8, rtol=1e-6)
    assert m.train_network._program().traces == 1


class TestNamesOfCheckpoints:
    """As MindSpore's: one run never overwrites the files of another."""

    @staticmethod
    def train(folder: Path, epochs: int = 1, first: int = 0, **config: Any) -> list[str]:
        saver = ModelCheckpoint("a.b", folder, CheckpointConfig(4, **config))
        model().train(epochs, BATCHES, saver, progress=False, initial_epoch=first)
        return [path.name for path in saver.saved]

    def test_a_prefix_that_is_there_gets_a_number(self, tmp_path: Path) -> None:
        for name in ("a.b-interrupted.ckpt", "a.b_9.ckpt", "axb-1_1.ckpt", "a.b-1_1.txt"):
            tmp_path.joinpath(name).touch()
        assert self.train(tmp_path) == ["a.b-1_4.ckpt"]
        assert self.train(tmp_path, format="safetensors") == ["a.b_1-1_4.safetensors"]
        assert self.train(tmp_path) == ["a.b_2-1_4.ckpt"]
        tmp_path.joinpath("a.b_7-3_1.sharded").mkdir()
        assert self.train(tmp_path) == ["a.b_8-1_4.ckpt"]

    def test_a_run_that_goes_on_keeps_it(self, tmp_path: Path) -> None:
        assert self.train(tmp_path, 2, 1) == ["a.b-2_4.ckpt"]
        self.train(tmp_path)
        assert self.train(tmp_path, 2, 1) == ["a.b_1-2_4.ckpt"]

    def test_so_does_a_second_call_with_the_same_callback(self, tmp_path: Path) -> None:
        saver, trained = ModelCheckpoint("n", tmp_path, CheckpointConfig(4)), model()
        for _ in range(2):
            trained.train(1, BATCHES, saver, progress=False)
        assert [path.name for path in saver.saved] == ["n-1_4.ckpt"]

    def test_one_is_kept_for_so_many_minutes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = CheckpointConfig(1, keep_checkpoint_max=0, keep_checkpoint_per_n_minutes=5)
        saver, now = ModelCheckpoint("n", tmp_path, config), [0.0]
        monkeypatch.setattr("paramesh.train.model_checkpoint.time.monotonic", lambda: now[0])

        def later(_: Any) -> None:
            now[0] += 120

        model().train(2, BATCHES, [saver, LambdaCallback(on_train_step_end=later)], progress=False)
        # Saved at minutes 0, 2, 4, 6, 8, 10, 12, 14.
        kept = ["n-1_1.ckpt", "n-1_4.ckpt", "n-2_3.ckpt", "n-2_4.ckpt"]
        assert [path.name for path in saver.saved] == kept == sorted(os.listdir(tmp_path))
        assert (
            CheckpointConfig(keep_checkpoint_per_n_minutes=5).keep_checkpoint_per_n_minutes is None
        )
        with pytest.raises(ValueError, match="per_n_minutes must be 0 or more, got -1"):
            CheckpointConfig(keep_checkpoint_per_n_minutes=-1)


def test_checkpoints_are_kept_and_training_goes_on_from_them(tmp_path: Path) -> None:
    config = CheckpointConfig(3, keep_checkpoint_max=2, append_info=["epoch_num", {"note": "x"}])
    saver = ModelCheckpoint("net", tmp_path / "made", config)
    whole = model()
    whole.train(2, BATCHES, saver, progress=False)
    names = sorted(os.listdir(tmp_path / "made"))
    assert names == ["net-2_2.ckpt", "net-2_4.ckpt"]  # 1_3 is gone
    assert saver.latest_ckpt_file_name == str(tmp_path / "made" / "net-2_4.ckpt")

    part = model()
    part.train(1, BATCHES, ModelCheckpoint("part", tmp_path), progress=False)
    resumed = model(seed=2)
    found = load_checkpoint(tmp_path / "part-1_4.ckpt", resumed.train_network)
    assert "moments.fc.weight" in found
    resumed.train(2, BATCHES, progress=False, initial_epoch=1)
    assert_same(resumed.train_network, whole.train_network)
    found = load_checkpoint(saver.latest_ckpt_file_name)
    assert (found["epoch_num"].asnumpy(), found["note"]) == (2, "x")


def test_summary_writes_event_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="the extra `summary` is not installed")
    written = importlib.import_module("tensorboardX.proto.event_pb2")
    model().train(1, BATCHES, Summary(tmp_path, 2, histograms_every=4), progress=False)
    (file,) = tmp_path.iterdir()
    found = []
    raw = file.read_bytes()
    while raw:
        size = int.from_bytes(raw[:8], "little")
        event = written.Event.FromString(raw[12 : 12 + size])
        found += [(event.step, v.tag, v.WhichOneof("value")) for v in event.summary.value]
        raw = raw[16 + size :]
    assert found[:2] == [(2, "loss", "simple_value"), (4, "loss", "simple_value")]
    assert (4, "fc.weight", "histo") in found
    assert len(found) == 2 + 4


def test_summary_without_its_library(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"paramesh\[summary\]"):
        model().train(1, BATCHES, Summary(tmp_path), progress=False)


def test_the_bar_shows_on_a_terminal(monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes stderr for a terminal
    monkeypatch.setenv("TERM", "xterm")
    model().train(1, BATCHES)
    err = capsys.readouterr().err
    assert "epoch 1/1: 4 steps in " in err
    assert "━" in err


# Ctrl-C.


def test_an_interrupt_in_a_step_finishes_it(tmp_path: Path, monkeypatch, capsys) -> None:
    """The signal comes while the third step runs, which is still done and saved."""
    monkeypatch.chdir(tmp_path)
    context.set_context(mode=context.PYNATIVE_MODE)
    m = model()
    calls = []

    def hook(cell, inputs):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    m.predict_network.register_forward_pre_hook(hook)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        m.train(5, BATCHES, progress=False)
    assert signal.getsignal(signal.SIGINT) is handler
    assert "Interrupted after step 3; saved paramesh-interrupted.safetensors" in (
        capsys.readouterr().err
    )
    found = load_checkpoint("paramesh-interrupted.safetensors")
    assert found["global_step"].asnumpy().tolist() == [3]
    assert found["step_num"].asnumpy() == 3
    m.predict_network._forward_pre_hooks.clear()
    reference = model()
    reference.train(1, BATCHES[:3], progress=False)
    for name, param in reference.train_network.parameters_dict().items():
        np.testing.assert_array_equal(found[name].asnumpy(), param.asnumpy(), err_msg=name)


def stopping(after: int):
    yield from BATCHES[:after]
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("callbacks", "where", "file"),
    [
        (["saver"], True, "made/net-interrupted.ckpt"),
        ([], "mine.safetensors", "mine.safetensors"),
        (["saver"], "mine.safetensors", "mine.safetensors"),
        ([], False, None),
    ],
)
def test_where_an_interrupt_saves(tmp_path: Path, monkeypatch, callbacks, where, file) -> None:
    monkeypatch.chdir(tmp_path)
    listed = [ModelCheckpoint("net", "made", CheckpointConfig(100)) for _ in callbacks]
    m = model()
    with pytest.raises(KeyboardInterrupt):
        m.train(2, lambda: stopping(2), listed, interrupt_checkpoint=where, progress=False)
    files = sorted(str(p) for kind in ("ckpt", "safetensors") for p in Path().rglob(f"*.{kind}"))
    assert files == ([file] if file else [])
    if file:
        assert load_checkpoint(file)["global_step"].asnumpy().tolist() == [2]


def test_nothing_is_saved_before_the_first_step(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        model().train(1, lambda: stopping(0), progress=False)
    assert list(tmp_path.iterdir()) == []


# Mixed precision.


@functools.cache
def reference_loss() -> float:
    reference = model(Normed)
    reference.train(2, BATCHES, progress=False)
    return reference.eval(BATCHES)["loss"]


@pytest.mark.parametrize(
    "more",
    [
        {"amp_level": "O2", "loss_scale_manager": DynamicLossScaleManager(2.0**8)},
        {"amp_level": "O3"},
        {"loss_scale_manager": DynamicLossScaleManager(2.0**8)},
        {
            "loss_scale_manager": FixedLossScaleManager(64.0, drop_overflow_update=False),
            "optimizer": {"loss_scale": 64.0},
        },
    ],
    ids=["O2", "O3", "dynamic", "fixed"],
)
def test_mixed_precision_and_loss_scales_learn_alike(more) -> None:
    m = model(Normed, **more)
    m.train(2, BATCHES, progress=False)
    assert all(p.dtype is not mstype.float16 for p in m.predict_network.get_parameters())
    expected, got = reference_loss(), m.eval(BATCHES)["loss"]
    np.testing.assert_allclose(got, expected, rtol=1e-5 if "amp_level" not in more else 0.05)
    assert m.predict(X).dtype is mstype.float32


def test_a_network_that_trains_itself() -> None:
    class Counter(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.n = Parameter(0.0)

        def construct(self, x):
            self.n.assign(self.n + x)
            return self.n * 2

    counter = Counter()
    Model(counter).train(1, [np.float32(1), np.float32(2)], progress=False)
    assert counter.n.asnumpy() == 3


ONE = np.ones((4, 2), np.float32)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            (ONE, ONE),
            r"_dataset is a tuple of 2 arrays, which is one batch: write \[\(x, y\)\] for",
        ),
        ((ONE,) * 3, r"_dataset is a tuple of 3 arrays, .* write \[batch\] for"),
        (
            [ONE, ONE],
            r"_dataset gave a batch of 1 arrays \(shape \(4, 2\)\), but with loss_fn a bat",
        ),
        ([(ONE,) * 3], "_dataset gave a batch of 3 arrays"),
        (3, "_dataset must be an iterable of batches, or a function that returns one, got int"),
    ],
)
def test_what_a_dataset_is_is_said(dataset: Any, message: str) -> None:
    net = nn.Dense(2, 2)
    model = Model(net, nn.MSELoss(), nn.SGD(net.trainable_params(), 0.1), metrics={"loss"})
    for run in (lambda: model.train(1, dataset, progress=False), lambda: model.eval(dataset)):
        with pytest.raises(TypeError, match=f"{message}.*A dataset is an iterable of batches"):
            run()


def test_the_facts_of_a_run_are_attributes_and_a_dictionary() -> None:
    seen: list[Any] = []

    class Look(train.Callback):
        def on_train_step_end(self, run_context: Any) -> None:
            facts = run_context.original_args()
            facts.mine = facts.get("mine", 0) + 1
            seen.append((facts.cur_step_num, facts["cur_step_num"], facts.get("nothing", 3)))
            seen.append(("mine" in facts, facts["mine"], facts.mine))
            with pytest.raises(AttributeError, match="'cur_step_nun'. Did you mean cur_step_num"):
                _ = facts.cur_step_nun

    net = nn.Dense(2, 2)
    model = Model(net, nn.MSELoss(), nn.SGD(net.trainable_params(), 0.1))
    model.train(1, [(ONE, ONE)] * 2, Look(), progress=False)
    assert seen == [(1, 1, 3), (True, 1, 1), (2, 2, 3), (True, 2, 2)]
