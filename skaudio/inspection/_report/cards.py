"""Cards of the report: one clip each, with its spectrogram and an audio player."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from skaudio.inspection._report.evaluation import Evaluation
from skaudio.inspection._report.examples import Example
from skaudio.inspection._report.page import data_uri
from skaudio.inspection._report.pictures import ClipPicture, clip_pictures
from skaudio.inspection._report.sound import MAX_SECONDS, Sound, clip_names, clip_sound

__all__ = ["cards"]


def cards(evaluation: Evaluation, X: Any, examples: Sequence[Example]) -> str:
    """Return the cards of some clips, side by side.

    Parameters
    ----------
    evaluation : Evaluation
        The predictions.
    X : array-like of shape (n_clips, ...)
        All clips of the report.
    examples : sequence of Example
        The clips to show.

    Returns
    -------
    html : str
        An element with all cards.
    """
    places = np.array([example.place for example in examples], dtype=int)
    rows, folds = evaluation.rows[places], evaluation.fold[places]
    pictures: dict[int, ClipPicture] = {}
    for fold in np.unique(folds):  # spectrograms of the model that predicted the clip
        chosen = np.flatnonzero(folds == fold)
        found = clip_pictures(evaluation.models[fold], X, rows[chosen])
        pictures |= dict(zip(chosen.tolist(), found or [], strict=False))
    names = clip_names(X, rows)
    parts = []
    for n, example in enumerate(examples):
        where = names[n] + (f", fold {folds[n] + 1}" if len(evaluation.models) > 1 else "")
        sound = clip_sound(evaluation.models[folds[n]], X, int(rows[n]))
        parts.append(_card(example, where, sound, pictures.get(n)))
    return f'<div class="cards">{"".join(parts)}</div>'


def _card(
    example: Example, where: str, sound: Sound | str | None, picture: ClipPicture | None
) -> str:
    right = " right" if example.right else ""
    bars = "".join(_bar(*bar) for bar in example.bars)
    more = f'<p class="muted">{escape(example.detail)}</p>' if example.detail else ""
    seen = "" if picture is None else _picture(picture, f"Spectrogram of {where}")
    return (
        f'<article class="card{right}"><h3>{escape(example.verdict)}</h3><dl>{bars}</dl>'
        f'{seen}{_player(sound, where)}{more}<p class="muted">{escape(where)}</p></article>'
    )


def _bar(role: str, name: str, probability: float | None) -> str:
    share, number = ("0", "") if probability is None else (f"{probability:.3f}",) * 2
    return (
        f'<dt>{role}</dt><dd class="{role}"><span class="name" style="--share:{share}">'
        f"{escape(name)}</span><span>{number}</span></dd>"
    )


def _player(sound: Sound | str | None, where: str) -> str:
    if sound is None:
        return ""
    if isinstance(sound, str):
        return f'<p class="muted">{escape(sound)}</p>'
    file, seconds = sound
    cut = f'<p class="muted">The first {MAX_SECONDS:g} s of {seconds:.0f} s.</p>'
    return (
        f'<audio controls preload="metadata" src="{data_uri(file, "audio/flac")}" '
        f'aria-label="{escape(where)}"></audio>{cut if seconds > MAX_SECONDS else ""}'
    )


def _picture(picture: ClipPicture, alt: str) -> str:
    """Return a spectrogram with its axes, and the importance of its frames below."""
    bands = "".join(f'<span style="--up:{up:.4f}">{name}</span>' for name, up in picture.ticks())
    seconds = "" if picture.seconds is None else f' data-seconds="{picture.seconds:g}"'
    source = data_uri(picture.png(), "image/png")
    times = ""
    if picture.seconds is not None:
        marks = (0.0, picture.seconds / 2, picture.seconds)
        times = "".join(f"<span>{_short(mark)} s</span>" for mark in marks)
        times = f'<div class="times">{times}</div>'
    return (
        f'<figure class="sound"><div class="bands">{bands}</div><div class="view"{seconds}>'
        f'<img src="{source}" alt="{escape(alt)}"><i></i></div>{_frames(picture)}{times}</figure>'
    )


def _frames(picture: ClipPicture) -> str:
    if picture.importance is None:
        return ""
    heights = 1.0 - np.repeat(picture.importance, 2)
    edges = np.repeat(np.arange(len(picture.importance) + 1), 2)[1:-1]
    corners = " ".join(f"{x},{y:.2f}" for x, y in zip(edges, heights, strict=True))
    end = edges[-1]
    return (
        f'<span class="label">frames</span><svg class="frames" viewBox="0 0 {end} 1" '
        'preserveAspectRatio="none" role="img" aria-label="Importance of the frames">'
        f'<polygon points="0,1 {corners} {end},1"/></svg>'
    )


def _short(seconds: float) -> str:
    return f"{seconds:.2f}".rstrip("0").rstrip(".")
