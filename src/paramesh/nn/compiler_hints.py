"""What scripts tell MindSpore's compiler about a Cell: flags, and hints without effect here."""

from __future__ import annotations

import logging
from typing import Any, Self

from paramesh.array_types import Tree
from paramesh.dtype import DType, bfloat16, float16, float32
from paramesh.tensor.argument_types import DTypeLike

_logger = logging.getLogger("paramesh")

#: Flags that are a type to compute in, the strongest first.
_TYPES: dict[str, DType] = {"fp16": float16, "bf16": bfloat16, "fp32": float32}

_SHAPES = "a program is compiled for each shape that it is given"
_XLA = "XLA is the compiler here"

_noted: set[str] = set()


class CompilerHints:
    """Methods of a Cell for MindSpore's compiler; see Cell."""

    _flags: dict[str, Any]

    def to_float(self, dst_type: DTypeLike) -> Any:
        """See Cell."""
        raise NotImplementedError

    def cells(self) -> Any:
        """See Cell."""
        raise NotImplementedError

    def add_flags(self, **flags: object) -> Self:
        """Remember flags on this Cell, and let it have them as attributes.

        `fp16=True`, `bf16=True` and `fp32=True` are `to_float` of that type. Other flags are for
        MindSpore's compiler and have no effect here.
        """
        self._flags.update(flags)
        for name, flag in flags.items():
            if not hasattr(type(self), name):
                setattr(self, name, flag)
        for name, dtype in _TYPES.items():
            if flags.get(name):
                self.to_float(dtype)
                break
        return self

    def add_flags_recursive(self, **flags: object) -> Self:
        """`add_flags` of this Cell and of all inside it."""
        self.add_flags(**flags)
        for cell in self.cells():
            cell.add_flags_recursive(**flags)
        return self

    def get_flags(self) -> dict[str, Any]:
        """The flags remembered on this Cell."""
        return self._flags

    def set_jit_config(self, jit_config: object) -> None:
        """Without effect, and logged once: MindSpore's settings of its compiler."""
        self._hint("set_jit_config", _XLA)

    def set_inputs(self, *inputs: Tree, **kwargs: Tree) -> None:
        """Remember descriptions of the inputs of `construct`. Without effect, and logged once.

        MindSpore compiles one program for all lengths of an axis that is described as None. Here
        each shape has a program of its own, which is compiled when it first comes.

        Args:
            *inputs: for each a Tensor, of which shape and element type count, with None for an
                axis of any length: `Tensor(shape=(None, 3), dtype=paramesh.float32)`; or anything
                else that `construct` takes.
            **kwargs: likewise, by name.

        Raises:
            ValueError: none, or both kinds.
        """
        if bool(inputs) == bool(kwargs):
            raise ValueError(
                "set_inputs: describe the inputs by position or by name, got "
                f"{len(inputs)} and {len(kwargs)}."
            )
        self._hint("set_inputs", _SHAPES)
        self.__dict__["_described"] = inputs or tuple(kwargs.values())

    def get_inputs(self) -> tuple[Tree, ...] | None:
        """What `set_inputs` was given; None before."""
        return self.__dict__.get("_described")

    def set_boost(self, boost_type: str) -> Self:
        """Without effect, and logged once: MindSpore's fused layers."""
        self._hint("set_boost", _XLA)
        return self

    def set_broadcast_flag(self, mode: bool = True) -> Self:
        """Without effect, and logged once: equal seeds give all processes the same values."""
        self._hint("set_broadcast_flag", "equal seeds give all processes the same values")
        return self

    def set_data_parallel(self) -> Self:
        """Without effect, and logged once: say `shard` which axes are split."""
        self._hint("set_data_parallel", "use shard")
        return self

    def set_auto_parallel(self) -> Self:
        """Without effect, and logged once: the parallel mode is a setting of all programs."""
        self._hint("set_auto_parallel", "use set_auto_parallel_context(parallel_mode=…)")
        return self

    def offload(self, backward_prefetch: object = "Auto") -> None:
        """Without effect, and logged once: activations stay on the device, see `recompute`."""
        self._hint("offload", "use recompute")

    def _hint(self, name: str, reason: str) -> None:
        if name not in _noted:
            _noted.add(name)
            _logger.warning("Cell.%s is MindSpore's and has no effect here: %s.", name, reason)
