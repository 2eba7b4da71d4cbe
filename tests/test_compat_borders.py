"""Private and experimental interfaces of JAX and Ray are touched in `paramesh/_compat` alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import paramesh

ROOT = Path(paramesh.__file__).parent

#: Modules, with all that is in them.
MODULES = re.compile(
    r"jax\.(_src|extend|experimental|interpreters|lib)(\.|$)|jaxlib(\.|$)"
    r"|jax\.core\.(?!Tracer$)\w|ray\.(\w+\.)*_"
)
#: Whole strings: a name for `import_module`, or a variable that Ray reads. A text that tells a
#: user of a variable is not one.
WORDS = re.compile(r"(jax\._src|jaxlib|ray(\.\w+)*\._)[\w.]*|RAY_\w+")


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` of an expression that is nothing else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return None


def private(source: str) -> Iterator[str]:
    """What a module touches of what is not public."""
    for node in ast.walk(ast.parse(source)):
        names: list[str | None] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            # `self._ray.x` is Ray's as well.
            names = [re.sub(r"^self\._ray\.", "ray.", dotted(node) or "")]
        elif isinstance(node, ast.keyword) and node.arg is not None:
            if node.arg in ("_node_ip_address", "_temp_dir", "_system_config"):
                yield node.arg
        elif isinstance(node, ast.Constant) and WORDS.fullmatch(str(node.value)):
            yield str(node.value)
        yield from (name for name in names if name and MODULES.match(name))


@pytest.mark.parametrize(
    "source",
    [
        "import jax._src.core",
        "from jax import _src",
        "from jax._src import config",
        "import jax\njax._src.core.x",
        "from jax.core import eval_context",
        "import jax.core\nwith jax.core.eval_context(): pass",
        "from jax.interpreters import partial_eval",
        "import jax.extend",
        "from jax.extend.core import Jaxpr",
        "from jax.experimental import multihost_utils",
        "import jaxlib",
        "importlib.import_module('ray._private.worker')",
        "import ray._raylet",
        "ray.util._x",
        "self._ray._private",
        "ray.init(_temp_dir='x')",
        "os.environ['RAY_AUTH_MODE']",
    ],
)
def test_each_way_of_touching_is_seen(source: str) -> None:
    assert list(private(source))


@pytest.mark.parametrize(
    "source",
    [
        "import jax.core\nisinstance(x, jax.core.Tracer)",
        "from jax.sharding import Mesh",
        "'Start it with RAY_AUTH_MODE=token.'",
        "self._ray.get(ref)",
        "ray.util.list_named_actors()",
        "from paramesh._compat import ray as ray_inside\nray_inside.AUTH_MODE",
    ],
)
def test_what_is_public_is_let_through(source: str) -> None:
    assert not list(private(source))


def test_nothing_private_is_touched_elsewhere() -> None:
    files = [path for path in ROOT.rglob("*.py") if "_compat" not in path.relative_to(ROOT).parts]
    assert len(files) > 100
    found = {
        path.relative_to(ROOT).as_posix(): touched
        for path in files
        if (touched := sorted(set(private(path.read_text()))))
    }
    assert not found, "Put these into paramesh/_compat/jax.py or ray.py, with a test for each."
