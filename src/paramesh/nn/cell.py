"""Cell: a layer or network that owns Parameters and other Cells.

Glossary
    cache key   what compiled programs depend on in a Cell: train flag, structure, plain attributes
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import jax
import numpy as np

from paramesh import context
from paramesh.dtype import to_dtype
from paramesh.errors import ConstructError
from paramesh.nn import cell_call, eager_call, sharding
from paramesh.nn.compiler_hints import CompilerHints
from paramesh.nn.pipeline_stage import PipelineStage
from paramesh.nn.sharding import Strategies
from paramesh.nn.state_dicts import StateDicts
from paramesh.nn.submodules import NOT_INITIALISED
from paramesh.ops.table import named_once
from paramesh.parameter import HookHandle, Parameter, check_strategy, materialise
from paramesh.providers import providers
from paramesh.state import tracing
from paramesh.tensor.argument_types import DTypeLike
from paramesh.tensor.base import Tensor, wrap
from paramesh.transforms.compiled_function import CompiledFunction

#: What other libraries call backends.
_BACKENDS = ("ascend", "npu", "gpu", "cuda", "cpu", "tpu")
#: What `register_..._hook` methods take; what it is called with is the method's.
Hook = Callable[..., Any]


@contextmanager
def no_init_parameters() -> Generator[None]:
    """MindSpore's context for Cells without data; here Cells have no data until it is used."""
    yield


