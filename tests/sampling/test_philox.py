"""The generator of random numbers: its bits, how exact its values are, and how they are spread."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.extend.core import Jaxpr

from paramesh import initializer as inits
from paramesh.dtype import bfloat16, float32, float64
from paramesh.sampling import philox
from recipe_cases import numbers


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers(counter, key, expected):
    with jax.enable_x64(True):
        words = philox.philox4x32(tuple(map(jnp.uint32, counter)), tuple(map(jnp.uint32, key)))
    assert tuple(int(w) for w in words) == expected


#: The word whose `normal32` is furthest from the exact value, 7.7 units, of all 2^32.
WORST = 192304648


def edge_words() -> np.ndarray:
    near = np.arange(200, dtype=np.uint32)
    worst = np.array([WORST, 2**32 - 1 - WORST], np.uint32)
    middle = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    return np.concatenate([near, 2**31 - 1 - near, 2**31 + near, 2**32 - 1 - near, worst, middle])


def true_normal(position: np.ndarray, bits: int) -> np.ndarray:
    """The exact inverse of the normal distribution for signed positions of so many bits."""
    magnitude = np.where(position < 0, -1 - position, position)
    centre = np.ldexp(magnitude.astype(np.float64) + 0.5, 1 - bits)
    tail = np.ldexp((2 ** (bits - 1) - 1 - magnitude).astype(np.float64) + 0.5, -bits)
    inner = np.sqrt(2) * scipy.special.erfinv(np.minimum(centre, 0.5))
    z = np.where(centre < 0.5, inner, -scipy.special.ndtri(tail))
    return np.where(position < 0, -z, z)


def ulps(values: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """How far float32 values are from exact ones, in units of the last place of these."""
    unit = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    return np.abs(values.astype(np.float64) - exact) / unit


def test_normal_numbers_are_the_inverse_of_the_distribution():
    first = edge_words()
    second = first[::-1].copy()
    with jax.enable_x64(True):
        zero = np.uint32(0)
        single = np.asarray(jax.jit(philox.normal32)(first, zero))
        double = np.asarray(jax.jit(philox.normal64)(first, second, zero))
    exact = true_normal(first.view(np.int32).astype(np.int64), 32)
    assert ulps(single, exact).max() < 8
    position = (first.astype(np.uint64) << np.uint64(32)) | second
    np.testing.assert_allclose(double, true_normal(position.view(np.int64), 64), rtol=4e-15)


def test_normal_numbers_do_not_depend_on_how_the_program_is_compiled():
    # Operation by operation nothing can be joined, so these are the bits that rounding says.
    first = edge_words()[:2000]
    with jax.enable_x64(True), jax.disable_jit():
        alone = np.asarray(philox.normal32(jnp.asarray(first), jnp.uint32(0)))
        alone64 = np.asarray(philox.normal64(jnp.asarray(first), jnp.asarray(first), jnp.uint32(0)))
    with jax.enable_x64(True):
        joined = np.asarray(jax.jit(philox.normal32)(first, np.uint32(0)))
        joined64 = np.asarray(jax.jit(philox.normal64)(first, first, np.uint32(0)))
    assert np.array_equal(alone, joined)
    assert np.array_equal(alone64, joined64)


@pytest.mark.parametrize(
    ("init", "dtype", "digest"),
    [
        (inits.Uniform(), float32, "479ffbddfc8fc398"),
        (inits.Uniform(), float64, "f97e924dfc9c76a4"),
        (inits.Normal(), float32, "0c21c0cbe9ca6c67"),
        (inits.Normal(), float64, "b86b18152992f6bf"),
        (inits.Normal(), bfloat16, "24590d9667d1c2f5"),
        (inits.TruncatedNormal(1.0), float32, "4da4e22fbea35c91"),
        (inits.TruncatedNormal(1.0), float64, "73a0e5af49929810"),
    ],
    ids=str,
)
def test_the_numbers_of_a_key_never_change(init, dtype, digest):
    # On every platform and in every release. A change here is a break to be announced.
    values = numbers(init, (64, 64), dtype, key=(2024, 7))
    assert hashlib.sha256(values.tobytes()).hexdigest()[:16] == digest


def test_the_distribution_fits_closely():
    # 2^18 numbers each: a wrong tail or a wrong width shows.
    shape = (512, 512)
    for init, expected in [
        (inits.Normal(1.0), scipy.stats.norm()),
        (inits.Uniform(1.0), scipy.stats.uniform(-1, 2)),
        (inits.TruncatedNormal(1.0, 0.0, 0.5, 3.0), scipy.stats.truncnorm(0.5, 3.0)),
        (inits.TruncatedNormal(2.0, 1.0, -2.0, 2.0), scipy.stats.truncnorm(-1.5, 0.5, 1, 2)),
    ]:
        values = numbers(init, shape).ravel()
        assert scipy.stats.kstest(values, expected.cdf).pvalue > 1e-3, init


def test_uniform_numbers_are_exact():
    first = edge_words()
    second = first[::-1].copy()
    with jax.enable_x64(True):
        single = np.asarray(jax.jit(philox.uniform32)(first))
        double = np.asarray(jax.jit(philox.uniform64)(first, second))
    assert np.array_equal(single, (first >> 8) / 2**24)
    assert np.array_equal(double, first / 2**32 // 2**-21 * 2**-21 + exact_rest(first, second))


def exact_rest(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What `uniform64` has below the 21 upper bits of its first word."""
    return (first & 0x7FF) / 2**32 + (second >> 11) / 2**53


