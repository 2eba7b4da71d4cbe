"""Runs a training script as it is, and notes the loss of each step.

    python observed.py SETTINGS.json script.py [arguments]

Under paramesh, or with `"mindspore": true` under MindSpore itself, whose environment needs nothing
of paramesh. Settings:

    losses      the JSON file that gets the losses
    steps       ends the training after so many, if it has not ended before; 0: does not
    mindspore   run with MindSpore
    weights     a file of Parameters (.npz): written if it is not there, read otherwise
    batches     the same for the batches of `Model.train`, so that two runs see the same ones
    states      a folder: MindSpore writes there what its Parameters are before each step of
                `Model.train`, those of the optimizer too, and paramesh begins each step with that
    updates     a JSON file: how far each step then went elsewhere than MindSpore's, as a part of
                MindSpore's step
    smaller     {module: {class: {argument: value}}}: arguments that the script gives this class

The script is not edited. Under MindSpore arguments are taken out that it does not have any more.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np

_settings: dict[str, Any] = {}
_losses: list[float] = []
_updates: list[float] = []


def _first(value: Any) -> float:
    """The loss among what a step returned."""
    while isinstance(value, tuple | list):
        value = value[0]
    return float(np.mean(value.asnumpy())) if hasattr(value, "asnumpy") else float(value)


def _note(outputs: Any) -> bool:
    """Keep a loss; whether it was the last one."""
    _losses.append(_first(outputs))
    Path(_settings["losses"]).write_text(json.dumps(_losses))
    return bool(_settings["steps"]) and len(_losses) >= _settings["steps"]


def _same_weights(mindspore: Any, network: Any) -> None:
    """Write the values of Parameters, or take them over."""
    path = _settings.get("weights")
    if path is None:
        return
    params = list(network.get_parameters())
    if not Path(path).exists():
        np.savez(path, **{param.name: param.asnumpy() for param in params})
        return
    with np.load(path) as kept:
        for param in params:
            if param.name in kept.files:
                param.set_data(mindspore.Tensor(kept[param.name], param.dtype))
        missing = set(kept.files) - {param.name for param in params}
    if missing:
        sys.exit(f"Parameters of the other run that this one does not have: {sorted(missing)}")


def _same_state(mindspore: Any, network: Any) -> None:
    """Write the state before this step, or begin the step with it."""
    if _settings.get("states") is None:
        return
    path = Path(_settings["states"], f"{len(_losses):04}.npz")
    params = list(network.get_parameters())
    if _settings["mindspore"]:
        path.parent.mkdir(exist_ok=True)
        np.savez(path, **{param.name: param.asnumpy() for param in params})
        return
    with np.load(path) as state:
        theirs = {param.name: state[param.name] for param in params}
    if _losses:
        with np.load(path.with_name(f"{len(_losses) - 1:04}.npz")) as before:
            missed, moved = 0.0, 0.0
            for param in params:
                now = theirs[param.name].astype(np.float64)
                missed += np.square(param.asnumpy().reshape(now.shape) - now).sum()
                moved += np.square(now - before[param.name]).sum()
        _updates.append(float(np.sqrt(missed / moved)))
        Path(_settings["updates"]).write_text(json.dumps(_updates))
    for param in params:
        value = theirs[param.name].reshape(param.shape)
        param.set_data(mindspore.Tensor(value, param.dtype))


def _same_batches(mindspore: Any, dataset: Any) -> Any:
    path = _settings.get("batches")
    if path is None:
        return dataset
    names = dataset.get_col_names()
    if not Path(path).exists():
        kept = {}
        for at, row in enumerate(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)):
            if at == (_settings["steps"] or 20):
                break
            kept |= {f"{at:04}/{name}": np.asarray(v) for name, v in zip(names, row, strict=True)}
        np.savez(path, **kept)
    with np.load(path) as kept:
        count = len(kept.files) // len(names)
        rows = [tuple(kept[f"{at:04}/{name}"] for name in names) for at in range(count)]
    return mindspore.dataset.GeneratorDataset(rows, names, shuffle=False)


def _watch_model(mindspore: Any) -> None:
    train = mindspore.Model.train

    class Noting(mindspore.train.Callback):
        def on_train_step_begin(self, run_context: Any) -> None:
            _same_state(mindspore, run_context.original_args().train_network)

        def on_train_step_end(self, run_context: Any) -> None:
            if _note(run_context.original_args().net_outputs):
                run_context.request_stop()

    def watched(
        self: Any, epoch: int, dataset: Any, callbacks: Any = None, *args: Any, **more: Any
    ) -> None:
        given = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
        _same_weights(mindspore, self.train_network)
        if _settings.get("batches"):
            args, more = (), more | {"dataset_sink_mode": False}
        with _Inside():
            listed = [Noting(), *(each for each in given if each is not None)]
            train(self, epoch, _same_batches(mindspore, dataset), listed, *args, **more)

    mindspore.Model.train = watched


class _Inside:
    """Steps inside of `Model.train` are noted there."""

    depth = 0

    def __enter__(self) -> None:
        _Inside.depth += 1

    def __exit__(self, *_: object) -> None:
        _Inside.depth -= 1


def _watch_steps(mindspore: Any) -> None:
    """Loops of the script's own call the training Cell."""
    kind = mindspore.nn.TrainOneStepCell
    call = kind.__call__

    def watched(self: Any, *args: Any, **more: Any) -> Any:
        if _Inside.depth:
            return call(self, *args, **more)
        if not _losses:
            _same_weights(mindspore, self)
        with _Inside():
            outputs = call(self, *args, **more)
        if _note(outputs):
            sys.exit(0)
        return outputs

    kind.__call__ = watched


