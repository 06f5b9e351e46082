"""DiffResResampler: by itself, before ordinary estimators, and trained with a classifier."""

import pickle
from functools import partial

import factories
import joblib
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skaudio import MFCC, DiffResResampler, MelSpectrogram
from skaudio.nn._differentiable import DifferentiableArray

make_classifier = partial(factories.make_classifier, max_epochs=8)


@pytest.fixture
def events():
    """Log-mel clips whose class is the band of a short event, and where the events are."""
    rng = np.random.default_rng(0)
    X = rng.normal(-6, 0.5, size=(60, 8, 60)).astype(np.float32)
    y = np.array(["high", "low"] * 30)
    where = np.zeros((60, 60), dtype=bool)
    for clip in range(60):
        start = rng.integers(0, 57)
        X[clip, 5 if y[clip] == "high" else 2, start : start + 3] += 5
        where[clip, start : start + 3] = True
    return X, y, where


def make_pipe(**parameters):
    """Resampler and classifier, trained together."""
    steps = [("diffres", DiffResResampler(0.25, random_state=0)), ("clf", make_classifier())]
    return Pipeline(steps).set_params(**parameters)


# Where it does not matter how well they have learnt.
make_short_classifier = partial(make_classifier, max_epochs=2)
make_short_pipe = partial(make_pipe, clf__max_epochs=2)


def importance(classifier, X):
    """Scores of a classifier's own front end."""
    with torch.no_grad():
        return classifier.frontend_[0].eval().scores(torch.from_numpy(X)).numpy()


def test_budget_is_a_share_or_a_number_of_frames(events):
    X, _, _ = events
    for budget, n_frames in [(0.25, 15), (1.0, 60), (1, 1), (7, 7), (np.int64(7), 7),
                             (np.float32(0.5), 30), (0.001, 1)]:  # fmt: skip
        assert DiffResResampler(budget).fit_transform(X).shape == (60, 1, 8, n_frames)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["average", "average-max", "conv-average"])
def test_the_methods_of_comparison_give_one_channel(events, method):
    X, y, _ = events
    resampled = DiffResResampler(0.2, method=method).fit_transform(X)
    assert np.asarray(resampled).shape == resampled.shape == (60, 1, 8, 12)
    pipe = make_pipe(diffres__method=method, diffres__budget=0.5)
    assert cross_val_score(pipe, X, y, cv=3).mean() > 0.8


def test_an_untrained_resampler_is_average_pooling_of_power(events):
    X, _, _ = events
    mean = np.asarray(DiffResResampler(0.25, random_state=1).fit_transform(X))[:, 0]
    expected = np.log(np.exp(X).reshape(60, 8, 15, 4).mean(-1))
    np.testing.assert_allclose(mean, expected, atol=1e-5)


def test_fit_transform_equals_fit_and_transform(events):
    X, y, _ = events
    resampler = DiffResResampler(0.25, pretrain_epochs=2, random_state=0)
    together = resampler.fit_transform(X, y)
    apart = clone(resampler).fit(X, y).transform(X)
    np.testing.assert_array_equal(np.asarray(together), np.asarray(apart))


@pytest.mark.slow
def test_training_is_joint_and_finds_the_events(events):
    X, y, where = events
    pipe = make_pipe(diffres__budget=0.1, clf__max_epochs=15).fit(X, y)
    scores = importance(pipe["clf"], X)
    untrained = importance(make_classifier(max_epochs=1, frontend_lr=1e-12).fit(
        DiffResResampler(0.1, random_state=0).fit_transform(X), y), X)  # fmt: skip
    np.testing.assert_allclose(untrained, 0.1, atol=1e-4)
    np.testing.assert_allclose(scores.sum(1), 6, rtol=1e-5)
    assert scores[where].mean() > 2 * scores[~where].mean()
    assert pipe.score(X, y) > 0.9


@pytest.mark.slow
def test_the_classifier_trains_a_copy_and_leaves_the_step_alone(events):
    X, y, _ = events
    resampler = DiffResResampler(0.25, random_state=0)
    array = resampler.fit_transform(X)
    before = pickle.dumps(resampler)
    first, second = (make_short_classifier(lr=lr).fit(array, y) for lr in (5e-3, 1e-3))
    assert pickle.dumps(resampler) == before
    assert resampler.module_.estimator.head.weight.abs().sum() == 0
    assert not np.array_equal(importance(first, X), importance(second, X))
    alone = make_short_classifier().fit(clone(resampler).fit_transform(X), y)
    np.testing.assert_array_equal(importance(first, X), importance(alone, X))


