"""Buffers of a Cell: state that is neither trained nor a Parameter, such as statistics and masks.

Source: MindSpore 2.10's `register_buffer` and its companions, which follow torch's. A buffer is a
Tensor whose changes outlive a compiled program, as those of a Parameter do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import jax

from paramesh.nn.submodules import Submodules
from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor, unflatten


class Buffer(Parameter):
    """The Tensor of a buffer: compiled programs read and write it as they do a Parameter.

    Args:
        value: its first value, which is copied.
        name: the attribute, for errors.
    """

    def __init__(self, value: Tensor, name: str) -> None:
        super().__init__(value, name=name, requires_grad=False)

    __str__ = Tensor.__str__
    __repr__ = Tensor.__repr__
    __format__ = Tensor.__format__


def _flatten(buffer: Buffer) -> tuple[tuple[jax.Array], None]:
    return (buffer._get(),), None


# JAX looks up registrations by exact class; see Parameter.
jax.tree_util.register_pytree_node(Buffer, _flatten, unflatten)

Registered: TypeAlias = dict[str, tuple[Buffer | None, bool]]


def _of(cell: Submodules) -> Registered:
    """The buffers of a Cell itself; none of one from a pickle of an earlier version."""
    return cell.__dict__.get("_buffers") or {}


def persistent(cell: Submodules) -> list[tuple[str, Buffer]]:
    """(attribute, buffer) of those that belong to the state of a Cell itself."""
    return [
        (name, buffer) for name, (buffer, kept) in _of(cell).items() if kept and buffer is not None
    ]


class Buffers(Submodules):
    """The buffers of a Cell, by attribute and by path."""

    #: {attribute: (the buffer or None, whether it is part of `state_dict`)}.
    _buffers: Registered

    def __init__(self, auto_prefix: bool = True) -> None:
        super().__init__(auto_prefix)
        self.__dict__["_buffers"] = {}

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Make a Tensor state of this Cell, under an attribute's name.

        It is not trained, not among `get_parameters()` and not in what `save_checkpoint(net)`
        writes, as in MindSpore 2.10. What `construct` assigns to it, or writes into it, stays, in
        compiled programs too. A Tensor that is assigned to the attribute is its new value.

        Args:
            name: the attribute.
            tensor: the first value, which is copied; None: there is none, and `state_dict` leaves
                it out.
            persistent: whether `state_dict` has it and `load_state_dict` asks for it.

        Raises:
            TypeError: `name` is no str, or `tensor` neither a Tensor nor None.
            KeyError: the name is empty, has a dot, or is another attribute's.
            AttributeError: before `super().__init__()`.
        """
        self._check_ready(name)
        owner = type(self).__name__
        if not isinstance(name, str):
            raise TypeError(f"{owner}.register_buffer: name must be a str, got {name!r}.")
        if not name or "." in name:
            raise KeyError(
                f"{owner}.register_buffer: name must be that of an attribute, without dots, "
                f"got {name!r}."
            )
        if name not in self._buffers and hasattr(self, name):
            raise KeyError(f"{self._path(name)} exists and is not a buffer.")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"{owner}.register_buffer: '{name}' must be a Tensor or None, got "
                f"{type(tensor).__name__}: Tensor(value) makes one."
            )
        self._buffers[name] = (None if tensor is None else Buffer(tensor, name), bool(persistent))
        self._changed()

    def get_buffer(self, target: str) -> Tensor | None:
        """The buffer at a path such as `layer1.0.mean`.

        Raises:
            AttributeError: there is no such Cell, or it has no such buffer.
        """
        path, _, name = target.rpartition(".")
        cell = self.get_sub_cell(path)
        if name not in _of(cell):
            known = ", ".join(path for path, _ in self.named_buffers()) or "none"
            raise AttributeError(
                f"{type(self).__name__}.get_buffer: '{target}' is not a buffer. Buffers: {known}."
            )
        return _of(cell)[name][0]

    def get_sub_cell(self, target: str) -> Any:
        """The Cell at a path such as `layer1.0`; this one for "".

        Raises:
            AttributeError: there is no such Cell.
        """
        found: Submodules = self
        for name in target.split(".") if target else ():
            child = found._cells.get(name)
            if child is None:
                known = ", ".join(found._cells) or "none"
                raise AttributeError(
                    f"{type(self).__name__}.get_sub_cell: '{target}' names no Cell: "
                    f"{type(found).__name__} has no Cell '{name}'. Its Cells: {known}."
                )
            found = child
        return found

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(path, buffer) of this Cell and of those below; without those that are None.

        Args:
            prefix: put before each path, with a dot.
            recurse: of the Cells below, too.
            remove_duplicate: each buffer once.
        """
        seen: set[int] = set()
        cells = self.cells_and_names(name_prefix=prefix) if recurse else [(prefix, self)]
        for path, cell in cells:
            for name, (buffer, _) in _of(cell).items():
                if buffer is None or (remove_duplicate and id(buffer) in seen):
                    continue
                seen.add(id(buffer))
                yield (f"{path}.{name}" if path else name), buffer

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers of this Cell and (with `recurse`) of those below, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    # Attributes.

    def __setattr__(self, name: str, value: object) -> None:
        buffers = self.__dict__.get("_buffers")
        if buffers is not None and name in buffers:
            self._set_buffer(name, value)
        elif isinstance(value, Buffer):
            self._set_plain(name, value)
        else:
            super().__setattr__(name, value)

    def _set_buffer(self, name: str, value: object) -> None:
        buffer, persistent = self._buffers[name]
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"{self._path(name)} is a buffer; it takes a Tensor (its new value) or None, not "
                f"{type(value).__name__}."
            )
        if value is buffer:  # `self.mean += x` assigns what it has written
            return
        if value is None or buffer is None:
            kept = None if value is None else Buffer(value, name)
            self._buffers[name] = (kept, persistent)
            self._changed()
        else:
            buffer.set_data(value)

    def __getattr__(self, name: str) -> Any:
        buffers = self.__dict__.get("_buffers")
        if buffers is not None and name in buffers:
            return buffers[name][0]
        return super().__getattr__(name)

    def __delattr__(self, name: str) -> None:
        if name in _of(self):
            del self._buffers[name]
            self._changed()
        else:
            super().__delattr__(name)

    def _reachable_parameters(self) -> list[Parameter]:
        """What compiled programs of this Cell read and write, its buffers too."""
        found: list[Any] = [*self.get_parameters(), *self.buffers()]
        return found
