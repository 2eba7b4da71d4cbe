"""The transforms against what MindSpore gave."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import transform_cases as cases

NAMES = cases.names(importlib.import_module, "paramesh")

#: Where MindSpore 2.10 does something else on purpose or by mistake; the guide has the reasons.
DIFFERENT = {
    # Its rows are packed for three channels and written for four.
    "V.NormalizePad([121.0, 115.0, 100.0], [70.0, 68.0, 71.0])/patch",
    "V.NormalizePad([121.0, 115.0, 100.0], [70.0, 68.0, 71.0])/floats",
    "V.NormalizePad([121.0, 115.0, 100.0], [70.0, 68.0, 71.0], 'float16')/patch",
    "V.NormalizePad([121.0, 115.0, 100.0], [70.0, 68.0, 71.0], 'float16')/floats",
    # It compares Pillow's version as text, and drops the fill value from Pillow 10 on.
    "V.RandomAffine((0, 0), None, (1, 1), (5, 5, 3, 3), V.Inter.LINEAR, 4)/pil",
    # With smoothing it marks the last label only.
    "T.OneHot(5, 0.25)/ints",
    # It takes arrays of two axes and more only.
    "T.Unique()/ints",
    # With a special token in the string, it gives what comes before it twice.
    "X.BasicTokenizer(True, True)/line",
    f"X.BertTokenizer({cases.PIECES}, lower_case=True, with_offsets=True)/line",
    # Its limiter has another sign in one branch, and another formula in the other.
    *(f"A.DCShift({s}, 0.02)/{w}" for s in (0.5, -0.5) for w in ("wave", "waves")),
}

#: What is computed in another order, or by a library whose rounding depends on the processor: the
#: largest difference.
ROUNDED = {
    "V.Resize((20, 31), V.Inter.CUBIC)/floats": 2e-7,
    "V.AdjustContrast(0.6)/floats": 1e-7,
    "V.AdjustSaturation(1.7)/floats": 2e-7,
    # MindSpore's is python's colorsys over float32.
    "V.RgbToHsv()/chw": 1e-7,
    "V.HsvToRgb()/chw": 1e-7,
    # Coefficients of a transform that moves nothing are 0 and 1 but for the rounding of LAPACK.
    "V.RandomPerspective(0.0, 1.0)/pil": 1.0,
}


#: Of audio, where sums are float32 in MindSpore and float64 here: shares of the largest value.
SHARE = {
    "A.PitchShift": 1e-5,
    "A.BassBiquad": 1e-5,
    "A.Resample": 1e-5,
    "A.PhaseVocoder": 2e-5,
    "A.TimeStretch": 2e-5,
    "A.SlidingWindowCmn": 5e-6,
}


def tolerance(key: str, theirs: np.ndarray) -> float:
    """The largest difference that a case may have; 0: equal to the bit."""
    if key in ROUNDED:
        return ROUNDED[key]
    if not key.startswith("A.") or theirs.dtype.kind != "f":
        return 0.0
    share = SHARE.get(key.partition("(")[0], 6e-6)
    return share * float(np.abs(theirs).max())


def run(expression: str, inputs: str) -> list[np.ndarray]:
    """The outputs of ours."""
    columns = cases.columns()
    return cases.outputs(eval(expression, NAMES)(*(columns[i] for i in inputs.split(","))))


#: What takes half a minute even for small inputs.
SLOW = "A.PitchShift"


def ids(table: list[tuple[str, str]]) -> list[Any]:
    slow = {True: pytest.mark.slow, False: ()}
    return [pytest.param(e, i, id=f"{e}/{i}", marks=slow[e.startswith(SLOW)]) for e, i in table]


@pytest.mark.parametrize(("expression", "inputs"), ids(cases.ALL))
def test_transform_gives_what_mindspore_gave(expression: str, inputs: str) -> None:
    key = f"{expression}/{inputs}"
    wanted = [v for k, v in cases.recordings().items() if k.rpartition("/")[0] == key]
    refused = cases.refusals().get(key)
    if key in DIFFERENT:
        given = run(expression, inputs)
        same = len(given) == len(wanted) and all(map(np.array_equal, given, wanted))
        assert not same, "equal by now: take it out of DIFFERENT and of the guide"
        return
    if refused is not None:
        with pytest.raises(Exception, match=r".") as caught:
            run(expression, inputs)
        assert type(caught.value).__name__ == refused
        return
    given = run(expression, inputs)
    assert len(given) == len(wanted)
    for ours, theirs in zip(given, wanted, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if ours.dtype.kind in "US" or not tolerance(key, theirs):
            np.testing.assert_array_equal(ours, theirs)
        else:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance(key, theirs))


@pytest.mark.parametrize("expression", cases.REFUSED)
def test_wrong_arguments_raise_mindspores_class_of_error(expression: str) -> None:
    name = expression.partition(".")[2].partition("(")[0]
    with pytest.raises((TypeError, ValueError, KeyError, RuntimeError), match=name) as caught:
        eval(expression, NAMES)
    assert type(caught.value).__name__ == cases.refusals()[expression]


def test_every_exception_to_equality_is_a_case() -> None:
    keys = {f"{e}/{i}" for e, i in cases.ALL}
    assert keys >= DIFFERENT | set(ROUNDED)
    assert not DIFFERENT & set(ROUNDED)


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_inputs_are_left_as_they_were(slow: bool) -> None:
    columns = cases.columns()
    before = {k: np.array(v) for k, v in columns.items()}
    for expression, inputs in cases.ALL:
        if expression.startswith(SLOW) is not slow:
            continue
        try:
            eval(expression, NAMES)(*(columns[i] for i in inputs.split(",")))
        except RuntimeError:
            assert f"{expression}/{inputs}" in cases.refusals()
    for name, value in before.items():
        np.testing.assert_array_equal(np.array(columns[name]), value, err_msg=name)
