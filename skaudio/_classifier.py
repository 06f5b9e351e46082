"""What the classifiers share: labels, weights, seed, device, fit, predict, persistence."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skaudio._training import (
    Augmentation,
    ClipDataset,
    channel_statistics,
    draw_validation,
    limited_threads,
    make_net,
    pick_device,
    seeded,
)
from skaudio._validation import (
    check_bool,
    check_choice,
    check_int,
    check_real,
    check_sample_weight,
)
from skaudio.nn.layers import ImageClassifier, Standardize

SEED_LIMIT = np.iinfo(np.int32).max


class SpectrogramClassifier(
    ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Base class of the classifiers; a subclass adds `__init__` and `_build_module`."""

    classes_: np.ndarray
    history_: list[dict[str, Any]]
    n_iter_: int
    input_shape_: tuple[int, int, int]
    _net: Any  # a skorch net, or None after loading until it is first needed
    _shaping: tuple[str, ...]  # parameters that decide which weights the network has

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SpectrogramClassifier:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_clips, n_mels, n_frames) or \
(n_clips, n_channels, n_mels, n_frames)
            Spectrograms; a table ``(n_clips, n_features)`` counts as images of one row.
        y : array-like of shape (n_clips,)
            Labels: strings or numbers, at least two different.
        sample_weight : array-like of shape (n_clips,) or None, default=None
            Weights of the clips in the loss, >= 0. None means one each.

        Returns
        -------
        self : SpectrogramClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If a parameter is out of range; `X`, `y` and `sample_weight` differ in length or hold
            NaN; `y` has one class only; the network does not fit `X`; or training diverges.
        """
        self._check_parameters()
        going_on = self.warm_start and hasattr(self, "classes_")
        X, y = self._check_X_y(X, y, reset=not going_on)
        classes = np.unique(y)
        if going_on and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"y of {type(self).__name__} must have the classes of the earlier fit when "
                f"warm_start=True, {self.classes_.tolist()}, got {classes.tolist()}."
            )
        if len(classes) < 2:
            raise ValueError(
                f"y of {type(self).__name__} must have at least 2 classes, got 1 class: "
                f"{classes.tolist()[0]!r}."
            )
        data = self._dataset(X, y, classes, sample_weight)
        self._train(data, classes, fresh=not going_on, scheduled=True)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> SpectrogramClassifier:
        """Train for one more epoch on these clips, at a constant learning rate.

        Parameters
        ----------
        X, y, sample_weight : as for `fit`
            One chunk of the data, at least two clips; it need not hold every class.
        classes : array-like of shape (n_classes,) or None, default=None
            All classes that will ever occur; needed in the first call only.

        Returns
        -------
        self : SpectrogramClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            As for `fit`, or if `y` holds a label that is not among the classes.
        """
        self._check_parameters()
        first = not hasattr(self, "classes_")
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight of {type(self).__name__} must be a dict or None in partial_fit, "
                f"which does not see all clips, got {self.class_weight!r}."
            )
        if first and classes is None:
            raise ValueError(
                f"classes of {type(self).__name__}.partial_fit must list all classes in the first "
                "call, got None."
            )
        X, y = self._check_X_y(X, y, reset=first)
        known = np.unique(classes) if first else self.classes_
        unknown = np.setdiff1d(y, known)
        if len(unknown):
            raise ValueError(
                f"y of {type(self).__name__}.partial_fit must hold only the classes "
                f"{known.tolist()}, got {unknown.tolist()}."
            )
        data = self._dataset(X, y, known, sample_weight)
        self._train(data, known, fresh=first, scheduled=False)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of every class.

        Parameters
        ----------
        X : array-like
            As for `fit`; the number of frames may differ where the network allows it.

        Returns
        -------
        proba : ndarray of shape (n_clips, n_classes)
            Rows sum to one; columns in the order of `classes_`.
        """
        return torch.softmax(self._logits(X), dim=1).numpy()

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of `predict_proba`, exact for tiny probabilities too."""
        return torch.log_softmax(self._logits(X), dim=1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Most probable label of every clip.

        Parameters
        ----------
        X : array-like
            As for `fit`.

        Returns
        -------
        y : ndarray of shape (n_clips,)
            Values of `classes_`.
        """
        best = self._logits(X).argmax(dim=1).numpy()
        return self.classes_[best]

    def transform(self, X: Any) -> np.ndarray:
        """Embedding of every clip: what enters the last layer.

        Parameters
        ----------
        X : array-like
            As for `fit`.

        Returns
        -------
        embedding : ndarray of shape (n_clips, n_embedding), float32
            Features for any scikit-learn estimator.
        """
        check_is_fitted(self)
        return self._forward("embed", self._check_X(X)).numpy()

    @property
    def net_(self) -> Any:
        """The skorch net; after loading it is rebuilt from plain arrays on first use."""
        check_is_fitted(self)
        if self._net is None:
            self._net = self._rebuild_net()
        return self._net

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classes_")

    def __getstate__(self) -> dict[str, Any]:
        # Plain arrays only: no torch object, optimiser or device of the training machine.
        state = super().__getstate__().copy()
        net = state.pop("_net", None)
        if net is not None:
            state["_arrays"] = {
                name: np.ascontiguousarray(tensor.detach().cpu().numpy())
                for name, tensor in net.module_.state_dict().items()
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_arrays" in state:
            self._net = None

    @abstractmethod
    def _build_module(
        self, standardize: torch.nn.Module, n_classes: int, *, pretrained: bool
    ) -> ImageClassifier:
        """Build the network for images of `input_shape_`, with or without pretrained weights."""

    def _frozen(self, module: ImageClassifier) -> set[str]:
        """Names of parameters of the backbone that are not trained."""
        return set()

    def _check_parameters(self) -> None:
        for name in ("max_epochs", "batch_size", "n_iter_no_change", "lr_step_size"):
            check_int(self, name, low=1)
        check_int(self, "n_threads", low=1, optional=True)
        check_int(self, "verbose", low=0)
        check_real(self, "lr", low=0, low_open=True)
        check_real(self, "backbone_lr", low=0, low_open=True, optional=True)
        for name in ("weight_decay", "mixup", "tol"):
            check_real(self, name, low=0)
        for name in ("warmup", "time_shift", "time_mask", "freq_mask"):
            check_real(self, name, low=0, high=1)
        check_real(self, "lr_gamma", low=0, high=1, low_open=True)
        check_real(self, "label_smoothing", low=0, high=1, high_open=True)
        check_real(self, "validation_fraction", low=0, high=1, low_open=True, high_open=True,
                   optional=True)  # fmt: skip
        check_choice(self, "optimizer", ("adamw", "adam"))
        check_choice(self, "schedule", ("cosine", "step", None))
        for name in ("standardize", "early_stopping", "warm_start"):
            check_bool(self, name)

    def _check_X_y(self, X: Any, y: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(self, X, y, reset=reset, dtype=np.float32, allow_nd=True)
        check_classification_targets(y)
        images = self._as_images(X)
        if reset:
            self.input_shape_ = images.shape[1:]
        self._check_image_shape(images)
        return images, y

    def _check_X(self, X: Any) -> np.ndarray:
        X = validate_data(self, X, reset=False, dtype=np.float32, allow_nd=True)
        images = self._as_images(X)
        self._check_image_shape(images)
        return images

    def _as_images(self, X: np.ndarray) -> np.ndarray:
        if X.ndim > 4:
            raise ValueError(
                f"X of {type(self).__name__} must have 2, 3 or 4 axes (clips, channels, mel bands, "
                f"frames), got shape {X.shape}."
            )
        return X.reshape(len(X), *[1] * (4 - X.ndim), *X.shape[1:])

    def _check_image_shape(self, images: np.ndarray) -> None:
        channels, n_mels, n_frames = self.input_shape_
        if images.shape[1:3] != (channels, n_mels):
            raise ValueError(
                f"X of {type(self).__name__} must have {channels} channel(s) of {n_mels} mel bands "
                f"as in fit, got {images.shape[1]} of {images.shape[2]}."
            )

    def _dataset(
        self, images: np.ndarray, y: np.ndarray, classes: np.ndarray, sample_weight: Any
    ) -> ClipDataset:
        targets = np.eye(len(classes), dtype=np.float32)[np.searchsorted(classes, y)]
        return ClipDataset(images, targets, self._weigh(y, classes, sample_weight))

    def _train(
        self,
        data: ClipDataset,
        classes: np.ndarray,
        *,
        fresh: bool,
        scheduled: bool,
    ) -> None:
        """Train on `data`, from the start or from the present weights."""
        device = self._device()
        rng = self._generator(0 if fresh else self.n_iter_)
        valid = None
        if scheduled and self.early_stopping and self.validation_fraction is not None:
            data, valid = self._hold_out(data, rng)
        mean, std, floor = channel_statistics(data.images)
        augmentation = Augmentation(
            self.time_shift, self.time_mask, self.freq_mask, self.mixup, floor, rng
        )
        seed = int(rng.randint(SEED_LIMIT))
        with seeded(seed, device), limited_threads(self.n_threads):
            if fresh:
                module = self._new_module(mean, std, data.images[:2], len(classes))
            else:
                module = self.net_.module_
            module.freeze(self._frozen(module))
            if fresh or scheduled or self._net.scheduled:
                net = make_net(
                    self,
                    module,
                    device=device,
                    augmentation=augmentation,
                    n_clips=len(data),
                    valid=valid,
                    scheduled=scheduled,
                )
            else:  # one partial_fit after another keeps the optimiser's memory
                net = self._net.set_params(augmentation=augmentation)
            before = len(net.history)
            net.partial_fit(data, None)
        epochs = net.history[before:]
        if not epochs or not np.isfinite(epochs[-1]["train_loss"]):
            raise ValueError(
                f"Training of {type(self).__name__} diverged (the loss is not finite): lower "
                f"lr={self.lr!r} or scale X."
            )
        self._net, self.classes_ = net, classes
        if fresh:
            self._architecture = {name: getattr(self, name) for name in self._shaping}
        self.__dict__.pop("_arrays", None)  # weights of a loaded model, now outdated
        self.history_ = [] if fresh else self.history_
        self.history_ += [_summary(row, len(self.history_) + i) for i, row in enumerate(epochs, 1)]
        self.n_iter_ = len(self.history_)

    def _hold_out(
        self, data: ClipDataset, rng: np.random.RandomState
    ) -> tuple[ClipDataset, ClipDataset | None]:
        held = draw_validation(data.targets.argmax(axis=1), self.validation_fraction, rng)
        if not held.any():
            warnings.warn(
                f"{type(self).__name__} cannot set clips aside for early stopping because every "
                "class has one clip only: it watches the training loss instead.",
                stacklevel=4,
            )
            return data, None
        return data.subset(~held), data.subset(held)

    def _new_module(
        self, mean: torch.Tensor, std: torch.Tensor, images: np.ndarray, n_classes: int
    ) -> ImageClassifier:
        standardize = Standardize(mean, std) if self.standardize else torch.nn.Identity()
        module = self._build_module(standardize, n_classes, pretrained=True).eval()
        shape = tuple(images.shape[1:])
        try:
            with torch.no_grad():
                logits = module(torch.from_numpy(images))
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as err:
            raise ValueError(
                f"The network of {type(self).__name__} cannot process clips of shape {shape} "
                f"(channels, mel bands, frames): {err}"
            ) from err
        if logits.shape != (len(images), n_classes):
            raise ValueError(
                f"The network of {type(self).__name__} must give {n_classes} logits per clip, got "
                f"shape {tuple(logits.shape)} for {len(images)} clips."
            )
        if module.head is not None:
            with torch.no_grad():
                self._n_features_out = module.embed(torch.from_numpy(images[:1])).shape[1]
        return module.to(memory_format=torch.channels_last)

    def _rebuild_net(self) -> Any:
        """The net of a loaded estimator, its weights filled from plain arrays."""
        channels = self.input_shape_[0]
        device = torch.device("cpu")
        with seeded(0, device):
            # As it was fitted, whatever `set_params` has changed since.
            builder = clone(self).set_params(**self._architecture)
            builder.input_shape_ = self.input_shape_
            blank = Standardize(torch.zeros(channels), torch.ones(channels))
            module = builder._build_module(
                blank if builder.standardize else torch.nn.Identity(),
                len(self.classes_),
                pretrained=False,
            )
            tensors = {name: torch.tensor(array) for name, array in self._arrays.items()}
            module.load_state_dict(tensors)
            module.to(memory_format=torch.channels_last)
            return make_net(self, module, device=device)

    def _logits(self, X: Any) -> torch.Tensor:
        check_is_fitted(self)
        return self._forward("__call__", self._check_X(X)).double()

    def _forward(self, method: str, images: np.ndarray) -> torch.Tensor:
        """Results of a method of the network for all clips, batch by batch, on the CPU."""
        device = self._device()
        module = self.net_.module_.to(device).eval()
        parts = []
        with torch.inference_mode(), limited_threads(self.n_threads):
            for start in range(0, len(images), self.batch_size):
                batch = torch.from_numpy(images[start : start + self.batch_size].copy())
                batch = batch.to(device, memory_format=torch.channels_last)
                parts.append(getattr(module, method)(batch).float().cpu())
        return torch.cat(parts)

    def _device(self) -> torch.device:
        try:
            return pick_device(self.device)
        except ValueError as err:
            raise ValueError(
                f"device of {type(self).__name__} must be 'auto' or a device of torch: {err}."
            ) from err

    def _generator(self, epochs_done: int) -> np.random.RandomState:
        # The number of epochs is part of the seed, so that training on continues, not repeats.
        seed = check_random_state(self.random_state).randint(SEED_LIMIT)
        return np.random.RandomState([seed, epochs_done])

    def _weigh(self, y: np.ndarray, classes: np.ndarray, sample_weight: Any) -> np.ndarray:
        """Product of clip and class weights, one on average."""
        weights = check_sample_weight(sample_weight, len(y), self)
        if isinstance(self.class_weight, str) and self.class_weight != "balanced":
            raise ValueError(
                f"class_weight of {type(self).__name__} must be a dict, 'balanced' or None, got "
                f"{self.class_weight!r}."
            )
        per_class = compute_class_weight(self.class_weight, classes=classes, y=y)
        weights = weights * per_class[np.searchsorted(classes, y)]
        return (weights / weights.mean()).astype(np.float32)


def _summary(row: dict[str, Any], epoch: int) -> dict[str, Any]:
    """What `history_` keeps of an epoch: no clock times, so that equal runs give equal files."""
    names = ("train_loss", "valid_loss", "valid_accuracy")
    return {"epoch": epoch} | {name: float(row[name]) for name in names if name in row}
