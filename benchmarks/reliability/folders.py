"""Load folders and tables as they occur in practice, and write output without a console.

    python benchmarks/reliability/folders.py

Writes the rows "folders" and "output" and a table of docs/reliability.md.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import RELIABILITY, write_block, write_row

KINDS = ("correct", "correct with a warning", "named in a warning", "clear error",
         "unclear error", "silently wrong")  # fmt: skip
RATE = 8000
FIT = ["--finetune", "--backbone", "test_resnet", "--weights", "none", "--epochs", "1",
       "--sample-rate", str(RATE), "--duration", "0.1", "-q"]  # fmt: skip
NFC, NFD = "caf\u00e9", "cafe\u0301"
TWO = {"dog/a.wav": "dog", "cat/a.wav": "cat"}


def folders():
    """Description, files, expected clips and labels (None: an error), word expected in messages."""
    for suffix in (".m4a", ".wma", ".3gpp", ".mov", ".m4r", ".qta", ".webm", ".amr", ".spx"):
        yield f"a class of {suffix[1:]} files only", [*TWO, f"owl/a{suffix}"], None, "owl"
        clips = [*TWO, f"dog/b{suffix}"]
        yield f"a {suffix[1:]} file among wav files", clips, {**TWO, clips[2]: "dog"}, clips[2]
    for suffix in (
        ".oga",
        ".w64",
        ".au",
        ".snd",
        ".rf64",
        ".wave",
        ".bwf",
        ".aifc",
        ".caf",
        ".voc",
    ):
        yield (
            f"a class with a {suffix[1:]} file",
            [*TWO, f"owl/a{suffix}"],
            {**TWO, f"owl/a{suffix}": "owl"},
            "",
        )
    yield "a class name in NFC and in NFD", [f"{NFC}/a.wav", f"{NFD}/b.wav", "bar/a.wav"], {
        f"{NFC}/a.wav": NFC, f"{NFD}/b.wav": NFC, "bar/a.wav": "bar"}, ""  # fmt: skip
    yield "classes Dog and dog", [*TWO, "Dog/b.wav"], {**TWO, "Dog/b.wav": "Dog"}, "Dog"
    for tool in (".git/annex", ".dvc/cache"):
        yield (
            f"a link to a file that {tool} has not fetched",
            [*TWO, f"dog/b.wav>{tool}/x"],
            None,
            "dog/b.wav",
        )
    yield "a class that is a dangling link", [*TWO, "owl>elsewhere/owl"], None, "owl"
    yield "a link to a folder in a class", [*TWO, "dog/more>../../disk/", "../disk/c.wav"], {
        **TWO, "dog/more/c.wav": "dog"}, ""  # fmt: skip
    yield "a recycle bin", [*TWO, "$RECYCLE.BIN/a.wav"], TWO, ""
    yield "train and test", ["train/a.wav", "test/b.wav"], None, "train"
    yield (
        "train, val and test with classes",
        [f"{part}/{name}" for part in ("train", "val", "test") for name in TWO],
        None,
        "train",
    )
    tens = [f"fold{n}/{n}.wav" for n in range(1, 11)]
    yield "fold1 to fold10", tens, None, "fold1"
    yield "fold1 to fold10 and a csv", [*tens, "metadata.csv"], None, "metadata.csv"
    yield (
        "train-clean-100 and dev-clean",
        ["train-clean-100/a.wav", "dev-clean/b.wav"],
        None,
        "dev-clean",
    )
    noise = "_background_noise_"
    yield "Speech Commands", [*TWO, f"{noise}/hum.wav"], None, noise
    yield "a folder with an underscore", [*TWO, "_unknown_/a.wav"], {
        **TWO, "_unknown_/a.wav": "_unknown_"}, "_unknown_"  # fmt: skip
    yield "classes train and bus", ["train/a.wav", "bus/b.wav"], {
        "train/a.wav": "train", "bus/b.wav": "bus"}, ""  # fmt: skip
    yield "a table called Meta.csv", [*TWO, "Meta.csv"], None, "Meta.csv"


HEAD = "filename,category,fold\n"
TABLE = HEAD + "dog/a.wav,dog,1\ncat/a.wav,cat,2\n"


def tables():
    """Description, text, expected clips with label and fold, word expected in messages."""
    two = {"dog/a.wav": ("dog", "1"), "cat/a.wav": ("cat", "2")}
    yield "valid", TABLE, two, ""
    yield "saved by a spreadsheet", "\ufeff" + TABLE.replace("\n", ",\r\n"), two, ""
    note = 'filename,category,fold,note\ndog/a.wav,dog,1,"a\nb"\ncat/a.wav,cat,2,\n'
    yield "a note with a line break", note, two, ""
    yield "an unclosed quote", HEAD + 'dog/a.wav,"dog,1\ncat/a.wav,cat,2\n', None, "line 2"
    yield (
        "an unclosed quote, closed by the next",
        HEAD + 'dog/a.wav,"dog,1\ncat/a.wav,"cat,2\n',
        None,
        "line 2",
    )
    yield "more cells than columns", HEAD + "dog/a.wav,dog,1,9\ncat/a.wav,cat,2\n", None, "line 2"
    yield "a missing cell", HEAD + "dog/a.wav,dog,1\ncat/a.wav,cat\n", None, "line 3"
    twice = "filename,category,category,fold\ndog/a.wav,x,dog,1\ncat/a.wav,y,cat,2\n"
    yield "a duplicate column", twice, None, "'category'"
    yield "a space after a label", HEAD + 'dog/a.wav,"dog ",1\ncat/a.wav,cat,2\n', None, "'dog '"
    yield "a space before a fold", HEAD + "dog/a.wav,dog, 1\ncat/a.wav,cat,2\n", None, "' 1'"
    yield "a file in two folds", TABLE + "dog/a.wav,dog,2\n", None, "lines 2 and 4"
    yield "a file with two labels", TABLE + "dog/a.wav,cat,1\n", None, "lines 2 and 4"
    yield "a duplicate file", TABLE + "./dog/a.wav,dog,1\n", None, "lines 2 and 4"
    for name in ("Fold", "folds", " fold"):
        yield f"a column {name!r}", TABLE.replace("fold", name, 1), None, repr(name)
    yield "a column 'Label'", TABLE.replace("category", "Label", 1), None, "'Label'"
    for names, cells in (("start,end", "0,1"), ("Begin Time (s)", "0"), ("offset", "0.5")):
        parts = f"filename,category,{names}\ndog/a.wav,dog,{cells}\ncat/a.wav,cat,{cells}\n"
        yield f"columns {names}", parts, None, names.partition(",")[0]
    yield "semicolons", TABLE.replace(",", ";"), None, "commas"
    yield "another encoding", TABLE.replace("dog,", "d\udcf6g,"), None, "line 2"
    cased = {**two, "dog/b.wav": ("Dog", "1")}
    yield "labels dog and Dog", TABLE + "dog/b.wav,Dog,1\n", cased, "'Dog'"
    yield "a missing file", TABLE + "owl/a.wav,owl,1\n", None, "owl/a.wav"


def make(folder, names):
    """Create clips, links ("name>target") and tables below a folder."""
    rng = np.random.default_rng(0)
    for name in names:
        path, _, target = name.partition(">")
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if target:
            place.symlink_to(target, target_is_directory=target.endswith("/"))
        elif place.suffix == ".csv":
            place.write_text("file,label\n")
        else:
            with contextlib.suppress(TypeError, ValueError):
                place.touch()
                sort = {".oga": "OGG", ".snd": "AU", ".wave": "WAV", ".bwf": "WAV", ".aifc": "AIFF"}
                sort = sort.get(place.suffix, place.suffix[1:].upper())
                soundfile.write(place, rng.uniform(-0.5, 0.5, 800), RATE, format=sort)


def load(folder):
    """Call `load_folder`; return labels, or labels and folds, by clip, and the messages."""
    from skaudio.datasets import load_folder

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            paths, labels, folds = load_folder(folder)
        except Exception as err:  # any error is judged
            return None, f"{type(err).__name__}: {err}"
    said = " ".join(str(warning.message) for warning in caught)
    names = [os.path.relpath(path, folder) for path in paths]
    rows = list(map(str, labels))
    rows = rows if folds is None else list(zip(rows, map(str, folds), strict=True))
    return dict(zip(names, rows, strict=True)), said


def fit(folder, model):
    """Call `skaudio fit`; return whether it wrote a model, and the messages."""
    from skaudio._cli.main import main

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        main(["fit", str(folder), "--model", str(model), *FIT])
    lines = said.getvalue().splitlines()
    return model.exists(), " ".join(line for line in lines if not line.startswith("skaudio: saved"))


def judge(got, said, meant, word):
    """One of `KINDS`."""
    if got is None:
        expected = meant is None or word
        return "clear error" if expected and word and word in said else "unclear error"
    if got == meant:
        return "correct with a warning" if said else "correct"
    return "named in a warning" if word and word in said else "silently wrong"


def judge_model(there, said, kind, word):
    """One of `KINDS` for a fit, whose `load_folder` was judged as `kind`."""
    if not there:
        return "clear error" if word and word in said else "unclear error"
    if kind in ("correct", "silently wrong"):
        return kind
    return kind if word in said and kind != "clear error" else "silently wrong"


def try_folders():
    """Yield description and outcomes of `load_folder` and `skaudio fit` for every case."""
    with tempfile.TemporaryDirectory() as place:
        for number, (what, names, meant, word) in enumerate(folders()):
            folder = Path(place) / f"{number}" / "set"
            folder.mkdir(parents=True)
            make(folder, names)
            yield "folder", what, *try_one(folder, meant, word)
        for number, (what, text, meant, word) in enumerate(tables()):
            folder = Path(place) / f"table {number}"
            make(folder, ["dog/a.wav", "cat/a.wav", "dog/b.wav"])
            (folder / "meta.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
            yield "table", what, *try_one(folder, meant, word)


def try_one(folder, meant, word):
    """Outcomes of `load_folder` and `skaudio fit` for a folder."""
    kind = judge(*load(folder), meant, word)
    there, said = fit(folder, folder.parent / f"{folder.name}.skaudio")
    return kind, judge_model(there, said, kind, word)


NAMES = [b"plain", b"caf\xc3\xa9", b"\xce\xb1\xce\xb2", b"\xf0\x9f\x90\xa6", b"caf\xe9", b'a,"b']


def outputs():
    """Description, shell command that calls `check`, and expected exit status."""
    command = f'"{sys.executable}" -m skaudio check "$0"'
    yield "closed standard output", f"{command} >&-", 0
    yield "closed standard error", f"{command} 2>&-", 0
    yield "no standard streams", f"{command} <&- >&- 2>&-", 0
    for encoding in ("cp1252", "ascii", "latin-1", "utf-8"):
        yield f"table, {encoding}", f"PYTHONIOENCODING={encoding} {command}", 0
        yield f"JSON, {encoding}", f"PYTHONIOENCODING={encoding} {command} --format json", 0
    yield "full standard output", f"{command} >/dev/full", 2
    yield "full standard error", f"{command} 2>/dev/full", 0
    yield "closed pipe", f"{command} | true; exit ${{PIPESTATUS[0]}}", None
    code = "import sys; sys.stdout = sys.stderr = None; from skaudio._cli.main import main; "
    code += "sys.exit(main(['check', sys.argv[1]]))"
    yield "sys.stdout is None", f'"{sys.executable}" -c "{code}" "$0"', 0


def try_outputs():
    """Yield description and fault, if any, for every way to write."""
    with tempfile.TemporaryDirectory() as place:
        for name in NAMES:
            soundfile.write(os.path.join(place.encode(), name + b".wav"), np.ones(80) / 2, RATE)
        for what, line, status in outputs():
            ended = subprocess.run(["bash", "-c", line, place], capture_output=True)
            yield what, fault_of(what, ended, status)


def fault_of(what, ended, status):
    """A short description of the fault; empty if there is none."""
    if b"Traceback" in ended.stderr or b"Exception ignored" in ended.stderr:
        return "traceback"
    if status is not None and ended.returncode != status:
        return f"status {ended.returncode}"
    if not what.startswith(("table", "JSON", "closed standard error", "full standard error")):
        return ""
    try:
        text = ended.stdout.decode("utf-8", "strict" if what[0] == "J" else "surrogateescape")
        rows = json.loads(text) if what[0] == "J" else csv.DictReader(io.StringIO(text))
        names = {os.path.basename(os.fsencode(row["path"]))[:-4] for row in rows}
    except (ValueError, KeyError) as err:
        return type(err).__name__
    return "" if names == set(NAMES) else "names differ from those of the files"


def main():
    """Try all cases and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dry", action="store_true", help="print only; do not write the page")
    dry = parser.parse_args().dry
    tried = list(try_folders())
    lines = ["| | " + " | ".join(KINDS) + " |", "|---|" + "--:|" * len(KINDS)]
    for column, name in ((2, "`load_folder`"), (3, "`skaudio fit`")):
        for sort in ("folder", "table"):
            counts = Counter(row[column] for row in tried if row[0] == sort)
            cells = " | ".join(str(counts[kind]) for kind in KINDS)
            lines.append(f"| {name}, {sort}s | {cells} |")
    bad = [row for row in tried if {"unclear error", "silently wrong"} & set(row[2:])]
    lines += [f"| {sort}: {what} | {kind}, {other} |" for sort, what, kind, other in bad]
    written = list(try_outputs())
    wrong = [f"{what}: {why}" for what, why in written if why]
    print("\n".join([*lines, *wrong, f"{len(tried)} folders, {len(written)} outputs"]))
    if dry:
        return
    command = "folders.py"
    write_block("folders", lines, RELIABILITY)
    kinds = Counter(kind for row in tried for kind in row[2:])
    result = ", ".join(f"{kind}: {kinds[kind]}" for kind in KINDS if kinds[kind])
    n_tables = sum(row[0] == "table" for row in tried)
    what = f"{len(tried) - n_tables} folders and {n_tables} tables, read by `load_folder` and "
    what += "`skaudio fit`"
    silent = "" if kinds["silently wrong"] else "; silently wrong: 0"
    write_row("folders", what, result + silent, command)
    right = f"{len(written) - len(wrong)} correct, {len(wrong)} wrong"
    what = f"{len(written)} ways to write a table: closed, full or missing streams, 4 encodings"
    write_row("output", what, right, command)


if __name__ == "__main__":
    main()
