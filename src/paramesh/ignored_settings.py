"""Settings of MindSpore's `set_context` without effect here: accepted, and logged once.

They configure MindSpore's compiler and devices. XLA and JAX have settings of their own.
"""

from __future__ import annotations

import logging
from typing import Any

_DEVICE = "JAX chooses the devices: see CUDA_VISIBLE_DEVICES and JAX_PLATFORMS"
_COMPILER = "XLA is the compiler here: see XLA_FLAGS"
_FILES = "JAX writes its own: see jax.profiler, and jax.config's jax_dump_ir_to"
_CACHE = "use compilation_cache_dir"
_MEMORY = "JAX allocates the memory: see XLA_PYTHON_CLIENT_MEM_FRACTION"
_THREADS = "XLA has threads of its own"

#: {name: (MindSpore's default, why it has no effect)}.
SETTINGS: dict[str, tuple[Any, str]] = {
    "device_id": (0, _DEVICE),
    "save_graphs_path": ("", _FILES),
    "enable_dump": (False, _FILES),
    "save_dump_path": ("", _FILES),
    "print_file_path": ("", "ops.Print prints"),
    "env_config_path": ("", _FILES),
    "enable_profiling": (False, _FILES),
    "profiling_options": ("", _FILES),
    "enable_reduce_precision": (True, "element types are kept"),
    "enable_auto_mixed_precision": (False, "use amp_level of Model, or Cell.to_float"),
    "enable_graph_kernel": (False, _COMPILER),
    "graph_kernel_flags": ("", _COMPILER),
    "auto_tune_mode": ("NO_TUNE", _COMPILER),
    "aoe_tune_mode": ("", _COMPILER),
    "aoe_config": ({}, _COMPILER),
    "jit_syntax_level": (2, _COMPILER),
    "jit_config": ({}, _COMPILER),
    "jit_level": ("O0", _COMPILER),
    "exec_order": ("bfs", _COMPILER),
    "topo_order": ({}, _COMPILER),
    "ascend_config": ({}, _COMPILER),
    "gpu_config": ({}, _COMPILER),
    "grad_for_scalar": (False, "gradients are by Tensors"),
    "enable_sparse": (False, "there are no sparse Tensors"),
    "max_call_depth": (1000, "python's own limit holds while a program is traced"),
    "reserve_class_name_in_scope": (True, _COMPILER),
    "enable_compile_cache": (False, _CACHE),
    "compile_cache_path": ("", _CACHE),
    "load_compile_cache": (False, _CACHE),
    "save_compile_cache": (False, _CACHE),
    "precompile_only": (False, "use Cell.compile"),
    "variable_memory_max_size": ("30GB", _MEMORY),
    "max_device_memory": ("1024GB", _MEMORY),
    "mempool_block_size": ("1GB", _MEMORY),
    "memory_optimize_level": ("O0", _MEMORY),
    "memory_offload": ("OFF", _MEMORY),
    "enable_mem_reuse": (True, _MEMORY),
    "enable_task_sink": (True, "steps are always dispatched asynchronously"),
    "enable_loop_sink": (True, "steps are always dispatched asynchronously"),
    "runtime_num_threads": (30, _THREADS),
    "inter_op_parallel_num": (0, _THREADS),
    "pynative_synchronize": (False, "an error is raised where a value is looked at"),
    "deterministic": ("OFF", "see XLA_FLAGS=--xla_gpu_deterministic_ops=true"),
    "op_timeout": (900, _COMPILER),
    "debug_level": (0, _COMPILER),
    "support_binary": (False, _COMPILER),
    "disable_format_transform": (False, _COMPILER),
}

_logger = logging.getLogger("paramesh")
_noted: set[str] = set()


def note(name: str) -> None:
    """Log once in a process that a setting has no effect."""
    if name not in _noted:
        _noted.add(name)
        _logger.warning(
            "set_context: %s is MindSpore's and has no effect here: %s.", name, SETTINGS[name][1]
        )
