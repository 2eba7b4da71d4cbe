"""Training scripts of public repositories name what paramesh has, as often as the page says.

`make test-scripts` runs this with the folders of `trials.REPOSITORIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paramesh.scripts.closure import Reader
from scripts import trials

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-mindspore-scripts.md"


def shown() -> dict[str, tuple[int, int]]:
    """{folder: (training scripts, those with all names)} from the page's table."""
    section = PAGE.read_text().split("### Names in public repositories\n")[1].split("\n#")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:3] == "| `"]
    return {cells[0].strip("`"): (int(cells[2]), int(cells[3])) for cells in rows}


def test_the_page_adds_up() -> None:
    scripts, complete = (sum(counts) for counts in zip(*shown().values(), strict=True))
    share = f"Of {scripts:,} training scripts {complete} ({complete / scripts:.0%}) miss nothing"
    assert share in PAGE.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("folder", shown())
def test_training_scripts_have_their_names(
    folder: str, record_property: Callable[[str, object], None]
) -> None:
    root = trials.repositories()
    if root is None or not (root / folder).is_dir():
        pytest.skip(f"{trials.REPOSITORIES} does not name a folder that has {folder}")
    census = Reader(root / folder).census(root / folder)
    # A training script is one that says so by its name.
    training = [script for script in census.scripts if "train" in script.path.stem.lower()]
    complete = [script for script in training if not script.missing and not script.errors]
    record_property("census", f"{folder}: {len(complete)} of {len(training)}")
    assert (len(training), len(complete)) == shown()[folder]
