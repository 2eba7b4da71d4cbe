"""Recurrent networks as single operators: `LSTM`, `DynamicRNN`, `DynamicGRUV2`.

MindSpore has the last two on Ascend alone; here they run anywhere, in the input's element type.

Source: MindSpore's operators of these names. Gates are in the order of `LSTM` (input, forget, cell,
output), of `DynamicRNN` (input, cell, forget, output) and of `DynamicGRUV2` (update, reset, new).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_types import Tree
from paramesh.ops.table import Array, Floating, primitive, tuple_function
from paramesh.tensor.argument_types import TensorLike

__all__ = ["DynamicGRUV2", "DynamicRNN", "LSTM", "dynamic_gru_v2", "dynamic_rnn", "lstm"]


def _lstm_gates(gates: jax.Array, c: jax.Array) -> tuple[Any, Any]:
    i, f, g, o = jnp.split(gates, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


@tuple_function
def lstm(
    input: Floating,
    h: Floating,
    c: Floating,
    w: Floating,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    has_bias: bool = True,
    bidirectional: bool = False,
    dropout: float = 0.0,
) -> Any:
    """An LSTM whose weights lie one behind another in one Tensor.

    Args:
        input: (l, n, input_size).
        h: (directions, n, hidden_size).
        c: as `h`.
        w: (all weights, 1, 1): the input's of each direction, the hidden state's, the biases, as on
            MindSpore's CPU.
        input_size: size of an element.
        hidden_size: size of the state.
        num_layers: only 1.
        has_bias: whether there are biases.
        bidirectional: whether it runs both ways.
        dropout: only 0.

    Returns:
        (output (l, n, hidden_size * directions), h, c, and two Tensors of one element each, in
        place of what MindSpore keeps for the backward pass).

    Raises:
        ValueError: a number of weights that does not fit; a dropout; several layers.
    """
    if dropout or num_layers != 1:
        raise ValueError("a dropout and several layers are not offered here: use nn.LSTM.")
    ways, flat, gates = 2 if bidirectional else 1, w.reshape(-1), 4 * hidden_size
    shapes = [(gates, input_size)] * ways + [(gates, hidden_size)] * ways + [(gates,)] * ways
    shapes = shapes if has_bias else shapes[: 2 * ways]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    # MindSpore takes a second set of biases, and on a CPU never looks at it.
    if flat.shape[0] not in (ends[-1], ends[-1] + ways * gates * has_bias):
        raise ValueError(f"w must have {ends[-1]} elements, got {flat.shape[0]}.")
    parts = [
        part.reshape(shape) for part, shape in zip(jnp.split(flat, ends), shapes, strict=False)
    ]
    outs, hs, cs = [], [], []
    for way in range(ways):
        of_x, of_h = parts[way], parts[ways + way]

        def turn(carry: Tree, step: Tree, of_h: Any = of_h) -> Any:
            hidden, cell = _lstm_gates(step + carry[0] @ of_h.T, carry[1])
            return (hidden, cell), hidden

        steps = input @ of_x.T + (parts[2 * ways + way] if has_bias else 0)
        (last, cell), out = jax.lax.scan(turn, (h[way], c[way]), steps, reverse=way == 1)
        outs.append(out)
        hs.append(last)
        cs.append(cell)
    kept = jnp.zeros((1,), input.dtype)
    return jnp.concatenate(outs, -1), jnp.stack(hs), jnp.stack(cs), kept, kept


LSTM = primitive(
    "LSTM",
    lstm,
    lambda input_size, hidden_size, num_layers, has_bias, bidirectional, dropout: dict(
        input_size=input_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        has_bias=has_bias,
        bidirectional=bidirectional,
        dropout=dropout,
    ),
)


def _first(state: TensorLike | None, x: jax.Array, size: int) -> Any:
    if state is None:
        return jnp.zeros((x.shape[1], size), x.dtype)
    return state.reshape(x.shape[1], size)


def _alive(seq_length: jax.Array | None, x: jax.Array) -> Any:
    """(l, n, 1): which steps count."""
    if seq_length is None:
        return jnp.ones((x.shape[0], 1, 1), bool)
    steps = jnp.arange(x.shape[0])[:, None]
    return (steps < seq_length.reshape(1, -1))[..., None]


@tuple_function
def dynamic_rnn(
    x: Floating,
    w: Floating,
    b: Floating,
    seq_length: Array = None,
    init_h: Floating = None,
    init_c: Floating = None,
    cell_depth: int = 1,
    keep_prob: float = 1.0,
    cell_clip: float = -1.0,
    forget_bias: float = 0.0,
) -> Any:
    """An LSTM over sequences.

    Args:
        x: (l, n, input size).
        w: (input size + hidden size, 4 * hidden size).
        b: (4 * hidden size,).
        seq_length: (n,) steps that count, or None for all: what is behind is zeros.
        init_h: (1, n, hidden size), or None for zeros.
        init_c: as `init_h`.
        cell_depth: only 1.
        keep_prob: only 1.
        cell_clip: the cell's state is cut to this, either way; -1: it is not.
        forget_bias: added to the forget gate.

    Returns:
        (outputs, outputs, states of the cell, the gates i, j, f, o and tanh of the cell's states),
        (l, n, hidden size) each.

    Raises:
        ValueError: a setting that is not offered.
    """
    if cell_depth != 1 or keep_prob != 1:
        raise ValueError("only cell_depth=1 and keep_prob=1.0 are offered.")
    size = b.shape[0] // 4
    h, c = _first(init_h, x, size), _first(init_c, x, size)
    steps = x @ w[: x.shape[2]] + b

    def turn(carry: Tree, given: Tree) -> Any:
        (h, c), (step, alive) = carry, given
        i, j, f, o = jnp.split(step + h @ w[x.shape[2] :], 4, -1)
        i, j = jax.nn.sigmoid(i), jnp.tanh(j)
        f, o = jax.nn.sigmoid(f + forget_bias), jax.nn.sigmoid(o)
        cell = f * c + i * j
        if cell_clip > 0:
            cell = jnp.clip(cell, -cell_clip, cell_clip)
        bent = jnp.tanh(cell)
        out = jnp.where(alive, o * bent, 0)
        h, c = jnp.where(alive, out, h), jnp.where(alive, cell, c)
        return (h, c), (out, h, c, i, j, f, o, bent)

    return jax.lax.scan(turn, (h, c), (steps, _alive(seq_length, x)))[1]


def _only(given: dict[str, Any], offered: dict[str, tuple[Any, ...]]) -> None:
    for name, values in offered.items():
        if given[name] not in values:
            raise ValueError(f"{name}={given[name]!r} is not offered: only {values}.")


def _rnn_settings(
    cell_type: str = "LSTM",
    direction: str = "UNIDIRECTIONAL",
    cell_depth: int = 1,
    use_peephole: bool = False,
    keep_prob: float = 1.0,
    cell_clip: float = -1.0,
    num_proj: int = 0,
    time_major: bool = True,
    activation: str = "tanh",
    forget_bias: float = 0.0,
    is_training: bool = True,
) -> dict[str, Any]:
    offered = {"cell_type": ("LSTM",), "use_peephole": (False,), "activation": ("tanh",)}
    _only(locals(), offered | _OFFERED)
    return dict(
        cell_depth=cell_depth, keep_prob=keep_prob, cell_clip=cell_clip, forget_bias=forget_bias
    )


#: What both operators leave out.
_OFFERED = {"direction": ("UNIDIRECTIONAL",), "num_proj": (0,), "time_major": (True,)}

DynamicRNN = primitive("DynamicRNN", dynamic_rnn, _rnn_settings)


@tuple_function
def dynamic_gru_v2(
    x: Floating,
    weight_input: Floating,
    weight_hidden: Floating,
    bias_input: Floating = None,
    bias_hidden: Floating = None,
    seq_length: Array = None,
    init_h: Floating = None,
    gate_order: str = "rzh",
    reset_after: bool = True,
    keep_prob: float = 1.0,
    cell_clip: float = -1.0,
) -> Any:
    """A GRU over sequences.

    Args:
        x: (l, n, input size).
        weight_input: (input size, 3 * hidden size).
        weight_hidden: (hidden size, 3 * hidden size).
        bias_input: (3 * hidden size,), or None.
        bias_hidden: (3 * hidden size,), or None.
        seq_length: (n,) steps that count, or None for all.
        init_h: (n, hidden size), or None for zeros.
        gate_order: `rzh` or `zrh`.
        reset_after: whether the reset gate is applied behind the product of the hidden state.
        keep_prob: only 1.
        cell_clip: the state is cut to this, either way; -1: it is not.

    Returns:
        (outputs, the gates update, reset, new, and the hidden part of the new one), (l, n, hidden
        size) each.

    Raises:
        ValueError: a setting that is not offered.
    """
    if gate_order not in ("rzh", "zrh") or keep_prob != 1:
        raise ValueError("only gate_order 'rzh' and 'zrh' and keep_prob=1.0 are offered.")
    size = weight_hidden.shape[0]
    of_hidden = jnp.zeros((3 * size,), x.dtype) if bias_hidden is None else bias_hidden
    steps = x @ weight_input + (0 if bias_input is None else bias_input)

    def turn(h: Tree, given: Tree) -> Any:
        step, alive = given
        first, second, new = jnp.split(step, 3, -1)
        mine = h @ weight_hidden[:, : 2 * size] + of_hidden[: 2 * size]
        a, b = jnp.split(mine, 2, -1)
        a, b = jax.nn.sigmoid(first + a), jax.nn.sigmoid(second + b)
        reset, update = (a, b) if gate_order == "rzh" else (b, a)
        inside = (h if reset_after else reset * h) @ weight_hidden[:, 2 * size :]
        inside = inside + of_hidden[2 * size :]
        bent = jnp.tanh(new + (reset * inside if reset_after else inside))
        out = (1 - update) * bent + update * h
        if cell_clip > 0:
            out = jnp.clip(out, -cell_clip, cell_clip)
        h = jnp.where(alive, out, h)
        return h, (jnp.where(alive, out, 0), update, reset, bent, inside)

    first = _first(init_h, x, size)
    return jax.lax.scan(turn, first, (steps, _alive(seq_length, x)))[1]


def _gru_settings(
    direction: str = "UNIDIRECTIONAL",
    cell_depth: int = 1,
    keep_prob: float = 1.0,
    cell_clip: float = -1.0,
    num_proj: int = 0,
    time_major: bool = True,
    activation: str = "tanh",
    gate_order: str = "rzh",
    reset_after: bool = True,
    is_training: bool = True,
) -> dict[str, Any]:
    _only(locals(), {"cell_depth": (1,), "activation": ("tanh",)} | _OFFERED)
    return dict(
        keep_prob=keep_prob, cell_clip=cell_clip, gate_order=gate_order, reset_after=reset_after
    )


DynamicGRUV2 = primitive("DynamicGRUV2", dynamic_gru_v2, _gru_settings)
