"""What the command line can be told, and its help."""

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

Results go to standard output, everything else to standard error.

exit status: 0 fine; 1 some clips could not be read, all others were dealt with
where that is possible; 2 wrong usage or input; 130 interrupted; 141 nobody read
the output.
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser; it puts the name of the command into `command`."""
    from skaudio import __version__

    parser = argparse.ArgumentParser(
        prog="skaudio",
        description="Train audio classifiers on folders of recordings, and use them.",
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
    """The path of a clip; a glob of the shell may have found a file here that is called ``~``."""
    if name.startswith("~") and os.path.lexists(name):
        return os.path.join(os.curdir, name)
    return os.path.expanduser(name)


def _command(commands: Any, name: str, text: str, more: str = "") -> Any:
    parser = commands.add_parser(name, help=text, description=f"{text}. {more}".strip())
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing of progress")
    return parser


def _add_format(parser: Any) -> None:
    parser.add_argument(
        "--format", choices=("csv", "json"), default="csv", help="of the output; default: csv"
    )


def _add_jobs(parser: Any, default: str = "1") -> None:
    parser.add_argument(
        "-j", "--jobs", type=int, metavar="N",
        help=f"workers that read clips; -1: all cores; default: {default}",
    )  # fmt: skip


def _add_skip_bad(parser: Any) -> None:
    parser.add_argument(
        "--skip-bad", action="store_true",
        help="leave out clips that cannot be read, instead of giving up",
    )  # fmt: skip


def _add_device(parser: Any) -> None:
    parser.add_argument(
        "--device", default="auto",
        help="of the network: auto (default), cpu, cuda, cuda:1, mps ...",
    )  # fmt: skip


def _add_folds(parser: Any, what: str, either: Any = None) -> None:
    (either or parser).add_argument(
        "--cv", action="store_true",
        help=f"{what}: the folds of meta.csv, or five that do not split groups, or at most five "
        "alike in classes",
    )  # fmt: skip
    parser.add_argument(
        "--group", default="fold", metavar="COLUMN",
        help="column of meta.csv with what must not be split; default: fold",
    )  # fmt: skip


def _add_check(commands: Any) -> None:
    parser = _command(
        commands, "check", "Say what is in clips, and what is wrong with them",
        "Every file is decoded to its end. Prints a row for each: path, status (ok, warn, error), "
        "reason, sample rate, channels, duration, peak, share of silence, share of clipped "
        "samples, DC offset, and the first clip with the same samples.",
    )  # fmt: skip
    parser.add_argument(
        "clips", nargs="+", metavar="CLIP", type=_clip, help="a file, or a folder of such"
    )
    _add_format(parser)
    _add_jobs(parser)


def _add_fit(commands: Any) -> None:
    parser = _command(
        commands, "fit", "Train a classifier and save it",
        "The pipeline is MelSpectrogram and PretrainedCNN; Python has more to choose from.",
    )  # fmt: skip
    parser.add_argument(
        "data", metavar="DATA", type=os.path.expanduser,
        help="a folder with a sub-folder per class, or with meta.csv",
    )  # fmt: skip
    parser.add_argument(
        "--model", metavar="FILE", type=os.path.expanduser, required=True,
        help="where to save it, by custom NAME.skaudio, a file that cannot run code; NAME.joblib "
        "is written by joblib",
    )  # fmt: skip
    sound = parser.add_argument_group("sound")
    sound.add_argument(
        "--sample-rate", type=int, default=22_050, metavar="HZ", help="default: 22050"
    )
    sound.add_argument(
        "--duration", type=float, metavar="S",
        help="length clips are cut or filled to; default: the longest",
    )  # fmt: skip
    sound.add_argument(
        "--cache-dir", metavar="DIR", type=os.path.expanduser,
        help="keep spectrograms there for next time",
    )  # fmt: skip
    _add_jobs(sound)
    _add_skip_bad(sound)
    network = parser.add_argument_group("network")
    network.add_argument(
        "--backbone", default="mobilenetv2_100", metavar="NAME",
        help="a model of timm; default: mobilenetv2_100",
    )  # fmt: skip
    network.add_argument(
        "--weights", default="imagenet", metavar="W", type=os.path.expanduser,
        help="imagenet (default; downloaded once), none, or a file; weights that come from "
        "TensorFlow need Python (backbone_options)",
    )  # fmt: skip
    network.add_argument("--epochs", type=int, default=20, metavar="N", help="default: 20")
    network.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    network.add_argument(
        "--checkpoint-dir", metavar="DIR", type=os.path.expanduser,
        help="keep the state of training there, so that the same command goes on where it was "
        "interrupted, folds too",
    )  # fmt: skip
    _add_device(network)
    scores = parser.add_argument_group("scores")
    _add_folds(scores, "cross-validate first and print the accuracy of every fold")
    _add_format(scores)


def _add_predict(commands: Any) -> None:
    parser = _command(
        commands, "predict", "Classify clips, or windows of long recordings",
        "Prints path, class and probability, with start and end where there are windows.",
    )  # fmt: skip
    parser.add_argument(
        "model",
        type=os.path.expanduser,
        metavar="MODEL",
        help="what fit has saved; NAME.joblib runs code when loaded: only from people you trust",
    )
    parser.add_argument(
        "clips", nargs="+", metavar="CLIP", type=_clip, help="a file, or a folder of such"
    )
    parser.add_argument(
        "--top", type=int, metavar="K",
        help="print the K most probable classes, 0 for all; default: 1",
    )  # fmt: skip
    _add_format(parser)
    _add_jobs(parser, "that of the model")
    _add_device(parser)
    windows = parser.add_argument_group("long recordings (one of these is enough)")
    windows.add_argument(
        "--window", type=float, metavar="S", help="length in seconds; default: that of a clip"
    )
    windows.add_argument(
        "--hop", type=float, metavar="S", help="seconds between two starts; default: the window"
    )
    windows.add_argument(
        "--events", type=float, metavar="P",
        help="join neighbouring windows with at least this probability, of every class, "
        "background too",
    )  # fmt: skip


def _add_report(commands: Any) -> None:
    parser = _command(commands, "report", "Write a page about how good a model is")
    parser.add_argument(
        "model",
        type=os.path.expanduser,
        metavar="MODEL",
        help="what fit has saved; NAME.joblib runs code when loaded: only from people you trust",
    )
    parser.add_argument(
        "data", metavar="DATA", type=os.path.expanduser, help="clips with labels, as for fit"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="HTML", type=os.path.expanduser, help="the page"
    )
    seed_help = "decides folds that meta.csv does not; default: 0"
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=seed_help)
    clips = parser.add_argument_group("which clips the model has not heard (one of these)")
    either = clips.add_mutually_exclusive_group()
    what = "train a copy of the model on every fold's other clips, and judge those"
    _add_folds(clips, what, either)
    either.add_argument(
        "--held-out", action="store_true", help="the model was trained without these clips"
    )
    _add_skip_bad(parser)
    _add_jobs(parser, "that of the model")
    _add_device(parser)
