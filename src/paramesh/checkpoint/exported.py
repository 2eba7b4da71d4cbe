"""Exported programs: `export` writes one with its Parameters, `load_exported` runs it anywhere.

An exported program is StableHLO, as `jax.export` serialises it, with the Parameters' values as
named inputs and what it writes as named outputs. Their values are stored in the same file, so that
the file is self-contained, and those of a checkpoint can replace them. The source code of the
network is not needed.

The file is a safetensors file: one array for each Parameter, the program under the name
`__stablehlo__`, and JSON about inputs and outputs in the metadata. Reading it runs no code of it.
"""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import jax
import jax.export
import numpy as np

from paramesh.array_types import Tree
from paramesh.checkpoint.formats.storage_dtypes import SAFETENSORS
from paramesh.checkpoint.onnx_model import OnnxModel, check_types, onnx_model
from paramesh.dtype import DType, to_dtype, x64_if
from paramesh.errors import (
    HOW_TO_RENAME,
    CheckpointError,
    ContextError,
    DuplicateNameError,
    ParameterDtypeError,
    ParameterShapeError,
    ParameterStateError,
)
from paramesh.files.atomic import names_a_folder, write_atomically
from paramesh.parameter import Parameter, Pool
from paramesh.state import placement, trace_scope
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.trees import is_tensor, unpack
from paramesh.transforms.bodies import Body, name_of
from paramesh.transforms.call_arguments import parse_call
from paramesh.transforms.compiled_function import CompiledFunction

_PROGRAM = "__stablehlo__"
_ABOUT = "paramesh_program"
_VERSION = 1
_KINDS = {kind: name for name, kind in SAFETENSORS.items()}
_NEEDED = "Exported programs need an optional package: pip install 'paramesh[export]'."


@overload
def export(
    fn: Callable[..., Any],
    *inputs: object,
    platforms: Sequence[str] | None = None,
    values: bool = True,
    file_name: str | os.PathLike[str] | None = None,
    file_format: Literal["STABLEHLO"] = "STABLEHLO",
) -> ExportedProgram: ...


@overload
def export(
    fn: Callable[..., Any],
    *inputs: object,
    platforms: None = None,
    values: Literal[True] = True,
    file_name: str | os.PathLike[str] | None = None,
    file_format: Literal["ONNX"],
) -> OnnxModel: ...


