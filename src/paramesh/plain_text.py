"""What rich draws, as the text that `str` gives.

It is mostly printed, so a stdout that has no other characters than ASCII (`LC_ALL=C`,
`PYTHONIOENCODING=ascii`) gets lines and dots of ASCII in place of an error.
"""

from __future__ import annotations

import io
import sys

#: What texts of paramesh have besides ASCII, and what stands for it.
IN_ASCII = {
    "…": "...", "×": "x", "–": "-", "—": "-", "→": "->", "·": "*", "±": "+-", "≈": "~", "µ": "u",
}  # fmt: skip
_PLAIN = str.maketrans(IN_ASCII)


class _Page(io.TextIOWrapper):
    """In memory, with the encoding by which rich chooses the characters of lines."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding)


def encoding_of_stdout() -> str:
    """The encoding of what is printed; that of a closed stdout is UTF-8."""
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def printable(text: str) -> str:
    """The text in characters that stdout has."""
    encoding = encoding_of_stdout()
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    except LookupError:  # of an encoding that Python does not know
        return text
    return text


def rendered(drawn: object, width: int) -> str:
    """A table of rich, or something else that rich draws, without the blank lines around it.

    Args:
        drawn: what rich prints.
        width: in characters.
    """
    from rich.console import Console

    console = Console(file=_Page(encoding_of_stdout()), width=width, color_system=None)
    with console.capture() as capture:
        console.print(drawn)
    lines = (line.rstrip() for line in capture.get().splitlines())
    return printable("\n".join(line for line in lines if line) + "\n")
