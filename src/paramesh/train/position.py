"""Where a training run is: what a checkpoint holds besides Parameters, so that a run can go on.

Entries of `append_dict`, JSON in a str, so that loading into a network passes over them.

Glossary
    position    the epoch, the batches of it that were seen, and the steps since the first one
    random      the default generator: its seed, and the four words of its state
    data        the state of a dataset of `paramesh.dataset`: its seed, and where its iterator is
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from paramesh import context, random
from paramesh._compat.jax import process_allgather
from paramesh.array_types import Json
from paramesh.checkpoint.opening import open_source
from paramesh.errors import CheckpointError
from paramesh.parallel.processes.synchronize import wait_for_programs
from paramesh.train import batches
from paramesh.train.batches import Dataset
from paramesh.train.callbacks import Facts, step_in_epoch

if TYPE_CHECKING:
    from paramesh.ps.integration.step_synchronization import StepSynchronizer

# They begin with `records.OWN`, so that `load_checkpoint` leaves them to this module.
POSITION = "paramesh.position"
RANDOM = "paramesh.random"
DATA = "paramesh.dataset"


@dataclass(frozen=True)
class Position:
    """A place between two steps of a run.

    Args:
        epoch: the one that was going on, from 1.
        step_in_epoch: batches of it that were seen.
        step: steps since the run's first one.
        batches: of one epoch; None if the dataset does not know.
    """

    epoch: int
    step_in_epoch: int
    step: int
    batches: int | None


def position_entries(args: Facts) -> dict[str, str]:
    """The entries for a checkpoint of the training Cell, from the facts of the run."""
    here = Position(args.cur_epoch_num, step_in_epoch(args), args.cur_step_num, args.batch_num)
    return {POSITION: json.dumps(asdict(here)), **random_entries(), **_data_entries(args, here)}


def _data_entries(args: Facts, here: Position) -> dict[str, str]:
    """The entry with the state of the dataset, if it has one."""
    dataset = args.get("train_dataset")
    if dataset is None or not callable(getattr(dataset, "save_state", None)):
        return {}
    # Batches may have been taken ahead of their step: what counts is what was trained on.
    state = dataset.save_state() | {"epoch": max(here.epoch, 1) - 1, "row": here.step_in_epoch}
    return {DATA: json.dumps(state)}


def restore_data(path: Path, dataset: Any, start: Position) -> None:
    """Put the dataset where it was when the checkpoint was made; one without a state stays.

    Raises:
        CheckpointError: the file is damaged, or its dataset was another one.
    """
    if not callable(getattr(dataset, "load_state", None)):
        return
    with open_source(path) as source:
        text = source.appended.get(DATA)
    if text is None:
        return
    state = _object(path, DATA, text) | {"epoch": start.epoch - 1, "row": start.step_in_epoch}
    try:
        dataset.load_state(state)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"Checkpoint '{path}', train_dataset: {error}") from None


def random_entries() -> dict[str, str]:
    """The entry with the default generator's state; waits for the step that moves it."""
    generator = random.default_generator()
    words = [int(word) for word in generator.get_state().asnumpy()]
    return {RANDOM: json.dumps({"seed": generator.initial_seed(), "state": words})}


def read_position(path: Path) -> Position:
    """The position in a checkpoint, whose entries are checked both.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, or no run can go on from it.
    """
    with open_source(path) as source:
        appended = dict(source.appended)
    if POSITION not in appended or RANDOM not in appended:
        raise CheckpointError(
            f"Checkpoint '{path}' does not say where its run was, so that no run can go on from "
            "it at the same step. ModelCheckpoint (without saved_network), CheckpointManager as a "
            "callback, and Ctrl-C in Model.train save that. To begin an epoch with its values: "
            "load_checkpoint(path, model.train_network), and initial_epoch."
        )
    random_state(path, appended[RANDOM])
    found = _object(path, POSITION, appended[POSITION])
    numbers: list[Any] = [found.get(key) for key in ("epoch", "step_in_epoch", "step")]
    count: Json = found.get("batches")
    if not all(map(_natural, numbers)) or not (count is None or _natural(count)):
        raise CheckpointError(f"Checkpoint '{path}': its entry '{POSITION}' is {found}.")
    epoch, step_in_epoch, step = numbers
    return Position(max(epoch, 1), step_in_epoch, step, count)


