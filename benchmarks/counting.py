"""A front end that counts its work in all processes, as files in the folder `COUNTS`."""

import os
from pathlib import Path

import numpy as np

from skaudio import MelSpectrogram
from skaudio.features._extraction import ClipExtractor


class CountingExtractor(ClipExtractor):
    """Appends a byte to a file for every decoded clip and to another for every computed one."""

    def _count(self, what, number=1):
        with open(Path(os.environ["COUNTS"]) / what, "ab") as file:
            file.write(b"." * number)

    def load(self, clip):
        self._count("decoded")
        return super().load(clip)

    def fill(self, features, clips):
        if self.feature_store is None:
            self._count("computed", len(clips))
        return super().fill(features, clips)

    def _one(self, clip, failures):
        self._count("computed")
        return super()._one(clip, failures)


class CountingMel(MelSpectrogram):
    """MelSpectrogram that counts its work."""

    def _extractor(self):
        return CountingExtractor(**vars(super()._extractor()))


def counts():
    """Numbers of clips decoded and computed so far."""
    files = [Path(os.environ["COUNTS"]) / what for what in ("decoded", "computed")]
    return np.array([file.stat().st_size if file.exists() else 0 for file in files])
