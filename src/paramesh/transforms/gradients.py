"""`grad`, `value_and_grad` and `GradOperation`: gradients by inputs and by Parameters.

Sources: MindSpore's functions of these names (2.10; GradOperation as in 1.x), over `jax.vjp`.
In graph mode a call from outside is compiled, forward and backward together, as in MindSpore.
Moving averages and other Parameters that the function writes are written once, as by a call of the
function itself. A Parameter that the function uses several times has one, summed, gradient; one
that it does not use has a zero gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh import context
from paramesh.dtype import is_64bit, to_dtype, watch_64bit, x64
from paramesh.ops import overflow
from paramesh.parameter import Parameter
from paramesh.state import placement, tracing
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.trees import Nest, unpack
from paramesh.transforms.bodies import Body, name_of, write
from paramesh.transforms.compiled_function import CompiledFunction
from paramesh.transforms.reachability import parameters_of

_Position = int | tuple[int, ...] | None


class GradientFunction:
    """What `grad` and `value_and_grad` return: a function that also computes gradients."""

    def __init__(
        self,
        fn: Callable[..., Any],
        positions: _Position,
        weights: Any,
        *,
        has_aux: bool = False,
        with_value: bool = True,
        with_sens: bool = False,
        all_inputs: bool = False,
    ) -> None:
        self.fn = fn
        self.__name__ = f"grad_of_{getattr(fn, '__name__', type(fn).__name__)}"
        self._single_weight = isinstance(weights, Parameter)
        self._weights = check_weights(weights)
        self._positions = positions
        self._has_aux, self._with_value = has_aux, with_value
        self._with_sens, self._all = with_sens, all_inputs
        of_weights = None if self._weights is None else tuple(self._weights)
        flags = (self._single_weight, has_aux, with_value, with_sens, all_inputs)
        self._compiled = CompiledFunction(
            self._run, hints=self._hints, kept_with=fn, way=("grad", positions, of_weights, flags)
        )
        self._compiled.__name__ = self.__name__

    def _hints(self) -> list[Parameter]:
        return list(dict.fromkeys([*(self._weights or ()), *parameters_of(self.fn)]))

    def _reachable_parameters(self) -> list[Parameter]:
        return self._hints()

    def _function_inside(self) -> Any:
        return self.fn

    @tracing.door
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The value and gradients for these arguments."""
        if context.get_context("mode") == context.GRAPH_MODE:
            return self._compiled(*args, **kwargs)
        return self._run(*args, **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        sens = None
        if self._with_sens:
            if not args:
                raise TypeError("sens_param=True: the last argument must be the sensitivity.")
            args, sens = args[:-1], args[-1]
        positions = tuple(range(len(args))) if self._all else self._checked_positions(args)
        weights = self._weights or []
        variables, of_weights = placement.current().variables(weights)
        value, aux, by_input, by_variable = _gradients(
            self.fn, args, kwargs, positions, variables, sens, self._has_aux
        )
        overflow.saw([*(raw(g) for g in by_input), *by_variable])
        by_weight = [
            _hooked(w, wrap(g)) for w, g in zip(weights, of_weights(by_variable), strict=True)
        ]
        gradients = self._shape_up(by_input, by_weight)
        if not self._with_value:
            return (gradients, aux) if self._has_aux else gradients
        return ((value, *aux) if self._has_aux else value), gradients

    def _checked_positions(self, args: tuple[Any, ...]) -> tuple[int, ...]:
        positions = self._positions
        if positions is None:
            return ()
        wanted = (positions,) if isinstance(positions, int) else positions
        for i in wanted:
            if not -len(args) <= i < len(args):
                raise ValueError(
                    f"{self.__name__}: grad_position {i} but the function was called with "
                    f"{len(args)} arguments."
                )
        return tuple(i % len(args) for i in wanted)

    def _shape_up(self, by_input: list[Any], by_weight: list[Any]) -> Any:
        weights: Any = by_weight[0] if self._single_weight else tuple(by_weight)
        if self._all:
            inputs: Any = tuple(by_input)
        elif self._positions is None:
            return weights
        else:
            inputs = by_input[0] if isinstance(self._positions, int) else tuple(by_input)
        return inputs if self._weights is None else (inputs, weights)


def check_weights(weights: Any) -> list[Parameter] | None:
    """Parameters to derive by, as a list; None for None.

    Raises:
        TypeError: something else, or one that is no float.
    """
    if weights is None:
        return None
    if isinstance(weights, Parameter):
        return [weights]
    if not isinstance(weights, Iterable):
        raise TypeError(
            "weights must be a Parameter, a ParameterTuple or a list of Parameters, "
            f"got {type(weights).__name__}."
        )
    found = list(weights)
    for i, weight in enumerate(found):
        if not isinstance(weight, Parameter):
            raise TypeError(f"weights[{i}] is no Parameter but {type(weight).__name__}.")
        if weight.dtype.kind not in ("float", "complex"):
            raise TypeError(
                f"Parameter '{weight.name}' is {weight.dtype} and has no gradient: leave it out of "
                "weights, or create it with requires_grad=False."
            )
    return found


def _hooked(weight: Parameter, gradient: Tensor) -> Tensor:
    for hook in weight._hooks:
        changed = hook(gradient)
        if changed is not None:
            value = raw(changed)
            if value.shape != gradient.shape:
                raise ValueError(
                    f"Parameter '{weight.name}': a gradient hook returned shape "
                    f"{tuple(value.shape)}, expected {gradient.shape}."
                )
            gradient = wrap(value)
    return gradient


def _differentiable(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return isinstance(value, float | complex)
    return to_dtype(dtype).kind in ("float", "complex")


def _gradients(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    positions: Sequence[int],
    weights: Sequence[Any],
    sens: Any,
    has_aux: bool,
) -> tuple[Any, tuple[Any, ...], list[Any], list[Any]]:
    """(value, aux, gradients by position, raw gradients by weight) of one call."""
    chosen = {i: args[i] for i in positions}
    for i, arg in chosen.items():
        if not differentiable(arg) and len(positions) == 1:
            raise TypeError(
                f"The gradient by argument {i} was asked for, but it is "
                f"{getattr(arg, 'dtype', type(arg).__name__)}: only floats have gradients. "
                "Choose another grad_position, or None for gradients by weights only."
            )
    diff = {i: arg for i, arg in chosen.items() if differentiable(arg)}
    start = [tracing.read(w) for w in weights]
    wide = any(map(is_64bit, [*start, *jax.tree_util.tree_leaves(list(args))]))
    with watch_64bit() as marks, x64(np.dtype("int64")) if wide else tracing.nothing:
        result = _vjp(fn, args, kwargs, diff, weights, start, sens, has_aux)
        met_64bit = marks.wide
    if met_64bit and not wide and tracing.current() is None:
        # 64-bit data came up inside: the backward pass needs the 64-bit mode as well.
        with x64(np.dtype("int64")):
            result = _vjp(fn, args, kwargs, diff, weights, start, sens, has_aux)
    value, aux, by_diff, by_weight, forward = result
    forward.write()
    by_input = [by_diff[i] if i in by_diff else zeros_like(args[i]) for i in positions]
    return value, aux, by_input, list(by_weight)


def _vjp(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    diff: dict[int, Any],
    weights: Sequence[Any],
    start: list[Any],
    sens: Any,
    has_aux: bool,
) -> Any:
    forward = Forward(fn, args, kwargs, diff, weights, start, has_aux)
    by_weight, by_diff = forward.back(cotangents(forward.arrays, sens))
    return forward.value, forward.aux, by_diff, by_weight, forward


class Forward:
    """One run of a function that can be run backwards.

    Args:
        fn: the function.
        args: of the call.
        kwargs: of the call.
        diff: {position: argument} by which to derive.
        weights: Parameters by which to derive.
        start: their raw values.
        has_aux: the first output alone is derived.

    Attributes:
        arrays: the raw outputs that are derived.
        main: their Nest.
        value: what they are, as Tensors.
        aux: the other outputs.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        diff: dict[int, Any],
        weights: Sequence[Any],
        start: list[Any],
        has_aux: bool,
    ) -> None:
        given = {i: unpack(arg, "raw") for i, arg in diff.items()}
        self._nests = {i: nest for i, (_, nest) in given.items()}
        bodies: list[tuple[Body, Nest, Nest]] = []

        def call(*args: Any, **kwargs: Any) -> Any:
            main, aux = _split(fn(*args, **kwargs), has_aux)
            arrays, main = unpack(main, "raw")
            others, aux = unpack(aux)
            _check_outputs(arrays)
            return (main, arrays), (aux, others)

        def pure(values: list[Any], diff: dict[int, list[Any]]) -> Any:
            merged = tuple(
                self._nests[i].build(diff[i]) if i in diff else arg for i, arg in enumerate(args)
            )
            overlay = dict(zip(weights, values, strict=True))
            body = Body(call, merged, kwargs, overlay, name=name_of(fn), hands_out=True)
            (main, arrays), (aux, others) = body.nest.place(body.arrays)
            bodies.append((body, main, aux))
            return arrays, (others, *body.hand_out()[1:])

        raws = {i: arrays for i, (arrays, _) in given.items()}
        self.arrays, self._back, (others, self._values, self._left) = jax.vjp(
            pure, start, raws, has_aux=True
        )
        self._body, self.main, aux = bodies[-1]
        self.value = self.main.tensors(self.arrays)
        self.aux = aux.tensors(others)

    def back(self, cotangents: list[Any]) -> tuple[list[Any], dict[int, Any]]:
        """(raw gradients by the Parameters, gradients by position) for these of the outputs."""
        by_weight, by_diff = self._back(cotangents)
        return by_weight, {i: self._nests[i].tensors(grads) for i, grads in by_diff.items()}

    def write(self) -> None:
        """Write what the function wrote."""
        write(self._body.written, self._values)
        self._body.leave(self._left)


def _check_outputs(arrays: list[Any]) -> None:
    for array in arrays:
        if not _differentiable(array):
            raise TypeError(
                "The function whose gradient is wanted returned "
                f"{getattr(array, 'dtype', type(array).__name__)}: only floats have "
                "gradients. Return the loss first and the rest with has_aux=True."
            )


def _split(out: Any, has_aux: bool) -> tuple[Any, tuple[Any, ...]]:
    if not has_aux:
        return out, ()
    if not isinstance(out, tuple) or len(out) < 2:
        raise TypeError("has_aux=True: the function must return (loss, aux, ...).")
    return out[0], out[1:]


def cotangents(leaves: list[Any], sens: Any) -> list[Any]:
    """Raw values by which raw outputs are multiplied on the way back; None for ones.

    Raises:
        ValueError: another number of them, or a shape unlike the output's.
    """
    if sens is None:
        return [jnp.ones(np.shape(leaf), leaf.dtype) for leaf in leaves]
    given, _ = unpack(sens, "raw")
    if len(given) != len(leaves):
        raise ValueError(
            f"The sensitivity has {len(given)} values, the function returned {len(leaves)}."
        )
    cotangents = []
    for i, (value, leaf) in enumerate(zip(given, leaves, strict=True)):
        value = raw(value)
        shape = tuple(np.shape(value))
        if shape != tuple(leaf.shape) and shape != ():
            raise ValueError(
                f"The sensitivity of output {i} has shape {shape}, the output {tuple(leaf.shape)}."
            )
        cotangents.append(jnp.broadcast_to(jnp.asarray(value, leaf.dtype), leaf.shape))
    return cotangents


def differentiable(arg: Any) -> bool:
    """Whether a nest has arrays, all of them of float and complex types."""
    leaves = jax.tree_util.tree_leaves(arg)
    return bool(leaves) and all(map(_differentiable, leaves))


def zeros_like(arg: Any) -> Any:
    """Zeros in the places of all arrays and numbers of a nest, as Tensors."""

    def zero(value: Any) -> Any:
        with x64(value):
            return jnp.zeros(np.shape(value), getattr(value, "dtype", jnp.float32))

    arrays, nest = unpack(arg, "raw")
    return nest.tensors([zero(array) for array in arrays])


def _check_position(position: Any, weights: Any) -> _Position:
    if position is None:
        if weights is None:
            raise ValueError("grad_position and weights cannot both be None: nothing to derive by.")
        return None
    wanted = position if isinstance(position, tuple) else (position,)
    if not wanted or not all(isinstance(i, int) and not isinstance(i, bool) for i in wanted):
        raise TypeError(f"grad_position must be an int, a tuple of ints or None, got {position!r}.")
    return position


def value_and_grad(
    fn: Callable[..., Any],
    grad_position: _Position = 0,
    weights: Any = None,
    has_aux: bool = False,
) -> GradientFunction:
    """A function that returns (outputs of `fn`, gradients).

    Args:
        fn: a Cell or a function of Tensors. Its output (each of its outputs, if they are several
            and `has_aux` is False) is differentiated with a sensitivity of ones.
        grad_position: which arguments to derive by: an int, a tuple of ints, or None.
        weights: Parameters to derive by: a ParameterTuple, a list, one Parameter, or None.
        has_aux: only the first output is differentiated, the others are handed through.

    Returns:
        gradients as MindSpore arranges them: by position, by weights, or (by position, by weights)
        if both are wanted; a tuple exactly where a tuple (or several weights) was asked for.

    Raises:
        ValueError: neither position nor weights; a position that the call does not have.
        TypeError: derivation by something that is no float.
    """
    return GradientFunction(
        fn, _check_position(grad_position, weights), weights, has_aux=has_aux, with_value=True
    )


def grad(
    fn: Callable[..., Any],
    grad_position: _Position = 0,
    weights: Any = None,
    has_aux: bool = False,
) -> GradientFunction:
    """`value_and_grad` without the value: gradients, or (gradients, aux) with `has_aux`.

    Raises:
        ValueError, TypeError: as `value_and_grad`.
    """
    return GradientFunction(
        fn, _check_position(grad_position, weights), weights, has_aux=has_aux, with_value=False
    )


class GradOperation:
    """MindSpore's higher-order gradient: `GradOperation(...)(net, weights)(*inputs)`.

    Args:
        get_all: gradients by all inputs (integer inputs get zeros); otherwise by the first.
        get_by_list: gradients by `weights`; with `get_all`, (by inputs, by weights).
        sens_param: the last argument of the call is the sensitivity of the output.

    Raises:
        TypeError: an argument is no bool; `get_by_list` without weights.
    """

    def __init__(
        self, get_all: bool = False, get_by_list: bool = False, sens_param: bool = False
    ) -> None:
        flags = {"get_all": get_all, "get_by_list": get_by_list, "sens_param": sens_param}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise TypeError(f"GradOperation: {name} must be True or False, got {flag!r}.")
        self.get_all, self.get_by_list, self.sens_param = get_all, get_by_list, sens_param

    def __call__(self, fn: Callable[..., Any], weights: Any = None) -> GradientFunction:
        """The gradient function of a Cell or function."""
        if not callable(fn):
            raise TypeError(f"GradOperation: expected a Cell or a function, got {fn!r}.")
        if self.get_by_list and weights is None:
            if not hasattr(fn, "trainable_params"):
                raise TypeError("GradOperation(get_by_list=True): give weights as second argument.")
            weights = fn.trainable_params()  # type: ignore[attr-defined]
        return GradientFunction(
            fn,
            None if self.get_by_list and not self.get_all else 0,
            weights if self.get_by_list else None,
            with_value=False,
            with_sens=self.sens_param,
            all_inputs=self.get_all,
        )
