"""TrainedNetwork: the network behind a classifier: built, trained, applied and saved."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch.optim.swa_utils import update_bn

from skaudio._clip_dataset import (
    ClipDataset,
    channel_statistics,
    draw_validation,
    random_batches,
)
from skaudio._device import AMP_DTYPES, device_of, limited_threads, seeded
from skaudio._differentiable import plain_arrays
from skaudio._training import Augmentation, compile_errors, continue_optimizer, make_net
from skaudio._validation import check_choice
from skaudio.nn.cnn import stages
from skaudio.nn.frontend import FrontEndChain
from skaudio.nn.layers import ImageClassifier, Standardize

Start = Callable[[Any, ClipDataset, np.random.RandomState], None]
SEED_LIMIT = np.iinfo(np.int32).max


class TrainedNetwork(BaseEstimator):
    """Base class of what owns a network; knows images and targets, but neither `X` nor labels."""

    classes_: np.ndarray
    history_: list[dict[str, Any]]
    n_iter_: int
    input_shape_: tuple[int, int, int]
    _net: Any  # a skorch net, or None after loading until it is first needed
    _shaping: tuple[str, ...]  # parameters that decide which weights the network has

    @property
    def net_(self) -> Any:
        """The skorch net; after loading it is rebuilt from plain arrays on first use."""
        check_is_fitted(self)
        if self._net is not None and self._net.compiled != self.compile:  # `set_params` was called
            self._arrays = plain_arrays(self._net.module_)
            self._net = None
        if self._net is None:
            self._net = self._rebuild_net()
        return self._net

    @property
    def frontend_(self) -> FrontEndChain:
        """The trained copies of the modules that came with `X`; empty where none came."""
        return self.net_.module_.frontend

    def __getstate__(self) -> dict[str, Any]:
        # Plain arrays only: no torch object, optimiser or device of the training machine.
        state = super().__getstate__().copy()
        net = state.pop("_net", None)
        if net is not None:
            state["_arrays"] = plain_arrays(net.module_)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_arrays" in state:
            self._net = None

    @abstractmethod
    def _build_module(
        self,
        standardize: torch.nn.Module,
        image_shape: tuple[int, int, int],
        n_classes: int,
        *,
        pretrained: bool,
    ) -> ImageClassifier:
        """Build the network without front end, with or without pretrained weights.

        Only parameters and the arguments may decide what is built: it is called again after
        loading. `image_shape` is channels, mel bands and frames behind the front end.
        """

    def _stages(self, module: ImageClassifier) -> list[list[str]]:
        """Names of the parameters of each stage of the backbone, without the head."""
        return stages(module.backbone)

    def _frozen(self, module: ImageClassifier) -> set[str]:
        """Names of parameters of the backbone that are not trained."""
        owner = type(self).__name__
        for name in ("freeze", "backbone_lr"):
            if getattr(self, name) is not None and module.head is None:
                raise ValueError(
                    f"{name} of {owner} must be None for a backbone without torch.nn.Linear as its "
                    f"last layer, got {getattr(self, name)!r}."
                )
        if self.freeze is None:
            return set()
        groups = self._stages(module)
        count = len(groups) if self.freeze == "backbone" else int(self.freeze)
        if count > len(groups):
            raise ValueError(
                f"freeze of {owner} must be at most {len(groups)}, the number of stages of its "
                f"network, got {self.freeze!r}."
            )
        return {name for group in groups[:count] for name in group}

    def _parameter_settings(self, module: ImageClassifier) -> dict[str, dict[str, float]]:
        """Learning rate and weight decay of every parameter."""
        head = module.head_parameters()

        def rate(name: str) -> float:
            if name in head:
                return self.lr
            own = self.frontend_lr if name.startswith("frontend.") else self.backbone_lr
            return self.lr if own is None else own

        return {
            name: {"lr": rate(name), "weight_decay": self.weight_decay}
            for name, _ in module.named_parameters()
        }

    def _train(
        self,
        data: ClipDataset,
        classes: np.ndarray,
        frontend: FrontEndChain,
        *,
        fresh: bool,
        scheduled: bool,
        start: Start | None = None,
    ) -> None:
        """Train on `data`, from the start or from the present weights.

        `start` is done to a fresh network on its device before anything else.
        """
        device = device_of(self)
        rng = self._generator(0 if fresh else self.n_iter_)
        valid = None
        if scheduled and self.early_stopping and self.validation_fraction is not None:
            data, valid = self._hold_out(data, rng)
        augmentation = Augmentation(
            self.time_shift,
            self.time_mask,
            self.freq_mask,
            self.mixup,
            self._silence(data, frontend) if self.time_mask > 0 or self.freq_mask > 0 else None,
            rng,
        )
        seed = int(rng.randint(SEED_LIMIT))
        with seeded(seed, device), limited_threads(self.n_threads):
            if fresh:
                module = self._new_module(data, len(classes), copy.deepcopy(frontend))
                if start is not None:
                    start(module.to(device), data, rng)
            else:  # a copy, so that training that fails leaves the present weights as they are
                module = copy.deepcopy(self.net_.module_.with_frontend(frontend))
            module.freeze(self._frozen(module))
            net = make_net(
                self,
                module,
                self._parameter_settings(module),
                device=device,
                augmentation=augmentation,
                n_clips=len(data),
                valid=valid,
                scheduled=scheduled,
            )
            if not (fresh or scheduled or self._net.scheduled):
                continue_optimizer(net, self._net)  # one partial_fit after another
            self._run(net, data)
            net.train_split = None  # it would keep the training clips alive
            if scheduled:  # one chunk of `partial_fit` does not stand for all clips
                self._settle(net.module_.frontend, data, seed)
        net.module_.eval()  # looking at the front end must not move its statistics
        self._net, self.classes_ = net, classes
        if fresh:
            self._architecture = {name: getattr(self, name) for name in self._shaping}
        self._frontend_plain = [(type(part), part.config()) for part in net.module_.frontend]
        self.__dict__.pop("_arrays", None)  # weights of a loaded model, now outdated
        self.history_ = [] if fresh else self.history_
        rows = enumerate(net.history, len(self.history_) + 1)
        self.history_ += [_summary(row, epoch) for epoch, row in rows]
        self.n_iter_ = len(self.history_)

    def _silence(self, data: ClipDataset, frontend: FrontEndChain) -> torch.Tensor:
        """The lowest value of the spectrograms, channel by channel."""
        spectrograms = data.clips(frontend.waveform_parts(), device_of(self))
        return channel_statistics(spectrograms)[2]

    def _run(self, net: Any, data: ClipDataset) -> None:
        with compile_errors(self):
            try:
                net.partial_fit(data, None)
            except ValueError as err:  # normalisation of a single clip without extent
                raise ValueError(
                    f"Training of {type(self).__name__} failed with batch_size={self.batch_size} "
                    f"on {len(data)} clip(s): {err}."
                ) from err
        if not net.history or not np.isfinite(net.history[-1]["train_loss"]):
            raise ValueError(
                f"Training of {type(self).__name__} diverged (the loss is not finite): lower "
                f"lr={self.lr!r} or scale X."
            )

    def _settle(self, frontend: FrontEndChain, data: ClipDataset, seed: int) -> None:
        """Take the front end's normalisation statistics anew from all clips, weights at rest.

        Running averages stem from the last few batches, seen through weights that still moved, and
        the error adds up over the layers of an estimator that decides where frames end.
        """
        # Random, so that every batch has all classes, and the same however many epochs there were.
        batches = random_batches(len(data), self.batch_size, np.random.RandomState(seed))
        update_bn((data[batch][0] for batch in batches), frontend, device_of(self))

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
        self, data: ClipDataset, n_classes: int, frontend: FrontEndChain
    ) -> ImageClassifier:
        mean, std, _ = channel_statistics(data.clips(through=frontend, device=device_of(self)))
        images, _ = data[np.arange(min(2, len(data)))]
        standardize = Standardize(mean, std) if self.standardize else torch.nn.Identity()
        self._image_shape = frontend.output_shape(self.input_shape_)
        module = self._build_module(standardize, self._image_shape, n_classes, pretrained=True)
        module.frontend = frontend.cpu()
        module.eval()
        shape = tuple(images.shape[1:])
        try:
            with torch.no_grad():
                logits = module(images)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as err:
            raise ValueError(
                f"The network of {type(self).__name__} cannot process clips of shape {shape} "
                f"(channels, mel bands, frames): {err}"
            ) from err
        if not isinstance(logits, torch.Tensor) or logits.shape != (len(images), n_classes):
            got = getattr(logits, "shape", type(logits).__name__)
            raise ValueError(
                f"The network of {type(self).__name__} must give {n_classes} logits per clip, got "
                f"{got if isinstance(got, str) else f'shape {tuple(got)}'} for {len(images)} clips."
            )
        self.__dict__.pop("_embedding_size", None)
        if module.head is not None:
            with torch.no_grad():
                self._embedding_size = module.embed(images[:1]).shape[1]
        return module.to(memory_format=torch.channels_last)

    def _rebuild_net(self) -> Any:
        """The net of a loaded estimator, its weights filled from plain arrays."""
        device = torch.device("cpu")
        with seeded(0, device):
            # As it was fitted, whatever `set_params` has changed since.
            builder = clone(self).set_params(**self._architecture)
            frontend = FrontEndChain(kind(**config) for kind, config in self._frontend_plain)
            channels = self._image_shape[0]
            blank = Standardize(torch.zeros(channels), torch.ones(channels))
            module = builder._build_module(
                blank if builder.standardize else torch.nn.Identity(),
                self._image_shape,
                len(self.classes_),
                pretrained=False,
            )
            module.frontend = frontend
            tensors = {name: torch.tensor(array) for name, array in self._arrays.items()}
            module.load_state_dict(tensors)
            module.to(memory_format=torch.channels_last)
            return make_net(self, module, self._parameter_settings(module), device=device)

    def _forward(self, method: str, images: np.ndarray, frontend: FrontEndChain) -> torch.Tensor:
        """Results of a method of the network for all clips, batch by batch, on the CPU."""
        device = device_of(self)
        check_choice(self, "precision", tuple(AMP_DTYPES))
        module = self.net_.module_.to(device).eval().with_frontend(frontend.to(device).eval())
        module.amp_dtype = AMP_DTYPES[self.precision]
        parts = []
        with torch.inference_mode(), limited_threads(self.n_threads), compile_errors(self):
            for start in range(0, len(images), self.batch_size):
                batch = torch.from_numpy(images[start : start + self.batch_size].copy())
                parts.append(getattr(module, method)(batch.to(device)).float().cpu())
        return torch.cat(parts)

    def _generator(self, epochs_done: int) -> np.random.RandomState:
        # The number of epochs is part of the seed, so that training on continues, not repeats.
        seed = check_random_state(self.random_state).randint(SEED_LIMIT)
        return np.random.RandomState([seed, epochs_done])


def _summary(row: dict[str, Any], epoch: int) -> dict[str, Any]:
    """What `history_` keeps of an epoch: no clock times, so that equal runs give equal files."""
    names = ("train_loss", "valid_loss", "valid_accuracy")
    return {"epoch": epoch} | {name: float(row[name]) for name in names if name in row}
