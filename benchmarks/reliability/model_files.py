"""Load damaged and crafted model files, and compare sizes and times with joblib.

    python benchmarks/reliability/model_files.py [--flips 1500]

Every damaged file must be refused with a ValueError. A crafted file may load and give different
predictions, or none. A Python audit hook watches for processes, unpickling, network access and
writes to files. Takes some minutes on one core and writes a section of docs/reliability.md.
"""

import argparse
import copy
import json
import random
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import sklearn
from sklearn.pipeline import make_pipeline

import skaudio
from skaudio import MAST, DiffResResampler, MelSpectrogram, PretrainedCNN

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from forged_models import attacks, forge, put, read_model, write_model
from memory import forget_peak, own_mib
from pages import RELIABILITY, describe_machine, write_block, write_row

RATE = 8000
REPEATS = 15
DEFAULTS = {"flips": 1500, "truncations": 800, "descriptions": 600}
# Audit events that no model file may cause.
FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen",
             "pickle.find_class", "socket.connect", "socket.getaddrinfo", "ctypes.dlopen",
             "os.remove", "os.rename", "os.mkdir", "shutil.rmtree")  # fmt: skip


class Watch:
    """Records forbidden events while switched on."""

    def __init__(self):
        self.on, self.events = False, []
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        """Handle an audit event."""
        if not self.on:
            return
        writes = event == "open" and any(sign in str(arguments[1]) for sign in "wax+")
        if event in FORBIDDEN or writes:
            self.events.append((event, arguments))


class Trial:
    """Loads files and counts the outcomes.

    Parameters
    ----------
    good : Path
        The file from which others are made.
    X : ndarray
        Clips to predict.
    """

    def __init__(self, good, X):
        self.good, self.X = good, X
        self.wanted = skaudio.load(good).predict_proba(X)
        self.bad = good.with_name("bad.skaudio")
        self.watch = Watch()
        self.rows, self.slowest, self.grown = {}, 0.0, 0.0

    def __call__(self, kind, *, crafted=False):
        """Load `bad`; with `crafted` its predictions may differ."""
        row = self.rows.setdefault(kind, dict.fromkeys(("tried", "refused", "same", "other"), 0))
        row["tried"] += 1
        forget_peak()
        start, reason, before = time.perf_counter(), None, own_mib("VmRSS")
        self.watch.on = True
        try:
            model = skaudio.load(self.bad)
        except ValueError as err:
            reason = str(err)
        finally:
            self.watch.on = False
            self.slowest = max(self.slowest, time.perf_counter() - start)
            self.grown = max(self.grown, own_mib("VmHWM") - before)
        if reason is not None:
            if not reason.startswith(f"{str(self.bad)!r} cannot be loaded by skaudio.load: "):
                raise RuntimeError(f"The error does not name the file: {reason}")
            row["refused"] += 1
            return
        row["same" if self._is_same(model, crafted) else "other"] += 1

    def _is_same(self, model, crafted):
        self.watch.on = True
        try:
            return np.array_equal(model.predict_proba(self.X), self.wanted)
        except Exception:
            if not crafted:
                raise
            return False
        finally:
            self.watch.on = False


def damage(trial, n_flips, n_truncations):
    """Flip single bits and truncate the file."""
    content, rng = trial.good.read_bytes(), random.Random(0)
    for _ in range(n_flips):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        trial.bad.write_bytes(changed)
        trial("bit flipped")
    header = 8 + int.from_bytes(content[:8], "little")
    for place in rng.sample(range(header), 400):
        changed = bytearray(content)
        changed[place] ^= 1 << rng.randrange(8)
        trial.bad.write_bytes(changed)
        trial("bit of the header flipped")
    for _ in range(n_truncations):
        trial.bad.write_bytes(content[: rng.randrange(len(content))])
        trial("truncated")


def names(trial):
    """Insert functions, types and objects that would run code into attributes of the objects."""
    for node in attacks("touch ran").values():
        for kind in ("Pipeline", "MelSpectrogram", "PretrainedCNN"):
            for spot in ("random_state", "steps", "names", "_arrays", "_blueprint", "evil"):
                forge(trial.good, trial.bad, tree=put(kind, **{spot: node}))
                trial("name that would run code, valid checksums", crafted=True)


def containers(trial):
    """Alter entries of the header; remove and replace arrays."""
    content = trial.good.read_bytes()
    length = int.from_bytes(content[:8], "little")
    head, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    names_ = [name for name in head if name != "__metadata__"]
    for name in names_:
        for change in ({"dtype": "U8"}, {"shape": [10**12]}, {"data_offsets": [0, 8]}, {"x": 1}):
            text = json.dumps({**head, name: head[name] | change}, separators=(",", ":")).encode()
            text += b" " * (-len(text) % 8)
            trial.bad.write_bytes(len(text).to_bytes(8, "little") + text + data)
            trial("manipulated header")
    for name in names_:
        for value in (None, np.zeros(3), np.array("x" * 9), np.zeros((2**10, 0))):
            about, arrays = read_model(trial.good)
            arrays = {key: one for key, one in arrays.items() if key != name}
            arrays |= {} if value is None else {name: value}
            write_model(trial.bad, about, arrays)
            trial("array missing or replaced, valid checksums", crafted=True)


