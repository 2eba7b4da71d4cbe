"""What pyproject.toml and constraints.txt promise: extras that exist, versions that install.

Whether the registry has them is not asked here.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PROJECT = ROOT / "pyproject.toml"
pytestmark = pytest.mark.skipif(not PROJECT.exists(), reason="there is no checkout")
#: What a project's own work needs, which the README does not offer.
OF_THE_HOUSE = {"test", "docs", "bench"}
#: The name in a program, where it is not that of the distribution.
IMPORTED = {"scikit-learn": "sklearn", "pyzmq": "zmq"}


def project() -> dict[str, object]:
    return tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]


def extras() -> dict[str, list[str]]:
    found = project()["optional-dependencies"]
    assert isinstance(found, dict)
    return found


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def imports(name: str) -> list[str]:
    """What a requirement is called in programs."""
    plain = Requirement(name).name
    return [IMPORTED.get(plain, plain)]


def test_every_extra_that_is_named_exists() -> None:
    files = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.py")]
    named: dict[str, str] = {}
    for path in [*files, *ROOT.glob("examples/*.py"), *ROOT.glob("tests/**/*.py")]:
        for match in re.finditer(r"(?:paramesh|'\.)\[([a-z, -]+)\]", path.read_text("utf-8")):
            named.update(dict.fromkeys(re.split(", ?", match[1]), path.name))
    assert {name: named[name] for name in set(named) - set(extras())} == {}


def test_the_readme_lists_every_extra() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `pip install -e '\.\[([a-z-]+)\]'` \| ", readme, re.MULTILINE)
    listed += re.findall(r"\(`([a-z-]+)`: ", readme)
    assert set(listed) == set(extras()) - OF_THE_HOUSE


def test_every_requirement_is_pinned_within_its_bounds() -> None:
    pinned = {name.lower(): version for name, version in pins().items()}
    for extra, requirements in {"": project()["dependencies"], **extras()}.items():
        assert isinstance(requirements, list)
        for text in requirements:
            wanted = Requirement(text)
            assert wanted.name.lower() in pinned, f"{extra}: {text}"
            assert wanted.specifier.contains(pinned[wanted.name.lower()]), f"{extra}: {text}"


def test_pinned_versions_run_on_the_oldest_python() -> None:
    oldest = str(project()["requires-python"]).partition(">=")[2].partition(",")[0] + ".0"
    refused = {}
    for name, version in pins().items():
        try:
            if metadata.version(name) != version:
                continue
        except metadata.PackageNotFoundError:  # of an extra that is not installed
            continue
        wanted = metadata.metadata(name)["Requires-Python"]
        if wanted and not SpecifierSet(wanted).contains(oldest):
            refused[name] = wanted
    assert refused == {}


@pytest.mark.parametrize("program", sorted(path.name for path in ROOT.glob("examples/*.py")))
def test_examples_import_what_their_extras_bring(program: str) -> None:
    tree = ast.parse((ROOT / "examples" / program).read_text(encoding="utf-8"))
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            used.add((node.module or "").partition(".")[0])
    dependencies = project()["dependencies"]
    assert isinstance(dependencies, list)
    offered = [*dependencies, *extras()["examples"], *extras()["ps"]]
    known = {name for text in offered for name in imports(text)} | {"paramesh"}
    assert used - known - set(sys.stdlib_module_names) == set()