@pytest.mark.slow
def test_memory_changes_nothing_on_the_first_and_second_fit(events, tmp_path):
    X, y, _ = events
    plain = make_short_pipe().fit(X, y)
    for _ in range(2):
        cached = make_short_pipe(memory=joblib.Memory(tmp_path, verbose=0)).fit(X, y)
        np.testing.assert_array_equal(cached.predict_proba(X), plain.predict_proba(X))
        np.testing.assert_array_equal(importance(cached["clf"], X), importance(plain["clf"], X))


@pytest.mark.slow
def test_a_step_that_passes_things_on_keeps_the_training_joint(events):
    X, y, _ = events
    steps = make_short_pipe().steps
    pipe = Pipeline([steps[0], ("log", FunctionTransformer(lambda values: values)), steps[1]])
    np.testing.assert_array_equal(
        pipe.fit(X, y).predict_proba(X), make_short_pipe().fit(X, y).predict_proba(X)
    )


def test_a_step_that_computes_sees_the_resampled_array_and_ends_the_joint_training(events):
    X, y, _ = events
    steps = make_pipe().steps
    pipe = Pipeline(
        [steps[0], ("half", FunctionTransformer(lambda a: np.asarray(a) / 2)), steps[1]]
    )
    pipe.fit(X, y)
    assert len(pipe["clf"].frontend_) == 0
    assert pipe["clf"].input_shape_ == (1, 8, 15)


@pytest.mark.slow
def test_copies_files_and_searches_behave(events, tmp_path):
    X, y, _ = events
    pipe = make_short_pipe().fit(X, y)
    proba = pipe.predict_proba(X)
    np.testing.assert_array_equal(clone(pipe).fit(X, y).predict_proba(X), proba)
    np.testing.assert_array_equal(pipe.fit(X, y).predict_proba(X), proba)
    joblib.dump(pipe, tmp_path / "pipe.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "pipe.joblib").predict_proba(X), proba)
    assert joblib.hash(pipe) == joblib.hash(make_short_pipe().fit(X, y))


@pytest.mark.slow
def test_skops_loads_a_pipeline_while_trusting_only_this_package(events, tmp_path):
    skops_io = pytest.importorskip("skops.io", reason="needs skops")
    X, y, _ = events
    pipe = make_pipe(clf__backbone="test_resnet", clf__max_epochs=1).fit(X, y)
    skops_io.dump(pipe, tmp_path / "pipe.skops")
    unknown = skops_io.get_untrusted_types(file=tmp_path / "pipe.skops")
    loaded = skops_io.load(tmp_path / "pipe.skops", trusted=unknown)
    assert {name.split(".")[0] for name in unknown} == {"skaudio"}
    np.testing.assert_array_equal(loaded.predict_proba(X), pipe.predict_proba(X))


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.stress)])
def test_a_search_over_hop_and_budget_on_paths(tone_clips, tmp_path, n_jobs):
    paths, labels, _ = tone_clips
    mel = MelSpectrogram(
        sample_rate=8000, duration=0.2, n_fft=256, n_mels=16, cache_dir=tmp_path / "cache"
    )
    pipe = Pipeline([("mel", mel), *make_pipe(clf__max_epochs=2).steps])
    grid = {"mel__hop_length": [32, 64], "diffres__budget": [0.25, 1.0]}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=n_jobs, scoring="neg_log_loss")
    scores = search.fit(paths, labels).cv_results_["mean_test_score"]
    alone = cross_val_score(
        clone(pipe).set_params(mel__hop_length=64, diffres__budget=0.25),
        paths, labels, cv=2, scoring="neg_log_loss",
    )  # fmt: skip
    assert len(np.unique(scores)) == 4
    assert scores[1] == alone.mean()


@pytest.mark.slow
def test_threads_and_processes_give_the_same_bits(events):
    X, y, _ = events
    pipe = make_pipe(clf__max_epochs=2)
    alone = cross_val_predict(pipe, X, y, cv=2, method="predict_proba")
    for backend in ("loky", "threading"):
        with joblib.parallel_config(backend, n_jobs=2):
            together = cross_val_predict(pipe, X, y, cv=2, method="predict_proba")
        np.testing.assert_array_equal(alone, together)


