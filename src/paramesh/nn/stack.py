"""`stack`: many Cells of one kind as one, their Parameters joined along a leading axis.

Glossary
    layer       one of the Cells that are stacked
    template    the first of them, which is run for all, with each layer's values in turn
    place       a Parameter of the template: it has the shape of one layer, and in a run the value
                of that layer; the stacked Parameter beside it has the values of all
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh import random
from paramesh._compat.jax import threefry_2x32
from paramesh.array_types import Tree
from paramesh.errors import LayoutError, ParameterStateError, TraceError
from paramesh.initializer.stacked import stacked
from paramesh.nn import stacking
from paramesh.nn.cell import Cell
from paramesh.nn.containers import CellList
from paramesh.parameter import Parameter
from paramesh.state import tracing
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.trees import unpack
from paramesh.transforms.bodies import Body, in_64bit_if_met, name_of
from paramesh.transforms.control_flow import scan
from paramesh.transforms.functional import remat as rematerialised

_RUNS = ("scan", "vmap")

#: All stacks that there are.
live: weakref.WeakSet[Stack] = weakref.WeakSet()


class Stack(Cell):
    """Cells of one kind as one Cell; made by `stack`.

    Its Parameters are those of a layer, with the layers as a first axis, under the names that they
    have in a layer: `blocks.attention.weight` has the shape (n, …). `cell` is the template: hooks,
    `recompute()`, `to_float()` and `set_train()` that are set on it hold for every layer.
    """

    def __init__(
        self,
        make_cell: Callable[[], Cell],
        n: int,
        run: str = "scan",
        *,
        remat: bool | dict[str, Any] = False,
        unroll: int | bool = 1,
        in_axes: Tree = None,
        parts: int = 1,
    ) -> None:
        super().__init__()
        stacking.check_arguments(make_cell, n, run, _RUNS, remat, in_axes, parts)
        cells = stacking.made(make_cell, n)
        self.run, self.unroll = run, unroll
        self.in_axes = in_axes
        self.__dict__["_remat"] = {} if remat is True else remat or None
        self.__dict__["_count"] = n
        #: {place in the template: the stacked Parameter}, and the attribute paths of both.
        self.__dict__["_places"] = {}
        for path, params in stacking.columns(cells).items():
            whole = _joined(path, params, parts)
            self.insert_param_to_cell(path, whole, check_name_contain_dot=False)
            self._places[params[0]] = whole
        stacking.hide(cells[0], self._places)
        self.__dict__["_transient"] = {}
        for path, params in stacking.transient_columns(cells).items():
            self._places[params[0]] = self._transient[path] = _joined(path, params, parts)
        self.cell = cells[0]
        live.add(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        live.add(self)

    def stacked(self) -> dict[str, Parameter]:
        """{attribute path in a layer: the Parameter of all layers}."""
        return {path: param for path, param in self._params.items() if param is not None}

    def __len__(self) -> int:
        return self._count

    def extend_repr(self) -> str:
        """How many layers, and how they are run."""
        return f"{self._count}, run={self.run!r}"

    def add(self, cell: Cell, name: str, params: Sequence[Parameter]) -> Parameter:
        """Give every layer a Parameter more.

        Args:
            cell: a Cell of the template.
            name: the attribute there, which `construct` of the Cell reads.
            params: the Parameter of each layer.

        Returns:
            The stacked Parameter.

        Raises:
            ValueError: `cell` is none of the template's, or another number of Parameters.
        """
        paths = {inner: path for path, inner in self.cell.cells_and_names()}
        if cell not in paths or len(params) != self._count:
            raise ValueError(
                f"Stack.add: expected a Cell of the template and {self._count} Parameters, got "
                f"{type(cell).__name__} and {len(params)}."
            )
        path = f"{paths[cell]}.{name}" if paths[cell] else name
        known = next(iter(self.stacked().items()), None)
        whole = _joined(path, params, 1)
        if known is not None:
            whole.name = known[1].name.removesuffix(known[0]) + path
        self.insert_param_to_cell(path, whole, check_name_contain_dot=False)
        self._places[params[0]] = whole
        members: Any = cell._params
        members[name] = params[0]
        members.hidden.add(name)
        return whole

    def remove(self, cell: Cell, name: str) -> None:
        """Take a Parameter of a Cell of the template from every layer."""
        members: Any = cell._params
        whole = self._places.pop(members[name])
        del members[name]
        del self._params[next(p for p, param in self.stacked().items() if param is whole)]
        self._changed()

    # Running.

    def construct(self, *args: Any, **kwargs: Any) -> Any:
        """`scan`: the first argument goes through all layers; `vmap`: (n, …), of every layer."""
        if self.run == "vmap":
            return self._mapped(self.cell, args, kwargs, self.in_axes)
        if not args:
            raise TypeError(
                "Stack: a stack that is run by scan needs an argument, which goes from layer to "
                "layer; got none."
            )
        carry, *rest = args

        def layer(carry: Tree, _: object) -> Any:
            return self.cell(carry, *rest, **kwargs), None

        return self._scanned(layer, carry, None, name_of(self.cell))[0]

    def scan(self, carry: Tree, *args: Any, xs: Tree = None, **kwargs: Any) -> tuple[Any, Any]:
        """Run layers that give something besides: `carry, y = layer(carry, x, *args)`.

        Args:
            carry: what goes from layer to layer.
            *args: what every layer gets.
            xs: what each layer gets of its own, along the first axis of its Tensors, as second
                argument. None: layers are called without it.
            **kwargs: what every layer gets.

        Returns:
            (the last carry, the ys along a new first axis).

        Raises:
            TypeError: a layer gives no pair, or another carry than it gets.
            ValueError: `xs` has another number of rows than there are layers.
        """

        def layer(carry: Tree, x: Tree) -> Any:
            return self.cell(carry, *(() if xs is None else (x,)), *args, **kwargs)

        return self._scanned(layer, carry, xs, name_of(self.cell))

    def each(self, fn: Callable[[Cell], Any]) -> Any:
        """Call `fn(cell)` for every layer, with the template as the Cell and the layer's values.

        What it writes is written for that layer: `stack.each(lambda cell: cell.cache.reset())`.

        Returns:
            What it gives, Tensors along a new first axis.
        """
        return self._scanned(lambda carry, _: (carry, fn(self.cell)), (), None, name_of(fn))[1]

    def _scanned(self, layer: Callable[..., Any], carry: Tree, xs: Tree, name: str) -> Any:
        places = list(self._places)
        rows = [wrap(raw(whole)) for whole in self._places.values()]
        written: list[Parameter] = []
        body = layer
        if self._remat is not None:
            layer.__name__ = name
            body = rematerialised(layer, **self._remat)

        def turn(carry: Tree, row: Tree) -> Any:
            values, x = row
            overlay = dict(zip(places, map(raw, values), strict=True))
            with tracing.overlay(overlay) as frame:
                out = body(carry, x)
                after = {state: frame.get(state) for state in frame.written}
            if not isinstance(out, tuple) or len(out) != 2:
                raise TypeError(
                    f"Stack.scan: '{name}' must give a pair (carry, y), got {type(out).__name__}."
                )
            for state, value in after.items():
                if state not in overlay:
                    tracing.write(state, value)
            written[:] = [place for place in places if place in after]
            return out[0], (out[1], [wrap(after[place]) for place in written])

        turn.__name__ = name
        carry, (ys, values) = scan(turn, carry, (rows, xs), self._count, unroll=self.unroll)
        for place, value in zip(written, values, strict=True):
            self._places[place].assign(value)
        return carry, ys

    def _mapped(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        in_axes: Tree,
    ) -> Any:
        places = list(self._places)
        rows = [raw(whole) for whole in self._places.values()]
        axes = stacking.axes_of(in_axes, args)
        given, nests = zip(*(unpack(arg) for arg in args), strict=True) if args else ((), ())
        named, of_named = unpack(kwargs)
        stacking.check_rows(self._count, given, axes)
        bodies: list[Body] = []

        def member(values: Tree, given: Tree, named: Tree, seeds: object) -> Any:
            overlay: dict[Any, Any] = dict(zip(places, values, strict=True))
            if seeds is not None:
                overlay[random.default_generator().state] = seeds
            call = [nest.build(arrays) for nest, arrays in zip(nests, given, strict=True)]
            body = Body(fn, call, of_named.build(named), overlay, name=name_of(fn))
            bodies.append(body)
            mine = [state for state in body.written if state in places]
            return body.hand_out(mine)[:2]

        def compute() -> Any:
            run = jax.vmap(member, (0, axes, None, 0), axis_size=self._count)
            drawing = random.default_generator().state
            jax.eval_shape(run, rows, list(given), named, None)
            written = bodies[-1].written
            seeds = _streams(self._count) if drawing in written else None
            others = [s.name for s in written if s not in self._places and s is not drawing]
            if others:
                raise TraceError(
                    f"Stack: '{name_of(fn)}' writes {', '.join(map(repr, others))}, which all "
                    "layers share; under vmap each would have a value of its own for it. Use "
                    "run='scan', or make the Parameter in the function that makes a layer."
                )
            return run(rows, list(given), named, seeds)

        arrays, values = in_64bit_if_met([*rows, *jax.tree.leaves(given), *named], compute)
        body = bodies[-1]
        written = [state for state in body.written if state in self._places]
        for place, value in zip(written, values, strict=True):
            self._places[place].assign(wrap(value))
        return body.nest.build(arrays)

    # Layer by layer.

    def layer(self, i: int) -> Cell:
        """A copy of one layer, as a Cell of its own; one that has no data yet has none either.

        Raises:
            IndexError: there is no such layer.
        """
        if not -self._count <= i < self._count:
            raise IndexError(f"Stack: layer {i}, but it has {self._count} layers.")
        return stacking.revealed(self.cell, self._places, i % self._count)

    def layers(self) -> CellList:
        """Copies of all layers, as `CellList` holds Cells: named 0.…, 1.…."""
        return CellList([self.layer(i) for i in range(self._count)])

    def __iter__(self) -> Iterator[Cell]:
        return iter([self.layer(i) for i in range(self._count)])


def stack(
    make_cell: Callable[[], Cell],
    n: int,
    run: str = "scan",
    *,
    remat: bool | dict[str, Any] = False,
    unroll: int | bool = 1,
    in_axes: Tree = None,
    parts: int = 1,
) -> Stack:
    """`n` Cells of one kind as one: a network of equal layers, or an ensemble.

    The Parameters have the layers as a first axis. Each layer has the recipe, with the fans and the
    key, that it would have as the i-th of `n` Cells by itself, and none has data before it is used.
    A program of a stack has the size of a program of one layer.

    Args:
        make_cell: makes a layer; it is called `n` times. Layers differ in the values of their
            Parameters alone.
        n: how many.
        run: "scan" has the first argument go through all layers, one after the other; further
            arguments are the same for all. "vmap" runs all at once and gives their outputs along a
            new first axis.
        remat: compute activations again in the backward pass, and keep only what goes from layer to
            layer; a dict for options of `jax.checkpoint`, such as `policy`.
        unroll: of scan: how many layers the compiler joins.
        in_axes: of vmap: for each positional argument, the axis that has an entry for each layer;
            None if every layer gets the whole. One for all, or a tuple.
        parts: into how many shards the axis of the layers is split over devices, in the
            semi-automatic parallel mode. The axes after it are sharded as the `layout` of a layer's
            Parameter says.

    Returns:
        The `Stack`, a Cell.

    Raises:
        TypeError: `make_cell` makes no Cell, or an argument is of another type.
        ValueError: an argument out of range; layers that differ in Parameters or in attributes.
        LayoutError: `parts` does not divide `n`, or meets a named `Layout`.

    What layers write is kept for each: moving averages, caches. In a scan, random numbers go on
    from layer to layer; under vmap each layer has a stream of its own.
    """
    return Stack(make_cell, n, run, remat=remat, unroll=unroll, in_axes=in_axes, parts=parts)


def _joined(path: str, params: Sequence[Parameter], parts: int) -> Parameter:
    """The Parameter of all layers."""
    first = params[0]
    if first.is_param_ps or first.layerwise_parallel:
        what = "is on the parameter server" if first.is_param_ps else "has a value for each device"
        raise ParameterStateError(
            f"Parameter '{path}' {what}, and cannot be stacked. Make the layers without that."
        )
    recipes = [recipe for param in params if (recipe := param.recipe) is not None]
    if len(recipes) == len(params):
        start = Tensor._from_recipe(stacked(recipes))
    else:
        start = wrap(jnp.stack([raw(param) for param in params]))
    whole = stacking.with_flags(Parameter(start, name=path), first)
    layout: Any = first._strategy
    if isinstance(layout, tuple):
        whole.layout = (parts, *layout)
    elif layout is not None:
        if parts != 1:
            raise LayoutError(
                f"Parameter '{path}': a layer has the layout {layout!r}, and parts={parts}. Leave "
                f"parts out, and set the layout of the stacked Parameter, of shape {whole.shape}."
            )
        whole.layout = layout._with_map((-1, *layout.tensor_map))
    elif parts != 1:
        whole.layout = (parts, *[1] * len(first.shape))
    return whole


def _streams(n: int) -> Any:
    """A state of the generator for each layer, all different; moves the generator by one."""
    key = jax.random.key_data(random.next_key())
    at = jnp.arange(n, dtype=jnp.uint32)
    words = jax.vmap(lambda i: threefry_2x32(key, jnp.stack([jnp.uint32(0), i])))(at)
    return jnp.concatenate([words, jnp.zeros_like(words)], axis=1)
