"""scikit-learn's estimator checks, and its common tools applied to paths."""

import subprocess
import sys

import joblib
import numpy as np
import pytest
from conftest import optional_import
from factories import make_classifier, make_pipe
from networks import CountingMel, TinyCNN
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    PredefinedSplit,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from skaudio import (
    MAST,
    MFCC,
    PCEN,
    AudioEmbedding,
    Augmentation,
    Deltas,
    DiffResResampler,
    MelSpectrogram,
    PretrainedCNN,
    PretrainedSpectrogram,
)

pd = optional_import("pandas")

# Float32 rounds by batch size, and the check of subsets allows less than two roundings.
CLASSIFIER = PretrainedCNN(TinyCNN, weights=None, max_epochs=30, lr=5e-3, random_state=0)
TRANSFORMER = MAST(max_epochs=4, lr=1e-3, batch_size=100, random_state=0)
EMBEDDING = AudioEmbedding("efficientat_mn01", weights=None, random_state=0)
PRETRAINED = PretrainedSpectrogram("yamnet")
# Every public estimator, and how many checks scikit-learn 1.6 or newer has for it at least.
ESTIMATORS = [(MelSpectrogram(n_fft=256, n_mels=16), 44), (DiffResResampler(), 44),
              (CLASSIFIER, 60), (TRANSFORMER, 60), (PCEN(), 44), (PCEN(trainable=True), 44),
              (MFCC(n_mfcc=1), 44), (Deltas(mode="nearest"), 44), (EMBEDDING, 44),
              (PRETRAINED, 44)]  # fmt: skip


def expected_failures(estimator):
    """Checks that cannot pass, with the reason."""
    deferred = {
        "check_array_api_input": (
            "asks for an array of some library; what comes out is an array that is yet to be "
            "computed, and becomes numpy's when it is"
        )
    }
    waveforms = {
        "check_estimators_dtypes": (
            "asks that integers do; as waveforms they have another scale, and the log-mel of "
            "16-bit samples is off by 20.8"
        )
    }
    if isinstance(estimator, DiffResResampler) or getattr(estimator, "trainable", False):
        return deferred
    if isinstance(estimator, PretrainedSpectrogram):
        return deferred | waveforms
    if isinstance(estimator, MelSpectrogram | AudioEmbedding):
        return waveforms
    if isinstance(estimator, PretrainedCNN | MAST):
        return {
            "check_sample_weight_equivalence_on_dense_data": (
                "asks that weight 2 equals a repeated row to 1e-7; with mini-batches in random "
                "order, and batch normalisation where there is any, the two take different steps"
            )
        }
    return {}


# One check has waveforms around 100.
@pytest.mark.filterwarnings("ignore::skaudio.AudioWarning")
@parametrize_with_checks(
    [estimator for estimator, _ in ESTIMATORS], expected_failed_checks=expected_failures
)
def test_scikit_learn_check(estimator, check):
    if isinstance(estimator, MAST) and check.func.__name__ == "check_methods_subset_invariance":
        pytest.skip(
            "asks for embeddings equal to 1e-7, which is float32's rounding and depends on the "
            "batch size: classifiers/test_mast.py asks for 1e-5"
        )
    check(estimator)


@pytest.mark.parametrize(("estimator", "least"), ESTIMATORS)
def test_the_whole_battery_runs(estimator, least):
    checks = list(estimator_checks_generator(estimator))
    assert get_tags(estimator).input_tags.two_d_array
    assert len(checks) >= least


def test_cross_val_score_on_paths(tone_clips):
    paths, labels, _ = tone_clips
    assert cross_val_score(make_pipe(), paths, labels, cv=3).mean() > 0.9


def test_group_k_fold_on_paths(tone_clips):
    paths, labels, groups = tone_clips
    scores = cross_val_score(make_pipe(), paths, labels, groups=groups, cv=GroupKFold(3))
    assert scores.mean() > 0.9


