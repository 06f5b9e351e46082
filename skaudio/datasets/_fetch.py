"""fetch_esc50, fetch_fsdd, fetch_speech_commands: download public data sets."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from skaudio._checks import Either
from skaudio.datasets._download import Source, fetch
from skaudio.datasets._folder import NOISE, read_class_folders, read_meta

__all__ = ["fetch_esc50", "fetch_fsdd", "fetch_speech_commands"]
_ESC50 = Source(  # several unrelated public projects report the same hash
    "esc50",
    "https://github.com/karolpiczak/ESC-50/archive/33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6.zip",
    "meta/esc50.csv",
    max_bytes=4 << 30,  # 645 MB; limits are at least four times the current size
    known_hash="sha256:661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f",
)
_FSDD = Source(  # computed from a copy of the recordings; a public project reports the same hash
    "fsdd",
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",
    "recordings",
    max_bytes=128 << 20,  # 27 MB
    content_hash="45a9b976ba3397a2fd5c70a9f2e43c34f442a3a6be47392ecfc41174b678f37e",
)
_SPEECH_COMMANDS = Source(  # the hash in TensorFlow Datasets and torchaudio
    "speech_commands",
    "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    "testing_list.txt",
    max_bytes=16 << 30,  # 3.8 GB
    known_hash="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)


def fetch_esc50(
    folder: str | os.PathLike | None = None,
    *,
    subset: str | None = None,
    url: str | None = None,
    known_hash: str | None = None,
    progress: bool = True,
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Download ESC-50: 2,000 environmental sounds of 5 s at 44.1 kHz, 50 classes.

    645 MB, CC BY-NC; ESC-10 is CC BY [1]_. A second call does not download again. The SHA-256 of
    the archive is checked; GitHub packs it on demand, so if its bytes change one day, pass the
    `known_hash` of a copy you trust.

    Parameters
    ----------
    folder : str, PathLike or None, default=None
        Where to store the data. None: `pooch.os_cache("skaudio")`.
    subset : {None, "esc10"}, default=None
        "esc10": only the 400 clips of ESC-10, with 10 classes.
    url, known_hash : str or None, default=None
        Another address of the archive (zip or tar), and its checksum ("sha256:...", "md5:...").
        Must be https, or http if a checksum is given.
    progress : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    paths : list of str of length n_clips
        Audio files.
    labels, folds : ndarray of shape (n_clips,), str and int
        Class, for example "dog", and official fold, 1 to 5, of each clip.

    Raises
    ------
    ConnectionError
        If the download failed.
    ValueError
        If the archive is not the expected one, unsafe or too large, in which case it is removed; if
        `url` or `known_hash` is not of the above form; if `folder` cannot be written to.
    OSError
        If the disk is full.

    References
    ----------
    .. [1] K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM MM 2015.
    """
    Either(None, "esc10").check("subset", subset, "fetch_esc50")
    root = fetch(_ESC50, folder, url=url, known_hash=known_hash, progress=progress)
    return read_meta(root, "meta/esc50.csv", only=subset)


def fetch_fsdd(
    folder: str | os.PathLike | None = None,
    *,
    url: str | None = None,
    known_hash: str | None = None,
    progress: bool = True,
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Download the Free Spoken Digit Dataset 1.0.10: 3,000 digits by 6 speakers at 8 kHz.

    16 MB, CC BY-SA [1]_. GitHub packs the archive on demand, so instead of its bytes the names and
    bytes of all recordings are checked with one SHA-256; a `known_hash` of the archive replaces
    this check.

    Parameters
    ----------
    folder : str, PathLike or None, default=None
        Where to store the data. None: `pooch.os_cache("skaudio")`.
    url, known_hash : str or None, default=None
        Another address of the archive, and its checksum.
    progress : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    paths : list of str of length n_clips
        Audio files.
    labels, speakers : ndarray of shape (n_clips,), str
        Digit "0" to "9" and name of the speaker.

    Raises
    ------
    ConnectionError, ValueError, OSError
        As in `fetch_esc50`.

    References
    ----------
    .. [1] Z. Jackson et al., "Free Spoken Digit Dataset", doi:10.5281/zenodo.1342401.
    """
    root = fetch(_FSDD, folder, url=url, known_hash=known_hash, progress=progress)
    paths = sorted((root / "recordings").glob("*.wav"))
    names = np.array([path.stem.split("_")[:2] for path in paths])
    return [str(path) for path in paths], names[:, 0], names[:, 1]


def fetch_speech_commands(
    folder: str | os.PathLike | None = None,
    *,
    url: str | None = None,
    known_hash: str | None = None,
    progress: bool = True,
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Download Speech Commands 0.02: 105,829 words of 1 s at 16 kHz, 35 classes.

    2.4 GB, CC BY [1]_. The SHA-256 of the archive is checked. Background noise is excluded.

    Parameters
    ----------
    folder : str, PathLike or None, default=None
        Where to store the data. None: `pooch.os_cache("skaudio")`.
    url, known_hash : str or None, default=None
        Another address of the archive, and its checksum.
    progress : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    paths : list of str of length n_clips
        Audio files.
    labels, speakers : ndarray of shape (n_clips,), str
        Word, for example "yes", and a hash that identifies the speaker.

    Raises
    ------
    ConnectionError, ValueError, OSError
        As in `fetch_esc50`.

    References
    ----------
    .. [1] P. Warden, "Speech Commands", arXiv:1804.03209, 2018.
    """
    root = fetch(_SPEECH_COMMANDS, folder, url=url, known_hash=known_hash, progress=progress)
    paths, labels = read_class_folders(root, skip=NOISE)
    return paths, labels, np.array([Path(path).stem.split("_nohash_")[0] for path in paths])
