"""Whether a path is the same folder on several hosts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from paramesh.ps.deployment import shared_folder
from paramesh.ps.deployment.shared_folder import Answer, answered, asked, trouble_with


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_folder, "PATIENCE", 0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "here"
    path.mkdir()
    return path


def test_the_same_folder_and_nothing_is_left(folder: Path) -> None:
    with asked(folder) as question:
        assert question.place.is_dir()
        assert trouble_with(question, answered(folder, question.token, "b")) is None
        assert trouble_with(question, answered(folder, question.token, "b")) is None
    assert list(folder.iterdir()) == []


def test_another_folder(folder: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    with asked(folder) as question:
        assert "does not exist" in str(trouble_with(question, answered(there, question.token, "")))
        there.mkdir()
        said = trouble_with(question, answered(there, question.token, "b"))
        assert said == "is another folder there"
        # A copy of the folder has the question, but no answer comes back from it.
        shutil.copytree(question.place, there / question.place.name)
        said = trouble_with(question, answered(there, question.token, "b"))
        assert said == "does not show here what that host writes"


def test_what_cannot_be_read_or_written(folder: Path) -> None:
    with asked(folder) as question:
        said = trouble_with(question, Answer(there=True, trouble="Input/output error"))
        assert said == "cannot be read there (Input/output error)"
        said = trouble_with(question, Answer(True, question.content, trouble="Read-only"))
        assert said == "cannot be written to there (Read-only)"


def test_an_answer_to_another_question(folder: Path) -> None:
    with asked(folder) as question:
        answer = answered(folder, question.token, "b")._replace(question="0" * 32)
        assert trouble_with(question, answer) == "is another folder there"
