"""Pipelines, against what MindSpore 2.10.0 gives for the same code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dataset_prelude
import goldens
from paramesh import dataset

RECORDS = goldens.load("dataset/pipelines")

#: Where paramesh does something else, and what. `docs/reference/differences.md` says why.
OTHERWISE: dict[str, Any] = {
    "split_disjoint": {"result": [0, 1, 2, 3, 4, 5]},
    "list_sampler_and_shuffle": {"error": "ValueError"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    dataset_prelude.write_files(folder)
    return folder


def plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, int | float | str | bool) or value is None:
        return value
    return str(getattr(value, "__name__", value)).replace("dtype('", "").replace("')", "")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["case"])
def test_gives_what_mindspore_gives(record: dict[str, Any], root: Path) -> None:
    names = dataset_prelude.namespace(dataset, root)
    expected = OTHERWISE.get(record["case"], record)
    if "error" in expected:
        kinds = {"TypeError": TypeError, "ValueError": ValueError, "RuntimeError": RuntimeError}
        with pytest.raises(kinds[expected["error"]], match=r"^\w+.*: |must|epochs"):
            eval(record["code"], names)
        return
    np.testing.assert_equal(plain(eval(record["code"], names)), expected["result"])
