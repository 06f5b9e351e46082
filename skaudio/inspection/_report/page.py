"""A page of HTML that needs nothing but itself: its parts, and how they become one text."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

__all__ = [
    "Cell",
    "charts",
    "confusion",
    "data_uri",
    "image",
    "note",
    "page",
    "section",
    "side_by_side",
    "table",
    "tiles",
]


class Cell:
    """A cell of a table.

    Parameters
    ----------
    text : str
        What is shown; escaped.
    value : float, str or None, default=None
        What the column is sorted by: a number, or None for the text. NaN comes last.
    share : float or None, default=None
        Length of a bar behind the text, in [0, 1].
    """

    def __init__(self, text: str, value: Any = None, share: float | None = None) -> None:
        self.text = text
        self.value = value
        self.share = share

    @classmethod
    def number(cls, value: float, digits: int = 3, *, bar: bool = False) -> Cell:
        """A number with so many decimals, perhaps with a bar; a dash for NaN."""
        if not np.isfinite(value):
            return cls("\N{EN DASH}", float("nan"))
        return cls(f"{value:.{digits}f}", float(value), float(value) if bar else None)

    def html(self, tag: str) -> str:
        """The cell as an element."""
        if self.value is None:
            return f'<{tag} class="text">{escape(self.text)}</{tag}>'
        value = "" if self.value != self.value else f"{self.value:.10g}"
        bar = "" if self.share is None else meter(self.share)
        return f'<{tag} data-value="{value}">{bar}{escape(self.text)}</{tag}>'


def meter(share: float) -> str:
    """A bar that is filled so far; for eyes only."""
    share = min(1.0, max(0.0, share))
    return f'<span class="meter" aria-hidden="true"><i style="--share:{share:.3f}"></i></span>'


def table(
    names: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str, best: int | None = None
) -> str:
    """A table that can be sorted by every column.

    Parameters
    ----------
    names : sequence of str
        Names of the columns.
    rows : sequence of sequences of Cell
        The cells.
    caption : str
        What the table shows, or what to do with it; stands above.
    best : int or None, default=None
        The row to point out.

    Returns
    -------
    html : str
        An element that scrolls sideways where it is too wide.
    """
    words = [all(row[n].value is None for row in rows) for n in range(len(names))]
    head = "".join(
        f'<th scope="col"{" class=text" if text else ""}>'
        f'<button type="button">{escape(name)}</button></th>'
        for name, text in zip(names, words, strict=True)
    )
    body = "".join(
        f"<tr{' class=best' if n == best else ''}>{''.join(cell.html('td') for cell in row)}</tr>"
        for n, row in enumerate(rows)
    )
    return _scroll(
        f'<table class="sortable" aria-label="{escape(caption)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>",
        caption,
    )


def confusion(counts: np.ndarray, names: Sequence[str]) -> str:
    """A confusion matrix, true classes in rows; colours are shares of a row, mistakes enhanced.

    Parameters
    ----------
    counts : ndarray of shape (n_classes, n_classes)
        Numbers of clips.
    names : sequence of str
        Names of the classes.

    Returns
    -------
    html : str
        A table that scrolls sideways where it is too wide.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = np.where(np.eye(len(names), dtype=bool), shares, np.sqrt(shares))
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    rows = []
    for i, name in enumerate(names):
        cells = "".join(
            f'<td class="{"hit" if i == j else "miss"}" '
            f'style="--share:{shares[i, j]:.3f}" title="{escape(name)} taken for '
            f'{escape(names[j])}: {counts[i, j]}">{counts[i, j] or ""}</td>'
            for j in range(len(names))
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    caption = "Confusion matrix: true classes in rows, predicted ones in columns."
    return _scroll(
        f'<table class="confusion" aria-label="{caption}">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>",
        caption,
    )


def tiles(items: Sequence[tuple[str, str, str]]) -> str:
    """Headline numbers: name, number, and what it stands on."""
    parts = "".join(
        f'<div class="tile"><dt>{escape(name)}</dt><dd>{escape(value)}</dd>'
        f"<dd>{escape(detail)}</dd></div>"
        for name, value, detail in items
    )
    return f'<dl class="tiles">{parts}</dl>'


def note(text: str, *, calm: bool) -> str:
    """A remark that must not be overlooked, a warning unless it is `calm`."""
    return f'<p class="note{" calm" if calm else ""}" role="note">{escape(text)}</p>'


def section(name: str, title: str, text: str, *parts: str) -> str:
    """A part of the page, with a sentence on what is to be seen."""
    lead = f'<p class="muted">{escape(text)}</p>' if text else ""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">'
        f"{escape(title)}</h2>{lead}{''.join(parts)}</section>"
    )


def side_by_side(*parts: str) -> str:
    """Parts beside each other, or below each other where there is no room."""
    return f'<div class="pair">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def charts(pictures: Sequence[tuple[str, str]]) -> str:
    """Charts side by side, or below each other on a phone."""
    parts = (image(svg.encode(), "image/svg+xml", alt, "chart") for svg, alt in pictures)
    return f'<div class="charts">{"".join(parts)}</div>'


def image(content: bytes, kind: str, alt: str, name: str = "") -> str:
    """A picture that stands in the page itself."""
    return f'<img class="{name}" src="{data_uri(content, kind)}" alt="{escape(alt)}">'


def data_uri(content: bytes, kind: str) -> str:
    """A file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def page(*, title: str, subtitle: str, version: str, body: Sequence[str]) -> str:
    """The whole page.

    Parameters
    ----------
    title, subtitle, version : str
        What is written at the top and at the bottom; escaped.
    body : sequence of str
        Sections, as HTML.

    Returns
    -------
    html : str
        The text of the file.
    """
    folder = files("skaudio.inspection") / "_report"
    text, css, js = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    return Template(text).substitute(
        title=escape(title), subtitle=escape(subtitle), version=escape(version), css=css, js=js,
        body="\n".join(body),
    )  # fmt: skip


def _scroll(content: str, label: str) -> str:
    """What may be wider than the page, below what it is; reached by keyboard too."""
    return (
        f'<p class="muted caption">{escape(label)}</p>'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">'
        f"{content}</div>"
    )