def export(
    fn: Callable[..., Any],
    *inputs: object,
    platforms: Sequence[str] | None = None,
    values: bool = True,
    file_name: str | os.PathLike[str] | None = None,
    file_format: str = "STABLEHLO",
) -> ExportedProgram | OnnxModel:
    """The program of a Cell or function, to store and to run without its source code.

    Args:
        fn: a Cell or function; also a training step.
        inputs: example inputs: their shapes and element types are those of the program. A
            `jax.ShapeDtypeStruct` may stand for a Tensor, with sizes of `jax.export.symbolic_shape`
            for symbolic dimensions.
        platforms: the platforms to export for: `"cpu"`, `"cuda"`, `"rocm"`, `"tpu"`. None: the
            one that JAX runs on here.
        values: whether to store the Parameters' values. Without them nothing is computed here, and
            `load` has to set them later.
        file_name: a file to write it to. As in MindSpore, `.onnx` is added to the name of an ONNX
            file that ends otherwise.
        file_format: `"STABLEHLO"`, or as in MindSpore `"ONNX"`: a model for other programs, such as
            onnxruntime, with the Parameters as initializers of their names.

    Returns:
        The program, or an `OnnxModel`; `save` writes it to a file, `serialize` to bytes.

    Raises:
        TypeError: outputs that are not Tensors, numbers and strings in tuples, lists and dicts; for
            ONNX, Parameters or inputs of 64-bit types.
        ValueError: another format; for ONNX, `platforms` or `values=False`, a program that writes
            Parameters, or Parameters of more than 2 GiB.
        NotImplementedError: an operation that cannot be written as ONNX.
        ImportError: the extra `export` or `onnx` is not installed.
        DuplicateNameError: two Parameters have one name.
        ContextError: a parallel mode is on.
    """
    if file_format not in ("STABLEHLO", "ONNX"):
        raise ValueError(
            f"export: file_format must be 'STABLEHLO' or 'ONNX', got {file_format!r}. MindSpore's "
            "other formats are not written; values alone are in MindSpore's form with "
            "save_checkpoint(net, 'net.ckpt')."
        )
    if file_name is not None and names_a_folder(file_name):
        raise ValueError(
            f"export: file_name must end with the name of a file, got the folder "
            f"'{os.fspath(file_name)}'."
        )
    if file_format == "ONNX" and (platforms is not None or not values):
        raise ValueError(
            "export: an ONNX model runs on every platform and holds its values: leave out "
            "platforms and values."
        )
    if placement.current().key != placement.Placement.key:
        raise ContextError(
            "export needs a single-device program: leave the parallel mode with "
            "reset_auto_parallel_context() and the parameter server with reset_ps_context() first."
        )
    program = _program_of(fn)
    call = parse_call(program, inputs, {}, abstract=True)
    assert call is not None, "arguments from outside are not traced"
    _, leaves, rebuild = call
    entry = program.trace(*inputs)
    pools = (s for s in (*entry.donated, *entry.kept, *entry.written) if isinstance(s, Pool))
    members = [param for pool in pools for _, param in pool.entries()]
    params = _by_name(program.__name__, [*entry.params, *members])
    shapes = [jax.ShapeDtypeStruct(p.shape, p.dtype.np_dtype) for p in params.values()]
    found: dict[str, Any] = {}

    def pure(values: list[Any], leaves: list[Any]) -> Any:
        args, kwargs = rebuild(leaves)
        given = dict(zip(params.values(), values, strict=True))
        body = Body(program.fn, args, kwargs, given, name=program.__name__)
        written: dict[Any, None] = {}
        for state in body.written:
            members = [p for _, p in state.entries()] if isinstance(state, Pool) else [state]
            written.update(dict.fromkeys(members))
        found["outputs"] = _structure("an output", body.nest.place(_marks(body.arrays)))
        found["written"] = [p.name for p in written]
        arrays, after, _ = body.hand_out(list(written))
        return arrays, after

    pure.__name__ = program.__name__
    given, nest = _unpacked_inputs(inputs)
    if file_format == "ONNX":
        names = _input_names(fn, inputs)
        named = dict(zip(names, leaves, strict=True))
        check_types(program.__name__, params, named, entry.use_64bit)
        with x64_if(entry.use_64bit), trace_scope.enter(program.__name__, compiled=True):
            traced = jax.make_jaxpr(lambda *given: pure(*given)[0])(
                shapes, [_shape_of(leaf) for leaf in leaves]
            )
        if found["written"]:
            raise ValueError(
                f"export: '{program.__name__}' writes {', '.join(found['written'])}, and an ONNX "
                "model has no state. Call net.set_train(False) first, or export it as 'STABLEHLO'."
            )
        arrays = {name: p.value()._host() for name, p in params.items()}
        model = onnx_model(program.__name__, traced, arrays, names)
        if file_name is not None:
            path = Path(file_name)
            model.save(path if path.suffix == ".onnx" else path.with_name(path.name + ".onnx"))
        return model
    with x64_if(entry.use_64bit), trace_scope.enter(program.__name__, compiled=True):
        exported = jax.export.export(jax.jit(pure), platforms=platforms)(
            shapes, [_shape_of(leaf) for leaf in leaves]
        )
    about = {
        "version": _VERSION,
        "name": program.__name__,
        "wide": entry.use_64bit,
        "jax": jax.__version__,
        "platforms": list(exported.platforms),
        "inputs": _structure("an input", nest.place(_marks(given))),
        "leaves": _leaves(leaves),
        "outputs": found["outputs"],
        "written": found["written"],
        "parameters": [[n, p.dtype.long_name, list(p.shape)] for n, p in params.items()],
    }
    kept = {n: p.value() for n, p in params.items()} if values else {}
    made = ExportedProgram(about, _serialized(exported), kept)
    if file_name is not None:
        made.save(file_name)
    return made


