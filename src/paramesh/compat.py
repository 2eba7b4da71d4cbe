"""The table of MindSpore's import paths, and the modules of paramesh that implement them.

`from mindspore.common.initializer import initializer` works with `mindspore` replaced by
`paramesh`. A path of the table returns the module itself, so nothing exists twice. For scripts that
should not be edited there is `as_mindspore()`: after it, `import mindspore` gives paramesh.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Sequence

from paramesh import child_processes, deprecations, lazy_names

#: MindSpore's path below its top package -> modules here. Several modules are combined: a name is
#: taken from the first module that has it.
PATHS: dict[str, tuple[str, ...]] = {
    "common": (
        "paramesh.tensor",
        "paramesh.parameter",
        "paramesh.dtype",
        "paramesh.initializer",
        "paramesh.sampling.recipe",
        "paramesh.mindspore_names",
        "paramesh.tensor.row_tensor",
    ),
    "common.api": (
        "paramesh.transforms",
        "paramesh.mindspore_names",
        "paramesh.mindspore_internals",
    ),
    "amp": ("paramesh.train.amp", "paramesh.train.loss_scalers", "paramesh.optim.loss_scale"),
    "common.dtype": ("paramesh.dtype",),
    "common.generator": ("paramesh.random",),
    "common.initializer": ("paramesh.initializer",),
    "common.jit_config": ("paramesh.mindspore_names",),
    "common.lazy_inline": ("paramesh.mindspore_names",),
    "common.parameter": ("paramesh.parameter",),
    "common.seed": ("paramesh.sampling.recipe", "paramesh.mindspore_internals"),
    "common.tensor": ("paramesh.tensor",),
    "communication": ("paramesh.parallel.communication",),
    "communication._comm_helper": ("paramesh.parallel.communication.management",),
    "communication.management": ("paramesh.parallel.communication.management",),
    "dataset.core": ("paramesh.dataset",),
    "dataset.core.config": ("paramesh.dataset.config",),
    "dataset.core.validator_helpers": ("paramesh.mindspore_checks",),
    "dataset.engine": ("paramesh.dataset",),
    "dataset.engine.config": ("paramesh.dataset.config",),
    "dataset.engine.datasets": ("paramesh.dataset",),
    "dataset.engine.datasets_audio": ("paramesh.dataset",),
    "dataset.engine.datasets_standard_format": ("paramesh.dataset",),
    "dataset.engine.datasets_text": ("paramesh.dataset",),
    "dataset.engine.datasets_user_defined": ("paramesh.dataset",),
    "dataset.engine.datasets_vision": ("paramesh.dataset",),
    "dataset.engine.iterators": ("paramesh.dataset.iterators",),
    "dataset.engine.samplers": ("paramesh.dataset.samplers",),
    **{
        f"experimental.optim.{name}": ("paramesh.experimental.optim",)
        for name in (
            *("adadelta", "adagrad", "adam", "adamax", "adamw", "asgd", "nadam", "optimizer"),
            *("radam", "rmsprop", "rprop", "sgd"),
        )
    },
    "mindrecord.filereader": ("paramesh.mindrecord",),
    "mindrecord.filewriter": ("paramesh.mindrecord",),
    "dataset.audio.transforms": ("paramesh.dataset.audio",),
    "dataset.audio.utils": ("paramesh.dataset.audio",),
    "dataset.text.transforms": ("paramesh.dataset.text", "paramesh.dataset.transforms"),
    "dataset.text.utils": ("paramesh.dataset.text",),
    "dataset.transforms.transforms": ("paramesh.dataset.transforms",),
    "dataset.transforms.vision": ("paramesh.dataset.vision",),
    "dataset.transforms.vision.c_transforms": ("paramesh.dataset.vision.c_transforms",),
    "dataset.transforms.vision.py_transforms": ("paramesh.dataset.vision.py_transforms",),
    "dataset.vision.py_transforms_util": ("paramesh.dataset.vision.pillow_functions",),
    "dataset.vision.transforms": ("paramesh.dataset.vision", "paramesh.dataset.transforms"),
    "dataset.vision.utils": ("paramesh.dataset.vision",),
    "nn.layer": ("paramesh.nn",),
    "nn.layer.activation": ("paramesh.nn.activation",),
    "nn.layer.basic": (
        "paramesh.nn.basic",
        "paramesh.nn.dropout",
        "paramesh.mindspore_internals",
    ),
    "nn.layer.container": ("paramesh.nn.containers",),
    "nn.layer.conv": ("paramesh.nn.conv", "paramesh.nn.conv_transpose"),
    "nn.layer.embedding": ("paramesh.nn.embedding",),
    "nn.layer.image": ("paramesh.nn",),
    "nn.layer.math": ("paramesh.nn",),
    "nn.layer.normalization": ("paramesh.nn.normalization",),
    "nn.layer.pooling": ("paramesh.nn.pooling",),
    "nn.layer.rnns": ("paramesh.nn.recurrent",),
    "nn.loss": ("paramesh.nn",),
    "nn.loss.loss": (
        "paramesh.nn.losses",
        "paramesh.mindspore_internals",
    ),
    "nn.optim": ("paramesh.optim",),
    "nn.optim.optimizer": (
        "paramesh.optim",
        "paramesh.mindspore_internals",
    ),
    "nn.optim.adam": ("paramesh.optim.adam",),
    "nn.optim.ada_grad": ("paramesh.optim",),
    "nn.optim.adadelta": ("paramesh.optim",),
    "nn.optim.adafactor": ("paramesh.optim",),
    "nn.optim.adamax": ("paramesh.optim",),
    "nn.optim.asgd": ("paramesh.optim",),
    "nn.optim.ftrl": ("paramesh.optim",),
    "nn.optim.lamb": ("paramesh.optim",),
    "nn.optim.lars": ("paramesh.optim",),
    "nn.optim.lazyadam": ("paramesh.optim",),
    "nn.optim.proximal_ada_grad": ("paramesh.optim",),
    "nn.optim.rprop": ("paramesh.optim",),
    "nn.optim.momentum": ("paramesh.optim.sgd",),
    "nn.optim.rmsprop": ("paramesh.optim.adaptive",),
    "nn.optim.sgd": ("paramesh.optim.sgd",),
    "nn.learning_rate_schedule": ("paramesh.optim",),
    "nn.dynamic_lr": ("paramesh.optim",),
    "nn.metrics": ("paramesh.train",),
    "nn.metrics.metric": ("paramesh.train.metrics",),
    "nn.utils": ("paramesh.nn",),
    "nn.wrap": ("paramesh.train",),
    "nn.wrap.cell_wrapper": (
        "paramesh.train",
        "paramesh.mindspore_internals",
    ),
    "nn.wrap.grad_reducer": ("paramesh.train",),
    "nn.wrap.loss_scale": ("paramesh.train", "paramesh.mindspore_internals"),
    "ops._primitive_cache": ("paramesh.mindspore_internals",),
    "ops.auto_generate": (
        "paramesh.ops.operations",
        "paramesh.ops.functional",
        "paramesh.mindspore_generated",
    ),
    "ops.auto_generate.gen_ops_def": (
        "paramesh.ops.functional",
        "paramesh.mindspore_generated",
    ),
    "ops.auto_generate.gen_ops_prim": (
        "paramesh.ops.operations",
        "paramesh.mindspore_generated",
    ),
    "ops.function": ("paramesh.ops.functional",),
    "ops.operations.comm_ops": (
        "paramesh.ops.operations",
        "paramesh.ops.collectives",
        "paramesh.ops.halo_exchange",
        "paramesh.mindspore_internals",
    ),
    "ops.operations.nn_ops": ("paramesh.ops.operations",),
    "ops.primitive": ("paramesh.ops",),
    "parallel": (
        "paramesh.parallel",
        "paramesh.nn.sharded_function",
        "paramesh.checkpoint",
        "paramesh.mindspore_names",
    ),
    "parallel._auto_parallel_context": ("paramesh.parallel.mindspore_utils",),
    "parallel._cost_model_context": ("paramesh.parallel.mindspore_cost_model",),
    "parallel.algo_parameter_config": ("paramesh.mindspore_names",),
    "parallel.nn": ("paramesh.train.pipeline_cell", "paramesh.train"),
    "parallel.nn.parallel_cell_wrapper": (
        "paramesh.train.pipeline_cell",
        "paramesh.train",
        "paramesh.mindspore_internals",
    ),
    "parallel.nn.parallel_grad_reducer": ("paramesh.train.pipeline_cell",),
    "parallel.function": ("paramesh.ops.resharding",),
    "parallel.shard": ("paramesh.nn.sharded_function", "paramesh.parallel"),
    "parallel.auto_parallel": ("paramesh.parallel.modes.auto_parallel",),
    "parallel._utils": ("paramesh.parallel.mindspore_utils",),
    "train.callback": (
        "paramesh.train",
        "paramesh.mindspore_internals",
        "paramesh.train.callback_internals",
    ),
    "train.callback._callback": (
        "paramesh.train.callbacks",
        "paramesh.mindspore_internals",
        "paramesh.train.callback_internals",
    ),
    "train.callback._checkpoint": (
        "paramesh.train.model_checkpoint",
        "paramesh.mindspore_internals",
        "paramesh.train.callback_internals",
    ),
    "train.dataset_helper": ("paramesh.mindspore_names",),
    "profiler.profiling": ("paramesh.profiler",),
    "profiler.profiler": ("paramesh.profiler",),
    "train.summary.enums": ("paramesh.train.summary_arguments",),
    "train.summary.summary_record": ("paramesh.train.summary_record",),
    "version": ("paramesh.mindspore_version",),
    "_checkparam": ("paramesh.mindspore_checks",),
    "_extends": ("paramesh.mindspore_internals",),
    "_extends.parse": ("paramesh.mindspore_primitives",),
    "_extends.parse.standard_method": ("paramesh.mindspore_primitives",),
    "boost": ("paramesh.mindspore_internals",),
    "boost.grad_accumulation": ("paramesh.mindspore_internals",),
    "ops.composite.base": ("paramesh.ops.composite", "paramesh.mindspore_primitives"),
    "ops.function.nn_func": ("paramesh.ops.functional",),
    "ops.function.array_func": ("paramesh.ops.functional",),
    "ops.function.math_func": ("paramesh.ops.functional",),
    "ops.function.random_func": ("paramesh.ops.functional",),
    "ops.operations.image_ops": (
        "paramesh.ops.operations",
        "paramesh.mindspore_inner_operators",
    ),
    "ops.operations.linalg_ops": ("paramesh.ops.operations",),
    "ops.operations.math_ops": (
        "paramesh.ops.operations",
        "paramesh.mindspore_inner_operators",
    ),
    "ops.operations.other_ops": ("paramesh.ops.operations",),
    "ops.operations.random_ops": ("paramesh.ops.operations",),
    "ops.operations.sparse_ops": (
        "paramesh.ops.operations",
        "paramesh.mindspore_sets",
        "paramesh.mindspore_sparse",
    ),
    "ops.operations.spectral_ops": ("paramesh.ops.operations",),
    "ops.operations.array_ops": (
        "paramesh.ops.operations",
        "paramesh.mindspore_inner_operators",
    ),
    "ops.operations._grad_ops": ("paramesh.mindspore_gradients",),
    "ops.operations._embedding_cache_ops": ("paramesh.mindspore_inner_operators",),
    "ops.operations.inner_ops": (
        "paramesh.ops.operations",
        "paramesh.mindspore_inner_operators",
    ),
    "ops.operations._inner_ops": ("paramesh.ops.operations", "paramesh.mindspore_primitives"),
    "hal": ("paramesh.runtime",),
    "device_context": ("paramesh.runtime",),
    "device_context.ascend": ("paramesh.runtime",),
    "device_context.ascend.op_precision": ("paramesh.runtime",),
    "device_context.cpu": ("paramesh.runtime",),
    "device_context.gpu": ("paramesh.runtime",),
    "device_context.gpu.op_precision": ("paramesh.runtime",),
    "train.train_thor.dataset_helper": ("paramesh.mindspore_names",),
    "train.train_thor": ("paramesh.train", "paramesh.mindspore_internals"),
    "train.serialization": (
        "paramesh.checkpoint",
        "paramesh.mindspore_names",
        "paramesh.mindspore_later_names",
        "paramesh.mindspore_internals",
    ),
    "train.loss_scale_manager": ("paramesh.optim",),
}


class _Combined(types.ModuleType):
    """A package that combines the names of several modules."""

    _stands_for: tuple[str, ...] = ()

    def _lookup(self, name: str) -> tuple[object, ...]:
        """The value of a name, in a tuple; empty if there is none."""
        for source in self._stands_for:
            value = getattr(importlib.import_module(source), name, self)
            if not isinstance(value, types.ModuleType):
                return (value,)
        return ()

    def __getattr__(self, name: str) -> object:
        if not name.startswith("__"):
            path = f"{self.__name__}.{name}"
            if path.partition(".")[2] in PATHS:
                return importlib.import_module(path)
            for value in self._lookup(name):
                return value
        known = lambda: [n for s in self._stands_for for n in dir(importlib.import_module(s))]  # noqa: E731
        raise AttributeError(lazy_names.missing(f"'{self.__name__}'", name, known))


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the paths of the table below one top-level name."""

    def __init__(self, top: str, error: Callable[[str], ImportError] | None = None) -> None:
        self.top = top
        self.error = error

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        top, _, rest = fullname.partition(".")
        if top != self.top:
            return None
        if top == "paramesh" and rest not in PATHS:
            deprecated = deprecations.MODULES.get(fullname)
            if deprecated is None:
                return None
            deprecated.warn(fullname)
            return importlib.machinery.ModuleSpec(fullname, self, is_package=False)
        if not is_path(rest):
            if self.error is not None:
                raise self.error(fullname)
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        rest = spec.name.partition(".")[2]
        if spec.name in deprecations.MODULES:
            sources = (deprecations.MODULES[spec.name].new,)
        else:
            sources = PATHS.get(rest, (f"paramesh.{rest}",) if rest else ("paramesh",))
        module = _Combined(spec.name, f"Stands for {', '.join(sources)}.")
        module._stands_for = sources
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Put the implementing module in place of the empty one."""
        assert isinstance(module, _Combined)
        if len(module._stands_for) == 1 and module.__name__ != "mindspore":
            target = importlib.import_module(module._stands_for[0])
            # A callable module (`paramesh.tensor`) is the same object at every path.
            package = hasattr(target, "__path__") and not callable(target)
            if package and module.__name__.partition(".")[2] in PATHS:
                # All names exist for star imports; unknown ones are looked up in the module itself.
                # A path below it may have more names than the module of ours that it is called as.
                rest = module.__name__.partition(".")[2]
                vars(module).update(
                    {
                        k: v
                        for k, v in vars(target).items()
                        if not k.startswith("__") and f"{rest}.{k}" not in PATHS
                    }
                )
                module.__all__ = getattr(target, "__all__", [])  # type: ignore[attr-defined]
            else:
                sys.modules[module.__name__] = target


def is_path(path: str) -> bool:
    """Whether a path of MindSpore, without its top-level name, is a module here."""
    if path in PATHS:
        return True
    try:
        return importlib.util.find_spec(f"paramesh.{path}") is not None
    except ModuleNotFoundError:  # its parent is not a package
        return False


def install(top: str = "paramesh", error: Callable[[str], ImportError] | None = None) -> None:
    """Make the table's paths importable below `top`; a second call does nothing.

    Args:
        top: the top-level name.
        error: creates the error for an unknown path; None: python's own error.
    """
    if not any(isinstance(f, _Finder) and f.top == top for f in sys.meta_path):
        # Below paramesh real modules have precedence. Below another name this finder comes first:
        # Python's own would find paramesh's files by their folder, and load them a second time.
        at = len(sys.meta_path) if top == "paramesh" else 0
        sys.meta_path.insert(at, _Finder(top, error))


def _absent(path: str) -> ImportError:
    return importlib.import_module("paramesh.scripts.absent").error(path)


def as_mindspore() -> None:
    """Let `import mindspore` in this process give paramesh.

    Raises:
        ImportError: MindSpore itself is installed, or imported already.
    """
    if "mindspore" in sys.modules:
        raise ImportError("as_mindspore(): the real 'mindspore' is imported in this process.")
    if importlib.util.find_spec("mindspore") is not None:
        raise ImportError(
            "as_mindspore(): MindSpore is installed here, and would be shadowed. Use an "
            "environment without it, or replace 'mindspore' by 'paramesh' in the script."
        )
    install("mindspore", _absent)
    child_processes.add("paramesh.compat:as_mindspore")
    sys.modules["mindspore"] = importlib.import_module("paramesh")


install()
