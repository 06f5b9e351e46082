"""TrainedNetwork: the network behind a classifier: built, trained, applied and saved."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from skaudio._checks import SEED_LIMIT, ParameterError, abbreviate, random_generator
from skaudio._warning import warn
from skaudio.classifiers._labels import task_named
from skaudio.classifiers.training._augmentation import Augmenter, as_augmentation
from skaudio.classifiers.training._callbacks import USERS
from skaudio.classifiers.training._checkpoint import Checkpoint, check_front_ends
from skaudio.classifiers.training._fit_digest import digest_of_fit
from skaudio.classifiers.training._loop import compile_errors, continue_optimizer, make_net
from skaudio.classifiers.training._task import TrainingTask, draw_validation
from skaudio.nn._data import ClipDataset, channel_statistics
from skaudio.nn._device import (
    AMP_DTYPES,
    device_of,
    is_out_of_memory,
    limited_threads,
    memory_errors,
    place,
    seeded,
)
from skaudio.nn._plain import (
    blank_weights,
    fill_blank,
    limited_parts,
    make_front_end,
    plain_arrays,
    plain_eps,
    plain_front_end,
)
from skaudio.nn._running_statistics import RunningStatistics
from skaudio.nn.cnn import stages
from skaudio.nn.frontend import FrontEndChain
from skaudio.nn.layers import ImageClassifier, Standardize

# Sides of images before a network, pixels of one in it, numbers in options of a backbone.
MAX_SIDE, MAX_PIXELS, MAX_OPTION = 2**24, 2**22, 2**17


class TrainedNetwork(BaseEstimator):
    """Base class of what owns a network; knows images and targets, but neither `X` nor labels."""

    classes_: np.ndarray
    history_: list[dict[str, Any]]
    n_iter_: int
    input_shape_: tuple[int, int, int]
    _label_names: np.ndarray
    _multi_label: bool
    _blueprint: dict[str, Any]
    _augmentations: dict[str, dict[str, float]] = {}  # what `augment` may be by name
    _net: Any  # a skorch net, or None after loading until it is first needed
    _shaping: tuple[str, ...]  # parameters that decide which weights the network has

    @property
    def net_(self) -> Any:
        """The skorch net; after loading it is rebuilt from plain arrays on first use."""
        check_is_fitted(self)
        net = self._net
        if net is None or net.compiled != self.compile:
            net = self._renew_net()
        return net

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

    def blueprint(self) -> dict[str, Any]:
        """Describe the network without its weights.

        Returns
        -------
        blueprint : dict
            Plain values: ``architecture``, the parameters that decide which weights there are, as
            they were in `fit`; ``image_shape``, channels, mel bands and frames behind the front
            end; ``front_end``, names and settings of the modules before the network; ``n_labels``;
            and ``eps``, what normalisation layers add to variances.
        """
        check_is_fitted(self)
        return copy.deepcopy(self._blueprint)

    def from_blueprint(self, blueprint: dict[str, Any], device: str = "cpu") -> ImageClassifier:
        """Build a network.

        Parameters
        ----------
        blueprint : dict
            As from `blueprint`.
        device : str, default='cpu'
            A device of torch. On ``'meta'`` weights take no memory.

        Returns
        -------
        module : nn.Module
            Without pretrained weights. This estimator stays as it is.

        Raises
        ------
        ValueError
            If there is no such network.
        """
        # As it was fitted, whatever `set_params` has changed since.
        builder: Any = clone(self).set_params(**blueprint["architecture"])
        shape = blueprint["image_shape"]
        with blank_weights() if device == "meta" else torch.device(device):
            blank = Standardize(torch.zeros(shape[0]), torch.ones(shape[0]))
            module = builder._build_module(
                blank if builder.standardize else torch.nn.Identity(),
                shape,
                blueprint["n_labels"],
                pretrained=False,
            )
            module.frontend = FrontEndChain(
                make_front_end(kind, config) for kind, config in blueprint["front_end"]
            )
        for name, eps in blueprint["eps"].items():
            module.get_submodule(name).eps = eps
        return module

    def _check_state(self, *, build: bool = True) -> None:
        """Check what a network consists of that was read from a file, and build it.

        Parameters
        ----------
        build : bool, default=True
            Whether to build it, which happens only if it has the size of its weights.

        Raises
        ------
        ValueError
            If its state contradicts itself, or is that of no network.
        """
        name, plan, names = type(self).__name__, self._blueprint, self._label_names
        architecture, shape, eps = plan["architecture"], plan["image_shape"], plan["eps"]
        if not (
            isinstance(names, np.ndarray)
            and names.shape == (plan["n_labels"],)
            and isinstance(self._multi_label, bool)
            and set(architecture) <= set(self._shaping)
            and all(isinstance(array, np.ndarray) for array in self._arrays.values())
            and all(isinstance(number, float) and 0 <= number <= 1 for number in eps.values())
            and len(shape) == 3
            and all(type(n) is int and 0 < n <= MAX_SIDE for n in shape)
        ):
            raise ValueError(f"what its {name} was trained on is not described")
        labels = task_named(names, self._multi_label)
        if not np.array_equal(np.asarray(self.classes_), np.asarray(labels.classes)):
            raise ValueError(f"classes_ of its {name} are not its label names")
        try:
            builder: Any = clone(self).set_params(**architecture)
            builder._check_parameters()
            size = architecture.get("input_size") or (1, 1)
            small = all(number <= MAX_OPTION for number in _numbers(architecture))
            if not small or np.prod(size) > MAX_PIXELS:
                raise ValueError(f"it is larger than any model: {abbreviate(architecture)}")
            if not isinstance(getattr(builder, "backbone", ""), str):
                raise ValueError(f"backbone must be a name, got {builder.backbone!r}")
            if build:
                with limited_parts(self._arrays):
                    self.net_  # noqa: B018  (built from plain arrays)
        except Exception as err:  # whatever timm, torch or scikit-learn make of crafted values
            raise ValueError(f"the network of its {name} cannot be built: {err}") from err

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

    def _shape_of(self, module: ImageClassifier) -> dict[str, Any]:
        """Parameters that build this network again, also where their defaults are others."""
        return {name: getattr(self, name) for name in self._shaping}

    def _stages(self, module: ImageClassifier) -> list[list[str]]:
        """Names of the parameters of each stage of the backbone, without the head."""
        return stages(module.backbone)

    def _frozen(self, module: ImageClassifier) -> set[str]:
        """Names of parameters of the backbone that are not trained."""
        owner = type(self).__name__
        for name in ("freeze", "backbone_lr"):
            if getattr(self, name) is not None and module.head is None:
                raise ParameterError(
                    f"{name} of {owner}",
                    f"must be None for a backbone without torch.nn.Linear as its "
                    f"last layer, got {getattr(self, name)!r}.",
                )
        if self.freeze is None:
            return set()
        groups = self._stages(module)
        count = len(groups) if self.freeze == "backbone" else int(self.freeze)
        if count > len(groups):
            raise ParameterError(
                f"freeze of {owner}",
                f"must be at most {len(groups)}, the number of stages of its "
                f"network, got {self.freeze!r}.",
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

    def _train(self, task: TrainingTask) -> KeyboardInterrupt | None:
        """Train a fresh network, or the present one, on clips.

        Gives the interrupt that ended it, if the estimator is fitted all the same.
        """
        device = device_of(self)
        if task.fresh and task.scheduled:
            check_front_ends(self, task.frontend)
        rng = self._generator(0 if task.fresh else self.n_iter_)
        if task.scheduled and self.early_stopping and self.validation_fraction is not None:
            task = self._hold_out(task, rng)
        seed = int(rng.randint(SEED_LIMIT))
        drawn = RunningStatistics.draw(
            task.data, np.random.RandomState(seed), batch_size=self.batch_size,
            balanced=self.sampling == "balanced",
        )  # fmt: skip
        task = replace(task, statistics=drawn)
        with seeded(seed, device), limited_threads(self.n_threads):
            augmenter = self._augmenter(task, rng)
            if task.fresh:
                module = self._new_module(task)
            else:  # a copy, so that training that fails leaves the present weights as they are
                module = copy.deepcopy(self.net_.module_.with_frontend(task.frontend)).cpu()
            task = self._begin(task, module, rng, device)
            module.freeze(self._frozen(module))
            settings = self._parameter_settings(module)
            net = make_net(self, module, settings, device=device, task=task, augmenter=augmenter)
            if not (task.fresh or task.scheduled or self._net.scheduled):
                continue_optimizer(net, self._net)  # one partial_fit after another
            try:
                self._run(net, task.data)
                if task.checkpoint is not None:
                    task.checkpoint.finish(net)
                self._finish(net, task)
            except KeyboardInterrupt as interrupt:
                if not net.go_back():
                    raise
                self._finish(net, task)
                return interrupt
        return None

    def _begin(
        self, task: TrainingTask, module: ImageClassifier, rng: Any, device: torch.device
    ) -> TrainingTask:
        """Look for a checkpoint, and do what comes before the first epoch unless it is there."""
        if self.checkpoint_dir is not None and task.scheduled:
            fit = digest_of_fit(self, module, task, rng, device)
            task = replace(task, checkpoint=Checkpoint(self, fit))
        if task.start is None:
            return task
        found = task.checkpoint
        if found is not None and found.state is not None:
            started = found.started
        else:
            started = task.start(module.to(device), task, rng)
        if found is not None:
            found.started = started
        for name, value in started.items():
            setattr(self, name, value)
        return task

    def _finish(self, net: Any, task: TrainingTask) -> None:
        """Make of a trained net a fitted estimator."""
        self._settle(net, task)
        net.module_.eval()  # looking at the front end must not move its statistics
        self.__dict__.pop("_arrays", None)  # weights of a loaded model, now outdated
        for name, value in self._attributes(net, net.history, task).items():
            setattr(self, name, value)
        # What would keep the training clips alive; the user's callbacks may be looked at.
        net.train_split = net.callbacks = None
        net.callbacks_ = [pair for pair in net.callbacks_ if pair[0].startswith(USERS)]

    def _attributes(self, net: Any, history: Any, task: TrainingTask) -> dict[str, Any]:
        """What a fitted estimator consists of, besides what `_new_module` has set."""
        earlier = [] if task.fresh else self.history_
        rows = enumerate(history, len(earlier) + 1)
        return {
            "_net": net,
            "_label_names": task.labels.names,
            "_multi_label": task.labels.multi_label,
            "classes_": task.labels.classes,
            "_blueprint": self._describe(net.module_, task),
            "history_": (past := earlier + [_summary(row, epoch) for epoch, row in rows]),
            "n_iter_": len(past),
        }

    def _describe(self, module: ImageClassifier, task: TrainingTask) -> dict[str, Any]:
        """The blueprint of a network that was trained."""
        front_end = [plain_front_end(part) for part in module.frontend.parts()]
        first: dict[str, Any] = {
            "architecture": self._shape_of(module),
            "image_shape": module.frontend.output_shape(self.input_shape_),
            "n_labels": len(task.labels.names),
        }
        kept = first if task.fresh else self._blueprint
        return {**kept, "front_end": front_end, "eps": plain_eps(module)}

    def _attributes_so_far(self, net: Any, task: TrainingTask) -> dict[str, Any]:
        """The same in the middle of training; later steps do not change them."""
        module = copy.deepcopy(net.module_).eval()
        viewer = copy.copy(self)
        viewer.compile = False  # for a look it is not worth it
        settings = self._parameter_settings(module)
        blank = make_net(viewer, module, settings, device=torch.device(net.device))
        return {**self._attributes(blank, net.history, task), "compile": False}

    def _augmenter(self, task: TrainingTask, rng: np.random.RandomState) -> Augmenter:
        how = as_augmentation(self)
        fill = None
        if how.masks:  # the lowest value of the spectrograms, channel by channel
            parts = task.frontend.waveform_parts()
            fill = channel_statistics(task.data.clips(parts, device_of(self)))[2]
        return Augmenter(how, fill, rng)

    def _run(self, net: Any, data: ClipDataset) -> None:
        with compile_errors(self):
            try:
                net.partial_fit(data, None)
            except ValueError as err:
                if min(self.batch_size, len(data)) > 1:
                    raise
                raise ValueError(  # normalisation of a single clip without extent
                    f"Training of {type(self).__name__} failed with batch_size={self.batch_size} "
                    f"on {len(data)} clip(s): {err}."
                ) from err
        if not net.history or not np.isfinite(net.history[-1]["train_loss"]):
            raise ValueError(
                f"Training of {type(self).__name__} diverged (the loss is not finite): lower "
                f"lr={self.lr!r} or scale X."
            )

    def _settle(self, net: Any, task: TrainingTask) -> None:
        """Give normalisation layers the statistics of the training clips, weights at rest."""
        assert task.statistics is not None
        module, device = net.module_, torch.device(net.device)
        if task.scheduled or task.fresh:
            task.statistics.settle(module, device)
        else:  # one chunk of `partial_fit` does not stand for those before it
            earlier = self.net_.module_.with_frontend(task.frontend).state_dict()
            n_steps = len(net.history[-1]["batches"])
            task.statistics.settle(module, device, earlier=earlier, n_steps=n_steps)

    def _hold_out(self, task: TrainingTask, rng: np.random.RandomState) -> TrainingTask:
        """Set clips aside for validation, unless the user gave some."""
        if task.valid is not None:
            return task
        data, groups = task.data, task.groups
        held = data.has_weight()  # clips without weight can validate nothing
        own = None if groups is None else groups[held]
        held[held] = draw_validation(data.rarest()[held], self.validation_fraction, rng, own)
        held = data.keep_labels(held, groups)
        if not held.any():
            reason = "has one clip only" if groups is None else "lies in one group"
            warn(
                f"{type(self).__name__} cannot set clips aside for early stopping because every "
                f"class {reason}: it watches the training loss instead."
            )
            return task
        return replace(task, data=data.subset(~held), valid=data.subset(held))

    def _new_module(self, task: TrainingTask) -> ImageClassifier:
        data, n_classes = task.data, len(task.labels.names)
        frontend = copy.deepcopy(task.frontend)
        mean, std, _ = channel_statistics(data.clips(through=frontend, device=device_of(self)))
        images, _ = data[np.arange(min(2, len(data)))]
        standardize = Standardize(mean, std) if self.standardize else torch.nn.Identity()
        image_shape = frontend.output_shape(self.input_shape_)
        module = self._build_module(standardize, image_shape, n_classes, pretrained=True)
        module.frontend = frontend.cpu()
        module.eval()
        shape = tuple(images.shape[1:])
        try:
            with torch.no_grad():
                logits = module(images)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as err:
            if is_out_of_memory(err):
                raise
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

    def _renew_net(self) -> Any:
        """Rebuild the net after loading, or after `set_params(compile=...)`.

        By the first of several threads that need it; the others find it when their turn comes.
        Also amid a prediction, where its weights would be such as cannot be trained.
        """
        here = torch.device("cpu")
        with seeded(0, here), limited_threads(self.n_threads), torch.inference_mode(False):
            net = self._net
            if net is not None and net.compiled != self.compile:
                self._arrays, net = plain_arrays(net.module_), None
            if net is None:
                net = self._net = self._rebuild_net()
            return net

    def _rebuild_net(self) -> Any:
        """The net of a loaded estimator, its weights filled from plain arrays."""
        module = self._filled("meta")
        # What is no weight, such as a constant that a layer keeps, was not computed there.
        held = [
            v for part in module.modules() for v in (*vars(part).values(), *part.buffers(False))
        ]
        if any(isinstance(value, torch.Tensor) and value.is_meta for value in held):
            module = self._filled("cpu")
        module.to(memory_format=torch.channels_last)
        settings = self._parameter_settings(module)
        return make_net(self, module, settings, device=torch.device("cpu"))

    def _filled(self, device: str) -> ImageClassifier:
        """The network with the weights of a loaded estimator.

        On 'meta' no weights are drawn only to be written over; a backbone that a function makes
        may not know that device.
        """
        named = isinstance(getattr(self, "backbone", ""), str)
        module = self.from_blueprint(self._blueprint, device if named else "cpu")
        fill_blank(module, self._arrays)
        return module

    def _forward(self, method: str, images: np.ndarray, frontend: FrontEndChain) -> np.ndarray:
        """Results of a method of the network for all clips, batch by batch, in float32.

        What is made of them is left to numpy: a computation of torch outside of this block would
        start its threads, and processes that are forked later would wait for them for ever.
        """
        device = device_of(self)
        self._rules["precision"].check("precision", self.precision, type(self).__name__)
        parts = []
        with (
            memory_errors(self, "predict"),
            torch.inference_mode(),
            limited_threads(self.n_threads),
            compile_errors(self),
        ):
            module = place(self.net_.module_, device).with_frontend(place(frontend, device))
            module.amp_dtype = AMP_DTYPES[self.precision]
            for start in range(0, len(images), self.batch_size):
                batch = torch.from_numpy(images[start : start + self.batch_size].copy())
                parts.append(getattr(module, method)(batch.to(device)).float().cpu().numpy())
        return np.concatenate(parts)

    def _generator(self, epochs_done: int) -> np.random.RandomState:
        # The number of epochs is part of the seed, so that training on continues, not repeats.
        seed = random_generator(self.random_state, type(self).__name__).randint(SEED_LIMIT)
        return np.random.RandomState([seed, epochs_done])


def _numbers(value: Any) -> Iterator[float]:
    """Absolute values of all numbers in lists, tuples and dicts."""
    if isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)
    elif isinstance(value, Real):
        yield abs(float(value))


def _summary(row: dict[str, Any], epoch: int) -> dict[str, Any]:
    """What `history_` keeps of an epoch: no clock times, so that equal runs give equal files."""
    return {"epoch": epoch} | {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, Real)
        and not isinstance(value, bool)
        and not name.endswith("_batch_count")
        and name not in ("epoch", "dur")
    }
