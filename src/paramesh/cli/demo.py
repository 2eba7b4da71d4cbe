"""`paramesh demo`: LeNet-5 learns handwritten digits, is saved, and loaded into a fresh network."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from paramesh import nn, optim
from paramesh.array_types import HostArray
from paramesh.checkpoint import load_checkpoint, load_param_into_net, save_checkpoint
from paramesh.cli import show
from paramesh.cli.device_picture import draw_devices, held_text
from paramesh.cli.devices import cut, over_devices
from paramesh.cli.digits import DataError, DemoError, Digits, mnist, scikit_digits
from paramesh.cli.lenet import LeNet5
from paramesh.nn.cell import Cell
from paramesh.sampling.seed import set_seed
from paramesh.state import placement
from paramesh.tensor.base import Tensor
from paramesh.train import Callback, Model, RunContext

_BATCH = 32
_RATE = 2e-3
_SHIFT = 2
_AT_ONCE = 512


@dataclass(frozen=True)
class Settings:
    """What the command line was given.

    Args:
        data: the folder of MNIST's files; None for scikit-learn's digits.
        epochs: times through the data; None for 20, or 5 with `data`.
        seed: decides the split, the parameters and the order of images.
        out: folder for the pictures and the checkpoint.
        devices: over how many the network is cut; None for one.
        quiet: show no progress.
    """

    data: Path | None = None
    epochs: int | None = None
    seed: int = 0
    out: Path = Path("demo")
    devices: int | None = None
    quiet: bool = False


@dataclass(frozen=True)
class Report:
    """What a run has come to: the loss of each step, and how many test digits were read right."""

    losses: list[float]
    accuracy: float
    restored_accuracy: float
    recipes_run: int


class Batches:
    """Training data: every iteration is the next epoch, in another order.

    All images of a batch are moved by up to 2 pixels, the same way. Images that do not fill a batch
    wait for another epoch, so that all batches have one shape.
    """

    def __init__(self, images: HostArray, labels: HostArray, seed: int) -> None:
        self._images, self._labels = images, labels
        self._random = np.random.default_rng((seed, 1))
        self._size = min(_BATCH, len(labels))

    def __len__(self) -> int:
        return len(self._labels) // self._size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self._random.permutation(len(self._labels))
        for start in range(0, len(self) * self._size, self._size):
            here = order[start : start + self._size]
            shift = self._random.integers(-_SHIFT, _SHIFT, 2, endpoint=True)
            images = np.roll(self._images[here], shift, axis=(2, 3))
            yield Tensor(images), Tensor(self._labels[here])


class Losses(Callback):
    """Keeps the loss of each training step; waits for them at the end of an epoch only."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self._epoch: list[Tensor] = []

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Keep the loss, which may still be being computed."""
        self._epoch.append(run_context.original_args().net_outputs)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Read the losses."""
        self.losses += [float(loss.asnumpy()) for loss in self._epoch]
        self._epoch.clear()


class RecipeCounter:
    """How many recipes were run."""

    def __init__(self) -> None:
        self.runs = 0


@contextmanager
def counted_recipes() -> Generator[RecipeCounter]:
    """Count the recipes that are run in the `with` block, in the parallel mode that is set."""
    counter = RecipeCounter()
    place: Any = placement.current()
    materialise = place.materialise

    def counted(params: Sequence[Any], recipes: Sequence[Any]) -> list[Any]:
        counter.runs += len(recipes)
        return materialise(params, recipes)

    place.materialise = counted
    try:
        yield counter
    finally:
        del place.materialise


def run_demo(settings: Settings, console: Console | None = None) -> Report:
    """Run the whole demonstration.

    Args:
        settings: what the command line was given.
        console: where to print; None for stdout.

    Raises:
        DemoError: the data cannot be used, the files cannot be written, or an extra is missing.
    """
    show.need_matplotlib()
    console = console or Console(highlight=False, soft_wrap=True)
    if settings.devices is None:
        return _run(settings, console)
    with over_devices(settings.devices):
        return _run(settings, console)