@pytest.mark.slow
def test_grid_search_with_two_jobs_gives_the_scores_of_one(tone_clips):
    paths, labels, _ = tone_clips
    grid = {"mel__hop_length": [64, 128], "clf__max_epochs": [2, 3]}
    one, two = (
        GridSearchCV(make_pipe(), grid, cv=2, n_jobs=n, scoring="neg_log_loss").fit(paths, labels)
        for n in (1, 2)
    )
    np.testing.assert_array_equal(
        one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_same_seed_same_bits_with_every_joblib_backend(tone_clips, backend):
    paths, labels, _ = tone_clips
    augment = Augmentation(mixup=0.4, time_shift=0.2, noise_snr_db=(10, 30))
    pipe = make_pipe().set_params(clf__augment=augment, clf__max_epochs=3)
    alone = cross_val_predict(pipe, paths, labels, cv=3, method="predict_proba")
    with joblib.parallel_config(backend, n_jobs=2):
        together = cross_val_predict(pipe, paths, labels, cv=3, method="predict_proba")
    np.testing.assert_array_equal(alone, together)


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_decodes_each_clip_once_and_computes_it_once_per_hop(tone_clips, tmp_path, n_jobs):
    paths, labels, groups = tone_clips
    mel = CountingMel(
        sample_rate=8000, duration=0.2, n_fft=256, n_mels=16, cache_dir=tmp_path / "cache"
    )
    resampler = DiffResResampler(random_state=0)
    pipe = Pipeline([
        ("mel", mel), ("diffres", resampler), ("clf", make_pipe()["clf"].set_params(max_epochs=1))
    ])  # fmt: skip
    grid = {"mel__hop_length": [32, 64, 128], "diffres__budget": [0.5, 1.0]}
    search = GridSearchCV(pipe, grid, cv=PredefinedSplit(groups), n_jobs=n_jobs)
    search.fit(paths, labels)
    work = (tmp_path / "cache" / "work.log").read_text().splitlines()
    assert len(search.cv_results_["split4_test_score"]) == 6
    assert sorted(work) == sorted(
        f"{what} {path}" for what in ("decoded", 32, 64, 128) for path in paths
    )


@pytest.mark.slow
@pytest.mark.parametrize("between", [[], [("diffres", DiffResResampler(0.5, random_state=0))]])
def test_a_network_that_takes_waveforms_learns_saves_and_searches(tone_clips, tmp_path, between):
    paths, labels, _ = tone_clips
    mel, clf = dict(make_pipe(in_network=True).steps).values()
    clf.set_params(augment=Augmentation(time_shift=0.2, mixup=0.3, time_mask=0.1, freq_mask=0.1))
    pipe = Pipeline([("mel", mel), *between, ("clf", clf)])
    search = GridSearchCV(pipe, {"mel__hop_length": [64, 128]}, cv=2).fit(paths, labels)
    assert search.best_score_ > 0.9
    best = search.best_estimator_
    joblib.dump(best, tmp_path / "pipe.joblib")
    loaded = joblib.load(tmp_path / "pipe.joblib")
    np.testing.assert_array_equal(loaded.predict_proba(paths), best.predict_proba(paths))
    with pytest.raises(ValueError, match="hop_length .* must be .*, as in fit, got 50: call fit"):
        best.set_params(mel__hop_length=50).predict(paths)


def test_masks_hide_spectrograms_also_where_waveforms_come_in(tone_clips, monkeypatch):
    paths, labels, _ = tone_clips
    seen = []

    def mask(x, *args):
        seen.append((tuple(x.shape[1:]), args[2].item()))
        return x

    monkeypatch.setattr("skaudio.classifiers.training._augmentation.mask_spectrograms", mask)
    pipe = make_pipe(in_network=True).set_params(clf__augment=Augmentation(freq_mask=0.2))
    pipe.fit(paths, labels)
    shapes, fills = zip(*seen, strict=True)
    assert set(shapes) == {(1, 16, 26)}
    lowest = make_pipe()["mel"].fit_transform(paths).min()
    assert fills[0] == pytest.approx(lowest, abs=1e-3)


def test_halving_search_over_epochs(tone_clips):
    paths, labels, _ = tone_clips
    search = HalvingGridSearchCV(
        make_pipe(), {"mel__hop_length": [64, 128, 256]}, resource="clf__max_epochs",
        min_resources=2, max_resources=6, factor=3, cv=2, random_state=0,
    )  # fmt: skip
    assert search.fit(paths, labels).score(paths, labels) > 0.9
    assert list(search.n_resources_) == [2, 6]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda pipe: VotingClassifier([("a", pipe), ("b", clone(pipe))], voting="soft"),
        lambda pipe: StackingClassifier([("a", pipe)], LogisticRegression(), cv=2),
        lambda pipe: CalibratedClassifierCV(pipe, cv=2),
        lambda pipe: GridSearchCV(pipe, {"clf__lr": [5e-3]}, cv=2),
    ],
    ids=["voting", "stacking", "calibrated", "grid"],
)
def test_meta_estimators_take_paths(tone_clips, wrap):
    paths, labels, _ = tone_clips
    model = wrap(make_pipe()).fit(paths, labels)
    assert model.score(paths, labels) > 0.9
    assert set(model.predict(paths)) == {"low", "high"}


