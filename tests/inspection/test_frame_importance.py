"""Scores of frames, and their display."""

import copy
import sys

import numpy as np
import pytest
import soundfile
import torch
from factories import make_events
from networks import tiny_cnn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skaudio import DiffResResampler, MelSpectrogram, PretrainedCNN, cost
from skaudio.inspection import BudgetCurveDisplay, FrameImportanceDisplay, frame_importance

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plt")]  # searches are fitted

RATE, HOP, DURATION = 8000, 80, 1.2


def make_pipe(budget=0.25, *, method="diffres", **mel):
    settings = {"sample_rate": RATE, "duration": DURATION, "n_fft": 256, "n_mels": 32} | mel
    clf = PretrainedCNN(tiny_cnn, weights=None, max_epochs=2, batch_size=8, random_state=0)
    resampler = DiffResResampler(budget, method=method, random_state=0)
    steps = [("mel", MelSpectrogram(**{"hop_length": HOP} | settings)), ("diffres", resampler)]
    return Pipeline([*steps, ("clf", clf)])


@pytest.fixture(scope="module")
def clips():
    return make_events(duration=DURATION)


@pytest.fixture(scope="module")
def pipe(clips):
    """A fitted pipeline whose scores differ clearly from uniform ones."""
    pipe = make_pipe().fit(*clips)
    with torch.no_grad():
        pipe[-1].frontend_[0].estimator.head.weight.fill_(1.0)
    return pipe


@pytest.fixture(scope="module")
def search(clips):
    grid = {"mel__hop_length": [80, 160], "diffres__budget": [0.25, 0.5]}
    return GridSearchCV(make_pipe(), grid, cv=2).fit(*clips)


def flatten(X):
    return np.asarray(X).reshape(len(X), -1)


def test_scores_lie_in_the_unit_interval_and_sum_to_the_output_frames(pipe, clips):
    importance = frame_importance(pipe, clips[0])
    assert importance.shape == (16, 121)
    assert 0.0 <= importance.min() < 0.2 < 0.5 < importance.max() <= 1.0
    np.testing.assert_allclose(importance.sum(axis=1), 30, rtol=1e-5)


def test_a_budget_changed_after_fitting_counts(pipe, clips):
    half = copy.deepcopy(pipe).set_params(diffres__budget=0.5)
    np.testing.assert_allclose(frame_importance(half, clips[0]).sum(axis=1), 60, rtol=1e-5)


def test_the_trained_copy_of_the_classifier_is_asked_not_the_resampler(pipe, clips):
    even = frame_importance(pipe[:-1], clips[0])
    np.testing.assert_allclose(even, 30 / 121, rtol=1e-5)
    assert frame_importance(pipe, clips[0]).std() > 0.05


def test_asking_leaves_the_pipeline_as_it_was(pipe, clips):
    before = pipe.predict_proba(clips[0])
    frame_importance(pipe, clips[0])
    np.testing.assert_array_equal(pipe.predict_proba(clips[0]), before)
    assert not pipe[-1].frontend_[0].estimator.head.weight.is_inference()


def test_clips_are_scored_alike_alone_and_in_batches(pipe, clips):
    pipe = copy.deepcopy(pipe)  # its network is new and has not predicted yet
    with torch.no_grad():  # less steep scores, which enlarge rounding less
        pipe[-1].frontend_[0].estimator.head.weight.fill_(0.1)
    many = np.concatenate([clips[0]] * 3)  # more than one batch
    alone = frame_importance(pipe, clips[0][3:4])[0]
    np.testing.assert_allclose(frame_importance(pipe, many)[35], alone, atol=1e-5)


def test_before_an_ordinary_estimator_the_pretrained_scores_are_given(clips):
    waves, labels = clips
    resampler = DiffResResampler(0.25, pretrain_epochs=2, random_state=0)
    last = FunctionTransformer(flatten), LogisticRegression(max_iter=1000)
    pipe = make_pipeline(make_pipe()[0], resampler, *last).fit(waves, labels)
    importance = frame_importance(pipe, waves)
    np.testing.assert_array_equal(importance, frame_importance(pipe[:2], waves))
    assert importance.std() > 1e-3


