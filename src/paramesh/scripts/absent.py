"""Names of MindSpore that paramesh does not have, and what to use instead.

`mindspore_names.tsv` in this folder lists the names that scripts use, and whether MindSpore 2.10
has them. paramesh itself decides whether a name exists; the file only explains missing names.
"""

from __future__ import annotations

import difflib
import functools
import importlib.resources
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from paramesh import mindspore_version
from paramesh.scripts import offered

#: The version of MindSpore whose names and numbers paramesh follows.
FOLLOWED = mindspore_version.__version__

_DISTRIBUTIONS = "jax.scipy.stats and jax.random, or mindspore.ops.standard_normal and its like"
_QUANTIZATION = "nothing: MindSpore 2.10 has no quantization-aware training either"

#: Datasets of MindSpore's that read the files of one publication.
_CORPORA = """
    CLUE CMUArctic Cityscapes DIV2K FakeImage Flickr Flowers102 GTZAN IWSLT2016 IWSLT2017 KITTI
    LFW LJSpeech LSUN LibriTTS Manifest Multi30k Omniglot PhotoTour Places365 QMnist RandomData
    RenderedSST2 SBU STL10 SVHN SemiPadded SpeechCommands TedLium Tedlium USPS WIDERFace YesNo
"""
_CONVERTED = "Cifar10 Cifar100 Csv ImageNet Mnist TFRecord"

#: MindSpore's path, of a name or of a package -> what to use instead. The longest prefix of a name
#: applies. Values that begin with `mindspore.` have to exist (there is a test).
INSTEAD: dict[str, str] = {
    "mindspore.Float": "mindspore.float32 and its like",
    "mindspore._c_expression": "nothing: it is the C++ inside of MindSpore",
    "mindspore.communication.comm_func": "the operators mindspore.ops.AllReduce and its like",
    "mindspore.compression": _QUANTIZATION,
    "mindspore.dataset.GraphData": "nothing: MindSpore 2.10 does not have it either",
    "mindspore.dataset.debug": "mindspore.dataset.config.set_debug_mode and a debugger",
    "mindspore.dataset.deserialize": "the code that builds the dataset",
    "mindspore.dataset.serialize": "the code that builds the dataset",
    **dict.fromkeys(
        (f"mindspore.dataset.{name}Dataset" for name in _CORPORA.split()),
        "mindspore.dataset.GeneratorDataset over a reader of the files",
    ),
    **dict.fromkeys(
        (f"mindspore.mindrecord.{name}ToMR" for name in _CONVERTED.split()),
        "mindspore.dataset.Dataset.save of the dataset of that kind",
    ),
    **dict.fromkeys(
        ("mindspore.SummaryLandscape", "mindspore.train.SummaryLandscape"),
        "nothing: its files are for MindInsight, which is no longer developed",
    ),
    "mindspore.experimental.MapParameter": (
        "mindspore.Parameter with a fixed number of rows; servers (mindspore.nn.EmbeddingLookup) "
        "hold more of them than fit into the memory of one machine"
    ),
    "mindspore.explainer": "nothing: MindSpore 2.10 does not have it either",
    **dict.fromkeys(
        (f"mindspore.nn.AdaSumBy{way}WrapCell" for way in ("DeltaWeight", "Grad")),
        "mindspore.nn.DistributedGradReducer, which takes the mean: MindSpore has AdaSum for 16 or "
        "more Ascends alone",
    ),
    "mindspore.multiprocessing": "python's own multiprocessing module",
    "mindspore.nn.Linear": "mindspore.nn.Dense",
    "mindspore.nn.Module": "mindspore.nn.Cell",
    "mindspore.nn.ModuleList": "mindspore.nn.CellList",
    "mindspore.nn.Parameter": "mindspore.Parameter",
    "mindspore.nn.Sequential": "mindspore.nn.SequentialCell",
    "mindspore.nn.probability.bnn_layers": _DISTRIBUTIONS,
    "mindspore.scipy": "jax.scipy",
    "mindspore.vision": "mindspore.dataset",
}

#: Methods of MindSpore's classes that scripts call on `self`, and that paramesh may not have.
_METHODS = """
    register_buffer add_flags_recursive set_comm_fusion
    named_buffers set_jit_config offload set_extra_state get_extra_state
    set_broadcast_flag register_backward_pre_hook init_prim_io_names set_device fit
"""
METHODS = frozenset(_METHODS.split())

#: Packages in which a name is searched if it is not at the path that a script uses, in order.
_HOMES = ("nn", "ops", "train", "optim", "common.initializer", "communication", "parallel", "amp")


