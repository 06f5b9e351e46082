"""Options of the command line and their help."""

from __future__ import annotations

import argparse
import os
from typing import Any

__all__ = ["make_parser", "settle_training"]

# The network whose embeddings `fit` classifies, unless another one is named.
NETWORK = "efficientat_mn04"
# Options of `fit --finetune`, and their defaults.
FINE_TUNING = {
    "backbone": "mobilenetv2_100", "checkpoint_dir": None, "duration": None, "epochs": 20,
    "sample_rate": 22_050,
}  # fmt: skip

EPILOG = """\
examples:
  skaudio check recordings > clips.csv
  skaudio fit recordings --model birds.skaudio
  skaudio fit recordings --finetune --duration 3 --cv --model tuned.skaudio
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
    for add in (_add_check, _add_fit, _add_networks, _add_predict, _add_report):
        add(commands)
    return parser


def settle_training(args: argparse.Namespace) -> None:
    """Set the defaults of `fit`, which depend on `--finetune`.

    Raises
    ------
    ValueError
        If an option or value belongs to the other way of training.
    """
    given = [name for name in FINE_TUNING if getattr(args, name) is not None]
    words = ("hub",) if args.finetune else ("imagenet", "none")
    if args.finetune and args.network is not None:
        raise ValueError(
            "--network cannot be combined with --finetune, which trains the network of --backbone"
        )
    if given and not args.finetune:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{options} can only be used with --finetune, which trains a network")
    if args.weights is not None and args.weights.lower() in words:
        rule = "cannot be combined" if args.finetune else "can only be used"
        raise ValueError(f"--weights {args.weights} {rule} with --finetune")
    for name in FINE_TUNING.keys() - given:
        setattr(args, name, FINE_TUNING[name])
    if args.weights is None:
        args.weights = "imagenet" if args.finetune else "hub"
    if args.network is None and not args.finetune:
        args.network = NETWORK


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
        "A network that was trained on sound computes embeddings of the clips, and only a linear "
        "classifier is trained and cross-validated, in seconds: AudioEmbedding, StandardScaler, "
        "LogisticRegression. With --finetune, an ImageNet network is trained on spectrograms, in "
        "minutes: MelSpectrogram, PretrainedCNN. The Python API offers more.",
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
    parser.add_argument(
        "--network", metavar="NAME",
        help="name of the network that computes embeddings; see skaudio networks; default: "
        f"{NETWORK}",
    )  # fmt: skip
    parser.add_argument(
        "--weights", metavar="W", type=os.path.expanduser,
        help="weights of the network: a file, or hub (default: the published weights; downloaded "
        "once); with --finetune a file, imagenet (default; downloaded once) or none; weights "
        "converted from TensorFlow require Python (backbone_options)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed; default: 0")
    _add_device(parser)
    _add_jobs(parser)
    _add_skip_bad(parser)
    parser.add_argument(
        "--cache-dir", metavar="DIR", type=os.path.expanduser,
        help="folder that caches embeddings or spectrograms for later runs",
    )  # fmt: skip
    _add_fine_tuning(parser)
    scores = parser.add_argument_group("cross-validation")
    _add_folds(
        scores, "before training on all clips, cross-validate and print the accuracies; without "
        "--finetune, this is the default if there are enough clips",
    )  # fmt: skip
    _add_format(scores)


def _add_fine_tuning(parser: Any) -> None:
    tuning = parser.add_argument_group("fine-tuning", "All other options require --finetune.")
    tuning.add_argument(
        "--finetune", action="store_true",
        help="train an ImageNet network instead of a linear classifier; worth a try for sounds "
        "that embeddings do not tell apart, such as words",
    )  # fmt: skip
    tuning.add_argument(
        "--sample-rate", type=int, metavar="HZ",
        help="sample rate in Hz to which clips are resampled; default: 22050",
    )  # fmt: skip
    tuning.add_argument(
        "--duration", type=float, metavar="S",
        help="length in seconds to which clips are cut or padded; default: the longest clip",
    )  # fmt: skip
    tuning.add_argument(
        "--backbone", metavar="NAME", help="name of a timm model; default: mobilenetv2_100"
    )
    tuning.add_argument("--epochs", type=int, metavar="N", help="number of epochs; default: 20")
    tuning.add_argument(
        "--checkpoint-dir", metavar="DIR", type=os.path.expanduser,
        help="folder for checkpoints: after an interruption, the same command resumes training "
        "from there, including the folds of --cv",
    )  # fmt: skip


def _add_networks(commands: Any) -> None:
    parser = _command(
        commands, "networks", "List the networks that compute embeddings for fit",
        "All are trained on AudioSet, and mAP is their mean average precision on it. Weights are "
        "downloaded from a hub or need a file: fit --network NAME --weights FILE.",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=("text", "csv", "json"), default="text",
        help="output format; csv and json have more columns, such as the address of the weights; "
        "default: text",
    )  # fmt: skip


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
        help="length of a window in seconds; default: that of the clips of the model, if they all "
        "have one length, as with fit --finetune",
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
