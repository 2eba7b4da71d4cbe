"""Cell: a layer or network that owns Parameters and other Cells.

Glossary
    attribute path  `layer1.0.weight`: the attributes that lead from a Cell to a Parameter
    owner           the Cell and attribute that hold a Parameter
    token           what compiled programs bake in of a Cell: train flag, structure, plain attributes

Naming is MindSpore's. A Parameter without a name takes the attribute's name; when a Cell becomes
an attribute of another, every Parameter in it is renamed to the prefix and its attribute path.
The same Parameter or Cell used twice is one Parameter with one name.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Self

import jax
import numpy as np

from paramesh import context, tracing
from paramesh.dtype import DType, to_dtype
from paramesh.errors import DuplicateNameError, ParameterNameError
from paramesh.nn import cell_call
from paramesh.parameter import DEFAULT_NAME, Parameter, ParameterTuple
from paramesh.tensor import Tensor
from paramesh.transforms.compiled import CompiledFunction

_PREFIX = re.compile(r"[0-9A-Za-z_.]*")
_NOT_INITIALISED = (
    "{cls}.__init__ must call super().__init__() before it assigns Parameters or Cells "
    "(here: '{name}')."
)
_PLAIN = (int, float, str, bool, tuple, type(None), bytes, DType)


class HookRemover:
    """What the `register_..._hook` methods return: `remove()` takes the hook away."""

    def __init__(self, cell: Cell, hooks: list[Any], hook: Any) -> None:
        self._cell, self._hooks, self._hook = cell, hooks, hook

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)
            self._cell._changed()


class Cell:
    """Base of all layers and networks: write `__init__` and `construct`.

    Parameters and Cells assigned to attributes are registered in the order of assignment. A call
    from outside any program runs `construct` compiled (graph mode, the default) or operator by
    operator (PyNative mode); inside a program or another Cell's `construct` it just runs. Arrays
    among the arguments of an outside call become Tensors.

    Args:
        auto_prefix: whether Parameters of child Cells get the child's attribute name as prefix.
        flags: remembered in `get_flags()`.
    """

    _params: OrderedDict[str, Parameter | None]
    _cells: OrderedDict[str, Cell | None]

    def __init__(self, auto_prefix: bool = True, flags: dict[str, Any] | None = None) -> None:
        fields = self.__dict__
        fields["_params"] = OrderedDict()
        fields["_cells"] = OrderedDict()
        fields["_auto_prefix"] = auto_prefix
        fields["_version"] = 0
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

    # Registration.

    def __setattr__(self, name: str, value: Any) -> None:
        fields = self.__dict__
        params = fields.get("_params")
        if isinstance(value, Parameter):
            self._check_ready(name)
            self._drop_plain(name)
            self.insert_param_to_cell(name, value)
        elif isinstance(value, ParameterTuple):
            self._check_ready(name)
            self._set_tuple(name, value)
        elif isinstance(value, Cell):
            self._check_ready(name)
            self._set_cell(name, value)
        elif params is not None and name in params:
            self._set_in_param(name, value)
        elif params is not None and name in fields["_cells"]:
            if value is not None:
                raise TypeError(
                    f"{self._path(name)} is a Cell; it can be replaced by a Cell or None, "
                    f"not by {type(value).__name__}."
                )
            fields["_cells"][name] = None
            self._changed()
        else:
            self._set_plain(name, value)

    def _check_ready(self, name: str) -> None:
        if "_params" not in self.__dict__:
            raise AttributeError(_NOT_INITIALISED.format(cls=type(self).__name__, name=name))

    def _path(self, name: str) -> str:
        return f"{type(self).__name__}.{name}"

    def _drop_plain(self, name: str) -> None:
        if name in self._cells:
            raise KeyError(
                f"{self._path(name)} is a Cell and cannot become a Parameter: delete it first."
            )
        self.__dict__.pop(name, None)

    def _set_tuple(self, name: str, value: ParameterTuple) -> None:
        for param in value:
            if param.name == DEFAULT_NAME:
                param.name = name
            if self._params.get(param.name) is not param:
                self.insert_param_to_cell(param.name, param, check_name_contain_dot=False)
        self.__dict__[name] = value
        self._changed()

    def _set_cell(self, name: str, cell: Cell) -> None:
        if name in self._params:
            raise KeyError(
                f"{self._path(name)} is a Parameter and cannot become a Cell: delete it first."
            )
        self.__dict__.pop(name, None)
        if self._auto_prefix:
            cell.update_parameters_name(f"{name}.")
        self._cells[name] = cell
        self._changed()

    def _set_in_param(self, name: str, value: Any) -> None:
        param = self._params[name]
        if value is None:
            self._params[name] = None
            self._changed()
        elif isinstance(value, Tensor) and param is not None:
            param.set_data(value)
        else:
            raise TypeError(
                f"{self._path(name)} is a Parameter; it takes a Parameter, a Tensor (new data) or "
                f"None, not {type(value).__name__}."
            )

    def _set_plain(self, name: str, value: Any) -> None:
        old = self.__dict__.get(name, self)
        object.__setattr__(self, name, value)
        if "_version" not in self.__dict__ or old is value:
            return
        if not (type(old) is type(value) and isinstance(value, _PLAIN) and old == value):
            self._changed()

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__
        for registry in ("_params", "_cells"):
            members = fields.get(registry)
            if members is not None and name in members:
                return members[name]
        raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'.")

    def __delattr__(self, name: str) -> None:
        for members in (self._params, self._cells):
            if name in members:
                del members[name]
                self._changed()
                return
        object.__delattr__(self, name)
        self._changed()

    def _changed(self) -> None:
        self.__dict__["_version"] += 1
        tracing.moved()

    def _token(self) -> Any:
        fields = self.__dict__
        return fields["_version"], fields["training"]

    def insert_param_to_cell(
        self, param_name: str, param: Parameter | None, check_name_contain_dot: bool = True
    ) -> None:
        """Register a Parameter under an attribute name.

        Raises:
            KeyError: the name is empty, has a dot (unless allowed), or is another attribute's.
            TypeError: the name is no str, or `param` is neither a Parameter nor None.
            AttributeError: before `super().__init__()`.
            DuplicateNameError: another Parameter of this Cell has the same name.
        """
        self._check_ready(param_name)
        if not param_name:
            raise KeyError(f"{type(self).__name__}: a Parameter needs an attribute name, got ''.")
        if not isinstance(param_name, str):
            raise TypeError(
                f"{type(self).__name__}: the attribute name of a Parameter must be a str, "
                f"got {param_name!r}."
            )
        if check_name_contain_dot and "." in param_name:
            raise KeyError(
                f"{type(self).__name__}: the attribute name {param_name!r} may not have a dot."
            )
        if param_name not in self._params and (
            param_name in self.__dict__ or hasattr(type(self), param_name)
        ):
            raise KeyError(f"{self._path(param_name)} exists and is no Parameter.")
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"{self._path(param_name)}: expected a Parameter or None, "
                    f"got {type(param).__name__}."
                )
            if param.name == DEFAULT_NAME:
                param.name = param_name
            self._refuse_twin(param_name, param)
        self._params[param_name] = param
        self._changed()

    def _refuse_twin(self, attribute: str, param: Parameter) -> None:
        for other_attribute, other in self._params.items():
            if other_attribute == attribute or other is None or other is param:
                continue
            if other.name == param.name:
                raise DuplicateNameError(
                    f"Two different Parameters are named '{param.name}': "
                    f"{self._path(other_attribute)} and {self._path(attribute)}. Everything at "
                    "rest is keyed by name: give one of them another name, or none at all."
                )

    def insert_child_to_cell(self, child_name: str, child_cell: Cell) -> None:
        """Register a Cell under an attribute name, without renaming its Parameters.

        Raises:
            TypeError: the name is no str, or `child_cell` no Cell.
            KeyError: the name is empty or another attribute's.
        """
        if not isinstance(child_name, str):
            raise TypeError(f"{type(self).__name__}: a child's name is a str, got {child_name!r}.")
        if not child_name or "." in child_name:
            raise KeyError(f"{type(self).__name__}: {child_name!r} is no name for a child Cell.")
        if child_name not in self._cells and hasattr(self, child_name):
            raise KeyError(f"{self._path(child_name)} exists and is no Cell.")
        if not isinstance(child_cell, Cell):
            raise TypeError(
                f"{self._path(child_name)}: expected a Cell, got {type(child_cell).__name__}."
            )
        self._cells[child_name] = child_cell
        self._changed()

    # Looking around.

    def cells_and_names(
        self, cells: set[Cell] | None = None, name_prefix: str = ""
    ) -> Iterator[tuple[str, Cell]]:
        """(attribute path, Cell) of this Cell ('' first) and all below, each once."""
        seen = cells if cells is not None else set()
        if self in seen:
            return
        seen.add(self)
        yield name_prefix, self
        for name, cell in self._cells.items():
            if cell is not None:
                yield from cell.cells_and_names(seen, f"{name_prefix}.{name}" if name_prefix else name)

    def cells(self) -> Any:
        """The direct child Cells."""
        return self.name_cells().values()

    def name_cells(self) -> OrderedDict[str, Cell]:
        """{attribute: Cell} of the direct children, each once."""
        found: OrderedDict[str, Cell] = OrderedDict()
        for name, cell in self._cells.items():
            if cell is not None and cell not in found.values():
                found[name] = cell
        return found

    def parameters_and_names(
        self, name_prefix: str = "", expand: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(attribute path, Parameter), each Parameter once, under its first path."""
        seen: set[Parameter] = set()
        members = self.cells_and_names(name_prefix=name_prefix) if expand else [(name_prefix, self)]
        for path, cell in members:
            for name, param in cell._params.items():
                if param is not None and param not in seen:
                    seen.add(param)
                    yield (f"{path}.{name}" if path else name), param

    def get_parameters(self, expand: bool = True) -> Iterator[Parameter]:
        """The Parameters of this Cell and (with `expand`) of all below, each once."""
        for _, param in self.parameters_and_names(expand=expand):
            yield param

    def parameters_dict(self, recurse: bool = True) -> OrderedDict[str, Parameter]:
        """{full name: Parameter}.

        Raises:
            DuplicateNameError: two different Parameters have one name.
        """
        found: OrderedDict[str, Parameter] = OrderedDict()
        paths: dict[str, str] = {}
        for path, param in self.parameters_and_names(expand=recurse):
            if param.name in found:
                raise DuplicateNameError(
                    f"Two different Parameters are named '{param.name}': {self._path(path)} and "
                    f"{self._path(paths[param.name])}. Everything at rest is keyed by name: give "
                    "one of them another name, or none at all."
                )
            found[param.name] = param
            paths[param.name] = path
        return found

    def trainable_params(self, recurse: bool = True) -> list[Parameter]:
        """Parameters with `requires_grad`, in order, each once."""
        return [p for p in self.get_parameters(expand=recurse) if p.requires_grad]

    def untrainable_params(self, recurse: bool = True) -> list[Parameter]:
        """Parameters without `requires_grad`, in order, each once."""
        return [p for p in self.get_parameters(expand=recurse) if not p.requires_grad]

    def parameters_broadcast_dict(self, recurse: bool = True) -> OrderedDict[str, Parameter] | None:
        """{name: Parameter} of those that are broadcast (not `layerwise_parallel`); None if none."""
        found = OrderedDict(
            (name, p)
            for name, p in self.parameters_dict(recurse).items()
            if not p.layerwise_parallel
        )
        return found or None

    def _reachable_parameters(self) -> list[Parameter]:
        return list(self.get_parameters())

    # Names.

    def update_parameters_name(self, prefix: str = "", recurse: bool = True) -> None:
        """Name every Parameter `prefix` + its attribute path.

        Raises:
            TypeError: `prefix` is no str.
            ValueError: it has characters other than digits, letters, '_' and '.'.
        """
        if not isinstance(prefix, str):
            raise TypeError(f"update_parameters_name: prefix must be a str, got {prefix!r}.")
        if not _PREFIX.fullmatch(prefix):
            raise ParameterNameError(
                f"update_parameters_name: prefix {prefix!r} may consist of digits, letters, "
                "'_' and '.' only."
            )
        for path, param in self.parameters_and_names(expand=recurse):
            param.name = prefix + path

    def check_names(self) -> None:
        """Raise DuplicateNameError if two different Parameters have one name."""
        self.parameters_dict()

    def check_names_and_refresh_name(self) -> None:
        """The same as `check_names`; names are always fresh here."""
        self.check_names()

    # State.

    def set_train(self, mode: bool = True) -> Self:
        """Say for this Cell and all below whether they train (Dropout, BatchNorm, …)."""
        for _, cell in self.cells_and_names():
            cell.__dict__["training"] = bool(mode)
        tracing.moved()
        return self

    def set_grad(self, requires_grad: bool = True) -> Self:
        """Recorded, as in MindSpore: gradients here are asked for with `grad`."""
        self.__dict__["_requires_grad"] = requires_grad
        return self

    def init_parameters_data(self, auto_parallel_mode: bool = False) -> dict[Parameter, Parameter]:
        """Run all recipes now; returns {Parameter: the Parameter with data} (the same objects)."""
        return {param: param.init_data() for param in self.get_parameters()}

    def set_param_ps(self, recurse: bool = True, init_in_server: bool = False) -> None:
        """Have the trainable Parameters trained by the parameter server.

        Raises:
            ContextError: no parameter-server context.
        """
        for param in self.trainable_params(recurse):
            param.set_param_ps(init_in_server)

    def recompute(self, **options: Any) -> None:
        """Do not keep the activations inside this Cell for the backward pass; compute them again.

        Args:
            options: passed to `jax.checkpoint` (`policy`, `prevent_cse`). MindSpore's
                `mp_comm_recompute` and `parallel_optimizer_comm_recompute` are accepted.
        """
        ignored = ("mp_comm_recompute", "parallel_optimizer_comm_recompute")
        self.__dict__["_recompute"] = {k: v for k, v in options.items() if k not in ignored}
        self._changed()

    def to_float(self, dst_type: Any) -> Self:
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

    def add_flags(self, **flags: Any) -> Self:
        """Remember flags on this Cell."""
        self._flags.update(flags)
        return self

    def get_flags(self) -> dict[str, Any]:
        """The flags remembered on this Cell."""
        return self._flags

    def state_dict(self) -> OrderedDict[str, Parameter]:
        """{attribute path: Parameter}."""
        return OrderedDict(self.parameters_and_names())

    def apply(self, fn: Callable[[Cell], Any]) -> Self:
        """Call `fn` with every Cell below and then this one."""
        for cell in self.name_cells().values():
            cell.apply(fn)
        fn(self)
        return self

    # Hooks.

    def _register(self, hooks: list[Any], hook: Any) -> HookRemover:
        if not callable(hook):
            raise TypeError(f"{type(self).__name__}: a hook must be callable, got {hook!r}.")
        hooks.append(hook)
        self._changed()
        return HookRemover(self, hooks, hook)

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> HookRemover:
        """`hook(cell, inputs)` runs before `construct`; what it returns (if not None) replaces
        the inputs."""
        return self._register(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[..., Any]) -> HookRemover:
        """`hook(cell, inputs, output)` runs after `construct`; what it returns (if not None)
        replaces the output."""
        return self._register(self._forward_hooks, hook)

    def register_backward_hook(self, hook: Callable[..., Any]) -> HookRemover:
        """`hook(cell, grad_inputs, grad_outputs)` sees the gradients of float inputs and outputs
        in the backward pass; what it returns (if not None) replaces those of the inputs."""
        return self._register(self._backward_hooks, hook)

    # Running.

    def construct(self, *args: Any, **kwargs: Any) -> Any:
        """What the Cell computes; to be written by every subclass."""
        raise NotImplementedError(f"{type(self).__name__} has no construct().")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if "_params" not in self.__dict__:
            raise AttributeError(_NOT_INITIALISED.format(cls=type(self).__name__, name="__call__"))
        if tracing.current() is not None:
            return cell_call.run(self, args, kwargs)
        args = tuple(_tensor(a) for a in args)
        kwargs = {k: _tensor(a) for k, a in kwargs.items()}
        if context.get_context("mode") == context.PYNATIVE_MODE:
            return cell_call.run(self, args, kwargs)
        return self._program()(*args, **kwargs)

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
        self._program().trace(*map(_tensor, args), **{k: _tensor(a) for k, a in kwargs.items()})

    # Copying and printing.

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_compiled": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def cls_name(self) -> str:
        """The class's name."""
        return type(self).__name__

    def extend_repr(self) -> str:
        """What `repr` shows of the Cell itself; subclasses list their arguments."""
        return ""

    def __repr__(self) -> str:
        extra = self.extend_repr()
        if not self._cells:
            return f"{type(self).__name__}({extra})"
        lines = [extra] if extra else []
        for name, cell in self._cells.items():
            lines.append(f"({name}): " + repr(cell).replace("\n", "\n  "))
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"


def _tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray | jax.Array):
        return Tensor(value)
    return value
