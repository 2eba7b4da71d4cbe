"""Datasets in Model: trained on, evaluated, and resumed at the very batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh import dataset as ds
from paramesh import nn, optim, save_checkpoint, set_seed
from paramesh.errors import CheckpointError
from paramesh.train import LambdaCallback, Model
from paramesh.train.position import position_entries


class Rows:
    def __init__(self) -> None:
        self.x = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)

    def __getitem__(self, index: int) -> Any:
        return self.x[index], np.int32(index % 3)

    def __len__(self) -> int:
        return 20


class Noise:
    def __init__(self, rng: np.random.Generator | None = None) -> None:
        self.rng = rng

    def seeded(self, rng: np.random.Generator) -> Noise:
        return Noise(rng)

    def __call__(self, x: Any) -> Any:
        assert self.rng is not None
        return (x + self.rng.standard_normal(x.shape)).astype(np.float32)


def data(size: int = 4) -> Any:
    return ds.GeneratorDataset(Rows(), ["x", "y"]).map(Noise(), "x").shuffle(8).batch(size)


def model() -> Model:
    set_seed(1)
    net = nn.Dense(4, 3)
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    return Model(net, loss, optim.SGD(net.trainable_params(), 0.1), metrics={"accuracy"})


def train(path: Path, stop: int = 0, dataset: Any = None, **arguments: Any) -> list[float]:
    losses: list[float] = []

    def step(run: Any) -> None:
        args = run.original_args()
        losses.append(float(args.net_outputs))
        if args.cur_step_num == stop:
            save_checkpoint(args.train_network, str(path), append_dict=position_entries(args))
            run.request_stop()

    callback = LambdaCallback(on_train_step_end=step)
    model().train(3, dataset or data(), [callback], progress=False, **arguments)
    return losses


@pytest.fixture(autouse=True)
def settings():
    yield
    ds.config.reset()


@pytest.mark.parametrize("seed", [5, None])
def test_a_resumed_run_goes_on_with_the_rows_that_would_have_come(
    seed: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "net.safetensors"
    if seed is not None:
        ds.config.set_seed(seed)
    whole = data()
    state = whole.save_state()
    expected = train(path, dataset=whole)
    again = data()
    again.load_state(state)
    begun = train(path, stop=7, dataset=again)
    ds.config.set_seed(99)  # the checkpoint's seed counts
    assert begun + train(path, resume=str(path)) == expected
    assert len(begun) == 7


def test_another_dataset_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    train(path, stop=7)
    other = data().map(lambda x: x, "x")
    with pytest.raises(CheckpointError, match=r"train_dataset: .* is that of another pipeline"):
        train(path, resume=str(path), dataset=other)


def test_evaluates_and_trains_with_sinking() -> None:
    tested = model()
    tested.train(1, data(), dataset_sink_mode=True, progress=False)
    accuracy = tested.eval(data(), dataset_sink_mode=True)["accuracy"]
    assert 0 <= accuracy <= 1


def test_importing_paramesh_imports_no_dataset() -> None:
    code = (
        "import sys, paramesh; assert not [m for m in sys.modules if 'paramesh.dataset' in m];"
        "import paramesh.dataset, paramesh.mindrecord;"
        "assert not [m for m in ('PIL', 'msgpack') if m in sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mindspores_paths_reach_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import mindspore.dataset as ds\n"
        "import mindspore.dataset.engine as de\n"
        "from mindspore.dataset import config\n"
        "from mindspore.dataset.engine.datasets import MnistDataset\n"
        "from mindspore.mindrecord import FileWriter\n"
        "import paramesh.dataset\n"
        "assert ds.GeneratorDataset is de.GeneratorDataset\n"
        "assert ds.GeneratorDataset is paramesh.dataset.GeneratorDataset\n"
        "assert config.set_seed is paramesh.dataset.config.set_seed\n"
        "from mindspore import dtype\n"
        "class Rows:\n"
        "    def __getitem__(self, index): return str(dtype.int32), index\n"
        "    def __len__(self): return 4\n"
        "data = ds.GeneratorDataset(Rows(), ['t', 'x'], shuffle=False, num_parallel_workers=2)\n"
        "print([(str(t), int(x)) for t, x in data.create_tuple_iterator(num_epochs=1)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "paramesh", "run", str(script)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "[('Int32', 0), ('Int32', 1), ('Int32', 2), ('Int32', 3)]" in done.stdout
