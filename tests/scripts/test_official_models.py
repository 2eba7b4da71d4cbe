"""Official models of MindSpore train as they are; where MindSpore runs them, with its losses.

`make test-scripts` runs this with the folders of `trials.REPOSITORIES` and `trials.MINDSPORE`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import trials
from scripts.official_models import ATTEMPTS, Attempt

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-mindspore-scripts.md"
#: What scripts import besides.
NEEDED = ("cv2", "yaml", "pandas", "pycocotools", "easydict", "gensim")


def shown() -> dict[str, str]:
    """{model: what became of it} from the page's table of official models."""
    section = PAGE.read_text().split("### Official models\n")[1].split("\n#")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:2] == "| "]
    return {cells[0]: cells[-1] for cells in rows[1:]}


def test_the_page_has_every_attempt_and_no_other() -> None:
    assert list(shown()) == [attempt.name for attempt in ATTEMPTS]


@pytest.mark.slow
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.name)
def test_an_official_model_trains(
    attempt: Attempt, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    folder = trials.repositories()
    if folder is None:
        pytest.skip(f"{trials.REPOSITORIES} does not name a folder of repositories")
    if attempt.folder(folder) is None:
        pytest.skip(f"{folder} has none of {', '.join(attempt.folders)}")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (see tests/scripts/requirements.txt)")
    ours = trials.run(attempt, folder, tmp_path)
    record_property("script", attempt.name)
    record_property("steps", len(ours.losses))
    said = shown()[attempt.name]
    assert ours.trained is said.startswith("trains"), (
        f"{PAGE.name} says {said!r}; exit code {ours.code}, losses {ours.losses}\n{ours.output}"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "attempt", [a for a in ATTEMPTS if a.compared is not None], ids=lambda attempt: attempt.name
)
def test_the_losses_are_mindspores(
    attempt: Attempt, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    folder, mindspore = trials.repositories(), trials.mindspore()
    if folder is None or mindspore is None:
        pytest.skip(f"{trials.REPOSITORIES} or {trials.MINDSPORE} is not set")
    if attempt.folder(folder) is None:
        pytest.skip(f"{folder} has none of {', '.join(attempt.folders)}")
    ours = trials.run(attempt, folder, tmp_path, exact=True)
    assert ours.trained, f"exit code {ours.code}, losses {ours.losses}\n{ours.output}"
    by_step = attempt.by_step
    theirs = trials.run(attempt, folder, tmp_path, exact=True, mindspore=mindspore, by_step=by_step)
    assert theirs.trained, f"MindSpore: exit code {theirs.code}\n{theirs.output}"
    if by_step:
        ours = trials.run(attempt, folder, tmp_path, exact=True, by_step=True)
        # Rounding can put an element on the other side of a kink, such as ReLU6's, and so switch
        # its gradient; but not in every step.
        record_property("updates", min(ours.updates))
        assert min(ours.updates) <= 1e-4, ours.updates
    assert len(ours.losses) == len(theirs.losses)
    pairs = zip(ours.losses, theirs.losses, strict=True)
    far = max(abs(mine - other) / abs(other) for mine, other in pairs)
    record_property("script", attempt.name)
    record_property("difference", far)
    assert far <= attempt.tolerance
