"""PretrainedCNN: fine-tune a CNN pretrained on images or on sound."""

from __future__ import annotations

from dataclasses import dataclass

from skaudio.classifiers._base import SpectrogramClassifier
from skaudio.classifiers._parameters import with_training_parameters
from skaudio.classifiers._timm_backbone import TimmBackbone


@with_training_parameters
@dataclass(kw_only=True, repr=False, eq=False)
class PretrainedCNN(TimmBackbone, SpectrogramClassifier):
    """Classify spectrograms with a convolutional network pretrained on images or on sound.

    Networks pretrained on photographs process spectrograms as images and learn from a few hundred
    clips what randomly initialised networks do not learn from thousands [1]_. Networks trained on
    sound start with features of everyday sounds. All layers are fine-tuned unless `freeze` is set,
    and the loss of every clip is weighted by `sample_weight` and `class_weight`.

    Parameters
    ----------
    backbone : str or callable, default='mobilenetv2_100'
        Name of a timm model; name of a network that was trained on sound, see
        `skaudio.list_networks`; or a callable ``(in_channels, n_classes) -> torch.nn.Module`` whose
        module maps images ``(batch, in_channels, height, width)`` to logits.
    weights : {'imagenet', 'hub', None}, str or PathLike, default='imagenet'
        'imagenet': timm's weights, downloaded once; 'hub': the published weights of a network that
        was trained on sound; None: random; otherwise a ``.safetensors``, ``.pth``, ``.pt`` or
        ``.bin`` file. The first convolution is adapted to the number of input channels; a last
        layer of a different size is replaced by a new one, and that of a network trained on sound
        always is.
    backbone_options : dict or None, default=None
        Further arguments of `timm.create_model`, such as ``{"drop_rate": 0.2}``; None for networks
        that were trained on sound.
    input_size : (int, int) or None, default=None
        Height and width that spectrograms are resized to, 1 to 8,192. None keeps their size, as
        networks that were trained on sound require.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,) or (n_labels, 2)
        The sorted labels. For an indicator matrix, zero and one for every label.
    label_names_ : ndarray of shape (n_classes,)
        Names of the columns of `predict_proba`.
    history_ : list of dict
        Epoch, training loss and, if there are validation clips, their loss and accuracy, for every
        epoch. For an indicator matrix, the accuracy is the fraction of correct labels.
    n_iter_ : int
        Number of epochs trained.
    n_features_in_ : int
        Size of the second axis of `X`.
    input_shape_ : tuple of int
        Channels, mel bands and frames of the training clips, before the front end.
    frontend_ : FrontEndChain
        Trained copies of the modules passed along with `X`, such as by `DiffResResampler`; empty if
        there were none.
    net_ : skorch.NeuralNet
        The trained skorch net.

    See Also
    --------
    MelSpectrogram : Computes the spectrograms.
    PretrainedSpectrogram : Computes those of a network that was trained on sound.
    AudioEmbedding : Uses such a network without training it.

    Notes
    -----
    A network that was trained on sound only accepts the spectrograms of its training, which
    `PretrainedSpectrogram` computes; a `DiffResResampler` may follow. All others are errors that
    name the differences. Its own scaling takes the place of `standardize`, which has no effect.
    After ``DiffResResampler(method="diffres")``, it starts with the output for the mean channel:
    the weights for the other channels are zero at first, and remain zero if `freeze` includes the
    first layer.

    If Ctrl-C interrupts `fit` after at least one epoch, the classifier is fitted as of the last
    finished epoch, and the interrupt is re-raised.

    A fitted classifier is saved as its parameters and plain arrays: files of `skaudio.save` and of
    `joblib` are as large as the weights and load on machines without a GPU. A new head is
    initialised near zero. ImageNet weights are downloaded only if the local cache of the model hub
    does not contain them.

    References
    ----------
    .. [1] K. Palanisamy, D. Singhania, A. Yao, "Rethinking CNN Models for Audio Classification",
       arXiv:2007.11154, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skaudio import PretrainedCNN
    >>> X = np.random.default_rng(0).normal(size=(8, 32, 40)).astype("float32")
    >>> y = ["dog", "rain"] * 4
    >>> clf = PretrainedCNN("test_resnet", weights=None, max_epochs=1, random_state=0)
    >>> clf.fit(X, y).predict_proba(X).shape
    (8, 2)
    """

    __module__ = "skaudio"
