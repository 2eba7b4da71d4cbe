"""`grad`, `value_and_grad` and `GradOperation`: gradients by inputs and by Parameters.

Sources: MindSpore's functions of these names (2.10; GradOperation as in 1.x), over `jax.vjp`.
In graph mode a call from outside is compiled, forward and backward together, as in MindSpore.
Moving averages and other Parameters that the function writes are written once, as by a call of the
function itself. A Parameter that the function uses several times has one, summed, gradient; one
that it does not use has a zero gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, cast

import jax

from paramesh import context
from paramesh.array_types import Tree
from paramesh.dtype import int64, is_64bit, watch_64bit, x64
from paramesh.ops import overflow
from paramesh.parameter import Parameter
from paramesh.state import placement, tracing, trained
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.transforms.bodies import name_of
from paramesh.transforms.compiled_function import CompiledFunction
from paramesh.transforms.forward import Forward, cotangents, has_gradient, zeros_like
from paramesh.transforms.kept_gradients import kept_by
from paramesh.transforms.reachability import cells_of, parameters_of

P = ParamSpec("P")
R = TypeVar("R")

_Position = int | tuple[int, ...] | None
#: Parameters to differentiate by.
Weights: TypeAlias = Parameter | Iterable[Parameter] | None


class GradientFunction(Generic[P, R]):
    """What `grad` and `value_and_grad` return: a function that also computes gradients."""

    def __init__(
        self,
        fn: Callable[..., Any],
        positions: _Position,
        weights: Weights,
        *,
        has_aux: bool = False,
        with_value: bool = True,
        with_sens: bool = False,
        all_inputs: bool = False,
    ) -> None:
        if not callable(fn):
            raise TypeError(
                f"grad, value_and_grad: expected a Cell or a function, got {type(fn).__name__}. "
                "Give the function that computes the loss, and Parameters as weights=."
            )
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

    def __reduce__(self) -> tuple[Any, ...]:
        weights = self._weights
        given: Weights = weights[0] if weights and self._single_weight else weights
        flags = (self._has_aux, self._with_value, self._with_sens, self._all)
        return _again, (self.fn, self._positions, given, flags)

    def _hints(self) -> list[Parameter]:
        return list(dict.fromkeys([*(self._weights or ()), *parameters_of(self.fn)]))

    def _reachable_parameters(self) -> list[Parameter]:
        return self._hints()

    def _function_inside(self) -> Any:
        return self.fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The value and gradients for these arguments."""
        return self._called(*args, **kwargs)

    @tracing.public_call
    def _called(self, *args: object, **kwargs: object) -> Any:
        if context.get_context("mode") == context.GRAPH_MODE:
            return self._compiled(*args, **kwargs)
        if tracing.current() is None and tracing.thread.journal is None:
            placement.current().before_eager(self._hints)
        return self._run(*args, **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        tracing.derives()
        sens = None
        if self._with_sens:
            if "sens" in kwargs:
                sens = kwargs["sens"]
                kwargs = {name: given for name, given in kwargs.items() if name != "sens"}
            elif args:
                args, sens = args[:-1], args[-1]
            else:
                raise TypeError("sens_param=True: the last argument must be the sensitivity.")
        positions = tuple(range(len(args))) if self._all else self._checked_positions(args)
        weights = self._weights or []
        if weights:
            trained.check(cells_of(self.fn), weights)
        kept = kept_by(self.fn) if weights else []
        variables, of_weights = placement.current().variables([*weights, *kept])
        in_parts = getattr(self.fn, "gradients_in_parts", None)
        if in_parts is not None and not (positions or kwargs or self._has_aux):
            value, by_variable = in_parts(_by_weights(variables), args, variables, sens)
            aux, by_input = (), []
        else:
            value, aux, by_input, by_variable, used = _gradients(
                self.fn, args, kwargs, positions, variables, sens, self._has_aux
            )
            if weights and not used and set(variables) == set(weights):
                trained.warn_unused(name_of(self.fn), weights)
        overflow.saw([*jax.tree.leaves(by_input), *by_variable])
        found = of_weights(by_variable)
        for param, gradient in zip(kept, found[len(weights) :], strict=True):
            param.assign(wrap(gradient))
        by_weight = [
            _hooked(w, wrap(g)) for w, g in zip(weights, found[: len(weights)], strict=True)
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
        weights: Weights = by_weight[0] if self._single_weight else tuple(by_weight)
        if self._all:
            inputs: Any = tuple(by_input)
        elif self._positions is None:
            return weights
        else:
            inputs = by_input[0] if len(by_input) == 1 else tuple(by_input)
        return inputs if self._weights is None else (inputs, weights)


def _again(
    fn: Callable[..., Any], positions: _Position, weights: Weights, flags: tuple[bool, ...]
) -> GradientFunction:
    has_aux, with_value, with_sens, all_inputs = flags
    return GradientFunction(
        fn,
        positions,
        weights,
        has_aux=has_aux,
        with_value=with_value,
        with_sens=with_sens,
        all_inputs=all_inputs,
    )


def check_weights(weights: Weights) -> list[Parameter] | None:
    """Parameters to differentiate by, as a list; None for None.

    Raises:
        TypeError: something else, or one that is not a float.
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
            raise TypeError(f"weights[{i}] is not a Parameter but a {type(weight).__name__}.")
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


def _by_weights(variables: Sequence[Any]) -> Callable[..., tuple[Any, list[Any]]]:
    """(function, inputs, sens) -> (value, raw gradients by these), for `gradients_in_parts`."""

    def compute(fn: Callable[..., Any], inputs: Sequence[Any], sens: Tree) -> Any:
        value, _, _, by_variable, _ = _gradients(fn, tuple(inputs), {}, (), variables, sens, False)
        return value, by_variable

    return compute


def _gradients(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    positions: Sequence[int],
    weights: Sequence[Any],
    sens: Tree,
    has_aux: bool,
) -> tuple[Any, tuple[Any, ...], list[Any], list[Any], bool]:
    """(value, aux, gradients by position, raw gradients by weight, any used) of one call."""
    chosen = {i: args[i] for i in positions}
    for i, arg in chosen.items():
        if not has_gradient(arg) and len(positions) == 1:
            raise TypeError(
                f"The gradient by argument {i} was asked for, but it is "
                f"{getattr(arg, 'dtype', type(arg).__name__)}: only Tensors and "
                "floats have gradients. Choose another grad_position, or None for gradients by "
                "weights only."
            )
    diff = {i: arg for i, arg in chosen.items() if has_gradient(arg)}
    start = [tracing.read(w) for w in weights]
    known = [*start, *jax.tree_util.tree_leaves(list(args))]
    with watch_64bit() as marks, x64(*known):
        result = _vjp(fn, args, kwargs, diff, weights, start, sens, has_aux)
        met_64bit = marks.met_64bit
    if met_64bit and not any(map(is_64bit, known)) and tracing.current() is None:
        # 64-bit data appeared inside: the backward pass needs the 64-bit mode as well.
        with x64(int64):
            result = _vjp(fn, args, kwargs, diff, weights, start, sens, has_aux)
    value, aux, by_diff, by_weight, forward = result
    forward.write()
    by_input = [by_diff[i] if i in by_diff else zeros_like(args[i]) for i in positions]
    return value, aux, by_input, list(by_weight), forward.used


def _vjp(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    diff: dict[int, Any],
    weights: Sequence[Any],
    start: list[Any],
    sens: Tree,
    has_aux: bool,
) -> Any:
    forward = Forward(fn, args, kwargs, diff, weights, start, has_aux)
    by_weight, by_diff = forward.back(cotangents(forward.arrays, sens))
    return forward.value, forward.aux, by_diff, by_weight, forward


def _check_position(position: object, weights: Weights) -> _Position:
    if position is None:
        if weights is None:
            raise ValueError(
                "grad_position and weights cannot both be None: nothing to differentiate by."
            )
        return None
    wanted = position if isinstance(position, tuple) else (position,)
    if not wanted or not all(isinstance(i, int) and not isinstance(i, bool) for i in wanted):
        raise TypeError(f"grad_position must be an int, a tuple of ints or None, got {position!r}.")
    return cast(_Position, position)


def value_and_grad(
    fn: Callable[P, R],
    grad_position: _Position = 0,
    weights: Weights = None,
    has_aux: bool = False,
) -> GradientFunction[P, tuple[R, Any]]:
    """A function that returns (outputs of `fn`, gradients).

    Args:
        fn: a Cell or a function of Tensors. Its output (each of its outputs, if they are several
            and `has_aux` is False) is differentiated with a sensitivity of ones.
        grad_position: which arguments to differentiate by: an int, a tuple of ints, or None.
        weights: Parameters to differentiate by: a ParameterTuple, a list, one Parameter, or None.
        has_aux: only the first output is differentiated, the others are returned as they are.

    Returns:
        gradients in MindSpore's order: by position, by weights, or (by position, by weights)
        if both are wanted. By position: a tuple where several were asked for; for `(0,)` it is
        the gradient itself, as MindSpore 2.10 gives it. By weights: a tuple unless one Parameter
        was given.

    Raises:
        ValueError: neither position nor weights; a position that the call does not have.
        TypeError: differentiation by something that is not a float.
    """
    return GradientFunction(
        fn, _check_position(grad_position, weights), weights, has_aux=has_aux, with_value=True
    )


def grad(
    fn: Callable[P, Any],
    grad_position: _Position = 0,
    weights: Weights = None,
    has_aux: bool = False,
) -> GradientFunction[P, Any]:
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
        get_all: gradients by all inputs; otherwise by the first.
        get_by_list: gradients by `weights`; with `get_all`, (by inputs, by weights).
        sens_param: the last argument of the call, or its keyword `sens`, is the sensitivity of the
            output.

    Raises:
        TypeError: an argument is not a bool; `get_by_list` without weights.
    """

    def __init__(
        self, get_all: bool = False, get_by_list: bool = False, sens_param: bool = False
    ) -> None:
        flags = {"get_all": get_all, "get_by_list": get_by_list, "sens_param": sens_param}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise TypeError(f"GradOperation: {name} must be True or False, got {flag!r}.")
        self.get_all, self.get_by_list, self.sens_param = get_all, get_by_list, sens_param

    def __call__(self, fn: Callable[..., Any], weights: Weights = None) -> GradientFunction:
        """The gradient function of a Cell or function."""
        if not callable(fn):
            raise TypeError(f"GradOperation: expected a Cell or a function, got {fn!r}.")
        if self.get_by_list and weights is None:
            if not hasattr(fn, "trainable_params"):
                raise TypeError("GradOperation(get_by_list=True): pass weights as second argument.")
            weights = fn.trainable_params()  # type: ignore[attr-defined]
        return GradientFunction(
            fn,
            None if self.get_by_list and not self.get_all else 0,
            weights if self.get_by_list else None,
            with_value=False,
            with_sens=self.sens_param,
            all_inputs=self.get_all,
        )
