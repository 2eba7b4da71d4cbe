"""What programs over Parameters must do, in plain numpy: the model of the state machine's test.

Glossary
    record      what one Parameter must be: value, name, flags; keyed by the Parameter itself,
                of which nothing but its identity is used
    loose       how many steps were computed here and not yet compared; 0: equal bit for bit
    program     here a step, forward run or the like, in float64, rounded once per Parameter
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from paramesh import Parameter

Array = np.ndarray[Any, Any]
f32 = np.float32


class Record:
    """What one Parameter must be."""

    def __init__(self, param: Parameter, value: Array, requires_grad: bool = True) -> None:
        self.value = value
        self.name = param.name
        self.requires_grad = requires_grad
        self.loose = 0
        self.coarse = False

    def store(self, value: Any) -> None:
        """A computed value, cast to the type that this Parameter has."""
        self.value = np.asarray(value).astype(self.value.dtype).reshape(self.value.shape)
        self.loose += 1

    def write(self, value: Any) -> None:
        """A value that is known to the bit."""
        self.value = np.array(value).astype(self.value.dtype).reshape(self.value.shape)
        self.loose = 0

    def compare(self, seen: Array, param: Parameter) -> None:
        """Raise AssertionError if the Parameter's value is another; take over its rounding."""
        about = f"{param.name} (loose: {self.loose})"
        assert seen.shape == self.value.shape == param.shape, about
        assert seen.dtype == self.value.dtype == param.dtype.np_dtype, about
        assert param.name == self.name
        assert param.requires_grad == self.requires_grad, about
        if not self.loose:
            np.testing.assert_array_equal(seen, self.value, err_msg=about)
            return
        half = seen.dtype == np.float16 or self.coarse
        np.testing.assert_allclose(
            seen.astype(np.float64),
            self.value.astype(np.float64),
            rtol=(2e-3 if half else 1e-4) * self.loose,
            atol=(1e-3 if half else 1e-5) * self.loose,
            err_msg=about,
        )
        self.value, self.loose, self.coarse = np.array(seen), 0, False


class Network:
    """Layers `tanh(h @ weight.T + bias)`, and a running mean of the outputs."""

    def __init__(self, layers: Iterable[Sequence[Parameter]], mean: Parameter) -> None:
        self.layers = [list(layer) for layer in layers]
        self.mean = mean
        self.training = False

    def params(self) -> list[Parameter]:
        """All Parameters, each once, in the order of the Cell."""
        return list(dict.fromkeys([self.mean, *(p for layer in self.layers for p in layer)]))

    def forward(self, records: dict[Parameter, Record], x: Array) -> list[Array]:
        """The input and the outputs of all layers."""
        hidden = [x.astype(np.float64)]
        for weight, bias in self.layers:
            w, b = (records[p].value.astype(np.float64) for p in (weight, bias))
            hidden.append(np.tanh(hidden[-1] @ w.T + b))
        return hidden

    def run(self, records: dict[Parameter, Record], x: Array) -> Array:
        """The output; writes the mean as the Cell does."""
        out = self.forward(records, x)[-1]
        if self.training:
            held = records[self.mean]
            held.store(held.value.astype(np.float64) * 0.5 + out.mean(0) * 0.5)
        return out

    def gradients(
        self, records: dict[Parameter, Record], x: Array, y: Array
    ) -> tuple[float, dict[Parameter, Array]]:
        """The sum of squared errors and its gradients."""
        hidden = self.forward(records, x)
        self.run(records, x)
        error = hidden[-1] - y
        grads = {p: np.zeros(records[p].value.shape) for p in self.params()}
        back = 2.0 * error
        for (weight, bias), before, after in zip(
            reversed(self.layers), hidden[-2::-1], hidden[:0:-1], strict=True
        ):
            back = back * (1.0 - after**2)
            grads[weight] += back.T @ before
            grads[bias] += back.sum(0)
            back = back @ records[weight].value.astype(np.float64)
        # A gradient has the type of its Parameter.
        return float((error**2).sum()), {
            p: g.astype(records[p].value.dtype).astype(np.float64) for p, g in grads.items()
        }


