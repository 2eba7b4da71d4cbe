"""Runs models of mindcv, and writes what they compute: under MindSpore itself, or under paramesh.

    python mindcv_probe.py SETTINGS.json

The settings:

    mindspore   run with MindSpore itself, whose environment needs nothing of paramesh
    names       a JSON file that gets {model: [[name, shape] of each Parameter]} of all models, or
                the class of the error that the construction raised
    models      {model: {"size": of its images, "seed": of their values (0 if there is none),
                "train": whether a training step is made, "exact": whether paramesh also gives the
                results without rounding}}
    folder      gets a file MODEL.npz with the results of each, or MODEL.txt with its traceback; and
                MODEL.exact.npz with those in Float64, MODEL.rounded.npz with those in Float64 where
                the result of each operator is rounded to Float32
    weights     the folder of weights: MindSpore writes them, and paramesh reads them

Weights are MindSpore's initial ones. Those of a constant get noise, because a layer whose scale
begins at zero would hide the rest of its branch. Of a gradient of more than `KEPT` elements, about
as many are kept, evenly spread, and the size of its largest one.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

KEPT = 20_000
CLASSES = 10


def _noisy(name: str, value: Any, trained: bool) -> Any:
    """A constant with noise; what is not constant as it is."""
    if value.dtype.kind != "f" or value.size == 0 or np.ptp(value) > 0:
        return value
    if not trained and "moving_" not in name:
        return value
    noise = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.1, value.shape)
    noisy = (value + noise).astype(value.dtype)
    return np.abs(noisy) + value.dtype.type(0.1) if "moving_variance" in name else noisy


def _share_weights(mindspore: Any, model: Any, path: Path, write: bool) -> None:
    params = list(model.get_parameters())
    if write:
        kept = {p.name: _noisy(p.name, p.asnumpy(), p.requires_grad) for p in params}
        np.savez(path, **kept)
    with np.load(path) as weights:
        differing = {p.name for p in params} ^ set(weights.files)
        assert not differing, f"Parameters of one side alone: {sorted(differing)}"
        for param in params:
            param.set_data(mindspore.Tensor(weights[param.name]))


def _flat(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [leaf for part in value for leaf in _flat(part)]
    return [value]


def _without_chance(model: Any) -> None:
    """Training behaviour, but for what drops something at random."""
    model.set_train(True)
    for _, cell in model.cells_and_names():
        if "Drop" in type(cell).__name__:
            cell.set_train(False)


def _kept(gradient: np.ndarray) -> np.ndarray:
    flat = gradient.reshape(-1)
    chosen = flat[:: max(1, flat.size // KEPT)]
    return np.append(chosen, np.abs(flat).max(initial=0))


def _batch(mindspore: Any, how: dict[str, Any]) -> tuple[Any, Any]:
    size, train, random = how["size"], how["train"], np.random.default_rng(how.get("seed", 0))
    # Batch normalization over a few values makes rounding large, so small images come in numbers.
    batch = 8 if train and size < 100 else 2
    images = mindspore.Tensor(random.normal(0, 1, (batch, 3, size, size)).astype(np.float32))
    return images, mindspore.Tensor(random.integers(0, CLASSES, batch).astype(np.int32))


def _results(mindspore: Any, model: Any, how: dict[str, Any]) -> dict[str, Any]:
    images, labels = _batch(mindspore, how)
    model.set_train(False)
    outputs = _flat(model(images))
    results = {f"output/{at}": value.asnumpy() for at, value in enumerate(outputs)}
    if not how["train"]:
        return results
    _without_chance(model)

    def loss(images: Any, labels: Any) -> Any:
        scores = _flat(model(images))
        return sum(mindspore.ops.cross_entropy(score, labels) for score in scores)

    params = model.trainable_params()
    value, gradients = mindspore.value_and_grad(loss, None, params)(images, labels)
    results["loss"] = value.asnumpy()
    for param, gradient in zip(params, gradients, strict=True):
        results[f"gradient/{param.name}"] = _kept(gradient.asnumpy())
    for param in model.get_parameters():
        if "moving_" in param.name:
            results[f"average/{param.name}"] = param.asnumpy()
    return results


def _exact(mindspore: Any, model: Any, how: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The results in Float64, and those with each operator's result rounded."""
    import jax
    import jax.numpy as jnp

    # This file's folder is where python looks first; MindSpore's environment has no JAX.
    doubled = importlib.import_module("double_precision").doubled
    images, labels = _batch(mindspore, how)
    trained = [param.name for param in model.trainable_params()]

    def call(values: Any) -> Any:
        out, written = mindspore.functional_call(model, values, images, mutable=True)
        return _flat(out), {k: jnp.asarray(v) for k, v in written.items() if "moving_" in k}

    def outputs(values: Any) -> Any:
        found = [jnp.asarray(value) for value in call(values)[0]]
        return {f"output/{at}": value for at, value in enumerate(found)}

    def step(values: Any) -> Any:
        def loss(those: Any) -> Any:
            scores, averages = call(values | those)
            total = sum(mindspore.ops.cross_entropy(score, labels) for score in scores)
            return jnp.asarray(total), averages

        learnt = {name: values[name] for name in trained}
        (value, averages), gradients = jax.value_and_grad(loss, has_aux=True)(learnt)
        return {
            "loss": value,
            **{f"gradient/{k}": v for k, v in gradients.items()},
            **{f"average/{k}": v for k, v in averages.items()},
        }

    values = {param.name: param.asnumpy() for param in model.get_parameters()}
    for rounded in (False, True):
        model.set_train(False)
        parts = [doubled(outputs, values, rounded)]
        if how["train"]:
            _without_chance(model)
            parts.append(doubled(step, values, rounded))
        found = {k: v for part in parts for k, v in part(values).items()}
        yield {k: _kept(v) if k.startswith("gradient/") else v for k, v in found.items()}


