"""Model: a network, its loss and its optimizer, trained, evaluated and used.

Source: MindSpore's `mindspore.train.Model`. Losses stay on the device until a callback looks at
them, so that the next step is on its way while the last one is computed.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optax

from paramesh import context, lazy_names
from paramesh.array_types import Tree
from paramesh.checkpoint import load_checkpoint
from paramesh.context import ParallelMode as ParallelMode
from paramesh.errors import ParameterStateError
from paramesh.nn.cell import Cell
from paramesh.optim import LossScaleManager, Optimizer
from paramesh.optim.from_optax import from_optax, is_transformation
from paramesh.state import placement
from paramesh.telemetry.phases import waiting_for
from paramesh.tensor.argument_types import TensorFunction
from paramesh.train import amp, batches, workers
from paramesh.train.batches import Dataset
from paramesh.train.callbacks import Callback, Callbacks, Facts, RunContext, as_callbacks
from paramesh.train.cells import WithEvalCell
from paramesh.train.evaluation import Pass, with_mean_loss
from paramesh.train.interrupts import Interrupts
from paramesh.train.metrics import Metric, Metrics, get_metrics
from paramesh.train.position import (
    Position,
    check_same,
    passed_over,
    restore_data,
    restore_random,
    resumed,
)
from paramesh.train.progress import progress_callback
from paramesh.train.sunk_epochs import in_epochs_of
from paramesh.train.traced_layouts import traced_layouts
from paramesh.train.unplanned_saves import current_folder, save_at_error, save_at_interrupt
from paramesh.train.untrained import warn_without_optimizer
from paramesh.train.watching import Watching, examples_of

if TYPE_CHECKING:
    from paramesh.ps.integration.step_synchronization import StepSynchronizer

#: What other libraries call what is here, for errors.
_INSTEAD = {
    "evaluate": "eval(valid_dataset)",
    "compile": "Model(network, loss_fn, optimizer, metrics)",
    "save": "paramesh.save_checkpoint(model.train_network, path)",
    "load_weights": "paramesh.load_checkpoint(path, network)",
    "summary": "network.summary(inputs)",
}


class Model:
    """A network with what it takes to train and evaluate it.

    Args:
        network: the Cell; without `loss_fn`, it returns the loss.
        loss_fn: takes (outputs, label).
        optimizer: an Optimizer, or an optax transformation, for the trainable Parameters of the
            network. Without, the network is a training Cell that updates by itself.
        metrics: {name: Metric}, or a set of names such as {"accuracy", "loss"}.
        eval_network: what `eval` runs; by default it returns (loss, outputs, label).
        eval_indexes: where (loss, outputs, label) are in what `eval_network` returns.
        amp_level: "O0": as it is. "O2": the network computes in Float16, but its BatchNorms in
            Float32, with a moving loss scale. "O3": all of it in Float16. Parameters stay Float32,
            and losses are computed in Float32.
        loss_scale_manager: multiplies the loss, against gradients that vanish in Float16. None: no
            scale, as in MindSpore. Not given: a dynamic scale at "O2", otherwise none.
        boost_level: MindSpore's; "O0" only.
        keep_batchnorm_fp32: whether BatchNorms compute in Float32 at "O2" and "O3"; None: as the
            level says.
        boost_config_dict: MindSpore's, without effect: `boost_level` is "O0".

    Raises:
        TypeError, ValueError: an argument of the wrong type.
    """

    def __init__(
        self,
        network: Cell,
        loss_fn: TensorFunction | None = None,
        optimizer: Optimizer | optax.GradientTransformation | None = None,
        metrics: Metrics | None = None,
        eval_network: Cell | None = None,
        eval_indexes: list[int] | None = None,
        amp_level: str = "O0",
        loss_scale_manager: LossScaleManager | amp.ByLevel | None = amp.ByLevel.SCALE,
        boost_level: str = "O0",
        keep_batchnorm_fp32: bool | None = None,
        boost_config_dict: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(network, Cell):
            raise TypeError(f"Model: network must be a Cell, got {type(network).__name__}.")
        if is_transformation(optimizer):
            optimizer = from_optax(optimizer, network.trainable_params())
        if isinstance(network, Optimizer):
            raise TypeError(
                f"Model: network is the optimizer {type(network).__name__}. The arguments are "
                "Model(network, loss_fn, optimizer)."
            )
        if isinstance(loss_fn, type):
            raise TypeError(
                f"Model: loss_fn is the class {loss_fn.__name__}; give an instance, "
                f"{loss_fn.__name__}()."
            )
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            name = getattr(optimizer, "__name__", None)
            given = type(optimizer).__name__ if name is None else f"{name}; call it, {name}(...)"
            raise TypeError(
                f"Model: optimizer must be an Optimizer or an optax transformation, got {given}."
            )
        amp.check_level("Model", "amp_level", amp_level)
        if boost_level != "O0":
            raise ValueError(f"Model: boost_level must be 'O0', got {boost_level!r}.")
        if isinstance(loss_scale_manager, LossScaleManager) and optimizer is None:
            raise ValueError("Model: loss_scale_manager needs an optimizer.")
        if eval_indexes is not None and (
            len(eval_indexes) != 3 or not all(isinstance(i, int) for i in eval_indexes)
        ):
            raise ValueError(f"Model: eval_indexes must be three ints, got {eval_indexes!r}.")
        self._network, self._loss_fn, self._optimizer = network, loss_fn, optimizer
        self._metrics = get_metrics(metrics)
        self._level = amp_level
        amp.auto_mixed_precision(network, amp_level)
        if keep_batchnorm_fp32 is not None and amp_level in ("O2", "O3"):
            amp.keep_batchnorm(network, keep_batchnorm_fp32)
        self._train_network = self._build_train(loss_scale_manager)
        #: Whether a step without an optimizer was looked at.
        self._asked = False
        self._indexes = list(eval_indexes) if eval_indexes is not None else [0, 1, 2]
        self._eval_network = eval_network
        if eval_network is None and loss_fn is not None:
            self._eval_network = WithEvalCell(network, loss_fn, amp_level != "O0")
        #: The Cells that take (data, label).
        self._of_two = {self._train_network} | (
            set() if self._eval_network in (None, eval_network) else {self._eval_network}
        )

    def __getattr__(self, name: str) -> Any:
        text = lazy_names.missing("'Model'", name, lambda: (), _INSTEAD)
        raise AttributeError(text.removesuffix("."), name=name, obj=self)

    def _build_train(self, manager: LossScaleManager | amp.ByLevel | None) -> Cell:
        if self._optimizer is None:
            return amp.with_loss(self._network, self._loss_fn, self._level)
        return amp.build_train_network(
            self._network,
            self._optimizer,
            self._loss_fn,
            self._level,
            loss_scale_manager=manager,
        )

    @property
    def train_network(self) -> Cell:
        """The Cell whose call is one training step; what ModelCheckpoint saves."""
        return self._train_network

    @property
    def eval_network(self) -> Cell | None:
        """The Cell that `eval` runs."""
        return self._eval_network

    @property
    def predict_network(self) -> Cell:
        """The Cell that `predict` runs."""
        return self._network

    # Training.

    def train(
        self,
        epoch: int,
        train_dataset: Dataset | workers.Divided,
        callbacks: Callbacks | None = None,
        dataset_sink_mode: bool = False,
        sink_size: int = -1,
        initial_epoch: int = 0,
        *,
        valid_dataset: Dataset | None = None,
        valid_frequency: int | list[int] = 1,
        valid_dataset_sink_mode: bool = False,
        progress: bool = True,
        interrupt_checkpoint: bool | str | os.PathLike[str] = True,
        resume: str | os.PathLike[str] | None = None,
    ) -> None:
        """Train for some epochs, from the start or from where a checkpoint was made.

        Ctrl-C finishes the running step, saves the training Cell, says where, and goes on as a
        KeyboardInterrupt.

        Args:
            epoch: how many; the number of the last one, if `initial_epoch` is given.
            train_dataset: see `batches.py`; or `divided`, of which each worker of servers takes its
                share.
            callbacks: a Callback or several.
            dataset_sink_mode: whether `sink_size` counts; steps are always dispatched ahead.
            sink_size: batches of an epoch, in which the dataset goes on where the epoch before
                ended; -1: a pass through the dataset.
            initial_epoch: epochs that an earlier run did; they are counted, and not done again.
            valid_dataset: evaluated after every `valid_frequency` epochs, before
                `on_train_epoch_end`, where `eval_results` are the results, and as `eval_loss` the
                mean loss. Of each callback the `on_eval_…` methods that it has of its own are
                called, with "eval" as `mode` and the counts of the evaluation.
            valid_frequency: in epochs; or a list of epochs, counted from 1.
            valid_dataset_sink_mode: MindSpore's; accepted, but has no effect.
            progress: show a bar on a terminal, and a line for each epoch elsewhere (on stderr).
            interrupt_checkpoint: where Ctrl-C saves: a path; True for the folder of the
                ModelCheckpoint among the callbacks (`PREFIX-interrupted.safetensors`), without
                one `paramesh-interrupted.safetensors` in the current folder; False: nowhere.
                With a CheckpointManager it saves there, under the number of the step.
            resume: the checkpoint of an earlier run, to go on at the very step: Parameters,
                optimizer, loss scale, random state, counts, and the position in the data. The
                result is that of a run that was not interrupted, bit for bit, if Model, dataset
                and devices are the same, and the dataset gives the same batches in the same order
                in the same epoch: batches that were seen are passed over. `epoch` is the number of
                the last one. None: from the start.

        Raises:
            TypeError, ValueError: an argument of the wrong type; a dataset that gives no batch, or
                can be iterated only once, or is another than that of the checkpoint.
            WorkerLeft: the run on servers goes on without this worker.
            FileNotFoundError, CheckpointError: `resume` is not a checkpoint of such a run, differs
                between processes, or does not fit the training Cell; nothing was loaded.
        """
        _check_flag("train", dataset_sink_mode)
        _check_integer("epoch", epoch, 1)
        _check_integer("initial_epoch", initial_epoch, 0)
        _check_flag("train", valid_dataset_sink_mode, "valid_dataset_sink_mode")
        for each in valid_frequency if isinstance(valid_frequency, list) else [valid_frequency]:
            _check_integer("valid_frequency", each, 1)
        _check_integer("sink_size", sink_size, -1)
        if sink_size == 0:
            raise ValueError("Model.train: sink_size must be -1, or at least 1, got 0.")
        if initial_epoch >= epoch:
            raise ValueError(
                f"Model.train: initial_epoch {initial_epoch} must be below epoch {epoch}."
            )
        divides = isinstance(train_dataset, workers.Divided)
        if isinstance(train_dataset, workers.Divided):
            train_dataset = train_dataset.dataset
        start = Position(initial_epoch + 1, 0, 0, None)
        source = in_epochs_of(train_dataset, sink_size) if dataset_sink_mode else train_dataset
        if resume is not None:
            start = resumed(resume, epoch, initial_epoch, batches.count(source))
        check_same(resume, start)
        batches.check_dataset(train_dataset, epoch + 1 - start.epoch, "train_dataset")
        listed = as_callbacks(callbacks)
        if valid_dataset is not None:
            passes = sum(_is_due(n, valid_frequency) for n in range(start.epoch, epoch + 1))
            batches.check_dataset(valid_dataset, passes, "valid_dataset")
            self._check_metrics("valid_dataset")
        args = self._facts("train", listed, epoch_num=epoch, train_dataset=train_dataset)
        args.batch_num, args.valid_dataset = batches.count(source), valid_dataset
        args.cur_epoch_num, args.dataset_sink_mode = initial_epoch, dataset_sink_mode
        if resume is not None:
            restore_data(Path(resume), source, start)
            load_checkpoint(resume, self._train_network)
            restore_random(Path(resume))
            args.cur_epoch_num, args.cur_step_in_epoch = start.epoch, start.step_in_epoch
            args.cur_step_num = start.step
        pace = self._pace()
        if pace is not None and divides:
            pace.divide()
        if pace is not None and pace.passed:
            start = passed_over(start, pace, epoch, source)
            args.cur_step_num = start.step
        seen = start.step_in_epoch
        run, folder = RunContext(args), current_folder()
        watching = Watching()
        shown = [watching, *progress_callback(progress), *listed]
        with ExitStack() as stack:
            for callback in shown:
                stack.enter_context(callback)
            interrupts = stack.enter_context(Interrupts())
            try:
                _notify(shown, "on_train_begin", run)
                for number in range(start.epoch, epoch + 1):
                    args.cur_epoch_num, args.cur_step_in_epoch = number, seen
                    begun = self._epoch(run, shown, interrupts, pace, watching, source, divides)
                    seen = 0
                    if not begun:
                        continue
                    args.eval_results = {}
                    if valid_dataset is not None and _is_due(number, valid_frequency):
                        network = self._check_metrics("valid_dataset")
                        validation = self._pass(network, with_mean_loss(self._metrics))
                        validation.run_within(args, valid_dataset, listed)
                    _notify(shown, "on_train_epoch_end", run)
                    if run.get_stop_requested():
                        break
                _notify(shown, "on_train_end", run)
            except KeyboardInterrupt:
                save_at_interrupt(args, listed, interrupt_checkpoint, folder)
                raise
            except Exception:
                save_at_error(args, listed)
                raise

    def fit(
        self,
        epoch: int,
        train_dataset: Dataset | workers.Divided,
        valid_dataset: Dataset | None = None,
        valid_frequency: int | list[int] = 1,
        callbacks: Callbacks | None = None,
        dataset_sink_mode: bool = False,
        valid_dataset_sink_mode: bool = False,
        sink_size: int = -1,
        initial_epoch: int = 0,
    ) -> None:
        """`train` with the arguments in the order of MindSpore's `fit`.

        Raises:
            TypeError, ValueError: as `train`.
        """
        self.train(
            epoch,
            train_dataset,
            callbacks,
            dataset_sink_mode,
            sink_size,
            initial_epoch,
            valid_dataset=valid_dataset,
            valid_frequency=valid_frequency,
            valid_dataset_sink_mode=valid_dataset_sink_mode,
        )

    def _pace(self) -> StepSynchronizer | None:
        """How far this worker of servers is (see `workers`).

        Raises:
            ParameterStateError: the worker goes on in the middle, and what it had is lost.
        """
        pace = workers.pace()
        if pace is None or not pace.passed:
            return pace
        for param in self._network.trainable_params():
            if not param.is_param_ps:
                raise ParameterStateError(
                    f"Model.train: this worker was started again after step {pace.passed}, and "
                    f"Parameter '{param.name}' is trained on the worker: its value is lost. With "
                    "set_param_ps() it would be on the servers."
                )
        return pace

    def _epoch(
        self,
        run: RunContext,
        shown: list[Callback],
        interrupts: Interrupts,
        pace: StepSynchronizer | None,
        watching: Watching,
        dataset: Dataset,
        divides: bool,
    ) -> bool:
        """Train on the batches that are not seen yet; whether there was one."""
        args, network = run.original_args(), self._train_network
        network.set_train(True)
        seen = args.cur_step_in_epoch
        _notify(shown, "on_train_epoch_begin", run)
        batches.set_epoch(dataset, args.cur_epoch_num)
        source = batches.batches(dataset, "train_dataset", seen)
        for inputs, following in waiting_for(batches.looking_ahead(source, _looks_ahead)):
            if divides:
                inputs = workers.part_of(inputs, workers.share_of(pace))
                if following is not None:
                    following = workers.part_of(following, workers.share_of(pace, 1))
            watching.examples = examples_of(inputs)
            self._check_columns("train_dataset", inputs, network)
            with _next_step(args):
                _notify(shown, "on_train_step_begin", run)
            with interrupts.step():
                if pace is not None:
                    pace.begin()
                if following is not None:
                    network.prefetch(*following)
                args.net_outputs = network(*inputs)
                if pace is not None:
                    pace.end()
                args.cur_step_num += 1
                args.cur_step_in_epoch += 1
            if self._optimizer is None and not self._asked:
                self._asked = True
                warn_without_optimizer(network, self._loss_fn is not None)
            _notify(shown, "on_train_step_end", run)
            if pace is not None:
                workers.check_stays(pace)
            if run.get_stop_requested():
                break
        return args.cur_step_in_epoch > seen

    # Evaluating and predicting.

    def eval(
        self,
        valid_dataset: Dataset,
        callbacks: Callbacks | None = None,
        dataset_sink_mode: bool = False,
    ) -> dict[str, Any]:
        """The results of all metrics over one pass of a dataset.

        Args:
            valid_dataset: see `batches.py`.
            callbacks: a Callback or several.
            dataset_sink_mode: MindSpore's; accepted, but has no effect.

        Returns:
            {name of the metric: result}.

        Raises:
            ValueError: no metrics, no loss function and no evaluation network, or no batch.
            TypeError: an argument of the wrong type.
        """
        _check_flag("eval", dataset_sink_mode)
        network = self._check_metrics("eval")
        batches.check_dataset(valid_dataset, 1, "valid_dataset")
        listed = as_callbacks(callbacks)
        args = self._facts("eval", listed, valid_dataset=valid_dataset)
        args.batch_num = batches.count(valid_dataset)
        with ExitStack() as stack:
            for callback in listed:
                stack.enter_context(callback)
            self._pass(network, self._metrics).run(args, valid_dataset, partial(_notify, listed))
        return args.eval_results

    def _pass(self, network: Cell, metrics: Mapping[str, Metric]) -> Pass:
        check = partial(self._check_columns, "valid_dataset", network=network)
        return Pass(network, metrics, self._indexes, check)

    def predict(
        self, *predict_data: Tree, backend: str | None = None, config: object = None
    ) -> Any:
        """The network's outputs, in evaluation mode.

        Args:
            predict_data: arrays or Tensors, as `construct` takes them.
            backend: MindSpore's; None, since MindSpore Lite is not offered.
            config: MindSpore's, of that backend; without effect.

        Returns:
            What the network returns: a Tensor, or a tuple of Tensors.

        Raises:
            ValueError: another backend.
        """
        if backend is not None:
            raise ValueError(
                f"Model.predict: backend must be None, got {backend!r}: the network runs here, on "
                "the devices of JAX."
            )
        self._network.set_train(False)
        return self._network(*batches.as_inputs(predict_data))

    def infer_predict_layout(
        self, *predict_data: Tree, skip_backend_compile: bool = False
    ) -> dict[str, tuple[Any, ...]]:
        """How `predict` shards the Parameters, without computing anything.

        Args:
            predict_data: as `predict` takes them.
            skip_backend_compile: MindSpore's, without effect: nothing is compiled to the end.

        Returns:
            {name: layout}, see `Cell.parameter_layout_dict`.

        Raises:
            ContextError: neither semi_auto_parallel nor auto_parallel, or PyNative mode.
        """
        self._network.set_train(False)
        return traced_layouts(self._network, batches.as_inputs(predict_data))

    def infer_train_layout(
        self, train_dataset: Dataset, dataset_sink_mode: bool = True, sink_size: int = -1
    ) -> dict[str, tuple[Any, ...]]:
        """How `train` shards the Parameters, those of the optimizer too, without a step.

        Args:
            train_dataset: as `train` takes it; its first batch is read.
            dataset_sink_mode: MindSpore's, without effect, like `sink_size`.
            sink_size: see `dataset_sink_mode`.

        Returns:
            {name: layout}, see `Cell.parameter_layout_dict`.

        Raises:
            ContextError: as `infer_predict_layout`; TypeError, ValueError: as `train`, of the data.
        """
        batches.check_dataset(train_dataset, 1, "train_dataset")
        inputs = next(batches.batches(train_dataset, "train_dataset"))
        self._check_columns("train_dataset", inputs, self._train_network)
        self._train_network.set_train(True)
        return traced_layouts(self._train_network, inputs)

    def _check_columns(self, argument: str, inputs: tuple[Any, ...], network: Cell) -> None:
        """Refuse batches that are not (data, label), where they have to be."""
        if self._loss_fn is None or len(inputs) == 2 or network not in self._of_two:
            return
        shapes = ", ".join(str(tuple(np.shape(each))) for each in inputs)
        raise TypeError(
            f"{argument} gave a batch of {len(inputs)} arrays (shape {shapes}), but with loss_fn a "
            f"batch is (data, label). {batches.WHAT_IT_IS}"
        )

    def _check_metrics(self, what: str) -> Cell:
        if not self._metrics:
            raise ValueError(
                f"Model: {what} needs metrics: Model(..., metrics={{'accuracy', 'loss'}})."
            )
        if self._eval_network is None:
            raise ValueError(f"Model: {what} needs a loss_fn or an eval_network.")
        return self._eval_network

    def _facts(self, mode: str, callbacks: list[Callback], **more: object) -> Facts:
        facts: dict[str, Any] = {
            "mode": mode,
            "network": self._network,
            "train_network": self._train_network,
            "eval_network": self._eval_network,
            "loss_fn": self._loss_fn,
            "optimizer": self._optimizer or getattr(self._train_network, "optimizer", None),
            "metrics": self._metrics,
            "epoch_num": 1,
            "batch_num": None,
            "cur_epoch_num": 0,
            "cur_step_num": 0,
            "cur_step_in_epoch": 0,
            "train_dataset": None,
            "valid_dataset": None,
            "net_outputs": None,
            "eval_results": {},
            "list_callback": callbacks,
            "parallel_mode": context.get_auto_parallel_context("parallel_mode"),
            "device_number": context.get_auto_parallel_context("device_num"),
        }
        return Facts(facts | more)


def _looks_ahead() -> bool:
    return placement.current().prefetches


def _notify(callbacks: Iterable[Callback], moment: str, run: RunContext) -> None:
    for callback in callbacks:
        getattr(callback, moment)(run)


@contextmanager
def _next_step(args: Facts) -> Generator[None]:
    """The counts are those of the step that begins: what stops before it has not made it."""
    args.cur_step_num += 1
    args.cur_step_in_epoch += 1
    try:
        yield
    finally:
        args.cur_step_num -= 1
        args.cur_step_in_epoch -= 1


def _is_due(epoch: int, frequency: int | list[int]) -> bool:
    """Whether a validation follows an epoch."""
    return epoch in frequency if isinstance(frequency, list) else epoch % frequency == 0


def _check_flag(method: str, sinks: object, argument: str = "dataset_sink_mode") -> None:
    if not isinstance(sinks, bool):
        raise TypeError(f"Model.{method}: {argument} must be a bool, got {sinks!r}.")


def _check_integer(argument: str, value: object, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        got = repr(value) if isinstance(value, float | str | bool) else type(value).__name__
        order = " The arguments are train(epoch, train_dataset)." if argument == "epoch" else ""
        raise TypeError(f"Model.train: {argument} must be an int, got {got}.{order}")
    if value < low:
        raise ValueError(f"Model.train: {argument} must be at least {low}, got {value}.")