#: The attributes of an optimizer that hold state for each Parameter, and what it starts from.
STATE = {
    "Adam": {"moment1": 0.0, "moment2": 0.0},
    "AdamWeightDecay": {"adam_m": 0.0, "adam_v": 0.0},
    "Momentum": {"moments": 0.0},
    "SGD": {"accum": 0.0, "stat": 1.0},
    "plain SGD": {"accum": 0.0, "stat": 1.0},
}
#: The attributes that hold one number.
NUMBERS = {
    "Adam": {"beta1_power": f32(1.0), "beta2_power": f32(1.0)},
    "AdamWeightDecay": {},
    "Momentum": {"momentum": f32(0.9)},
    "SGD": {"momentum": f32(0.9)},
    "plain SGD": {"momentum": f32(0.0)},
}
DECAY = 0.05
EPS = 1e-2


class Optimizer:
    """One of `STATE`, computed Parameter by Parameter.

    Args:
        kind: which.
        params: what it trains.
        state: {attribute: Parameter or tuple of Parameters} of its own.
    """

    def __init__(self, kind: str, params: Sequence[Parameter], state: dict[str, Any]) -> None:
        self.kind, self.params, self.state = kind, list(params), state

    def own(self, signed: bool = False) -> list[Parameter]:
        """The Parameters of its state; with `signed` those that may be below 0 alone."""
        found: list[Parameter] = []
        for name, held in self.state.items():
            if not (signed and name in ("moment2", "adam_v")):
                found += held if isinstance(held, list) else [held]
        return found

    def first_records(self, records: dict[Parameter, Record], rate: float) -> None:
        """Add the records of its state to `records`."""
        state = self.state
        records[state["global_step"]] = Record(state["global_step"], np.zeros(1, np.int32))
        records[state["learning_rate"]] = Record(state["learning_rate"], np.array(rate, f32))
        for attribute, value in NUMBERS[self.kind].items():
            records[state[attribute]] = Record(state[attribute], np.array(value))
        for attribute, start in STATE[self.kind].items():
            for param, held in zip(self.params, state[attribute], strict=True):
                like = records[param]
                records[held] = Record(held, np.full_like(like.value, start), like.requires_grad)

    def update(self, records: dict[Parameter, Record], by_param: dict[Parameter, Array]) -> None:
        """One update; a Parameter without a gradient gets zeros."""
        state = self.state
        number = {
            name: records[held].value.astype(np.float64)
            for name, held in state.items()
            if not isinstance(held, list)
        }
        rate = float(number["learning_rate"])
        if self.kind == "Adam":
            for name, beta in (("beta1_power", 0.9), ("beta2_power", 0.999)):
                number[name] = number[name] * beta
                records[state[name]].store(number[name])
            rate *= float(np.sqrt(1 - number["beta2_power"]) / (1 - number["beta1_power"]))
        for i, param in enumerate(self.params):
            held = records[param]
            if not held.requires_grad:
                continue  # frozen since the optimizer was made: neither it nor its state moves
            w = held.value.astype(np.float64)
            g = by_param.get(param, np.zeros(w.shape))
            mine = [records[state[name][i]] for name in STATE[self.kind]]
            held.store(w - rate * self._direction(w, g, mine, number))
        # No rounding here.
        step = records[state["global_step"]]
        step.write(step.value + 1)

    def _direction(self, w: Array, g: Array, state: list[Record], number: dict[str, Any]) -> Array:
        moments = [s.value.astype(np.float64) for s in state]
        first, second = moments[0], moments[1] if len(moments) > 1 else None
        if self.kind in ("Adam", "AdamWeightDecay"):
            assert second is not None
            first = 0.9 * first + float(f32(1) - f32(0.9)) * g
            second = 0.999 * second + float(f32(1) - f32(0.999)) * g * g
            state[0].store(first)
            state[1].store(second)
            decay = DECAY * w if self.kind == "AdamWeightDecay" else 0.0
            return first / (np.sqrt(second) + EPS) + decay
        if self.kind == "plain SGD":
            return g
        if self.kind == "SGD":
            assert second is not None
            first = np.where(second > 0, g, first * number["momentum"] + g)
            state[0].store(first)
            state[1].write(np.zeros_like(second))
            return first
        g = g + DECAY * w
        first = first * number["momentum"] + g
        state[0].store(first)
        return first