@pytest.mark.slow
def test_folds_of_a_resampled_array_are_trained_jointly(events):
    X, y, _ = events
    array = DiffResResampler(0.25, random_state=0).fit_transform(X)
    np.testing.assert_array_equal(
        cross_val_predict(make_short_classifier(), array, y, cv=2, method="predict_proba"),
        cross_val_predict(make_short_pipe(), X, y, cv=2, method="predict_proba"),
    )


@pytest.mark.slow
def test_members_of_a_vote_each_train_their_own(events):
    X, y, _ = events
    vote = VotingClassifier(
        [(str(seed), make_classifier(random_state=seed)) for seed in (0, 1)], voting="soft"
    )
    pipe = Pipeline([("diffres", DiffResResampler(0.25, random_state=0)), ("vote", vote)]).fit(X, y)
    first, second = (importance(member, X) for member in pipe["vote"].estimators_)
    assert not np.array_equal(first, second)
    assert pipe.score(X, y) > 0.9


@pytest.mark.slow
def test_the_budget_can_be_changed_without_fitting_again(events):
    X, y, _ = events
    pipe = make_pipe().fit(X, y)
    before = pipe.predict_proba(X)
    other = pipe.set_params(diffres__budget=0.5).predict_proba(X)
    wide = pipe[:-1].transform(X)
    assert wide.shape == (60, 1, 8, 30)
    assert not np.array_equal(other, before)
    assert (other.argmax(1) == before.argmax(1)).mean() > 0.8
    np.testing.assert_array_equal(pipe.set_params(diffres__budget=0.25).predict_proba(X), before)


@pytest.mark.slow
def test_other_numbers_of_frames_can_be_predicted(events):
    X, y, _ = events
    pipe = make_short_pipe().fit(X, y)
    assert pipe.predict(X[..., :45]).shape == (60,)
    assert pipe[:-1].transform(X[..., :45]).shape == (60, 1, 8, 11)


def test_arrays_of_another_resampler_are_refused(events):
    X, y, _ = events
    clf = make_classifier(max_epochs=1).fit(DiffResResampler(0.25).fit_transform(X), y)
    rule = r"X of PretrainedCNN must come from the same step as in fit: .*was trained, not"
    with pytest.raises(ValueError, match=rf"{rule} AveragePooling\(n_mels=8, budget=0\.25\)"):
        clf.predict(DiffResResampler(0.25, method="average").fit_transform(X))
    with pytest.raises(ValueError, match=r"1 front end\(s\) were trained, not 0\. Fit the pipe"):
        clf.predict(X)


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        ({"frames_per_score": 2}, True),
        ({"channels": "mean-max-encoding"}, True),
        ({"score_gradient": "task", "guide_weight": 1.0, "budget": 0.5}, False),
    ],
)
def test_settings_that_decide_what_the_network_sees_cannot_change_after_training(
    events, changed, refused
):
    X, y, _ = events
    clf = make_classifier(max_epochs=1).fit(DiffResResampler(0.25).fit_transform(X), y)
    other = DiffResResampler(**{"budget": 0.25, **changed}).fit_transform(X)
    if not refused:
        assert clf.predict(other).shape == (60,)
        return
    with pytest.raises(ValueError, match=r"from the same step as in fit: DiffRes\(.* was trained"):
        clf.predict(other)


def test_a_classifier_of_plain_arrays_takes_resampled_ones_as_numbers(events):
    X, y, _ = events
    array = DiffResResampler(0.25).fit_transform(X)
    clf = make_short_classifier().fit(np.asarray(array), y)
    np.testing.assert_array_equal(clf.predict_proba(array), clf.predict_proba(np.asarray(array)))


@pytest.mark.slow
def test_warm_starts_and_chunks_go_on_with_the_trained_copy(events):
    X, y, _ = events
    array = DiffResResampler(0.25, random_state=0).fit_transform(X)
    clf = make_classifier(warm_start=True, max_epochs=4).fit(array, y)
    weight = clf.frontend_[0].estimator.head.weight.clone()
    clf.set_params(frontend_lr=1e-12, lr=1e-12).fit(array, y)
    torch.testing.assert_close(clf.frontend_[0].estimator.head.weight, weight)
    chunks = make_classifier(random_state=1)
    for _ in range(3):
        chunks.partial_fit(array[:30], y[:30], classes=["high", "low"])
    assert np.ptp(importance(chunks, X)) > 0


