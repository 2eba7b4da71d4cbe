"""The names of Parameters: which are valid, and the default."""

from __future__ import annotations

import re

from paramesh.errors import ParameterNameError

#: The name of a Parameter that was given none, as in MindSpore 1.x.
DEFAULT_NAME = "Parameter"

_LONGEST = 1024
#: So many characters of a name are in a message.
_SHOWN = 80


class _Renamed:
    """How many Parameters were renamed after they had a name of their own."""

    count = 0


renamed = _Renamed()
_PREFIX = re.compile(r"[0-9A-Za-z_.]+")


def check_name(name: object) -> str:
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


def reason_not_saveable(name: object) -> str | None:
    """Why a Parameter cannot be saved under a name; None if it can.

    The same rule holds for what is saved and what is loaded.
    """
    if not isinstance(name, str):
        return f"a name is a str, not {type(name).__name__}"
    if not name:
        return "a name is not empty"
    if len(name) > _LONGEST:
        return f"a name may have {_LONGEST} characters, and it has {len(name)}"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "a name is text that UTF-8 can encode, and this one has half of a surrogate pair"
    return None


def shortened(name: object) -> str:
    """A name for messages, in quotes."""
    text = name if isinstance(name, str) else repr(name)
    text = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return f"'{text}'" if text.isprintable() else ascii(text)


def check_prefix(prefix: object) -> str:
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
