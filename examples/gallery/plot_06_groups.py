"""
Validation without leakage
==========================

Clips that were cut from one recording share its microphone, its room and its background. You will
see how a random split rewards a network for recognising recordings instead of sounds, how keeping
recordings together gives an honest figure, and how far apart the two are.
"""

# %%
# Recordings, and what was cut from them
# --------------------------------------
#
# Every recording holds one class and has a hum of its own: three tones at random frequencies. Five
# clips are cut from each. Thirty-six recordings are there to learn from; sixty others, which no
# split ever sees, will tell the truth.

import numpy as np

from skaudio.datasets import make_sound_events


def make_recordings(n_recordings, rng, n_clips=5):
    """Clips of many recordings, their labels, and the number of the recording of each."""
    waves, labels, _ = make_sound_events(
        n_clips * n_recordings, 3, duration=1.0, difficulty=0.1, random_state=rng
    )
    order = np.argsort(labels, kind="stable")  # a recording holds one class
    recording = np.arange(len(waves)) // n_clips
    time = np.arange(waves.shape[1]) / 16_000
    freqs = rng.uniform(300, 6000, size=(n_recordings, 3))
    hum = np.sin(2 * np.pi * freqs[:, :, None] * time).mean(1)
    return 0.5 * waves[order] + 0.05 * hum[recording], labels[order], recording


rng = np.random.RandomState(0)
X, y, recording = make_recordings(36, rng)
X_new, y_new, _ = make_recordings(60, rng)

# %%
# Two ways to split
# -----------------
#
# The same pipeline, the same clips, the same number of folds. Only the second way keeps the clips
# of a recording together. On your own data ``groups`` may be speakers, days or sites:
# :func:`~skaudio.datasets.load_folder` reads it from a column of ``meta.csv``.

from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline

from skaudio import MelSpectrogram, PretrainedCNN

pipe = make_pipeline(
    MelSpectrogram(sample_rate=16_000, n_fft=512, hop_length=320, n_mels=40),
    PretrainedCNN(
        "test_resnet", weights=None, lr=3e-3, max_epochs=8, batch_size=16, random_state=0
    ),
)
splits = {
    "random": (StratifiedKFold(3, shuffle=True, random_state=0), None),
    "by recording": (StratifiedGroupKFold(3, shuffle=True, random_state=0), recording),
}
promised, kept = {}, {}
for name, (split, groups) in splits.items():
    results = cross_validate(pipe, X, y, cv=split, groups=groups, return_estimator=True)
    promised[name] = results["test_score"]
    kept[name] = [fitted.score(X_new, y_new) for fitted in results["estimator"]]

# %%
# What a score promises, and what is kept
# ---------------------------------------
#
# The random split promises far more than its networks can keep: for nearly every clip in its test
# folds there are others of the same recording, with the same hum, among those that it has learned
# from. The split by recording keeps its promise. Its networks do a little worse on new recordings,
# because they have heard 24 recordings and not 36: learn from all of them in the end.

import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
for row, name in enumerate(splits):
    for scores, shift, color in [(promised, -0.15, "C3"), (kept, 0.15, "C0")]:
        mean = np.mean(scores[name])
        ax.barh(row + shift, mean, height=0.28, color=color, alpha=0.4)
        ax.plot(scores[name], [row + shift] * 3, "o", color=color, markersize=5)
        ax.text(0.01, row + shift, f"{mean:.2f}", va="center")
ax.set_yticks(range(2), [f"split {name}" for name in splits])
ax.set(xlim=(0, 1.03), ylim=(1.5, -0.5), xlabel="Accuracy of the networks of three folds, and mean")
ax.legend(
    ax.patches[:2],
    ["on the test folds", "on new recordings"],
    loc="upper right",
    bbox_to_anchor=(1, 0.62),
)
ax.spines[["top", "right"]].set_visible(False)