def test_pipelines_without_scores_say_what_is_missing(clips):
    waves, labels = clips
    plain = make_pipe()
    plain.steps.pop(1)
    with pytest.raises(ValueError, match="must have a DiffResResampler step, got MelSpectrogram, "):
        frame_importance(plain.fit(waves, labels), waves)
    average = make_pipe(method="average").fit(waves, labels)
    with pytest.raises(ValueError, match="with method='diffres', got AveragePooling"):
        frame_importance(average, waves)


def test_pipelines_must_be_fitted_and_pipelines(search, clips):
    with pytest.raises(NotFittedError, match="not fitted"):
        frame_importance(make_pipe(), clips[0])
    with pytest.raises(ValueError, match="pipe of frame_importance must be .* got ndarray"):
        frame_importance(clips[0], clips[0])


def test_of_a_search_the_best_pipeline_is_looked_into(search, clips):
    found = frame_importance(search, clips[0])
    np.testing.assert_array_equal(found, frame_importance(search.best_estimator_, clips[0]))
    display = FrameImportanceDisplay.from_estimator(search, clips[0][0])
    np.testing.assert_allclose(display.importance, found[0], atol=1e-6)


def test_the_time_axis_spans_the_clip_and_the_output_axis_its_frames(pipe, clips):
    display = FrameImportanceDisplay.from_estimator(pipe, clips[0][0])
    top, curve, flow, bottom = display.axes_
    for ax in (top, curve, flow):
        assert ax.get_xlim() == (0.0, DURATION)
    assert bottom.get_xlim() == (0, 30)
    assert (top.get_xlabel(), bottom.get_xlabel()) == ("Time (s)", "Output frame (30 from 121)")
    assert {ax.figure for ax in display.axes_} == {display.figure_}


def test_frames_are_drawn_where_their_centres_are(pipe, clips):
    edges = FrameImportanceDisplay.from_estimator(pipe, clips[0][0]).frame_edges
    np.testing.assert_allclose((edges[:-1] + edges[1:]) / 2, np.arange(121) * HOP / RATE, atol=1e-9)


@pytest.mark.parametrize("mel", [{"center": False}, {"n_frames": 50}])
def test_an_event_is_drawn_when_it_sounds(clips, mel):
    wave = np.zeros(round(RATE * DURATION), dtype=np.float32)
    wave[round(0.5 * RATE)] = 1.0
    display = FrameImportanceDisplay.from_estimator(make_pipe(**mel).fit(*clips), wave)
    loudest = display.log_mel.mean(axis=0).argmax()
    start, end = display.frame_edges[loudest : loudest + 2]
    assert start - 0.005 <= 0.5 <= end + 0.005


def test_a_tone_is_drawn_at_its_frequency(pipe):
    time = np.arange(round(RATE * DURATION)) / RATE
    display = FrameImportanceDisplay.from_estimator(pipe, np.sin(2 * np.pi * 1000.0 * time))
    top = display.axes_[0]
    places = {t.get_text(): p for t, p in zip(top.get_yticklabels(), top.get_yticks(), strict=True)}
    assert top.get_ylabel() == "Frequency (Hz)"
    assert abs(display.log_mel[:, 60].argmax() + 0.5 - places["1000"]) <= 1.0


def test_levels_are_decibels_below_the_loudest_cell(pipe, clips):
    display = FrameImportanceDisplay.from_estimator(pipe, clips[0][0])
    (image,) = display.axes_[0].images
    drawn = np.asarray(image.get_array())
    assert drawn.max() == pytest.approx(0.0, abs=1e-5)
    expected = 10 * np.log10(np.exp(display.log_mel.min() - display.log_mel.max()))
    assert drawn.min() == pytest.approx(expected, rel=1e-4)
    assert image.get_clim() == display.axes_[3].images[0].get_clim()


