"""Cells that hold Cells: SequentialCell, CellList, CellDict."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Self
from weakref import WeakKeyDictionary, ref

from paramesh.array_types import Tree
from paramesh.nn.cell import Cell
from paramesh.nn.submodules import Submodules
from paramesh.state import trained
from paramesh.tensor.base import Tensor

#: The Cell that a container is part of.
_owners: WeakKeyDictionary[Cell, ref[Any]] = WeakKeyDictionary()


def _check(owner: Cell, cell: object) -> Cell:
    if not isinstance(cell, Cell):
        name = type(owner).__name__
        if isinstance(cell, type) and issubclass(cell, Cell):
            called = cell.__name__
            raise TypeError(
                f"{name} holds Cells, got the class {called}; give an instance, {called}(...)."
            )
        text = f"{name} holds Cells, got {type(cell).__name__}"
        if callable(cell):
            called = getattr(cell, "__name__", "")
            raise TypeError(
                f"{text}{f' {called!r}' if called else ''}: use a layer such as nn.ReLU(), or call "
                "the function in construct() of a Cell of your own."
            )
        raise TypeError(f"{text} ({cell!r}).")
    return cell


class _Container(Cell):
    """Cells under names of their own; Parameters inside are named under the present prefix."""

    _prefix: str

    def __init__(self, auto_prefix: bool = True) -> None:
        super().__init__(auto_prefix)
        self.__dict__["_prefix"] = ""

    def _place(self, name: str, cell: Cell) -> None:
        _check(self, cell)
        if self._auto_prefix:
            cell.update_parameters_name(f"{self._prefix}{name}.")
        self._cells[name] = cell
        self._changed()
        trained.added(self.__dict__, cell)

    def _assigned_to(self, owner: Submodules, name: str) -> None:
        _owners[self] = ref(owner)

    def update_parameters_name(self, prefix: str = "", recurse: bool = True) -> None:
        """As in Cell; Cells added later to a CellDict get the same prefix."""
        super().update_parameters_name(prefix, recurse)
        self.__dict__["_prefix"] = prefix


class _Ordered(_Container):
    """Cells in order; those without names of their own are named 0, 1, ….

    Parameters of Cells that are added later are named as in MindSpore 2.10: behind the prefix that
    the first Cell's Parameters have, and without one if there are none yet. Where such a name is
    taken in the Cell that the list belongs to, the list's own path is the prefix.
    """

    def __init__(self, *args: Any, auto_prefix: bool = True) -> None:
        super().__init__(auto_prefix)
        if len(args) == 1 and isinstance(args[0], OrderedDict):
            for name, cell in args[0].items():
                self._place(name, cell, "")
        else:
            cells = args[0] if len(args) == 1 and isinstance(args[0], list | tuple) else args
            for i, cell in enumerate(cells):
                self._place(str(i), cell, "")

    def _place(self, name: str, cell: Cell, prefix: str | None = None) -> None:
        _check(self, cell)
        if self._auto_prefix:
            prefix = self._prefix_of_cells() if prefix is None else prefix
            if prefix != self._prefix and self._is_taken(f"{prefix}{name}.", name, cell):
                prefix = self._prefix
            cell.update_parameters_name(f"{prefix}{name}.")
            cell._assigned_to(self, name)
        self._cells[name] = cell
        self._changed()
        trained.added(self.__dict__, cell)

    def _prefix_of_cells(self) -> str:
        """What comes before the position in the names of the first Cell's Parameters."""
        named: list[tuple[str, list[str]]] = []
        for key, cell in self._named_cells():
            param = next(iter(cell.get_parameters()), None)
            if param is not None:
                named.append((key, param.name.split(".")))
        if not named:
            return ""
        key, parts = named[0]
        places = [i for i, part in enumerate(parts) if part == key]
        if len(named) > 1:  # several parts are like the key: the next Cell tells which one it is
            other, others = named[1]
            places = [i for i in places if others[i : i + 1] == [other]][:1] or places
        return "".join(f"{part}." for part in parts[: places[-1]]) if places else self._prefix

    def _is_taken(self, prefix: str, name: str, cell: Cell) -> bool:
        """Whether another Parameter near this list has a name that a Cell's would get."""
        whole: Cell | None = self
        top: Cell = self
        while whole is not None:
            top, above = whole, _owners.get(whole)
            whole = above() if above is not None else None
        own = {id(param) for param in cell.get_parameters()}
        replaced = self._cells.get(name)
        if replaced is not None:
            own.update(id(param) for param in replaced.get_parameters())
        taken = {p.name for p in top.get_parameters() if id(p) not in own}
        return any(f"{prefix}{path}" in taken for path, _ in cell.parameters_and_names())

    def _renumber(self, cells: Iterable[tuple[str, Cell]]) -> None:
        prefix = self._prefix_of_cells()
        self._cells.clear()
        for i, (name, cell) in enumerate(cells):
            self._place(str(i) if name.isdigit() else name, cell, prefix)
        self._changed()

    def _named_cells(self) -> list[tuple[str, Cell]]:
        return [(name, cell) for name, cell in self._cells.items() if cell is not None]

    def _key(self, index: int | Tensor) -> str:
        if isinstance(index, Tensor):
            index = operator.index(index)
        if isinstance(index, bool) or not isinstance(index, int):
            raise TypeError(f"{type(self).__name__}: an index is an int or a slice, got {index!r}.")
        names = list(self._cells)
        if not -len(names) <= index < len(names):
            raise IndexError(
                f"{type(self).__name__}: index {index}, but it has {len(names)} Cells."
            )
        return names[index]

    def __getitem__(self, index: int | slice | Tensor) -> Any:
        if isinstance(index, slice):
            piece = object.__new__(type(self))
            _Container.__init__(piece, self._auto_prefix)
            piece.__dict__["_prefix"] = self._prefix
            for name in list(self._cells)[index]:
                piece._cells[name] = self._cells[name]
            return piece
        return self._cells[self._key(index)]

    def __setitem__(self, index: int, cell: Cell) -> None:
        self._place(self._key(index), cell)

    def __delitem__(self, index: int | slice) -> None:
        cells = self._named_cells()
        if not isinstance(index, slice):
            self._key(index)
        del cells[index]
        self._renumber(cells)

    def __len__(self) -> int:
        return len(self._cells)

    def __iter__(self) -> Iterator[Cell]:
        return iter([cell for _, cell in self._named_cells()])

    def append(self, cell: Cell) -> Self:
        """Add a Cell at the end; returns self."""
        self._place(str(len(self._cells)), cell)
        return self

    def insert(self, index: int, cell: Cell) -> None:
        """Put a Cell before position `index`; the ones after it are renamed."""
        cells = self._named_cells()
        cells.insert(index, ("0", _check(self, cell)))
        self._renumber(cells)

    def extend(self, cells: Iterable[Cell]) -> Self:
        """Add several Cells at the end; returns self.

        Raises:
            TypeError: `cells` is not a list or tuple of Cells.
        """
        if not isinstance(cells, list | tuple):
            raise TypeError(f"{type(self).__name__}.extend takes a list, got {cells!r}.")
        for cell in [_check(self, cell) for cell in cells]:
            self.append(cell)
        return self

    def __iadd__(self, cells: Iterable[Cell]) -> Self:
        return self.extend(cells)


