"""The network that export_onnx writes for a pipeline that starts with an AudioEmbedding."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from skaudio._checks import ParameterError
from skaudio.features._audio_embedding import AudioEmbedding
from skaudio.nn.pretrained import (
    STATISTICS,
    AudioNetwork,
    frames_of,
    statistics_over_time,
)
from skaudio.pipelines._steps import listed_embedder, transformers

__all__ = [
    "embedding_facts",
    "embedding_network",
    "facts_of",
    "front_end_needed",
    "shortest_waveform",
]

OWNER = "export_onnx"


class EmbeddingClassifier(nn.Module):
    """Map waveforms to probabilities and logits of a linear classifier of their embeddings.

    Parameters
    ----------
    embedding : AudioEmbedding
        Fitted.
    head : nn.Sequential
        Maps the features of a clip to logits.
    """

    def __init__(self, embedding: AudioEmbedding, head: nn.Sequential) -> None:
        super().__init__()
        self.embedder = copy.deepcopy(listed_embedder(embedding, OWNER))
        self.head = head
        self.window, self.scores = embedding.window, embedding.output == "scores"
        self.rows = [STATISTICS.index(name) for name in embedding.pooling.split("+")]

    def forward(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and logits, ``(n_clips, n_classes)``."""
        logits = self.head(self._features(waves))
        return logits.softmax(1), logits

    def _features(self, waves: Tensor) -> Tensor:
        """Do what `AudioEmbedding` does, with a window axis instead of a loop over windows."""
        if self.window is None and not self.scores:
            return self.embedder.embed(waves, None, 1)[:, self.rows].flatten(1)
        n_clips = waves.shape[0]  # not len, which exporters would treat as a constant
        windows = self._windows(self.embedder.spectrograms(waves)).flatten(0, 1)
        if self.scores:
            scores = self.embedder.network(windows).sigmoid()
            return scores.unflatten(0, (-1, n_clips)).mean(0)
        means = self.embedder._features(windows).mean(-1)
        steps = means.unflatten(0, (-1, n_clips)).permute(1, 2, 0)
        return statistics_over_time(steps)[:, self.rows].flatten(1)

    def _windows(self, images: Tensor) -> Tensor:
        """Cut spectrograms into windows: the first of every clip, then the second, and so on."""
        if self.window is None:
            return images[None]
        record = self.embedder.record
        length = frames_of(record, self.window)
        axis = -2 if record.time_first else -1
        windows = images.unfold(axis, length, max(1, length // 2)).movedim(axis - 1, 0)
        return windows.transpose(-1, -2) if record.time_first else windows


class _Scaler(nn.Module):
    """Subtract the mean and divide by the standard deviation, as `StandardScaler` does."""

    def __init__(self, scaler: StandardScaler, n_features: int) -> None:
        super().__init__()
        mean = scaler.mean_ if scaler.with_mean else np.zeros(n_features)
        scale = scaler.scale_ if scaler.with_std else np.ones(n_features)
        self.register_buffer("mean", torch.from_numpy(np.float32(mean)))
        self.register_buffer("scale", torch.from_numpy(np.float32(scale)))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.scale  # type: ignore[operator]


def embedding_network(pipe: Pipeline, from_waveform: bool) -> EmbeddingClassifier:
    """Return the network of a pipeline that starts with an `AudioEmbedding`.

    Parameters
    ----------
    pipe : Pipeline
        Fitted.
    from_waveform : bool
        The argument of `export_onnx`.

    Returns
    -------
    network : EmbeddingClassifier
        On the CPU, in evaluation mode.

    Raises
    ------
    ValueError
        If the pipeline has steps that cannot be exported, or `from_waveform` is False.
    """
    embedding, *between = transformers(pipe)
    if not from_waveform:
        raise front_end_needed("AudioEmbedding")
    listed_embedder(embedding, OWNER)
    for step in between:
        if not isinstance(step, StandardScaler):
            raise ParameterError(
                f"pipe of {OWNER}",
                "must have no steps except StandardScaler between AudioEmbedding and "
                f"LogisticRegression, got {type(step).__name__}, which cannot be part of the file.",
            )
    classifier = pipe[-1]
    _check_head(classifier)
    n_features = classifier.coef_.shape[1]
    head = nn.Sequential(*(_Scaler(step, n_features) for step in between), _linear(classifier))
    return EmbeddingClassifier(embedding, head).eval()


def shortest_waveform(embedding: AudioEmbedding) -> int:
    """Return the number of samples that a waveform must have at least.

    Parameters
    ----------
    embedding : AudioEmbedding
        Fitted.

    Returns
    -------
    n_samples : int
        The minimum of the network, or one window if that is longer. `AudioEmbedding` itself repeats
        shorter clips; the file does not.
    """
    record = listed_embedder(embedding, OWNER).record
    shortest = int(np.ceil(record.min_duration * record.sample_rate))
    if embedding.window is None:
        return shortest
    front_end = record.front_end()
    n_frames = frames_of(record, embedding.window)
    while front_end.output_shape((1, 1, shortest))[-1] < n_frames:
        shortest += record.hop_length
    return shortest


def embedding_facts(embedding: AudioEmbedding) -> dict[str, Any]:
    """Return what a program needs to know about the waveforms, and about the network.

    Parameters
    ----------
    embedding : AudioEmbedding
        Fitted.

    Returns
    -------
    facts : dict
        As in the notes of `export_onnx`.
    """
    return {
        **facts_of(listed_embedder(embedding, OWNER).record),
        "min_samples": shortest_waveform(embedding),
        "pooling": embedding.pooling,
        "window": embedding.window,
        "output": embedding.output,
    }


def facts_of(record: AudioNetwork) -> dict[str, Any]:
    """Return the facts about a network that a file contains; see the notes of `export_onnx`."""
    names = ("sample_rate", "trained_on", "licence", "reference")
    return {"model": record.name} | {name: getattr(record, name) for name in names}


def front_end_needed(step: str) -> ParameterError:
    """Return the error that a file must contain the front end of a step."""
    return ParameterError(
        f"from_waveform of {OWNER}",
        f"must be True for a pipeline that starts with {step}, whose front end belongs to the "
        "network, got False.",
    )


def _check_head(classifier: Any) -> None:
    """Check that the last step is a logistic regression with one softmax over all classes."""
    if type(classifier) is not LogisticRegression:
        raise ParameterError(
            f"pipe of {OWNER}",
            "must end with LogisticRegression if it starts with AudioEmbedding, got "
            f"{type(classifier).__name__}.",
        )
    # Up to scikit-learn 1.7, there is one classifier per class with these settings.
    several = len(classifier.classes_) > 2 and (
        classifier.solver == "liblinear" or getattr(classifier, "multi_class", None) == "ovr"
    )
    if several:
        raise ParameterError(
            f"pipe of {OWNER}",
            "must end with a multinomial LogisticRegression, got one that fits every class "
            f"separately (solver={classifier.solver!r}): use solver='lbfgs'.",
        )


def _linear(classifier: LogisticRegression) -> nn.Linear:
    """Return the classifier as a layer; of two classes, the first has the logit 0."""
    weight, bias = classifier.coef_, np.broadcast_to(classifier.intercept_, len(classifier.coef_))
    if len(classifier.classes_) == 2:
        weight, bias = np.stack([0 * weight[0], weight[0]]), np.append(0.0, bias)
    layer = nn.Linear(weight.shape[1], len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.array(weight, dtype=np.float32)))
        layer.bias.copy_(torch.from_numpy(np.array(bias, dtype=np.float32)))
    return layer
