"""Tensors and Parameters in JAX's own functions: over one tree, and where several trees meet."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.core import eval_jaxpr

import paramesh
from paramesh import Parameter, ParameterTuple, Tensor, nn

A = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
B = A * 2 + 1


#: How a tree is made of two arrays.
def _adam_mu(params: Any) -> Any:
    state: Any = optax.adam(0.1).init(params)
    return state[0].mu


KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "Parameter": lambda: {"a": parameter(A, "a"), "b": [parameter(B, "b")]},
    "Tensor": lambda: {"a": Tensor(A), "b": [Tensor(B)]},
    "mixed": lambda: {"a": parameter(A, "a"), "b": [Tensor(B)]},
}


def parameter(array: Any, name: str) -> Parameter:
    return Parameter(Tensor(array), name=name)


def arrays() -> dict[str, Any]:
    return {"a": jnp.asarray(A), "b": [jnp.asarray(B)]}


def squared(tree: Any) -> Any:
    return jax.tree.map(lambda x: x * x, tree)


def total(tree: Any) -> Any:
    return sum(jnp.sum(leaf**3) for leaf in jax.tree.leaves(tree))


@jax.custom_vjp
def halved(tree: Any) -> Any:
    return jax.tree.map(lambda x: x / 2, tree)


halved.defvjp(lambda tree: (halved(tree), tree), lambda kept, dout: (squared(kept),))


def pulled_back(tree: Any) -> Any:
    out, back = jax.vjp(squared, tree)
    return back(out)


def through_a_jaxpr(tree: Any) -> Any:
    jaxpr = jax.make_jaxpr(squared)(tree)
    return eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *jax.tree.leaves(tree))


#: Functions that are given one tree.
ALONE: dict[str, Callable[[Any], Any]] = {
    "tree.map": squared,
    "tree.map of two alike": lambda v: jax.tree.map(operator.mul, v, v),
    "tree.leaves": jax.tree.leaves,
    "tree.unflatten": lambda v: jax.tree.unflatten(jax.tree.structure(v), jax.tree.leaves(v)),
    "tree.reduce": lambda v: jax.tree.reduce(operator.mul, v),
    "jit": jax.jit(squared),
    "jit of a closure": lambda v: jax.jit(lambda: squared(v))(),
    "grad": jax.grad(total),
    "value_and_grad": jax.value_and_grad(total),
    "vmap": jax.vmap(squared),
    "map": lambda v: jax.lax.map(squared, v),
    "scan, carried": lambda v: jax.lax.scan(lambda c, _: (squared(c), None), v, None, length=2),
    "scan, along": lambda v: jax.lax.scan(lambda c, x: (c, squared(x)), jnp.zeros(()), v),
    "while_loop": lambda v: jax.lax.while_loop(
        lambda c: c[0] < 2, lambda c: (c[0] + 1, squared(c[1])), (jnp.zeros(()), v)
    ),
    "fori_loop": lambda v: jax.lax.fori_loop(0, 2, lambda _, c: squared(c), v),
    "cond": lambda v: jax.lax.cond(True, squared, lambda c: c, v),
    "switch": lambda v: jax.lax.switch(1, [lambda c: c, squared], v),
    "checkpoint": jax.checkpoint(squared),
    "custom_vjp": jax.grad(lambda v: total(halved(v))),
    "vjp": pulled_back,
    "jvp": lambda v: jax.jvp(squared, (v,), (v,)),
    "linearize": lambda v: jax.linearize(squared, v)[1](v),
    "make_jaxpr": through_a_jaxpr,
    "device_put": lambda v: jax.device_put(v, jax.devices()[1]),
    "device_get": jax.device_get,
    "optax.tree.norm": optax.tree.norm,
    "optax.adam": _adam_mu,
}


def is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def check(result: Any, expected: Any) -> None:
    for place in jax.tree.leaves(result, is_leaf=is_tensor):
        assert type(place) is not Parameter
    for leaf, right in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        assert isinstance(leaf, jax.Array | np.ndarray)
        np.testing.assert_allclose(leaf, right, rtol=1e-6)


@pytest.mark.parametrize("name", ALONE)
def test_one_tree(name: str) -> None:
    fn = ALONE[name]
    expected = fn(arrays())
    for kind in KINDS.values():
        tree = kind()
        check(fn(tree), expected)
        check([tree["a"]._get(), tree["b"][0]._get()], [A, B])


@pytest.mark.parametrize("kind", KINDS)
def test_eval_shape(kind: str) -> None:
    out = jax.eval_shape(squared, KINDS[kind]())
    assert [type(t) for t in (out["a"], out["b"][0])] == [Tensor, Tensor]
    assert out["a"].shape == (2, 3)
    assert out["b"][0].dtype is paramesh.float32


def adamw(params: Any, grads: Any) -> Any:
    rule = optax.adamw(0.1)
    state = rule.init(params)
    for _ in range(2):
        updates, state = rule.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


_STRUCTURE = "structure|expected PyTreeDef|different types|input pytree does not match"
#: Functions in which two trees meet, or in which a tree meets what JAX has rebuilt of it.
MEETING: dict[str, Callable[[Any, Any], Any]] = {
    "tree.map": lambda a, b: jax.tree.map(lambda p, g: p - 0.1 * g, a, b),
    "jvp": lambda a, b: jax.jvp(squared, (a,), (b,)),
    "linearize": lambda a, b: jax.linearize(squared, a)[1](b),
    "vjp": lambda a, b: jax.vjp(squared, b)[1](a),
    "optax.adamw": adamw,
    "optax.apply_updates": optax.apply_updates,
    "jacrev": lambda a, b: jax.jacrev(squared)(a),
    "jacfwd": lambda a, b: jax.jacfwd(squared)(a),
    "hessian": lambda a, b: jax.hessian(total)(a),
    "lower": lambda a, b: jax.jit(squared).lower(b).compile()(a),
    "export": lambda a, b: jax.export.export(jax.jit(squared))(b).call(a),
}


@pytest.mark.parametrize("name", MEETING)
def test_trees_that_meet(name: str) -> None:
    fn = MEETING[name]
    expected = fn(arrays(), arrays())
    tensors = KINDS["Tensor"]()
    check(fn(tensors, KINDS["Tensor"]()), expected)
    for kind in ("Parameter", "mixed"):
        check(fn(paramesh.values(KINDS[kind]()), tensors), expected)
        check(fn(tensors, paramesh.values(KINDS[kind]())), expected)
        # Never a wrong number: the Parameters themselves are refused.
        with pytest.raises((TypeError, ValueError), match=_STRUCTURE):
            fn(KINDS[kind](), tensors)


def test_trees_in_a_program_are_read_through_it() -> None:
    param = parameter(A, "p")
    traces = []

    @paramesh.jit
    def step() -> Any:
        traces.append(1)
        before = jax.tree.leaves([param])[0]
        param.assign(param + 1)
        return Tensor(before), squared({"p": param})["p"], jax.vmap(squared)([param])[0]

    for turn in range(2):
        before, after, mapped = step()
        check([before, after, mapped], [A + turn, (A + turn + 1) ** 2, (A + turn + 1) ** 2])
    param.set_data(Tensor(B))
    check(list(step()), [B, (B + 1) ** 2, (B + 1) ** 2])
    assert len(traces) == 1


def loaded(value: Any) -> Parameter:
    net = nn.Cell()
    net.w = parameter(B, "w")
    net.load_state_dict({"w": value})
    return net.w


#: What makes another thing of a Tensor.
TAKING: dict[str, Callable[[Any], Any]] = {
    "Tensor": Tensor,
    "Tensor.copy": lambda t: t.copy(),
    "copy": lambda t: t.__copy__(),
    "Parameter": lambda t: Parameter(t, name="p"),
    "set_data": lambda t: parameter(B, "p").set_data(t),
    "assign": lambda t: parameter(B, "p").assign(t),
    "assign_value": lambda t: parameter(B, "p").assign_value(t),
    "load_state_dict": loaded,
}


class TestTensorsAroundOtherThings:
    """What a function that is mapped over leaves gives is not always an array of JAX's."""

    @pytest.mark.parametrize("name", TAKING)
    def test_memory_of_numpy_is_copied(self, name: str) -> None:
        array = A.copy()
        (around,) = jax.tree.map(lambda _: array, [Tensor(B)])
        taken = TAKING[name](around)
        array += 7
        np.testing.assert_array_equal(taken.asnumpy(), A)
        if isinstance(taken, Parameter):
            assert isinstance(taken._contents, jax.Array)

    @pytest.mark.parametrize("name", ["Tensor", "Parameter", "set_data", "assign", "assign_value"])
    def test_what_has_no_numbers_is_refused(self, name: str) -> None:
        (shape,) = jax.eval_shape(lambda t: t, [Tensor(A)])
        with pytest.raises(TypeError, match="made from an array.* got ShapeDtypeStruct"):
            TAKING[name](shape)

    def test_containers_of_tensors_stay_containers(self) -> None:
        tree = {"a": Tensor(A), "b": [Tensor(B)]}
        pairs = jax.tree.map(lambda x: (Tensor(x), {"twice": Tensor(x * 2)}), tree)
        np.testing.assert_array_equal(pairs["b"][0][1]["twice"].asnumpy(), B * 2)
        second = jax.hessian(total)(tree)
        slopes = jax.jacrev(squared)(tree)
        for found, expected in (
            (second["b"][0]["a"], np.zeros((2, 3, 2, 3))),
            (second["a"]["a"], np.diag(6 * A.reshape(-1)).reshape(2, 3, 2, 3)),
            (slopes["a"]["a"], np.diag(2 * A.reshape(-1)).reshape(2, 3, 2, 3)),
        ):
            assert type(found) is Tensor
            np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-6)

    def test_containers_of_arrays_can_be_transposed(self) -> None:
        tree = {"a": Tensor(A), "b": [Tensor(B)]}
        pairs = jax.tree.map(lambda x: (x, x * 2), tree)
        one, twice = jax.tree.transpose(jax.tree.structure(tree), jax.tree.structure((0, 0)), pairs)
        check([one, twice], [arrays(), jax.tree.map(lambda x: x * 2, arrays())])
        assert type(twice["a"]) is Tensor


def test_a_tuple_of_parameters_is_a_tree() -> None:
    moments = ParameterTuple([Parameter(Tensor([1.0, 2.0]), name="a"), Parameter(3.0, name="b")])
    doubled = jax.tree.map(lambda leaf: leaf * 2, {"m": moments})
    assert [type(leaf) for leaf in doubled["m"]] == [Tensor, Tensor]
    assert [leaf.tolist() for leaf in doubled["m"]] == [[2.0, 4.0], 6.0]
    assert moments[0].tolist() == [1.0, 2.0]
    both = jax.tree.map(operator.add, paramesh.values(moments), doubled["m"])
    assert [leaf.tolist() for leaf in both] == [[3.0, 6.0], 9.0]
    slopes = jax.grad(lambda tree: jnp.sum(tree[0] ** 2) * tree[1])(moments)
    assert [slope.tolist() for slope in slopes] == [[6.0, 12.0], 5.0]