def test_bagging_and_permutation_importance_take_one_column_of_paths(tone_clips):
    paths, labels, _ = tone_clips
    frame = pd.DataFrame({"path": paths})
    importance = permutation_importance(
        make_pipe().fit(frame, labels), frame, labels, n_repeats=3, random_state=0
    )
    bag = BaggingClassifier(make_pipe(), n_estimators=2, random_state=0)
    assert importance.importances_mean[0] > 0.2
    assert bag.fit(frame, labels).score(frame, labels) > 0.8


def test_the_network_feeds_other_classifiers_through_transform(tone_clips):
    paths, labels, _ = tone_clips
    pipe = make_pipeline(*dict(make_pipe().steps).values(), LogisticRegression())
    assert cross_val_score(pipe, paths, labels, cv=2).mean() > 0.9


@pytest.mark.slow
def test_saved_pipelines_answer_the_same_in_a_process_that_has_only_the_files(tone_clips, tmp_path):
    paths, labels, _ = tone_clips
    clf = make_classifier("test_resnet", max_epochs=1)
    plain = make_pipe(clf=clf).fit(paths, labels)
    diffres = DiffResResampler(0.5, random_state=0)
    resampling = make_pipe(("diffres", diffres), clf=clone(clf)).fit(paths, labels)
    models = {"clf": plain[-1], "plain": plain, "resampling": resampling}
    for name, model in models.items():
        joblib.dump(model, tmp_path / name)
    np.save(tmp_path / "X.npy", plain[0].transform(paths))
    code = (
        "import sys, joblib, numpy as np, torch; torch.set_num_threads(1); "
        "answer = lambda name, X: np.save(name, joblib.load(name).predict_proba(X)); "
        "answer('clf', np.load('X.npy')); "
        "answer('plain', sys.argv[1:]); answer('resampling', sys.argv[1:])"
    )
    subprocess.run([sys.executable, "-c", code, *paths], cwd=tmp_path, check=True)
    for name, model in [("clf", plain), ("plain", plain), ("resampling", resampling)]:
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), model.predict_proba(paths))
    n_weights = sum(t.numel() for t in plain[-1].net_.module_.state_dict().values())
    for name in ("clf", "plain"):
        assert (tmp_path / name).stat().st_size <= 1.1 * 4 * n_weights


def test_clone_and_set_params_reach_every_parameter():
    pipe = make_pipe().set_params(mel__n_mels=32, clf__lr=0.5)
    copy = clone(pipe)
    assert copy["mel"].n_mels == 32
    assert copy["clf"].get_params() == pipe["clf"].get_params()
