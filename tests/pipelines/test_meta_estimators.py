"""Searches, thresholds and voting around a pipeline, as arguments of every function."""

import joblib
import numpy as np
import pytest
from conftest import optional_import
from factories import make_mel
from networks import tiny_cnn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import RFECV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skaudio
from skaudio import PretrainedCNN, cost, export_onnx, predict_windows, report
from skaudio._cli.main import main
from skaudio.inspection import BudgetCurveDisplay, LearningCurveDisplay
from skaudio.pipelines._meta_estimators import is_search, threshold_last

pd = optional_import("pandas")
RATE = 8000


def mean_over_time(X):
    return X.mean(axis=2)


def make_plain():
    """Spectrograms and logistic regression."""
    mean = FunctionTransformer(mean_over_time)
    return Pipeline([("mel", make_mel()), ("mean", mean), ("clf", LogisticRegression(C=1e-2))])


def make_network():
    clf = PretrainedCNN(tiny_cnn, weights=None, max_epochs=1, batch_size=8, random_state=0)
    return make_pipeline(make_mel(), clf)


@pytest.fixture(scope="module")
def clips(tone_clips):
    paths, labels, _ = tone_clips
    return paths[:12], labels[:12]


@pytest.fixture(scope="module")
def plain(clips):
    return make_plain().fit(*clips)


@pytest.fixture(scope="module")
def network(clips):
    return make_network().fit(*clips)


def around(pipe, clips, name):
    """A fitted estimator around a pipeline that is fitted."""
    if name == "search":
        return GridSearchCV(pipe, {}, cv=2).fit(*clips)
    if name == "tuned":
        frozen = FrozenEstimator(pipe)
        tuned = TunedThresholdClassifierCV(frozen, cv="prefit", refit=False, store_cv_results=True)
        return tuned.fit(*clips)
    if name == "fixed":
        fixed = FixedThresholdClassifier(FrozenEstimator(pipe), pos_label="high")
        return fixed.fit(*clips)
    return GridSearchCV(FixedThresholdClassifier(pipe, pos_label="low"), {}, cv=2).fit(*clips)


@pytest.mark.parametrize("name", ["search", "tuned", "fixed", "search over thresholds"])
def test_windows_are_those_of_the_pipeline_within(plain, clips, name):
    model = around(plain, clips, name)
    pd.testing.assert_frame_equal(
        predict_windows(model, clips[0][:2]), predict_windows(plain, clips[0][:2])
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["search", "fixed"])
def test_a_network_within_is_counted_and_exported(network, clips, tmp_path, name):
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    model = around(network, clips, name)
    assert cost(model, clips[0], n_repeats=1).macs == cost(network, clips[0], n_repeats=1).macs
    export_onnx(model, tmp_path / "model.onnx")
    X = network[0].transform(clips[0])
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    found = session.run(["probabilities"], {"spectrogram": X})[0]
    np.testing.assert_allclose(found, model.predict_proba(clips[0]), atol=1e-5)


