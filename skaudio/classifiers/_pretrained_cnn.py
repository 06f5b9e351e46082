"""PretrainedCNN: fine-tune an ImageNet CNN on spectrograms."""

from __future__ import annotations

from torch import nn

from skaudio._checks import ParameterError, is_int
from skaudio.classifiers._base import SpectrogramClassifier
from skaudio.classifiers._weights import check_weights, fill_network
from skaudio.nn.cnn import build_cnn, find_head
from skaudio.nn.layers import ImageClassifier, init_head

RESERVED_OPTIONS = (
    "in_chans", "num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay",
    "checkpoint_path", "cache_dir",
)  # fmt: skip
MAX_INPUT = 8192  # longest side of a resized spectrogram, in pixels


class PretrainedCNN(SpectrogramClassifier):
    """Classify spectrograms with a convolutional network pretrained on ImageNet.

    Networks pretrained on photographs process spectrograms as images and learn from a few hundred
    clips what randomly initialised networks do not learn from thousands [1]_. All layers are
    fine-tuned, and the loss of every clip is weighted by `sample_weight` and `class_weight`.

    Parameters
    ----------
    backbone : str or callable, default='mobilenetv2_100'
        Name of a timm model, or a callable ``(in_channels, n_classes) -> torch.nn.Module`` whose
        module maps images ``(batch, in_channels, height, width)`` to logits.
    weights : {'imagenet', None}, str or PathLike, default='imagenet'
        'imagenet': timm's weights, downloaded once; None: random; otherwise a ``.safetensors``,
        ``.pth``, ``.pt`` or ``.bin`` file. The first convolution is adapted to the number of input
        channels; a last layer of a different size is replaced by a new one.
    backbone_options : dict or None, default=None
        Further arguments of `timm.create_model`, such as ``{"drop_rate": 0.2}``.
    input_size : (int, int) or None, default=None
        Height and width that spectrograms are resized to, 1 to 8,192. None keeps their size.
    standardize : bool, default=True
        Whether the network scales every channel to mean 0 and standard deviation 1 over the
        training clips.
    freeze : None, 'backbone' or int, default=None
        Layers with frozen weights: none, all but the last, or the first `freeze` stages.
    optimizer : {'adamw', 'adam'}, default='adamw'
        'adam' adds `weight_decay` to the gradient, 'adamw' subtracts it from the weights.
    lr : float, default=1e-3
        Learning rate, > 0.
    backbone_lr : float or None, default=None
        Learning rate of all layers but the last, > 0; None means `lr`.
    frontend_lr : float or None, default=None
        Learning rate of modules that are trained together with the network, such as
        `DiffResResampler`'s, > 0; None means `lr`.
    weight_decay : float, default=1e-2
        Weight decay, >= 0.
    schedule : {'cosine', 'step', None}, default='cosine'
        How the learning rate decreases after the warm-up: to zero along half a cosine, by
        `lr_gamma` every `lr_step_size` epochs, or not at all.
    warmup : float, default=0.25
        Fraction of `max_epochs` in which the learning rate rises to its full value, in [0, 1].
    lr_step_size : int, default=30
        Epochs between two drops of the learning rate, >= 1; for `schedule='step'`.
    lr_gamma : float, default=0.1
        Factor applied at each drop, in (0, 1]; for `schedule='step'`.
    max_epochs : int, default=20
        Number of passes over the training clips, >= 1.
    batch_size : int, default=32
        Clips per step, >= 1.
    label_smoothing : float, default=0.0
        Probability spread evenly over all classes, in [0, 1).
    augment : Augmentation, callable or None, default=None
        Random changes to the clips of every training batch; a callable is equivalent to
        ``Augmentation(custom=callable)``.
    sampling : {'balanced', None}, default=None
        'balanced' draws the clips of an epoch at random, clips of rare classes or labels as often
        as others; None uses every clip once.
    gradient_clip_value : float or None, default=None
        Maximum norm of the gradient over all parameters, > 0; larger gradients are scaled down.
    ema_decay : float or None, default=None
        Decay, in (0, 1), of the exponential moving average of the weights over the training steps;
        predictions use this average instead of the last weights. The decay rises to this value.
        0.99 suits a few hundred steps, 0.999 a few thousand. Not used in `partial_fit`.
    class_weight : dict, 'balanced' or None, default=None
        Class weights in the loss, as in scikit-learn. For an indicator matrix, a dict maps label
        names to factors for clips with that label; 'balanced' gives clips with and without a label
        the same total weight.
    threshold : float or array-like of shape (n_labels,), default=0.5
        Lowest probability at which `predict` assigns a label to a clip, in [0, 1]; used only if `y`
        is an indicator matrix. Can be changed after `fit`; see `skaudio.metrics.f1_thresholds`.
    early_stopping : bool, default=False
        Whether to stop when the loss on held-out clips has not improved by `tol` for
        `n_iter_no_change` epochs, and to restore the best weights.
    validation_fraction : float or None, default=0.1
        Fraction of the training clips to hold out, in (0, 1), stratified by class if the classes
        are large enough; unused if `X_val` is passed to `fit`. None monitors the training loss
        instead.
    n_iter_no_change : int, default=10
        Number of epochs to wait for an improvement, >= 1.
    tol : float, default=1e-4
        Minimum improvement of the loss, >= 0.
    warm_start : bool, default=False
        Whether `fit` continues from the current weights.
    random_state : int, RandomState instance or None, default=None
        Controls initial weights, order of clips, augmentation and dropout. The same seed gives
        bit-identical results, whatever runs in parallel. torch's global generator is not changed.
    device : str, default='auto'
        'auto' selects CUDA, else MPS, else the CPU, each time `fit` or `predict` runs; otherwise
        the name of a torch device, such as 'cuda:1'.
    n_threads : int or None, default=1
        Number of CPU threads for torch, >= 1; None keeps torch's own setting. The number affects
        rounding, so only a fixed number makes the result independent of the machine and of the
        `n_jobs` of a search. Increase it for single fits of large networks on a CPU.
    precision : {'fp32', 'bf16', 'fp16'}, default='fp32'
        Data type of the multiplications in the backbone, in `fit` and `predict`; weights, front end
        and loss stay in float32. 'bf16' is for recent processors and GPUs; 'fp16' is for GPUs and
        scales the loss in training. See docs/benchmarks.md for the speedups.
    compile : bool, default=False
        Whether to compile the backbone with `torch.compile`. Useful for long runs, as the first
        batch takes seconds to minutes. Requires a C++ compiler; results differ by rounding.
        `transform` and the masked pretraining of `MAST` do not use the compiled backbone. Can be
        changed after `fit`.
    callbacks : list of skorch.callbacks.Callback or None, default=None
        Notified of every batch and epoch; each fit uses copies, which are stored in
        ``net_.callbacks_``. For scikit-learn callbacks (1.9 or newer), use `set_callbacks`.
    checkpoint_dir : str, PathLike or None, default=None
        Folder in which `fit` saves its state, so that an identical fit resumes after any
        interruption, with bit-identical results. Any number of fits can share it. A finished fit
        keeps its weights there, and an identical fit loads them. Requires an int as `random_state`
        and cannot be combined with `callbacks`. Not used in `partial_fit`. See the user guide.
    checkpoint_every : int, default=1
        Epochs between two checkpoints, >= 1.
    verbose : int, default=0
        Above 0, print a line per epoch.

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
    MelSpectrogram : Makes the spectrograms.

    Notes
    -----
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

    _shaping = ("backbone", "backbone_options", "input_size", "standardize")

    def __init__(
        self,
        backbone="mobilenetv2_100",
        *,
        weights="imagenet",
        backbone_options=None,
        input_size=None,
        standardize=True,
        freeze=None,
        optimizer="adamw",
        lr=1e-3,
        backbone_lr=None,
        frontend_lr=None,
        weight_decay=1e-2,
        schedule="cosine",
        warmup=0.25,
        lr_step_size=30,
        lr_gamma=0.1,
        max_epochs=20,
        batch_size=32,
        label_smoothing=0.0,
        augment=None,
        sampling=None,
        gradient_clip_value=None,
        ema_decay=None,
        class_weight=None,
        threshold=0.5,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        warm_start=False,
        random_state=None,
        device="auto",
        n_threads=1,
        precision="fp32",
        compile=False,
        callbacks=None,
        checkpoint_dir=None,
        checkpoint_every=1,
        verbose=0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.backbone_options = backbone_options
        self.input_size = input_size
        self.standardize = standardize
        self.freeze = freeze
        self.optimizer = optimizer
        self.lr = lr
        self.backbone_lr = backbone_lr
        self.frontend_lr = frontend_lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.lr_step_size = lr_step_size
        self.lr_gamma = lr_gamma
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.label_smoothing = label_smoothing
        self.augment = augment
        self.sampling = sampling
        self.gradient_clip_value = gradient_clip_value
        self.ema_decay = ema_decay
        self.class_weight = class_weight
        self.threshold = threshold
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.n_threads = n_threads
        self.precision = precision
        self.compile = compile
        self.callbacks = callbacks
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every
        self.verbose = verbose

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not isinstance(self.backbone, str) and not callable(self.backbone):
            raise ParameterError(
                "backbone of PretrainedCNN",
                f"must be the name of a timm model or a callable, got {self.backbone!r}.",
            )
        check_weights(self)
        options = self.backbone_options
        if options is not None and (
            not isinstance(options, dict) or any(name in options for name in RESERVED_OPTIONS)
        ):
            raise ParameterError(
                "backbone_options of PretrainedCNN",
                f"must be None or a dict without {', '.join(RESERVED_OPTIONS)}, got {options!r}.",
            )
        size = self.input_size
        if size is not None and not (
            isinstance(size, list | tuple)
            and len(size) == 2
            and all(is_int(n, 1) and n <= MAX_INPUT for n in size)
        ):
            raise ParameterError(
                "input_size of PretrainedCNN",
                f"must be two ints from 1 to {MAX_INPUT} or None, got {size!r}.",
            )

    def _build_module(
        self,
        standardize: nn.Module,
        image_shape: tuple[int, int, int],
        n_classes: int,
        *,
        pretrained: bool,
    ) -> ImageClassifier:
        backbone = self._build_backbone(image_shape[0], n_classes)
        head = find_head(backbone)
        if pretrained:
            self._fill(backbone, head)
        return ImageClassifier(
            standardize,
            backbone,
            head=head,
            input_size=None if self.input_size is None else tuple(self.input_size),
        )

    def _build_backbone(self, in_channels: int, n_classes: int) -> nn.Module:
        if isinstance(self.backbone, str):
            try:
                return build_cnn(
                    self.backbone,
                    in_channels=in_channels,
                    n_classes=n_classes,
                    options=self.backbone_options,
                )
            except ValueError as err:
                raise ParameterError(
                    "backbone of PretrainedCNN",
                    f"must be a timm model that fits its options: {err}.",
                ) from err
        if self.backbone_options is not None:
            raise ParameterError(
                "backbone_options of PretrainedCNN",
                f"must be None when backbone is a callable, got {self.backbone_options!r}.",
            )
        module = self.backbone(in_channels, n_classes)
        if not isinstance(module, nn.Module):
            raise ParameterError(
                "backbone of PretrainedCNN",
                f"must return a torch.nn.Module, got {type(module).__name__}.",
            )
        return module

    def _fill(self, backbone: nn.Module, head: nn.Module | None) -> None:
        """Load the pretrained weights; a head without them is initialised near zero."""
        named = isinstance(self.backbone, str)
        if self.weights == "imagenet" and not named:
            raise ParameterError(
                "weights of PretrainedCNN",
                "must be None or a file when backbone is a callable, got 'imagenet'.",
            )
        loaded = fill_network(
            self,
            backbone,
            _names_of(backbone, head),
            label=f"backbone={self.backbone!r}",
            timm_name=self.backbone,
            options=self.backbone_options,
        )
        # Without weights, the module that a callable returned is not changed.
        if head is not None and not loaded and (named or self.weights is not None):
            init_head(head)


def _names_of(backbone: nn.Module, head: nn.Module | None) -> set[str]:
    ours: set[int] = set() if head is None else {id(p) for p in head.parameters()}
    return {name for name, p in backbone.named_parameters() if id(p) in ours}
