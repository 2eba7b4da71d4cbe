"""The interfaces of JAX in `_compat/jax.py`, which nobody promises, are as they were."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jax
import jax.core
import jax.experimental.layout
import jax.numpy as jnp
import numpy as np
import pytest

from paramesh._compat.jax import (
    NOT_FINITE,
    ClosedJaxpr,
    Jaxpr,
    Primitive,
    ShapedArray,
    absent_devices,
    ad,
    batching,
    broadcast_one_to_all,
    computes_now,
    dce_jaxpr,
    define_linearization,
    define_way_back,
    devices_are_open,
    eval_context,
    get_opaque_trace_state,
    in_rows,
    jaxpr_as_fun,
    looks_for_nans,
    mlir,
    native_call,
    outside_of_transforms,
    process_allgather,
    reset_compilation_cache,
    settings_of_calls,
    threefry_2x32,
    to_concrete_value,
)


def test_a_differentiated_value_is_known_outside_of_programs_only() -> None:
    seen: list[Any] = []

    def keep(x: jax.Array) -> jax.Array:
        seen.append(to_concrete_value(2 * x))
        return x.sum()

    jax.vjp(keep, jnp.arange(3.0))
    assert np.array_equal(seen[0], [0, 2, 4])
    jax.jit(jax.grad(keep))(jnp.arange(3.0))
    assert seen[1] is None


def test_settings_distinguish_calls() -> None:
    before = settings_of_calls()
    assert settings_of_calls() == before
    contexts = [
        jax.enable_x64(True),
        jax.default_matmul_precision("float32"),
        jax.default_device(jax.devices()[1]),
        jax.numpy_rank_promotion("raise"),
    ]
    for context in contexts:
        with context:
            assert settings_of_calls() != before
        assert settings_of_calls() == before


def test_a_warm_call_runs_no_python_code() -> None:
    compiled = jax.jit(lambda x: x + 1, donate_argnums=0).lower(jnp.zeros(3)).compile()
    value = compiled(jnp.zeros(3))
    call = native_call(compiled)
    assert call is not None
    frames: list[str] = []
    sys.setprofile(lambda frame, event, _: event == "call" and frames.append(frame.f_code.co_name))
    try:
        value = call(value)
    finally:
        sys.setprofile(None)
    assert frames == []
    assert value.tolist() == [2, 2, 2]


def test_looking_for_nans() -> None:
    assert not looks_for_nans()
    with jax.debug_nans(True):
        assert looks_for_nans()
    with jax.debug_infs(True):
        assert looks_for_nans()


def test_a_trace_is_left_without_another_trace_of_what_is_called() -> None:
    traced: list[int] = []

    @jax.jit
    def inner(x: jax.Array) -> jax.Array:
        traced.append(1)
        return x + 1

    @jax.jit
    def outer(x: jax.Array) -> jax.Array:
        assert isinstance(inner(x), jax.core.Tracer)
        with eval_context():
            now = inner(jnp.zeros(3))
        assert not isinstance(now, jax.core.Tracer)
        return x

    inner(jnp.zeros(3))
    outer(jnp.zeros(3))
    assert len(traced) == 1
    # If this fails, `jax.ensure_compile_time_eval` serves, which is public.
    with jax.ensure_compile_time_eval():
        inner(jnp.zeros(3))
    assert len(traced) == 2


@pytest.mark.parametrize(
    "inside",
    [
        jax.jit,
        jax.vmap,
        lambda f: jax.grad(lambda x: f(x)[0]),
        lambda f: lambda x: jax.lax.fori_loop(0, 2, lambda i, x: f(x), x),
    ],
    ids=["jit", "vmap", "grad", "fori_loop"],
)
def test_transforms_are_seen(inside: Any) -> None:
    seen: list[bool] = []

    def looks(x: jax.Array) -> jax.Array:
        seen.append(outside_of_transforms())
        with eval_context():
            seen.append(outside_of_transforms())
        return x

    assert outside_of_transforms()
    inside(looks)(jnp.zeros(3))
    assert seen[:2] == [False, True]
    assert outside_of_transforms()


def test_states_of_traces_are_distinguished() -> None:
    outside = get_opaque_trace_state()
    inside: list[Any] = []

    @jax.jit
    def program(x: jax.Array) -> jax.Array:
        inside.append(get_opaque_trace_state())
        inside.append(get_opaque_trace_state())

        def body(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
            return carry, inside.append(get_opaque_trace_state())

        jax.lax.scan(body, x, None, 2)
        return x

    program(jnp.zeros(3))
    assert get_opaque_trace_state() == outside
    first, second, in_scan = inside[:3]
    assert first == second
    assert first != outside
    assert in_scan not in (first, outside)


def test_a_traced_program_without_what_an_output_does_not_need() -> None:
    closed = jax.make_jaxpr(lambda x, y: (x + 1, jnp.sin(y)))(1.0, 2.0)
    assert isinstance(closed, ClosedJaxpr)
    assert isinstance(closed.jaxpr, Jaxpr)
    assert [float(value) for value in jaxpr_as_fun(closed)(1.0, 0.0)] == [2.0, 0.0]
    small, used = dce_jaxpr(closed.jaxpr, [True, False])
    assert used == [True, False]
    assert [float(value) for value in jaxpr_as_fun(closed.replace(jaxpr=small))(3.0)] == [4.0]


def test_an_operator_of_ones_own_is_seen_in_traces_and_derivatives() -> None:
    marked = Primitive("marked")

    def transposed(cotangent: Any, value: object, *, back: bool) -> list[Any]:
        return [cotangent if isinstance(cotangent, ad.Zero) else marked.bind(cotangent, back=True)]

    marked.def_impl(lambda value, **_: value)
    marked.def_abstract_eval(lambda aval, **_: aval)
    ad.deflinear2(marked, transposed)
    batching.defvectorized(marked)
    mlir.register_lowering(marked, lambda _, value, **__: [value])

    def f(x: Any) -> Any:
        return jnp.sin(marked.bind(x, back=False)).sum()

    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(jax.jit(jax.vmap(f))(x), jnp.sin(x).sum(1), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.grad(f))(x), jnp.cos(x), rtol=1e-6)
    eqns = jax.make_jaxpr(jax.grad(f))(x).jaxpr.eqns
    assert [eqn.params["back"] for eqn in eqns if eqn.primitive is marked] == [False, True]


def test_what_is_computed_now() -> None:
    seen: list[bool] = []

    def see(x: Any) -> Any:
        seen.append(computes_now())
        return x.sum()

    x = jnp.ones(3)
    see(x)
    jax.grad(see)(x)
    jax.vjp(see, x)
    assert seen == [True] * 3
    seen.clear()
    jax.jit(see)(x)
    jax.vmap(see)(x[None])
    jax.linearize(see, x)
    jax.jvp(see, (x,), (x,))
    jax.jit(jax.grad(see))(x)
    jax.grad(jax.grad(lambda x: see(x[None]) ** 2))(1.0)
    assert not any(seen)
    assert seen


def test_a_gradient_goes_through_an_operator_as_its_rules_say() -> None:
    doubled, linear = Primitive("doubled"), Primitive("doubled_linear")
    doubled.multiple_results = linear.multiple_results = True
    asked: list[Any] = []

    def linearize(reverse: bool, moves: Any, *inputs: Any, times: int) -> Any:
        asked.append((reverse, list(moves), times))
        box = [jnp.ones(3)]  # not to be hashed, and not to be held

        def tangents(left: Any, *given: Any) -> Any:
            asked.append(left)
            moving = [t for t, move in zip(given, moves, strict=True) if move]
            return linear.bind(*moving, box=box, shapes=[ShapedArray((3,), jnp.float32)])

        return [inputs[0] * times], [True], "left", tangents

    def back(cotangents: Any, box: Any, shapes: Any) -> Any:
        return [cotangents[0] * 2 * box[0]]

    doubled.def_impl(lambda *inputs, times: [inputs[0] * times])
    define_linearization(doubled, linearize)
    define_way_back(linear, back)

    def f(x: Any) -> Any:
        return (doubled.bind(x, jnp.ones(3), times=2)[0] ** 2).sum()

    np.testing.assert_allclose(jax.grad(f)(jnp.arange(3.0)), 8 * np.arange(3.0))
    assert asked == [(True, [True, False], 2), "left"]


def test_the_hash_of_counters_is_that_of_its_paper() -> None:
    words = threefry_2x32(jnp.zeros(2, jnp.uint32), jnp.zeros(2, jnp.uint32))
    assert [int(word) for word in words] == [0x6B200159, 0x99BA4EFE]


def test_arrays_of_all_processes_of_one() -> None:
    mine = np.arange(3, dtype=np.int32)
    assert np.array_equal(np.asarray(broadcast_one_to_all(mine)), mine)
    assert np.array_equal(np.asarray(process_allgather(mine)), mine[None])


def test_bytes_are_left_with_the_coordinator_once() -> None:
    program = """
        import socket, jax
        from paramesh._compat.jax import fetch, post
        try:
            post("a", b"x")
        except RuntimeError as error:
            assert "has not joined" in str(error)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        jax.distributed.initialize(f"127.0.0.1:{port}", 1, 0)
        post("a", b"some bytes")
        assert fetch("a", 1) == b"some bytes"
        assert fetch("a", 0.05) is None
        post("a", bytes(1 << 20))
        assert len(fetch("a", 1)) == 1 << 20
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_folder_of_compiled_programs_is_looked_at_again(tmp_path: Path) -> None:
    jax.jit(lambda x: x * 3)(jnp.zeros(7)).block_until_ready()
    name, seconds = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = {key: jax.config.values[key] for key in (name, seconds)}
    try:
        jax.config.update(seconds, 0.0)
        jax.config.update(name, str(tmp_path))
        reset_compilation_cache()
        jax.jit(lambda x: x * 3 + 1)(jnp.zeros(7)).block_until_ready()
        assert list(tmp_path.iterdir())
    finally:
        for key, value in before.items():
            jax.config.update(key, value)
        reset_compilation_cache()


