"""cluster_report and EmbeddingDisplay."""

import numpy as np
import pytest
from conftest import optional_import
from networks import tiny_cnn
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, normalize

from skaudio import DiffResResampler, PretrainedCNN
from skaudio.inspection import EmbeddingDisplay, cluster_report

pytestmark = pytest.mark.usefixtures("plt")

pd = optional_import("pandas")

NAMES = ("nmi", "ami", "ari", "v_measure", "homogeneity", "completeness", "silhouette",
         "knn_accuracy")  # fmt: skip


class StagedCNN(PretrainedCNN):
    """A classifier that gives embeddings of two stages, of different widths."""

    def transform_stages(self, X):
        last = self.transform(X)
        return [last[:, ::2], last]


def blobs(n_classes=3, n_per_class=12, *, noise=0.05):
    """Gaussian clouds around orthogonal directions, and the names of their classes."""
    y = np.repeat(np.arange(n_classes), n_per_class)
    rng = np.random.default_rng(0)
    embedding = np.eye(n_classes, n_classes + 2)[y]
    return embedding + rng.normal(scale=noise, size=embedding.shape), np.char.add(
        "class ", y.astype(str)
    )


def make_pipe(classifier=PretrainedCNN):
    clf = classifier(tiny_cnn, weights=None, max_epochs=2, batch_size=8, random_state=0)
    return make_pipeline(DiffResResampler(0.5, random_state=0), clf)


def spread(points, y):
    """Least distance of two class means, over the largest distance of a clip from its own."""
    means = np.array([points[y == name].mean(axis=0) for name in np.unique(y)])
    between = np.linalg.norm(means[:, None] - means, axis=2)[np.triu_indices(len(means), 1)]
    own = means[np.unique(y, return_inverse=True)[1]]
    return between.min() / np.linalg.norm(points - own, axis=1).max()


def test_classes_far_apart_reach_the_best_values():
    report = cluster_report(*blobs(), random_state=0)
    assert tuple(report) == NAMES
    assert report.pop("silhouette") > 0.95
    assert report == pytest.approx(dict.fromkeys(report, 1.0))


def test_labels_that_say_nothing_score_as_chance():
    embedding, y = blobs(n_per_class=60)
    report = cluster_report(embedding, np.random.default_rng(1).permutation(y), random_state=0)
    for name, chance in {"ami": 0.0, "ari": 0.0, "silhouette": 0.0, "knn_accuracy": 1 / 3}.items():
        assert report[name] == pytest.approx(chance, abs=0.1), name


def test_classes_that_share_a_cluster_are_complete_but_not_homogeneous():
    embedding, y = blobs(4, noise=0.01)
    embedding[y == "class 3"] = embedding[y == "class 2"]
    embedding[y == "class 0", 0] *= 1.0 + np.arange(12)  # length does not count
    report = cluster_report(embedding, np.where(y == "class 3", "class 2", y), random_state=0)
    assert report["homogeneity"] == pytest.approx(1.0)
    mixed = cluster_report(embedding, y, random_state=0)
    assert mixed["homogeneity"] < 0.9
    assert mixed["silhouette"] < 0.6 < report["silhouette"]


def test_normalised_mutual_information_is_the_v_measure():
    report = cluster_report(*blobs(noise=0.6), random_state=0)
    assert 0.0 < report["nmi"] < 1.0
    assert report["nmi"] == pytest.approx(report["v_measure"])


def test_neither_scale_nor_names_of_labels_count():
    embedding, y = blobs(noise=0.4)
    report = cluster_report(embedding, y, random_state=0)
    assert 0.0 < report["ari"] < 1.0
    assert cluster_report(1000.0 * embedding, y, random_state=0) == pytest.approx(report)
    renamed = np.array([7, 5, 6])[np.repeat(np.arange(3), 12)]
    assert cluster_report(embedding, renamed, random_state=0) == pytest.approx(report)


def test_the_neighbours_of_two_clips_per_class_are_asked():
    embedding, y = blobs(n_per_class=2)
    assert cluster_report(embedding, y, n_neighbors=1)["knn_accuracy"] == 1.0
    with pytest.raises(ValueError, match="from 1 to 3, the number of clips in the .* got 5"):
        cluster_report(embedding, y)
    with pytest.raises(ValueError, match="n_neighbors of cluster_report .* got 0"):
        cluster_report(embedding, y, n_neighbors=0)


