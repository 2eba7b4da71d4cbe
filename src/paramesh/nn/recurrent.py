"""Recurrent layers over sequences: RNN, LSTM and GRU; their steps are in `recurrent_cells`.

A layer computes the products of all inputs with `weight_ih` at once, and then goes over time with
`jax.lax.scan`.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paramesh.dtype import float32, int32, x64
from paramesh.nn import arguments
from paramesh.nn.cell import Cell
from paramesh.nn.recurrent_cells import (
    KINDS,
    RecurrentState,
    State,
    Weights,
    checked_dtype,
    first_state,
    uniform_weight,
)
from paramesh.ops.random_ops import dropout
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.tensor.argument_types import DTypeLike, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.promotion import cast


# Compiled on its own: called without a program around it, scan would compile anew at every call.
@functools.partial(jax.jit, static_argnames=("kind", "reverse"))
def _over_time(
    kind: str, reverse: bool, x: Array, state: State, weights: Weights, lengths: Array | None
) -> tuple[Array, State]:
    """(time, n, size) -> (time, n, hidden) and the last state.

    Beyond a sequence's length the state stays and the output is 0; going backwards, the state
    stays until the sequence begins.
    """
    step = KINDS[kind].step

    def forward(state: State, at: tuple[Array, Array]) -> tuple[State, Array]:
        of_x, time = at
        new = step(of_x, weights.of_h(state[0]), state)
        if lengths is None:
            return new, new[0]
        inside = (time < lengths)[:, None]
        kept = tuple(jnp.where(inside, a, b) for a, b in zip(new, state, strict=True))
        return kept, jnp.where(inside, new[0], jnp.zeros_like(new[0]))

    times = jnp.arange(x.shape[0], dtype=jnp.int32)
    last, out = jax.lax.scan(forward, state, (weights.of_x(x), times), reverse=reverse)
    return out, last


#: MindSpore's names of the weights of one kind, of all layers: attribute -> kind.
_LISTS = {
    "w_ih_list": "weight_ih",
    "w_hh_list": "weight_hh",
    "b_ih_list": "bias_ih",
    "b_hh_list": "bias_hh",
}


class _Recurrent(Cell):
    """What the layers over sequences share.

    Attributes:
        w_ih_list, w_hh_list, b_ih_list, b_hh_list: the Parameters of one kind of all layers (of
            each layer forward, then backward), by MindSpore's names. Parameters of the same shapes
            that are assigned take their place.
    """

    def __init__(
        self,
        kind: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        has_bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        dtype: DTypeLike,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.kind = kind
        self.input_size = arguments.integer(owner, "input_size", input_size)
        self.hidden_size = arguments.integer(owner, "hidden_size", hidden_size)
        self.num_layers = arguments.integer(owner, "num_layers", num_layers)
        self.has_bias = arguments.flag(owner, "has_bias", has_bias)
        self.batch_first = arguments.flag(owner, "batch_first", batch_first)
        self.dropout = arguments.number(owner, "dropout", dropout, 0, 1, open_end=True)
        self.bidirectional = arguments.flag(owner, "bidirectional", bidirectional)
        self._directions = ("", "_reverse") if bidirectional else ("",)
        self._make_parameters(owner, dtype)

    def _make_parameters(self, owner: str, dtype: DTypeLike) -> None:
        gates, hidden = KINDS[self.kind].gates * self.hidden_size, self.hidden_size
        kinds = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
        for kind in kinds if self.has_bias else kinds[:2]:
            for layer in range(self.num_layers):
                taken = self.input_size if layer == 0 else hidden * len(self._directions)
                shapes = {"weight_ih": (gates, taken), "weight_hh": (gates, hidden)}
                for direction in self._directions:
                    name = f"{kind}_l{layer}{direction}"
                    param = uniform_weight(owner, shapes.get(kind, (gates,)), hidden, dtype)
                    self.insert_param_to_cell(name, param)

    def _names(self, kind: str) -> list[str]:
        """The Parameters of one kind; of biases that the layer does not have, none."""
        if kind.startswith("bias") and not self.has_bias:
            return []
        return [
            f"{kind}_l{layer}{direction}"
            for layer in range(self.num_layers)
            for direction in self._directions
        ]

    def __getattr__(self, name: str) -> Any:
        if name in _LISTS:
            return ParameterTuple(getattr(self, one) for one in self._names(_LISTS[name]))
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _LISTS:
            super().__setattr__(name, value)
            return
        names = self._names(_LISTS[name])
        found = [tuple(getattr(self, one).shape) for one in names]
        given = list(value) if isinstance(value, (list, tuple)) else None
        shapes = given and [
            tuple(one.shape) if isinstance(one, Parameter) else type(one).__name__ for one in given
        ]
        if given is None or (shapes or []) != found:
            got = type(value).__name__ if given is None else shapes
            raise ValueError(
                f"{type(self).__name__}.{name}: expected {len(names)} Parameters of the shapes "
                f"{found} ({', '.join(names)}), got {got}."
            )
        for one, param in zip(names, given, strict=True):
            setattr(self, one, param)

    def _weights(self, layer: int, direction: str) -> Weights:
        def value(kind: str) -> Array:
            return raw(getattr(self, f"{kind}_l{layer}{direction}"))

        biases = (value("bias_ih"), value("bias_hh")) if self.has_bias else (None, None)
        return Weights(value("weight_ih"), value("weight_hh"), *biases)

    def construct(
        self, x: TensorLike, hx: RecurrentState | None = None, seq_length: TensorLike | None = None
    ) -> Any:
        """Outputs of the last layer at every time, and the last state of every layer.

        Args:
            x: (time, n, input_size), or (n, time, input_size) with `batch_first`.
            hx: the first state, (layers * directions, n, hidden_size); for LSTM a tuple of two
                (hidden, cell). None for zeros.
            seq_length: (n,) integers, the length of each sequence; None: all have the full
                length. Outputs beyond it are 0.

        Returns:
            (output, state): (time, n, directions * hidden_size) in the order of the input's axes,
            and the state in the form of `hx`.

        Raises:
            ValueError: shapes that do not fit.
        """
        out = raw(self._checked_input(x))
        hidden = self.hidden_size
        rows = self.num_layers * len(self._directions)
        if self.batch_first:
            out = out.swapaxes(0, 1)
        n = out.shape[1]
        states = self._states(hx, (rows, n, hidden), out.dtype)
        lengths = None if seq_length is None else self._lengths(seq_length, n)
        ends: list[State] = []
        with x64(out):
            for layer in range(self.num_layers):
                if layer and self.training and self.dropout:
                    out = raw(dropout(wrap(out), self.dropout))
                outs = []
                for direction in self._directions:
                    start = tuple(state[len(ends)] for state in states)
                    given = self._weights(layer, direction)
                    output, end = _over_time(self.kind, direction != "", out, start, given, lengths)
                    outs.append(output)
                    ends.append(end)
                out = outs[0] if len(outs) == 1 else jnp.concatenate(outs, -1)
            last = tuple(wrap(jnp.stack(layers)) for layers in zip(*ends, strict=True))
            if self.batch_first:
                out = out.swapaxes(0, 1)
        return wrap(out), last[0] if len(last) == 1 else last

    def _checked_input(self, x: TensorLike) -> Tensor:
        owner = type(self).__name__
        x = arguments.tensor(owner, x)
        wanted = "(n, time, input)" if self.batch_first else "(time, n, input)"
        if x.ndim != 3 or x.shape[2] != self.input_size:
            raise ValueError(
                f"{owner}: expected an input {wanted} with input_size={self.input_size}, "
                f"got {x.shape}."
            )
        return checked_dtype(owner, x, getattr(self, "weight_ih_l0"))  # noqa: B009

    def _states(
        self, hx: RecurrentState | None, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> State:
        return first_state(type(self).__name__, hx, KINDS[self.kind].states, shape, dtype)

    def _lengths(self, seq_length: TensorLike, n: int) -> Array:
        lengths = raw(arguments.tensor(type(self).__name__, seq_length))
        if lengths.shape != (n,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
            raise ValueError(
                f"{type(self).__name__}: expected seq_length of shape ({n},) and an integer type, "
                f"got {wrap(lengths).dtype}{list(lengths.shape)}."
            )
        return cast(lengths, int32)

    def extend_repr(self) -> str:
        """The settings."""
        return (
            f"input_size={self.input_size}, hidden_size={self.hidden_size}, "
            f"num_layers={self.num_layers}, has_bias={self.has_bias}, "
            f"batch_first={self.batch_first}, dropout={self.dropout}, "
            f"bidirectional={self.bidirectional}"
        )


class RNN(_Recurrent):
    """h' = tanh(weight_ih x + bias_ih + weight_hh h + bias_hh), or relu of it, over sequences.

    Args:
        input_size: size of an input.
        hidden_size: size of the state.
        num_layers: how many layers, each on the outputs of the one before.
        has_bias: whether there are biases.
        batch_first: whether the input is (n, time, input_size).
        dropout: probability of a zero between layers in training, in [0, 1).
        bidirectional: whether each layer also goes backwards.
        dtype: element type of the Parameters.
        nonlinearity: `tanh` or `relu`.

    Weights:
        weight_ih_l0 (hidden, input), weight_hh_l0 (hidden, hidden), bias_ih_l0, bias_hh_l0
        (hidden,), and so on for every layer l1, …, and direction l0_reverse, …; uniform on
        +-1/sqrt(hidden_size).

    Raises:
        TypeError: an argument of the wrong type; ValueError: a number or name out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        has_bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = float32,
        *,
        nonlinearity: str = "tanh",
    ) -> None:
        super().__init__(
            arguments.choice("RNN", "nonlinearity", nonlinearity, ("tanh", "relu")),
            input_size,
            hidden_size,
            num_layers,
            has_bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
        )


