"""What higher layers provide to lower ones: one registry, with a type for each entry.

A lower layer that needs something from a higher one asks `providers` for it when it is needed. By
default an entry is the behaviour of one process on one device without servers.
`paramesh/__init__.py` sets most of them, to functions that import the higher layer when called.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from paramesh.errors import ContextError

#: A `paramesh.state.placement.Placement`, which is in a higher layer.
Placement: TypeAlias = Any

#: Settings of the parameter server that cannot be changed, defaults for the others, and for each of
#: the first where it comes from.
ServerSettings = tuple[dict[str, Any], dict[str, Any], dict[str, str]]

#: The rest of {name: Parameter} and of a checkpoint's contents for plain values, and a call that
#: stores what was taken out.
Loaded = tuple[dict[str, Any], dict[str, Any], Callable[[], None]]


def _nothing() -> None:
    return None


def _no_settings(settings: dict[str, Any]) -> ServerSettings:
    return {}, {}, {}


def _size_of_one(group: str) -> int:
    if group not in ("hccl_world_group", "nccl_world_group"):
        raise ValueError(
            f"there is no group {group!r}. Make it: paramesh.communication.init(), then "
            f"create_group({group!r}, [0, 1])."
        )
    return 1


def _no_placement(mode: str) -> Placement:
    raise ContextError(f"no placement is provided for parallel_mode={mode!r}. Import paramesh.")


def _unchanged(placement: Placement) -> Placement:
    return placement


def _as_given(mine: dict[str, Any], given: dict[str, Any]) -> Loaded:
    return mine, given, _nothing


def _nothing_left(source: object, names: list[str], net: object) -> dict[str, Any]:
    return {}


def _as_it_is(place: object, shape: Sequence[int], name: str) -> Any:
    return place


def _of_the_array(tensor: Any) -> Any:
    return getattr(tensor._get(), "sharding", None)


def _no_place(param: Any, place: object) -> None:
    raise ContextError("nobody knows how to place a Parameter. Import paramesh.")


def _no_table(params: Sequence[Any]) -> Any:
    raise ContextError("no table of layouts is provided. Import paramesh.")


def _no_tuples(params: Sequence[Any]) -> dict[str, Any]:
    raise ContextError("no layouts are provided. Import paramesh.")


def _no_target(fn: object, args: object, kwargs: object, target: str) -> Any:
    raise ContextError(f"nobody knows how to compile for target={target!r}. Import paramesh.")


def _no_summary(net: object, args: object, kwargs: object, depth: object, compiled: object) -> Any:
    raise ContextError("no summary of networks is provided. Import paramesh.")


def _plain_html(value: object) -> str:
    return f"<pre>{html.escape(repr(value))}</pre>"


def _no_tree(value: object, path: str | None, subtree_renderer: object) -> Any:
    return NotImplemented


def _no_operator(name: str) -> Any:
    raise ContextError(f"nobody knows the operator {name!r}. Import paramesh.")


def _not_converted(error: BaseException) -> bool:
    return False


@dataclasses.dataclass
class Providers:
    """The registry.

    Attributes:
        join_processes: joins the other processes of the run, before a setting looks at the devices.
        server_settings: what the program that started this process says of the parameter server,
            given the settings that the script makes.
        device_target: what `device_target` becomes in a script that was written for other machines;
            None: the setting is taken literally.
        by_operators: whether a function that does what only Python can do (ask a traced Tensor for
            its values, change an attribute in each call, keep a result in one) runs operator by
            operator, with a warning; otherwise that is an error.
        group_size: how many devices are in the group of a name.
        placement_of_mode: the placement of a parallel mode, from the settings.
        placement_around: what the settings of servers make of the placement of the mode.
        loaded: takes what does not become plain values out of what is loaded.
        left_in_file: which of the named arrays of a checkpoint need not be read to load it into a
            network, and what `loaded` gets in their place.
        layout_table: the table of the layouts of Parameters.
        layout_tuples: the same as MindSpore's tuples, by name.
        as_layout: a layout from JAX's words for one, given a shape and a name.
        sharding_of: where a Tensor lies.
        set_place: has a Parameter lie somewhere, by its layout or at once.
        move: brings a Parameter somewhere at once.
        lowered_for_target: a compiled function and a call of it, as the `jax.stages.Lowered` for
            the devices of a target.
        summary: of a network: it, its inputs, its named inputs, how deep, whether it is compiled.
        html: the view of an object in a notebook.
        tree: what treescope shows of an object, given a path to it and what renders its insides.
        operator: the function of an operator's name.
        convert_control_flow: converts the `if` or `while` over Tensors that ended a trace with this
            error; gives whether it could.
    """

    join_processes: Callable[[], object] = _nothing
    server_settings: Callable[[dict[str, Any]], ServerSettings] = _no_settings
    device_target: Callable[[Any], Any] | None = None
    by_operators: bool = False
    group_size: Callable[[str], int] = _size_of_one
    placement_of_mode: Callable[[str], Placement] = _no_placement
    placement_around: Callable[[Placement], Placement] = _unchanged
    loaded: Callable[[dict[str, Any], dict[str, Any]], Loaded] = _as_given
    left_in_file: Callable[[Any, list[str], Any], dict[str, Any]] = _nothing_left
    layout_table: Callable[[Sequence[Any]], Any] = _no_table
    layout_tuples: Callable[[Sequence[Any]], dict[str, Any]] = _no_tuples
    as_layout: Callable[[Any, Sequence[int], str], Any] = _as_it_is
    sharding_of: Callable[[Any], Any] = _of_the_array
    set_place: Callable[[Any, Any], None] = _no_place
    move: Callable[[Any, Any], None] = _no_place
    lowered_for_target: Callable[[Any, Any, Any, str], Any] = _no_target
    summary: Callable[[Any, Any, Any, Any, Any], Any] = _no_summary
    html: Callable[[Any], str] = _plain_html
    tree: Callable[[Any, str | None, Any], Any] = _no_tree
    operator: Callable[[str], Any] = _no_operator
    convert_control_flow: Callable[[BaseException], bool] = _not_converted


#: The registry of this process.
providers = Providers()
