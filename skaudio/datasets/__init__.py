"""Folders of clips with labels, public data sets, and a synthetic task."""

from skaudio.audio._listing import list_audio
from skaudio.datasets._fetch import fetch_esc50, fetch_fsdd, fetch_speech_commands
from skaudio.datasets._folder import load_folder, write_clips
from skaudio.datasets._sound_events import make_sound_events

__all__ = [
    "fetch_esc50",
    "fetch_fsdd",
    "fetch_speech_commands",
    "list_audio",
    "load_folder",
    "make_sound_events",
    "write_clips",
]