def test_stripes_join_a_frame_to_the_place_it_goes_to(pipe, clips):
    display = FrameImportanceDisplay.from_estimator(pipe, clips[0][0])
    (stripes,) = display.axes_[2].collections
    assert len(stripes.get_paths()) == 30
    reached = np.cumsum(display.importance)
    _, above, below, *_ = stripes.get_paths()[9].vertices  # right side: ten frames are full
    assert np.interp(above[0], display.frame_edges[1:], reached) == pytest.approx(10.0, abs=1e-3)
    assert below[0] == pytest.approx(DURATION * 10 / 30)


def test_spectrograms_without_their_origin_are_drawn_in_frames_and_bands():
    X = np.random.default_rng(0).normal(size=(4, 16, 20)).astype(np.float32)
    pipe = make_pipeline(DiffResResampler(0.5)).fit(X)
    display = FrameImportanceDisplay.from_estimator(pipe, X[0])
    assert display.axes_[0].get_xlim() == (0, 20)
    assert display.axes_[0].get_xlabel() == "Frame"
    assert display.axes_[0].get_ylabel() == "Mel band"
    np.testing.assert_array_equal(display.log_mel, X[0])


@pytest.mark.parametrize(("budget", "n_frames_out"), [(1, 1), (1.0, 121)])
def test_silence_and_extreme_budgets_can_be_drawn(clips, budget, n_frames_out):
    silence = np.zeros(round(RATE * DURATION), dtype=np.float32)
    display = FrameImportanceDisplay.from_estimator(make_pipe(budget).fit(*clips), silence)
    display.figure_.canvas.draw()
    assert display.importance.sum() == pytest.approx(n_frames_out, rel=1e-5)


def test_paths_are_drawn_into_axes_that_are_given(pipe, clips, tmp_path, plt):
    soundfile.write(tmp_path / "clip.wav", clips[0][0], RATE, subtype="FLOAT")
    figure, axes = plt.subplots(2, 2)
    display = FrameImportanceDisplay.from_estimator(pipe, tmp_path / "clip.wav", axes=axes)
    assert display.figure_ is figure
    np.testing.assert_array_equal(display.axes_, axes.ravel())
    np.testing.assert_allclose(display.importance, frame_importance(pipe, clips[0][:1])[0])


def test_one_clip_and_four_axes_are_needed(pipe, clips, plt):
    with pytest.raises(ValueError, match="path of .* one path or one array, got list"):
        FrameImportanceDisplay.from_estimator(pipe, ["a.wav", "b.wav"])
    with pytest.raises(ValueError, match="axes of FrameImportanceDisplay must be 4 Axes, got 1"):
        FrameImportanceDisplay.from_estimator(pipe, clips[0][0], axes=plt.figure().add_subplot())


