"""Names in files: what can be saved can be loaded, by one rule for every way to save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import paramesh
from paramesh import Parameter, Tensor, load_checkpoint, save_checkpoint
from paramesh.checkpoint.conversion.converter import Conversion, convert
from paramesh.errors import CheckpointError, ParameterNameError, StrategyFileError
from paramesh.parallel import Layout
from paramesh.parallel.layouts.layout import Placed
from paramesh.parallel.layouts.strategy_file import load_strategy, save_strategy
from paramesh.parameter.names import reason_not_saveable

FITS = [
    "w",
    "n" * 1024,
    "ä.ö",
    "a b",
    "a/b\\c",
    'a"b',
    "a\nb",
    "a\0b",
    "🙂" * 1024,
    "w/0",
    "__x__",
    " w ",
    "\t",
]
UNFIT = {
    "n" * 1025: "a name may have 1024 characters, and it has 1025",
    "🙂" * 1025: "a name may have 1024 characters, and it has 1025",
    "w\ud800": "half of a surrogate pair",
}
ONES = Tensor(np.ones(2, np.float32))


def in_list(name: Any, path: Path, **more: Any) -> Any:
    return save_checkpoint([{"name": name, "data": ONES}], path, **more)


def in_mapping(name: Any, path: Path, **more: Any) -> Any:
    return save_checkpoint({name: ONES}, path, **more)


def appended(name: Any, path: Path, **more: Any) -> Any:
    return save_checkpoint({"other": ONES}, path, append_dict={name: 3}, **more)


def appended_text(name: Any, path: Path, **more: Any) -> Any:
    return save_checkpoint({"other": ONES}, path, append_dict={name: "text"}, **more)


WAYS = [in_list, in_mapping, appended, appended_text]
FORMATS = ["safetensors", "ckpt", "sharded"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("beside", [False, True])
def test_what_can_be_saved_can_be_loaded(
    way: Any, format: str, beside: bool, tmp_path: Path
) -> None:
    for i, name in enumerate(FITS):
        made = way(name, tmp_path / f"{i}", format=format, async_save=beside)
        path = made.wait() if beside else made
        found = load_checkpoint(path)
        assert name in found
        if isinstance(found[name], Parameter):
            assert found[name].name == (name.strip() or "Parameter")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("beside", [False, True])
def test_what_cannot_be_loaded_is_not_saved(
    way: Any, format: str, beside: bool, tmp_path: Path
) -> None:
    for name, message in UNFIT.items():
        with pytest.raises(ParameterNameError, match=f"Cannot write '.*' to '.*': .*{message}"):
            way(name, tmp_path / "x", format=format, async_save=beside)
    for name in ("", 3, None):
        with pytest.raises(TypeError, match="a name must be a non-empty str, got"):
            way(name, tmp_path / "x", format=format, async_save=beside)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [n for n in UNFIT if "\ud800" not in n] + [""])
def test_files_with_other_names_are_refused_and_can_be_renamed(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({name: np.ones(2, np.float32)}, path)
    message = f"has the name '?.*: .*{UNFIT.get(name, 'is not empty')}. Nothing was"
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert len(str(caught.value)) < 400
    with pytest.raises(ValueError, match="Cannot write|leave an empty name for"):
        convert(path, tmp_path / "y.ckpt")
    made = convert(path, tmp_path / "y.ckpt", Conversion(rename=lambda old: "w"))
    assert list(load_checkpoint(made.path)) == ["w"]


def test_strategy_files(tmp_path: Path) -> None:
    layout = Layout((2,), ("x",))("x")
    for format in ("paramesh", "mindspore"):
        params = {name: ((4,), paramesh.float32, layout) for name in FITS}
        found: dict[str, Placed] = load_strategy(
            save_strategy(tmp_path / format, params, 2, format)
        )
        assert set(found) == set(FITS)
        for name, message in UNFIT.items():
            with pytest.raises(ParameterNameError, match=message):
                save_strategy(tmp_path / "y", {name: ((4,), paramesh.float32, layout)}, 2, format)
    assert not (tmp_path / "y").exists()
    content = json.loads((tmp_path / "paramesh").read_text())
    content["parameters"]["n" * 1025] = content["parameters"].pop("w")
    (tmp_path / "y").write_text(json.dumps(content))
    with pytest.raises(StrategyFileError, match="has the name 'n+…': a name may have 1024 char"):
        load_strategy(tmp_path / "y")


def test_every_name_of_a_parameter_but_half_a_pair_fits() -> None:
    for name in (*FITS, *UNFIT):
        if len(name) <= 1024 and "\ud800" not in name:
            assert reason_not_saveable(Parameter(ONES, name=name).name) is None
    assert reason_not_saveable(3) == "a name is a str, not int"