@pytest.mark.parametrize(
    ("embedding", "y", "message"),
    [
        (np.ones(4), [0, 0, 1, 1], r"embedding .* \(n_clips, n_embedding\), got .* \(4,\): pass"),
        (np.ones((4, 0)), [0, 0, 1, 1], r"embedding of .* got float64 of shape \(4, 0\)"),
        ([["a"], ["b"]], [0, 1], "embedding of .* must be numbers .* got <U1"),
        ([[1.0], [np.nan]], [0, 1], "must be finite, got NaN or infinity in 1 of 2 .* in clip 1"),
        (np.ones((4, 2)), [0, 1], r"y of .* must have shape \(4,\), one label .* got \(2,\)"),
        (
            np.ones((2, 2)),
            lambda: [pd.NA, "a"],
            "y of .* must have no missing labels, got 1 of 2 clips without one",
        ),
        (
            np.ones((2, 2)),
            [None, "a"],
            "y of .* must have no missing labels, got 1 of 2 clips without one",
        ),
        (np.ones((2, 2)), ["a", "a"], "y of .* must have at least 2 classes, got 1 class: 'a'"),
    ],
)
@pytest.mark.parametrize("use", [cluster_report, EmbeddingDisplay.from_embedding])
def test_embeddings_and_labels_that_cannot_be_used_say_why(embedding, y, message, use):
    with pytest.raises(ValueError, match=message):
        use(embedding, y() if callable(y) else y)


def test_a_class_of_one_clip_cannot_be_reported_but_drawn():
    embedding, y = blobs()
    with pytest.raises(ValueError, match="at least 2 clips per class, got 1 of 'class 2': add"):
        cluster_report(embedding[:25], y[:25])
    assert EmbeddingDisplay.from_embedding(embedding[:25], y[:25]).points_.shape == (25, 2)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_classes_far_apart_are_drawn_apart_and_alike_for_one_seed(method):
    embedding, y = blobs()
    first = EmbeddingDisplay.from_embedding(embedding, y, method=method, random_state=0)
    again = EmbeddingDisplay.from_embedding(embedding, y, method=method, random_state=0)
    assert spread(first.points_, y) > 2.0
    np.testing.assert_array_equal(first.points_, again.points_)


def test_few_clips_can_be_drawn_by_neighbourhood():
    display = EmbeddingDisplay.from_embedding(np.eye(4, 3), [0, 0, 1, 1], method="tsne")
    assert np.isfinite(display.points_).all()


def test_principal_components_keep_the_share_of_variance_that_the_axes_name():
    embedding, y = blobs(noise=0.3)
    display = EmbeddingDisplay.from_embedding(embedding, y)
    share = display.points_.var(axis=0) / normalize(embedding).var(axis=0).sum()
    assert display.ax_.get_xlabel() == f"PC 1 ({share[0]:.0%} of variance)"
    assert display.ax_.get_ylabel() == f"PC 2 ({share[1]:.0%} of variance)"
    expected = PCA(2).fit_transform(normalize(embedding))
    np.testing.assert_allclose(display.points_, expected)


@pytest.mark.parametrize("n_classes", [2, 20])
def test_every_class_has_a_look_of_its_own_and_a_line_in_the_legend(n_classes):
    embedding, y = blobs(n_classes, 3)
    ax = EmbeddingDisplay.from_embedding(embedding, y).ax_
    looks = {(*c.get_facecolor()[0], c.get_paths()[0].vertices.tobytes()) for c in ax.collections}
    assert len(looks) == n_classes
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == np.unique(y).tolist()


def test_the_legend_stands_beside_the_panel_and_inside_the_figure():
    display = EmbeddingDisplay.from_embedding(*blobs(20, 3))
    display.figure_.canvas.draw()
    legend, panel = (a.get_window_extent() for a in (display.ax_.get_legend(), display.ax_))
    assert panel.x1 < legend.x0 < legend.x1 <= display.figure_.bbox.x1
    assert display.figure_.bbox.y0 <= legend.y0 < legend.y1 <= display.figure_.bbox.y1
    assert display.ax_.get_aspect() == 1.0
    assert panel.width == pytest.approx(panel.height)