def load_exported(source: str | os.PathLike[str] | bytes) -> ExportedProgram:
    """Load a program that `export` wrote.

    Args:
        source: a path, or the bytes of `serialize`.

    Raises:
        CheckpointError: it is not a valid exported program.
        FileNotFoundError: there is no such file.
    """
    where = "the given data" if isinstance(source, bytes) else f"'{os.fspath(source)}'"
    if not isinstance(source, bytes) and not os.path.exists(source):
        raise FileNotFoundError(
            f"There is no exported program {where}. (load_checkpoint reads checkpoints.)"
        )
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        about, arrays = _unpacked(data)
        program = arrays.pop(_PROGRAM)
        values = {name: _stored_tensor(about, name, data) for name, data in arrays.items()}
        made = ExportedProgram(about, bytes(program), values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{where} is not a valid program of paramesh.export ({error}). For the values of "
            "Parameters use paramesh.load_checkpoint."
        ) from error
    if about["version"] > _VERSION:
        raise CheckpointError(
            f"{where} was written by a later version of paramesh (format {about['version']}, this "
            f"one reads up to {_VERSION})."
        )
    return made


class ExportedProgram:
    """A program without its source code, and the values of its Parameters.

    Attributes:
        name: of the function.
        platforms: on which it can run.
        parameters: {name: Tensor}, the current values.
        written: names of the Parameters that a call writes.
    """

    def __init__(self, about: dict[str, Any], program: bytes, values: Mapping[str, Tensor]) -> None:
        self._about, self._program = about, program
        self.name: str = about["name"]
        self.platforms: tuple[str, ...] = tuple(about["platforms"])
        self.written: tuple[str, ...] = tuple(about["written"])
        self._kinds: dict[str, tuple[DType, tuple[int, ...]]] = {
            name: (to_dtype(dtype), tuple(shape)) for name, dtype, shape in about["parameters"]
        }
        self.parameters: dict[str, Tensor] = dict(values)
        self._exported: Any = None
        self._call: Any = None

    def load(self, values: Mapping[str, Any]) -> None:
        """Set the values of Parameters, for example to those of a checkpoint.

        Args:
            values: {name: Tensor or array}; names that the program does not have are ignored.

        Raises:
            ParameterShapeError, ParameterDtypeError: a value does not fit; nothing was loaded.
        """
        new: dict[str, Tensor] = {}
        for name, (dtype, shape) in self._kinds.items():
            if name not in values:
                continue
            value = raw(values[name])
            if tuple(value.shape) != shape:
                raise ParameterShapeError(
                    f"Parameter '{name}' of the program has shape {shape}, got "
                    f"{tuple(value.shape)}."
                )
            if to_dtype(value.dtype) is not dtype:
                raise ParameterDtypeError(
                    f"Parameter '{name}' of the program is {dtype}, got {to_dtype(value.dtype)}."
                )
            new[name] = wrap(value)
        self.parameters.update(new)

    def __call__(self, *inputs: object) -> Any:
        """Run the program; it updates `parameters`.

        Raises:
            TypeError: inputs of another structure or element type, or other constants.
            ValueError: inputs of other shapes.
            ParameterStateError: there are no values for some Parameters.
        """
        missing = [name for name in self._kinds if name not in self.parameters]
        if missing:
            raise ParameterStateError(
                f"'{self.name}' was exported without values; call load() with those of "
                f"{', '.join(missing)}."
            )
        given, nest = _unpacked_inputs(inputs)
        structure = _structure("an input", nest.place(_marks(given)))
        if structure != self._about["inputs"]:
            raise TypeError(
                f"'{self.name}' takes {_text(self._about['inputs'], self._about['leaves'])}, got "
                f"{_text(structure, _leaves(given))}."
            )
        leaves = []
        dynamic = [x for x in given if not _is_constant(x)]
        for x, (dtype, sizes) in zip(dynamic, self._about["leaves"], strict=True):
            value = np.asarray(x, dtype) if isinstance(x, float | complex) else x
            open_sizes = [n if isinstance(n, int) else None for n in sizes]
            fits = len(sizes) == value.ndim and all(
                n in (None, m) for n, m in zip(open_sizes, value.shape, strict=True)
            )
            if str(value.dtype) != dtype or not fits:
                error = TypeError if str(value.dtype) != dtype else ValueError
                raise error(
                    f"'{self.name}' takes {_text(self._about['inputs'], self._about['leaves'])}; "
                    f"one of the inputs is {value.dtype}{list(value.shape)}."
                )
            leaves.append(value)
        values = [raw(self.parameters[name]) for name in self._kinds]
        with x64_if(self._about["wide"]):
            if self._call is None:
                self._call = jax.jit(self._stage().call)
            arrays, after = self._call(values, leaves)
        self.parameters.update(zip(self.written, map(wrap, after), strict=True))
        return _filled(self._about["outputs"], arrays)

    def _stage(self) -> Any:
        if self._exported is None:
            try:
                self._exported = jax.export.deserialize(bytearray(self._program))
            except ImportError as error:
                raise ImportError(_NEEDED) from error
        return self._exported

    def as_text(self) -> str:
        """The program in StableHLO."""
        return self._stage().mlir_module()

    def serialize(self) -> bytes:
        """The program and the current values as bytes that `load_exported` reads."""
        arrays = {name: value._host() for name, value in self.parameters.items()}
        return _packed(arrays | {_PROGRAM: np.frombuffer(self._program, np.uint8)}, self._about)

    def save(self, file_name: str | os.PathLike[str]) -> None:
        """Write `serialize()` to a file, atomically."""
        write_atomically(Path(file_name), self.serialize())

    def __repr__(self) -> str:
        return (
            f"ExportedProgram('{self.name}', "
            f"{_text(self._about['inputs'], self._about['leaves'])}, "
            f"{len(self._kinds)} Parameters, for {', '.join(self.platforms)})"
        )


