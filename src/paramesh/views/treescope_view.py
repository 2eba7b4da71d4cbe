"""Trees for treescope, which shows nested objects in notebooks with pictures of their arrays.

treescope calls `__treescope_repr__` of an object. It is imported by then, so that nothing here asks
for it earlier. As in the other views nothing is computed: of a recipe the tree has the recipe.
Arrays are handed on as they are, and treescope reads as much of them as it draws.

Source: treescope's documentation, "Customizing Treescope Renderings" (`treescope.repr_lib` and
`treescope.rendering_parts` are its stable interface).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from paramesh.nn.cell import Cell
from paramesh.parallel.modes.layout_table import byte_text
from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor
from paramesh.views.notebook import is_optimizer, optimizer_state
from paramesh.views.places import place_of


class _Child(NamedTuple):
    """A line of a tree: a label, and an object or a text."""

    label: str
    value: Any
    path: str | None = None
    plain: bool = False


def tree_of(value: object, path: str | None, subtree_renderer: Callable[..., Any]) -> Any:
    """What treescope shows of a Tensor, Parameter, Cell or optimizer.

    Args:
        value: the object.
        path: an expression for it, which a person can copy; None without one.
        subtree_renderer: treescope's function that renders what is inside.

    Returns:
        treescope's rendering, or `NotImplemented` for other objects.
    """
    note = ""
    if isinstance(value, Parameter):
        inside, note = _parameter(value, path), f"{value.shape} {value.dtype}, {place_of(value)}"
    elif isinstance(value, Tensor):
        inside = [_Child("", value._get(), path)]
    elif is_optimizer(value):
        inside = [_Child("parameters=", list(value.parameters), path and f"{path}.parameters")]
        for prefix, params in optimizer_state(value).items():
            inside.append(_Child(f"{prefix or 'step and rates'}: ", params))
    elif isinstance(value, Cell):
        inside, note = _cell(value, path), byte_text(sum(p.nbytes for p in value.get_parameters()))
    else:
        return NotImplemented
    parts: Any = importlib.import_module("treescope.rendering_parts")
    kind = parts.maybe_qualified_type_name(type(value))
    if not inside:
        about = value.extend_repr() if isinstance(value, Cell) else ""
        return parts.build_one_line_tree_node(parts.siblings(kind, f"({about})"), path)
    children = [
        parts.siblings_with_annotations(
            child.label,
            parts.text(str(child.value))
            if child.plain
            else subtree_renderer(child.value, path=child.path),
        )
        for child in inside
    ]
    return parts.build_foldable_tree_node_from_children(
        prefix=parts.siblings(kind, "("),
        children=children,
        suffix=")",
        comma_separated=True,
        path=path,
        first_line_annotation=parts.comment_color(parts.text(f"  # {note}")) if note else None,
    )


def _parameter(param: Parameter, path: str | None) -> list[_Child]:
    name = _Child("name=", param.name, path and f"{path}.name")
    frozen = [] if param.requires_grad else [_Child("requires_grad=", False)]
    if param.has_init:
        return [
            name,
            *frozen,
            _Child("init=", f"{param.init!r} of {param.shape} {param.dtype}", plain=True),
        ]
    return [name, *frozen, _Child("value=", param._concrete(), path and f"{path}.value()")]


def _cell(cell: Cell, path: str | None) -> list[_Child]:
    own = {name: param for name, param in cell._params.items() if param is not None}
    return [
        _Child(
            f"{name}=" if name.isidentifier() else f"{name}: ",
            inner,
            path and (f"{path}[{name}]" if name.isdigit() else f"{path}.{name}"),
        )
        for name, inner in [*own.items(), *cell.name_cells().items()]
    ]
