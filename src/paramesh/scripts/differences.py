"""Names that behave differently in paramesh, and the pages that describe how."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from paramesh import context, ignored_settings
from paramesh.scripts import offered

PAGE = "docs/reference/differences.md"
_COMING = "docs/how-to/port-from-mindspore.md"
_SCRIPTS = "docs/how-to/run-mindspore-scripts.md"
_CHECKPOINTS = "docs/how-to/checkpoints.md"


@dataclass(frozen=True)
class Difference:
    """One difference: what it is, and the page and section that describe it."""

    text: str
    link: str


_UNKERNELED = "MindSpore has no kernel for it on a CPU: not compared with MindSpore's numbers"
_OPTIMIZERS = f"{PAGE}#optimizers-and-schedules"
_LAYERS = f"{PAGE}#layers-and-losses"

#: MindSpore's path -> the difference, which applies at every other path of the same object too.
NAMES: dict[str, Difference] = {
    "mindspore.Parameter": Difference(
        "made from an initializer, it holds no data until it is used",
        f"{PAGE}#a-parameter-made-from-an-initializer-holds-no-data-until-it-is-used",
    ),
    "mindspore.ParameterTuple": Difference(
        "with equal names is an error", f"{PAGE}#a-parametertuple-with-equal-names-is-an-error"
    ),
    "mindspore.load_param_into_net": Difference(
        "strict by default", f"{PAGE}#loading-is-strict-by-default"
    ),
    "mindspore.load_checkpoint": Difference(
        "strict by default", f"{PAGE}#loading-is-strict-by-default"
    ),
    "mindspore.save_checkpoint": Difference(
        "writes a safetensors file, unless the name ends in .ckpt", _CHECKPOINTS
    ),
    "mindspore.export": Difference("writes StableHLO; there is no MindIR", _COMING),
    "mindspore.common.initializer.TruncatedNormal": Difference(
        "truncated as documented; MindSpore 2.10's default comes out uniform",
        f"{PAGE}#initializers",
    ),
    "mindspore.nn.SeLU": Difference("the gradient is the derivative of the output", _LAYERS),
    "mindspore.nn.InstanceNorm2d": Difference(_UNKERNELED, _LAYERS),
    "mindspore.nn.Unfold": Difference(_UNKERNELED, _LAYERS),
    "mindspore.nn.SoftMarginLoss": Difference(_UNKERNELED, _LAYERS),
    "mindspore.nn.FTRL": Difference("the paper's formula, with the sign of z", _OPTIMIZERS),
    "mindspore.nn.Lamb": Difference(_UNKERNELED, _OPTIMIZERS),
    "mindspore.nn.LARS": Difference(_UNKERNELED, _OPTIMIZERS),
    "mindspore.nn.thor": Difference(
        "the formula of an Ascend, in Float32", "docs/reference/api/optim.md#thor"
    ),
    "mindspore.nn.AdaFactor": Difference("decay and rates of groups have effect", _OPTIMIZERS),
}

#: (MindSpore's path, keyword) -> the difference.
KEYWORDS: dict[tuple[str, str], Difference] = {
    ("mindspore.nn.Momentum", "use_nesterov"): Difference(
        "has effect; in MindSpore 2.10 it has none on a CPU", _OPTIMIZERS
    ),
    ("mindspore.nn.Adagrad", "update_slots"): Difference(
        "has effect; MindSpore 2.10 updates accum all the same", _OPTIMIZERS
    ),
    ("mindspore.set_auto_parallel_context", "comm_fusion"): Difference(
        "can be set in every mode", f"{PAGE}#comm_fusion-can-be-set-in-every-mode"
    ),
}

#: Method of Parameters -> the difference.
METHODS: dict[str, Difference] = {
    "set_data": Difference(
        "refuses other shapes and lossy types", f"{PAGE}#set_data-keeps-the-shape"
    ),
    "inited_param": Difference(
        "is the Parameter once init_data() has run",
        f"{PAGE}#inited_param-is-the-parameter-once-init_data-has-run-its-recipe",
    ),
}

_TARGETS = ("Ascend", "Davinci")


@functools.cache
def _by_identity() -> dict[int, Difference]:
    return {id(offered.find(path).value): what for path, what in NAMES.items()}


def of_name(value: object) -> Difference | None:
    """The difference of the object at a path."""
    return _by_identity().get(id(value))


def of_keyword(value: object, keyword: str, given: object) -> Difference | None:
    """The difference of a keyword argument, given its value if it is a constant."""
    for (path, name), what in KEYWORDS.items():
        if name == keyword and offered.find(path).value is value:
            return what
    if value is context.set_context:
        if keyword == "device_target" and given in _TARGETS:
            return Difference(
                f"{given!r} becomes the backend that is there, under paramesh run",
                f"{_SCRIPTS}#devices",
            )
        if keyword in ignored_settings.SETTINGS:
            why = ignored_settings.SETTINGS[keyword][1]
            return Difference(f"has no effect here: {why}", f"{_SCRIPTS}#settings")
    return None
