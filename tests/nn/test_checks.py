"""What layers refuse, as recorded, and how they print."""

from __future__ import annotations

from typing import Any

import pytest

import goldens
from layer_cases import CASES, make
from paramesh import nn

CHECKS: list[dict[str, Any]] = goldens.load("layers")["checks"]
DIFFERENCES = {
    entry["case"]: entry["paramesh"]
    for entry in goldens.load("differences_layers")
    if entry["area"] == "layers.checks"
}


@pytest.mark.parametrize("record", CHECKS, ids=lambda record: record["expr"])
def test_recorded_check(record: dict[str, Any]) -> None:
    code = record["expr"]
    layer = code.removeprefix("nn.").partition("(")[0]
    differs = DIFFERENCES.get(code, record)
    if isinstance(differs, dict) and "error" in differs:
        # The message names the layer, or the operator that it uses.
        with pytest.raises(Exception, match=rf"{layer}|ops\.\w+:") as raised:
            make(code)
        assert differs["error"] in [cls.__name__ for cls in type(raised.value).__mro__]
        assert differs is record or record.get("error") not in [
            cls.__name__ for cls in type(raised.value).__mro__
        ]
        return
    value = make(code)
    if code in DIFFERENCES:
        assert "error" in record
    elif record["result"] == "ok":
        assert isinstance(value, nn.Cell)
    else:
        assert (value if value is None else str(value)) == record["result"]


