"""How each Parameter is sharded in the semi-automatic mode, and who says so.

As in MindSpore, the layout of a Parameter follows from the operators that use it. In this order:

    given       `Parameter.layout`, or a `parameter_plan` of `Cell.shard`
    used        the strategy of an operator that has the Parameter as an operand
    file        the strategy file of `strategy_ckpt_load_file`, by name
    followed    the layout of the Parameter that this one was cloned from (optimizer state); with
                the parallel optimizer shards further along axis 0, over the devices that would hold
                copies
    none        it is replicated

What the first three say of one Parameter must agree. Numbers say how many shards there are, named
axes (a `Layout`) also which devices hold which: numbers take what the named axes say.

Glossary
    finding     a layout with its reason; kept on the Parameter (`_found`) once a trace has ended
    basis       what findings were made under: devices and strategies; others are out of date
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from paramesh.errors import LayoutError
from paramesh.parallel.layouts.layout import Layout, Placed, replicated
from paramesh.parallel.layouts.strategy import layout_of
from paramesh.parameter import Parameter


class Finding(NamedTuple):
    """A layout of a Parameter with its reason.

    Attributes:
        layout: never None; one without shardings for a Parameter that is replicated.
        reason: for messages: the operator and its strategy.
        exact: whether it says which devices hold which shard, and not only how many shards.
        basis: see the glossary.
        searched: for a layout that a search found, the kind of program it was found for, "training"
            or "reading"; "" for one that somebody gave.
    """

    layout: Layout
    reason: str
    exact: bool
    basis: Any
    searched: str = ""


class ParameterLayouts:
    """The layouts of Parameters under one setting.

    Args:
        device_num: how many devices there are.
        split_state: whether the parallel optimizer is on.
        file: {name: entry} of a strategy file.
        path: of that file, for messages.
        config: the setting `parallel_optimizer_config`.
    """

    def __init__(
        self,
        device_num: int,
        split_state: bool,
        file: Mapping[str, Placed],
        path: str,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._config = config or {}
        self.device_num = device_num
        self.split_state = split_state
        self._file = file
        self._path = path

    def said(self, param: Parameter, basis: object) -> Finding | None:
        """What the Parameter itself or the file says.

        Raises:
            TypeError, LayoutError: it does not fit the shape or the devices.
        """
        given = param._strategy
        if given is not None:
            layout = layout_of(given, param.shape, self.device_num, param.name)
            return Finding(layout, "its own layout", isinstance(given, Layout), basis)
        entry = self._file.get(param.name)
        if entry is None:
            return None
        layout = entry.layout or replicated(len(param.shape), self.device_num)
        layout = layout_of(layout, param.shape, self.device_num, param.name)
        return Finding(layout, f"the strategy file {self._path}", True, basis)

    def used(
        self, param: Parameter, layout: Layout, reason: str, exact: bool, before: Finding | None
    ) -> Finding:
        """What holds once an operator has used a Parameter.

        Args:
            param: the operand.
            layout: which the operator's strategy gives it.
            reason: the operator and its strategy.
            exact: whether the strategy names axes of devices.
            before: what was known.

        Raises:
            LayoutError: that contradicts it.
        """
        found = Finding(layout, reason, exact, before.basis if before else None)
        if before is None:
            return found
        agree = before.layout.parts == layout.parts
        if agree and exact and before.exact:
            agree = before.layout.same_placement(layout)
        if not agree:
            raise LayoutError(
                f"Parameter '{param.name}' of shape {param.shape}: {reason} shards it by "
                f"{layout!r} into {layout.parts} shards, but {before.reason} by {before.layout!r} "
                f"into {before.layout.parts}. A Parameter has one layout: give both the same "
                "strategy for it, or have one of them use a Tensor computed from it."
            )
        return found if exact and not before.exact else before

    def split(self, param: Parameter, layout: Layout | None) -> Layout | None:
        """The layout of optimizer state under the parallel optimizer.

        Args:
            param: that is trained.
            layout: its own; None if replicated.

        Returns:
            `layout` with axis 0 sharded over all devices that would hold copies, or as many as the
            settings say; unchanged if that does not divide it, or the Parameter is kept out.
        """
        if not self.split_state or not param.parallel_optimizer or not param.shape:
            return layout
        if param.nbytes < 1024 * self._config.get("parallel_optimizer_threshold", 0):
            return layout
        base = layout or replicated(len(param.shape), self.device_num)
        sharding_axes = base.cuts
        used = {axis for axes in sharding_axes for axis in axes}
        free = [a for a, n in enumerate(base.device_matrix) if n > 1 and a not in used]
        limit = self._config.get("optimizer_weight_shard_size", -1)
        if limit != -1:
            return _split_over(param, layout, base, free, limit)
        names = tuple(base.alias_name[axis] for axis in (*sharding_axes[0], *free))
        sizes = dict(zip(base.alias_name, base.device_matrix, strict=True))
        if not free or param.shape[0] % math.prod(sizes[name] for name in names):
            return layout
        rest = [
            tuple(base.alias_name[axis] for axis in axes) or "None" for axes in sharding_axes[1:]
        ]
        return Layout(base.device_matrix, base.alias_name, base.rank_list)(names, *rest)


def _split_over(
    param: Parameter, layout: Layout | None, base: Layout, free: Sequence[int], limit: int
) -> Layout | None:
    """The same with axis 0 sharded over `limit` neighbours among the devices with replicas."""
    sizes = dict(zip(base.alias_name, base.device_matrix, strict=True))
    axes: list[tuple[str, int]] = list(sizes.items())
    taken: list[str] = []
    for axis in reversed(free):
        name = base.alias_name[axis]
        mine = math.gcd(limit, sizes[name])
        if mine == 1:
            continue
        limit //= mine
        at = [own for own, _ in axes].index(name)
        outer = f"{name}_outer"
        axes[at : at + 1] = [(outer, sizes[name] // mine), (name, mine)]
        taken.insert(0, name)
    split = dict(axes)
    own = [base.alias_name[axis] for axis in base.cuts[0]]
    names = (*own, *taken)
    if not taken or param.shape[0] % math.prod(split[name] for name in names):
        return layout
    made = Layout(tuple(split.values()), tuple(split), base.rank_list)
    rest = [tuple(base.alias_name[axis] for axis in axes) or "None" for axes in base.cuts[1:]]
    return made(names, *rest)


def original_of(param: Parameter) -> Parameter | None:
    """The Parameter whose layout this one follows: it was cloned from it and has its shape."""
    original = None if param._original is None else param._original()
    return original if original is not None and original.shape == param.shape else None
