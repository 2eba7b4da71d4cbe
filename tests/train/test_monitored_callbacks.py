"""EarlyStopping, ReduceLROnPlateau and History watch a value and act on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paramesh import Tensor, nn, train
from paramesh.train.callbacks import Facts, RunContext
from type_checks import wrong


class Follower:
    """Gives a callback the values of one epoch after another."""

    def __init__(self, callback: train.Callback) -> None:
        self.net = nn.Dense(1, 1)
        self.optimizer = nn.SGD(self.net.trainable_params(), 1.0)
        self.args = Facts(
            train_network=self.net, optimizer=self.optimizer, cur_epoch_num=0, net_outputs=0.0
        )
        self.context = RunContext(self.args)
        self.callback = callback
        callback.on_train_begin(self.context)

    def epochs(self, *values: float, name: str = "loss") -> list[float]:
        """The learning rate after each epoch, up to the one that asks for a stop."""
        rates = []
        for value in values:
            self.args.cur_epoch_num += 1
            self.args.eval_results = {name: value}
            self.callback.on_train_epoch_end(self.context)
            rates.append(float(self.optimizer.learning_rate.asnumpy()))
            if self.context.get_stop_requested():
                break
        self.callback.on_train_end(self.context)
        return rates


def test_early_stopping_waits_so_many_epochs() -> None:
    stopping = train.EarlyStopping(patience=2)
    follower = Follower(stopping)
    assert len(follower.epochs(5, 4, 4, 3, 3, 3, 1)) == 6
    assert stopping.stopped_epoch == 6


def test_early_stopping_of_what_grows(capsys: Any) -> None:
    follower = Follower(train.EarlyStopping("acc", patience=1, min_delta=0.1, verbose=True))
    assert len(follower.epochs(0.1, 0.5, 0.55, 0.9, name="acc")) == 3
    assert capsys.readouterr().out == "Epoch 3: early stopping.\n"


def test_early_stopping_gives_the_best_weights_back() -> None:
    callback = train.EarlyStopping(patience=1, restore_best_weights=True)
    follower = Follower(callback)
    for value, weight in ((2.0, 7.0), (1.0, 8.0), (3.0, 9.0)):
        follower.net.weight.set_data(Tensor([[weight]]))
        follower.args.cur_epoch_num += 1
        follower.args.eval_results = {"loss": value}
        callback.on_train_epoch_end(follower.context)
    assert follower.context.get_stop_requested()
    assert follower.net.weight.asnumpy().item() == 8


def test_the_rate_falls_on_a_plateau(capsys: Any) -> None:
    callback = train.ReduceLROnPlateau(
        factor=0.5, patience=2, min_delta=0, cooldown=1, min_lr=0.3, verbose=True
    )
    rates = Follower(callback).epochs(3, 2, 2, 2, 2, 2, 2, 2, 2)
    np.testing.assert_allclose(rates, [1, 1, 1, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3])
    assert capsys.readouterr().out.startswith("Epoch 4: the learning rate becomes 0.5.")


def test_without_the_value_the_log_says_so(caplog: Any) -> None:
    assert Follower(train.EarlyStopping("recall")).epochs(1.0) == [1]
    assert "there is no 'recall' in the results ['loss'] of this epoch" in caplog.text


def test_history_of_a_training() -> None:
    history = train.History()
    net = nn.Dense(2, 1)
    optimizer = nn.SGD(net.trainable_params(), 0.0)
    model = train.Model(net, nn.MSELoss(), optimizer, metrics={"loss"})
    data = [(np.ones((2, 2), np.float32), np.ones((2, 1), np.float32))]
    model.train(2, data, [history], valid_dataset=data, progress=False)
    assert history.epoch == {"epoch": [1, 2]}
    losses = history.history["net_output"]
    assert losses[0] == losses[1] == pytest.approx(history.history["loss"][0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train.EarlyStopping(mode="up"), "mode must be one of"),
        (lambda: train.EarlyStopping(patience=-1), "patience must be an int from 0"),
        (lambda: train.EarlyStopping(wrong(3)), "monitor must be a str"),
        (lambda: train.ReduceLROnPlateau(factor=1), r"factor must be in \[0, 1\)"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_history_by_the_former_names_of_moments() -> None:
    history = train.History()
    facts = Facts(cur_epoch_num=4, net_outputs=Tensor(2.0), eval_results={"mae": 6.5})
    run = train.RunContext(facts)
    history.begin(run)
    history.epoch_end(run)
    facts.mode = "eval"
    history.begin(run)
    history.epoch_end(run)
    assert (history.epoch, history.history) == ({"epoch": [4]}, {"net_output": [2], "mae": [6.5]})
