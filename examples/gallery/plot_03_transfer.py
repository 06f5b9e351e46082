"""
Transfer learning
=================

A network that has learned one task knows much of the next. You will train one on six classes of
sounds with many clips, and use it for six other classes with eight clips each: as a frozen feature
extractor under logistic regression, and as a start for fine-tuning. Both are compared with a
network that starts from nothing.
"""

# %%
# Two tasks
# ---------
#
# In practice the first task is somebody else's: ImageNet for ``weights="imagenet"``, which is the
# default. Here it is made on the spot, so that nothing is downloaded.

import numpy as np
from sklearn.model_selection import train_test_split

from skaudio.datasets import make_sound_events

waves, labels, _ = make_sound_events(1000, 12, duration=1.0, difficulty=0.1, random_state=0)
is_source = np.isin(labels, np.unique(labels)[::2])
target, new, y_target, y_new = train_test_split(
    waves[~is_source],
    labels[~is_source],
    train_size=48,
    stratify=labels[~is_source],
    random_state=0,
)
print(f"source: {is_source.sum()} clips of", ", ".join(np.unique(labels[is_source])))
print(f"target: {len(target)} clips of", ", ".join(np.unique(y_target)))

# %%
# Learn the source task
# ---------------------
#
# Waveforms are as good as paths. The weights of the network's body go into a file.

import tempfile

import torch
from sklearn.pipeline import make_pipeline

from skaudio import MelSpectrogram, PretrainedCNN

mel = MelSpectrogram(sample_rate=16_000, n_fft=512, hop_length=200, n_mels=40)
cnn = PretrainedCNN("test_resnet", weights=None, lr=3e-3, max_epochs=10, random_state=0)
source = make_pipeline(mel, cnn).fit(waves[is_source], labels[is_source])

weights = f"{tempfile.mkdtemp()}/source.pt"
torch.save(cnn.net_.module_.backbone.state_dict(), weights)

# %%
# Three ways to the target task
# -----------------------------
#
# ``transform`` of a classifier gives what enters its last layer, so a frozen network is a
# transformer like any other. Fine-tuning trains all layers, those of the body more slowly.

from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

frozen = PretrainedCNN("test_resnet", weights=weights, freeze="backbone", max_epochs=1)
tuned = PretrainedCNN(
    "test_resnet",
    weights=weights,
    lr=3e-3,
    backbone_lr=1e-3,
    max_epochs=30,
    batch_size=16,
    random_state=0,
)
scratch = PretrainedCNN(
    "test_resnet", weights=None, lr=3e-3, max_epochs=30, batch_size=16, random_state=0
)
ways = {
    "from scratch": make_pipeline(mel, scratch),
    "frozen features": make_pipeline(
        mel, frozen, StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)
    ),
    "fine-tuned": make_pipeline(mel, tuned),
}
scores = {name: pipe.fit(target, y_target).score(new, y_new) for name, pipe in ways.items()}

# %%
# What it is worth
# ----------------

import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(5.6, 3), layout="constrained")
bars = ax.barh(list(scores), list(scores.values()), color=["0.7", "C0", "C1"])
ax.bar_label(bars, fmt="%.2f", padding=4)
ax.axvline(1 / 6, color="0.4", linestyle=":")
ax.text(1 / 6, 2.55, "chance", ha="center", color="0.4")
ax.set(xlim=(0, 1), xlabel=f"Accuracy on {len(new)} clips of the target task")
ax.spines[["top", "right"]].set_visible(False)