def _program_of(fn: Callable[..., Any]) -> CompiledFunction:
    if isinstance(fn, CompiledFunction):
        return fn
    if not callable(fn):
        raise TypeError(f"export takes a Cell or a function, got {type(fn).__name__}.")
    program = CompiledFunction(fn)
    program.__name__ = name_of(fn)
    return program


def _input_names(fn: Any, inputs: Sequence[Any]) -> list[str]:
    """A name for each array among the inputs: its argument's, numbered if that holds several."""
    target = fn.construct if hasattr(fn, "construct") else getattr(fn, "fn", fn)
    try:
        declared = list(inspect.signature(target).bind(*inputs).arguments)
    except (TypeError, ValueError):
        declared = []
    if len(declared) != len(inputs):  # *args
        declared = [f"input_{i}" for i in range(len(inputs))]
    names: list[str] = []
    for name, value in zip(declared, inputs, strict=True):
        count = sum(not _is_constant(x) for x in _unpacked_inputs((value,))[0])
        names += [name] if count == 1 else [f"{name}_{i}" for i in range(count)]
    return names


def _by_name(name: str, params: Sequence[Parameter]) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for param in params:
        if found.setdefault(param.name, param) is not param:
            raise DuplicateNameError(
                f"export: '{name}' uses two different Parameters named '{param.name}'. An exported "
                f"program knows them by name: give one of them another name. {HOW_TO_RENAME}"
            )
    return found


def _serialized(exported: Any) -> bytes:
    try:
        return bytes(exported.serialize())
    except ImportError as error:
        raise ImportError(_NEEDED) from error


def _unpacked_inputs(inputs: Tree) -> tuple[list[Any], Any]:
    """Arrays among inputs, and what else they are; a shape counts as an array."""
    shaped = jax.tree_util.tree_map(
        lambda x: wrap(x) if isinstance(x, jax.ShapeDtypeStruct) else x, inputs, is_leaf=is_tensor
    )
    return unpack(shaped, "raw")


def _shape_of(leaf: Any) -> Any:
    if isinstance(leaf, float | complex) and not isinstance(leaf, np.generic):
        kind = np.float32 if isinstance(leaf, float) else np.complex64
        return jax.ShapeDtypeStruct((), kind)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _sizes(leaf: Any) -> list[Any]:
    return [n if isinstance(n, int) else str(n) for n in np.shape(leaf)]


