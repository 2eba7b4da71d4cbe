"""Element types: names, conversions, and 64 bits without JAX's global switch."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from paramesh import dtype as dt
from paramesh.tensor import Tensor
from type_checks import wrong

EACH = pytest.mark.parametrize("dtype", dt.ALL, ids=str)


@EACH
def test_numpy_takes_it(dtype: dt.DType) -> None:
    assert np.dtype(dtype) == dtype.np_dtype
    assert np.zeros(2, dtype).dtype == dtype.np_dtype
    assert dtype.itemsize == dtype.np_dtype.itemsize


@EACH
def test_jax_takes_it(dtype: dt.DType) -> None:
    with dt.x64(dtype):
        assert jnp.zeros(2, dtype).dtype == dtype.np_dtype


@EACH
def test_every_spelling_means_it(dtype: dt.DType) -> None:
    spellings = [dtype, dtype.np_dtype, dtype.np_dtype.type, dtype.long_name, str(dtype)]
    assert all(dt.to_dtype(spelling) is dtype for spelling in spellings)
    assert dt.to_dtype(getattr(jnp, dtype.np_dtype.name.replace("bool", "bool_"))) is dtype


@EACH
def test_it_stays_itself(dtype: dt.DType) -> None:
    for twin in (copy.copy(dtype), copy.deepcopy(dtype), pickle.loads(pickle.dumps(dtype))):
        assert twin is dtype
    assert {dtype: 1}[dt.to_dtype(dtype.long_name)] == 1
    assert repr(dtype) == f"paramesh.{dtype.long_name}"


@EACH
def test_it_has_one_kind(dtype: dt.DType) -> None:
    kinds = [dtype.is_floating(), dtype.is_complex(), dtype.is_integer(), dtype is dt.bool_]
    assert kinds.count(True) == 1
    assert dtype.is_64bit() == (dtype.long_name in ("int64", "uint64", "float64", "complex128"))


def test_it_equals_only_itself() -> None:
    assert dt.float32 == dt.float32
    assert dt.float32 != dt.float64
    assert dt.float32 != np.float32  # as in MindSpore; to_dtype converts


def test_python_types() -> None:
    assert [dt.to_dtype(t) for t in (bool, int, float, complex)] == [
        dt.bool_,
        dt.int64,
        dt.float64,
        dt.complex128,
    ]
    assert dt.pytype_to_dtype(int) is dt.int64
    assert [dt.dtype_to_pytype(d) for d in (dt.bool_, dt.uint8, dt.bfloat16, dt.complex64)] == [
        bool,
        int,
        float,
        complex,
    ]
    assert dt.dtype_to_nptype(dt.bfloat16) is ml_dtypes.bfloat16


@pytest.mark.parametrize("value", ["float3", None, str, object(), np.dtype("U3"), [], "Float8"])
def test_what_is_no_element_type(value: object) -> None:
    with pytest.raises(
        TypeError, match="is not an element type that paramesh has. Expected one of"
    ):
        dt.to_dtype(wrong(value))


def test_python_type_without_an_element_type() -> None:
    with pytest.raises(
        TypeError, match="has no element type. Expected bool, int, float or complex"
    ):
        dt.pytype_to_dtype(str)


def test_x64_only_where_it_is_needed() -> None:
    assert not dt.x64_enabled()
    with dt.x64(np.float32(1), dt.int32):
        assert not dt.x64_enabled()
    with dt.x64(np.float32(1), dt.int64):
        assert dt.x64_enabled()
        seen: list[bool] = []
        thread = threading.Thread(target=lambda: seen.append(dt.x64_enabled()))
        thread.start()
        thread.join()
        assert seen == [False]
    assert not dt.x64_enabled()


def test_x64_ends_with_an_exception() -> None:
    with pytest.raises(RuntimeError, match="inside"), dt.x64(dt.float64):
        raise RuntimeError("inside")
    assert not dt.x64_enabled()


def test_x64_leaves_the_users_setting_on() -> None:
    with jax.enable_x64(True):
        with dt.x64(dt.int32):
            assert dt.x64_enabled()
        with dt.x64(dt.int64):
            assert dt.x64_enabled()
        assert dt.x64_enabled()


def test_watch_wide_tells_and_nests() -> None:
    with dt.watch_64bit() as outer:
        assert not outer.met_64bit
        with dt.watch_64bit() as inner:
            _ = Tensor([1, 2]) + 1
            assert inner.met_64bit
        assert outer.met_64bit
    with dt.watch_64bit() as fresh:
        _ = Tensor([1.0]) + 1
        assert not fresh.met_64bit


def test_wide_tensors_change_nothing_for_jax() -> None:
    program = (
        "import jax, jax.numpy as jnp, numpy as np\n"
        "from paramesh.tensor import Tensor\n"
        "before = dict(jax.config.values)\n"
        "t = Tensor(np.arange(3)) * 2**40\n"
        "t[0] = t.sum()\n"
        "print(t.dtype, t.tolist(), jnp.arange(3).dtype, jnp.ones(2).dtype,\n"
        "      before == dict(jax.config.values))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == (
        "Int64 [3298534883328, 1099511627776, 2199023255552] int32 float32 True"
    )