def _names(mindcv: Any) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for name in mindcv.list_models():
        try:
            model = mindcv.create_model(name)
        except Exception as error:
            names[name] = f"{type(error).__name__}: {error}"
        else:
            names[name] = [[p.name, list(p.shape)] for p in model.get_parameters()]
        print(name, len(names[name]), flush=True)
    return names


def _what_mindspore_lost(mindspore: Any) -> None:
    """What mindcv 0.3.0 uses of MindSpore 2.0 and MindSpore 2.10 does not have any more."""
    module = importlib.import_module("mindspore.common.initializer")
    lazily = module.initializer

    class ResizeBilinear(mindspore.nn.Cell):
        def __init__(self, size: Any) -> None:
            super().__init__()
            self.size = size

        def construct(self, images: Any) -> Any:
            return mindspore.ops.interpolate(images, size=self.size, mode="bilinear")

    mindspore.ops.ResizeBilinear = ResizeBilinear
    # A Tensor of an initializer could be reshaped before it had values.
    setattr(module, "initializer", lambda *args, **more: lazily(*args, **more).init_data())  # noqa: B010


def _no_values(mindspore: Any) -> None:
    """Initializers of MindSpore that write nothing: names and shapes are all that is asked."""
    module = importlib.import_module("mindspore.common.initializer")
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, module.Initializer):
            kind._initialize = lambda self, arr: None  # type: ignore[attr-defined]


def main() -> None:
    """Run what the settings say."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    real = settings["mindspore"]
    if not real:
        importlib.import_module("paramesh").compat.as_mindspore()
    mindspore = importlib.import_module("mindspore")
    if real:
        _what_mindspore_lost(mindspore)
    mindcv = importlib.import_module("mindcv")
    mindspore.set_context(device_target="CPU", mode=mindspore.PYNATIVE_MODE)
    folder, weights = Path(settings["folder"]), Path(settings["weights"])
    for name, how in settings["models"].items():
        begun = time.monotonic()
        try:
            mindspore.set_seed(1)
            model = mindcv.create_model(name, num_classes=CLASSES)
            _share_weights(mindspore, model, weights / f"{name}.npz", write=real)
            if how.get("exact") and not real:
                for which, kept in zip(
                    ("exact", "rounded"), _exact(mindspore, model, how), strict=True
                ):
                    np.savez(folder / f"{name}.{which}.npz", **kept)
            results = _results(mindspore, model, how)
        except Exception:
            (folder / f"{name}.txt").write_text(traceback.format_exc())
        else:
            np.savez(folder / f"{name}.npz", **results)
        print(name, round(time.monotonic() - begun, 1), flush=True)
    if settings.get("names"):
        if real:
            _no_values(mindspore)
        Path(settings["names"]).write_text(json.dumps(_names(mindcv)))


if __name__ == "__main__":
    main()
