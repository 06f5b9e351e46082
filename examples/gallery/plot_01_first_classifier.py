"""
First classifier in ten lines
=============================

Paths of audio files and their labels go into a scikit-learn pipeline, and a classifier comes out.
You will see how to train one, how to measure it on clips that it has not heard, and how to look at
what it gets wrong.
"""

# %%
# A folder of recordings
# ----------------------
#
# Take your own: a folder with one subfolder per class is enough. This example makes one, with short
# sounds in background noise, so that it runs anywhere.

import tempfile
from pathlib import Path

import soundfile

from skaudio.datasets import make_sound_events

waves, labels, _ = make_sound_events(200, 4, duration=1.0, difficulty=0.2, random_state=0)
folder = Path(tempfile.mkdtemp())
for number, (wave, label) in enumerate(zip(waves, labels, strict=True)):
    (folder / label).mkdir(exist_ok=True)
    soundfile.write(folder / label / f"{number:03d}.wav", wave, 16_000)
print(*sorted(folder.iterdir()), sep="\n")

# %%
# Ten lines
# ---------
#
# :class:`~skaudio.MelSpectrogram` decodes the files and computes spectrograms,
# :class:`~skaudio.PretrainedCNN` trains a network on them. The network here is timm's smallest
# ResNet, from random weights. For real recordings leave ``"test_resnet"``, ``weights`` and ``lr``
# out: you get a MobileNet that has seen ImageNet.

# sphinx_gallery_start_ignore
# begin of what the landing page shows
# sphinx_gallery_end_ignore
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skaudio import MelSpectrogram, PretrainedCNN
from skaudio.datasets import load_folder

paths, labels, _ = load_folder(folder)
train, test, y_train, y_test = train_test_split(paths, labels, stratify=labels, random_state=0)
mel = MelSpectrogram(sample_rate=16_000, duration=1.0, n_fft=512, hop_length=200, n_mels=40)
cnn = PretrainedCNN("test_resnet", weights=None, lr=3e-3, max_epochs=20, random_state=0)
pipe = make_pipeline(mel, cnn).fit(train, y_train)
print(f"Accuracy on {len(test)} new clips: {pipe.score(test, y_test):.2f}")
# sphinx_gallery_start_ignore
# end of what the landing page shows
# sphinx_gallery_end_ignore

# %%
# What does it get wrong?
# -----------------------
#
# The pipeline is a scikit-learn classifier, so everything that scikit-learn has for classifiers
# works on it, and takes paths.

from sklearn.metrics import ConfusionMatrixDisplay

display = ConfusionMatrixDisplay.from_estimator(
    pipe, test, y_test, cmap="Blues", colorbar=False, xticks_rotation=20
)
display.figure_.set_size_inches(6, 5)
display.figure_.tight_layout()

# %%
# Save and load
# -------------
#
# One file holds the front end, the network and the names of the classes. It cannot run code.

import skaudio

skaudio.save(pipe, folder / "model.skaudio")
print(skaudio.load(folder / "model.skaudio").predict(test[:3]), "should be", y_test[:3])
