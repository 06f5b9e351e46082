"""cluster_report: measures of how well embeddings separate classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    homogeneity_completeness_v_measure,
    normalized_mutual_info_score,
    silhouette_score,
)
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from skaudio._checks import ParameterError, is_int
from skaudio._label_values import plain_labels

__all__ = [
    "check_embedding",
    "cluster_report",
]

MAX_FOLDS = 10


def cluster_report(
    embedding: Any, y: Any, *, n_neighbors: int = 5, random_state: Any = None
) -> dict[str, float]:
    """Measure how well embeddings separate classes.

    Embeddings are first scaled to length 1, so that only their directions matter. Use clips that
    the network was not trained on: training clips are separated in any case.

    Parameters
    ----------
    embedding : array-like of shape (n_clips, n_embedding)
        One row per clip, as from `transform` of a classifier; finite.
    y : array-like of shape (n_clips,)
        Labels, at least 2 classes of at least 2 clips each.
    n_neighbors : int, default=5
        Number of neighbours that vote on the label of a clip, >= 1, at most the number of clips in
        the smallest training part.
    random_state : int, RandomState instance or None, default=None
        Controls the initialisation of k-means and the assignment of clips to folds.

    Returns
    -------
    report : dict of str to float
        Agreement of the labels with k-means (one cluster per class, best of 10 initialisations):
        'nmi', normalised mutual information, in [0, 1]; 'ami', the same adjusted for chance, and
        'ari', the adjusted Rand index, both about 0 for chance and at most 1; 'homogeneity', in [0,
        1], 1 if every cluster contains only one class; 'completeness', in [0, 1], 1 if every class
        is in one cluster; 'v_measure', their harmonic mean. Without k-means: 'silhouette', in [-1,
        1], mean over clips of how much closer they are to their own class than to the nearest other
        one, in cosine distance; 'knn_accuracy', in [0, 1], share of clips whose nearest neighbours
        in cosine distance vote for their label, weighted by inverse distance.

    Raises
    ------
    ValueError
        If lengths differ, a number is not finite, there are too few classes or clips, or
        `n_neighbors` is out of range.

    See Also
    --------
    EmbeddingDisplay : Plot of the embeddings.

    Notes
    -----
    'nmi' is normalised by the arithmetic mean of the two entropies, scikit-learn's default, and
    then equals 'v_measure'. Both are included because papers report either.

    'knn_accuracy' is the mean over shuffled, stratified folds: 10, or the number of clips of the
    smallest class if that is lower. Clips cut from the same recording are neighbours of each other:
    pass only one per recording.

    Examples
    --------
    >>> import numpy as np
    >>> from skaudio.inspection import cluster_report
    >>> y = np.repeat([0, 1, 2], 10)
    >>> noise = np.random.default_rng(0).normal(scale=0.1, size=(30, 3))
    >>> cluster_report(np.eye(3)[y] + noise, y, random_state=0)["ari"]
    1.0
    """
    table, labels = check_embedding(embedding, y, "cluster_report")
    classes, counts = np.unique(labels, return_counts=True)
    smallest = counts.argmin()
    if counts[smallest] < 2:
        raise ParameterError(
            "y of cluster_report",
            "must have at least 2 clips per class, got 1 of "
            f"{classes.tolist()[smallest]!r}: add clips or drop the class.",
        )
    n_folds = min(MAX_FOLDS, int(counts[smallest]))
    most = len(table) - -(-len(table) // n_folds)
    if not is_int(n_neighbors, 1) or n_neighbors > most:
        raise ParameterError(
            "n_neighbors of cluster_report",
            f"must be an int from 1 to {most}, the number of clips in the "
            f"smallest of {n_folds} training parts, got {n_neighbors!r}.",
        )
    table = normalize(table)
    clusters = KMeans(len(classes), n_init=10, random_state=random_state).fit_predict(table)
    homogeneity, completeness, v_measure = homogeneity_completeness_v_measure(labels, clusters)
    # Equal weights would lead to ties, for which scikit-learn returns the label that sorts first.
    voters = KNeighborsClassifier(n_neighbors, weights="distance", metric="cosine")
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=random_state)
    report = {
        "nmi": normalized_mutual_info_score(labels, clusters),
        "ami": adjusted_mutual_info_score(labels, clusters),
        "ari": adjusted_rand_score(labels, clusters),
        "v_measure": v_measure,
        "homogeneity": homogeneity,
        "completeness": completeness,
        "silhouette": silhouette_score(table, labels, metric="cosine"),
        "knn_accuracy": cross_val_score(voters, table, labels, cv=folds).mean(),
    }
    return {name: float(value) for name, value in report.items()}


def check_embedding(embedding: Any, y: Any, owner: str) -> tuple[np.ndarray, np.ndarray]:
    """Check embeddings and the labels of their clips.

    Parameters
    ----------
    embedding : array-like of shape (n_clips, n_embedding)
        Finite numbers.
    y : array-like of shape (n_clips,)
        Labels, at least two different, none missing.
    owner : str
        The function or class with these arguments, for messages.

    Returns
    -------
    embedding : ndarray of shape (n_clips, n_embedding), float64
        The same numbers.
    labels : ndarray of shape (n_clips,)
        The labels.

    Raises
    ------
    ValueError
        If a shape is wrong, a number is not finite, a label is missing, or all labels are equal.
    """
    table, labels = np.asarray(embedding), np.asarray(plain_labels(y, f"y of {owner}"))
    if table.ndim != 2 or table.dtype.kind not in "fiu" or 0 in table.shape:
        raise ParameterError(
            f"embedding of {owner}",
            f"must be numbers of shape (n_clips, n_embedding), got "
            f"{table.dtype} of shape {table.shape}: pass the output of transform of a classifier.",
        )
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(bad):
        raise ParameterError(
            f"embedding of {owner}",
            f"must be finite, got NaN or infinity in {len(bad)} of "
            f"{len(table)} clips, first in clip {bad[0]}: drop these clips.",
        )
    if labels.shape != (len(table),):
        raise ParameterError(
            f"y of {owner}",
            f"must have shape ({len(table)},), one label per row of the embedding, "
            f"got {labels.shape}.",
        )
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ParameterError(
            f"y of {owner}",
            f"must have at least 2 classes, got 1 class: {classes.tolist()[0]!r}: "
            "add clips of another class.",
        )
    return table.astype(np.float64, copy=False), labels
