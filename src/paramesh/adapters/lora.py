"""`lora`: low-rank terms beside chosen layers of a network, of which the rest is frozen.

Glossary
    target      a layer that gets a term
    path        a layer's attribute path: `encoder.0.attention.query`
    merged      the term is added to the weight, and not computed
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from paramesh.adapters.lora_layers import KINDS, A, B, check_dropout, terms
from paramesh.errors import ParameterStateError
from paramesh.nn.cell import Cell
from paramesh.nn.stack import Stack
from paramesh.parameter import Parameter
from paramesh.tensor.base import raw, wrap

#: PEFT's word for all dense layers.
ALL_LINEAR = "all-linear"
_SHOWN = 8


class Target(NamedTuple):
    """A layer that has a term.

    Attributes:
        path: of the layer; of one in a stack, that of the stack and that in a layer of it.
        cell: the layer with the term.
        base: the layer without.
        weight: the Parameter that the term is beside; of all layers, in a stack.
        a: `lora_A`, likewise.
        b: `lora_B`, likewise.
        rank: the inner size.
        alpha: see `lora`.
        stack: the stack that the layer is in.
    """

    path: str
    cell: Any
    base: Cell
    weight: Parameter
    a: Parameter
    b: Parameter
    rank: int
    alpha: float
    stack: Stack | None


class Adapter:
    """The terms beside a network's layers; made by `lora` and `load_adapter`.

    Attributes:
        net: the network.
        targets: the layers that have a term.
        dropout: probability of a zero in what goes into the terms, while training.
        rslora: whether terms are scaled by alpha / sqrt(rank).
        trained: paths of the other layers that are trained as they are.
    """

    def __init__(
        self,
        net: Cell,
        chosen: Mapping[str, tuple[int, float]],
        dropout: float = 0.0,
        rslora: bool = False,
        trained: Iterable[str] = (),
    ) -> None:
        self.net, self.dropout, self.rslora = net, check_dropout(dropout), bool(rslora)
        self.trained = tuple(trained)
        self.targets: list[Target] = []
        self._before = {param: param.requires_grad for param in net.get_parameters()}
        self._kept: dict[Parameter, Any] = {}
        cells = dict(net.cells_and_names())
        stacks = {path: stack_of(net, cells[path]) for path in chosen}  # before anything is changed
        for path, (rank, alpha) in chosen.items():
            self.targets.append(self._beside(path, cells[path], rank, alpha, stacks[path]))
        terms = {param for target in self.targets for param in (target.a, target.b)}
        whole = {
            param
            for path, param in net.parameters_and_names()
            if any(path.startswith(f"{layer}.") for layer in self.trained)
        }
        for param in net.get_parameters():
            param.requires_grad = param in terms or param in whole

    def _beside(self, path: str, base: Any, rank: int, alpha: float, stack: Stack | None) -> Target:
        kind = KINDS[type(base)]
        by = math.sqrt(rank) if self.rslora else rank
        made = kind.around(base, self.dropout, alpha / by)
        place = base._params[kind.weighted]
        prefix = place.name.removesuffix(kind.weighted)
        if stack is None:
            weight = place
            a, b = terms(base, rank, prefix)
            made.insert_param_to_cell(A, a)
            made.insert_param_to_cell(B, b)
            _replace(self.net, base, made)
        else:
            weight = stack._places[place]
            columns = zip(*(terms(base, rank, prefix) for _ in range(len(stack))), strict=True)
            _replace(self.net, base, made)
            a, b = (
                stack.add(made, name, column) for name, column in zip((A, B), columns, strict=True)
            )
        return Target(path, made, base, weight, a, b, rank, alpha, stack)

    def __repr__(self) -> str:
        ranks = sorted({target.rank for target in self.targets})
        size = sum(target.a.size + target.b.size for target in self.targets)
        merged = ", merged" if self.merged else ""
        return (
            f"Adapter({len(self.targets)} layers of {type(self.net).__name__}, "
            f"rank={'/'.join(map(str, ranks))}, {size} numbers{merged})"
        )

    def trainable_params(self) -> list[Parameter]:
        """The terms, and the Parameters of layers that are trained as they are."""
        return self.net.trainable_params()

    @property
    def merged(self) -> bool:
        """Whether the terms are added to the weights."""
        return any(target.cell.merged for target in self.targets)

    def merge(self, keep: bool = True) -> None:
        """Add the terms to the weights: the network computes the same, as fast as without them.

        Args:
            keep: keep the weights without the terms as well, so that `unmerge` gives them back to
                the last bit. Without, it subtracts the terms, which rounds.

        Raises:
            ParameterStateError: they are merged, or the adapter was removed.
        """
        self._check_in_place()
        if self.merged:
            raise ParameterStateError("Adapter.merge: the terms are merged; call unmerge() first.")
        for target in self.targets:
            if keep:
                self._kept[target.weight] = raw(target.weight.value())
            self._add(target, 1.0)
        self._mark(True)

    def unmerge(self) -> None:
        """Take the terms from the weights again.

        Raises:
            ParameterStateError: they are not merged, or the adapter was removed.
        """
        self._check_in_place()
        if not self.merged:
            raise ParameterStateError("Adapter.unmerge: the terms are not merged; call merge().")
        for target in self.targets:
            before = self._kept.pop(target.weight, None)
            if before is None:
                self._add(target, -1.0)
            else:
                target.weight.assign(before)
        self._mark(False)

    def remove(self) -> Cell:
        """Take the terms off, and train what was trained before; returns the network.

        After `merge()`, the weights stay as they are: `adapter.merge(keep=False)` and
        `adapter.remove()` leave a plain network that has learned.

        Raises:
            ParameterStateError: the adapter was removed.
        """
        self._check_in_place()
        for target in self.targets:
            if target.stack is not None:
                for name in (A, B):
                    target.stack.remove(target.cell, name)
            target.base.set_train(target.cell.training)
            _replace(self.net, target.cell, target.base)
        for param in self.net.get_parameters():
            param.requires_grad = self._before.get(param, param.requires_grad)
        self.targets, self._kept = [], {}
        return self.net

    def _check_in_place(self) -> None:
        if not self.targets:
            raise ParameterStateError("Adapter: it was removed. Make another with adapters.lora.")

    def _mark(self, merged: bool) -> None:
        for target in self.targets:
            target.cell.merged = merged

    def _add(self, target: Target, sign: float) -> None:
        a, b, weight = (raw(p.value()) for p in (target.a, target.b, target.weight))
        with jax.numpy_dtype_promotion("standard"):
            term = jnp.matmul(b, a, precision="highest") * (sign * target.cell.scaling)
        if target.cell.weighted == "embedding_table":
            term = jnp.swapaxes(term, -1, -2)
        wide = jnp.promote_types(weight.dtype, term.dtype)
        target.weight.assign(wrap(weight.astype(wide) + term))


def lora(
    net: Cell,
    targets: str | Iterable[str],
    rank: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    *,
    rslora: bool = False,
    rank_pattern: Mapping[str, int] | None = None,
    alpha_pattern: Mapping[str, float] | None = None,
    trained: Iterable[str] = (),
) -> Adapter:
    """Put low-rank terms beside layers of a network, and freeze everything else.

    The layers keep their Parameters, and these their names: checkpoints of the network load as
    before. Make the optimizer afterwards, from `net.trainable_params()`.

    Args:
        net: the network. Its `nn.Dense` layers and `nn.Embedding`s can have a term, in stacks too.
        targets: which layers, in PEFT's way: a list of attribute paths or of their ends, such as
            `["query", "value"]`; a str is a regular expression for whole paths, and "all-linear"
            stands for all dense layers.
        rank: inner size of the terms.
        alpha: the terms are multiplied by alpha / rank; None for 2 * rank.
        dropout: probability of a zero in what goes into the terms, while training.
        rslora: multiply by alpha / sqrt(rank) instead (D. Kalajdzievski, 2023).
        rank_pattern: {regular expression for the end of a path: rank} of single layers.
        alpha_pattern: {likewise: alpha}.
        trained: layers that are trained as they are, by paths or their ends: a new head, say.

    Returns:
        The `Adapter`, which merges, removes and is saved by `save_adapter`.

    Raises:
        TypeError: `net` is no Cell, or an argument of another type.
        ValueError: nothing matches, a target is another kind of layer or has a term, or a number is
            out of range.
    """
    if not isinstance(net, Cell):
        raise TypeError(f"lora: net must be a Cell, got {type(net).__name__}.")
    for pattern, value in {"": rank, **(rank_pattern or {})}.items():
        where = f"rank_pattern[{pattern!r}]" if pattern else "rank"
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"lora: {where} must be an int, got {value!r}.")
        if value < 1:
            raise ValueError(f"lora: {where} must be at least 1, got {value}.")
    paths = _matching(net, targets)
    chosen: dict[str, tuple[int, float]] = {}
    for path in paths:
        own = _of_pattern(path, rank_pattern, rank)
        scale = _of_pattern(path, alpha_pattern, 2 * own if alpha is None else alpha)
        chosen[path] = own, float(scale)
    whole = [path for name in trained for path in _ends(net, name, "trained")]
    return Adapter(net, chosen, dropout, rslora, whole)


def _matching(net: Cell, targets: Any) -> list[str]:
    cells = dict(net.cells_and_names())
    if isinstance(targets, str):
        if targets == ALL_LINEAR:
            found = [path for path, cell in cells.items() if type(cell).__name__ == "Dense"]
        else:
            found = [path for path in cells if re.fullmatch(targets, path)]
    else:
        found = list(dict.fromkeys(p for name in targets for p in _ends(net, name, "targets")))
    found = [path for path in found if path]
    fitting = [path for path, cell in cells.items() if type(cell) in KINDS and path]
    if not found:
        shown = ", ".join(fitting[:_SHOWN]) + (", …" if len(fitting) > _SHOWN else "")
        raise ValueError(
            f"lora: targets={targets!r} match no layer of {type(net).__name__}. Dense layers and "
            f"embeddings in it: {shown or '(none)'}."
        )
    for path in found:
        if type(cells[path]) not in KINDS:
            kind = type(cells[path]).__name__
            why = (
                "has a term already"
                if isinstance(cells[path], tuple(KINDS.values()))
                else f"is a {kind}; terms are for nn.Dense and nn.Embedding"
            )
            raise ValueError(f"lora: targets={targets!r} match '{path}', which {why}.")
    return found


def _ends(net: Cell, name: object, argument: str) -> list[str]:
    if not isinstance(name, str) or not name:
        raise TypeError(f"lora: {argument} must hold attribute paths, got {name!r}.")
    paths = [path for path, _ in net.cells_and_names()]
    found = [path for path in paths if path == name or path.endswith(f".{name}")]
    if not found:
        raise ValueError(f"lora: {argument}: {name!r} is no layer of {type(net).__name__}.")
    return found


def _of_pattern(path: str, patterns: Mapping[str, Any] | None, default: object) -> Any:
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", path):
            return value
    return default


def stack_of(net: Cell, cell: Cell) -> Stack | None:
    """The stack that a Cell is a layer's part of, None for none.

    Raises:
        ValueError: there are several, one in the other.
    """
    found = [
        stack
        for _, stack in net.cells_and_names()
        if isinstance(stack, Stack) and any(c is cell for _, c in stack.cell.cells_and_names())
    ]
    if len(found) > 1:
        raise ValueError("lora: layers in a stack of stacks cannot have terms.")
    return found[0] if found else None


def _replace(net: Cell, old: Cell, new: Cell) -> None:
    for _, cell in list(net.cells_and_names()):
        for name, inner in cell._cells.items():
            if inner is old:
                # Not noted as late: it stands where the other one stood (`state/trained.py`).
                cell._cells[name] = new
                cell._changed()
