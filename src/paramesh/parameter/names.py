"""The names of Parameters: what one may be called, and what it is called without a name."""

from __future__ import annotations

import re
from typing import Any

from paramesh.errors import ParameterNameError

#: The name of a Parameter that was given none, as in MindSpore 1.x.
DEFAULT_NAME = "Parameter"

_LONGEST = 1024


class _Renamed:
    """How many Parameters have got another name after they had one of their own."""

    count = 0


renamed = _Renamed()
_PREFIX = re.compile(r"[0-9A-Za-z_.]+")


def check_name(name: Any) -> str:
    """A usable parameter name: stripped, `Parameter` for None, '' and blanks.

    Raises:
        ParameterNameError: not a string, or longer than 1024 characters.
    """
    if name is None:
        return DEFAULT_NAME
    if not isinstance(name, str):
        raise ParameterNameError(
            f"The name of a Parameter must be a str or None, got {type(name).__name__} ({name!r})."
        )
    name = name.strip()
    if len(name) > _LONGEST:
        raise ParameterNameError(
            f"The name of a Parameter may have {_LONGEST} characters, got {len(name)}: {name[:40]}…"
        )
    return name or DEFAULT_NAME


def check_prefix(prefix: Any) -> str:
    """A prefix that `ParameterTuple.clone` may put in front of names.

    Raises:
        TypeError: not a string.
        ParameterNameError: empty, or with characters other than 0-9 A-Z a-z _ and dot.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"clone: prefix must be a str, got {type(prefix).__name__} ({prefix!r}).")
    if not _PREFIX.fullmatch(prefix):
        raise ParameterNameError(
            f"clone: prefix {prefix!r} may consist of digits, letters, '_' and '.' only, "
            "and may not be empty."
        )
    return prefix
