"""Programs as ONNX models, through jax2onnx: `export(…, file_format="ONNX")`.

The Parameters are the graph's initializers, under their full names. jax2onnx replaces functions of
`jax.numpy` while it traces, by some that take fewer arguments. So the program is traced before, and
jax2onnx gets a function that consists of JAX's primitives alone.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from paramesh._compat.jax import ClosedJaxpr, jaxpr_as_fun
from paramesh.array_types import ArrayLike
from paramesh.dtype import to_dtype
from paramesh.files.atomic import write_atomically
from paramesh.parameter import Parameter

_NEEDED = "ONNX models need optional packages: pip install 'paramesh[onnx]'."
#: What a message of protobuf can hold, less some room for the graph.
_MOST_BYTES = 2**31 - 2**24
_UNSUPPORTED = re.compile(r"No plugins? (?:registered )?for (?:primitive )?'([\w-]+)'")


class OnnxModel:
    """An ONNX model; `save` writes it.

    Attributes:
        name: of the function.
        inputs: names of the graph's inputs.
        outputs: names of its outputs.
        parameters: names of the Parameters, which are initializers of the graph.
    """

    def __init__(self, name: str, data: bytes, graph: Any, parameters: Sequence[str]) -> None:
        self.name = name
        self.inputs = tuple(each.name for each in graph.input)
        self.outputs = tuple(each.name for each in graph.output)
        self.parameters = tuple(parameters)
        self._data = data

    def serialize(self) -> bytes:
        """The model as bytes of protobuf, as `onnxruntime.InferenceSession` takes them."""
        return self._data

    def save(self, file_name: str | os.PathLike[str]) -> None:
        """Write `serialize()` to a file, atomically."""
        write_atomically(Path(file_name), self._data)

    def __repr__(self) -> str:
        return (
            f"OnnxModel('{self.name}', inputs {', '.join(self.inputs)}, outputs "
            f"{', '.join(self.outputs)}, {len(self.parameters)} Parameters)"
        )


def check_types(
    name: str, params: Mapping[str, Parameter], inputs: Mapping[str, ArrayLike], inside: bool
) -> None:
    """Check that nothing has 64 bits: jax2onnx turns all types of a program into such, or none.

    Args:
        name: of the program.
        params: that it uses.
        inputs: by their names.
        inside: whether it computes with 64 bits at all.

    Raises:
        TypeError: a Parameter, an input or an operation has.
    """
    wide = [f"Parameter '{n}' is {p.dtype}" for n, p in params.items() if p.dtype.is_64bit()]
    wide += [
        f"input '{n}' is {to_dtype(x.dtype)}"
        for n, x in inputs.items()
        if not isinstance(x, bool | int | float | complex) and to_dtype(x.dtype).is_64bit()
    ]
    if inside and not wide:
        wide = ["an operation gives a 64-bit type"]
    if wide:
        raise TypeError(
            f"export: an ONNX model has no 64-bit types here, but {wide[0]} in '{name}'. Use 32 "
            "bits, or export it as 'STABLEHLO'."
        )


def onnx_model(
    name: str,
    traced: ClosedJaxpr,
    values: Mapping[str, np.ndarray[Any, Any]],
    inputs: Sequence[str],
) -> OnnxModel:
    """An ONNX model of a program.

    Args:
        name: of the function, for the model and for errors.
        traced: the program; it takes the values of Parameters, and the inputs after them.
        values: of the Parameters, by their full names.
        inputs: names for the other inputs of the graph.

    Raises:
        ImportError: jax2onnx is not installed.
        NotImplementedError: it cannot write an operation of the program.
        ValueError: more values than a file of ONNX can hold.
    """
    size = sum(value.nbytes for value in values.values())
    if size > _MOST_BYTES:
        raise ValueError(
            f"export: the Parameters of '{name}' take {size:,} bytes, and an ONNX file holds less "
            "than 2 GiB. Export the program as 'STABLEHLO'."
        )
    with _quiet():
        try:
            library: Any = importlib.import_module("jax2onnx")
            onnx: Any = importlib.import_module("onnx")
        except ImportError as error:
            raise ImportError(_NEEDED) from error
        try:
            model = library.to_onnx(
                jaxpr_as_fun(traced),
                inputs=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in traced.in_avals],
                model_name=name,
                input_names=[*values, *inputs],
                output_names=[f"output_{i}" for i in range(len(traced.out_avals))],
            )
        except Exception as error:
            raise NotImplementedError(_explained(name, error)) from error
        _store(onnx, model.graph, values)
        onnx.checker.check_model(model)
    return OnnxModel(name, model.SerializeToString(), model.graph, list(values))


def _store(onnx: Any, graph: Any, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Turn the inputs that stand for Parameters into initializers with their values."""
    others = [each for each in graph.input if each.name not in values]
    del graph.input[:]
    graph.input.extend(others)
    graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in values.items())


def _explained(name: str, error: Exception) -> str:
    found = _UNSUPPORTED.search(str(error))
    what = (
        f"has the operation '{found[1]}', which jax2onnx does not know"
        if found
        else f"is not one that jax2onnx can write ({type(error).__name__}: {error})"
    )
    return f"export: the program of '{name}' {what}. Export it as 'STABLEHLO', which has them all."


@contextmanager
def _quiet() -> Generator[None]:
    """Without what jax2onnx logs of libraries and plugins that are not needed here."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