def resumed(resume: object, epoch: int, initial_epoch: int, count: int | None) -> Position:
    """Where a run goes on that `Model.train(resume=...)` asks for; nothing is loaded yet.

    Args:
        resume: the path of the checkpoint.
        epoch: the last one that is asked for.
        initial_epoch: has to be 0.
        count: batches of one epoch of the dataset; None if it does not know.

    Raises:
        TypeError, ValueError: an argument that does not go with the others, or with the checkpoint.
        FileNotFoundError, CheckpointError: as `read_position`.
    """
    if not isinstance(resume, str | os.PathLike):
        raise TypeError(f"Model.train: resume must be the path of a checkpoint, got {resume!r}.")
    if initial_epoch:
        raise ValueError(
            f"Model.train: resume and initial_epoch={initial_epoch} are both given; the checkpoint "
            "says where its run was, leave initial_epoch out."
        )
    found = read_position(Path(resume))
    if found.epoch > epoch:
        raise ValueError(
            f"Model.train: '{os.fspath(resume)}' was made in epoch {found.epoch}, and epoch "
            f"{epoch} is the last; epoch counts from the first one of the run."
        )
    if count is not None and found.batches is not None and count != found.batches:
        raise ValueError(
            f"Model.train: train_dataset has {count} batches, that of '{os.fspath(resume)}' had "
            f"{found.batches}; to go on at the same step it must be the same."
        )
    over = found.step_in_epoch == (found.batches if count is None else count)
    return Position(found.epoch + 1, 0, found.step, count) if over else found


def passed_over(start: Position, pace: StepSynchronizer, epoch: int, dataset: Dataset) -> Position:
    """Where a restarted worker continues; the steps before are marked as passed in its pace.

    Args:
        start: where the run began.
        pace: of the worker (see `ps.integration.step_synchronization`).
        epoch: the last one that is asked for.
        dataset: of the run; one that does not know its length is counted by a pass through it.
    """
    count = batches.count(dataset)
    if count is None and epoch > start.epoch:
        count = sum(1 for _ in batches.batches(dataset, "train_dataset"))
    first = start.step_in_epoch + pace.passed
    if count is None:  # one epoch alone
        pace.pass_over(pace.passed)
        return Position(start.epoch, first, start.step + first - start.step_in_epoch, None)
    most = (epoch - start.epoch + 1) * count
    first = min(first, most)
    steps = first - start.step_in_epoch
    pace.pass_over(steps)
    return Position(start.epoch + first // count, first % count, start.step + steps, count)


def check_same(path: str | os.PathLike[str] | None, start: Position) -> None:
    """Refuse processes of one program that go on from different places.

    Each has looked for the newest checkpoint itself, and they would end with a mixture of two
    states.

    Raises:
        CheckpointError: they do.
    """
    together = context.get_auto_parallel_context("parallel_mode") != "stand_alone"
    if not together or jax.process_count() == 1:
        return
    name = None if path is None else Path(path).name
    mine = np.frombuffer(hashlib.sha256(f"{name} {start}".encode()).digest()[:8], np.uint8)
    wait_for_programs()
    all_of_them = np.asarray(process_allgather(mine))
    if (all_of_them != all_of_them[0]).any():
        raise CheckpointError(
            f"Model.train: this process would go on from {path or 'the start'}, and another one "
            "from elsewhere. All processes have to see the same checkpoints, and give the same "
            "`resume`."
        )


def random_state(path: Path, text: object) -> tuple[int, list[int]]:
    """(seed, words of the state) of an entry.

    Raises:
        CheckpointError: it is something else.
    """
    found = _object(path, RANDOM, text)
    seed: Json = found.get("seed")
    words: Json = found.get("state")
    fits = isinstance(words, list) and len(words) == 4
    if not fits or not all(_natural(w) and w < 2**32 for w in words) or not _natural(seed):
        raise CheckpointError(f"Checkpoint '{path}': its entry '{RANDOM}' is {found}.")
    return seed, words


def restore_random(path: Path) -> bool:
    """Put the default generator where it was when the checkpoint was made; False: it says nothing.

    Raises:
        CheckpointError: the file is damaged.
    """
    with open_source(path) as source:
        text = source.appended.get(RANDOM)
    if text is None:
        return False
    seed, words = random_state(path, text)
    generator = random.default_generator()
    generator.manual_seed(seed)
    generator.set_state(np.array(words, np.uint32))
    return True


def _object(path: Path, entry: str, text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"Checkpoint '{path}': its entry '{entry}' is not a JSON object.")
    return found


def _natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
