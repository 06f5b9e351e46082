"""
Networks that were trained on sound
===================================

With few labelled clips of everyday sounds, no network has to be trained: one that has heard two
million clips of AudioSet describes each clip by a few hundred numbers, and a linear classifier
does the rest. You will build that pipeline, search networks, pooling and regularisation at once,
and find out whether more labels would help.
"""

# %%
# What it is worth
# ----------------
#
# Accuracy of logistic regression on real recordings, in %, from the :doc:`/benchmarks`. ESC-10 are
# 400 clips of ten everyday sounds, tested on its five folds. The digits are 1,200 spoken words of
# six speakers, tested on speakers that were not in the training set.
#
# ============================================== ====== ======
# features                                       ESC-10 digits
# ============================================== ====== ======
# mean and deviation of log-mel bands              76.5   50.8
# ImageNet network, frozen                         86.0
# ImageNet network, fine-tuned for minutes         94.3
# ``AudioEmbedding("efficientat_mn04")``           98.5   49.2
# ``AudioEmbedding("yamnet")``                     96.3   32.6
# ============================================== ====== ======
#
# So this is where to start with bells, dogs, rain and engines, and **not** with words: networks
# that learned to tell sounds apart ignore what is said. For words, train the last stages of such a
# network further, with `PretrainedSpectrogram` and ``PretrainedCNN("efficientat_mn04", freeze=6)``,
# which is more accurate by 16 points.

# %%
# The pipeline
# ------------
#
# The network fixes its sample rate and its spectrograms, so neither is a parameter, and clips may
# have any length. On your own machine, leave ``weights`` out: the published ones are downloaded
# once. This page is built without a network connection, hence ``weights=None`` and the smallest
# networks: these weights are **random**, so the scores below show how it works and not how well.
# With ``cache_dir``, every clip is decoded and embedded once per network, whatever follows.

import tempfile

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skaudio import AudioEmbedding
from skaudio.datasets import write_clips

rng = np.random.default_rng(0)
time = np.arange(16_000) / 16_000
labels = np.repeat(["clicks", "hiss", "hum"], 24)
folds = np.tile([1, 2, 3], 24)
waves = []
for label in labels:
    sounds = {
        "clicks": np.sin(6000 * time) * (time % rng.uniform(0.1, 0.3) < 0.01),
        "hiss": 0.3 * rng.normal(size=16_000),
        "hum": np.sin(2 * np.pi * rng.uniform(100, 1000) * time),
    }
    # The other sounds are in the background, up to nearly as loud.
    waves.append(sum(w * (1 if k == label else rng.uniform(0, 0.7)) for k, w in sounds.items()))
folder = tempfile.mkdtemp()
paths = write_clips(folder, 0.1 * np.array(waves), labels, folds, sample_rate=16_000)

embedding = AudioEmbedding(
    "efficientat_mn01", weights=None, cache_dir=f"{folder}/cache", random_state=0
)
pipe = make_pipeline(embedding, StandardScaler(), LogisticRegression(max_iter=1000))

# %%
# Networks, pooling and classifier in one search
# ----------------------------------------------
#
# Pooling turns embeddings over time into those of the clip. :func:`skaudio.list_networks` lists
# the networks with rates, licences and addresses.

from sklearn.model_selection import GridSearchCV, PredefinedSplit

grid = {
    "audioembedding__model": ["efficientat_mn01", "efficientat_mn02"],
    "audioembedding__pooling": ["mean", "mean+std"],
    "logisticregression__C": [0.01, 0.1, 1.0],
}
search = GridSearchCV(pipe, grid, cv=PredefinedSplit(folds)).fit(paths, labels)
print(search.best_params_)

# %%
import matplotlib.pyplot as plt

results = search.cv_results_
fig, ax = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
for network in grid["audioembedding__model"]:
    for pooling, line in zip(grid["audioembedding__pooling"], ["-", "--"], strict=True):
        rows = (results["param_audioembedding__model"] == network) & (
            results["param_audioembedding__pooling"] == pooling
        )
        color = f"C{grid['audioembedding__model'].index(network)}"
        ax.errorbar(
            grid["logisticregression__C"],
            results["mean_test_score"][rows],
            results["std_test_score"][rows],
            color=color,
            linestyle=line,
            marker="o",
            capsize=3,
            label=f"{network}, {pooling}",
        )
ax.set(xscale="log", ylim=(None, 1.0), xlabel="C", ylabel="Accuracy, mean ± SD")
ax.legend(frameon=False, fontsize="small")
ax.spines[["top", "right"]].set_visible(False)

# %%
# Would more labels help?
# -----------------------
#
# :class:`~skaudio.inspection.LabelEfficiencyDisplay` trains the best pipeline with few clips of
# each class. Here, the curve still rises where it ends: label more clips. With the real weights, it
# soon does not: two clips of each class of ESC-10 are enough for 97 %.

from skaudio.inspection import LabelEfficiencyDisplay

display = LabelEfficiencyDisplay.from_estimator(
    search.best_estimator_,
    paths,
    labels,
    cv=PredefinedSplit(folds),
    n_labels=(1, 2, 5, 10),
    n_draws=2,
    random_state=0,
)
# sphinx_gallery_thumbnail_number = 2
