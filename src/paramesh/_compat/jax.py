"""What paramesh uses of JAX that is private, experimental, or of no stable interface.

Tracing:
    eval_context            leaves the trace of this thread: what is computed inside is computed now
    outside_of_transforms   whether no transform of JAX runs a function on this thread
    computes_now            whether what this thread computes is computed now, with or without a
                            gradient
    get_opaque_trace_state  a value that says whether two moments belong to one trace
    to_concrete_value       the array of a tracer that has one (of a gradient outside of programs)

Programs:
    ClosedJaxpr, Jaxpr      a traced program; JaxprEqn: an operator in it
    ShapedArray             shape and element type of a value in it
    Atom                    a value in it: a Var, or a Literal, which is a number
    shape_of, dtype_of      of such a value
    jaxpr_as_fun            a traced program as a function
    dce_jaxpr               a traced program without what some of its outputs do not need
    Primitive               an operator of one's own; ad, batching and mlir have its rules
    define_linearization    how a gradient goes through such an operator
    define_way_back         how cotangents go back through one that is linear
    settings_of_traces      what JAX keys traces by, besides their arguments
    settings_of_calls       what it keys compiled calls by
    mesh_is_entered         whether `jax.set_mesh` holds; no_mesh: where it does not
    without_programs        whether operators run one by one where programs are called
    native_call             the compiled call that runs no Python code
    check_not_forked        refuses to compute in a process without JAX's threads
    Forks                   whether this process is one
    looks_for_nans          whether results are searched for NaNs
    NOT_FINITE              what is raised where one is found
    in_rows                 an array in a program whose elements lie in rows in memory
    custom_partitioning     an operator that says itself how it is cut over devices
    reset_compilation_cache makes JAX look again where compiled programs are kept

Processes:
    process_allgather       an array of every process, in every process
    broadcast_one_to_all    the array of process 0, in every process
    post, fetch             bytes under a name, which one process leaves for another

Devices:
    devices_are_open        whether JAX has opened the devices
    absent_devices          devices that this machine does not have, to compile for

Numbers:
    threefry_2x32           JAX's hash of counters
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import jax
import numpy as np
from jax._src import config as _config
from jax._src import core as _core
from jax._src import custom_partitioning as _partitioning
from jax._src import distributed as _distributed
from jax._src import xla_bridge as _xla_bridge
from jax._src.api_util import InternalFloatingPointError
from jax._src.core import to_concrete_value as to_concrete_value
from jax._src.core import trace_ctx as _trace_ctx
from jax._src.interpreters import ad as _ad
from jax._src.interpreters import partial_eval as _partial_eval
from jax._src.lib import xla_client as _xla_client  # pyright: ignore
from jax.core import ShapedArray as ShapedArray
from jax.experimental import topologies as _topologies
from jax.experimental.compilation_cache import compilation_cache as _compilation_cache
from jax.experimental.custom_partitioning import custom_partitioning as custom_partitioning
from jax.experimental.layout import Layout as _ArrayLayout
from jax.experimental.layout import with_layout_constraint as _with_layout
from jax.experimental.multihost_utils import broadcast_one_to_all as broadcast_one_to_all
from jax.experimental.multihost_utils import process_allgather as process_allgather
from jax.extend.core import ClosedJaxpr as ClosedJaxpr
from jax.extend.core import Jaxpr as Jaxpr
from jax.extend.core import JaxprEqn as JaxprEqn
from jax.extend.core import Literal as Literal
from jax.extend.core import Primitive as Primitive
from jax.extend.core import Var as Var
from jax.extend.core import get_opaque_trace_state as get_opaque_trace_state
from jax.extend.core import jaxpr_as_fun as jaxpr_as_fun
from jax.extend.random import threefry_2x32 as threefry_2x32
from jax.interpreters import ad as ad
from jax.interpreters import batching as batching
from jax.interpreters import mlir as mlir
from jax.interpreters.partial_eval import dce_jaxpr as dce_jaxpr

from paramesh._compat.garbage import unbroken_collections

# Not `jax.ensure_compile_time_eval`: that is a setting, by which compiled calls are told apart, so
# every function that is called inside it is traced and compiled once more.
from paramesh._compat.unbroken import eval_context as eval_context

unbroken_collections()

#: Traces and what they are made of: JAX declares no interface of them.
_Internal: TypeAlias = Any
#: A value in a traced program: an operand of an equation, or an output.
Atom: TypeAlias = Var | Literal


def _aval(atom: Atom) -> Any:
    """What is known of a value; JAX declares a base without shape and dtype."""
    return atom.aval


def shape_of(atom: Atom) -> tuple[int, ...]:
    """The shape of a value in a traced program; a token has none, and is an AttributeError."""
    return tuple(_aval(atom).shape)


def dtype_of(atom: Atom) -> object:
    """The element type of a value in a traced program, with the errors of `shape_of`."""
    return _aval(atom).dtype


#: Whether no transform of JAX runs a function on this thread: what is computed is computed now.
outside_of_transforms: Callable[[], bool] = _trace_ctx.is_top_level


#: Whether gradients ask operators for rules of their own, as they do in the JAX that is tested.
_HAS_RULES = all(
    hasattr(part, name)
    for part, name in (
        (_ad, "LinearizeTrace"),
        (_ad, "primitive_linearizations"),
        (_ad, "fancy_transposes"),
        (_partial_eval, "custom_staging_rules"),
    )
)


def computes_now() -> bool:
    """Whether what is computed on this thread is computed now.

    At the top, and in a gradient (`jax.vjp`, `jax.grad`) that is taken there and not inside of
    another transform, if the JAX that is installed takes `define_linearization`. What is computed
    in a program that is traced, or in a forward derivative or a batch, is not.
    """
    trace: _Internal = _trace_ctx.trace
    if _HAS_RULES and type(trace) is _ad.LinearizeTrace and trace.is_vjp:
        trace = trace.parent_trace
    return type(trace) is _core.EvalTrace


def define_linearization(primitive: Primitive, rule: Callable[..., Any]) -> None:
    """Say how a gradient goes through an operator with several results.

    Args:
        primitive: the operator.
        rule: takes whether it is a gradient, for each input whether it moves, the inputs, and the
            operator's settings. It gives the outputs, for each whether it moves, anything, and a
            function: of that and the tangents of the inputs, to those of the outputs.
    """
    if _HAS_RULES:
        _ad.primitive_linearizations[primitive] = rule


def define_way_back(primitive: Primitive, rule: Callable[..., Any]) -> None:
    """Say how cotangents go back through a linear operator, all inputs of which move.

    Args:
        primitive: the operator; among its settings are `shapes`, those of its outputs.
        rule: takes the cotangents of the outputs, and the settings; it gives those of the inputs.
    """

    def accumulate(cotangents: object, *inputs: _Internal, **settings: object) -> None:
        for to, found in zip(inputs, rule(cotangents, **settings), strict=True):
            to.accum(found)

    def stage(trace: _Internal, source: object, *tracers: object, **settings: object) -> _Internal:
        # By itself JAX would ask for the shapes, and keep all settings to know them again: arrays,
        # too.
        shapes = settings["shapes"]
        equation, outputs = trace.make_eqn(
            tracers, shapes, primitive, settings, _core.no_effects, source_info=source
        )
        if equation is not None:
            trace.frame.add_eqn(equation)
        return outputs

    if _HAS_RULES:
        _ad.fancy_transposes[primitive] = accumulate
        _partial_eval.custom_staging_rules[primitive] = stage


def settings_of_traces() -> Hashable:
    """The settings by which JAX tells traces apart, of this thread and of the process.

    The precision of products, strict promotion, an entered mesh, …: a function that is called with
    others is another program. Equal values compare as equal.
    """
    return _config.trace_context()  # pyright: ignore


def without_programs() -> bool:
    """Whether `jax.disable_jit()` holds: operators run one by one where programs are called."""
    return bool(jax.config.jax_disable_jit)  # pyright: ignore


def mesh_is_entered() -> bool:
    """Whether the caller is inside of `jax.set_mesh`."""
    return not jax.sharding.get_abstract_mesh().empty


def no_mesh() -> AbstractContextManager[object]:
    """Inside of it, `jax.set_mesh` of the caller does not hold."""
    return jax.set_mesh(jax.sharding.Mesh(np.empty((), object), ()))


def settings_of_calls() -> Any:
    """The settings by which JAX tells compiled calls apart, of this thread and of the process.

    Where they differ from an earlier call's, a compiled program is looked up by Python code of
    JAX's. Equal values compare as equal.
    """
    return settings_of_traces(), jax.config.jax_default_device  # pyright: ignore


def native_call(compiled: Any) -> Callable[..., Any] | None:
    """The call of a `jax.stages.Compiled` that runs no Python code once it is warm.

    `Compiled.__call__` is a Python function, and its frame alone holds the results between the
    program's end and its own. None where there is no such call: before the first one, and for
    programs that call back into Python.
    """
    return getattr(compiled, "_call", None)


def looks_for_nans() -> bool:
    """Whether JAX looks for NaNs or infinities in what programs give."""
    return bool(jax.config.jax_debug_nans or jax.config.jax_debug_infs)  # pyright: ignore


class Forks:
    """Whether this process was forked from one in which JAX had begun to compute."""

    lame = False


def _in_child() -> None:
    Forks.lame = Forks.lame or _xla_bridge.backends_are_initialized()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def check_not_forked() -> None:
    """Refuse to compute where JAX would wait for ever.

    Raises:
        RuntimeError: this process was forked, and the threads on which JAX computes were not.
    """
    if Forks.lame:
        raise RuntimeError(
            "this process was forked from one in which JAX had begun to compute. The threads on "
            "which it computes were not copied, so it would wait for ever. Start processes with "
            "multiprocessing.get_context('spawn') or 'forkserver', or fork before the first Tensor."
        )


def reset_compilation_cache() -> None:
    """Have JAX look at `jax_compilation_cache_dir` again, which it does once by itself."""
    _compilation_cache.reset_cache()


#: What a program that gives a NaN raises under `jax_debug_nans`: JAX's `jit` turns the second into
#: the first, a `jax.stages.Compiled` that is called by itself does not.
NOT_FINITE: tuple[type[Exception], ...] = (FloatingPointError, InternalFloatingPointError)


def devices_are_open() -> bool:
    """Whether JAX has opened its devices, after which their number cannot be changed."""
    return _xla_bridge.backends_are_initialized()


def post(name: str, data: bytes) -> None:
    """Leave bytes under a name, with the coordinator of the processes.

    Raises:
        RuntimeError: JAX has not joined processes, or the name is taken.
    """
    client: _Internal = _distributed.global_state.client
    if client is None:
        raise RuntimeError("JAX has not joined this process with others.")
    client.key_value_set_bytes(name, data)


def fetch(name: str, seconds: float) -> bytes | None:
    """Take what another process has left, and forget it; None if nothing came in that time."""
    client: _Internal = _distributed.global_state.client
    try:
        data = client.blocking_key_value_get_bytes(name, int(seconds * 1000))
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" in str(error):
            return None
        raise
    client.key_value_delete(name)
    return bytes(data)


def absent_devices(platform: str, name: str, **options: object) -> tuple[Any, ...]:
    """Devices that this machine does not have, for which their compiler compiles all the same.

    Args:
        platform: "tpu" or "cuda".
        name: of the topology, such as "v5e:8x8"; "" for GPUs.
        **options: of the platform: `topology` and `target_config` of GPUs.

    Raises:
        ImportError: the compiler is not installed.
        ValueError: it knows no such topology.
    """
    try:
        if platform == "tpu":
            _load_compiler_of_tpus()
        return tuple(_topologies.get_topology_desc(name, platform, **options).devices)
    except (NotImplementedError, RuntimeError) as error:
        text = str(error)
        missing = isinstance(error, NotImplementedError) or "not installed" in text
        raise (ImportError if missing else ValueError)(text) from error


def _load_compiler_of_tpus() -> None:
    """Load libtpu as JAX does, and tell it of `custom_partitioning`, which JAX leaves out here.

    JAX tells the plugins that it finds, and this one it only looks for when it opens TPUs.
    """
    path = _xla_bridge.get_tpu_library_path()  # pyright: ignore
    if path is None or _xla_client.pjrt_plugin_loaded("tpu"):
        return
    plugin = _xla_client.load_pjrt_plugin_dynamically("tpu", path)
    _xla_client.register_custom_call_partitioner(
        c_api=plugin,
        name=_partitioning._CUSTOM_PARTITIONING_CALL_NAME,
        prop_user_sharding=_partitioning._custom_partitioning_propagate_user_sharding,
        partition=_partitioning._custom_partitioning_partition,
        infer_sharding_from_operands=_partitioning._custom_partitioning_infer_sharding_from_operands,
        can_side_effecting_have_replicated_sharding=True,
    )


def in_rows(x: jax.Array) -> jax.Array:
    """The array, in a compiled program, with its last axis the nearest in memory."""
    return _with_layout(x, _ArrayLayout(tuple(range(x.ndim))))