@pytest.mark.parametrize("sigma", [0.02, 3.0])
def test_scaling_rounds_twice_and_no_more(sigma):
    standard = numbers(inits.Normal(1.0), (512, 512), key=(5, 1))
    scaled = numbers(inits.Normal(sigma, 0.7), (512, 512), key=(5, 1))
    assert np.array_equal(scaled, standard * np.float32(sigma) + np.float32(0.7))
    unit = numbers(inits.Uniform(0.5), (512, 512), key=(5, 1)) + np.float32(0.5)
    scaled = numbers(inits.Uniform(sigma), (512, 512), key=(5, 1))
    bound = np.float32(sigma)
    assert np.array_equal(scaled, unit * (bound - -bound) + -bound)


# Operations whose result IEEE 754 or integer arithmetic fixes to the last bit.
EXACT = {
    *("add", "sub", "mul", "neg", "max", "min", "lt", "le", "eq", "ge", "gt", "select_n"),
    *("and", "or", "xor", "not", "shift_left", "shift_right_logical"),
    *("shift_right_arithmetic", "bitcast_convert_type", "convert_element_type"),
    *("broadcast_in_dim", "reshape", "squeeze", "slice", "iota", "concatenate"),
}


def operations(jaxpr: Jaxpr) -> set[str]:
    found = set()
    for equation in jaxpr.eqns:
        inner = [p for p in equation.params.values() if hasattr(p, "jaxpr")]
        for closed in inner:
            found |= operations(closed.jaxpr)
        if not inner:
            found.add(equation.primitive.name)
    return found


def test_backends_can_only_agree():
    # No logarithm, no root, no quotient: nothing of which a library has a version of its own.
    word, low = np.zeros(4, np.uint32), np.uint64(3)
    with jax.enable_x64(True):
        bits = jax.make_jaxpr(lambda w: philox.philox4x32((w, w, w, w), (w, w)))(word)
        uniform = jax.make_jaxpr(philox.uniform32)(word)
        normal = jax.make_jaxpr(philox.normal32)(word, np.uint32(0))
        cut = jax.make_jaxpr(philox.truncated32)(word, low, low)
        double = jax.make_jaxpr(philox.normal64)(word, word, np.uint32(0))
    for program in (bits, uniform, normal, cut):
        assert operations(program.jaxpr) - EXACT == set()
    # IEEE 754 fixes these as well, for processors that have float64.
    assert operations(double.jaxpr) - EXACT == {"div", "sqrt"}


DIGEST = """
import hashlib
import numpy as np
from paramesh.dtype import float32, float64
from paramesh.initializer import Normal, TruncatedNormal, Uniform
from paramesh.sampling.recipe import Recipe

digest = hashlib.sha256()
for init in (Uniform(0.3), Normal(3.0, 1.0), TruncatedNormal(1.0, 0.25, -1.0, 2.0)):
    for dtype in (float32, float64):
        whole = Recipe(init, (1, 2), (331, 221), dtype).compute()
        digest.update(np.asarray(whole).tobytes())
"""


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="flags of the CPU's compiler")
def test_the_processor_and_the_compilers_flags_make_no_difference():
    # An old processor, and a user who allows the compiler to reorder sums.
    flags = "--xla_cpu_max_isa=SSE4_2 --xla_cpu_enable_fast_math=true"
    process = subprocess.run(
        [sys.executable, "-c", DIGEST + "print(digest.hexdigest())"],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    here: dict[str, Any] = {}
    exec(DIGEST, here)
    assert process.stdout.strip() == here["digest"].hexdigest()
