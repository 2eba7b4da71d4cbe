"""`paramesh inspect --html`: the page's data, the page as a file, and the page in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import browser_driver
from paramesh import save_checkpoint
from paramesh.cli import main
from paramesh.parallel.layouts.layout import Layout
from paramesh.parallel.layouts.strategy_file import save_strategy

ON = Layout((2, 4), ("dp", "mp"))
ON3 = Layout((3,), ("a",))
_NORMAL = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
VALUES: dict[str, Any] = {
    "net.0.weight": _NORMAL,
    "net.0.bias": np.zeros(8, np.float32),
    "net.1.weight": np.where(_NORMAL > 2, np.nan, _NORMAL).astype(np.float16),
    "table": np.arange(64, dtype=np.int64).reshape(32, 2) + 2**60,
    "empty": np.zeros((0, 3), np.float32),
}
LAYOUTS = {"net.0.weight": ON("dp", "mp"), "table": ON(("dp", "mp"), "None")}


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `paramesh words`."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a strategy, and the page about them."""
    path = tmp_path_factory.mktemp("report")
    note = {"note": "</script><script>document.title = 'broken'</script>", "epoch": 3}
    save_checkpoint(VALUES, path / "net.safetensors", append_dict=note)
    params = {n: (a.shape, a.dtype, LAYOUTS.get(n)) for n, a in VALUES.items()}
    save_strategy(path / "strategy.json", params, 8)
    net, page, strategy = (
        str(path / name) for name in ("net.safetensors", "report.html", "strategy.json")
    )
    with pytest.raises(SystemExit) as ended:
        main(["inspect", net, "--html", page, "--strategy", strategy])
    assert ended.value.code == 0
    return path


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(
        r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL
    )
    assert found is not None
    return json.loads(found[1])


def test_data_of_the_parameters(folder: Path) -> None:
    data = data_of(folder / "report.html")
    assert [p["name"] for p in data["parameters"]] == list(VALUES)
    weight, bias, half, table, empty = data["parameters"]
    assert (weight["shape"], weight["dtype"], weight["bytes"]) == ([16, 8], "Float32", 512)
    expected = np.histogram(_NORMAL, len(weight["histogram"]))[0]
    assert np.abs(np.array(weight["histogram"]) - expected).max() <= 1
    assert sum(weight["histogram"]) == 128
    assert bias["histogram"][0] == sum(bias["histogram"]) == 8
    assert half["stats"]["nans"] == int((_NORMAL > 2).sum()) > 0
    assert sum(half["histogram"]) == 128 - half["stats"]["nans"]
    assert table["stats"]["low"] == float(2**60)
    assert (empty["histogram"], empty["stats"]["low"]) == ([], None)
    assert data["append_dict"]["epoch"] == 3


