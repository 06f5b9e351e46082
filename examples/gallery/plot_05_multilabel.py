"""
Several labels at once
======================

In most recordings more than one thing sounds, or nothing does. You will train a network that gives
every label a probability of its own, score it by mean average precision, and choose for each label
the probability from which it counts as present.
"""

# %%
# Clips with any number of labels
# -------------------------------
#
# Four kinds of sounds, each in a fifth of the clips, mixed in noise. The labels of all clips
# are a table of zeros and ones: a DataFrame, an array or a sparse matrix.

import numpy as np
import pandas as pd

from skaudio.datasets import make_sound_events

rng = np.random.default_rng(0)
waves, names, _, sounding = make_sound_events(
    600, 12, duration=1.0, difficulty=0.25, random_state=0, return_events=True
)
sounds = {
    name.removeprefix("single "): (waves * sounding)[names == name]
    for name in np.unique(names)
    if name.startswith("single")
}
tags = pd.DataFrame(rng.random((400, 4)) < 0.2, columns=list(sounds)).astype(int)
X = 0.03 * rng.standard_normal((len(tags), waves.shape[1]))
for name, clips in sounds.items():
    present = np.flatnonzero(tags[name])
    X[present] += clips[rng.integers(len(clips), size=len(present))]
print(tags.head())
print("labels per clip:", tags.sum(axis=1).value_counts().sort_index().to_dict())

# %%
# Train and score
# ---------------
#
# A table as ``y`` is all it takes. Probabilities of a clip no longer sum to one.

from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from skaudio import MelSpectrogram, PretrainedCNN
from skaudio.metrics import mean_average_precision_scorer

X_train, X_rest, y_train, y_rest = train_test_split(X, tags, test_size=160, random_state=0)
X_val, X_test, y_val, y_test = train_test_split(X_rest, y_rest, test_size=80, random_state=0)

mel = MelSpectrogram(sample_rate=16_000, n_fft=512, hop_length=200, n_mels=40)
cnn = PretrainedCNN("test_resnet", weights=None, lr=3e-3, max_epochs=25, random_state=0)
pipe = Pipeline([("mel", mel), ("clf", cnn)]).fit(X_train, y_train)
print(f"mean average precision: {mean_average_precision_scorer(pipe, X_test, y_test):.2f}")

# %%
# From which probability on?
# --------------------------
#
# Half is a guess. Clips that the network was not trained on tell which threshold is best for each
# label; ``threshold`` may be changed after ``fit``.

from sklearn.metrics import f1_score

from skaudio.metrics import f1_thresholds

before = f1_score(y_test, pipe.predict(X_test), average="macro")
thresholds = f1_thresholds(y_val, pipe.predict_proba(X_val))
pipe.set_params(clf__threshold=thresholds)
after = f1_score(y_test, pipe.predict(X_test), average="macro")
print("thresholds:", dict(zip(tags, thresholds.round(2).tolist(), strict=True)))
print(f"macro F1 at 0.5: {before:.2f}, at the thresholds: {after:.2f}")

# %%
# A look at some clips
# --------------------

import matplotlib.pyplot as plt

shown = slice(24)
fig, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
image = ax.imshow(pipe.predict_proba(X_test)[shown].T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
row, column = np.nonzero(y_test.to_numpy()[shown].T)
ax.plot(column, row, "o", color="C1", markersize=5)
ax.set_yticks(range(4), list(tags))
ax.set(xlabel="Clip (dots: labels that it has)")
fig.colorbar(image, label="Probability")