@pytest.mark.parametrize("rates", [{"lr": 1e4}, {"frontend_lr": 1e20}])
def test_joint_training_that_diverges_says_so(events, rates):
    X, y, _ = events
    array = DiffResResampler(0.25, random_state=0).fit_transform(X)
    with pytest.raises(ValueError, match="Training of PretrainedCNN diverged"):
        make_classifier(**rates, schedule=None, max_epochs=3).fit(array, y)


def test_fit_leaves_the_statistics_of_all_training_clips(events):
    X, y, _ = events
    X = X + np.linspace(0, 3, 8)[:, None].astype(np.float32)
    X[30:] += 1.0  # the order of the clips must not matter
    clf = make_pipe(clf__batch_size=10, clf__max_epochs=2).fit(X, y)[-1]
    estimator = clf.frontend_[0].estimator
    np.testing.assert_allclose(estimator.norm.running_mean, X.mean((0, 2)), rtol=1e-5)
    np.testing.assert_allclose(estimator.norm.running_var, X.var((0, 2)), rtol=0.1)
    # Weights at rest: what the last layer sees is normalised, in evaluation as in training.
    seen = []
    estimator.blocks[-1].norm2.register_forward_hook(lambda *call: seen.append(call[-1]))
    importance(clf, X)
    spread = seen[0].var((0, 2))
    gain = estimator.blocks[-1].norm2.weight.detach().square()
    np.testing.assert_allclose(spread, gain, rtol=0.1)


@pytest.mark.slow
def test_a_chunk_moves_the_statistics_but_does_not_replace_them(events):
    X, y, _ = events
    pipe = make_short_pipe().fit(X, y)
    norm = pipe[-1].frontend_[0].estimator.norm
    before = norm.running_mean.numpy().copy()
    pipe[-1].partial_fit(pipe[0].transform(X[:8] + 4.0), y[:8])
    after = pipe[-1].frontend_[0].estimator.norm.running_mean.numpy()
    np.testing.assert_allclose(after - before, 0.4, atol=0.1)


@pytest.mark.slow
def test_looking_at_the_front_end_after_fit_changes_nothing(events):
    X, y, _ = events
    array = DiffResResampler(0.25, random_state=0).fit_transform(X)
    looked, not_looked = (make_classifier(max_epochs=2).fit(array, y) for _ in range(2))
    with torch.no_grad():
        looked.frontend_[0].scores(torch.from_numpy(X[:3]))
    np.testing.assert_array_equal(looked.predict_proba(array), not_looked.predict_proba(array))


def test_a_warm_start_follows_the_guide_weight(events):
    X, y, _ = events
    pipe = make_pipe(clf__warm_start=True, clf__max_epochs=1).fit(X, y)
    pipe.set_params(diffres__guide_weight=0.0).fit(X, y)
    assert pipe["clf"].frontend_[0].guide_weight == 0.0


def test_one_channel_may_be_given_as_an_axis_or_not(events):
    X, _, _ = events
    resampler = DiffResResampler(0.25, random_state=0)
    for fitted, other in ((X, X[:, None]), (X[:, None], X)):
        same, again = (np.asarray(resampler.fit(fitted).transform(Z)) for Z in (fitted, other))
        np.testing.assert_array_equal(same, again)