class SequentialCell(_Ordered):
    """Cells that run one after the other; from arguments, a list, or an OrderedDict with names."""

    def construct(self, x: Tree) -> Any:
        """The output of the last Cell."""
        for _, cell in self._named_cells():
            x = cell(x)
        return x


class CellList(_Ordered):
    """A list of Cells that registers them; it has no `construct` of its own."""

    #: `ops.HyperMap` goes through its Cells.
    is_list_of_cells = True


class CellDict(_Container):
    """A dict of Cells that registers them under its keys.

    Args:
        cells: a mapping or an iterable of (name, Cell).
    """

    def __init__(
        self, cells: Mapping[str, Cell] | Iterable[tuple[str, Cell]] = (), auto_prefix: bool = True
    ) -> None:
        super().__init__(auto_prefix)
        self.update(cells)

    def update(self, cells: Mapping[str, Cell] | Iterable[tuple[str, Cell]]) -> None:
        """Add or replace Cells by name."""
        given: Any = cells
        for name, cell in given.items() if isinstance(given, Mapping) else given:
            self[name] = cell

    def __setitem__(self, name: str, cell: Cell) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"CellDict: {name!r} is not a valid name for a Cell.")
        self._place(name, cell)

    def __getitem__(self, name: str) -> Any:
        return self._cells[name]

    def __delitem__(self, name: str) -> None:
        del self._cells[name]
        self._changed()

    def __contains__(self, name: object) -> bool:
        return name in self._cells

    def __len__(self) -> int:
        return len(self._cells)

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._cells.keys()

    def values(self) -> ValuesView[Cell]:
        """The Cells."""
        return self._cells.values()

    def items(self) -> ItemsView[str, Cell]:
        """(name, Cell) pairs."""
        return self._cells.items()

    def clear(self) -> None:
        """Remove all Cells."""
        self._cells.clear()
        self._changed()
