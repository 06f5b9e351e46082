"""TrainedNetwork: builds, trains, applies and saves the network of an estimator."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from skaudio._checks import SEED_LIMIT, ParameterError, abbreviate, random_generator
from skaudio._warning import warn
from skaudio.classifiers._labels import Task
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

# Limits: side of an input, pixels of an input after resizing, numbers in options of a backbone.
MAX_SIDE, MAX_PIXELS, MAX_OPTION = 2**24, 2**22, 2**17


class TrainedNetwork(BaseEstimator):
    """Base class that owns a network; it processes images and targets, not `X` and labels."""

    history_: list[dict[str, Any]]
    n_iter_: int
    input_shape_: tuple[int, int, int]
    _label_names: np.ndarray
    _blueprint: dict[str, Any]
    _augmentations: dict[str, dict[str, float]] = {}  # named values of `augment`
    _net: Any  # a skorch net, or None after loading until its first use
    _shaping: tuple[str, ...]  # parameters that determine which weights the network has

    @property
    def net_(self) -> Any:
        """The skorch net; after loading, it is rebuilt from plain arrays on first use."""
        check_is_fitted(self)
        net = self._net
        if net is None or net.compiled != self.compile:
            net = self._renew_net()
        return net

    @property
    def frontend_(self) -> FrontEndChain:
        """The trained copies of the modules passed along with `X`; empty if there were none."""
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
            Plain values: ``architecture``, the parameters that determine which weights there are,
            as they were in `fit`; ``image_shape``, channels, mel bands and frames after the front
            end; ``front_end``, names and settings of the modules before the network; ``n_labels``;
            and ``eps``, the constants that normalisation layers add to variances.
        """
        check_is_fitted(self)
        return copy.deepcopy(self._blueprint)

    def from_blueprint(self, blueprint: dict[str, Any], device: str = "cpu") -> ImageClassifier:
        """Build a network from its blueprint.

        Parameters
        ----------
        blueprint : dict
            The output of `blueprint`.
        device : str, default='cpu'
            A torch device. On ``'meta'``, weights take no memory.

        Returns
        -------
        module : nn.Module
            The network without pretrained weights. This estimator is not changed.

        Raises
        ------
        ValueError
            If the blueprint does not describe a valid network.
        """
        # With the parameters of `fit`, even if `set_params` has changed them since.
        builder: Any = clone(self).set_params(**blueprint["architecture"])
        shape = blueprint["image_shape"]
        with blank_weights() if device == "meta" else torch.device(device):
            module = builder._build_module(
                builder._input_layer(shape[0]), shape, blueprint["n_labels"], pretrained=False
            )
            module.frontend = FrontEndChain(
                make_front_end(kind, config) for kind, config in blueprint["front_end"]
            )
        for name, eps in blueprint["eps"].items():
            module.get_submodule(name).eps = eps
        return module

    def _check_state(self, *, build: bool = True) -> None:
        """Check the state of a network that was read from a file, and build the network.

        Parameters
        ----------
        build : bool, default=True
            Whether to build it; this is done only if its size matches its weights.

        Raises
        ------
        ValueError
            If the state is inconsistent or does not describe a network.
        """
        name, plan, names = type(self).__name__, self._blueprint, self._label_names
        architecture, shape, eps = plan["architecture"], plan["image_shape"], plan["eps"]
        if not (
            isinstance(names, np.ndarray)
            and names.shape == (plan["n_labels"],)
            and set(architecture) <= set(self._shaping)
            and all(isinstance(array, np.ndarray) for array in self._arrays.values())
            and all(isinstance(number, float) and 0 <= number <= 1 for number in eps.values())
            and len(shape) == 3
            and all(type(n) is int and 0 < n <= MAX_SIDE for n in shape)
        ):
            raise ValueError(f"the description of its {name} is not valid")
        for attribute, value in self._labels.attributes().items():
            given = getattr(self, attribute)
            if type(given) is not type(value) or not np.array_equal(given, value):
                raise ValueError(f"{attribute} of its {name} does not match its label names")
        try:
            builder: Any = clone(self).set_params(**architecture, weights=None)
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
        except Exception as err:  # timm, torch or scikit-learn may raise any error
            raise ValueError(f"the network of its {name} cannot be built: {err}") from err

    @property
    @abstractmethod
    def _labels(self) -> Task:
        """The task of a fitted estimator, from the attributes that `Task.attributes` returns."""

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

        The result may depend only on the parameters and the arguments, because the method is called
        again after loading. `image_shape` is channels, mel bands and frames after the front end.
        """

    def _shape_of(self, module: ImageClassifier) -> dict[str, Any]:
        """Return the parameters that rebuild this network, even if their defaults change."""
        return {name: getattr(self, name) for name in self._shaping}

    def _stages(self, module: ImageClassifier) -> list[list[str]]:
        """Return the names of the parameters of each stage of the backbone, without the head."""
        return stages(module.backbone)

    def _frozen(self, module: ImageClassifier) -> set[str]:
        """Return the names of the backbone parameters that are not trained."""
        owner = type(self).__name__
        for name in ("freeze", "backbone_lr"):
            if getattr(self, name) is not None and module.head is None:
                raise ParameterError(
                    f"{name} of {owner}",
                    f"must be None for a backbone whose last layer is not a "
                    f"torch.nn.Linear, got {getattr(self, name)!r}.",
                )
        if self.freeze is None:
            return set()
        groups = self._stages(module)
        count = len(groups) if self.freeze == "backbone" else int(self.freeze)
        if count > len(groups):
            raise ParameterError(
                f"freeze of {owner}",
                f"must be at most {len(groups)}, the number of stages of the "
                f"network, got {self.freeze!r}.",
            )
        return {name for group in groups[:count] for name in group}

    def _parameter_settings(self, module: ImageClassifier) -> dict[str, dict[str, float]]:
        """Return the learning rate and weight decay of every parameter."""
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
        """Train a new network, or the current one, on clips.

        Returns the interrupt that ended training if the estimator is fitted nevertheless.
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
            balanced=task.labels.balanced(self),
        )  # fmt: skip
        task = replace(task, statistics=drawn)
        with seeded(seed, device), limited_threads(self.n_threads):
            augmenter = self._augmenter(task, rng)
            if task.fresh:
                module = self._new_module(task)
            else:  # a copy, so that failed training does not change the current weights
                module = copy.deepcopy(self.net_.module_.with_frontend(task.frontend)).cpu()
            task = self._begin(task, module, rng, device)
            module.freeze(self._frozen(module))
            settings = self._parameter_settings(module)
            net = make_net(self, module, settings, device=device, task=task, augmenter=augmenter)
            if not (task.fresh or task.scheduled or self._net.scheduled):
                continue_optimizer(net, self._net)  # successive calls of partial_fit
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
        """Look for a checkpoint, and call `task.start` unless its result is in the checkpoint."""
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
        """Set the fitted attributes from a trained net."""
        self._settle(net, task)
        net.module_.eval()  # using the front end must not update its statistics
        self.__dict__.pop("_arrays", None)  # weights of a loaded model, now outdated
        for name, value in self._attributes(net, net.history, task).items():
            setattr(self, name, value)
        # These keep the training clips in memory; the user's callbacks remain available.
        net.train_split = net.callbacks = None
        net.callbacks_ = [pair for pair in net.callbacks_ if pair[0].startswith(USERS)]

    def _attributes(self, net: Any, history: Any, task: TrainingTask) -> dict[str, Any]:
        """Return the fitted attributes, except those set by `_new_module`."""
        earlier = [] if task.fresh else self.history_
        rows = enumerate(history, len(earlier) + 1)
        return {
            "_net": net,
            **task.labels.attributes(),
            "_blueprint": self._describe(net.module_, task),
            "history_": (past := earlier + [_summary(row, epoch) for epoch, row in rows]),
            "n_iter_": len(past),
        }

    def _describe(self, module: ImageClassifier, task: TrainingTask) -> dict[str, Any]:
        """Create the blueprint of a trained network."""
        front_end = [plain_front_end(part) for part in module.frontend.parts()]
        first: dict[str, Any] = {
            "architecture": self._shape_of(module),
            "image_shape": module.frontend.output_shape(self.input_shape_),
            "n_labels": len(task.labels.names),
        }
        kept = first if task.fresh else self._blueprint
        return {**kept, "front_end": front_end, "eps": plain_eps(module)}

    def _attributes_so_far(self, net: Any, task: TrainingTask) -> dict[str, Any]:
        """Return the fitted attributes during training, as copies that do not change later."""
        module = copy.deepcopy(net.module_).eval()
        viewer = copy.copy(self)
        viewer.compile = False  # not worthwhile for one evaluation
        settings = self._parameter_settings(module)
        blank = make_net(viewer, module, settings, device=torch.device(net.device))
        return {**self._attributes(blank, net.history, task), "compile": False}

    def _augmenter(self, task: TrainingTask, rng: np.random.RandomState) -> Augmenter:
        how = as_augmentation(self)
        fill = None
        if how.masks:  # the lowest value of each channel of the spectrograms
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
                raise ValueError(  # batch normalisation of one value per channel
                    f"Training of {type(self).__name__} failed with batch_size={self.batch_size} "
                    f"on {len(data)} clip(s): {err}."
                ) from err
        if not net.history or not np.isfinite(net.history[-1]["train_loss"]):
            raise ValueError(
                f"Training of {type(self).__name__} diverged (the loss is not finite): lower "
                f"lr={self.lr!r} or scale X."
            )

    def _settle(self, net: Any, task: TrainingTask) -> None:
        """Measure the statistics of normalisation layers on training clips, with final weights."""
        assert task.statistics is not None
        module, device = net.module_, torch.device(net.device)
        if task.scheduled or task.fresh:
            task.statistics.settle(module, device)
        else:  # a chunk of `partial_fit` does not represent earlier chunks
            earlier = self.net_.module_.with_frontend(task.frontend).state_dict()
            n_steps = len(net.history[-1]["batches"])
            task.statistics.settle(module, device, earlier=earlier, n_steps=n_steps)

    def _hold_out(self, task: TrainingTask, rng: np.random.RandomState) -> TrainingTask:
        """Hold out clips for validation, unless the user passed some."""
        if task.valid is not None:
            return task
        data, groups = task.data, task.groups
        held = data.has_weight()  # clips of weight zero cannot be used for validation
        own = None if groups is None else groups[held]
        held[held] = draw_validation(data.rarest()[held], self.validation_fraction, rng, own)
        held = data.keep_strata(held, groups)
        if not held.any():
            reason = "has only one clip" if groups is None else "lies in one group"
            warn(
                f"{type(self).__name__} cannot hold out clips for early stopping because every "
                f"class {reason}: it monitors the training loss instead."
            )
            return task
        return replace(task, data=data.subset(~held), valid=data.subset(held))

    def _input_layer(
        self, n_channels: int, statistics: Callable[[], tuple[Any, Any]] | None = None
    ) -> torch.nn.Module:
        """Return the layer between front end and backbone.

        `statistics` computes mean and standard deviation of the channels of the training clips; if
        it is None, they are set later.
        """
        if not self.standardize:
            return torch.nn.Identity()
        blank = torch.zeros(n_channels), torch.ones(n_channels)
        return Standardize(*(blank if statistics is None else statistics()))

    def _new_module(self, task: TrainingTask) -> ImageClassifier:
        data, n_classes = task.data, len(task.labels.names)
        frontend = copy.deepcopy(task.frontend)
        images, _ = data[np.arange(min(2, len(data)))]
        image_shape = frontend.output_shape(self.input_shape_)

        def statistics() -> tuple[Any, Any]:
            clips = data.clips(through=frontend, device=device_of(self))
            mean, std, _ = channel_statistics(clips)
            return mean, std

        standardize = self._input_layer(image_shape[0], statistics)
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
                f"The network of {type(self).__name__} must return {n_classes} logits per clip, "
                f"got {got if isinstance(got, str) else f'shape {tuple(got)}'} for "
                f"{len(images)} clips."
            )
        self.__dict__.pop("_embedding_size", None)
        if module.head is not None:
            with torch.no_grad():
                self._embedding_size = module.embed(images[:1]).shape[1]
        return module.to(memory_format=torch.channels_last)

    def _renew_net(self) -> Any:
        """Rebuild the net after loading, or after `set_params(compile=...)`.

        The first of several threads builds it; the others wait and use it. Inference mode is
        disabled, because weights created in it could not be trained.
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
        """Build the net of a loaded estimator from its plain arrays."""
        module = self._filled("meta")
        # Tensors that are not weights, such as constants of a layer, are not computed on 'meta'.
        held = [
            v for part in module.modules() for v in (*vars(part).values(), *part.buffers(False))
        ]
        if any(isinstance(value, torch.Tensor) and value.is_meta for value in held):
            module = self._filled("cpu")
        module.to(memory_format=torch.channels_last)
        settings = self._parameter_settings(module)
        return make_net(self, module, settings, device=torch.device("cpu"))

    def _filled(self, device: str) -> ImageClassifier:
        """Build the network with the weights of a loaded estimator.

        On 'meta', no time is spent on initial weights; a backbone from a callable may not support
        that device.
        """
        named = isinstance(getattr(self, "backbone", ""), str)
        module = self.from_blueprint(self._blueprint, device if named else "cpu")
        fill_blank(module, self._arrays)
        return module

    def _forward(self, method: str, images: np.ndarray, frontend: FrontEndChain) -> np.ndarray:
        """Call a method of the network for all clips, in batches, and return its output in float32.

        Process the output with numpy: a torch computation outside of this block would start
        threads, and processes that are forked later would wait for them forever.
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
        # The number of epochs is part of the seed, so that further training does not repeat draws.
        seed = random_generator(self.random_state, type(self).__name__).randint(SEED_LIMIT)
        return np.random.RandomState([seed, epochs_done])


def _numbers(value: Any) -> Iterator[float]:
    """Yield the absolute values of all numbers in nested lists, tuples and dicts."""
    if isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)
    elif isinstance(value, Real):
        yield abs(float(value))


def _summary(row: dict[str, Any], epoch: int) -> dict[str, Any]:
    """Return the row of `history_`, without clock times, so that equal fits give equal files."""
    return {"epoch": epoch} | {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, Real)
        and not isinstance(value, bool)
        and not name.endswith("_batch_count")
        and name not in ("epoch", "dur")
    }
