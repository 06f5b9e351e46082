"""Options of the command line and their help."""

from __future__ import annotations

import argparse
import os
from typing import Any

__all__ = ["make_parser"]

EPILOG = """\
examples:
  skaudio check recordings > clips.csv
  skaudio fit recordings --model birds.skaudio --duration 3 --cv
  skaudio predict birds.skaudio new/*.wav > labels.csv
  skaudio predict birds.skaudio night.flac --window 3 --hop 1 --events 0.8
  skaudio report birds.skaudio recordings --cv -o report.html

Results go to standard output, messages and progress to standard error.

exit status: 0 success; 1 some clips could not be read (the others were
processed if possible); 2 wrong usage or input; 130 interrupted; 141 the program
that reads the output has closed it.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; it stores the name of the command as `command`."""
    from skaudio import __version__

    parser = argparse.ArgumentParser(
        prog="skaudio",
        description="Train audio classifiers on folders of clips, and apply them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"skaudio {__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    for add in (_add_check, _add_fit, _add_predict, _add_report):
        add(commands)
    return parser


def _clip(name: str) -> str:
    """Expand ``~`` in the path of a clip, unless a file has that name, as from a shell glob."""
    if name.startswith("~") and os.path.lexists(name):
        return os.path.join(os.curdir, name)
    return os.path.expanduser(name)


def _command(commands: Any, name: str, text: str, more: str = "") -> Any:
    parser = commands.add_parser(name, help=text, description=f"{text}. {more}".strip())
    parser.add_argument("-q", "--quiet", action="store_true", help="do not show progress")
    return parser


def _add_format(parser: Any) -> None:
    parser.add_argument(
        "--format", choices=("csv", "json"), default="csv", help="output format; default: csv"
    )


def _add_jobs(parser: Any, default: str = "1") -> None:
    parser.add_argument(
        "-j", "--jobs", type=int, metavar="N",
        help=f"number of workers that read clips, -1 for all cores; default: {default}",
    )  # fmt: skip


def _add_skip_bad(parser: Any) -> None:
    parser.add_argument(
        "--skip-bad", action="store_true",
        help="skip clips that cannot be read instead of stopping",
    )  # fmt: skip


def _add_device(parser: Any) -> None:
    parser.add_argument(
        "--device", default="auto",
        help="device of the network: auto (default), cpu, cuda, cuda:1, mps, ...",
    )  # fmt: skip


def _add_folds(parser: Any, what: str, either: Any = None) -> None:
    (either or parser).add_argument(
        "--cv", action="store_true",
        help=f"{what}; the folds are those of meta.csv, or else up to five that do not split the "
        "groups of --group or, without groups, are stratified by class",
    )  # fmt: skip
    parser.add_argument(
        "--group", default="fold", metavar="COLUMN",
        help="column of meta.csv with groups that must not be split; default: fold",
    )  # fmt: skip


def _add_check(commands: Any) -> None:
    parser = _command(
        commands, "check", "Check audio files and list their problems",
        "Decodes every file to its end and prints one row per file: path, status (ok, warn, "
        "error), reason, sample rate, channels, duration, peak, fraction of silence, fraction of "
        "clipped samples, DC offset, and the first file with the same samples.",
    )  # fmt: skip
    parser.add_argument(
        "clips",
        nargs="+",
        metavar="CLIP",
        type=_clip,
        help="audio file, or folder of audio files",
    )
    _add_format(parser)
    _add_jobs(parser)


def _add_fit(commands: Any) -> None:
    parser = _command(
        commands, "fit", "Train a classifier and save it",
        "The pipeline is MelSpectrogram and PretrainedCNN; the Python API offers more.",
    )  # fmt: skip
    parser.add_argument(
        "data", metavar="DATA", type=os.path.expanduser,
        help="folder with one subfolder per class, or with a meta.csv",
    )  # fmt: skip
    parser.add_argument(
        "--model", metavar="FILE", type=os.path.expanduser, required=True,
        help="file to write, conventionally NAME.skaudio, which runs no code when it is loaded; "
        "NAME.joblib is written by joblib",
    )  # fmt: skip
    sound = parser.add_argument_group("audio")
    sound.add_argument(
        "--sample-rate", type=int, default=22_050, metavar="HZ",
        help="sample rate in Hz to which clips are resampled; default: 22050",
    )  # fmt: skip
    sound.add_argument(
        "--duration", type=float, metavar="S",
        help="length in seconds to which clips are cut or padded; default: the longest clip",
    )  # fmt: skip
    sound.add_argument(
        "--cache-dir", metavar="DIR", type=os.path.expanduser,
        help="folder that caches spectrograms for later runs",
    )  # fmt: skip
    _add_jobs(sound)
    _add_skip_bad(sound)
    _add_network(parser)
    scores = parser.add_argument_group("cross-validation")
    _add_folds(scores, "before training on all clips, cross-validate and print the accuracies")
    _add_format(scores)


def _add_network(parser: Any) -> None:
    network = parser.add_argument_group("network")
    network.add_argument(
        "--backbone", default="mobilenetv2_100", metavar="NAME",
        help="name of a timm model; default: mobilenetv2_100",
    )  # fmt: skip
    network.add_argument(
        "--weights", default="imagenet", metavar="W", type=os.path.expanduser,
        help="imagenet (default; downloaded once), none, or a file; weights converted from "
        "TensorFlow require Python (backbone_options)",
    )  # fmt: skip
    network.add_argument(
        "--epochs", type=int, default=20, metavar="N", help="number of epochs; default: 20"
    )
    network.add_argument("--seed", type=int, default=0, metavar="N", help="random seed; default: 0")
    network.add_argument(
        "--checkpoint-dir", metavar="DIR", type=os.path.expanduser,
        help="folder for checkpoints: after an interruption, the same command resumes training "
        "from there, including the folds of --cv",
    )  # fmt: skip
    _add_device(network)


def _add_predict(commands: Any) -> None:
    parser = _command(
        commands, "predict", "Classify clips, or windows of long recordings",
        "Prints path, class and probability; for windows also start and end in seconds.",
    )  # fmt: skip
    parser.add_argument(
        "model",
        type=os.path.expanduser,
        metavar="MODEL",
        help="file written by fit; NAME.joblib runs code when it is loaded: open only files from "
        "people you trust",
    )
    parser.add_argument(
        "clips",
        nargs="+",
        metavar="CLIP",
        type=_clip,
        help="audio file, or folder of audio files",
    )
    parser.add_argument(
        "--top", type=int, metavar="K",
        help="print the K most probable classes of a clip or window, 0 for all; default: 1",
    )  # fmt: skip
    _add_format(parser)
    _add_jobs(parser, "that of the model")
    _add_device(parser)
    windows = parser.add_argument_group(
        "long recordings", "With any of these options, recordings are classified window by window."
    )
    windows.add_argument(
        "--window", type=float, metavar="S",
        help="length of a window in seconds; default: that of the clips of the model",
    )  # fmt: skip
    windows.add_argument(
        "--hop", type=float, metavar="S",
        help="seconds between the starts of two windows; default: the length of a window",
    )  # fmt: skip
    windows.add_argument(
        "--events", type=float, metavar="P",
        help="print events: adjacent windows in which a class has at least this probability; for "
        "every class, including background",
    )  # fmt: skip


def _add_report(commands: Any) -> None:
    parser = _command(
        commands, "report", "Write an HTML report on the performance of a model",
        "The page shows scores, and the worst mistakes with spectrograms and players.",
    )  # fmt: skip
    parser.add_argument(
        "model",
        type=os.path.expanduser,
        metavar="MODEL",
        help="file written by fit; NAME.joblib runs code when it is loaded: open only files from "
        "people you trust",
    )
    parser.add_argument(
        "data", metavar="DATA", type=os.path.expanduser, help="labelled clips, as for fit"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="HTML", type=os.path.expanduser,
        help="HTML file to write",
    )  # fmt: skip
    seed_help = "random seed of the folds, unless meta.csv has them; default: 0"
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=seed_help)
    clips = parser.add_argument_group(
        "evaluation",
        "Scores on clips that the model was trained on are optimistic: choose one of --cv and "
        "--held-out if possible.",
    )
    either = clips.add_mutually_exclusive_group()
    what = "for every fold, train a copy of the model on the others and evaluate it on this one"
    _add_folds(clips, what, either)
    either.add_argument(
        "--held-out", action="store_true", help="the model was not trained on these clips"
    )
    _add_skip_bad(parser)
    _add_jobs(parser, "that of the model")
    _add_device(parser)
