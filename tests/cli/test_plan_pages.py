"""The pages of `paramesh plan --html`: of a step, and of one with pipeline stages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import browser_driver
import paramesh
from paramesh import Tensor, context, nn
from paramesh.cli.plan_page import MOST_SPANS, plan_data, plan_page, stages_data, write_plan_page
from paramesh.parallel.planning import PipelinePlan, StepPlan
from pipeline_networks import MLP, WIDTH, step_of, with_stages

X = Tensor(np.zeros((32, WIDTH), np.float32))
PROGRAM = "</script><b>train.py"
TYPE = (
    "const box = document.getElementById('search'); box.value = arguments[0];"
    "box.dispatchEvent(new Event('input'));"
)


@pytest.fixture(scope="module")
def staged() -> PipelinePlan:
    """Of two stages with four devices each, and eight micro-batches."""
    with_stages(2, "auto_parallel", pipeline_config={"pipeline_scheduler": "1f1b"})
    plan = paramesh.plan_stages(step_of(MLP(0, 1), nn.MSELoss(), 8), X, X, target="cpu:8")
    context.reset()
    return plan


@pytest.fixture(scope="module")
def alone() -> StepPlan:
    """Without stages."""
    return paramesh.plan(step_of(MLP(0), nn.MSELoss(), 1), X, X, target="cpu:8", memory="1MB")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    missing = browser_driver.missing()
    if missing is not None:
        pytest.skip(missing)
    with browser_driver.browser() as found:
        yield found


def test_each_task_is_in_the_data(staged: PipelinePlan) -> None:
    data = stages_data(staged, PROGRAM)
    assert data["spans_in_all"] == len(data["spans"])
    for stage in (0, 1):
        mine = [span for span in data["spans"] if span[0] == stage]
        for kind in ("forward", "backward"):
            assert sorted(span[2] for span in mine if span[1] == kind) == list(range(8))
        # One after the other, and none after the end of the step.
        ends = [start + took for *_, start, took in mine]
        assert all(a <= b[3] for a, b in zip(ends, mine[1:], strict=False))
        assert ends[-1] <= data["seconds"]
        assert sum(took for *_, took in mine) == pytest.approx(staged.stages[stage].working)
    # What stage 1 works on has left stage 0.
    left = {s[2]: s[3] + s[4] for s in data["spans"] if s[:2] == (0, "forward")}
    assert all(s[3] >= left[s[2]] for s in data["spans"] if s[:2] == (1, "forward"))


def test_parameters_have_the_devices_of_their_stage(staged: PipelinePlan) -> None:
    data = stages_data(staged, PROGRAM)
    assert {row["name"]: (row["stage"], row["first"]) for row in data["rows"]} == {
        "layers.0.weight": (0, 0),
        "layers.0.bias": (0, 0),
        "layers.1.weight": (1, 4),
        "layers.1.bias": (1, 4),
    }
    assert all(len(row["held"]) in (0, 4) for row in data["rows"])
    assert (data["devices"], data["held_by"], data["shown"]) == (8, 4, 4)


def test_tasks_are_as_many_as_can_be_drawn(
    staged: PipelinePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(staged.spans) < MOST_SPANS
    monkeypatch.setattr("paramesh.cli.plan_page.MOST_SPANS", 5)
    data = stages_data(staged, PROGRAM)
    assert (len(data["spans"]), data["spans_in_all"]) == (5, len(staged.spans))


def test_a_page_has_all_it_needs(staged: PipelinePlan, alone: StepPlan) -> None:
    for page in (
        plan_page(stages_data(staged, PROGRAM), "stages"),
        plan_page(plan_data(alone, PROGRAM)),
    ):
        assert not any(mark in page for mark in ("/*STYLE*/", "/*SCRIPT*/", "/*DATA*/"))
        assert page.count("</script>") == 2
        assert "https://" not in page


def opened(page: Any, plan: StepPlan | PipelinePlan, folder: Path, width: int = 1400) -> str:
    """The text of the page of a plan."""
    path = folder / "plan.html"
    write_plan_page(path, plan, PROGRAM)
    page.resize(width, 900)
    page.open(path)
    page.wait("return document.body.dataset.ready")
    assert page.errors() == []
    return page.run("return document.body.innerText")


def test_the_page_of_stages_in_a_browser(
    browser: Any, staged: PipelinePlan, tmp_path: Path
) -> None:
    text = opened(browser, staged, tmp_path)
    assert PROGRAM in text
    for word in ("2 stages of 4", "micro-batches, 1f1b", "stage 1: ", "it ends after"):
        assert word in text
    bars = "return document.querySelectorAll('#spans rect.bar').length"
    assert browser.run(bars) == len(staged.spans)
    assert browser.run("return document.querySelectorAll('#memory .stack').length") == 2
    title = "return document.querySelector('#rows tbody tr:last-child .cells i').title"
    assert browser.run(title).startswith("device 4: ")
    browser.run(TYPE, "layers.1.bias")
    assert browser.run("return document.querySelectorAll('#rows tbody tr').length") == 1
    assert browser.errors() == []


def test_the_page_of_a_step_in_a_browser(browser: Any, alone: StepPlan, tmp_path: Path) -> None:
    text = opened(browser, alone, tmp_path)
    for word in (PROGRAM, "of 976.6 KiB", "What devices send along the step", "are left."):
        assert word in text
    rows = "return document.querySelectorAll('#rows tbody tr').length"
    few = browser.run(rows)
    browser.run("document.getElementById('states').click()")
    assert browser.run(rows) > few == len(alone.parameters.rows)
    assert browser.errors() == []


@pytest.mark.parametrize("width", [1400, 700, 420])
def test_nothing_sticks_out_at_any_width(
    browser: Any, staged: PipelinePlan, width: int, tmp_path: Path
) -> None:
    opened(browser, staged, tmp_path, width)
    wide = browser.run("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1]