class _Gated(_Recurrent):
    """What LSTM and GRU share: everything but the step, which is named by `kind`."""

    kind: ClassVar[str]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        has_bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__(
            type(self).kind,
            input_size,
            hidden_size,
            num_layers,
            has_bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
        )


class LSTM(_Gated):
    """Long short-term memory over sequences; the state is (hidden, cell).

    Args:
        input_size: size of an input.
        hidden_size: size of each part of the state.
        num_layers: how many layers, each on the outputs of the one before.
        has_bias: whether there are biases.
        batch_first: whether the input is (n, time, input_size).
        dropout: probability of a zero between layers in training, in [0, 1).
        bidirectional: whether each layer also goes backwards.
        dtype: element type of the Parameters.

    Weights:
        weight_ih_l0 (4 hidden, input), weight_hh_l0 (4 hidden, hidden), bias_ih_l0, bias_hh_l0
        (4 hidden,), and so on for every layer l1, …, and direction l0_reverse, …; uniform on
        +-1/sqrt(hidden_size).

    Raises:
        TypeError: an argument of the wrong type; ValueError: a number out of range.
    """

    kind: ClassVar[str] = "lstm"


class GRU(_Gated):
    """Gated recurrent units over sequences.

    Args:
        input_size: size of an input.
        hidden_size: size of the state.
        num_layers: how many layers, each on the outputs of the one before.
        has_bias: whether there are biases.
        batch_first: whether the input is (n, time, input_size).
        dropout: probability of a zero between layers in training, in [0, 1).
        bidirectional: whether each layer also goes backwards.
        dtype: element type of the Parameters.

    Weights:
        weight_ih_l0 (3 hidden, input), weight_hh_l0 (3 hidden, hidden), bias_ih_l0, bias_hh_l0
        (3 hidden,), and so on for every layer l1, …, and direction l0_reverse, …; uniform on
        +-1/sqrt(hidden_size).

    Raises:
        TypeError: an argument of the wrong type; ValueError: a number out of range.
    """

    kind: ClassVar[str] = "gru"
