"""
Long recordings
===============

A classifier of one-second clips listens to a recording of any length: window by window, in
constant memory. You will train one that knows background noise as a class of its own, let it slide
over a minute that it has never heard, join its windows to events, and write them as labels that
Audacity opens.
"""

# %%
# A classifier of clips
# ---------------------
#
# A detector must know what "nothing" sounds like, so a third of the training clips hold noise only.
# The same noise lies under the events: otherwise it would be the noise that tells them apart.

import numpy as np
from sklearn.pipeline import make_pipeline

from skaudio import MelSpectrogram, PretrainedCNN
from skaudio.datasets import make_sound_events

RATE = 16_000
rng = np.random.default_rng(0)


def add_noise(waves):
    """The waves in noise that is the same everywhere."""
    return (waves + 0.02 * rng.standard_normal(waves.shape)).astype(np.float32)


def make_events(n_clips, seed):
    """Clips that are silent but for one event, their labels, and where the event is."""
    waves, labels, _, sounding = make_sound_events(
        n_clips, 2, duration=1.0, difficulty=0.0, random_state=seed, return_events=True
    )
    return waves * sounding, labels, sounding


events, labels, _ = make_events(160, seed=0)
X = add_noise(np.concatenate([events, np.zeros((80, RATE))]))
y = np.concatenate([labels, ["noise"] * 80])

mel = MelSpectrogram(sample_rate=RATE, duration=1.0, n_fft=512, hop_length=320, n_mels=40)
cnn = PretrainedCNN("test_resnet", weights=None, lr=3e-3, max_epochs=12, random_state=0)
pipe = make_pipeline(mel, cnn).fit(X, y)

# %%
# A minute to listen to
# ---------------------
#
# Eight new events, somewhere in a minute of noise; we remember where.

import tempfile

import soundfile

new, new_labels, sounding = make_events(8, seed=1)
minute, truth = np.zeros(60 * RATE), []
for number, clip in enumerate(new):
    first = round((3 + 7 * number + rng.uniform(0, 3)) * RATE)
    minute[first : first + RATE] += clip
    start, end = (first + np.flatnonzero(sounding[number])[[0, -1]]) / RATE
    truth.append((start, end, new_labels[number]))
folder = tempfile.mkdtemp()
soundfile.write(f"{folder}/minute.flac", add_noise(minute), RATE)

# %%
# Windows
# -------
#
# One row per window and class. With ``hop`` smaller than ``window``, windows overlap, and an event
# that one window cuts in two lies within the next.

from skaudio import predict_windows

table = predict_windows(pipe, f"{folder}/minute.flac", window=1.0, hop=0.25)
table.head(6)

# %%
# Events
# ------
#
# Neighbouring windows of a class that are sure enough become one event. What lasts no longer than
# one window is left out.

from skaudio import windows_to_events

found = windows_to_events(table[table["class"] != "noise"], threshold=0.8, min_duration=1.2)
found

# %%
import matplotlib.pyplot as plt

names = sorted(set(labels))
probability = table.pivot(index="start", columns="class", values="probability")
fig, axes = plt.subplots(len(names), 1, figsize=(7, 3.4), sharex=True, layout="constrained")
for ax, name, color in zip(axes, names, ["C0", "C1"], strict=True):
    ax.plot(probability.index + 0.5, probability[name], color=color)
    for event in found[found["class"] == name].itertuples():
        ax.axvspan(event.start, event.end, color=color, alpha=0.25)
    for start, end, label in truth:
        if label == name:
            ax.plot((start + end) / 2, 1.12, "v", color="0.2", markersize=6)
    ax.set(title=name, ylim=(0, 1.2), ylabel="Probability")
    ax.spines[["top", "right"]].set_visible(False)
axes[-1].set(xlabel="Time (s); triangles: where events are, shaded: events found")

# %%
# Export
# ------

from pathlib import Path

from skaudio import write_audacity_labels

write_audacity_labels(found, f"{folder}/labels.txt", with_probability=True)
print(Path(folder, "labels.txt").read_text())
