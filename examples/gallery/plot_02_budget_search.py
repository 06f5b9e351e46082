"""
Search over hop size and budget of frames
=========================================

How finely should time be sampled, and how many of the frames does a network need? You will search
both in one :class:`~sklearn.model_selection.GridSearchCV`, see what the accuracy costs in
multiply-accumulates, and look at the frames that the network chose to keep.
"""

# %%
# Clips and pipeline
# ------------------
#
# :class:`~skaudio.DiffResResampler` stands between spectrogram and network. It scores every frame,
# keeps those that matter and merges the others, until only ``budget`` of them are left: a share,
# or a number. Scores and network are trained together. ``cache_dir`` keeps what was decoded and
# computed, so that thirteen fits decode every clip once.

import tempfile

from sklearn.pipeline import Pipeline
from torch import nn

from skaudio import DiffResResampler, MelSpectrogram, PretrainedCNN
from skaudio.datasets import make_sound_events, write_clips


def small_cnn(in_channels, n_classes):
    """Two convolutions, and a linear layer that knows roughly where in time something was."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d((4, 6)),
        nn.Flatten(),
        nn.Linear(16 * 24, n_classes),
    )


waves, labels, folds = make_sound_events(
    128, 3, duration=1.0, difficulty=0.2, n_folds=2, random_state=0
)
folder = tempfile.mkdtemp()
paths = write_clips(folder, waves, labels, folds, sample_rate=16_000)

mel = MelSpectrogram(
    sample_rate=16_000, duration=1.0, n_fft=512, n_mels=32, cache_dir=f"{folder}/cache"
)
cnn = PretrainedCNN(small_cnn, weights=None, lr=5e-3, max_epochs=8, batch_size=16, random_state=0)
pipe = Pipeline([("mel", mel), ("diffres", DiffResResampler(random_state=0)), ("clf", cnn)])

# %%
# One search for everything
# -------------------------

from sklearn.model_selection import GridSearchCV, PredefinedSplit

grid = {"mel__hop_length": [160, 320], "diffres__budget": [0.25, 0.5, 1.0]}
search = GridSearchCV(pipe, grid, cv=PredefinedSplit(folds)).fit(paths, labels)
print(search.best_params_)

# %%
# What accuracy costs
# -------------------
#
# :class:`~skaudio.inspection.BudgetCurveDisplay` counts what every candidate does with one clip.
# The bars are standard deviations over the folds: differences smaller than they are say nothing.

from skaudio.inspection import BudgetCurveDisplay

display = BudgetCurveDisplay.from_search(search, paths[:1])

# %%
# The frames that were kept
# -------------------------
#
# A quarter of the fine frames, and what the network sees of them: long stretches of noise are
# merged, the events keep their time.

from skaudio.inspection import FrameImportanceDisplay

pipe.set_params(mel__hop_length=160, diffres__budget=0.25).fit(paths, labels)
display = FrameImportanceDisplay.from_estimator(pipe, paths[4])
# sphinx_gallery_thumbnail_number = 2
