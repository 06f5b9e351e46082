"""LinearProxy: a small head through which a front end is trained by itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skaudio.classifiers._base import SpectrogramClassifier
from skaudio.nn.layers import ImageClassifier, init_head


class LinearProxy(SpectrogramClassifier):
    """Linear classifier on mean, spread and maximum over time of every channel and band.

    It can tell little by itself, so what it learns is learnt by the front end before it.

    Parameters
    ----------
    max_epochs, lr, batch_size, random_state, device, n_threads, verbose
        See `PretrainedCNN`.
    """

    _shaping = ()
    standardize, early_stopping, warm_start = True, False, False
    precision, compile = "fp32", False
    optimizer, schedule, warmup, lr_step_size, lr_gamma = "adamw", "cosine", 0.1, 1, 1.0
    backbone_lr, frontend_lr, weight_decay, label_smoothing = None, None, 1e-2, 0.0
    augment, sampling, callbacks, threshold = None, None, None, 0.5
    freeze, gradient_clip_value, ema_decay = None, None, None
    checkpoint_dir, checkpoint_every = None, 1
    class_weight, validation_fraction, n_iter_no_change, tol = None, None, 1, 0.0

    def __init__(
        self,
        *,
        max_epochs=10,
        lr=1e-2,
        batch_size=32,
        random_state=None,
        device="auto",
        n_threads=1,
        verbose=0,
    ):
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.n_threads = n_threads
        self.verbose = verbose

    def _build_module(
        self,
        standardize: nn.Module,
        image_shape: tuple[int, int, int],
        n_classes: int,
        *,
        pretrained: bool,
    ) -> ImageClassifier:
        channels, n_mels, _ = image_shape
        head = nn.Linear(3 * channels * n_mels, n_classes)
        init_head(head)
        return ImageClassifier(standardize, nn.Sequential(_TimeStatistics(), head), head=head)


class _TimeStatistics(nn.Module):
    """Mean, standard deviation and maximum over time."""

    def forward(self, x: Tensor) -> Tensor:
        spread = x.var(-1, correction=0).add(1e-6).sqrt()
        return torch.stack([x.mean(-1), spread, x.amax(-1)], dim=1).flatten(1)
