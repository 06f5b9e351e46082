"""Write model files of the current format, which later versions must load, and predictions.

Run once per format version, before it is released, from the root of the project:
``python tests/data/make_model_files.py``. Files that are there are left alone:
a file that a release has written is never written again.
"""

import json
import lzma
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skaudio
from skaudio import MAST, MFCC, PCEN, Deltas, DiffResResampler, MelSpectrogram, PretrainedCNN
from skaudio.pipelines._model_file import FORMAT_VERSION

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from signals import tone  # noqa: E402

RATE, TONES = 8000, (300.0, 700.0, 1500.0, 3100.0)


def make_models():
    """Small pipelines of every kind, by name."""
    mel = {"sample_rate": RATE, "n_mels": 16}
    cnn = {
        "backbone": "test_resnet",
        "weights": None,
        "max_epochs": 15,
        "random_state": 0,
        "lr": 1e-2,
        "batch_size": 8,
        "backbone_options": {"channels": (8, 8, 8, 8), "stem_width": 8},
    }
    return {
        "cnn": make_pipeline(MelSpectrogram(**mel), PretrainedCNN(**cnn)),
        "diffres": make_pipeline(
            MelSpectrogram(**mel), DiffResResampler(0.5), PretrainedCNN(**cnn)
        ),
        "waveform": make_pipeline(
            MelSpectrogram(**mel, in_network=True),
            PCEN(trainable=True, sample_rate=RATE),
            PretrainedCNN(**cnn, threshold=(0.4, 0.5, 0.6)),
        ),
        "embedding": make_pipeline(
            MelSpectrogram(**mel),
            MFCC(n_mfcc=12),
            Deltas(width=3),
            PretrainedCNN(**cnn),
            StandardScaler(),
            LogisticRegression(),
        ),
        "mast": make_pipeline(MelSpectrogram(**mel), MAST(max_epochs=1, random_state=0)),
    }


def pack(pipe):
    """Give the large weights of a MAST a pattern that compresses well."""
    mast = pipe[-1]
    arrays = mast.__getstate__()["_arrays"]
    for array in arrays.values():
        if array.ndim > 1:
            array[:] = (np.arange(array.size) % 13 - 6).reshape(array.shape) / 60
    mast.__setstate__({**mast.__getstate__(), "_arrays": arrays})


def main():
    """Write the files."""
    page = FOLDER / "model-predictions.json"
    told = json.loads(page.read_text()) if page.exists() else {}
    noise = np.random.default_rng(0).normal(scale=0.01, size=(24, RATE // 4))
    y = np.arange(24) % len(TONES)
    X = np.stack([tone(TONES[k], sample_rate=RATE, duration=0.25) for k in y]) + noise
    clean = np.stack([tone(freq, sample_rate=RATE, duration=0.25) for freq in TONES])
    for kind, pipe in make_models().items():
        name = f"model-format-{FORMAT_VERSION}-{kind}"
        target = FOLDER / f"{name}.skaudio.xz"
        if target.exists():
            continue
        labels = np.eye(len(TONES), dtype=int)[y][:, :3] if kind == "waveform" else y
        pipe.fit(X.astype(np.float32), labels)
        if kind == "mast":
            pack(pipe)
        with tempfile.TemporaryDirectory() as folder:
            skaudio.save(pipe, Path(folder, "m.skaudio"))
            target.write_bytes(lzma.compress(Path(folder, "m.skaudio").read_bytes(), preset=9))
        told[name] = {"tones": TONES, "probabilities": pipe.predict_proba(clean).round(6).tolist()}
    page.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
