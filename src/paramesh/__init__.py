"""paramesh: named, lazy, sharded parameters for JAX, with MindSpore's interface.

Everything a user imports. Tensors, Parameters and settings are there at once; networks, operators,
programs and training are loaded when they are first asked for. MindSpore's own import paths
(`paramesh.common.initializer`, `paramesh.train.callback`, …) work too: see `paramesh.compat`.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from paramesh import compat, context, dtype, initializer, lazy_names
from paramesh.context import (
    GRAPH_MODE,
    PYNATIVE_MODE,
    ParallelMode,
    get_auto_parallel_context,
    get_context,
    get_ps_context,
    reset_auto_parallel_context,
    reset_ps_context,
    set_auto_parallel_context,
    set_context,
    set_ps_context,
)
from paramesh.dtype import (
    DType,
    bfloat16,
    bool_,
    byte,
    complex64,
    complex128,
    double,
    dtype_to_nptype,
    dtype_to_pytype,
    float16,
    float32,
    float64,
    half,
    int8,
    int16,
    int32,
    int64,
    intc,
    intp,
    pytype_to_dtype,
    short,
    single,
    ubyte,
    uint8,
    uint16,
    uint32,
    uint64,
    uintc,
    uintp,
    ushort,
)
from paramesh.errors import ParameshError
from paramesh.parameter import Parameter, ParameterTuple, snapshot
from paramesh.providers import providers
from paramesh.sampling.recipe import Initializer, Recipe, get_seed, set_seed
from paramesh.state import placement
from paramesh.tensor.base import Tensor
from paramesh.tensor.trees import values

if TYPE_CHECKING:
    from paramesh import adapters, checkpoint, nn, ops, optim, random, train
    from paramesh.checkpoint import (
        build_searched_strategy,
        by_layer,
        export,
        load_checkpoint,
        load_distributed_checkpoint,
        load_exported,
        load_param_into_net,
        merge_sliced_parameter,
        rank_list_for_transform,
        save_checkpoint,
        transform_checkpoint_by_rank,
        transform_checkpoints,
    )
    from paramesh.nn.cell import Cell
    from paramesh.nn.stack import stack
    from paramesh.optim.from_optax import from_optax
    from paramesh.parallel import communication
    from paramesh.parallel.layouts.jax_sharding import device_put
    from paramesh.parallel.layouts.layout import Layout
    from paramesh.parallel.planning import balanced_stages, plan, plan_stages
    from paramesh.train import (
        MAE,
        MSE,
        Accuracy,
        Callback,
        CheckpointConfig,
        DynamicLossScaleManager,
        FixedLossScaleManager,
        LambdaCallback,
        LearningRateScheduler,
        Loss,
        LossMonitor,
        LossScaleManager,
        Metric,
        Model,
        ModelCheckpoint,
        RunContext,
        TimeMonitor,
        Top1CategoricalAccuracy,
        Top5CategoricalAccuracy,
        TopKCategoricalAccuracy,
    )
    from paramesh.train.amp import mixed_precision
    from paramesh.transforms import (
        GradOperation,
        cond,
        custom_vjp,
        fori_loop,
        functional_call,
        grad,
        hessian,
        jacfwd,
        jacrev,
        jit,
        jvp,
        remat,
        scan,
        switch,
        value_and_grad,
        vjp,
        vmap,
        while_loop,
    )

__version__ = "0.1.0"

#: Packages that are imported when they are first asked for.
_PACKAGES = (
    "adapters",
    "checkpoint",
    "communication",
    "experimental",
    "log",
    "mint",
    "nn",
    "numpy",
    "ops",
    "optim",
    "profiler",
    "random",
    "runtime",
    "train",
    "transforms",
)

#: Names that are imported when they are first asked for, by the module that has them.
_LAZY = lazy_names.homes(
    {
        "paramesh.checkpoint": """
            build_searched_strategy by_layer ckpt_to_safetensors export load_checkpoint
            load_distributed_checkpoint load_exported load_param_into_net merge_sliced_parameter
            rank_list_for_transform safetensors_to_ckpt save_checkpoint
            transform_checkpoint_by_rank transform_checkpoints
        """,
        # Names of MindSpore's top package that scripts call, and that mean little here.
        "paramesh.mindspore_names": """
            COMPATIBLE DatasetHelper JitConfig LAX STRICT Symbol Type arange
            connect_network_with_dataset data_sink einsum from_numpy get_algo_parameters is_tensor
            jit_class lazy_inline load manual_seed ms_class ms_function mutable no_inline
            no_recursive recompute reset_algo_parameters run_check seed set_algo_parameters
            set_deterministic set_device set_dump set_recursion_limit
            sync_pipeline_shared_parameters
        """,
        "paramesh.mindspore_later_names": """
            async_ckpt_thread_status cdouble cfloat frombuffer get_current_device get_level
            get_log_config get_py_obj_dtype initial_seed load_checkpoint_async long
            ms_memory_recycle swap_tensors
        """,
        "paramesh.nn.cell": "Cell",
        "paramesh.nn.sharded_function": "shard",
        "paramesh.nn.stack": "stack",
        "paramesh.optim": "from_optax",
        "paramesh.parallel.layouts.jax_sharding": "device_put",
        "paramesh.ops": "constexpr reshard",
        "paramesh.profiler": "Profiler",
        "paramesh.runtime": """
            Event Stream StreamCtx communication_stream current_stream default_stream
            dispatch_threads_num empty_cache launch_blocking max_memory_allocated
            max_memory_reserved memory_allocated memory_reserved memory_stats memory_summary
            reset_max_memory_allocated reset_max_memory_reserved reset_peak_memory_stats
            set_cpu_affinity set_cur_stream set_kernel_launch_group set_memory synchronize
        """,
        "paramesh.tensor.row_tensor": "RowTensor",
        "paramesh.tensor.sparse_tensors": "COOTensor CSRTensor",
        "paramesh.parallel.layouts.layout": "Layout",
        "paramesh.parallel.planning": "balanced_stages plan plan_stages",
        "paramesh.random": "Generator get_rng_state set_rng_state",
        "paramesh.train": """
            Model Callback LossMonitor TimeMonitor ModelCheckpoint CheckpointConfig RunContext
            LearningRateScheduler LambdaCallback
            LossScaleManager FixedLossScaleManager DynamicLossScaleManager
            Metric Accuracy Loss MAE MSE TopKCategoricalAccuracy Top1CategoricalAccuracy
            Top5CategoricalAccuracy BleuScore ConfusionMatrix CosineSimilarity Dice F1 Fbeta
            ConfusionMatrixMetric HausdorffDistance MeanSurfaceDistance OcclusionSensitivity
            RootMeanSquareDistance
            Perplexity Precision ROC Recall auc get_metric_fn names rearrange_inputs EarlyStopping
            ReduceLROnPlateau History BackupAndRestore SummaryRecord SummaryCollector
        """,
        "paramesh.train.amp": "build_train_network mixed_precision",
        "paramesh.transforms": """
            GradOperation cond custom_vjp fori_loop functional_call grad hessian jacfwd jacrev jit
            jvp remat scan switch value_and_grad vjp vmap while_loop
        """,
    }
)

__all__ = [
    "Tensor",
    "Parameter",
    "ParameterTuple",
    "snapshot",
    "values",
    "device_put",
    "Initializer",
    "Recipe",
    "set_seed",
    "get_seed",
    "Cell",
    "Layout",
    "balanced_stages",
    "plan",
    "plan_stages",
    "nn",
    "ops",
    "optim",
    "random",
    "train",
    "adapters",
    "checkpoint",
    "communication",
    "Model",
    "Callback",
    "LossMonitor",
    "TimeMonitor",
    "ModelCheckpoint",
    "CheckpointConfig",
    "RunContext",
    "LearningRateScheduler",
    "LambdaCallback",
    "LossScaleManager",
    "FixedLossScaleManager",
    "DynamicLossScaleManager",
    "Metric",
    "Accuracy",
    "Loss",
    "MAE",
    "MSE",
    "TopKCategoricalAccuracy",
    "Top1CategoricalAccuracy",
    "Top5CategoricalAccuracy",
    "from_optax",
    "mixed_precision",
    "save_checkpoint",
    "by_layer",
    "load_checkpoint",
    "load_param_into_net",
    "export",
    "load_exported",
    "build_searched_strategy",
    "load_distributed_checkpoint",
    "merge_sliced_parameter",
    "rank_list_for_transform",
    "transform_checkpoint_by_rank",
    "transform_checkpoints",
    "jit",
    "grad",
    "value_and_grad",
    "GradOperation",
    "vjp",
    "jvp",
    "jacrev",
    "jacfwd",
    "hessian",
    "custom_vjp",
    "functional_call",
    "vmap",
    "remat",
    "cond",
    "switch",
    "while_loop",
    "fori_loop",
    "scan",
    "stack",
    "context",
    "GRAPH_MODE",
    "PYNATIVE_MODE",
    "ParallelMode",
    "set_context",
    "get_context",
    "set_auto_parallel_context",
    "get_auto_parallel_context",
    "reset_auto_parallel_context",
    "set_ps_context",
    "get_ps_context",
    "reset_ps_context",
    "dtype",
    "DType",
    "dtype_to_nptype",
    "dtype_to_pytype",
    "pytype_to_dtype",
    "bool_",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
    "byte",
    "short",
    "intc",
    "intp",
    "ubyte",
    "ushort",
    "uintc",
    "uintp",
    "half",
    "single",
    "double",
    "initializer",
    "compat",
    "ParameshError",
]


def _placement_of(mode: str) -> placement.Placement:
    return importlib.import_module("paramesh.parallel.modes.registry").placement_of(mode)


def _layout_table(params: Any) -> Any:
    return importlib.import_module("paramesh.parallel.modes.registry").table_of(params)


def _layout_tuples(params: object) -> Any:
    return importlib.import_module("paramesh.parallel.modes.registry").tuples_of(params)


def _as_layout(place: object, shape: Any, name: str) -> Any:
    if not type(place).__module__.startswith("jax"):
        return place
    return _jax_sharding("as_layout")(place, shape, name)


def _jax_sharding(call: str) -> Any:
    def provided(*args: object) -> Any:
        home = importlib.import_module("paramesh.parallel.layouts.jax_sharding")
        return getattr(home, call)(*args)

    return provided


def _summary(net: Any, args: Any, kwargs: Any, depth: Any, compiled: Any) -> Any:
    return importlib.import_module("paramesh.views").summarise(net, args, kwargs, depth, compiled)


def _lowered_for_target(fn: object, args: object, kwargs: object, target: str) -> Any:
    home = importlib.import_module("paramesh.parallel.planning.ahead")
    return home.lowered_for(fn, args, kwargs, target)


def _html(value: object) -> str:
    return importlib.import_module("paramesh.views").html_of(value)


def _tree(value: object, path: str | None, subtree_renderer: object) -> Any:
    home = importlib.import_module("paramesh.views.treescope_view")
    return home.tree_of(value, path, subtree_renderer)


def _around(place: placement.Placement) -> placement.Placement:
    if not get_ps_context("enable_ps"):
        session = sys.modules.get("paramesh.ps.integration.session")
        if session is not None:
            session.end()
        return place
    return importlib.import_module("paramesh.ps.integration.hybrid").placement_around(place)


def _loaded(mine: Any, given: Any) -> Any:
    if not any(name.endswith(".recipe") for name in given) and not get_ps_context("enable_ps"):
        return mine, given, lambda: None
    return importlib.import_module("paramesh.ps.integration.checkpointing").loaded(mine, given)


def _left_in_file(source: object, names: list[str], net: object) -> dict[str, Any]:
    if not getattr(source, "tables", None):
        return {}
    home = importlib.import_module("paramesh.ps.integration.stored_rows")
    return home.left_in_file(source, names, net)


#: Variables by which others say where the servers are.
_OF_SERVERS = "PARAMESH_PS_"


def _join() -> object:
    return importlib.import_module("paramesh.parallel.processes.membership").join()


def _ps_outside(settings: dict[str, Any]) -> Any:
    if "MS_SERVER_NUM" in os.environ and "PARAMESH_PS_ADDRESS" not in os.environ:
        roles = importlib.import_module("paramesh.ps.deployment.roles")
        role = roles.detect(os.environ)
        if role is not None:
            return roles.take_part(role, settings["timeout"])
    if not any(name.startswith(_OF_SERVERS) for name in os.environ):
        return {}, {}, {}
    return importlib.import_module("paramesh.ps.deployment.environment").outside()


def _convert_control_flow(error: BaseException) -> bool:
    return importlib.import_module("paramesh.transforms.python_control_flow").learn(error)


def _operator(name: str) -> Any:
    return getattr(importlib.import_module("paramesh.ops"), name)


providers.operator = _operator
providers.convert_control_flow = _convert_control_flow
providers.join_processes = _join
providers.server_settings = _ps_outside
providers.placement_of_mode = _placement_of
providers.placement_around = _around
providers.loaded = _loaded
providers.left_in_file = _left_in_file
providers.layout_table = _layout_table
providers.layout_tuples = _layout_tuples
providers.sharding_of = _jax_sharding("sharding_of")
providers.set_place = _jax_sharding("set_place")
providers.move = _jax_sharding("move")
providers.as_layout = _as_layout
providers.lowered_for_target = _lowered_for_target
providers.summary = _summary
providers.html = _html
providers.tree = _tree


def __getattr__(name: str) -> Any:
    home = _LAZY.get(name)
    if home is None:
        return _path(name)
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES, *_LAZY})


#: What other libraries call what is here.
_INSTEAD = {
    "Module": "paramesh.Cell",
    "nnx": "paramesh.nn",
    "save": "paramesh.save_checkpoint(net, path)",
    "load": "paramesh.load_checkpoint(path, net)",
    "no_grad": "Only grad() and value_and_grad() take gradients; ops.stop_gradient() keeps "
    "them from a value.",
    "backward": "paramesh.grad or paramesh.value_and_grad",
    "compile": "paramesh.jit, or net.compile(inputs)",
    "device_put": "jax.device_put",
    "set_default_dtype": "the dtype of each array, or net.to_float(dtype)",
    "Variable": "paramesh.Parameter",
    "DataLoader": "paramesh.dataset, or any iterable of batches",
    **dict.fromkeys(("functional", "F"), "paramesh.ops"),
    **{
        name: f"paramesh.ops.{name}"
        for name in (
            "randn",
            "zeros",
            "ones",
            "arange",
            "concat",
            "cat",
            "stack",
            "where",
            "matmul",
        )
    },
}
_path = lazy_names.opened(__name__, {}, __dir__, _INSTEAD)