def test_data_of_the_devices(folder: Path) -> None:
    data = data_of(folder / "report.html")
    by_name = {p["name"]: data["placements"][p["placement"]] for p in data["parameters"]}
    for name, array in VALUES.items():
        covered = np.zeros(array.shape, int)
        ranks: list[int] = []
        for piece in by_name[name]["slices"]:
            covered[tuple(slice(*bounds) for bounds in piece["index"])] += 1
            ranks += piece["ranks"]
        assert (covered == 1).all()
        assert sorted(ranks) == list(range(8))
    assert len(by_name["net.0.weight"]["slices"]) == 8
    assert by_name["net.0.bias"]["slices"] == [{"index": [[0, 8]], "ranks": list(range(8))}]
    whole = VALUES["net.0.bias"].nbytes + VALUES["net.1.weight"].nbytes
    cut = VALUES["net.0.weight"].nbytes + VALUES["table"].nbytes
    assert data["devices"] == [whole + cut // 8] * 8


def test_the_page_is_one_file_without_addresses(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)\s*=|url\(|@import|fetch\(", text)
    # The only address is the name that SVG has; nothing is asked there.
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    for mark in ("/*STYLE*/", "/*DATA*/", "/*SCRIPT*/"):
        assert mark not in text
    assert text.count("</script>") == 2


def test_choice_and_no_devices(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    words = ["--html", page, "--only", "net.0", "--sort", "name"]
    code, out, _ = run(capsys, "inspect", folder / "net.safetensors", *words)
    assert code == 0
    assert re.fullmatch(rf"{re.escape(str(page))}: 2 parameters, [\d.]+ KiB\n", out)
    data = data_of(page)
    assert [p["name"] for p in data["parameters"]] == ["net.0.bias", "net.0.weight"]
    assert (data["devices"], data["parameters"][0]["placement"]) == ([], None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--html", "{dir}"], "--html {dir}: is a folder"),
        (["--html", "{dir}/no/p.html"], "--html {dir}/no/p.html: cannot be written: No such file"),
        (["--html", "{path}"], "--html {path}: is the checkpoint itself"),
        (["--html", "{dir}/p", "--strategy", "{dir}/no"], "There is no strategy file '{dir}/no'."),
        (["--html", "{dir}/p", "--strategy", "{path}"], "{path}: neither JSON nor MindSpore"),
        (["--html", "{dir}/p", "--strategy", "{dir}/bad"], "the strategy does not fit the checkpo"),
        (["--html", "{dir}/p", "--strategy", "{dir}/else"], "{dir}/else names none of the param"),
        (["--strategy", "{dir}/bad"], "--strategy goes with --html"),
        (["--html", "{dir}/p", "--json"], "give --html or --json, not both"),
        (["{path}", "--html", "{dir}/p"], "--html is for one checkpoint; two are compared"),
    ],
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    words: list[str],
    message: str,
) -> None:
    path = folder / "net.safetensors"
    save_strategy(tmp_path / "bad", {"net.0.bias": ((24,), "float32", ON3("a"))}, 3)
    save_strategy(tmp_path / "else", {"other": ((24,), "float32", None)}, 1)
    given = [word.format(path=path, dir=tmp_path) for word in words]
    before = path.read_bytes()
    code, out, err = run(capsys, "inspect", path, *given)
    assert (code, out) == (2, "")
    assert err.startswith("paramesh: " + message.format(path=path, dir=tmp_path))
    assert err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "else"]
    assert path.read_bytes() == before


@pytest.fixture(scope="module")
def shown(folder: Path) -> Iterator[Any]:
    """The page in a browser."""
    missing = browser_driver.missing()
    if missing is not None:
        pytest.skip(missing)
    with browser_driver.browser() as found:
        found.resize(1400, 1000)
        found.open(folder / "report.html")
        yield found


ROWS = "return [...document.querySelectorAll('#tree .leaf')].map(row => row.dataset.name)"
TYPE = (
    "const box = document.getElementById('search'); box.value = arguments[0];"
    "box.dispatchEvent(new Event('input'));"
)


def test_in_a_browser(shown: Any) -> None:
    assert shown.errors() == []
    assert shown.run("return document.body.dataset.ready") == "yes"
    assert shown.run("return document.title") == "net.safetensors · paramesh"
    assert set(shown.run(ROWS)) == set(VALUES)
    text = shown.run("return document.body.innerText")
    assert "</script><script>document.title = 'broken'</script>" in text
    assert "with NaN or infinite elements" in text
    # The first parameter that is not finite is shown.
    assert shown.run("return document.querySelector('#detail h2').innerText") == "net.1.weight"


def test_searching_and_opening_in_a_browser(shown: Any) -> None:
    shown.run(TYPE, "bias")
    assert shown.run(ROWS) == ["net.0.bias"]
    assert shown.run("return document.getElementById('found').innerText") == "1 of 5 parameters"
    shown.run(TYPE, "float32 [16")
    assert shown.run(ROWS) == ["net.0.weight"]
    shown.run(TYPE, "nothing like it")
    assert "No parameter is like that." in shown.run("return document.body.innerText")
    shown.run(TYPE, "")
    shown.run("document.getElementById('bad').click()")
    assert shown.run(ROWS) == ["net.1.weight"]
    shown.run("document.getElementById('bad').click()")
    shown.run("document.getElementById('close-all').click()")
    assert set(shown.run(ROWS)) == {"table", "empty"}
    shown.run("document.querySelector('[data-path=net]').click()")
    shown.run("document.querySelector('[data-path=\"net.0\"]').click()")
    assert set(shown.run(ROWS)) == {"net.0.weight", "net.0.bias", "table", "empty"}
    shown.run("document.getElementById('open-all').click()")
    order = (
        "const list = document.getElementById('sort'); list.value = 'bytes';"
        "list.dispatchEvent(new Event('change'))"
    )
    shown.run(order)
    assert shown.run(ROWS)[:2] in (["net.0.weight", "table"], ["table", "net.0.weight"])
    shown.run(order.replace("'bytes'", "'file'"))
    assert shown.errors() == []


def test_one_parameter_and_its_devices_in_a_browser(shown: Any) -> None:
    shown.run("document.querySelector('[data-name=\"net.0.weight\"]').click()")
    bins = shown.run("return document.querySelectorAll('#detail rect.bin').length")
    assert bins >= 8
    assert shown.run("return document.querySelectorAll('#detail rect.slice').length") == 8
    words = shown.run("return document.querySelector('#detail').innerText")
    assert "[0:8, 2:4] 64 B" in words
    shown.run("document.querySelector('.device[data-rank=\"3\"]').click()")
    assert shown.run("return document.querySelectorAll('#detail rect.slice.dim').length") == 7
    assert shown.run("return document.getElementById('found').innerText").endswith("on device 3")
    shown.run("document.querySelector('.device[data-rank=\"3\"]').click()")
    assert shown.run("return document.querySelectorAll('#detail rect.slice.dim').length") == 0
    shown.run("document.querySelector('[data-name=\"net.0.bias\"]').click()")
    words = shown.run("return document.querySelector('#detail').innerText")
    assert "Every device holds the whole array." in words
    assert shown.errors() == []


@pytest.mark.parametrize("width", [1400, 700, 420])
def test_nothing_sticks_out_at_any_width(shown: Any, width: int, tmp_path: Path) -> None:
    shown.resize(width, 900)
    wide = shown.run("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1]
    shown.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