def test_pretraining_behind_another_step_sees_what_comes_out_of_it(events):
    X, y, _ = events
    first = DiffResResampler(0.5, method="average").fit_transform(X)
    chained = DiffResResampler(0.5, pretrain_epochs=1, random_state=0).fit(first, y)
    alone = clone(chained).fit(np.asarray(first), y)
    assert chained.n_features_in_ == 8
    for mine, other in zip(*(r.module_.parameters() for r in (chained, alone)), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.slow
def test_early_stopping_takes_the_front_end_back_too(events):
    X, y, _ = events
    y = np.random.default_rng(3).permutation(y)
    array = DiffResResampler(0.25, random_state=0).fit_transform(X)
    stop = {"early_stopping": True, "validation_fraction": 0.3, "max_epochs": 30}
    clf = make_classifier(n_iter_no_change=3, **stop).fit(array, y)
    longer = make_classifier(n_iter_no_change=5, **stop).fit(array, y)
    assert clf.n_iter_ < longer.n_iter_
    np.testing.assert_array_equal(importance(clf, X), importance(longer, X))


@pytest.mark.slow
def test_pretraining_serves_ordinary_classifiers(events):
    X, y, where = events
    flat = FunctionTransformer(lambda a: np.asarray(a)[:, 0].max(-1))
    for last in (LogisticRegression(), HistGradientBoostingClassifier(min_samples_leaf=3)):
        pipe = make_pipeline(
            DiffResResampler(0.1, pretrain_epochs=15, random_state=0), flat, last
        ).fit(X, y)
        assert pipe.score(X, y) > 0.9
    module = pipe[0].module_
    with torch.no_grad():
        scores = module.scores(torch.from_numpy(X)).numpy()
    assert scores[where].mean() > 1.5 * scores[~where].mean()


@pytest.mark.slow
def test_pretraining_on_an_indicator_matrix_finds_the_events_too(events):
    X, y, where = events
    labels = np.unique(y)
    settings = {"budget": 0.1, "pretrain_epochs": 15, "random_state": 0}
    fits = [DiffResResampler(**settings).fit(X, kind(y[:, None] == labels)) for kind in
            (np.asarray, csr_array)]  # fmt: skip
    scores = [fit.module_.scores(torch.from_numpy(X)).detach().numpy() for fit in fits]
    np.testing.assert_array_equal(*scores)
    assert scores[0][where].mean() > 1.5 * scores[0][~where].mean()


def test_after_pretraining_normalisation_has_the_statistics_of_the_clips(events):
    """Whatever the running averages of two steps had held."""
    X, y, _ = events
    module = DiffResResampler(0.25, pretrain_epochs=1, random_state=0).fit(X, y).module_
    norms = [m for m in module.modules() if hasattr(m, "running_var")]
    assert norms
    settled = [norm.running_var.clone() for norm in norms]
    module.train()
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        module.scores(torch.from_numpy(X))
    for norm, value in zip(norms, settled, strict=True):
        torch.testing.assert_close(norm.running_var, value, rtol=0.2, atol=0.02)


@pytest.mark.slow
def test_an_aeon_classifier_takes_the_merged_bands_as_channels(events):
    aeon = pytest.importorskip("aeon.classification.convolution_based", reason="needs aeon")
    X, y, _ = events
    pipe = make_pipeline(
        DiffResResampler(0.5, pretrain_epochs=3, random_state=0),
        FunctionTransformer(lambda a: np.asarray(a, dtype=float)[:, 0]),
        aeon.RocketClassifier(n_kernels=200, random_state=0),
    )
    assert pipe.fit(X[:40], y[:40]).score(X[40:], y[40:]) > 0.8


@pytest.mark.slow
def test_steps_chain(events):
    X, y, _ = events
    pipe = make_pipeline(
        DiffResResampler(0.5, method="average"),
        DiffResResampler(0.5, random_state=0),
        make_classifier(),
    ).fit(X, y)
    assert [type(m).__name__ for m in pipe[-1].frontend_] == ["AveragePooling", "DiffRes"]
    assert pipe[:-1].transform(X).shape == (60, 1, 8, 15)


def test_the_generator_of_torch_is_left_alone(events):
    X, y, _ = events
    torch.manual_seed(5)
    before = torch.get_rng_state()
    DiffResResampler(0.25, pretrain_epochs=1).fit(X, y).transform(X)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_state_holds_no_torch_object(events):
    X, _, _ = events
    kind, config, arrays = DiffResResampler(np.float32(0.25)).fit(X).__getstate__()["module_"]
    assert kind == "DiffRes"
    assert {name: type(value) for name, value in config.items()} == {
        "n_mels": int, "budget": float, "guide_weight": float, "channels": str,
        "score_gradient": str, "frames_per_score": int, "energy_floor": float, "logit_scale": float,
    }  # fmt: skip
    assert {type(array) for array in arrays.values()} == {np.ndarray}


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("budget", 0.0, r"a float in \(0, 1\] or an int >= 1"),
        ("budget", 1.5, r"a float in \(0, 1\] or an int >= 1"),
        ("budget", 0, r"a float in \(0, 1\] or an int >= 1"),
        ("budget", True, r"a float in \(0, 1\] or an int >= 1"),
        ("budget", "half", r"a float in \(0, 1\] or an int >= 1"),
        ("budget", 61, "at most 60, the number of frames of X"),
        ("method", "max", "one of 'diffres', 'average'"),
        ("guide_weight", -1.0, "a number >= 0"),
        ("channels", "max", "'mean' or 'mean-max-encoding'"),
        ("score_gradient", "mean", "'sensitivity' or 'task'"),
        ("frames_per_score", 0, "an int >= 1"),
        ("pretrain_epochs", -1, "an int >= 0"),
        ("lr", 0.0, "a number > 0"),
        ("batch_size", 0, "an int >= 1"),
        ("n_threads", 0, "an int >= 1 or None"),
        ("verbose", -1, "an int >= 0"),
        ("device", "toaster", "'auto' or a torch device"),
    ],
)
def test_bad_parameters_are_named_with_rule_and_value(events, name, value, rule):
    with pytest.raises(ValueError, match=rf"{name} of DiffResResampler must be {rule}.*{value!r}"):
        DiffResResampler(**{name: value}).fit(events[0])