def test_differences_are_recorded_checks() -> None:
    assert set(DIFFERENCES) <= {record["expr"] for record in CHECKS}


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        ("nn.Conv2d(3, 4, 3, has_bias='no')", TypeError, r"Conv2d\(has_bias\): expected True"),
        ("nn.Conv3d(2, 2, 3, data_format='NDHWC')", ValueError, r"Conv3d\(data_format\)"),
        ("nn.Conv2dTranspose(2, 2, 3, output_padding=1)", ValueError, "needs pad_mode='pad'"),
        (
            "nn.Conv2dTranspose(2, 2, 3, pad_mode='pad', output_padding=1)",
            ValueError,
            "less than the stride",
        ),
        ("nn.MaxPool2d(3, padding=1)", ValueError, "need pad_mode='pad'"),
        ("nn.MaxPool2d(3, return_indices=True)", ValueError, "not offered"),
        ("nn.AvgPool2d(2, divisor_override=0)", ValueError, "of at least 1"),
        ("nn.AdaptiveAvgPool2d((1, 2, 3))", TypeError, "one size or two"),
        ("nn.BatchNorm2d(4, eps=-1.0)", ValueError, r"BatchNorm2d\(eps\)"),
        ("nn.BatchNorm1d(4, data_format='NHWC')", ValueError, r"\(data_format\)"),
        ("nn.LayerNorm(())", ValueError, "at least one axis"),
        ("nn.EmbeddingLookup(4, 3, target='GPU')", ValueError, r"\('CPU', 'DEVICE'\)"),
        ("nn.EmbeddingLookup(4, 3, max_norm=0.0)", ValueError, "a number above 0"),
        ("nn.Dropout(keep_prob=0.0)", ValueError, r"in \(0, 1\]"),
        ("nn.Dropout2d(1.5)", ValueError, r"Dropout2d\(p\)"),
        ("nn.LSTM(3, 4, dropout=1.0)", ValueError, r"LSTM\(dropout\)"),
        ("nn.RNN(3, 4, nonlinearity='selu')", ValueError, r"RNN\(nonlinearity\)"),
        ("nn.MultiheadAttention(6, 4)", ValueError, "does not divide into num_heads=4"),
        ("nn.TransformerEncoderLayer(6, 2, activation='nosuch')", KeyError, "is not an activation"),
        ("nn.Upsample()", ValueError, "either size or scale_factor"),
        ("nn.Unfold((2, 2, 2, 1), (1, 1, 1, 1), (1, 1, 1, 1))", ValueError, r"Unfold\(ksizes\)"),
        ("nn.Pad([(1, 1)])", TypeError, "a tuple of pairs"),
        ("nn.Hardtanh(1.0, -1.0)", ValueError, r"Hardtanh\(max_val\)"),
        ("nn.CELU(0.0)", ValueError, "other than 0"),
        ("nn.SmoothL1Loss(0.0)", ValueError, "above 0"),
        ("nn.KLDivLoss('nosuch')", ValueError, "batchmean"),
        ("nn.CrossEntropyLoss(label_smoothing=2.0)", ValueError, r"\(label_smoothing\)"),
        ("nn.get_activation('nosuch')", KeyError, "Expected one of softmin"),
    ],
)
def test_wrong_argument(code: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make(code)


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        ("nn.BatchNorm2d(4)(np.ones((2, 4)))", ValueError, r"expected an input \(n, c, h, w\)"),
        ("nn.Conv1d(4, 2, 3)(np.ones((2, 3, 4)))", ValueError, "takes 4 channels"),
        ("nn.Dropout2d()(np.ones((2, 3)))", ValueError, r"\(n, c, h, w\) or \(c, h, w\)"),
        ("nn.MaxPool2d(2)(np.ones((2, 3)))", ValueError, r"MaxPool2d: expected an input"),
        ("nn.LSTM(3, 4)(np.ones((2, 3), np.float32))", ValueError, r"\(time, n, input\)"),
        ("nn.LSTM(3, 4)(np.ones((2, 3, 3), np.float16))", TypeError, "Float16.*Float32: cast"),
        (
            "nn.GRU(3, 4)(np.ones((2, 5, 3), np.float32), np.ones((1, 4, 4), np.float32))",
            ValueError,
            r"expected a state \(1, 5, 4\), got \[\(1, 4, 4\)\]",
        ),
        (
            "nn.GRU(3, 4)(np.ones((2, 5, 3), np.float32), None, np.ones(5))",
            ValueError,
            r"seq_length of shape \(5,\) and an integer type, got Float64\[5\]",
        ),
        ("nn.RNNCell(3, 4)(np.ones((2, 4), np.float32))", ValueError, r"\(n, 3\), got \(2, 4\)"),
        (
            "nn.MultiheadAttention(6, 2)(*[np.ones((3, 2, 5), np.float32)] * 3)",
            ValueError,
            r"of sizes \(6, 6, 6\)",
        ),
        (
            "nn.MultiheadAttention(6, 2)(*[np.ones((3, 2, 6), np.float32)] * 3, "
            "attn_mask=np.ones((2, 2)))",
            ValueError,
            r"\(attn_mask\): expected the shape \(3, 3\) or \(4, 3, 3\), got \(2, 2\)",
        ),
        ("nn.Embedding(4, 3)(np.ones(2, np.float32))", TypeError, "must be integers"),
    ],
)
def test_wrong_input(code: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make(code)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("nn.Dense(2, 3)", "Dense(input_channels=2, output_channels=3, has_bias=True)"),
        (
            "nn.SequentialCell([nn.Dense(2, 3), nn.ReLU()])",
            "SequentialCell(\n"
            "  (0): Dense(input_channels=2, output_channels=3, has_bias=True)\n"
            "  (1): ReLU()\n)",
        ),
        (
            "nn.Conv2d(2, 3, 3, pad_mode='pad', padding=(1, 2, 0, 0), weight_init='normal')",
            "Conv2d(input_channels=2, output_channels=3, kernel_size=(3, 3), stride=(1, 1), "
            "pad_mode=pad, padding=(1, 2, 0, 0), dilation=(1, 1), group=1, has_bias=False, "
            "weight_init=normal, bias_init=None, format=NCHW)",
        ),
        ("nn.Dropout(0.7)", "Dropout(keep_prob=0.7)"),
        ("nn.Dropout(p=0.3)", "Dropout(p=0.3)"),
        (
            "nn.MaxPool2d(2, (1, 2), 'same')",
            "MaxPool2d(kernel_size=(2, 2), stride=(1, 2), pad_mode=SAME)",
        ),
        ("nn.MaxPool1d(2)", "MaxPool1d(kernel_size=2, stride=1, pad_mode=VALID)"),
        ("nn.LeakyReLU(0.1)", "LeakyReLU(alpha=0.1)"),
    ],
)
def test_repr(code: str, shown: str) -> None:
    assert repr(make(code)) == shown


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_printing_makes_no_numbers(case: Any) -> None:
    net = make(case.code)
    assert repr(net).startswith(case.layer)
    assert all(param.has_init for param in net.get_parameters())


def test_errors_about_arguments_name_the_class() -> None:
    shared = [
        cls
        for name in nn.__all__
        if isinstance(cls := getattr(nn, name), type)
        and issubclass(cls, nn.Cell)
        and cls.__init__.__qualname__ != f"{cls.__qualname__}.__init__"
    ]
    assert not [cls for cls in shared if cls.__init__.__qualname__.startswith("_")]
    with pytest.raises(TypeError, match=r"^LSTMCell.__init__\(\) missing 1 .* 'hidden_size'"):
        nn.LSTMCell(3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^BatchNorm2d.__init__\(\) missing 1 .* 'num_features'"):
        nn.BatchNorm2d()  # type: ignore[call-arg]


def test_classes_of_scripts_share_what_they_write() -> None:
    class _Base(nn.Cell):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.width = width

    class Net(_Base):
        pass

    assert Net.__init__ is _Base.__init__
    assert Net(3).width == 3
