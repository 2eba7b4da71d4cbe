"""`make release` up to the upload, in a repository of its own, with a build that takes no time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = ("pyproject.toml", "CITATION.cff", "CHANGELOG.md", "src/paramesh/__init__.py")

pytestmark = pytest.mark.skipif(
    not (ROOT / ".ci" / "release").is_file() or shutil.which("git") is None,
    reason="needs git, and the script of a checkout",
)

MAKE = """#!/bin/sh
[ -z "$FAIL" ] || exit 1
mkdir -p dist
touch dist/paramesh-9.8.7.tar.gz dist/paramesh-9.8.7-py3-none-any.whl
"""
#: Of `python -m venv DIR` it makes programs that say what they are called with.
PYTHON = f"""#!/bin/sh
[ "$1" = -m ] || exec {sys.executable} "$@"
mkdir -p "$3/bin"
printf '#!/bin/sh\\necho called twine "$@"\\n' > "$3/bin/twine"
printf '#!/bin/sh\\n' > "$3/bin/python"
chmod +x "$3/bin/twine" "$3/bin/python"
"""


class Checkout:
    """A repository with the files that have a version, and one to push to."""

    def __init__(self, folder: Path) -> None:
        self.root, programs = folder / "checkout", folder / "programs"
        for name in (*FILES, ".ci/release"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        (self.root / ".gitignore").write_text("dist/\n")
        programs.mkdir()
        for name, text in (("make", MAKE), ("python", PYTHON)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.python = programs / "python"
        names = {
            f"GIT_{who}_{what}": "x"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
            **names,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        }
        self.git("init", "-q", "--bare", str(folder / "remote"))
        self.git("init", "-q", "-b", "main")
        self.git("remote", "add", "origin", str(folder / "remote"))
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "Start")

    def git(self, *words: str) -> str:
        return subprocess.run(
            ["git", *words],
            cwd=self.root,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def release(self, *words: str, fail: str = "") -> tuple[int, str]:
        done = subprocess.run(
            [".ci/release", str(self.python), *words],
            cwd=self.root,
            env=self.environment | {"FAIL": fail},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_release_and_its_upload(checkout: Checkout) -> None:
    status, told = checkout.release("9.8.7")
    assert status == 0, told
    assert "called twine check --strict dist/paramesh-9.8.7.tar.gz" in told
    assert checkout.git("log", "-1", "--format=%s %D") == "Release 9.8.7 HEAD -> main, tag: v9.8.7"
    assert checkout.git("show", "--stat", "--format=", "HEAD").count("|") == len(FILES)
    for name in FILES[:2]:
        assert re.search(r"^version\W+9\.8\.7", (checkout.root / name).read_text(), re.MULTILINE)
    assert '__version__ = "9.8.7"' in (checkout.root / FILES[3]).read_text()
    changes = (checkout.root / "CHANGELOG.md").read_text()
    assert re.search(r"## \[Unreleased\]\n\n## \[9.8.7\] - \d{4}-\d\d-\d\d\n\n### ", changes)
    assert checkout.git("ls-remote", "origin") == ""

    status, told = checkout.release("9.8.7", "yes")
    assert status == 0, told
    assert "called twine upload dist/paramesh-9.8.7.tar.gz dist/paramesh-9.8.7-py3" in told
    assert "refs/tags/v9.8.7" in checkout.git("ls-remote", "origin")
    assert checkout.release("9.8.7") == (1, "release: there is a tag v9.8.7 already\n")


def test_a_build_that_fails_leaves_nothing(checkout: Checkout) -> None:
    status, _ = checkout.release("9.8.7", fail="yes")
    assert status != 0
    assert checkout.git("status", "--porcelain") == checkout.git("tag") == ""


def test_what_is_refused(checkout: Checkout) -> None:
    assert "give the version, as in make release VERSION=" in checkout.release("")[1]
    assert "v9.8.7 is not the tag of this commit" in checkout.release("9.8.7", "yes")[1]
    status, told = checkout.release("9.9.9")
    assert status == 1
    assert "make test-wheel did not build dist/paramesh-9.9.9.tar.gz" in told
    (checkout.root / "new").touch()
    assert "changes that are not committed" in checkout.release("9.8.7")[1]
    assert checkout.git("tag") == ""