def test_bad_data_are_refused(events):
    X, y, _ = events
    with pytest.raises(ValueError, match=r"of one channel, .*got shape \(60, 2, 8, 60\)"):
        DiffResResampler().fit(np.stack([X, X], axis=1))
    with pytest.raises(ValueError, match="must be the labels when pretrain_epochs=2, got None"):
        DiffResResampler(pretrain_epochs=2).fit(X)
    with pytest.raises(ValueError, match="y of DiffResResampler must have at least 2 classes"):
        DiffResResampler(pretrain_epochs=1).fit(X, ["a"] * 60)
    with pytest.raises(ValueError, match="y of DiffResResampler must have 60 labels, .* got 59"):
        DiffResResampler(pretrain_epochs=1).fit(X, y[1:])
    with pytest.raises(
        ValueError, match="y of DiffResResampler must contain labels or an indicator"
    ):
        DiffResResampler(pretrain_epochs=1).fit(X, np.linspace(0, 1, 60))
    with pytest.raises(ValueError, match="y of DiffResResampler must have no missing labels"):
        DiffResResampler(pretrain_epochs=1).fit(X, [None, *y[1:]])
    with pytest.raises(ValueError, match="Pretraining of DiffResResampler diverged .* lr=1e"):
        DiffResResampler(pretrain_epochs=3, lr=1e20).fit(X, y)
    three = DiffResResampler(channels="mean-max-encoding").fit_transform(X)
    with pytest.raises(ValueError, match=r"got shape \(60, 3, 8, 30\): .*with channels='mean'"):
        DiffResResampler().fit(three)
    with pytest.raises(ValueError, match="must have 8 mel bands as in fit|is expecting 8"):
        DiffResResampler().fit(X).transform(DiffResResampler().fit_transform(X[:, :3]))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        DiffResResampler().fit(np.where(X > 0, np.nan, X))
    fitted = DiffResResampler(50).fit(X)
    with pytest.raises(ValueError, match="4 features, but DiffResResampler is expecting 8"):
        fitted.transform(X[:, :4])
    with pytest.raises(ValueError, match="budget .* at most 40, the number of frames of X, got 50"):
        fitted.transform(X[..., :40])
    assert isinstance(fitted.transform(X), DifferentiableArray)


def test_what_is_no_logarithm_of_energies_is_not_merged_as_such(tone_clips):
    mel = MelSpectrogram(sample_rate=8000, duration=0.2, n_fft=256, hop_length=64, n_mels=16)
    quiet = np.random.default_rng(0).normal(scale=1e-4, size=(4, 1600))
    cepstra = make_pipeline(mel, MFCC(8)).fit_transform(quiet)
    with pytest.raises(ValueError, match=r"logarithms of energies.* down to -.*'average'"):
        DiffResResampler(0.5).fit(cepstra)
    chained = make_pipeline(clone(mel).set_params(in_network=True), MFCC(8), DiffResResampler(0.5))
    with pytest.raises(ValueError, match="got cepstral coefficients: put it after MelSpectrogram"):
        chained.fit(tone_clips[0])
    assert DiffResResampler(1.0, method="average").fit_transform(cepstra).shape[2:] == (8, 26)