def test_a_missing_matplotlib_is_named_with_the_remedy(pipe, clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'skaudio\[plot\]'"):
        FrameImportanceDisplay.from_estimator(pipe, clips[0][0])


def test_the_curve_has_a_line_per_hop_and_a_point_per_budget(search, clips):
    display = BudgetCurveDisplay.from_search(search, clips[0][:1])
    frames, macs = display.axes_
    assert [len(ax.containers) for ax in (frames, macs)] == [2, 2]
    longest_hop = frames.containers[0].lines[0]
    np.testing.assert_array_equal(longest_hop.get_xdata(), [15, 30])
    texts = [text.get_text() for text in macs.get_legend().get_texts()]
    assert texts == ["hop 20 ms", "hop 10 ms", "budget 0.25", "budget 0.5"]
    assert "(M)" in macs.get_xlabel()


def test_points_are_mean_and_deviation_over_the_folds(search, clips):
    results = BudgetCurveDisplay.from_search(search, clips[0]).results
    table = search.cv_results_
    for n, params in enumerate(table["params"]):
        hop_ms = 1e3 * params["mel__hop_length"] / RATE
        row = (results["hop_length"] == hop_ms) & (results["budget"] == params["diffres__budget"])
        assert results["score"][row] == table["mean_test_score"][n]
        assert results["score_std"][row] == table["std_test_score"][n]


def test_the_arithmetic_of_candidates_is_that_of_fitted_pipelines(search, clips):
    results = BudgetCurveDisplay.from_search(search, clips[0]).results
    best = cost(search.best_estimator_, clips[0], n_repeats=1)
    row = results["score"].argmax()
    assert (results["macs"][row], results["frames"][row]) == (best.macs, best.n_frames_out)


def test_a_search_of_the_budget_alone_gives_one_line(clips):
    search = GridSearchCV(make_pipe(), {"diffres__budget": [0.5, 10]}, cv=2).fit(*clips)
    display = BudgetCurveDisplay.from_search(search, clips[0], against="frames")
    (ax,) = display.axes_
    assert len(ax.containers) == 1
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["hop 10 ms", "budget 0.5", "budget 10 frames"]
    assert "macs" not in display.results


def test_the_best_of_other_parameters_counts(clips):
    grid = {"diffres__budget": [0.5], "clf__max_epochs": [1, 2], "clf__lr": [1e-6, 1e-2]}
    search = GridSearchCV(make_pipe(), grid, cv=2).fit(*clips)
    results = BudgetCurveDisplay.from_search(search, clips[0], against="frames").results
    assert results["score"].tolist() == [search.best_score_]


def test_candidates_that_failed_are_left_out(clips):
    grid = {"diffres__budget": [0.5, 5000]}
    search = GridSearchCV(make_pipe(), grid, cv=2)
    with pytest.warns(Warning, match="fits failed|non-finite"):
        search.fit(*clips)
    results = BudgetCurveDisplay.from_search(search, clips[0]).results
    assert results["budget"].tolist() == [0.5]


def test_searches_that_cannot_be_drawn_say_why(search, clips):
    waves, labels = clips
    hops = GridSearchCV(make_pipe(), {"mel__hop_length": [400]}, cv=2).fit(waves, labels)
    with pytest.raises(ValueError, match="that ends in '__budget', got .*mel__hop_length"):
        BudgetCurveDisplay.from_search(hops, waves)
    with pytest.raises(NotFittedError, match="GridSearchCV instance is not fitted"):
        BudgetCurveDisplay.from_search(clone(search), waves)
    with pytest.raises(ValueError, match="must be a search over a Pipeline, got Pipeline"):
        BudgetCurveDisplay.from_search(search.best_estimator_, waves)
    with pytest.raises(ValueError, match="'frames', 'macs' or both, got 'seconds'"):
        BudgetCurveDisplay.from_search(search, waves, against="seconds")


def test_arithmetic_needs_a_refitted_search_but_frames_do_not(clips):
    search = GridSearchCV(make_pipe(), {"diffres__budget": [0.5]}, cv=2, refit=False).fit(*clips)
    with pytest.raises(ValueError, match="must have refit=True .* got refit=False"):
        BudgetCurveDisplay.from_search(search, clips[0])
    display = BudgetCurveDisplay.from_search(search, clips[0], against="frames")
    assert display.results["frames"].tolist() == [60]


def test_ordinary_estimators_are_drawn_against_frames_only(clips):
    last = FunctionTransformer(flatten), LogisticRegression(max_iter=1000)
    pipe = make_pipeline(make_pipe()[0], DiffResResampler(random_state=0), *last)
    search = GridSearchCV(pipe, {"diffresresampler__budget": [0.25, 0.5]}, cv=2).fit(*clips)
    display = BudgetCurveDisplay.from_search(search, clips[0], against="frames")
    assert sorted(display.results["frames"]) == [30, 60]
    with pytest.raises(ValueError, match="must end with a skaudio classifier, .* Logistic"):
        BudgetCurveDisplay.from_search(search, clips[0])
