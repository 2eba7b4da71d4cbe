"""Statistics and comparisons of arrays in checkpoints, against numpy over full arrays."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paramesh.checkpoint import compare as comparing
from paramesh.checkpoint.compare import compare
from paramesh.checkpoint.formats import statistics as streamed
from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.formats.statistics import histogram, statistics
from paramesh.checkpoint.formats.storage_dtypes import storage_dtype
from paramesh.checkpoint.opening import open_sink, open_source


def write(path: Path, arrays: dict[str, Any], **settings: Any) -> Path:
    entries = [Entry.of(name, storage_dtype(a.dtype), a.shape) for name, a in arrays.items()]
    with open_sink(path, "safetensors", entries, **settings) as sink:
        for name, array in arrays.items():
            sink.write(name, array)
    return path


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 7 elements, so that small arrays have several."""
    monkeypatch.setattr(streamed.chunks, "__defaults__", (7,))
    monkeypatch.setattr(comparing, "CHUNK", 7)


KINDS = [
    "float32",
    "float64",
    "float16",
    "int8",
    "int64",
    "uint64",
    "bool",
    "complex64",
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e5m2,
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_statistics_are_those_of_the_full_array(tmp_path: Path, kind: Any) -> None:
    random = np.random.default_rng(0)
    array: Any = (random.normal(3, 20, (5, 9)) * (1 + 1j if kind == "complex64" else 1)).astype(
        kind
    )
    array[0, 0] = 0
    with open_source(write(tmp_path / "a", {"a": array})) as source:
        found = statistics(source, "a")
    whole: Any = np.abs(array) if array.dtype.kind == "c" else array
    wide = whole.astype(np.float64)
    assert (found.count, found.nans, found.infinities) == (45, 0, 0)
    assert found.zeros == np.count_nonzero(wide == 0)
    assert (found.low, found.high) == (wide.min(), wide.max())
    assert found.mean == pytest.approx(wide.mean(), rel=1e-12)
    assert found.std == pytest.approx(wide.std(), rel=1e-12)


@given(
    hnp.arrays(
        np.float32,
        st.integers(0, 40),
        elements=st.sampled_from(
            [0.0, -0.0, 1.5, -3e38, 3e38, 1e-42, math.nan, math.inf, -math.inf]
        ),
    )
)
def test_nan_and_infinities_are_counted_and_left_out(
    tmp_path_factory: pytest.TempPathFactory, array: Any
) -> None:
    path = tmp_path_factory.mktemp("s") / "a"
    with open_source(write(path, {"a": array})) as source:
        found = statistics(source, "a")
    usable = array[np.isfinite(array)].astype(np.float64)
    assert found.nans == np.isnan(array).sum()
    assert found.infinities == np.isinf(array).sum()
    assert found.finite == usable.size
    if usable.size:
        assert (found.low, found.high) == (usable.min(), usable.max())
        assert found.mean == pytest.approx(usable.mean(), rel=1e-9, abs=1e25)
        assert found.std == pytest.approx(usable.std(), rel=1e-9, abs=1e25)
    else:
        assert (found.low, found.high, found.mean, found.std) == (None,) * 4


def test_a_large_mean_costs_no_digits_of_the_deviation(tmp_path: Path) -> None:
    array = 1e9 + np.arange(1000) % 2
    with open_source(write(tmp_path / "a", {"a": array})) as source:
        found = statistics(source, "a")
    assert found.std == pytest.approx(0.5, rel=1e-6)


def test_long_integers_keep_all_digits(tmp_path: Path) -> None:
    array = np.array([2**63 - 1, -(2**63), 5], np.int64)
    with open_source(write(tmp_path / "a", {"a": array})) as source:
        found = statistics(source, "a")
    assert (found.low, found.high) == (-(2**63), 2**63 - 1)


def test_sums_that_overflow_are_unknown(tmp_path: Path) -> None:
    array = np.array([1.7e308, -1.7e308])
    with open_source(write(tmp_path / "a", {"a": array})) as source:
        found = statistics(source, "a")
    assert (found.low, found.high, found.std) == (-1.7e308, 1.7e308, None)


def test_histogram_is_numpys(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(-8, 9, (6, 10)).astype(np.float32) / 8
    array[1, 1] = np.nan
    with open_source(write(tmp_path / "a", {"a": array})) as source:
        found = histogram(source, "a", -1, 1, 16)
        inside = histogram(source, "a", 0, 0.5, 4)
        point = histogram(source, "a", 0.25, 0.25, 3)
        with pytest.raises(ValueError, match="cannot make 4 intervals from 1 to 0"):
            histogram(source, "a", 1, 0, 4)
    usable = array[np.isfinite(array)]
    assert found == np.histogram(usable, 16, (-1, 1))[0].tolist()
    assert sum(found) == 59
    assert inside == np.histogram(usable, 4, (0, 0.5))[0].tolist()
    assert point == [np.count_nonzero(usable == 0.25), 0, 0]


def test_histogram_of_the_full_range(tmp_path: Path) -> None:
    end = float(np.finfo(np.float64).max)
    array = np.array([-end, -end / 2, 1.0, end / 2, end])
    with open_source(write(tmp_path / "a", {"a": array})) as source:
        assert histogram(source, "a", -end, end, 4) == [1, 1, 1, 2]


def test_histogram_of_the_smallest_range(tmp_path: Path) -> None:
    array = np.array([0.0, 5e-324])
    with open_source(write(tmp_path / "a", {"a": array})) as source:
        assert histogram(source, "a", 0.0, 5e-324, 4) == [1, 0, 0, 1]


def test_comparing_releases_every_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a", {"a": np.zeros(30)})
    with open_source(path) as first, open_source(path) as second:
        let_go: list[int] = []
        monkeypatch.setattr(first, "forget", lambda: let_go.append(1))
        monkeypatch.setattr(second, "forget", lambda: let_go.append(2))
        assert compare(first, second).equal
    assert sorted(let_go) == [1] * 5 + [2] * 5


def test_every_slice_is_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_source(write(tmp_path / "a", {"a": np.zeros(30)})) as source:
        read: list[int] = []
        real = source.read_flat

        def read_flat(name: str, start: int, stop: int) -> Any:
            read.append(stop - start)
            return real(name, start, stop)

        let_go: list[bool] = []
        monkeypatch.setattr(source, "read_flat", read_flat)
        monkeypatch.setattr(source, "forget", lambda: let_go.append(True))
        statistics(source, "a")
    assert read == [7, 7, 7, 7, 2]
    assert len(let_go) == 5


def pair(tmp_path: Path, first: dict[str, Any], second: dict[str, Any], **settings: Any) -> Any:
    with (
        open_source(write(tmp_path / "1", first)) as mine,
        open_source(write(tmp_path / "2", second)) as other,
    ):
        return compare(mine, other, **settings)


def test_a_checkpoint_is_the_same_as_itself(tmp_path: Path) -> None:
    values = {
        "f": np.array([np.nan, np.inf, -0.0, 1], np.float32),
        "i": np.arange(20),
        "c": np.array([1j, np.nan], np.complex64),
        "b": np.ones((), ml_dtypes.bfloat16),
        "e": np.zeros((0, 3)),
    }
    changed = values | {"f": np.array([np.nan, np.inf, 0.0, 1], np.float32)}
    found = pair(tmp_path, values, changed)
    assert found.equal
    assert found.same == 5


def test_everything_that_is_different_is_reported(tmp_path: Path) -> None:
    base = np.zeros((3, 5), np.float32)
    moved = base.copy()
    moved[2, 1], moved[0, 3] = -4, 1
    gone = base.copy()
    gone[1, 1] = np.nan
    found = pair(
        tmp_path,
        {"a": base, "gone": base, "shape": base, "kind": base, "values": base, "nan": base},
        {
            "a": base,
            "new": base,
            "shape": base.T,
            "kind": base.astype(np.float16),
            "values": moved,
            "nan": gone,
        },
    )
    assert not found.equal
    assert found.same == 1
    assert [e.name for e in found.only_first] == ["gone"]
    assert [e.name for e in found.only_second] == ["new"]
    assert [(a.shape, b.shape) for a, b in found.shapes] == [((3, 5), (5, 3))]
    assert [(a.name, str(a.dtype), str(b.dtype)) for a, b in found.dtypes] == [
        ("kind", "Float32", "Float16")
    ]
    nan, values = found.values
    assert (nan.name, nan.count, nan.largest, nan.place) == ("nan", 1, math.inf, (1, 1))
    assert (nan.first, nan.second) == ("0.0", "nan")
    assert (values.name, values.count, values.size) == ("values", 2, 15)
    assert (values.largest, values.relative, values.place) == (4.0, 1.0, (2, 1))
    assert (values.first, values.second) == ("0.0", "-4.0")


def test_long_integers_are_compared_exactly(tmp_path: Path) -> None:
    first, second = np.array([2**62, 2**63 - 1]), np.array([2**62 + 1, -(2**63)])
    (found,) = pair(tmp_path, {"a": first[:1]}, {"a": second[:1]}).values
    assert (found.count, found.largest) == (1, 1.0)
    (found,) = pair(tmp_path, {"a": first}, {"a": second}).values
    assert (found.count, found.largest, found.place) == (2, 2.0**64, (1,))


@given(
    hnp.arrays(np.float32, 20, elements=st.floats(-4, 4, width=32)),
    hnp.arrays(np.float32, 20, elements=st.floats(-4, 4, width=32)),
    st.sampled_from([(0.0, 0.0), (0.1, 0.0), (0.0, 0.5), (1e-3, 1e-3)]),
)
def test_tolerances_are_numpys(
    tmp_path_factory: pytest.TempPathFactory, first: Any, second: Any, tolerance: Any
) -> None:
    rtol, atol = tolerance
    found = pair(tmp_path_factory.mktemp("t"), {"a": first}, {"a": second}, rtol=rtol, atol=atol)
    wide = first.astype(np.float64), second.astype(np.float64)
    beyond = ~np.isclose(*wide, rtol=rtol, atol=atol)
    assert [value.count for value in found.values] == ([beyond.sum()] if beyond.any() else [])


def test_element_types_may_differ_and_values_not(tmp_path: Path) -> None:
    array = np.arange(4, dtype=np.float32)
    found = pair(tmp_path, {"a": array}, {"a": array.astype(ml_dtypes.bfloat16)})
    assert not found.equal
    assert not found.values
    assert found.same == 0
