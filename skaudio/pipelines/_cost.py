"""cost: parameters, arithmetic and time of a fitted pipeline per clip."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from numbers import Integral
from statistics import median
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from skaudio._checks import Int, ParameterError, count_items
from skaudio.audio._clips import as_rows
from skaudio.classifiers._base import SpectrogramClassifier, SpectrogramModel
from skaudio.features._audio_embedding import AudioEmbedding, EmbeddingExtractor
from skaudio.features._clip_transformer import SpectrogramTransformer
from skaudio.nn._device import limited_threads, seeded
from skaudio.nn._differentiable import DifferentiableArray
from skaudio.nn.frontend import FrontEndChain
from skaudio.nn.layers import ImageClassifier
from skaudio.nn.pretrained import Embedder
from skaudio.pipelines._meta_estimators import is_search
from skaudio.pipelines._steps import (
    blank_copy,
    check_last_step,
    check_pipeline,
    embedding_step,
    listed_embedder,
    resample,
    transformers,
    uncached_transform,
)

__all__ = ["Cost", "candidate_costs", "cost", "macs_of"]


@dataclass(frozen=True, repr=False)
class Cost:
    """Cost of a fitted pipeline per clip; see `skaudio.cost`.

    Parameters
    ----------
    frontend_parameters, backbone_parameters : int
        Number of trainable parameters of the front end (`classifier.frontend_`) and of the rest of
        the network.
    frontend_macs, backbone_macs : int
        Multiply-accumulates per clip.
    n_frames_in, n_frames_out : int
        Frames that enter the front end and the backbone; equal if no step shortens time.
    features_ms, network_ms : float
        Milliseconds per clip, in batches of one: from a clip to the input of the network, and for
        the network including the front end.
    seconds : float or None, default=None
        Length of the clip; None if the clips are spectrograms.
    """

    frontend_parameters: int
    backbone_parameters: int
    frontend_macs: int
    backbone_macs: int
    n_frames_in: int
    n_frames_out: int
    features_ms: float
    network_ms: float
    seconds: float | None = None

    @property
    def parameters(self) -> int:
        """Parameters of front end and backbone together."""
        return self.frontend_parameters + self.backbone_parameters

    @property
    def macs(self) -> int:
        """Multiply-accumulates per clip of front end and backbone together."""
        return self.frontend_macs + self.backbone_macs

    @property
    def macs_per_second(self) -> float | None:
        """Multiply-accumulates per second of sound; None if `seconds` is."""
        return None if self.seconds is None else self.macs / self.seconds

    def to_dict(self) -> dict[str, int | float | None]:
        """Return the nine numbers by name, for example as a row of a table.

        Returns
        -------
        numbers : dict of str to int, float or None
            The fields of this object, in their order.
        """
        return asdict(self)

    def __repr__(self) -> str:
        parts = {
            "front end": (self.frontend_parameters, self.frontend_macs),
            "backbone": (self.backbone_parameters, self.backbone_macs),
            "total": (self.parameters, self.macs),
        }
        lines = [f"{'Cost per clip':<14}{'parameters':>12}{'multiply-accumulates':>22}"]
        lines += [f"  {name:<12}{_short(n):>12}{_short(m):>22}" for name, (n, m) in parts.items()]
        if self.macs_per_second is not None:
            per_second = _short(round(self.macs_per_second))
            lines.append(f"  {'per second':<12}{'':>12}{per_second:>22}")
        lines.append(f"  {'frames':<12}{self.n_frames_in} -> {self.n_frames_out}")
        lines.append(
            f"  {'latency':<12}features {self.features_ms:.1f} ms, network {self.network_ms:.1f} ms"
        )
        return "\n".join(lines)


def cost(pipe: Any, X: Any, *, n_repeats: int = 10) -> Cost:
    """Measure parameters, arithmetic and time of a fitted pipeline per clip.

    Parameters
    ----------
    pipe : Pipeline or search
        Fitted, with a skaudio classifier as its last step or an `AudioEmbedding` as its first; for
        a search, its best pipeline is used. A budget that was changed by `set_params` after fitting
        is used with its current value.
    X : array-like of shape (n_clips, ...)
        Clips as for `pipe.predict`; the timed runs use them one after the other.
    n_repeats : int, default=10
        Number of timed runs, >= 1, after one warm-up run.

    Returns
    -------
    cost : Cost
        Numbers per clip; prints as a table.

    Raises
    ------
    ValueError
        If the pipeline is not fitted, neither ends with a skaudio classifier nor starts with an
        `AudioEmbedding`, `X` contains no clips, or `n_repeats` is below 1.
    AudioError
        If clips cannot be read.

    See Also
    --------
    skaudio.inspection.BudgetCurveDisplay : Accuracy against arithmetic, over a search.

    Notes
    -----
    Multiply-accumulates are half of the floating-point operations that
    `torch.utils.flop_counter.FlopCounterMode` counts in evaluation mode: convolutions, linear
    layers, matrix products and attention. Biases, normalisation, activations, pooling and resizing
    are excluded as usual. So is the merging of frames in `DiffResResampler`: about ten operations
    per cell of the spectrogram, compared with several hundred in its importance estimator.

    The front end consists of the modules that the classifier trained together with its network.
    Steps that only transform, such as `MelSpectrogram`, are included only in `features_ms`, which
    is measured without their cache; log-mel inside a network is not counted either. Times are
    medians, valid for this machine and the `device` and `n_threads` of the classifier.

    The network of an `AudioEmbedding` is the backbone, without the layers that `output` does not
    use. Its front end is not counted, nor are the steps behind it. For such pipelines, frames,
    multiply-accumulates and `seconds` are those of the first clip of `X`; `features_ms` is for
    decoding and resampling, and `network_ms` for all the rest.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from skaudio import DiffResResampler, PretrainedCNN, cost
    >>> X = np.random.default_rng(0).normal(size=(8, 32, 40)).astype("float32")
    >>> clf = PretrainedCNN("test_resnet", weights=None, max_epochs=1, random_state=0)
    >>> pipe = make_pipeline(DiffResResampler(0.25), clf).fit(X, [0, 1] * 4)
    >>> cost(pipe, X).n_frames_out
    10
    """
    pipe = check_pipeline(pipe, "cost", last=SpectrogramModel, embedding=True)
    embedding = embedding_step(pipe)
    Int(low=1).check("n_repeats", n_repeats, "cost")
    X = as_rows(X)
    count_items(X, "X", "cost")
    if embedding is not None:
        return _embedding_cost(pipe, embedding, X, n_repeats)
    return _classifier_cost(pipe, X, n_repeats)


def _classifier_cost(pipe: Pipeline, X: Any, n_repeats: int) -> Cost:
    """Measure a pipeline that ends with a skaudio classifier."""
    classifier, mel = pipe[-1], pipe[0]
    prepare = uncached_transform(pipe)
    runs = [(n % len(X)) for n in range(n_repeats + 1)]
    clips = {n: X[n : n + 1] for n in set(runs)}
    features_ms, features = _clock(lambda n: prepare(clips[n]), runs)
    images, frontend = classifier._check_X(features)
    network_ms, _ = _clock(lambda n: classifier._forward("__call__", images, frontend), runs)
    with limited_threads(classifier.n_threads):
        module = copy.deepcopy(classifier.net_.module_.with_frontend(frontend)).cpu()
        frontend_macs, backbone_macs = _count_macs(module, images[:1])
    n_frontend = _count_parameters(module.frontend)
    return Cost(
        frontend_parameters=n_frontend,
        backbone_parameters=_count_parameters(module) - n_frontend,
        frontend_macs=frontend_macs,
        backbone_macs=backbone_macs,
        n_frames_in=frontend.waveform_parts().output_shape(images.shape[1:])[-1],
        n_frames_out=frontend.output_shape(images.shape[1:])[-1],
        features_ms=features_ms,
        network_ms=network_ms,
        seconds=_clip_seconds(mel) if isinstance(mel, SpectrogramTransformer) else None,
    )


def _clip_seconds(mel: SpectrogramTransformer) -> float:
    rate, n_samples = mel._clip_length()
    return n_samples / rate  # type: ignore[operator]


def _embedding_cost(pipe: Pipeline, embedding: AudioEmbedding, X: Any, n_repeats: int) -> Cost:
    """Measure a pipeline that starts with an `AudioEmbedding`."""
    module = copy.deepcopy(listed_embedder(embedding, "cost")).cpu()
    runs = [n % len(X) for n in range(n_repeats + 1)]
    extractor, last = embedding._extractor(), pipe[-1]
    clips = {n: embedding._check_clips(X[n : n + 1], reset=False)[0] for n in set(runs)}
    features_ms, _ = _clock(lambda n: extractor.load(clips[n]), runs)
    waves = {n: extractor.load(clip)[0] for n, clip in clips.items()}
    predicts = hasattr(last, "predict")
    transform = uncached_transform(pipe if predicts else Pipeline([*pipe.steps, ("end", None)]))
    predict = last.predict if predicts else np.asarray
    network_ms, _ = _clock(lambda n: predict(transform([waves[n]])), runs)
    wave = torch.from_numpy(extractor.long_enough(waves[0]))[None]
    n_parameters, macs = _count_embedding(module, wave, extractor)
    n_frames = module.front_end.output_shape((1, *wave.shape))[-1]
    return Cost(
        frontend_parameters=0,
        backbone_parameters=n_parameters,
        frontend_macs=0,
        backbone_macs=macs,
        n_frames_in=n_frames,
        n_frames_out=n_frames,
        features_ms=features_ms,
        network_ms=network_ms,
        seconds=wave.shape[-1] / embedding.sample_rate_,
    )


def _count_embedding(
    module: Embedder, wave: Tensor, extractor: EmbeddingExtractor
) -> tuple[int, int]:
    """Count the parameters of the layers that compute an embedding, and their arithmetic."""
    used: set[nn.Module] = {module.network}
    for layer in module.network.modules():
        layer.register_forward_hook(lambda layer, *_: used.add(layer))
    method = module.score if extractor.scores else module.embed
    flops = []
    with limited_threads(1), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        for count in (
            lambda: module.spectrograms(wave),
            lambda: method(wave, extractor.window, extractor.batch_size),
        ):
            with FlopCounterMode(display=False) as counter:
                count()
            flops.append(counter.get_total_flops())
    parameters = {p for layer in used for p in layer.parameters(recurse=False)}
    return sum(p.numel() for p in parameters), (flops[1] - flops[0]) // 2


def macs_of(pipe: Pipeline, X: Any, n_classes: int) -> int:
    """Count the multiply-accumulates per clip of a pipeline, which need not be fitted.

    The transformers of a clone are fitted on the clips. The network is built for the shape of their
    output, with random weights, and not trained, since arithmetic does not depend on weights.

    Parameters
    ----------
    pipe : Pipeline
        Ends with a skaudio classifier.
    X : array-like of shape (n_clips, ...)
        Clips; the count is for the first one.
    n_classes : int
        Number of classes, >= 2.

    Returns
    -------
    macs : int
        Sum for front end and backbone, counted as in `skaudio.cost`.

    Raises
    ------
    ValueError
        If the pipeline does not end with a skaudio classifier.
    """
    check_last_step(pipe, "macs_of", SpectrogramModel)
    classifier, features = clone(pipe[-1]), X
    for step in transformers(blank_copy(pipe)):
        features = step.fit(features).transform(features[:1])
    images, frontend = features, FrontEndChain()
    if isinstance(features, DifferentiableArray):
        images, frontend = features.inputs, features.frontend
    images = classifier._as_images(np.asarray(images, dtype=np.float32))[:1]
    classifier._check_parameters()
    blueprint = {
        "architecture": {},
        "image_shape": frontend.output_shape(images.shape[1:]),
        "n_labels": n_classes,
        "front_end": [],
        "eps": {},
    }
    with seeded(0, torch.device("cpu")), limited_threads(classifier.n_threads):
        module = classifier.from_blueprint(blueprint)
        module.frontend = copy.deepcopy(frontend).cpu()
        return sum(_count_macs(module, images))


def candidate_costs(
    search: Any, X: Any, *, count_macs: bool = True
) -> tuple[dict[str, np.ndarray], str]:
    """Return the scores and costs of the candidates of a search over a budget.

    Parameters
    ----------
    search : GridSearchCV or RandomizedSearchCV
        Fitted, over a pipeline.
    X : array-like of shape (n_clips, ...)
        Clips, as for `macs_of`.
    count_macs : bool, default=True
        Whether to count multiply-accumulates.

    Returns
    -------
    results : dict of ndarray of shape (n_points,)
        Columns of a table with the best candidate of every budget and hop length: 'budget',
        'hop_length' in samples and 'sample_rate' in Hz, None if no step has them; 'score' and
        'score_std'; 'frames', the output frames of the resampler; 'macs' if they are counted.
    score_name : str
        Name of the scores.

    Raises
    ------
    ValueError
        If the search is not fitted, has no budget or no candidate with a score, or if `count_macs`
        is True and the search was not refitted.
    """
    metric, score_name = _scoring(search, count_macs)
    table = search.cv_results_
    rows: dict[Any, dict[str, Any]] = {}
    for n in np.argsort(-table[f"mean_test_{metric}"], kind="stable"):  # NaN comes last
        params, score = table["params"][n], table[f"mean_test_{metric}"][n]
        pipe = clone(search.estimator).set_params(**clone(params, safe=False))
        budget, hop_length = (
            _by_suffix(params, "budget"),
            _by_suffix(pipe.get_params(), "hop_length"),
        )
        key = isinstance(budget, Integral), budget, hop_length  # one frame is not the share 1.0
        if budget is None or np.isnan(score) or key in rows:
            continue
        rows[key] = row = {"budget": budget, "hop_length": hop_length}
        row["sample_rate"] = _by_suffix(pipe.get_params(), "sample_rate")
        row |= {"score": score, "score_std": table[f"std_test_{metric}"][n]}
        row["frames"] = resample(blank_copy(pipe), X, fit=True).shape[-1]
        if count_macs:
            row["macs"] = macs_of(pipe, X, len(search.classes_))
    if not rows:
        raise ParameterError(
            "search of BudgetCurveDisplay",
            "must have candidates with a score and a parameter that "
            f"ends in '__budget', got {table['params']}.",
        )
    names = list(next(iter(rows.values())))
    kinds = dict.fromkeys(("budget", "hop_length", "sample_rate"), object)
    columns = {name: [row[name] for row in rows.values()] for name in names}
    return {name: np.array(columns[name], dtype=kinds.get(name)) for name in names}, score_name


def _scoring(search: Any, refitted: bool) -> tuple[str, str]:
    """Return the name of the scores in `cv_results_`, and the name to display."""
    rule = "search of BudgetCurveDisplay must"
    over_pipeline = isinstance(getattr(search, "estimator", None), Pipeline)
    if over_pipeline:
        check_is_fitted(search)
    if not over_pipeline or not is_search(search):
        raise ValueError(f"{rule} be a search over a Pipeline, got {type(search).__name__}.")
    if refitted:
        check_last_step(
            search.estimator, "BudgetCurveDisplay(against='macs')", SpectrogramClassifier
        )
        if not hasattr(search, "classes_"):
            raise ValueError(
                f"{rule} have refit=True to count multiply-accumulates, got refit="
                f"{search.refit!r}: pass against='frames'."
            )
    if not search.multimetric_:
        named = "accuracy" if search.scoring is None else "score"
        return "score", search.scoring.replace("_", " ") if isinstance(
            search.scoring, str
        ) else named
    if not isinstance(search.refit, str):
        raise ValueError(f"{rule} name the score to plot in refit, got {search.refit!r}.")
    return search.refit, search.refit.replace("_", " ")


def _by_suffix(params: dict[str, Any], name: str) -> Any:
    """Return the value of the parameter `step__name`, or None if there is none."""
    value = next((params[key] for key in params if key.endswith(f"__{name}")), None)
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _clock(run: Callable[[int], Any], numbers: list[int]) -> tuple[float, Any]:
    """Return the median time in ms of all runs except the first, and the result of the last."""
    times, result = [], None
    for number in numbers:
        start = time.perf_counter()
        result = run(number)
        times.append(time.perf_counter() - start)
    return 1e3 * median(times[1:]), result


def _count_macs(module: ImageClassifier, images: np.ndarray) -> tuple[int, int]:
    """Count the multiply-accumulates of front end and backbone for `images`."""
    counts = []
    first = module.frontend.waveform_parts()
    with torch.no_grad():  # log-mel is not counted
        x, _ = first(torch.from_numpy(images.copy()))
    rest = module.frontend[len(first) :]
    backbone = module.with_frontend(FrontEndChain())
    for part in (rest.eval(), backbone.eval()):
        # The counter does not see the products inside the fused attention of the CPU.
        plain = sdpa_kernel(SDPBackend.MATH)
        with torch.no_grad(), plain, FlopCounterMode(display=False) as counter:
            x = part(x)[0] if part is rest else part(x)
        counts.append(counter.get_total_flops() // 2)
    return counts[0], counts[1]


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _short(number: int) -> str:
    """Format a count with three digits and a unit, such as 41.1 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return str(number)
