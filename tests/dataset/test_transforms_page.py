"""The guide's page of transforms names all of them, and the differences that the tests know."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from environments import without_virtual_devices
from paramesh import compat

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "how-to" / "dataset-transforms.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([A-Za-z_0-9]+)", PAGE))
BASES = {
    "CompoundOperation",
    "Implementation",
    "PyTensorOperation",
    "TensorOperation",
    "is_pil",
    "not_random",
}


@pytest.mark.parametrize(
    "package",
    [
        "vision",
        "vision.c_transforms",
        "vision.py_transforms",
        "transforms",
        "transforms.c_transforms",
        "transforms.py_transforms",
        "text",
        "audio",
    ],
)
def test_the_page_names_every_transform(package: str) -> None:
    module = importlib.import_module(f"paramesh.dataset.{package}")
    assert all(hasattr(module, name) for name in module.__all__)
    assert set(module.__all__) - BASES <= NAMED


@pytest.mark.parametrize(
    ("package", "names"),
    [
        ("vision", "DecodeVideo read_video read_video_timestamps VideoDecoder"),
        ("transforms", "Plugin"),
        ("audio", "DetectPitchFrequency Flanger Phaser Vad"),
    ],
)
def test_what_the_page_calls_missing_is_missing(package: str, names: str) -> None:
    module = importlib.import_module(f"paramesh.dataset.{package}")
    for name in names.split():
        assert name in NAMED
        assert not hasattr(module, name), name


def test_mindspores_paths_lead_here() -> None:
    paths = [p for p in compat.PATHS if p.startswith("dataset.")]
    assert len(paths) >= 11
    for path in paths:
        importlib.import_module(f"paramesh.{path}")
    utils = importlib.import_module("paramesh.dataset.vision.utils")
    assert utils.Inter is importlib.import_module("paramesh.dataset.vision").Inter


def test_modules_are_attributes_without_being_imported() -> None:
    program = (
        "from paramesh.dataset import text, transforms, vision;"
        "print(vision.c_transforms.Resize is vision.Resize, vision.utils.Inter is vision.Inter,"
        " transforms.py_transforms.Compose is transforms.Compose, text.utils.Vocab is text.Vocab)"
    )
    environment = without_virtual_devices()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["True"] * 4, done.stderr


def test_a_name_that_is_not_there_gets_a_proposal() -> None:
    vision = importlib.import_module("paramesh.dataset.vision")
    with pytest.raises(AttributeError, match="Did you mean .*RandomCrop"):
        _ = vision.RandomCropp
