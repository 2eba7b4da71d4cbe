"""What `SummaryCollector` and `SummaryRecord` may be given, and the errors for the rest.

Of much of it nothing is written here (see `summary_record`); it is checked all the same, so that a
misspelt setting is found. The errors have MindSpore's words, which scripts' tests compare.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["ModeEnum", "PluginEnum"]


class PluginEnum(enum.Enum):
    """Kinds of values that a summary may have; what is not a Tensor's is not written here."""

    GRAPH = "graph"
    SCALAR = "scalar"
    IMAGE = "image"
    TENSOR = "tensor"
    HISTOGRAM = "histogram"
    TRAIN_LINEAGE = "train_lineage"
    EVAL_LINEAGE = "eval_lineage"
    CUSTOM_LINEAGE_DATA = "custom_lineage_data"
    DATASET_GRAPH = "dataset_graph"
    EXPLAINER = "explainer"
    LANDSCAPE = "landscape"


class ModeEnum(enum.Enum):
    """What a run does."""

    TRAIN = "train"
    EVAL = "eval"


#: The kinds that are written here.
WRITTEN = tuple(
    kind.value
    for kind in (PluginEnum.SCALAR, PluginEnum.TENSOR, PluginEnum.IMAGE, PluginEnum.HISTOGRAM)
)

#: What `collect_specified_data` says of a surface of the loss, unless it says something else.
_LANDSCAPE: dict[str, Any] = {
    "landscape_size": 40,
    "unit": "step",
    "num_samples": 2048,
    "create_landscape": {"train": True, "result": True},
    "intervals": [list(range(1, 10)), list(range(10, 20))],
}
#: What is collected by default.
COLLECTED: dict[str, Any] = {
    "collect_metric": True,
    "collect_graph": True,
    "collect_train_lineage": True,
    "collect_eval_lineage": True,
    "collect_input_data": True,
    "collect_dataset_graph": True,
    "histogram_regular": None,
    "collect_landscape": _LANDSCAPE,
}
_FORMATS: dict[str, set[str | None]] = {"tensor_format": {"npy", None}}


def check_type(name: str, value: object, *kinds: type) -> None:
    """Refuse a value that is of none of these types; a bool is no int.

    Raises:
        TypeError: it is of none.
    """
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        words = [kind.__name__ for kind in kinds]
        raise TypeError(
            f"For `{name}` the type should be a valid type of {words}, but got "
            f"{type(value).__name__}."
        )


def check_positive(owner: str, name: str, value: object) -> None:
    """Refuse what is not an int from 1.

    Raises:
        TypeError, ValueError: it is not.
    """
    check_type(name, value, int)
    assert isinstance(value, int)
    if value <= 0:
        raise ValueError(
            f'For "{owner}", the value of `{name}` should be greater than 0, but got `{value}`.'
        )


def check_folder(name: str, folder: object) -> None:
    """Refuse what cannot be the path of a folder.

    Raises:
        TypeError, ValueError: it is no path, or empty. NotADirectoryError: it is a file.
    """
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(
            f"The {name} is invalid, the type should be string. It must be the path of a folder, "
            f"got {folder!r}."
        )
    if not os.fspath(folder):
        raise ValueError(f"The {name} is invalid, it should be non-blank.")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise NotADirectoryError(f"The {name} must be a folder: {str(folder)!r} is a file.")


def _check_keys(owner: str, what: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    unknown = set(given) - set(known)
    if unknown:
        raise ValueError(
            f'For "{owner}", the keys {unknown} of {what} are unsupported, expect the follow keys: '
            f"{list(known)}"
        )


def collected(owner: str, chosen: object, by_default: bool) -> dict[str, Any]:
    """What is to be collected.

    Args:
        owner: who asks, for errors.
        chosen: {what: whether, or how}; None: nothing is said.
        by_default: whether the rest is as `COLLECTED` says; otherwise it is not collected.

    Raises:
        TypeError, ValueError: another type, an unknown key, a pattern that is none.
    """
    check_type("collect_specified_data", chosen, dict, type(None))
    given: dict[str, Any] = {} if chosen is None else dict(chosen)  # type: ignore[call-overload]
    for key in given:
        check_type(str(key), key, str)
    _check_keys(owner, "`collect_specified_data`", given, COLLECTED)
    for key, value in given.items():
        if key == "histogram_regular":
            _check_pattern(value)
        elif key == "collect_landscape":
            _check_landscape(owner, value)
        else:
            check_type(key, value, bool)
    return {**COLLECTED, **given} if by_default else given


def _check_pattern(value: object) -> None:
    check_type("histogram_regular", value, str, type(None))
    try:
        re.compile(value if isinstance(value, str) else "")
    except re.error as error:
        raise ValueError(
            "For `collect_specified_data`, the value of `histogram_regular` is not a pattern: "
            f"{value!r}: {error}."
        ) from None


def _check_landscape(owner: str, value: object) -> None:
    check_type("collect_landscape", value, dict, type(None))
    if not isinstance(value, dict):
        return
    _check_keys(owner, "`collect_landscape`", value, _LANDSCAPE)
    said = {**_LANDSCAPE, **value}
    for name, kind in (("landscape_size", int), ("unit", str), ("num_samples", int),
                       ("create_landscape", dict), ("intervals", list)):  # fmt: skip
        check_type(name, said[name], kind)
    if not 3 <= said["landscape_size"] <= 256:
        raise ValueError(
            f'For "{owner}", `landscape_size` should be from 3 to 256, but got '
            f"{said['landscape_size']}."
        )
    if said["unit"] not in ("step", "epoch"):
        raise ValueError(
            f'For "{owner}", `unit` should be "step" or "epoch", but got {said["unit"]!r}.'
        )
    _check_keys(owner, "`create_landscape`", said["create_landscape"], {"train": 1, "result": 1})
    for name, flag in said["create_landscape"].items():
        check_type(name, flag, bool)
    for interval in said["intervals"]:
        check_type("each interval in intervals", interval, list)
        for number in interval:
            check_type("each number in intervals", number, int)
        if len(interval) < 3:
            raise ValueError(
                f'For "{owner}", each list of `intervals` should have 3 numbers or more, but got '
                f"{interval}."
            )


def check_lineage(given: object) -> None:
    """Refuse what is not {str: int, str or float}, or None.

    Raises:
        TypeError: it is not.
    """
    check_type("custom_lineage_data", given, dict, type(None))
    if not isinstance(given, dict):
        return
    for key, value in given.items():
        check_type(f"custom_lineage_data -> {key}", key, str)
        check_type(f"the value of custom_lineage_data -> {key}", value, int, str, float)


def check_export(given: object) -> None:
    """Refuse what is not {"tensor_format": "npy"}, or None.

    Raises:
        TypeError, ValueError: it is not.
    """
    check_type("export_options", given, dict, type(None))
    if not isinstance(given, dict):
        return
    for key, value in given.items():
        check_type("export_option", key, str)
        check_type("export_format", value, str, type(None))
    _check_keys("SummaryRecord", '"export_options"', given, _FORMATS)
    for key, value in given.items():
        if value not in _FORMATS[key]:
            raise ValueError(
                f'For "SummaryRecord", the export_format {{{value!r}}} of "export_options" are '
                f"unsupported for {key}, expect the follow values: {list(_FORMATS[key])}"
            )
