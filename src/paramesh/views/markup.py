"""HTML for notebooks: small pieces that need no script, no style sheet and no server.

Texts are escaped here, and nowhere else: everything above gives plain texts. Colours are those of
the page around, so that dark and light notebooks look alike.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_FONT = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12px;line-height:1.45"
_LINE = "border-bottom:1px solid rgba(128,128,128,.25)"


class Markup(str):
    """A text that is HTML already."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """A text as HTML; a Markup as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(text))


def joined(parts: Iterable[str]) -> Markup:
    """Pieces one after another."""
    return Markup("".join(map(escaped, parts)))


def block(*parts: str) -> Markup:
    """The outermost element of a view."""
    return Markup(f'<div class="paramesh" style="{_FONT}">{joined(parts)}</div>')


def strong(text: str) -> Markup:
    """A text in bold."""
    return Markup(f"<b>{escaped(text)}</b>")


def pale(text: str) -> Markup:
    """A text that matters less."""
    return Markup(f'<span style="opacity:.65">{escaped(text)}</span>')


def code(text: str) -> Markup:
    """Lines as they are."""
    return Markup(f'<pre style="margin:2px 0;background:none;overflow:auto">{escaped(text)}</pre>')


def folded(title: str, *inside: str, opened: bool = False) -> Markup:
    """What is seen after a click on its title."""
    state = " open" if opened else ""
    return Markup(
        f'<details{state}><summary style="cursor:pointer">{escaped(title)}</summary>'
        f'<div style="margin-left:1.2em">{joined(inside)}</div></details>'
    )


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Sequence[int] = (),
    footer: Sequence[str] | None = None,
) -> Markup:
    """A table.

    Args:
        header: titles of the columns.
        rows: texts of the cells.
        right: columns that are aligned to the right.
        footer: the last row.
    """

    def line(cells: Sequence[str], tag: str, style: str = _LINE) -> str:
        made = ""
        for at, text in enumerate(cells):
            align = "right" if at in right else "left"
            made += f'<{tag} style="text-align:{align};padding:1px 10px 1px 0;{style}">'
            made += f"{escaped(text)}</{tag}>"
        return f'<tr style="background:none">{made}</tr>'

    body = "".join(line(row, "td") for row in rows)
    foot = "" if footer is None else f"<tfoot>{line(footer, 'th', '')}</tfoot>"
    return Markup(
        '<div style="overflow-x:auto">'
        '<table style="border-collapse:collapse;margin:2px 0;font:inherit">'
        f"<thead>{line(header, 'th')}</thead><tbody>{body}</tbody>{foot}</table></div>"
    )
