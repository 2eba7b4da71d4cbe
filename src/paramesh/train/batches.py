"""Batches: what a training loop takes from a dataset.

A dataset is anything that can be iterated once for each epoch: a dataset of `paramesh.dataset`, a
list of batches, a loader, a MindSpore dataset (`create_tuple_iterator`), or a function that returns
an iterable. A batch is a tuple, list or dict (its values, in order) of arrays or Tensors, or one of
these alone.

A dataset that shuffles should do so from a seed and the epoch, so that a run can be resumed. If it
has a method `set_epoch`, that is called before each pass with the number of the epoch, from 1.
While rows of tables on the parameter server are cached, a batch is taken before the step on the one
before it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from paramesh.tensor.base import Tensor


class TupleDataset(Protocol):
    """A dataset of MindSpore's kind."""

    def create_tuple_iterator(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """One pass."""
        ...


class IndexedDataset(Protocol):
    """Batches by number, from 0 until an IndexError."""

    def __getitem__(self, index: int, /) -> Any: ...


#: What can be iterated once for each epoch.
Dataset = Iterable[Any] | Callable[[], Iterable[Any]] | TupleDataset | IndexedDataset

#: What an error says besides.
WHAT_IT_IS = (
    "A dataset is an iterable of batches, one pass for each epoch: a list such as [(x0, y0), "
    "(x1, y1)], a loader, or a function that returns one."
)


def check_dataset(dataset: object, epochs: int, argument: str) -> None:
    """Refuse what cannot be iterated as often as needed.

    Raises:
        TypeError: it cannot be iterated, or is one batch; ValueError: only once.
    """
    if isinstance(dataset, tuple) and dataset and all(map(_is_array, dataset)):
        one = "[(x, y)]" if len(dataset) == 2 else "[batch]"
        raise TypeError(
            f"{argument} is a tuple of {len(dataset)} arrays, which is one batch: write {one} for "
            f"a dataset of this batch alone. {WHAT_IT_IS}"
        )
    if hasattr(dataset, "create_tuple_iterator") or callable(dataset):
        return
    if not hasattr(dataset, "__iter__") and not hasattr(dataset, "__getitem__"):
        raise TypeError(
            f"{argument} must be an iterable of batches, or a function that returns one, "
            f"got {type(dataset).__name__}. {WHAT_IT_IS}"
        )
    if epochs > 1 and isinstance(dataset, Iterator):
        raise ValueError(
            f"{argument} is a {type(dataset).__name__}, which is used up after one pass, but "
            f"{epochs} were asked for. Give a list, a loader, or the function that makes it "
            "(without calling it)."
        )


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray | jax.Array | Tensor)


def set_epoch(dataset: Dataset, epoch: int) -> None:
    """Tell a dataset that has a method `set_epoch` which epoch begins, from 1."""
    method = getattr(dataset, "set_epoch", None)
    if callable(method):
        method(epoch)


def batches(dataset: Dataset, argument: str, seen: int = 0) -> Iterator[tuple[Any, ...]]:
    """The batches of one pass, each as a tuple of Tensors, without the first `seen`.

    Raises:
        ValueError: there is none, or fewer than `seen`.
    """
    source: Any = dataset
    given = 0
    if hasattr(dataset, "pass_over"):
        # A dataset of paramesh.dataset goes to the very batch, and gives Tensors without a copy.
        source.pass_over(seen)
        given = seen
        source = source.create_tuple_iterator(num_epochs=1)
    elif hasattr(dataset, "create_tuple_iterator"):
        # Stand-ins for datasets may have the arguments of MindSpore 1.x, which gives Tensors.
        takes = inspect.signature(source.create_tuple_iterator).parameters
        arrays = {"output_numpy": True} if "output_numpy" in takes else {}
        source = source.create_tuple_iterator(num_epochs=1, **arrays)
    elif not hasattr(dataset, "__iter__") and callable(dataset):
        source = dataset()
    for batch in source:
        given += 1
        if given > seen:
            yield as_inputs(batch)
    if not given:
        raise ValueError(f"{argument} gave no batch. Is it empty, or used up by an earlier pass?")
    if given < seen:
        raise ValueError(
            f"{argument} gave {given} batches, but the checkpoint was made after batch {seen} of "
            "its epoch; to go on at the same step it must give the same batches."
        )
    if not hasattr(dataset, "pass_over"):
        _reset(dataset)


def _reset(dataset: Dataset) -> None:
    """Begin a stand-in for a dataset anew after an epoch, as MindSpore does."""
    reset = getattr(dataset, "reset", None)
    if not callable(reset) or not hasattr(dataset, "create_tuple_iterator"):
        return
    needed = [
        parameter
        for parameter in inspect.signature(reset).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if not needed:
        reset()


def looking_ahead(
    source: Iterator[tuple[Any, ...]], wanted: Callable[[], bool]
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...] | None]]:
    """(batch, the one after it); the latter None where it is not `wanted`, or there is none.

    An error of the source comes when it is the turn of the batch that it was about.
    """
    held: list[tuple[Any, ...]] = []
    failed: Exception | None = None
    while failed is None:
        if held:
            batch = held.pop()
        else:
            try:
                batch = next(source)
            except StopIteration:
                return
        if wanted():
            try:
                held.append(next(source))
            except StopIteration:
                pass  # the next round ends it
            except Exception as error:
                failed = error
        yield batch, held[0] if held else None
    raise failed


def count(dataset: Dataset) -> int | None:
    """The number of batches of one pass, if the dataset knows it."""
    size = getattr(dataset, "get_dataset_size", None)
    if size is not None:
        return int(size())
    try:
        return len(dataset)  # type: ignore[arg-type] - asked for, not known
    except TypeError:
        return None


def as_inputs(batch: object) -> tuple[Any, ...]:
    """A batch as the arguments of a Cell."""
    if isinstance(batch, Mapping):
        return tuple(map(_tensor, batch.values()))
    if isinstance(batch, tuple | list):
        return tuple(map(_tensor, batch))
    return (_tensor(batch),)


def _tensor(value: Any) -> Any:
    if isinstance(value, Tensor) or value is None:
        return value
    if isinstance(value, tuple | list) and any(
        isinstance(v, Tensor | np.ndarray | jax.Array) for v in value
    ):
        return type(value)(map(_tensor, value))
    if isinstance(value, jax.Array) or hasattr(value, "__dlpack__"):
        return Tensor(value)  # an array of numpy, or of another library, such as torch
    return Tensor(np.asarray(value))