def _leaves(arrays: Sequence[Any]) -> list[Any]:
    """(element type, sizes) of arrays, without numbers that are constants."""
    return [[str(_shape_of(x).dtype), _sizes(x)] for x in arrays if not _is_constant(x)]


# What inputs and outputs are made of, as JSON.


class _Mark:
    def __init__(self, at: int) -> None:
        self.at = at


def _marks(arrays: Sequence[Any]) -> list[Any]:
    return [x if _is_constant(x) else _Mark(i) for i, x in enumerate(arrays)]


def _is_constant(value: object) -> bool:
    """Whether a number is a constant of the program rather than an input."""
    return isinstance(value, bool | int)


def _structure(what: str, value: Any) -> Any:
    if isinstance(value, _Mark):
        return {"array": value.at}
    if value is None or isinstance(value, bool | int | float | str):
        return {"constant": value}
    if type(value) in (tuple, list):
        return {type(value).__name__: [_structure(what, item) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, str | int) for key in value):
        return {"dict": [[key, _structure(what, item)] for key, item in value.items()]}
    raise TypeError(
        f"export: {what} is of class {type(value).__name__}; expected Tensors, numbers and strings "
        "in tuples, lists and dicts."
    )


def _filled(structure: dict[str, Any], arrays: Sequence[Any]) -> Any:
    ((kind, content),) = structure.items()
    if kind == "array":
        return wrap(arrays[content])
    if kind == "constant":
        return content
    if kind == "dict":
        return {key: _filled(item, arrays) for key, item in content}
    items = [_filled(item, arrays) for item in content]
    return tuple(items) if kind == "tuple" else items


def _text(structure: dict[str, Any], leaves: Sequence[Any]) -> str:
    rest = iter(leaves)

    def text(part: dict[str, Any]) -> str:
        ((kind, content),) = part.items()
        if kind == "array":
            dtype, sizes = next(rest)
            return f"{dtype}[{', '.join(map(str, sizes))}]"
        if kind == "constant":
            return repr(content)
        if kind == "dict":
            return "{" + ", ".join(f"{key!r}: {text(item)}" for key, item in content) + "}"
        return ("({})" if kind == "tuple" else "[{}]").format(", ".join(map(text, content)))

    return text(structure)


# The file.


def _packed(arrays: Mapping[str, np.ndarray[Any, Any]], about: dict[str, Any]) -> bytes:
    header: dict[str, Any] = {
        "__metadata__": {"format": "paramesh", _ABOUT: json.dumps(about)},
    }
    parts: list[bytes] = []
    at = 0
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize):
        kind = _KINDS.get(to_dtype(array.dtype))
        if kind is None:
            raise ParameterDtypeError(
                f"Parameter '{name}' is {to_dtype(array.dtype)}, which safetensors files cannot "
                "hold; export the program with values=False."
            )
        data = np.ascontiguousarray(array).tobytes()
        shape, end = list(array.shape), at + len(data)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, end]}
        parts.append(data)
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def _unpacked(data: bytes) -> tuple[dict[str, Any], dict[str, memoryview]]:
    start = 8 + int.from_bytes(data[:8], "little")
    if start > len(data):
        raise ValueError("the header is longer than the file")
    header = json.loads(data[8:start])
    about = json.loads(header.pop("__metadata__")[_ABOUT])
    body = memoryview(data)[start:]
    arrays: dict[str, memoryview] = {}
    expected = 0
    for name, part in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, end = part["data_offsets"]
        if first != expected or not first <= end <= len(body):
            raise ValueError(f"'{name}' is at the wrong offset")
        arrays[name], expected = body[first:end], end
    if expected != len(body):
        raise ValueError("there are bytes that belong to no array")
    return about, arrays


def _stored_tensor(about: dict[str, Any], name: str, data: memoryview) -> Tensor:
    kinds = {n: (to_dtype(dtype), shape) for n, dtype, shape in about["parameters"]}
    kind, shape = kinds[name]
    if len(data) != kind.itemsize * math.prod(shape):
        raise ValueError(f"'{name}' has {len(data)} bytes")
    return Tensor(np.frombuffer(data, kind.np_dtype).reshape(shape))