def test_names_with_an_underscore_are_in_the_legend():
    embedding, y = blobs(2)
    y = np.where(y == "class 0", "_background_noise_", "yes")
    legend = EmbeddingDisplay.from_embedding(embedding, y).ax_.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["_background_noise_", "yes"]


def test_points_of_a_class_have_its_colour():
    embedding, y = blobs()
    display = EmbeddingDisplay.from_embedding(embedding, y)
    for drawn, name in zip(display.ax_.collections, np.unique(y), strict=True):
        np.testing.assert_array_equal(drawn.get_offsets(), display.points_[y == name])


def test_a_display_is_drawn_again_from_the_same_points(plt):
    display = EmbeddingDisplay.from_embedding(*blobs(), method="tsne")
    points, (figure, ax) = display.points_, plt.subplots()
    assert display.plot(ax) is display
    assert display.points_ is points
    assert (display.ax_, display.figure_) == (ax, figure)


def test_too_many_classes_too_few_columns_and_unknown_methods_say_so(plt):
    embedding, y = blobs()
    with pytest.raises(ValueError, match="must have at most 70 classes, got 71: .* select some"):
        EmbeddingDisplay.from_embedding(np.eye(71), np.arange(71))
    with pytest.raises(ValueError, match="must have at least 2 columns, got 1"):
        EmbeddingDisplay.from_embedding(embedding[:, :1], y)
    with pytest.raises(ValueError, match="method of .* must be one of 'pca', 'tsne', got 'umap'"):
        EmbeddingDisplay.from_embedding(embedding, y, method="umap")
    with pytest.raises(ValueError, match="ax of EmbeddingDisplay must be 1 Axes, got 2"):
        EmbeddingDisplay.from_embedding(embedding, y, ax=plt.subplots(1, 2)[1])


@pytest.mark.slow
def test_the_picture_of_a_pipeline_is_that_of_its_embeddings(images):
    X, y = images
    pipe = make_pipe().fit(X, y)
    display = EmbeddingDisplay.from_estimator(pipe, X, y)
    assert display.points_.shape == (48, 2)
    expected = EmbeddingDisplay.from_embedding(pipe.transform(X), y)
    np.testing.assert_allclose(display.points_, expected.points_, atol=1e-6)
    assert spread(display.points_, y) > 1.0


@pytest.mark.slow
def test_every_stage_of_a_network_has_a_panel(images):
    X, y = images
    pipe = make_pipe(StagedCNN).fit(X, y)
    display = EmbeddingDisplay.from_estimator(pipe, X, y, per_stage=True)
    assert display.points_.shape == (2, 48, 2)
    assert [ax.get_title() for ax in display.ax_] == ["Stage 1", "Stage 2"]
    assert [ax.get_legend() is None for ax in display.ax_] == [True, False]
    last = EmbeddingDisplay.from_estimator(pipe, X, y)
    np.testing.assert_allclose(display.points_[1], last.points_, atol=1e-6)


@pytest.mark.slow
def test_pipelines_that_cannot_be_drawn_say_why(images, monkeypatch):
    X, y = images
    pipe = make_pipe().fit(X, y)
    with pytest.raises(ValueError, match="transform_stages, like MAST, got True and PretrainedCNN"):
        EmbeddingDisplay.from_estimator(pipe, X, y, per_stage=True)
    with pytest.raises(NotFittedError, match="not fitted"):
        EmbeddingDisplay.from_estimator(clone(pipe), X, y)
    flat = FunctionTransformer(lambda X: X.reshape(len(X), -1))
    with pytest.raises(ValueError, match="pipe of EmbeddingDisplay must end with a .* Logistic"):
        EmbeddingDisplay.from_estimator(make_pipeline(flat, LogisticRegression()).fit(X, y), X, y)
    monkeypatch.setattr(PretrainedCNN, "transform", lambda self, X: pytest.fail("too late"))
    with pytest.raises(ValueError, match="method of EmbeddingDisplay .* got 't-sne'"):
        EmbeddingDisplay.from_estimator(pipe, X, y, method="t-sne")
