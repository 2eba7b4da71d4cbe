"""`if` and `while` over Tensors in `construct` become `cond` and `while_loop`."""

from __future__ import annotations

import gc
import inspect
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, nn, ops
from paramesh.errors import TraceError
from paramesh.transforms.python_control_flow import ControlFlowError


def tensor(*values: float) -> Tensor:
    return Tensor(np.array(values, np.float32))


class Branches(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        y = x
        if x.sum() > 0:
            y = x * 2
            z = y + 1
        elif x.sum() < -10:
            y = -x
            z = y
        else:
            z = x * 0
        return y + z


class Returns(nn.Cell):
    def construct(self, x: Tensor) -> Any:
        if x.sum() > 0:
            return x * 2, 1.0
        x = x - 1
        if x.sum() < -10:
            return x * 3, 2.0
        return x, 3.0


class Loop(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        count = 0
        while x.sum() < 100 and count < 5:
            doubled = x * 2
            x = doubled
            count = count + 1
        return x + count


class Writes(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.steps = Parameter(Tensor(0), name="steps", requires_grad=False)

    def construct(self, x: Tensor) -> Tensor:
        if not x.sum() > 0:
            ops.assign_add(self.steps, 1)
        return x


class Helper(nn.Cell):
    """The condition is in another method, which `construct` calls in a `for` loop."""

    def step(self, x: Tensor, by: float) -> Tensor:
        if (x > 5).all() or by == 3:
            x = x - by
        return x

    def construct(self, x: Tensor) -> Tensor:
        for by in (1.0, 2.0, 3.0):
            x = self.step(x, by)
        return x


INPUTS = [tensor(1, 2), tensor(-1, -2), tensor(-10, -20), tensor(6, 7), tensor(200, 0)]


@pytest.mark.parametrize("kind", [Branches, Returns, Loop, Helper])
def test_programs_do_what_python_does(kind: type[nn.Cell]) -> None:
    net = kind()
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    wanted = [net(x) for x in INPUTS]
    paramesh.set_context(mode=paramesh.GRAPH_MODE)
    net(INPUTS[0])
    traces = net._compiled.traces
    for x, want in zip(INPUTS, wanted, strict=True):
        found = net(x)
        pairs = zip(found, want, strict=True) if isinstance(found, tuple) else [(found, want)]
        for got, right in pairs:
            np.testing.assert_allclose(np.asarray(got), np.asarray(right))
    assert net._compiled.traces == traces


def test_a_branch_writes_parameters() -> None:
    net = Writes()
    for x in INPUTS:
        net(x)
    assert net.steps.asnumpy() == 2


def test_gradients_go_through_the_branch_that_was_taken() -> None:
    gradient = paramesh.grad(lambda x: Branches()(x).sum())
    assert gradient(tensor(1, 2)).asnumpy().tolist() == [4, 4]
    assert gradient(tensor(-1, -2)).asnumpy().tolist() == [1, 1]


def halved(x: Tensor) -> Tensor:
    while x > 1:
        x = x / 2
    return x


def test_a_function_of_a_module() -> None:
    compiled = paramesh.jit(lambda x: halved(x))
    assert compiled(Tensor(9.0)).asnumpy() == 0.5625


class Unlike(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            y = x
        else:
            y = x.sum()
        return y


#: A mistake that type checkers see.
ONLY_ONE = """
from paramesh import nn

class OnlyOne(nn.Cell):
    def construct(self, x):
        if x.sum() > 0:
            y = x
        return y
"""


class Leaves(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        while True:
            x = x * 2
            if x.sum() > 10:
                return x


def line_of(cell: type[nn.Cell], text: str) -> int:
    lines, first = inspect.getsourcelines(cell)
    return first + next(i for i, line in enumerate(lines) if text in line)


def test_what_does_not_fit_is_reported_at_its_line(tmp_path: Path) -> None:
    where = re.escape(f"{__file__}:{line_of(Unlike, 'if x')}")
    with pytest.raises(ControlFlowError, match=f"{where}: this `if` .* converted to `ops.cond`"):
        Unlike()(tensor(1, 2))
    path = tmp_path / "only_one.py"
    path.write_text(ONLY_ONE, encoding="utf-8")
    with pytest.raises(ControlFlowError, match="'y' must be of one shape .* no value"):
        runpy.run_path(str(path))["OnlyOne"]()(tensor(1, 2))


def test_what_is_not_converted_is_an_error_as_before() -> None:
    with pytest.raises(TraceError, match="bool") as caught:
        Leaves()(tensor(1, 2))
    notes = "\n".join(caught.value.__notes__)
    assert "this one is not: a loop with `return`" in notes


class Breaks(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        turns = 0
        while True:
            x = x * 2
            if x.sum() > 100:
                break
            half = x / 2
            if half.max() < 0:
                x = -half
                continue
            turns = turns + 1
        return x + turns


class BreaksFor(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        total = x * 0
        for by in (1.0, 2.0, 3.0, 4.0):
            if x.sum() < by * 3:
                continue
            shifted = x - by
            total = total + shifted
            if total.sum() > 50:
                if x.max() > 100:
                    total = -total
                break
        return total


class Values(nn.Cell):
    """Conditions outside of `if` and `while`."""

    def construct(self, x: Tensor) -> Tensor:
        y = x * 2 if x.sum() > 0 else -x
        inside = 0 < x.sum() < 100
        z = y if (inside and x.max() > 1.5) or not y.sum() < 300 else y * 0
        return y + z


class Mine(nn.Cell):
    """A name that only its class has, and its parent's method."""

    def __init__(self) -> None:
        super().__init__()
        self.__by = 3.0

    def extend_repr(self) -> str:
        return "mine"

    def construct(self, x: Tensor) -> Tensor:
        if x.sum() > 0 and super().extend_repr() == "":
            x = x * self.__by
        return x


@paramesh.jit
def jitted(x: Tensor) -> Tensor:
    if x.sum() > 0:
        x = x + 1
    while x.sum() < 20:
        x = x + 5
    return x


class Decorated(nn.Cell):
    @paramesh.jit
    def construct(self, x: Tensor) -> Tensor:  # type: ignore[override]
        if x.sum() > 0:
            x = x + 1
        return x


def made_inside(x: Tensor) -> Tensor:
    """A function that is made anew in each trace."""
    factor = 3.0

    def inner(y: Tensor) -> Tensor:
        if y.sum() > 0:
            return y * factor
        return y

    return inner(inner(x))


def closed_over(factor: float) -> Any:
    """A function of which there are several."""

    def inner(x: Tensor) -> Tensor:
        return x * factor if x.sum() > 0 else x

    return inner


TWICE, THRICE = closed_over(2.0), closed_over(3.0)

FUNCTIONS: dict[str, Any] = {
    "break": Breaks(),
    "break in for": BreaksFor(),
    "values": Values(),
    "mine": Mine(),
    "jitted": jitted,
    "decorated": Decorated(),
    "made inside": made_inside,
    "closure": lambda x: TWICE(x) + THRICE(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_other_places(name: str) -> None:
    fn = FUNCTIONS[name]
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    plain = getattr(fn, "fn", fn)
    wanted = [plain(x).asnumpy() for x in INPUTS]
    paramesh.set_context(mode=paramesh.GRAPH_MODE)
    compiled = paramesh.jit(lambda x: fn(x))
    for x, want in zip(INPUTS, wanted, strict=True):
        np.testing.assert_allclose(compiled(x).asnumpy(), want)


class Constants(nn.Cell):
    """Conditions that are known, in a function with one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.no, self.yes = Tensor(False), Tensor([True])

    def construct(self, x: Tensor) -> Tensor:
        if self.no:
            x = ops.concat([x, x])
        if self.yes and x.sum() > 0:
            x = x + 1
        return x * int(Tensor([2]))


def test_a_known_tensor_stays_known_in_a_program() -> None:
    net = Constants()
    assert net(tensor(1, 2)).asnumpy().tolist() == [4, 6]
    assert net(tensor(-1, -2)).asnumpy().tolist() == [-2, -4]


def test_a_name_of_one_branch_that_nothing_reads_later() -> None:
    @paramesh.jit
    def run(x: Tensor) -> Tensor:
        out = x
        if x.sum() > 0:
            wide = ops.concat([x, x])
            out = x + wide.sum()
        return out

    assert run(tensor(1, 2)).asnumpy().tolist() == [7, 8]
    assert run(tensor(-1, -2)).asnumpy().tolist() == [-1, -2]


def test_a_name_of_one_branch_that_the_next_turn_reads() -> None:
    @paramesh.jit
    def run(x: Tensor, n: Tensor) -> Tensor:
        seen = x * 0
        i = n * 0
        while i < n:
            if i > 0:
                seen = seen + x
                x = x + seen
            i = i + 1
        return x

    # x: 1, then 1 + 1, 2 + 3, 5 + 8
    assert run(tensor(1), Tensor(4)).asnumpy().tolist() == [13]


def test_functions_that_the_collector_does_not_see() -> None:
    """`gc.freeze` puts objects away, as servers do before they fork."""
    made = type("Frozen", (nn.Cell,), {"construct": Frozen.construct})
    frozen_jit = paramesh.jit(frozen_plain)
    gc.collect()
    gc.freeze()
    try:
        assert made()(tensor(1.0)).asnumpy().tolist() == [2.0]
        assert frozen_jit(tensor(-1.0)).asnumpy().tolist() == [1.0]
    finally:
        gc.unfreeze()
    assert made()(tensor(-1.0)).asnumpy().tolist() == [1.0]


class Frozen(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else -x


def frozen_plain(x: Tensor) -> Tensor:
    if x.sum() > 0:
        return x * 2
    return -x


class Weighted(nn.Cell):
    def __init__(self, weight: float) -> None:
        super().__init__()
        self.w = Parameter(tensor(weight), name=f"w{weight}")

    def construct(self, x: Tensor) -> Tensor:
        return x * self.w


class Chosen(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.pair = (ops.neg, ops.square)
        self.several = nn.CellList([Weighted(5), Weighted(7)])

    def construct(self, i: Tensor, x: Tensor) -> Any:
        cell = self.several[i]
        return cell(self.pair[i](x)), (x, -x)[i]


def test_a_tensor_picks_one_of_several() -> None:
    net, x = Chosen(), tensor(3)
    for i, product, sign in ((0, -15, 3), (1, 63, -3), (-1, 63, -3)):
        found = net(Tensor(i), x)
        assert [each.asnumpy().tolist() for each in found] == [[product], [sign]]
    weights = paramesh.ParameterTuple(net.trainable_params())
    gradients = paramesh.grad(lambda: net(Tensor(1), x)[0].sum(), None, weights)()
    assert [g.asnumpy().tolist() for g in gradients] == [[0], [9]]


def test_a_tensor_that_picks_what_a_program_cannot() -> None:
    @paramesh.jit
    def named(i: Tensor) -> Any:
        return ("a", "b")[i]

    with pytest.raises(TraceError):
        named(Tensor(1))


def test_a_loop_says_which_object_it_cannot_hand_on() -> None:
    """It kept the object from before the loop."""

    class Box:
        def __init__(self, inside: Any) -> None:
            self.inside = inside

    @paramesh.jit
    def boxed(x: Tensor) -> Any:
        box, kind = Box(x), "one"
        while x.sum() < 4:
            kind = "one"
            box = Box(box.inside + x)
            x = x + 1
        return box.inside, kind

    with pytest.raises(ControlFlowError, match="A turn assigns a Box to 'box', which was a Box"):
        boxed(tensor(2))


@pytest.mark.parametrize("pair", [(2, 3), (0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize("kind", [np.float32, np.int64, np.bool_])
def test_and_and_or_give_one_of_their_values(pair: tuple[int, int], kind: Any) -> None:
    @paramesh.jit
    def fn(x: Tensor, y: Tensor) -> Any:
        return x and y, x or y, x and y and x

    x, y = (Tensor(np.array([n], kind)) for n in pair)
    a, b = (np.array([n], kind) for n in pair)
    for got, want in zip(fn(x, y), (a and b, a or b, a and b and a), strict=True):
        assert (got.tolist(), got.dtype) == (want.tolist(), x.dtype)
    either_kind = fn(x, Tensor(np.array(pair[1], np.float16)))  # the truth, of two types
    assert [bool(each) for each in either_kind[:2]] == [all(pair), any(pair)]
