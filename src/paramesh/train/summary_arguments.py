"""What `SummaryCollector` and `SummaryRecord` may be given, and the errors for the rest.

Of much of it nothing is written here (see `summary_record`); it is checked all the same, so that a
misspelt setting is found.
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
#: What `export_options` may say.
EXPORT_FORMATS: dict[str, set[str | None]] = {"tensor_format": {"npy", None}}


def check_type(owner: str, name: str, value: object, *kinds: type) -> None:
    """Refuse a value that is of none of these types; a bool is no int.

    Args:
        owner: whose argument it is, for the error.
        name: of the argument.
        value: what was given.
        kinds: the types.

    Raises:
        TypeError: it is of none.
    """
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        words = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise TypeError(f"{owner}: {name} must be {words}, got {type(value).__name__}.")


def check_positive(owner: str, name: str, value: object) -> None:
    """Refuse what is not an int from 1.

    Raises:
        TypeError, ValueError: it is not.
    """
    check_type(owner, name, value, int)
    assert isinstance(value, int)
    if value <= 0:
        raise ValueError(f"{owner}: {name} must be at least 1, got {value}.")


def check_folder(owner: str, name: str, folder: object) -> None:
    """Refuse what cannot be the path of a folder.

    Raises:
        TypeError, ValueError: it is no path, or empty. NotADirectoryError: it is a file.
    """
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"{owner}: {name} must be the path of a folder, got {folder!r}.")
    if not os.fspath(folder):
        raise ValueError(f"{owner}: {name} must not be empty.")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise NotADirectoryError(
            f"{owner}: {name} must be a folder, and {str(folder)!r} is a file."
        )


def _check_keys(owner: str, what: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - set(known), key=str)
    if unknown:
        raise ValueError(
            f"{owner}: {what} has the keys {unknown}, which it does not know. "
            f"Expected are {list(known)}."
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
    check_type(owner, "collect_specified_data", chosen, dict, type(None))
    given: dict[str, Any] = {} if chosen is None else dict(chosen)  # type: ignore[call-overload]
    for key in given:
        check_type(owner, f"the key {key!r} of collect_specified_data", key, str)
    _check_keys(owner, "collect_specified_data", given, COLLECTED)
    for key, value in given.items():
        if key == "histogram_regular":
            _check_pattern(owner, value)
        elif key == "collect_landscape":
            _check_landscape(owner, value)
        else:
            check_type(owner, key, value, bool)
    return {**COLLECTED, **given} if by_default else given


def _check_pattern(owner: str, value: object) -> None:
    check_type(owner, "histogram_regular", value, str, type(None))
    try:
        re.compile(value if isinstance(value, str) else "")
    except re.error as error:
        raise ValueError(
            f"{owner}: histogram_regular must be a regular expression, got {value!r}: {error}."
        ) from None


def _check_landscape(owner: str, value: object) -> None:
    check_type(owner, "collect_landscape", value, dict, type(None))
    if not isinstance(value, dict):
        return
    _check_keys(owner, "collect_landscape", value, _LANDSCAPE)
    said = {**_LANDSCAPE, **value}
    for name, kind in (("landscape_size", int), ("unit", str), ("num_samples", int),
                       ("create_landscape", dict), ("intervals", list)):  # fmt: skip
        check_type(owner, name, said[name], kind)
    if not 3 <= said["landscape_size"] <= 256:
        raise ValueError(f"{owner}: landscape_size must be 3 to 256, got {said['landscape_size']}.")
    if said["unit"] not in ("step", "epoch"):
        raise ValueError(f"{owner}: unit must be 'step' or 'epoch', got {said['unit']!r}.")
    _check_keys(owner, "create_landscape", said["create_landscape"], {"train": 1, "result": 1})
    for name, flag in said["create_landscape"].items():
        check_type(owner, f"create_landscape[{name!r}]", flag, bool)
    for interval in said["intervals"]:
        check_type(owner, "an interval in intervals", interval, list)
        for number in interval:
            check_type(owner, "a number in intervals", number, int)
        if len(interval) < 3:
            raise ValueError(
                f"{owner}: each list in intervals must have at least 3 numbers, got {interval}."
            )


def check_lineage(owner: str, given: object) -> None:
    """Refuse what is not {str: int, str or float}, or None.

    Raises:
        TypeError: it is not.
    """
    check_type(owner, "custom_lineage_data", given, dict, type(None))
    if not isinstance(given, dict):
        return
    for key, value in given.items():
        check_type(owner, f"the key {key!r} of custom_lineage_data", key, str)
        check_type(owner, f"custom_lineage_data[{key!r}]", value, int, str, float)


def check_export(owner: str, given: object) -> None:
    """Refuse what is not {"tensor_format": "npy"}, or None.

    Raises:
        TypeError, ValueError: it is not.
    """
    check_type(owner, "export_options", given, dict, type(None))
    if not isinstance(given, dict):
        return
    for key, value in given.items():
        check_type(owner, f"the key {key!r} of export_options", key, str)
        check_type(owner, f"export_options[{key!r}]", value, str, type(None))
    _check_keys(owner, "export_options", given, EXPORT_FORMATS)
    for key, value in given.items():
        if value not in EXPORT_FORMATS[key]:
            raise ValueError(
                f"{owner}: export_options[{key!r}] must be 'npy' or None, got {value!r}."
            )
