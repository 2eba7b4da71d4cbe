"""`sink_size`: epochs of another length than a pass through the dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh import dataset as ds
from paramesh import nn
from paramesh.tensor import Tensor
from paramesh.train import CheckpointConfig, LambdaCallback, Model, ModelCheckpoint
from paramesh.train.sunk_epochs import SunkEpochs, in_epochs_of
from type_checks import wrong

QUIET: Any = {"progress": False, "interrupt_checkpoint": False}


class Numbers:
    """Batches [10 * pass + number]; with a length or without."""

    def __init__(self, count: int, sized: bool) -> None:
        self.count, self.passes = count, 0
        if sized:
            self.get_dataset_size = lambda: count

    def set_epoch(self, epoch: int) -> None:
        self.passes = epoch

    def __iter__(self) -> Any:
        return iter([np.float32(10 * self.passes + i) for i in range(self.count)])


def epochs(data: Any, *numbers: int, seen: int = 0) -> list[list[float]]:
    found = []
    for number in numbers:
        data.set_epoch(number)
        data.pass_over(seen)
        found.append([float(batch[0]) for batch in data.create_tuple_iterator()])
    return found


@pytest.mark.parametrize("sized", [True, False])
def test_an_epoch_goes_on_where_the_last_one_ended(sized: bool) -> None:
    expected = [[10, 11], [12, 20], [21, 22], [30, 31]]
    assert epochs(SunkEpochs(Numbers(3, sized), 2), 1, 2, 3, 4) == expected
    assert epochs(SunkEpochs(Numbers(3, sized), 7), 1, 2) == [
        [10, 11, 12, 20, 21, 22, 30],
        [31, 32, 40, 41, 42, 50, 51],
    ]
    # A run that is resumed begins anywhere.
    assert epochs(SunkEpochs(Numbers(3, sized), 2), 3, 4) == expected[2:]
    assert epochs(SunkEpochs(Numbers(3, sized), 2), 2, seen=1) == [[20]]


def test_a_pass_is_an_epoch_of_its_length_and_of_minus_one() -> None:
    data = Numbers(3, True)
    assert in_epochs_of(data, 3) is in_epochs_of(data, -1) is data
    assert not hasattr(in_epochs_of(data, 2), "load_state")


def pipeline() -> Any:
    ds.config.set_seed(3)
    numbers = np.arange(24, dtype=np.float32).reshape(12, 2)
    data = ds.NumpySlicesDataset((numbers, numbers[:, :1]), ["x", "y"], shuffle=True)
    return data.batch(4)


def trained(folder: Path, epoch: int, resume: Path | None = None) -> tuple[list[Any], Any]:
    net = nn.Dense(2, 1, weight_init="ones")
    model = Model(net, nn.MSELoss(), nn.SGD(net.trainable_params(), 1e-3))
    seen: list[Any] = []
    noting = LambdaCallback(
        on_train_step_end=lambda run: seen.append(
            (run.original_args().cur_epoch_num, run.original_args().cur_step_num)
        ),
        on_train_begin=lambda run: seen.append(
            run.original_args().batch_num if run.original_args().dataset_sink_mode else "not sunk"
        ),
    )
    saver = ModelCheckpoint("net", folder, CheckpointConfig(1, keep_checkpoint_max=0))
    model.train(epoch, pipeline(), [noting, saver], True, sink_size=2, resume=resume, **QUIET)
    return seen, net.weight.asnumpy()


def test_training_has_epochs_times_sink_size_steps_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    seen, weight = trained(tmp_path, 4)
    steps = [(1, 1), (1, 2), (2, 3), (2, 4), (3, 5), (3, 6), (4, 7), (4, 8)]
    assert seen == [2, *steps]
    for at, begun in (("2_1", 3), ("2_2", 4)):
        later, end = trained(tmp_path / at, 4, tmp_path / f"net-{at}.ckpt")
        assert later == [2, *steps[begun:]]
        assert end.tobytes() == weight.tobytes()


def test_sink_size_counts_in_sink_mode_alone() -> None:
    model = Model(Loss())
    passes = [(Tensor(np.ones(2, np.float32)),)] * 3
    seen: list[int] = []
    noting = LambdaCallback(on_train_step_end=lambda run: seen.append(1))
    model.train(2, passes, noting, sink_size=1, **QUIET)
    assert len(seen) == 6
    for given, text in (
        (0, "-1, or at least 1, got 0"),
        (-2, "at least -1"),
        ("2", "must be an int"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"sink_size must be {text}|{text}"):
            model.train(1, passes, None, True, wrong(given), **QUIET)


class Loss(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        return x.sum()
