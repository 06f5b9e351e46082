"""
Your own backbone
=================

Any ``torch.nn.Module`` that turns images into logits can take the place of the network. You will
write a convolutional and a recurrent one, put them into one search beside a timm model, and weigh
accuracy against arithmetic.
"""

# %%
# Two networks
# ------------
#
# A backbone is a callable: it is given the number of input channels and of classes, and returns a
# module for images of shape ``(batch, in_channels, n_mels, n_frames)``. Normalisation of the input,
# loss, batches and device are taken care of.

from torch import nn


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


class RecurrentNetwork(nn.Module):
    """A convolution, a recurrent layer over time, the maximum over time, and a linear layer."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d((4, 2)),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
        )
        self.rnn = nn.GRU(16 * 10, 32, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, n_classes)

    def forward(self, images):  # (batch, in_channels, 40, n_frames)
        frames = self.conv(images).flatten(1, 2).transpose(1, 2)  # (batch, n_frames / 2, 160)
        return self.head(self.rnn(frames)[0].amax(1))


# %%
# To save a fitted classifier, define its backbone in a module that can be imported: the file keeps
# its name, not its code.
#
# One search over networks
# ------------------------
#
# ``backbone`` is a parameter like any other. A class is a callable too.

from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from skaudio import MelSpectrogram, PretrainedCNN
from skaudio.datasets import make_sound_events

waves, labels, _ = make_sound_events(96, 3, duration=1.0, difficulty=0.2, random_state=0)
pipe = Pipeline(
    [
        ("mel", MelSpectrogram(sample_rate=16_000, n_fft=512, hop_length=200, n_mels=40)),
        ("clf", PretrainedCNN(weights=None, lr=3e-3, max_epochs=12, batch_size=16, random_state=0)),
    ]
)
backbones = [small_cnn, RecurrentNetwork, "test_resnet"]
search = GridSearchCV(pipe, {"clf__backbone": backbones}, cv=2).fit(waves, labels)

# %%
# What they cost
# --------------
#
# :func:`skaudio.cost` counts parameters and multiply-accumulates of a fitted pipeline, and takes
# the time of one clip.

from sklearn.base import clone

import skaudio

names = [getattr(backbone, "__name__", backbone) for backbone in backbones]
costs = []
for name, backbone in zip(names, backbones, strict=True):
    # Trained for one epoch: what a network costs does not depend on what it has learned.
    quick = clone(pipe).set_params(clf__backbone=backbone, clf__max_epochs=1)
    costs.append(skaudio.cost(quick.fit(waves[:16], labels[:16]), waves[:1]))
    print(f"{name}\n{costs[-1]}\n")

# %%
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
results = search.cv_results_
for name, cost, mean, std in zip(
    names, costs, results["mean_test_score"], results["std_test_score"], strict=True
):
    ax.errorbar(cost.macs / 1e6, mean, std, marker="o", capsize=3, label=name)
ax.set(xlim=(0, None), xlabel="Multiply-accumulates per clip (M)", ylabel="Accuracy, mean ± SD")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
