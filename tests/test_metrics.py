import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.metrics import average_precision_score, f1_score

from skaudio.metrics import f1_thresholds, mean_average_precision


@pytest.fixture
def scored():
    """Labels of 60 clips, none of them with the last label, and informative scores."""
    rng = np.random.default_rng(0)
    y = rng.random((60, 4)) < [0.5, 0.2, 0.1, 0.0]
    return y.astype(int), np.clip(rng.random((60, 4)) * 0.6 + 0.3 * y, 0, 1)


def test_labels_that_no_clip_has_do_not_count(scored):
    y, scores = scored
    rows = [average_precision_score(y[:, n], scores[:, n]) for n in range(3)]
    assert mean_average_precision(y, scores) == pytest.approx(np.mean(rows))
    assert mean_average_precision(csr_array(y), scores) == mean_average_precision(y, scores)


def test_perfect_scores_give_one_and_weights_count(scored):
    y, scores = scored
    assert mean_average_precision(y, y + 0.5) == 1.0
    weight = (np.arange(60) < 30).astype(float)
    assert mean_average_precision(y, scores, weight) == pytest.approx(
        mean_average_precision(y[:30], scores[:30])
    )


def test_labels_of_clips_without_weight_do_not_count():
    y, scores = [[1, 0], [0, 0], [1, 1], [0, 0]], [[0.9, 0.1], [0.2, 0.3], [0.8, 0.2], [0.1, 0.1]]
    assert mean_average_precision(y, scores, [1, 1, 0, 1]) == 1.0


def test_thresholds_are_for_probabilities():
    with pytest.raises(ValueError, match=r"probabilities in \[0, 1\], got -3 to -1"):
        f1_thresholds([[1], [1]], [[-1.0], [-3.0]])


@pytest.mark.slow
def test_no_other_threshold_has_a_better_f1(scored):
    y, scores = scored
    best = f1_thresholds(y, scores)
    assert best[3] == 0.5
    for n in range(3):
        reached = f1_score(y[:, n], scores[:, n] >= best[n])
        others = [f1_score(y[:, n], scores[:, n] >= cut) for cut in np.linspace(0, 0.99, 200)]
        assert reached >= max(others)


@pytest.mark.parametrize(
    ("scores", "threshold"),
    [
        ([0.1, 0.3, 0.8, 0.9], 0.55),  # the gap between absent and present clips
        ([0.3, 0.4, 0.8, 0.5], 0.45),  # the best cut is not beside the largest gap
        ([0.8, 0.3, 0.4, 0.9], 0.35),  # worth a clip that lacks the label
        ([0.9, 0.1, 0.5, 0.6], 0.3),  # above the highest score nothing is right: F1 of 0 / 0
        ([0.6, 0.6, 0.6, 0.6], 0.3),  # nothing is lower: half-way to zero
        ([0.0, 0.2, 1.0, 1.0], 0.6),
    ],
)
def test_thresholds_lie_half_way_to_the_next_lower_score(scores, threshold):
    y = np.array([[0], [0], [1], [1]])
    assert f1_thresholds(y, np.transpose([scores])) == pytest.approx([threshold])


@pytest.mark.parametrize(
    ("y", "scores", "rule"),
    [
        (
            np.zeros((3, 2)),
            np.zeros((3, 2)),
            "at least one label of a clip with a weight above 0, got none in 3",
        ),
        (np.array([0, 1]), np.array([0, 1]), r"a matrix of zeros and ones, .* shape \(2,\)"),
        (np.full((2, 2), 3), np.zeros((2, 2)), "a matrix of zeros and ones"),
        (np.eye(2), np.zeros((2, 3)), r"the shape of y_true, \(2, 2\), got \(2, 3\)"),
    ],
)
def test_what_cannot_be_scored_is_named(y, scores, rule):
    with pytest.raises(ValueError, match=rule):
        mean_average_precision(y, scores)