@pytest.mark.slow
def test_a_report_on_a_tuned_threshold_counts_what_it_predicts(clips, tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    tuned = TunedThresholdClassifierCV(make_plain(), cv=2, scoring="recall_macro").fit(*clips)
    file = report(tuned, *clips, tmp_path / "report.html")
    text = file.read_text(encoding="utf-8")
    assert (
        "MelSpectrogram \N{RIGHTWARDS ARROW} FunctionTransformer \N{RIGHTWARDS ARROW} Tuned" in text
    )
    assert text.count("<audio") == 12


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_a_threshold_on_the_last_step_predicts_what_it_did_around_the_pipeline(clips, threshold):
    paths, labels = clips
    fixed = FixedThresholdClassifier(make_plain(), threshold=threshold, pos_label="low")
    fixed.fit(paths, labels)
    moved = threshold_last(fixed)
    assert [name for name, _ in moved.steps] == ["mel", "mean", "clf"]
    np.testing.assert_array_equal(moved.predict(paths), fixed.predict(paths))
    again = threshold_last(FixedThresholdClassifier(make_plain(), threshold=threshold,
                                                    pos_label="low"))  # fmt: skip
    np.testing.assert_array_equal(again.fit(paths, labels).predict(paths), fixed.predict(paths))


def test_only_searches_over_parameters_are_searches(plain, clips):
    X, y = np.random.default_rng(0).normal(size=(12, 3)), clips[1]
    others = [
        around(plain, clips, "tuned"), RFECV(LogisticRegression(), cv=2).fit(X, y),
        GridSearchCV(LogisticRegression(), {}), plain,
    ]  # fmt: skip
    assert all(hasattr(one, "cv_results_") for one in others[:2])
    assert not any(map(is_search, others))
    assert is_search(GridSearchCV(LogisticRegression(), {}, cv=2, refit=False).fit(X, y))


@pytest.fixture(scope="module")
def keeping_no_model(clips):
    return GridSearchCV(make_plain(), {}, cv=2, refit=False).fit(*clips)


@pytest.mark.parametrize("scoring", [None, ["accuracy", "f1_macro"]])
@pytest.mark.parametrize(
    "use",
    [
        lambda search, X, y, folder: predict_windows(search, X[0]),
        lambda search, X, y, folder: cost(search, X),
        lambda search, X, y, folder: skaudio.save(search, folder / "model"),
        lambda search, X, y, folder: report(search, X, y, folder / "report.html"),
        lambda search, X, y, folder: LearningCurveDisplay.from_estimator(search),
    ],
    ids=["windows", "cost", "save", "report", "curve"],
)
def test_a_search_that_kept_no_model_says_how_to_get_one(clips, tmp_path, use, scoring):
    pytest.importorskip("pandas", reason="needs pandas")
    search = GridSearchCV(make_plain(), {}, cv=2, refit=False, scoring=scoring).fit(*clips)
    way_out = (
        r"\*\*search\.best_params_" if hasattr(search, "best_params_") else "name of one of its sc"
    )
    with pytest.raises(ValueError, match=f"must be a search with refit=True, got .*{way_out}"):
        use(search, *clips, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_line_refuses_a_search_that_kept_no_model(keeping_no_model, tmp_path, capsys):
    model = tmp_path / "model.joblib"
    joblib.dump(keeping_no_model, model)
    assert main(["predict", str(model), "a.wav"]) == 2
    assert "must be a search with refit=True, got refit=False" in capsys.readouterr().err


VOTES = {
    "calibrated": (lambda clf: CalibratedClassifierCV(clf, cv=2, ensemble=True),
                   r"calibrated_classifiers_\[0\]\.estimator"),
    "voting": (lambda clf: VotingClassifier([("a", clf)], voting="soft"), r"estimators_\[0\]"),
    "stacking": (lambda clf: StackingClassifier([("a", clf)], cv=2), r"estimators_\[0\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", VOTES)
def test_votes_around_a_pipeline_are_told_to_go_inside_where_they_work(clips, name):
    wrap, address = VOTES[name]
    paths, labels = clips
    outside = wrap(make_plain()).fit(paths, labels)
    rule = rf"got {type(outside).__name__}: put it inside the pipeline, .* its {address}\."
    pytest.importorskip("pandas", reason="needs pandas")
    with pytest.raises(ValueError, match=rule):
        predict_windows(outside, paths[0])
    plain = make_plain()
    inside = Pipeline([*plain.steps[:-1], ("clf", wrap(plain[-1]))]).fit(paths, labels)
    table = predict_windows(inside, paths[0])
    np.testing.assert_allclose(table.probability, inside.predict_proba(paths[:1])[0])


@pytest.mark.parametrize("name", VOTES)
def test_votes_of_networks_have_no_one_network_to_count(clips, name):
    wrap, address = VOTES[name]
    outside = wrap(make_network()).fit(*clips)
    with pytest.raises(ValueError, match=f": pass one of its pipelines, such as its {address}"):
        cost(outside, clips[0])
    mel, clf = (step for _, step in make_network().steps)
    inside = make_pipeline(mel, wrap(clf)).fit(*clips)
    with pytest.raises(ValueError, match=rf"make_pipeline\(\*pipe\[:-1\], pipe\[-1\]\.{address}\)"):
        cost(inside, clips[0])
    names = address.replace("\\", "")
    found = cost(make_pipeline(*inside[:-1], eval(f"inside[-1].{names}")), clips[0], n_repeats=1)
    assert found.macs > 0


def test_what_is_not_fitted_is_said_to_be_not_fitted(plain, clips):
    for model in (
        GridSearchCV(plain, {}),
        CalibratedClassifierCV(plain),
        FrozenEstimator(make_plain()),
    ):
        with pytest.raises(NotFittedError, match="not fitted"):
            cost(model, clips[0])


@pytest.mark.slow
def test_a_threshold_is_no_search_over_budgets(plain, clips):
    tuned = TunedThresholdClassifierCV(plain, cv=2, store_cv_results=True).fit(*clips)
    with pytest.raises(ValueError, match="must be a search over a Pipeline, got TunedThreshold"):
        BudgetCurveDisplay.from_search(tuned, clips[0])
