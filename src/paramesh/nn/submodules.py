"""What a Cell is made of: its Parameters and Cells, by attribute, by path and by name.

Glossary
    attribute path  `layer1.0.weight`: the attributes that lead from a Cell to a Parameter
    owner           the Cell and attribute that hold a Parameter

Naming is MindSpore's. A Parameter without a name takes the attribute's name; when a Cell becomes
an attribute of another, every Parameter in it is renamed to the prefix and its attribute path.
The same Parameter or Cell used twice is one Parameter with one name.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from paramesh import lazy_names
from paramesh.dtype import DType
from paramesh.errors import HOW_TO_RENAME, DuplicateNameError, ParameterNameError
from paramesh.nn import unknown_arguments, unregistered
from paramesh.parameter import DEFAULT_NAME, Parameter, ParameterTuple
from paramesh.parameter.names import renamed
from paramesh.state import trace_scope, tracing, trained
from paramesh.tensor.base import Tensor

_PREFIX = re.compile(r"[0-9A-Za-z_.]*")
NOT_INITIALISED = (
    "{cls}.__init__ must call super().__init__() before it assigns Parameters or Cells "
    "(here: '{name}')."
)
_PLAIN = (int, float, str, bool, tuple, type(None), bytes, DType)


_MANY_NAMES = 200


class Submodules:
    """The Parameters and Cells of a Cell; assigning one to an attribute registers it."""

    #: What other libraries call what is here, for errors.
    _instead: ClassVar[Mapping[str, str]] = {
        "parameters": "trainable_params() or get_parameters()",
        "named_parameters": "parameters_and_names()",
        "modules": "cells_and_names()",
        "named_modules": "cells_and_names()",
        "children": "cells()",
        "named_children": "name_cells()",
        "train": "set_train()",
        "eval": "set_train(False)",
        "forward": "construct, and call the Cell itself",
        "half": "to_float(paramesh.float16)",
        "register_parameter": "an attribute, or insert_param_to_cell()",
        "add_module": "an attribute, or insert_child_to_cell()",
        "zero_grad": "Gradients are values that grad() and value_and_grad() return; there are none "
        "to clear.",
        "requires_grad_": "requires_grad of each Parameter: net.get_parameters()",
        "to": "Use to_float() for the element type; JAX_PLATFORMS chooses the backend.",
        "cuda": "Programs run on the backend that JAX has; JAX_PLATFORMS chooses it.",
        "cpu": "Programs run on the backend that JAX has; JAX_PLATFORMS chooses it.",
        "float": "to_float(paramesh.float32)",
        "bfloat16": "to_float(paramesh.bfloat16)",
        "init": "The Parameters are recipes from the start; init_parameters_data() runs them.",
        "split": "state_dict(), and functional_call(net, values, *inputs)",
        "buffers": "untrainable_params()",
        "register_buffer": "an attribute with a Parameter of requires_grad=False",
        "backward": "grad() or value_and_grad(), which return the gradients",
        "fit": "paramesh.Model(net, loss_fn, optimizer).train(epochs, dataset)",
        "predict": "paramesh.Model(net).predict(inputs), or call the Cell",
        "save": "paramesh.save_checkpoint(net, path)",
        "load": "paramesh.load_checkpoint(path, net)",
        "freeze": "Set requires_grad = False for its Parameters; trainable_params() has the rest.",
        "unfreeze": "Set requires_grad = True for its Parameters.",
        "grad": "paramesh.grad() or value_and_grad(), with weights=net.trainable_params()",
    }

    _params: OrderedDict[str, Parameter | None]
    _cells: OrderedDict[str, Any]
    _auto_prefix: bool
    _version: int
    #: {name: attribute} of the Parameters, as it was when `_now()` gave `_attributes_at`.
    _attributes: dict[str, str]

    __signature__ = unknown_arguments.SignatureOfInit()

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        unknown_arguments.name_init(cls)

    if not TYPE_CHECKING:  # checkers know from `__init__` what a class takes

        def __new__(cls, *args: object, **kwargs: object) -> Self:
            """A Cell that is not initialised, for arguments that its `__init__` has."""
            if kwargs:
                unknown_arguments.refuse(cls, cls.__init__, kwargs)
            new = super().__new__
            return new(cls) if new is object.__new__ else new(cls, *args, **kwargs)

    def __init__(self, auto_prefix: bool = True) -> None:
        trace_scope.created(self)
        fields = self.__dict__
        fields["_params"] = OrderedDict()
        fields["_cells"] = OrderedDict()
        fields["_auto_prefix"] = auto_prefix
        fields["_version"] = 0

    # Registration.

    def __setattr__(self, name: str, value: object) -> None:
        fields = self.__dict__
        params = fields.get("_params")
        if isinstance(value, Parameter):
            self._check_ready(name)
            self._drop_plain(name)
            self.insert_param_to_cell(name, value)
        elif isinstance(value, ParameterTuple):
            self._check_ready(name)
            self._set_tuple(name, value)
        elif isinstance(value, Submodules):
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
            raise AttributeError(NOT_INITIALISED.format(cls=type(self).__name__, name=name))

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

    def _set_cell(self, name: str, cell: Submodules) -> None:
        if name in self._params:
            raise KeyError(
                f"{self._path(name)} is a Parameter and cannot become a Cell: delete it first."
            )
        self.__dict__.pop(name, None)
        if self._auto_prefix:
            cell.update_parameters_name(f"{name}.")
        cell._assigned_to(self, name)
        self._cells[name] = cell
        self._changed()
        trained.added(self.__dict__, cell)

    def _assigned_to(self, owner: Submodules, name: str) -> None:
        """Is told which Cell this one becomes a part of, before it does, and under which name."""

    def _set_in_param(self, name: str, value: object) -> None:
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

    def _set_plain(self, name: str, value: object) -> None:
        old = self.__dict__.get(name, self)
        scope = trace_scope.current()
        if scope is not None:
            scope.attribute(self, name, trace_scope.MISSING if old is self else old)
        object.__setattr__(self, name, value)
        if isinstance(value, unregistered.CONTAINERS):
            self.__dict__.setdefault("_plain", {})[name] = None
        if "_version" not in self.__dict__ or old is value:
            return
        if not (type(old) is type(value) and isinstance(value, _PLAIN) and old == value):
            self._changed()

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__
        for registry in ("_params", "_cells"):
            registered = fields.get(registry)
            if registered is not None and name in registered:
                return registered[name]
        names = [*(fields.get("_params") or ()), *(fields.get("_cells") or ())]
        # An optimizer of a large network has too many to search.
        known = names if len(names) <= _MANY_NAMES else []
        text = lazy_names.missing(
            f"'{type(self).__name__}'", name, lambda: known, type(self)._instead
        )
        # With the object, python itself proposes methods that are near.
        raise AttributeError(text.removesuffix("."), name=name, obj=self)

    def __delattr__(self, name: str) -> None:
        for registered in (self._params, self._cells):
            if name in registered:
                del registered[name]
                self._changed()
                return
        object.__delattr__(self, name)
        self._changed()

    def _changed(self) -> None:
        self.__dict__["_version"] += 1
        tracing.bump_version()

    def insert_param_to_cell(
        self,
        param_name: str,
        param: Parameter | None,
        check_name_contain_dot: bool = True,
        *,
        check_name: bool | None = None,
    ) -> None:
        """Register a Parameter under an attribute name.

        Args:
            param_name: the attribute.
            param: the Parameter; None reserves the attribute.
            check_name_contain_dot: refuse a name with a dot.
            check_name: what MindSpore 1.x calls `check_name_contain_dot`.

        Raises:
            KeyError: the name is empty, has a dot (unless allowed), or is another attribute's.
            TypeError: the name is not a str, or `param` is neither a Parameter nor None.
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
        if check_name is not None:
            check_name_contain_dot = check_name
        if check_name_contain_dot and "." in param_name:
            raise KeyError(
                f"{type(self).__name__}: the attribute name {param_name!r} may not have a dot."
            )
        if param_name not in self._params and (
            param_name in self.__dict__ or hasattr(type(self), param_name)
        ):
            raise KeyError(f"{self._path(param_name)} exists and is not a Parameter.")
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"{self._path(param_name)}: expected a Parameter or None, "
                    f"got {type(param).__name__}."
                )
            if param.name == DEFAULT_NAME:
                param.name = param_name
            trace_scope.refuse_created(param, type(self).__name__)
            self._refuse_duplicate(param_name, param)
        self._params[param_name] = param
        self._changed()
        if param is not None:
            trained.added(self.__dict__, param)
        attributes = self.__dict__.get("_attributes")
        if param is not None and attributes is not None:
            attributes[param.name] = param_name
            self.__dict__["_attributes_at"] = self._now()

    def _refuse_duplicate(self, attribute: str, param: Parameter) -> None:
        if self.__dict__.get("_attributes_at") != self._now():
            named = {other.name: a for a, other in self._params.items() if other is not None}
            self.__dict__["_attributes"] = named
        other_attribute = self._attributes.get(param.name, attribute)
        other = self._params.get(other_attribute)
        if other_attribute == attribute or other is None or other is param:
            return
        if other.name == param.name:
            raise DuplicateNameError(
                f"Two different Parameters are named '{param.name}': "
                f"{self._path(other_attribute)} and {self._path(attribute)}. Checkpoints "
                "and optimizer state are keyed by name: rename one of them, or leave its name out."
            )

    def _now(self) -> tuple[int, int]:
        """Moves when an attribute may have another Parameter, or a Parameter another name."""
        return self._version, renamed.count

    def insert_child_to_cell(self, child_name: str, child_cell: object) -> None:
        """Register a Cell under an attribute name, without renaming its Parameters.

        Args:
            child_name: the attribute.
            child_cell: the Cell; None: the attribute is for one that may be set later.

        Raises:
            TypeError: the name is not a str, or `child_cell` is neither a Cell nor None.
            KeyError: the name is empty or another attribute's.
        """
        if not isinstance(child_name, str):
            raise TypeError(f"{type(self).__name__}: a child's name is a str, got {child_name!r}.")
        if not child_name or "." in child_name:
            raise KeyError(
                f"{type(self).__name__}: {child_name!r} is not a valid name for a child Cell."
            )
        if child_name not in self._cells and hasattr(self, child_name):
            raise KeyError(f"{self._path(child_name)} exists and is not a Cell.")
        if child_cell is not None and not isinstance(child_cell, Submodules):
            raise TypeError(
                f"{self._path(child_name)}: expected a Cell, got {type(child_cell).__name__}."
            )
        self._cells[child_name] = child_cell
        self._changed()
        if child_cell is not None:
            trained.added(self.__dict__, child_cell)

    # Looking around.

    def cells_and_names(
        self, cells: set[Any] | None = None, name_prefix: str = ""
    ) -> Iterator[tuple[str, Any]]:
        """(attribute path, Cell) of this Cell ('' first) and all below, each once."""
        seen = cells if cells is not None else set()
        if self in seen:
            return
        seen.add(self)
        yield name_prefix, self
        for name, cell in self._cells.items():
            if cell is not None:
                yield from cell.cells_and_names(
                    seen, f"{name_prefix}.{name}" if name_prefix else name
                )

    def cells(self) -> Any:
        """The direct child Cells."""
        return self.name_cells().values()

    def name_cells(self) -> OrderedDict[str, Any]:
        """{attribute: Cell} of the direct children, each once."""
        found: OrderedDict[str, Any] = OrderedDict()
        for name, cell in self._cells.items():
            if cell is not None and cell not in found.values():
                found[name] = cell
        return found

    def parameters_and_names(
        self, name_prefix: str = "", expand: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(attribute path, Parameter), each Parameter once, under its first path."""
        seen: set[Parameter] = set()
        cells = self.cells_and_names(name_prefix=name_prefix) if expand else [(name_prefix, self)]
        for path, cell in cells:
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
                    f"{self._path(paths[param.name])}. Checkpoints and optimizer state are "
                    f"keyed by name: rename one of them, or leave its name out. {HOW_TO_RENAME}"
                )
            found[param.name] = param
            paths[param.name] = path
        if recurse:
            self._warn_of_unregistered(found.values())
        return found

    def _warn_of_unregistered(self, known: Iterable[Parameter]) -> None:
        unregistered.warn_of(self, [cell for _, cell in self.cells_and_names()], known)

    def trainable_params(self, recurse: bool = True) -> list[Parameter]:
        """Parameters with `requires_grad`, in order, each once.

        Those in plain lists, tuples and dicts are not found; an `UnregisteredWarning` says so.
        """
        params = list(self.get_parameters(expand=recurse))
        if recurse:
            self._warn_of_unregistered(params)
        return [p for p in params if p.requires_grad]

    def untrainable_params(self, recurse: bool = True) -> list[Parameter]:
        """Parameters without `requires_grad`, in order, each once."""
        return [p for p in self.get_parameters(expand=recurse) if not p.requires_grad]

    def parameters_broadcast_dict(self, recurse: bool = True) -> OrderedDict[str, Parameter] | None:
        """{name: Parameter} of those without `layerwise_parallel`; None if there are none."""
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
            TypeError: `prefix` is not a str.
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
        """The same as `check_names`: names are always fresh here."""
        self.check_names()