def descriptions(trial, count):
    """Change the description at random and update the checksums."""
    rng = random.Random(1)
    name = next(iter(read_model(trial.good)[1]))
    kinds = [None, -1, 2**40, "x" * 1000, [], {"dict": []}, {"tuple": [1, 2]}, 1e308,
             {"name": "builtins.int"}, {"array": name}, {"same": 0}, {"float": "nan"},
             {"object": ["skaudio.MAST", {}]}, {"object": ["sklearn.Pipeline", {}]},
             {"object": ["sklearn.StandardScaler", {}]}]  # fmt: skip

    def change(tree):
        spots = []

        def look(node):
            items = node.items() if isinstance(node, dict) else enumerate(node)
            for key, value in items:
                spots.append((node, key))
                if isinstance(value, dict | list):
                    look(value)

        look(tree)
        for _ in range(rng.choice((1, 1, 2, 5))):
            node, key = rng.choice(spots)
            if rng.random() < 0.2 and isinstance(node, dict):
                node.pop(key, None)
            else:
                node[key] = copy.deepcopy(rng.choice(kinds))

    for _ in range(count):
        try:
            forge(trial.good, trial.bad, tree=change)
        except (KeyError, IndexError, TypeError):  # incompatible changes
            continue
        trial("description changed at random, valid checksums", crafted=True)


def clock(ours, theirs):
    """Median processor time in ms of two functions, called alternately."""
    times = []
    for _ in range(REPEATS):
        pair = []
        for function in (ours, theirs):
            start = time.process_time()
            function()
            pair.append(1000 * (time.process_time() - start))
        times.append(pair)
    return [statistics.median(column) for column in zip(*times, strict=True)]


def compare(folder, X, y):
    """Rows of sizes and times compared with joblib."""
    mel = {"sample_rate": RATE, "n_mels": 64, "n_fft": 512, "hop_length": 128}
    network = {"weights": None, "max_epochs": 1, "random_state": 0}
    pipes = {
        "MobileNetV2": make_pipeline(MelSpectrogram(**mel), PretrainedCNN(**network)),
        "DiffRes, MobileNetV2": make_pipeline(
            MelSpectrogram(**mel), DiffResResampler(), PretrainedCNN(**network)
        ),
        "MAST pico": make_pipeline(MelSpectrogram(**mel), MAST(max_epochs=1, random_state=0)),
        "MelSpectrogram": MelSpectrogram(**mel),
    }
    ours, theirs = folder / "m.skaudio", folder / "m.joblib"
    for name, pipe in pipes.items():
        pipe.fit(X, y)

        def use(model):
            return model.predict(X[:1]) if hasattr(model, "predict") else model.transform(X[:1])

        pairs = [
            clock(lambda p=pipe: skaudio.save(p, ours), lambda p=pipe: joblib.dump(p, theirs)),
            clock(lambda u=use: u(skaudio.load(ours)), lambda u=use: u(joblib.load(theirs))),
        ]
        sizes = [file.stat().st_size for file in (ours, theirs)]
        cells = [f"{sizes[0] / 1e6:.3g} | {sizes[0] / sizes[1]:.2f}"]
        cells += [f"{a:.{0 if a >= 10 else 1}f} | {a / b:.1f}" for a, b in pairs]
        yield f"| {name} | {' | '.join(cells)} |"


def main():
    """Run everything and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, count in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8, RATE)).astype(np.float32)
    y = np.array(["dog", "rain"] * 4)
    network = PretrainedCNN(
        "test_resnet", weights=None, max_epochs=1, random_state=0,
        backbone_options={"channels": (8, 8, 8, 8), "stem_width": 8},
    )  # fmt: skip
    pipe = make_pipeline(MelSpectrogram(sample_rate=RATE, n_mels=16), network).fit(X, y)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        skaudio.save(pipe, folder / "good.skaudio")
        table = list(compare(folder, X, y))
        trial = Trial(folder / "good.skaudio", X)
        damage(trial, args.flips, args.truncations)
        names(trial)
        containers(trial)
        descriptions(trial, args.descriptions)
    report(trial, table, args)


def report(trial, table, args):
    """Write the section and the row of the summary."""
    lines = [
        f"Written by `benchmarks/reliability/model_files.py`, scikit-learn {sklearn.__version__}, "
        f"{describe_machine()}.",
        "",
        "| kind | tried | refused | loaded, same predictions | loaded, different or none |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {kind} | {' | '.join(map(str, row.values()))} |" for kind, row in trial.rows.items()
    ]
    lines += [
        "",
        f"Forbidden events: {len(trial.watch.events)}. Longest load: {trial.slowest:.2g} s, "
        f"largest memory use of a load: {trial.grown:.0f} MiB.",
        "",
        "| model | MB | / joblib | save, CPU ms | / joblib | load and predict, CPU ms | / joblib |",
        "|---|---|---|---|---|---|---|",
        *table,
    ]
    write_block("model-files", lines, RELIABILITY)
    total = {
        key: sum(row[key] for row in trial.rows.values()) for key in ("tried", "refused", "same")
    }
    other = total["tried"] - total["refused"] - total["same"]
    changed = {name: getattr(args, name) for name in DEFAULTS}.items() - DEFAULTS.items()
    options = "".join(f" --{name} {count}" for name, count in sorted(changed))
    write_row(
        "model files",
        f"{total['tried']:,} damaged or crafted files of {len(trial.rows)} kinds",
        f"{total['refused']:,} refused, {total['same']:,} loaded unchanged, {other:,} crafted "
        f"files loaded as a different model; {len(trial.watch.events)} ran code",
        f"model_files.py{options}",
    )
    print(json.dumps(trial.rows, indent=1), trial.watch.events[:5])


if __name__ == "__main__":
    main()
