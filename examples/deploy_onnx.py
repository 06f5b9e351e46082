"""Export a fitted pipeline to a file that runs without torch, scikit-learn and skaudio.

    python examples/deploy_onnx.py

trains a small network on synthetic clips, exports it to ONNX with waveforms as input, and predicts
in a second Python process that imports only numpy, soundfile and onnxruntime. Takes half a minute
on two CPU cores; needs ``pip install "skaudio[onnx]"``. The second process alone:

    python examples/deploy_onnx.py --answer deploy_output/model.onnx CLIP.wav ...
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile


def answer(model, paths):
    """Print probabilities of the clips, computed as on another machine."""
    session = onnxruntime.InferenceSession(model)
    about = json.loads(session.get_modelmeta().custom_metadata_map["skaudio"])
    n_samples = session.get_inputs()[0].shape[1]
    waves = np.zeros((len(paths), n_samples), dtype=np.float32)
    for wave, path in zip(waves, paths, strict=True):
        samples, rate = soundfile.read(path, dtype="float32")
        if rate != about["mel"]["sample_rate"] or samples.ndim > 1:
            raise ValueError(f"{path} must be mono at {about['mel']['sample_rate']} Hz.")
        samples = samples[:n_samples]
        wave[: len(samples)] = samples
    probabilities = session.run(["probabilities"], {"waveform": waves})[0]
    return about["classes"], probabilities


def make_model(folder):
    """Train on synthetic clips and export; return the pipeline and test clips."""
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline

    from skaudio import DiffResResampler, MelSpectrogram, PretrainedCNN, export_onnx
    from skaudio.datasets import load_folder, make_sound_events, write_clips

    waves, labels, folds = make_sound_events(
        80, 4, duration=1.0, n_folds=4, sample_rate=16_000, random_state=0
    )
    write_clips(folder / "clips", waves, labels, folds, sample_rate=16_000)
    paths, labels, _ = load_folder(folder / "clips")
    train, test, labels, truth = train_test_split(
        paths, labels, test_size=12, stratify=labels, random_state=0
    )
    pipe = make_pipeline(
        MelSpectrogram(sample_rate=16_000, duration=1.0, n_fft=512, hop_length=160, n_mels=40),
        DiffResResampler(0.5, random_state=0),
        PretrainedCNN("test_resnet", weights=None, max_epochs=10, lr=3e-3, batch_size=8,
                      random_state=0),
    )  # fmt: skip
    pipe.fit(train, labels)
    export_onnx(pipe, folder / "model.onnx", from_waveform=True)
    return pipe, test, truth


def main():
    """Train and export, predict in another process, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answer", nargs="+", metavar="FILE", help="a model followed by clips")
    parser.add_argument("--out", type=Path, default=Path("deploy_output"))
    args = parser.parse_args()
    if args.answer:
        classes, probabilities = answer(args.answer[0], args.answer[1:])
        heavy = sorted({"torch", "sklearn", "skaudio"} & set(sys.modules))
        json.dump({"classes": classes, "proba": probabilities.tolist(), "heavy": heavy}, sys.stdout)
        return

    pipe, test, truth = make_model(args.out)
    model = args.out / "model.onnx"
    print(f"Wrote {model} ({model.stat().st_size / 1e6:.1f} MB).")
    command = [sys.executable, __file__, "--answer", str(model), *test]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    proba = np.array(told["proba"])
    print(f"Large packages in the second process: {told['heavy'] or 'none'}.")
    for path, row, label in zip(test[:4], proba, truth, strict=False):
        best = int(row.argmax())
        print(f"  {Path(path).name}: {told['classes'][best]} at {row[best]:.2f} (truth: {label})")
    difference = np.abs(proba - pipe.predict_proba(test)).max()
    print(f"Largest difference from predict_proba: {difference:.1e}")


if __name__ == "__main__":
    main()