#: Packages whose modules are an implementation detail: a name exists once in them.
_FLAT = frozenset({"common", "nn", "ops", "train"})


class NotOffered(ModuleNotFoundError):
    """A script imports a name of MindSpore that paramesh does not have."""


@dataclass(frozen=True)
class Absent:
    """A name that paramesh does not have, and what is known of it.

    Args:
        path: its dotted path in MindSpore.
        followed: whether MindSpore 2.10 has it; None if unknown.
        instead: what to use, or empty.
        elsewhere: the path at which paramesh has something of this name, or empty.
        near: similar names of the same package.
    """

    path: str
    followed: bool | None
    instead: str = ""
    elsewhere: str = ""
    near: tuple[str, ...] = ()

    @property
    def advice(self) -> str:
        """What to do, in one sentence; empty if unknown."""
        if self.elsewhere:
            return f"It is here as {self.elsewhere}."
        if self.instead.startswith("nothing: "):
            return f"There is nothing to use instead: {self.instead.removeprefix('nothing: ')}."
        if self.instead.startswith("paramesh has no"):
            return f"{self.instead}."
        if self.instead:
            return f"Use {self.instead}."
        return f"Did you mean {', '.join(self.near)}?" if self.near else ""

    @property
    def origin(self) -> str:
        """Whether MindSpore 2.10 has it, in one sentence; empty if unknown."""
        if self.followed is None:
            return ""
        return f"MindSpore 2.10 {'has it' if self.followed else 'does not have it either'}."

    def __str__(self) -> str:
        parts = (f"paramesh does not have {self.path}.", self.origin, self.advice)
        return " ".join(filter(None, parts))


@functools.cache
def _table() -> dict[str, bool]:
    """{path: whether MindSpore 2.10 has it}."""
    file = importlib.resources.files("paramesh.scripts") / "mindspore_names.tsv"
    rows = (line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:])
    return {path: since == "yes" for path, since in rows}


def known(path: str) -> bool:
    """Whether scripts use this path, so that it is a name of MindSpore."""
    return path in _table()


def recorded(path: str) -> bool:
    """Whether MindSpore is known to have, or to have had, a name or a package of this path."""
    return any(spelling in _table() for spelling in _spellings(path)) or any(
        each.startswith(f"{path}.") for each in _table()
    )


def _prefixes(path: str) -> Iterator[str]:
    """The path and its parents, the longest first, without the top-level name."""
    parts = path.split(".")
    return (".".join(parts[:at]) for at in range(len(parts), 1, -1))


def _spellings(path: str) -> list[str]:
    """The path, and shorter paths of the same name in MindSpore."""
    package, name = path.split(".")[1], path.rpartition(".")[2]
    if package not in _FLAT:
        return [path]
    return [path, f"mindspore.{package}.{name}", f"mindspore.{name}"]


@functools.cache
def about(path: str) -> Absent:
    """What is known of a name that paramesh does not have.

    Args:
        path: its dotted path in MindSpore, such as `mindspore.dataset.GeneratorDataset`.
    """
    exact = next((INSTEAD[p] for p in _spellings(path) if p in INSTEAD), "")
    instead = exact or next((INSTEAD[p] for p in _prefixes(path) if p in INSTEAD), "")
    owner, _, name = path.rpartition(".")
    followed = _table().get(path)
    if followed is None and any(p.startswith(f"{path}.") and yes for p, yes in _table().items()):
        followed = True
    elsewhere = "" if exact or name.startswith("_") else _elsewhere(path)
    proposed = () if elsewhere or instead else near(name, offered.names(owner))
    return Absent(path, followed, instead, elsewhere, proposed)


def near(name: str, names: Iterable[str]) -> tuple[str, ...]:
    """Similar public names, the most similar first."""
    public = sorted(n for n in names if not n.startswith("_"))
    return tuple(difflib.get_close_matches(name, public, 3, 0.7))


def _elsewhere(path: str) -> str:
    name = path.rpartition(".")[2]
    if path.startswith(("mindspore.dataset", "mindspore.mindrecord", "mindspore.numpy")):
        return ""  # the same names mean something else there
    if path.startswith("mindspore.") and "probability" in path:
        return ""
    for home in ("mindspore", *(f"mindspore.{h}" for h in _HOMES)):
        if f"{home}.{name}" != path and name in offered.names(home):
            return f"{home}.{name}"
    return ""


def error(path: str) -> NotOffered:
    """The error for an import; its `name` is the package without the name."""
    # Not the path itself: python hides an error of `from package import name` with that name.
    return NotOffered(str(about(path)), name=path.rpartition(".")[0])