def _run(settings: Settings, console: Console) -> Report:
    started = time.perf_counter()
    digits = scikit_digits(settings.seed) if settings.data is None else mnist(settings.data)
    epochs = settings.epochs or (20 if settings.data is None else 5)
    _make_folder(settings.out)
    console.print(
        f"{digits.name}: {len(digits.train_labels):,} images to learn from, "
        f"{len(digits.test_labels):,} to test with.\n",
        markup=False,
    )

    set_seed(settings.seed)
    net = _network(settings)
    console.print(show.parameter_table(net.get_parameters()))
    console.print(show.allocation(net.get_parameters()) + "\n")

    batches = Batches(digits.train_images, digits.train_labels, settings.seed)
    interrupted = settings.out / "interrupted.safetensors"
    losses, step = train(net, batches, epochs, interrupted, not settings.quiet)
    if settings.devices is not None:
        _show_devices(net, step, settings, console)
    predictions = predict(net, digits.test_images)
    accuracy = _accuracy(predictions, digits)
    console.print(f"mean loss of the last epoch: {np.mean(losses[-len(batches) :]):.4f}")
    console.print(f"test accuracy: {accuracy:.2%}\n")

    checkpoint, picture = settings.out / "lenet5.safetensors", settings.out / "digits.png"
    _save(net, checkpoint)
    with counted_recipes() as counter:
        fresh = _network(settings)
        load_param_into_net(fresh, load_checkpoint(str(checkpoint)))
        restored = predict(fresh, digits.test_images)
    restored_accuracy = _accuracy(restored, digits)
    if not np.array_equal(restored, predictions):
        raise DemoError(
            f"{checkpoint}: the network loaded from it reads the test digits otherwise than the "
            f"trained one ({restored_accuracy:.2%} right); this is a bug of paramesh"
        )
    console.print("A fresh network, loaded from the checkpoint:")
    console.print(f"  recipes run = {counter.runs}")
    console.print(f"  test accuracy: {restored_accuracy:.2%}, the same\n")

    show.draw(picture, losses, len(batches), digits.test_images, digits.test_labels, predictions)
    for what, path in (("checkpoint", checkpoint), ("picture", picture)):
        console.print(f"{what}: {path}", markup=False)
    console.print(f"{time.perf_counter() - started:.1f} s in all")
    return Report(losses, accuracy, restored_accuracy, counter.runs)


def _network(settings: Settings) -> LeNet5:
    net = LeNet5()
    if settings.devices is not None:
        cut(net, settings.devices)
    return net


def _show_devices(net: LeNet5, step: Any, settings: Settings, console: Console) -> None:
    console.print(net.layout_table())
    table = step.layout_table()
    console.print(held_text(table, [p.name for p in net.get_parameters()]))
    picture = settings.out / "devices.png"
    draw_devices(picture, table)
    console.print(f"Who holds what: {picture}\n", markup=False)


def train(
    net: LeNet5, batches: Batches, epochs: int, interrupted: Path, progress: bool = True
) -> tuple[list[float], Cell]:
    """Train with Adam, whose rate falls along half a cosine.

    Args:
        net: the network.
        batches: the data.
        epochs: times through it.
        interrupted: where Ctrl-C leaves a checkpoint.
        progress: show it.

    Returns:
        The loss of each step, and the training Cell.
    """
    rates = optim.cosine_decay_lr(0.0, _RATE, epochs * len(batches), len(batches), epochs)
    optimizer = optim.Adam(net.trainable_params(), learning_rate=rates)
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    curve = Losses()
    model = Model(net, loss_fn, optimizer)
    model.train(
        epochs,
        batches,
        callbacks=[curve],
        progress=progress,
        interrupt_checkpoint=interrupted,
    )
    net.set_train(False)
    return curve.losses, model.train_network


def predict(net: LeNet5, images: HostArray) -> Any:
    """The digit that the network reads in each image (n, 1, 32, 32): (n,) ints."""
    parts = [images[at : at + _AT_ONCE] for at in range(0, len(images), _AT_ONCE)]
    missing = -len(parts[-1]) % placement.current().count  # devices share a batch evenly
    parts[-1] = np.pad(parts[-1], ((0, missing), (0, 0), (0, 0), (0, 0)))
    read = [net(Tensor(part)).asnumpy().argmax(axis=1) for part in parts]
    return np.concatenate(read)[: len(images)]


def _accuracy(predictions: HostArray, digits: Digits) -> float:
    return float((predictions == digits.test_labels).mean())


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {path}: cannot be made: {error.strerror}") from error


def _save(net: LeNet5, path: Path) -> None:
    try:
        save_checkpoint(net, str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