class Cell(StateDicts, CompilerHints, PipelineStage):
    """Base of all layers and networks: write `__init__` and `construct`.

    Parameters and Cells assigned to attributes are registered in the order of assignment. A call
    from outside any program runs `construct` compiled (graph mode, the default) or operator by
    operator (PyNative mode); inside a program or another Cell's `construct` it just runs. Arrays
    among the arguments of an outside call become Tensors.

    Args:
        auto_prefix: whether Parameters of child Cells get the child's attribute name as prefix.
        flags: remembered in `get_flags()`.
    """

    def __init__(self, auto_prefix: bool = True, flags: dict[str, Any] | None = None) -> None:
        super().__init__(auto_prefix)
        fields = self.__dict__
        fields["_compiled"] = None
        fields["_flags"] = dict(flags or {})
        fields["_forward_pre_hooks"] = []
        fields["_forward_hooks"] = []
        fields["_backward_hooks"] = []
        fields["_recompute"] = None
        fields["_to_float"] = None
        fields["_requires_grad"] = False
        fields["training"] = False
        fields["param_prefix"] = ""

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        # A notebook's %autoreload defines classes anew, and then gives them to their instances.
        tracing.bump_version()

    def _cache_key(self) -> tuple[Hashable, ...]:
        fields = self.__dict__
        return type(self), fields["_version"], fields["training"]

    def _inside(self) -> list[Cell]:
        return [cell for cell in self._cells.values() if cell is not None]

    # State.

    def set_train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode for this Cell and all below (Dropout, BatchNorm, …)."""
        for _, cell in self.cells_and_names():
            cell.__dict__["training"] = bool(mode)
        tracing.bump_version()
        return self

    def set_grad(self, requires_grad: bool = True) -> Self:
        """Recorded, as in MindSpore: gradients here are asked for with `grad`."""
        self.__dict__["_requires_grad"] = requires_grad
        return self

    def init_parameters_data(self, auto_parallel_mode: bool = False) -> dict[Parameter, Parameter]:
        """Run all recipes now; returns {Parameter: the Parameter with data} (the same objects)."""
        params = list(self.get_parameters())
        declared = [param for param in params if param.has_init]
        materialise(declared)  # together: far fewer programs than one by one
        for param in declared:
            param.mark_inited()
        return {param: param for param in params}

    def set_param_ps(
        self,
        recurse: bool = True,
        init_in_server: bool = False,
        *,
        admit_after: int = 1,
        expire_after: int = 0,
        admit_probability: float = 1.0,
        max_rows: int = 0,
    ) -> None:
        """Have the trainable Parameters trained by the parameter server.

        Args:
            recurse: those of the Cells inside, too.
            init_in_server: make tables of those of every `EmbeddingLookup`.
            admit_after: of the tables, see `Parameter.set_param_ps`.
            expire_after: likewise.
            admit_probability: likewise.
            max_rows: likewise; the number for each table.

        Raises:
            ContextError: no parameter-server context.
            TypeError, ValueError: as `Parameter.set_param_ps`.
        """
        for param in self.trainable_params(recurse):
            param.set_param_ps(
                init_in_server,
                admit_after=admit_after,
                expire_after=expire_after,
                admit_probability=admit_probability,
                max_rows=max_rows,
            )

    def shard(
        self,
        in_strategy: Strategies | None = None,
        out_strategy: Strategies | None = None,
        parameter_plan: Mapping[str, Any] | None = None,
        device: str = "Ascend",
        level: int = 0,
        *,
        strategy: object = None,
    ) -> Callable[..., Any]:
        """Set how inputs, outputs and Parameters are sharded in the semi-automatic parallel mode.

        Args:
            in_strategy: for each positional input a tuple of ints (the number of shards of each
                axis), a `parallel.Layout`, or None: axis 0 over all devices. None: inputs are not
                resharded.
            out_strategy: the same for each output.
            parameter_plan: {name: tuple of ints or Layout}; names as in `state_dict`, or full ones.
            device: has no effect, like `level`: both address MindSpore's compiler.
            level: see `device`.
            strategy: another name of `in_strategy`.

        Returns:
            The Cell's call, as in MindSpore. Assigned to an attribute, it does not register the
            Cell again or rename Parameters. The strategies hold for every call of the Cell; a
            second `shard` replaces them.

        Raises:
            TypeError: strategies that are not tuples, or a `parameter_plan` that is not a mapping.
            LayoutError: names without a Parameter, or a layout that does not fit one.
        """
        in_strategy = named_once(f"{type(self).__name__}.shard", in_strategy, strategy)
        sharding.check_strategies(type(self).__name__, in_strategy, out_strategy)
        layouts = sharding.planned_layouts(self, parameter_plan)
        for param, layout in layouts:
            check_strategy(layout, param.shape, param.name)
        for param, layout in layouts:
            param.layout = layout
        before, after = self._forward_pre_hooks, self._forward_hooks
        before[:] = [hook for hook in before if not isinstance(hook, sharding.ShardInputs)]
        after[:] = [hook for hook in after if not isinstance(hook, sharding.ShardOutputs)]
        if in_strategy is not None:
            before.append(sharding.ShardInputs(in_strategy))
        if out_strategy is not None:
            after.insert(0, sharding.ShardOutputs(out_strategy))
        self._changed()
        return self.__call__

    def set_comm_fusion(self, fusion_type: int, recurse: bool = True) -> Self:
        """Say which gradients travel together: those of Parameters with one `comm_fusion`.

        Args:
            fusion_type: a number from 0 on, `Parameter.comm_fusion`.
            recurse: of the trainable Parameters of the Cells inside, too.

        Returns:
            The Cell itself.

        Raises:
            TypeError: no int; ValueError: negative.
        """
        for param in self.trainable_params(recurse):
            param.comm_fusion = fusion_type
        return self

    def layout_table(self) -> Any:
        """How every Parameter is sharded over the devices, as far as compiled programs have decided
        it.

        Returns:
            A `parallel.LayoutTable`: `print` shows it, `rows` and `to_dicts()` give its data.

        Raises:
            LayoutError: a layout that was given does not fit the devices.
        """
        return providers.layout_table(list(self.get_parameters()))

    @property
    def parameter_layout_dict(self) -> dict[str, tuple[Any, ...]]:
        """MindSpore's form of `layout_table`: {name of a Parameter: its layout}.

        A layout is ([device matrix], [tensor map], [shape of a slice], 0, True, ""). In the tensor
        map an entry is the axis of the device matrix that shards this axis of the array, counted
        from the last, which is 0; -1 for none. In modes without one global view there are entries
        for Parameters that programs of such a mode have sharded before.

        Raises:
            LayoutError: as `layout_table`, or a layout that such a tuple cannot say.
        """
        return providers.layout_tuples(list(self.get_parameters()))

    def to_device(self, place: Any) -> Self:
        """Bring all Parameters to a device, or over several; returns self.

        Programs then run where their Parameters are. Those that have no data yet compute their
        recipes there. In the parallel modes, `Parameter.layout` decides instead.

        Args:
            place: what `Parameter.to_device` takes, for all Parameters; or a function that gives it
                for a Parameter, None for one that stays where it is.

        Raises:
            TypeError, LayoutError, ParameterStateError: as `Parameter.to_device`.
        """
        places = callable(place) and not isinstance(place, type)
        for param in self.get_parameters():
            wanted = place(param) if places else place
            if wanted is not None:
                param.to_device(wanted)
        return self

    def block_until_ready(self) -> Self:
        """Wait until the values of all Parameters that have some are computed; returns self."""
        for param in self.get_parameters():
            if not param.has_init:
                param.block_until_ready()
        return self

    def summary(
        self, *args: object, depth: int | None = None, compiled: bool = True, **kwargs: object
    ) -> Any:
        """The Cells inside: output shapes, Parameters, bytes, flops, and where each lies.

        Nothing is computed and no recipe runs: the network is traced for the shapes of the inputs,
        and what it writes while it runs (moving averages, random state) is dropped.

        Args:
            *args: inputs, of which the shapes count; a `jax.ShapeDtypeStruct` may stand for a
                Tensor. Without inputs there are no shapes and flops.
            depth: rows of Cells that lie deeper are left out of the printed tables.
            compiled: compile the program, for its flops and its memory.
            **kwargs: named inputs.

        Returns:
            A `views.Summary`: `print` shows a table, a notebook a view to fold; `to_dict()` and
            `to_json()` give data.

        Raises:
            TypeError, ValueError: `depth` is no int from 0.
        """
        return providers.summary(self, args, kwargs, depth, compiled)

    def recompute(self, **options: object) -> None:
        """Do not keep the activations inside this Cell for the backward pass; compute them again.

        Args:
            options: passed to `jax.checkpoint` (`policy`, `prevent_cse`). MindSpore's
                `mp_comm_recompute`, `parallel_optimizer_comm_recompute` and
                `recompute_slice_activation` are checked, and XLA decides: what is computed again
                is sharded as it was the first time, with its collectives.

        Raises:
            TypeError: one of MindSpore's options is no bool.
        """
        ignored = (
            "mp_comm_recompute",
            "parallel_optimizer_comm_recompute",
            "recompute_slice_activation",
        )
        for name in ignored:
            if not isinstance(options.get(name, False), bool):
                raise TypeError(
                    f"{type(self).__name__}.recompute: {name} must be a bool, got "
                    f"{options[name]!r}."
                )
        self.__dict__["_recompute"] = {k: v for k, v in options.items() if k not in ignored}
        self._changed()

    def to_float(self, dst_type: DTypeLike) -> Self:
        """Compute in another float type: inputs and Parameters are cast where they are used.

        The Parameters themselves, and their gradients, keep their type.

        Raises:
            ValueError: not float16, bfloat16 or float32.
        """
        dtype = to_dtype(dst_type)
        if dtype.long_name not in ("float16", "bfloat16", "float32"):
            raise ValueError(
                f"to_float: expected float16, bfloat16 or float32, got {dtype.long_name}."
            )
        self.__dict__["_to_float"] = dtype
        self._changed()
        return self

    def to(
        self,
        *args: object,
        device: str | None = None,
        dtype: DTypeLike | None = None,
        non_blocking: bool = False,
    ) -> Self:
        """Cast the float Parameters and buffers, in place; returns self (MindSpore 2.10).

        `to_float` computes in another type and leaves Parameters as they are.

        Args:
            *args: `dtype`, `device` (and then `dtype`), or a Tensor of the wanted type.
            device: None, or the backend that JAX runs on.
            dtype: Float16, BFloat16, Float32, Float64 or a complex type.
            non_blocking: has no effect.

        Raises:
            TypeError: an element type of integers or Bool, or other arguments.
            ValueError: another backend.
        """
        for given in args:
            if isinstance(given, str) and given.partition(":")[0].lower() in _BACKENDS:
                device = given
            elif isinstance(given, Tensor):
                dtype = given.dtype
            elif given is not None and not isinstance(given, bool):
                dtype = to_dtype(given)  # pyright: ignore[reportArgumentType]
        if device is not None and device.partition(":")[0].lower() != jax.default_backend():
            raise ValueError(
                f"{type(self).__name__}.to: device must be {jax.default_backend().upper()!r}, "
                f"which JAX runs on here, got {device!r}. JAX_PLATFORMS chooses the backend, and "
                "to_device() a device of it."
            )
        if dtype is None:
            return self
        wanted = to_dtype(dtype)
        if wanted.kind not in ("float", "complex"):
            raise TypeError(
                f"{type(self).__name__}.to: dtype must be a type of floats or complex numbers, "
                f"got {wanted}."
            )
        for param in self._reachable_parameters():
            if param.dtype.kind in ("float", "complex"):
                param.set_dtype(wanted)
        return self

    def apply(self, fn: Callable[[Cell], Any]) -> Self:
        """Call `fn` with every Cell below and then this one."""
        for cell in self.name_cells().values():
            cell.apply(fn)
        fn(self)
        return self

    # Hooks.

    def _register(self, hooks: list[Hook], hook: Hook) -> HookHandle[Hook]:
        if not callable(hook):
            raise TypeError(f"{type(self).__name__}: a hook must be callable, got {hook!r}.")
        hooks.append(hook)
        self._changed()
        return HookHandle(hooks, hook, self._changed)

    def register_forward_pre_hook(self, hook: Hook) -> HookHandle[Hook]:
        """`hook(cell, inputs)` runs before `construct`; what it returns (if not None) replaces
        the inputs.
        """
        return self._register(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook: Hook) -> HookHandle[Hook]:
        """`hook(cell, inputs, output)` runs after `construct`; what it returns (if not None)
        replaces the output.
        """
        return self._register(self._forward_hooks, hook)

    def register_backward_hook(self, hook: Hook) -> HookHandle[Hook]:
        """`hook(cell, grad_inputs, grad_outputs)` sees the gradients of float inputs and outputs
        in the backward pass; what it returns (if not None) replaces those of the inputs.
        """
        return self._register(self._backward_hooks, hook)

    # Running.

    if TYPE_CHECKING:
        # Of any type: with that of a method, a `construct` under `jit` would be no override of it.
        construct: Any
    else:

        def construct(self, *args, **kwargs):
            """What the Cell computes; to be written by every subclass."""
            name = type(self).__name__
            hint = " It has forward(): name that construct." if hasattr(self, "forward") else ""
            raise ConstructError(f"{name} has no construct().{hint}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`construct`, compiled or not as the class says."""
        __tracebackhide__ = True  # in notebooks, as the other frames of paramesh
        if "_params" not in self.__dict__:
            raise AttributeError(NOT_INITIALISED.format(cls=type(self).__name__, name="__call__"))
        if tracing.current() is not None:
            return cell_call.run(self, args, kwargs)
        args = tuple(as_input(a) for a in args)
        kwargs = {k: as_input(a) for k, a in kwargs.items()}
        if context.get_context("mode") != context.PYNATIVE_MODE:
            return self._program()(*args, **kwargs)
        return eager_call.call(self, args, kwargs)

    def _program(self) -> CompiledFunction:
        program = self.__dict__["_compiled"]
        if program is None:
            program = CompiledFunction(
                lambda *args, **kwargs: cell_call.run(self, args, kwargs),
                hints=self._reachable_parameters,
            )
            program.__name__ = type(self).__name__
            program.fn.__name__ = type(self).__name__
            self.__dict__["_compiled"] = program
        return program

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile for these inputs without running."""
        self._program().trace(*map(as_input, args), **{k: as_input(a) for k, a in kwargs.items()})

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """The program for these inputs before it is compiled, see `CompiledFunction.lower`.

        Args:
            *args: inputs; a `jax.ShapeDtypeStruct` may stand for a Tensor.
            **kwargs: likewise.
        """
        named = {k: as_input(a) for k, a in kwargs.items()}
        return self._program().lower(*map(as_input, args), **named)

    def prefetch(self, *args: Any, **kwargs: Any) -> None:
        """Announce, before a call, the inputs of the call after it.

        See `CompiledFunction.prefetch`: a hint, useful with tables on parameter servers.
        """
        if context.get_context("mode") == context.GRAPH_MODE:
            named = {k: as_input(a) for k, a in kwargs.items()}
            self._program().prefetch(*map(as_input, args), **named)

    # Copying and printing.

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_compiled": None}
        state.pop("_paramesh_programs", None)
        state.pop("_since", None)  # by identity, and of this process
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def cls_name(self) -> str:
        """The class's name."""
        return type(self).__name__

    def extend_repr(self) -> str:
        """What `repr` shows of the Cell itself; subclasses list their arguments."""
        return ""

    def _repr_html_(self) -> str:
        return providers.html(self)

    def __treescope_repr__(self, path: str | None, subtree_renderer: object) -> Any:
        return providers.tree(self, path, subtree_renderer)

    def __repr__(self) -> str:
        extra = self.extend_repr()
        if not self._cells:
            return f"{type(self).__name__}({extra})"
        lines = [extra] if extra else []
        for name, cell in self._cells.items():
            lines.append(f"({name}): " + repr(cell).replace("\n", "\n  "))
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"


def as_input(value: Any) -> Any:
    """An input of a Cell: an array, of whatever library, as a Tensor; all else as it is."""
    if isinstance(value, np.ndarray | jax.Array):
        return Tensor(value)
    if not isinstance(value, Tensor) and hasattr(value, "__dlpack__"):
        return Tensor(value)  # of another library, such as torch
    return wrap(value) if isinstance(value, jax.ShapeDtypeStruct) else value
