"""What MindSpore's own tests gave: from results to `mindspore_outcomes.json`, and to the page.

    python mindspore_outcomes.py THEIRS.jsonl OURS.jsonl COMMIT

THEIRS and OURS are results of `mindspore_tests.py`, of MindSpore itself and of paramesh at COMMIT.
Counted are the files that ended in both, and of these the tests that MindSpore passes. Each test
that paramesh does not pass needs a reason: the first of `REASONS` whose pattern is found in its
name and message. Without one it is printed, and nothing is written.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
FILE = HERE / "mindspore_outcomes.json"
PAGE = HERE.parents[1] / "docs" / "how-to" / "run-mindspore-scripts.md"
BEGIN, END = "<!-- outcomes: from here -->", "<!-- outcomes: to here -->"

#: {folder: how many files of tests it has}.
FOLDERS = {
    "ut/python/nn": 87,
    "ut/python/ops": 39,
    "ut/python/pynative_mode": 50,
    "ut/python/train": 10,
    "ut/python/metrics": 20,
    "ut/python/utils": 6,
    "st/ops/cpu": 357,
}


class Reason(NamedTuple):
    """Why tests fail that MindSpore passes.

    Attributes:
        text: for the page.
        pattern: a regular expression, searched for in "test | message".
    """

    text: str
    pattern: str


REASONS = [
    Reason(
        "the text of an error: MindSpore's sentence is expected; the class of the error is the "
        "same",
        r"Regex pattern did not match|test_summary_\w+\.py\S+ \| (AssertionError: )?assert ['\"]For"
        r"|test_summary_\w+\.py\S+ \| (AssertionError: )?assert ['\"](the keys|The summary_|Summ)"
        r"|test_init_model_error ",
    ),
    Reason(
        "methods of `SummaryCollector` that begin with `_`, which collect for MindInsight, and its "
        "files (`summary_pb2`), which are not written",
        r"test_summary_collector\.py|summary_pb2|test_(histogram|image)_summary\.py",
    ),
    Reason(
        "gradients by integers, or of functions that return some",
        r"but it is int: only|returned int\d+: only floats|by an integer input would pass"
        r"|test_grad_refactor_4 ",
    ),
    Reason(
        "MindSpore refuses what works here: whole numbers of 16 bits and Float16 in "
        "`MultiFieldEmbeddingLookup`, a sparse gradient with AMSGrad, `device_id` of a text, "
        "loops of a thousand passes",
        r"DID NOT RAISE",
    ),
    Reason("optimizers of whole numbers, which are refused", r"only Parameters of a float type"),
    Reason("two Parameters with one name, an error when they are made", r"DuplicateNameError"),
    Reason(
        "attributes as they were given: `kernel_size` is a pair here, `axis` of Softmax a number",
        r"assert \(3, 3\) == 3|assert -?1 == \(-?1,\)",
    ),
    Reason("`SummaryLandscape`, not offered", r"SummaryLandscape"),
    Reason(
        "`MapParameter`, not offered: a table of rows by any number, which grows", r"MapParameter"
    ),
    Reason(
        "the inside of MindSpore: `probability.distribution._utils`, `K_CONTEXT`, "
        "`composite.tail`, `functional.switch_layer`, `GeSwitch`, `RowTensorInner`, `list_`",
        r"the inside of MindSpore|_utils\.utils|K_CONTEXT|no attribute 'tail'"
        r"|switch_layer|GeSwitch|RowTensorInner|list_'",
    ),
    Reason("`FakeQuantParam`, not offered", r"FakeQuantParam"),
    Reason(
        "compiled functions that return a `map` or a `zip`, a tuple in MindSpore's graphs",
        r"returns a (map|zip)",
    ),
    Reason(
        "operators that need values (`DenseToDenseSetOperation`, an index by a bool in a Tensor), "
        "asked to be compiled without running",
        r"TracedValueError",
    ),
    Reason(
        "`MultitypeFuncGraph` for the names of single types, such as `Int64`",
        r"test_partial\.py\S+ \| not collected",
    ),
    Reason("`bprop` that returns a gradient too few", r"bprop returned 1 gradients for 2 inputs"),
    Reason(
        "the keyword `sens` of a `GradOperation`, which is taken since, and the test passes",
        r"test_kw_grad ",
    ),
    Reason(
        "the random numbers of a seed: they are others than MindSpore's, and numpy's seed has no "
        "part in them",
        r"test_init_with_same_numpy_seed |test_variancescaling ",
    ),
    Reason(
        "`load_param_into_net` of a part of the Parameters, an error unless `strict_load=False`; "
        "an empty checkpoint is a `CheckpointError`",
        r"CheckpointError",
    ),
    Reason(
        'names: `ConvertToDynamic`, `AvgPool3D` of `pad_mode="same"`',
        r"ConvertToDynamic|only pad_mode 'valid' and 'pad'",
    ),
    Reason("encrypted checkpoints, not offered", r"enc_key"),
    Reason(
        "`_save_graph` and the graph beside a checkpoint, not written",
        r"save_graph|mindspore_ir_path",
    ),
    Reason(
        "the class of the error: SSIM of other shapes, indexes of shapes that do not fit together",
        r"test_ssim_invalid_5d_input |bool_mixed_error ",
    ),
    Reason(
        "the last digit: `==` on Float32, where XLA multiplies by 1/6 or 1/9 and MindSpore divides",
        r"test_h(sigmoid|swish)_op\.py::test_net |test_avgpool(2d_same|3d_1) ",
    ),
    Reason(
        "operators that write take Parameters, and MindSpore's other Tensors too",
        r"variable must be a Parameter",
    ),
    Reason(
        "values: a test of LSTM replaces the lists of weights inside the layer (`w_ih_list`), "
        "which the layer did not have; it has them since, and the test passes",
        r"test_sit_lstm_grad_input_3_32_32_is_32_hs_16 ",
    ),
    Reason(
        "numbers drawn from a seed: under `vmap` each example draws others",
        r"test_multinomial_vmap ",
    ),
    Reason("MindIR files, not written", r"got 'MINDIR'"),
    Reason(
        "the last digits of Float16 and of sums: `==` on Float32, the gradient of "
        "`DeformableOffsets`, `mish`, `SparseApplyFtrl`, `SparseApplyRMSProp`",
        r"test_deformable_offsets_grad_n\w+\[float16|test_mish\[float16|test_sparse_apply_r_m_s_prop_cpu"
        r"|test_sparse_apply_ftrl_op.py::test_(net|sparse_apply_ftrl) ",
    ),
    Reason(
        "mended since, and the tests pass: sums of Float16 from the end (`cumsum(reverse=True)`), "
        "`TopK` of all elements without sorting",
        r"test_cumsum[24] |test_topk_op.py",
    ),
    Reason(
        "the class of the error for arguments that do not fit, or none: `PSROIPooling`, `poisson`, "
        "`FusedSparseAdam`, `FusedSparseFtrl` and their like, shapes that do not broadcast "
        "(a TypeError here, a ValueError in MindSpore)",
        r"test_ps_roi_pooling_\w+|test_poisson_function_\w+_error |test_fused_sparse_\w+_invalid_"
        r"|test_squared_difference_op.py::test_net02 |test_truncatemod_cannot_broadcast ",
    ),
    Reason(
        "positions outside in `tensor_scatter_*`, an error when it is compiled, and no IndexError",
        r"test_tensor_scatter_arithmetic_indices_check",
    ),
    Reason(
        "gradients by Parameters of whole numbers, and by a Bool (`SparseToDense`)",
        r"test_index_add_grad_u?int|test_sparse_to_dense_int ",
    ),
    Reason(
        "random numbers of a seed: samplers, `RandomShuffle`; and `RandomShuffle` of a number",
        r"test_log_uniform_candidate_sampler_unique |test_random_shuffle_op_",
    ),
    Reason(
        "operators that write take Parameters, and MindSpore's other Tensors too",
        r"input_x must be a Parameter",
    ),
    Reason(
        "the gradient of a tuple of ints, which MindSpore leaves out of the result",
        r"test_sparse_tensor_dense_matmul_op.py\S+ \| AttributeError: 'tuple' object",
    ),
    Reason(
        "names: `SubAndFilter`, `TensorCopySlices`, `SparseSoftmaxCrossEntropyWithLogitsV2`",
        r"'SubAndFilter'|'TensorCopySlices'|SparseSoftmaxCrossEntropyWithLogitsV2",
    ),
    Reason(
        "names that were not offered: `CombinedNonMaxSuppression`, `MatrixLogarithm`, "
        "`ConcatOffsetV1`, `UpdateCache`, `FusedAdaFactor`; they are since, and the tests pass",
        r"FusedAdaFactor|CombinedNonMaxSuppression|MatrixLogarithm|ConcatOffsetV1|UpdateCache",
    ),
]


def folder_of(file: str) -> str:
    """The folder of the table that a file of tests is in."""
    return next(folder for folder in FOLDERS if file.startswith(f"tests/{folder}/"))


def outcomes(theirs: dict[str, Any], ours: dict[str, Any], commit: str) -> dict[str, Any]:
    """What `mindspore_outcomes.json` says, from results by test.

    Raises:
        ValueError: tests without a reason; the message lists them.
    """
    ended = [{name for name, row in rows.items() if name == row["file"]} for rows in (theirs, ours)]
    counts: dict[str, list[int]] = {file: [0, 0] for file in sorted(ended[0] & ended[1])}
    rest: dict[str, list[str]] = {reason.text: [] for reason in REASONS}
    unknown = []
    for test, row in sorted(theirs.items()):
        if row["outcome"] != "passed" or row["file"] not in counts:
            continue
        mine = ours.get(test, {"outcome": "absent", "message": "not collected"})
        good = mine["outcome"] == "passed"
        counts[row["file"]][0] += 1
        counts[row["file"]][1] += good
        if not good:
            said = f"{test} | {' '.join(mine['message'].split())}"
            why = next((r.text for r in REASONS if re.search(r.pattern, said)), None)
            if why is None:
                unknown.append(said[:600])
            else:
                rest[why].append(test)
    if unknown:
        raise ValueError("without a reason:\n" + "\n".join(unknown))
    return {"commit": commit, "files": counts, "rest": {k: v for k, v in rest.items() if v}}


def section(found: dict[str, Any]) -> str:
    """The tables of the page."""
    files: Counter[str] = Counter()
    theirs: Counter[str] = Counter()
    ours: Counter[str] = Counter()
    for file, (passed, mine) in found["files"].items():
        folder = folder_of(file)
        files[folder] += 1
        theirs[folder] += passed
        ours[folder] += mine
    lines = [
        "| tests of | files run | MindSpore 2.10 passes | paramesh passes |",
        "|---|---|---|---|",
    ]
    for folder, count in FOLDERS.items():
        ran = str(count) if files[folder] == count else f"{files[folder]} of {count}"
        lines.append(f"| `{folder}` | {ran} | {theirs[folder]:,} | {ours[folder]:,} |")
    total = f"{files.total()} of {sum(FOLDERS.values())}"
    total = str(files.total()) if files.total() == sum(FOLDERS.values()) else total
    lines.append(f"| all | {total} | {theirs.total():,} | {ours.total():,} |")
    lines += ["", "What remains:", "", "| tests | reason |", "|---|---|"]
    rows = sorted(found["rest"].items(), key=lambda item: -len(item[1]))
    lines += [f"| {len(tests)} | {text} |" for text, tests in rows]
    return "\n".join(lines)


def shown() -> str:
    """The tables that the page has."""
    return PAGE.read_text().split(BEGIN + "\n")[1].split("\n" + END)[0].strip("\n")


def main() -> None:
    """Run the command line."""
    from mindspore_tests import results

    theirs, ours = (results(path) for path in sys.argv[1:3])
    found = outcomes(theirs, ours, sys.argv[3])
    FILE.write_text(json.dumps(found, indent=0) + "\n")
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{section(found)}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
