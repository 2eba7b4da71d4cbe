"""Samples of MindSpore's documentation run as they are, as often as the page says.

`make test-scripts` runs this with the folders of `trials.REPOSITORIES`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import documentation_samples, trials
from scripts.documentation_samples import SAMPLES, Sample

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-mindspore-scripts.md"


def shown() -> dict[str, str]:
    """{sample: how far it got} from the page's table of samples."""
    section = PAGE.read_text().split("### Samples of the documentation\n")[1].split("\n#")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:3] == "| `"]
    return {cells[0].strip("`"): cells[-1] for cells in rows}


def test_the_page_has_every_sample_and_no_other() -> None:
    assert list(shown()) == [sample.path for sample in SAMPLES]


@pytest.mark.slow
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.path)
def test_a_sample_runs(
    sample: Sample, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    folder = trials.repositories()
    if folder is None:
        pytest.skip(f"{trials.REPOSITORIES} does not name a folder of repositories")
    if not (sample.folder(folder) / (sample.script or sample.name)).is_file():
        pytest.skip(f"{folder} does not have {sample.code}/{sample.path}")
    if sample.roles and importlib.util.find_spec("ray") is None:
        pytest.skip("not installed: ray (the extra `ps`)")
    result = documentation_samples.run(sample, folder, tmp_path)
    ran = not any(result.codes) and sample.says in result.output
    record_property("sample", f"{sample.path} {'ran' if ran else 'did not run'}")
    said = shown()[sample.path]
    if said.startswith("not known"):
        return
    assert ran is said.startswith("runs"), (
        f"{PAGE.name} says {said!r}; exit codes {result.codes}\n{result.output[-4000:]}"
    )