def test_a_compiled_stage_that_gives_a_nan_raises_what_is_known() -> None:
    stage = jax.jit(lambda x: jnp.log(x)).lower(jnp.float32(1)).compile()
    jax.config.update("jax_debug_nans", True)
    try:
        with pytest.raises(NOT_FINITE, match="nan"):
            stage(jnp.float32(-1))
    finally:
        jax.config.update("jax_debug_nans", False)


def test_whether_devices_are_open() -> None:
    jax.devices()
    assert devices_are_open()
    code = "from paramesh._compat.jax import devices_are_open as f; print(f())"
    words = [sys.executable, "-c", code]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_compiler_that_is_missing_says_so() -> None:
    """With the compilers, `tests/targets` has the devices that they make."""
    with pytest.raises(ImportError, match="topology not implemented for nothing"):
        absent_devices("nothing", "")


def test_fourier_transforms_still_need_their_arrays_in_rows() -> None:
    """If the first fails no more, `in_rows` can go from `partitioning/rules.py`."""
    x = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    turned = jax.experimental.layout.Layout((1, 0))

    def moved(values: jax.Array) -> jax.Array:
        return jax.experimental.layout.with_layout_constraint(values, turned)

    with pytest.raises(jax.errors.JaxRuntimeError, match="IsMonotonicWithDim0Major"):
        jax.block_until_ready(jax.jit(lambda x: moved(jnp.fft.fft(x)))(x))
    found = jax.jit(lambda x: moved(in_rows(jnp.fft.fft(x))))(x)
    np.testing.assert_allclose(found, np.fft.fft(x), 1e-5, 1e-5)
