"""
Deploy with ONNX
================

A fitted pipeline becomes one file that runs without torch, scikit-learn and skaudio. You will write
it, spectrogram included, run it with onnxruntime on waveforms, and compare probabilities and speed
with the original.
"""

# %%
# A fitted pipeline
# -----------------

from sklearn.pipeline import make_pipeline

from skaudio import MelSpectrogram, PretrainedCNN
from skaudio.datasets import make_sound_events

waves, labels, _ = make_sound_events(200, 3, duration=1.0, difficulty=0.2, random_state=0)
mel = MelSpectrogram(sample_rate=16_000, duration=1.0, n_fft=512, hop_length=200, n_mels=40)
cnn = PretrainedCNN("test_resnet", weights=None, lr=3e-3, max_epochs=10, random_state=0)
pipe = make_pipeline(mel, cnn).fit(waves[:120], labels[:120])
new = waves[120:]

# %%
# The file
# --------
#
# With ``from_waveform=True`` the spectrogram is computed inside of the file, and a program needs
# nothing but samples. Before the file takes its place, it is run and compared with the network.

import tempfile
from pathlib import Path

from skaudio import export_onnx

path = Path(tempfile.mkdtemp(), "model.onnx")
export_onnx(pipe, path, from_waveform=True)
print(f"{path.stat().st_size / 1e6:.1f} MB")

# %%
# Elsewhere
# ---------
#
# Only numpy and onnxruntime are needed from here on. The names of the classes, and all that a
# program must know of the input, stand in the file.

import json

import onnxruntime

session = onnxruntime.InferenceSession(path)
about = json.loads(session.get_modelmeta().custom_metadata_map["skaudio"])
probabilities, logits = session.run(None, {"waveform": new})
print("classes:", about["classes"])
print("sample rate:", about["mel"]["sample_rate"])
print("first clip:", about["classes"][probabilities[0].argmax()])

# %%
# The same numbers?
# -----------------
#
# The file computes spectrograms in float32, the pipeline in float64: the difference is rounding.

import time

import matplotlib.pyplot as plt
import numpy as np

expected = pipe.predict_proba(new)
print(f"largest difference of a probability: {np.abs(probabilities - expected).max():.1e}")


def milliseconds(run, n_repeats=20):
    """Median time of one run."""
    times = []
    for _ in range(n_repeats):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return np.median(times)


one = new[:1]
times = {
    "pipeline": milliseconds(lambda: pipe.predict_proba(one)),
    "onnxruntime": milliseconds(lambda: session.run(None, {"waveform": one})),
}
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
left.plot([0, 1], [0, 1], color="0.8")
left.plot(expected.ravel(), probabilities.ravel(), ".", alpha=0.4)
left.set(xlabel="Probability, pipeline", ylabel="Probability, onnxruntime", aspect="equal")
bars = right.bar(list(times), list(times.values()), color=["C0", "C1"], width=0.6)
right.bar_label(bars, fmt="%.1f", padding=2)
right.set_ylabel("Time for one clip (ms)")
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)
