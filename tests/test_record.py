"""`--record` of the benchmarks: sections of RESULTS.md."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def loaded() -> Any:
    """The module, which is not in the package."""
    spec = importlib.util.spec_from_file_location("record", BENCHMARKS / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


record = loaded()


def made(text: str, key: str = "step") -> Any:
    return record.section(key, "python benchmarks/step.py", "a machine", text)


def test_a_section_takes_the_place_of_the_one_of_its_key() -> None:
    first = record.put("# Results\n\nProse.\n", "step", made("1\n"))
    assert first.startswith("# Results\n\nProse.\n\n## step\n\n<!-- record: step -->\n")
    first += "\nMore prose.\n"
    second = record.put(record.put(first, "start", made("3", "start")), "step", made("2  \n"))
    assert "```text\n2\n```" in second
    assert "```text\n1" not in second
    assert "```text\n3\n```" in second
    assert "More prose." in second


def test_what_ray_says_in_between_is_left_out() -> None:
    text = made("one\n\x1b[33m(raylet)\x1b[0m A worker died\n(pid=7) so it is\ntwo (pid=8)\n")
    assert "```text\none\ntwo (pid=8)\n```" in text


@pytest.mark.parametrize(
    "text",
    [
        "<!-- record: step -->\n",
        "<!-- end of record: step -->\n<!-- record: step -->\n",
        "<!-- record: step -->\n<!-- record: step -->\n<!-- end of record: step -->\n",
    ],
    ids=["no end", "wrong order", "twice"],
)
def test_broken_marks_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="marks of the record 'step' must be there once"):
        record.put(text, "step", made("1"))


def test_a_command_has_no_paths_of_this_machine() -> None:
    words = ["--folder", "/some/where", "--json=~/x.json", "--network", "A"]
    assert record.command("step", words) == (
        "python benchmarks/step.py --folder PATH --json=PATH --network A"
    )


def test_the_environment_is_one_line_with_versions() -> None:
    line = record.environment()
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in line
    assert re.search(r"jax \d+\.\d+", line)
    assert re.search(r"\d cores", line)
    assert "\n" not in line


def program(tmp_path: Path, body: str, *words: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "toy.py"
    start = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import record\n"
    path.write_text(start + body)
    command = [sys.executable, str(path), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)


def test_a_program_records_what_it_prints(tmp_path: Path) -> None:
    body = (
        "def main():\n    print('taken', sys.argv[1:])\n    sys.exit(0)\n"
        "record.run(main, variants=['--cached'])\n"
    )
    done = program(tmp_path, body, "--record", "out.md", "--cached", "3")
    assert (done.returncode, done.stdout) == (0, "taken ['--cached', '3']\n"), done.stderr
    text = (tmp_path / "out.md").read_text()
    assert "<!-- record: toy --cached -->" in text
    assert "`python benchmarks/toy.py --cached 3` on " in text
    assert "```text\ntaken ['--cached', '3']\n```" in text
    assert program(tmp_path, body, "--record=out.md").returncode == 0
    assert "<!-- record: toy -->" in (tmp_path / "out.md").read_text()


@pytest.mark.parametrize("ending", ["sys.exit(3)", "1 / 0"], ids=["exit", "error"])
def test_a_program_that_fails_records_nothing(tmp_path: Path, ending: str) -> None:
    body = f"def main():\n    print('taken')\n    {ending}\nrecord.run(main)\n"
    assert program(tmp_path, body, "--record", "out.md").returncode == (
        3 if "exit" in ending else 1
    )
    assert not (tmp_path / "out.md").exists()


def test_every_program_can_record_and_every_record_has_its_program() -> None:
    others = {"driven", "harness", "processor_time", "record", "random_bits"}
    programs = {path.stem for path in BENCHMARKS.glob("*.py")} - others
    for name in programs:
        assert "record.run(main" in (BENCHMARKS / f"{name}.py").read_text(), name
    text = record.RESULTS.read_text()
    keys = re.findall(r"<!-- record: (.+) -->", text)
    assert {key.split()[0] for key in keys} <= programs
    for key in keys:
        record.put(text, key, "")