def _on_this_cpu(mindspore: Any) -> None:
    """What scripts of MindSpore 1 ask of MindSpore 2.10, and what it cannot do on a CPU."""
    set_context, lookup = mindspore.set_context, mindspore.nn.EmbeddingLookup.__init__

    def settings(**given: Any) -> None:
        for name in ("enable_graph_kernel", "graph_kernel_flags", "device_id"):
            given.pop(name, None)
        set_context(**given | ({"device_target": "CPU"} if "device_target" in given else {}))

    def embedding(self: Any, *args: Any, vocab_cache_size: int = 0, **more: Any) -> None:
        lookup(self, *args, **more)

    class NoOverflow(mindspore.nn.Cell):
        """Ascend's status of floats, in a run without overflow."""

        def construct(self, *_: Any) -> Any:
            return mindspore.ops.zeros((8,), mindspore.float32)

    dataset = mindspore.dataset.Dataset
    made = dataset.__init__

    def of_two(
        self: Any, children: Any = None, num_parallel_workers: Any = None, *args: Any, **more: Any
    ) -> None:
        # MindSpore refuses more than there are processors.
        made(self, children, num_parallel_workers and min(num_parallel_workers, 2), *args, **more)

    dataset.__init__ = of_two
    for name, kind in (("int", int), ("float", float), ("bool", bool), ("object", object)):
        if not hasattr(np, name):  # scripts are older than NumPy 1.24
            setattr(np, name, kind)
    for package in (mindspore.dataset.transforms, mindspore.dataset.vision):
        for name in ("c_transforms", "py_transforms"):  # removed since
            sys.modules.setdefault(f"{package.__name__}.{name}", package)
            if not hasattr(package, name):
                setattr(package, name, package)
    mindspore.set_context = mindspore.context.set_context = settings
    mindspore.nn.EmbeddingLookup.__init__ = embedding
    for module in (mindspore.ops, mindspore.ops.operations):
        for name in ("NPUAllocFloatStatus", "NPUGetFloatStatus", "NPUClearFloatStatus"):
            setattr(module, name, NoOverflow)


def _make_smaller() -> None:
    for module, classes in _settings.get("smaller", {}).items():
        for name, values in classes.items():
            kind = getattr(importlib.import_module(module), name)
            made = kind.__init__

            def init(self: Any, _made: Any = made, _values: Any = values, **given: Any) -> None:
                _made(self, **given | _values)

            kind.__init__ = init


def main() -> None:
    """Run the script of the command line."""
    _settings.update(json.loads(Path(sys.argv[1]).read_text()))
    script, arguments = sys.argv[2], sys.argv[3:]
    real = _settings.get("mindspore", False)
    os.environ.setdefault("DEVICE_ID", "0")
    if real:
        import multiprocessing

        multiprocessing.cpu_count = lambda: 64  # MindSpore refuses more workers than processors
    else:
        become = importlib.import_module("paramesh.scripts.running").become_mindspore
        become(lambda line: print("paramesh run:", line, file=sys.stderr))
    mindspore = importlib.import_module("mindspore")
    importlib.import_module("mindspore.dataset")
    if real:
        _on_this_cpu(mindspore)
    _watch_model(mindspore)
    _watch_steps(mindspore)
    sys.path[0] = str(Path(script).resolve().parent)
    sys.argv = [script, *arguments]
    _make_smaller()
    if real:
        runpy.run_path(script, run_name="__main__")
    else:
        running = importlib.import_module("paramesh.scripts.running")
        sys.exit(running.run(running.prepare(script, arguments, module=False)))


if __name__ == "__main__":
    main()
