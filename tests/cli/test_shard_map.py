"""The map of a sharded checkpoint in the page of `paramesh inspect --html`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import browser_driver
import paramesh
from paramesh import Tensor, context, nn, save_checkpoint
from paramesh.checkpoint.sharded.source import INDEX
from paramesh.cli import main
from paramesh.state import placement
from paramesh.train.cells import TrainOneStepCell, WithLossCell

X = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)


def saved(path: Path) -> Path:
    """A network sharded over 8 devices, with divided optimizer state."""
    context.set_auto_parallel_context(
        parallel_mode="data_parallel",
        device_num=8,
        gradients_mean=True,
        enable_parallel_optimizer=True,
    )
    paramesh.set_seed(1)
    net = nn.SequentialCell(nn.Dense(8, 5), nn.Tanh(), nn.Dense(5, 8))
    step = TrainOneStepCell(WithLossCell(net, nn.MSELoss()), nn.Adam(net.trainable_params(), 0.01))
    step(Tensor(X), Tensor(X))
    context.reset()
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    table = paramesh.Parameter(Tensor(X), name="table")
    table.layout = (2, 4)
    sharding = placement.current().known_sharding(table)
    table._store(jax.device_put(X, sharding))
    return save_checkpoint({**step.parameters_dict(), "table": table}, path)


def page_of(path: Path) -> Path:
    page = path.with_suffix(".html")
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(path), "--html", str(page)])
    assert ended.value.code == 0
    return page


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(
        r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL
    )
    assert found is not None
    return json.loads(found[1])


def edit(path: Path, change: Any) -> None:
    index = json.loads((path / INDEX).read_text())
    change(index)
    (path / INDEX).write_text(json.dumps(index))


def test_bytes_of_every_device(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.sharded")
    data = data_of(page_of(path))
    placed = {p["name"]: data["placements"][p["placement"]] for p in data["parameters"]}
    table = placed["table"]
    assert (len(table["slices"]), table["shape"]) == (8, [16, 8])
    assert sorted(one["ranks"] for one in table["slices"]) == [[rank] for rank in range(8)]
    weight = placed["0.weight"]
    assert weight["slices"] == [{"index": [[0, 5], [0, 8]], "ranks": list(range(8))}]
    moment = placed["moment1.0.weight"]
    assert (moment["shape"], "row-major" in moment["axes"]) == ([40], True)
    held = [0] * 8
    for param in data["parameters"]:
        each = param["bytes"] // max(param["elements"], 1)
        for one in placed[param["name"]]["slices"]:
            size = int(np.prod([high - low for low, high in one["index"]]))
            for rank in one["ranks"]:
                held[rank] += size * each
    assert data["devices"] == held
    assert data["device_names"][3] == "device 3"
    edit(path, lambda index: index.update(devices=[0] * 4 + [1] * 4))
    assert data_of(page_of(path))["device_names"][4] == "device 4 (process 1)"
    edit(path, lambda index: index.pop("devices"))  # as an older one
    older = data_of(page_of(path))
    assert (older["device_kind"], len(older["devices"])) == ("file", 1)
    assert older["devices"] == [sum(p["bytes"] for p in older["parameters"])]


def test_in_a_browser(tmp_path: Path) -> None:
    missing = browser_driver.missing()
    if missing is not None:
        pytest.skip(missing)
    path = saved(tmp_path / "net.sharded")
    edit(path, lambda index: index.update(devices=[0] * 4 + [1] * 4))
    page = page_of(path)
    with browser_driver.browser() as shown:
        shown.resize(1400, 1000)
        shown.open(page)
        bars = "return [...document.querySelectorAll('.device')].map(one => one.innerText)"
        assert "device 7 (process 1)" in shown.run(bars)[7]
        for name, slices in (("table", 8), ("moment1.0.weight", None), ("0.weight", 1)):
            shown.run(f"document.querySelector('[data-name=\"{name}\"]').click()")
            drawn = shown.run("return document.querySelectorAll('#detail rect.slice').length")
            assert drawn == slices or (slices is None and drawn >= 2)
            if name == "table":
                shown.run("document.querySelector('.device[data-rank=\"3\"]').click()")
                dim = shown.run("return document.querySelectorAll('rect.slice.dim').length")
                assert dim == 7
                shown.screenshot(tmp_path / "map.png")
                shown.run("document.querySelector('.device[data-rank=\"3\"]').click()")
        words = shown.run("return document.querySelector('#detail').innerText")
        assert "Every device holds the whole array." in words
        assert shown.errors() == []
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
