"""Parts of a self-contained HTML page, and the page itself."""

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
        The content, which is escaped.
    value : float, str or None, default=None
        Key for sorting the column: a number, or None for the text. NaN comes last.
    share : float or None, default=None
        Length of a bar behind the text, in [0, 1].
    """

    def __init__(self, text: str, value: Any = None, share: float | None = None) -> None:
        self.text = text
        self.value = value
        self.share = share

    @classmethod
    def number(cls, value: float, digits: int = 3, *, bar: bool = False) -> Cell:
        """Create a cell with a rounded number and optionally a bar, or with a dash for NaN."""
        if not np.isfinite(value):
            return cls("\N{EN DASH}", float("nan"))
        return cls(f"{value:.{digits}f}", float(value), float(value) if bar else None)

    def html(self, tag: str) -> str:
        """Return the cell as an HTML element."""
        if self.value is None:
            return f'<{tag} class="text">{escape(self.text)}</{tag}>'
        value = "" if self.value != self.value else f"{self.value:.10g}"
        bar = "" if self.share is None else meter(self.share)
        return f'<{tag} data-value="{value}">{bar}{escape(self.text)}</{tag}>'


def meter(share: float) -> str:
    """Return a bar filled to a share, which is hidden from screen readers."""
    share = min(1.0, max(0.0, share))
    return f'<span class="meter" aria-hidden="true"><i style="--share:{share:.3f}"></i></span>'


def table(
    names: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str, best: int | None = None
) -> str:
    """Return a table that can be sorted by every column.

    Parameters
    ----------
    names : sequence of str
        Names of the columns.
    rows : sequence of sequences of Cell
        The cells.
    caption : str
        A text above the table, on its content or use.
    best : int or None, default=None
        The row to highlight.

    Returns
    -------
    html : str
        An element that scrolls horizontally if it is too wide.
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
    """Return a confusion matrix, coloured by the share of the row, with mistakes enhanced.

    Parameters
    ----------
    counts : ndarray of shape (n_classes, n_classes)
        Numbers of clips, with true classes in rows.
    names : sequence of str
        Names of the classes.

    Returns
    -------
    html : str
        A table that scrolls horizontally if it is too wide.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = np.where(np.eye(len(names), dtype=bool), shares, np.sqrt(shares))
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    rows = []
    for i, name in enumerate(names):
        cells = "".join(
            f'<td class="{"hit" if i == j else "miss"}" '
            f'style="--share:{shares[i, j]:.3f}" title="{escape(name)} predicted as '
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
    """Return headline numbers, each with a name and details."""
    parts = "".join(
        f'<div class="tile"><dt>{escape(name)}</dt><dd>{escape(value)}</dd>'
        f"<dd>{escape(detail)}</dd></div>"
        for name, value, detail in items
    )
    return f'<dl class="tiles">{parts}</dl>'


def note(text: str, *, calm: bool) -> str:
    """Return a highlighted note, which is a warning unless it is `calm`."""
    return f'<p class="note{" calm" if calm else ""}" role="note">{escape(text)}</p>'


def section(name: str, title: str, text: str, *parts: str) -> str:
    """Return a section of the page, with a text that introduces its parts."""
    lead = f'<p class="muted">{escape(text)}</p>' if text else ""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">'
        f"{escape(title)}</h2>{lead}{''.join(parts)}</section>"
    )


def side_by_side(*parts: str) -> str:
    """Return parts side by side, or below each other if there is not enough space."""
    return f'<div class="pair">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def charts(pictures: Sequence[tuple[str, str]]) -> str:
    """Return charts side by side, or below each other on a phone."""
    parts = (image(svg.encode(), "image/svg+xml", alt, "chart") for svg, alt in pictures)
    return f'<div class="charts">{"".join(parts)}</div>'


def image(content: bytes, kind: str, alt: str, name: str = "") -> str:
    """Return an image that is embedded in the page."""
    return f'<img class="{name}" src="{data_uri(content, kind)}" alt="{escape(alt)}">'


def data_uri(content: bytes, kind: str) -> str:
    """Return the content of a file as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def page(*, title: str, subtitle: str, version: str, body: Sequence[str]) -> str:
    """Return the whole page.

    Parameters
    ----------
    title, subtitle, version : str
        Texts at the top and at the bottom, which are escaped.
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
    """Wrap content that may be wider than the page in a labelled region that can be scrolled."""
    return (
        f'<p class="muted caption">{escape(label)}</p>'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">'
        f"{content}</div>"
    )
