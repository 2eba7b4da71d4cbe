"""SummaryRecord, SummaryCollector and the operators that feed them: what they refuse and write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn, ops
from paramesh.ops import operations as P  # noqa: N812
from paramesh.train import SummaryCollector
from paramesh.train.summary_record import SummaryRecord, _cache_summary_tensor_data
from type_checks import wrong

VALUES: dict[str, Any] = {
    "ScalarSummary": Tensor(np.float32(2.5)),
    "TensorSummary": Tensor([1.0, 2.0]),
    "HistogramSummary": Tensor([1.0, np.nan, np.inf]),
    "ImageSummary": Tensor(np.zeros((1, 3, 2, 2), np.float32)),
}


class Noting(nn.Cell):
    def __init__(self, kind: str, name: Any, value: Any) -> None:
        super().__init__()
        self.summary = getattr(P, kind)()
        self.name, self.value = name, value

    def construct(self, x: Tensor) -> Tensor:
        self.summary(self.name, self.value)
        return x


REFUSED: list[tuple[str, Any, Any, type[Exception], str]] = [
    ("ScalarSummary", None, Tensor(0), TypeError, "name must be a str, got NoneType"),
    ("ScalarSummary", Tensor(0), Tensor(0), TypeError, "name must be a str, got Tensor"),
    ("ImageSummary", "", VALUES["ImageSummary"], ValueError, "name must not be empty"),
    ("ScalarSummary", "x", 123, TypeError, "value must be a Tensor, got int"),
    ("ScalarSummary", "x", Tensor([1, 2]), ValueError, r"one element, got shape \(2,\)"),
    ("ImageSummary", "x", Tensor([1, 2]), ValueError, r"shape \(n, c, h, w\), got shape \(2,\)"),
    ("TensorSummary", "x", Tensor(0), ValueError, r"at least one axis, got shape \(\)"),
    ("HistogramSummary", "x", Tensor(0), ValueError, r"at least one axis, got shape \(\)"),
]


@pytest.mark.parametrize(("kind", "name", "value", "error", "text"), REFUSED)
def test_what_operators_refuse(
    kind: str, name: Any, value: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=f"ops.{kind}: .*{text}"):
        getattr(ops, kind)()(name, value)


def test_the_values_of_a_program_are_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    with SummaryRecord(tmp_path) as record:
        for kind, value in VALUES.items():
            Noting(kind, kind, value)(Tensor(1.0))
        paramesh.runtime.synchronize()
        assert [name for _, name, _ in record._values] == list(VALUES)
        assert record.record(1)
        _cache_summary_tensor_data([{"name": "mine[:Scalar]", "data": Tensor(3.0)}])
        assert [(kind, name) for kind, name, _ in record._values] == [("scalar", "mine")]
        with pytest.raises(ValueError, match=r"end with its kind, such as 'x\[:Scalar\]', got 'x'"):
            _cache_summary_tensor_data([{"name": "x", "data": Tensor(3.0)}])
        with pytest.raises(TypeError, match="step must be an int, got 'str'"):
            record.record(wrong("str"))


def test_a_histogram_without_a_finite_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboardX")
    with SummaryRecord(tmp_path) as record:
        record.add_value("histogram", "x", np.array([np.nan, -np.inf]))
        assert record.record(7)
    assert "step 7: 'x' has no finite value" in caplog.text


def test_arguments(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for given, error in ((3, TypeError), (None, TypeError), ("", ValueError), (file, OSError)):
        for kind in (SummaryRecord, SummaryCollector):
            with pytest.raises(error, match=r"(log|summary)_dir"):
                kind(wrong(given))
    with pytest.raises(TypeError, match="raise_exception must be a bool, got 32"):
        SummaryRecord(tmp_path, raise_exception=wrong(32))


SPECIFIED = "collect_specified_data"


def landscape(**said: object) -> dict[str, Any]:
    return {SPECIFIED: {"collect_landscape": said}}


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"collect_freq": 0.01}, TypeError, "collect_freq must be int, got float"),
        ({"collect_freq": 0}, ValueError, "collect_freq must be at least 1, got 0"),
        ({"max_file_size": True}, TypeError, "max_file_size must be int, got bool"),
        ({"keep_default_action": ""}, TypeError, "keep_default_action must be bool, got str"),
        ({SPECIFIED: 3}, TypeError, "collect_specified_data must be dict or None, got int"),
        ({SPECIFIED: {3: 3}}, TypeError, "the key 3 of collect_.* must be str, got int"),
        ({SPECIFIED: {"x": 3}}, ValueError, r"collect_specified_data has the keys \['x'\]"),
        ({SPECIFIED: {"collect_metric": 3}}, TypeError, "collect_metric must be bool, got int"),
        ({SPECIFIED: {"histogram_regular": "*"}}, ValueError, "a regular expression, got '\\*'"),
        (landscape(x=3), ValueError, r"collect_landscape has the keys \['x'\]"),
        (landscape(unit="hour"), ValueError, "unit must be 'step' or 'epoch', got 'hour'"),
        (landscape(landscape_size=2), ValueError, "landscape_size must be 3 to 256, got 2"),
        (landscape(intervals=[[1, 2]]), ValueError, r"at least 3 numbers, got \[1, 2\]"),
        (landscape(create_landscape={"x": True}), ValueError, "create_landscape has the keys"),
        ({"custom_lineage_data": {"x": {}}}, TypeError, r"lineage_data\['x'\] must be int or str"),
        ({"export_options": {"x": "npy"}}, ValueError, r"export_options has the keys \['x'\]"),
        ({"export_options": {"tensor_format": "npz"}}, ValueError, "'npy' or None, got 'npz'"),
    ],
)
def test_what_the_collector_refuses(
    tmp_path: Path, arguments: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=f"SummaryCollector: .*{text}"):
        SummaryCollector(tmp_path, **arguments)


def test_what_the_collector_collects(tmp_path: Path) -> None:
    def found(*given: Any) -> dict[str, Any]:
        return SummaryCollector(
            tmp_path, collect_specified_data=given[0], keep_default_action=given[1]
        )._collect_specified_data

    every = found(None, True)
    assert every["collect_metric"]
    assert every["histogram_regular"] is None
    assert found({"collect_metric": False}, True) == {**every, "collect_metric": False}
    assert found({"collect_metric": True}, False) == {"collect_metric": True}
    assert found(None, False) == {}


def test_one_collector_in_a_training(tmp_path: Path) -> None:
    net = nn.Dense(1, 1)
    model = paramesh.Model(net, nn.MSELoss(), nn.SGD(net.trainable_params()))
    batches = [(np.ones((1, 1), np.float32),) * 2]
    with pytest.raises(ValueError, match="callbacks has several of them"):
        model.train(1, batches, [SummaryCollector(tmp_path)] * 2, progress=False)
