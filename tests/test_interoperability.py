"""Other packages in a pipeline with skaudio, and networks of other packages."""

import re
import threading
from operator import attrgetter
from pathlib import Path

import joblib
import numpy as np
import pytest
from backbones import SpectrogramEncoder, WaveformEncoder
from factories import make_classifier, make_mel, make_pipe
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skaudio import DiffResResampler

GUIDE = Path(__file__).parents[1] / "docs" / "user_guide.md"


def test_an_aeon_classifier_takes_the_bands_as_channels(tone_clips):
    aeon = pytest.importorskip("aeon.classification.convolution_based", reason="needs aeon")
    paths, labels, _ = tone_clips
    rocket = aeon.RocketClassifier(n_kernels=200, random_state=0)
    pipe = make_pipeline(make_mel(), rocket)
    assert cross_val_score(pipe, paths, labels, cv=2).mean() > 0.9


@pytest.mark.slow
def test_an_sktime_classifier_takes_the_bands_as_channels(tone_clips):
    sktime = pytest.importorskip("sktime.classification.feature_based", reason="needs sktime")
    paths, labels, _ = tone_clips
    mel, summary = make_mel(), sktime.SummaryClassifier(random_state=0)
    summary.fit(np.asarray(mel.fit_transform(paths[:20])), labels[:20])
    found = summary.predict(np.asarray(mel.transform(paths[20:])))
    assert np.mean(found == labels[20:]) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["RandomOverSampler", "RandomUnderSampler"])
def test_imbalanced_learn_balances_paths_before_they_are_read(tone_clips, sampler):
    sampling = pytest.importorskip(f"imblearn.{sampler[6:-7].lower()}_sampling",
                                   reason="needs imbalanced-learn")  # fmt: skip
    imblearn = pytest.importorskip("imblearn.pipeline", reason="needs imbalanced-learn")
    paths, labels, _ = tone_clips
    few = np.r_[np.flatnonzero(labels == "low"), np.flatnonzero(labels == "high")[:5]]
    column, labels = np.array(paths, dtype=object)[few, None], labels[few]
    balance = getattr(sampling, sampler)(random_state=0)
    seen, counts = np.unique(balance.fit_resample(column, labels)[1], return_counts=True)
    assert seen.tolist() == ["high", "low"]
    assert len(set(counts)) == 1
    pipe = imblearn.Pipeline([("balance", balance), *make_pipe().steps])
    search = GridSearchCV(pipe, {"balance": [balance, "passthrough"]}, cv=2).fit(column, labels)
    assert search.score(column, labels) > 0.9
    assert pipe.fit(column, labels).predict(column).shape == (20,)


@pytest.mark.slow
def test_a_random_search_draws_parameters_of_every_step(tone_clips):
    paths, labels, _ = tone_clips
    pipe = Pipeline([("mel", make_mel()), ("diffres", DiffResResampler(random_state=0)),
                     ("clf", make_pipe()["clf"])])  # fmt: skip
    space = {"mel__n_mels": [8, 16], "diffres__budget": [0.5, 6], "clf__lr": loguniform(1e-3, 1e-2)}
    search = RandomizedSearchCV(pipe, space, n_iter=3, cv=2, random_state=0).fit(paths, labels)
    assert search.best_score_ > 0.9
    assert len(set(search.cv_results_["param_clf__lr"])) == 3


@pytest.mark.slow
def test_optuna_studies_parameters_of_a_pipeline(tone_clips, tmp_path):
    optuna = pytest.importorskip("optuna", reason="needs Optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    paths, labels, _ = tone_clips

    def objective(trial):
        pipe = make_pipe().set_params(
            mel__cache_dir=tmp_path,
            mel__hop_length=trial.suggest_categorical("hop_length", [64, 128]),
            clf__lr=trial.suggest_float("lr", 1e-6, 1e-2, log=True),
        )
        return cross_val_score(pipe, paths, labels, cv=2, scoring="neg_log_loss").mean()

    def run():
        sampler = optuna.samplers.TPESampler(seed=0)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(objective, n_trials=4)
        return study

    one, two = run(), run()
    assert [trial.value for trial in one.trials] == [trial.value for trial in two.trials]
    assert one.best_value > -0.4  # the log-loss of guessing is 0.69


class Trial(ClassifierMixin, BaseEstimator):
    """Scores its rate, and fits in step with another thread."""

    barrier = threading.Barrier(2)

    def __init__(self, lr=0.0):
        self.lr = lr

    def fit(self, X, y):
        self.barrier.wait(timeout=20)
        self.classes_ = np.unique(y)
        return self

    def score(self, X, y):
        return self.lr


def test_the_optuna_recipe_of_the_guide_keeps_trials_apart_in_threads(tone_clips):
    optuna = pytest.importorskip("optuna", reason="needs Optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    paths, labels, folds = tone_clips
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (recipe,) = (block for block in blocks if "import optuna" in block)
    names = {"pipe": Pipeline([("mel", make_mel()), ("clf", Trial())]), "paths": paths,
             "labels": labels, "folds": folds % 2}  # fmt: skip
    exec(recipe.replace("n_trials=20", "n_trials=2"), names)
    assert "n_jobs=2" in recipe
    for trial in names["study"].trials:
        assert trial.value == pytest.approx(trial.params["lr"])


def test_skops_trusts_nothing_but_this_package(tone_clips, tmp_path):
    skops_io = pytest.importorskip("skops.io", reason="needs skops")
    paths, labels, _ = tone_clips
    pipe = Pipeline([("mel", make_mel()), ("diffres", DiffResResampler(random_state=0)),
                     ("clf", make_classifier("test_resnet", max_epochs=1))])  # fmt: skip
    skops_io.dump(pipe.fit(paths, labels), tmp_path / "pipe.skops")
    unknown = skops_io.get_untrusted_types(file=tmp_path / "pipe.skops")
    assert unknown
    assert all(name.startswith("skaudio.") for name in unknown)
    loaded = skops_io.load(tmp_path / "pipe.skops", trusted=unknown)
    np.testing.assert_array_equal(loaded.predict_proba(paths), pipe.predict_proba(paths))


def as_waveforms(pipe):
    """The pipeline with waveforms instead of spectrograms before its network."""
    waves = FunctionTransformer(attrgetter("inputs"))
    mel = pipe["mel"].set_params(in_network=True)
    return Pipeline([("mel", mel), ("waves", waves), ("clf", pipe["clf"])])


def pipe_with(backbone, **parameters):
    return make_pipe(clf=make_classifier(backbone, **parameters))


BACKBONES = {
    "AST": (lambda: pipe_with(SpectrogramEncoder, max_epochs=10), 16),
    "wav2vec 2.0": (lambda: as_waveforms(pipe_with(WaveformEncoder, max_epochs=12)), 16),
    "timm": (lambda: pipe_with("test_efficientnet", max_epochs=4), 256),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_a_network_from_elsewhere_learns_embeds_and_is_saved(tone_clips, tmp_path, name):
    pytest.importorskip("transformers", reason="needs transformers")
    paths, labels, _ = tone_clips
    make, width = BACKBONES[name]
    pipe = clone(make()).fit(paths, labels)
    assert pipe.score(paths, labels) > 0.9
    assert pipe.transform(paths).shape == (30, width)
    np.testing.assert_array_equal(
        clone(pipe).fit(paths, labels).predict_proba(paths), pipe.predict_proba(paths)
    )
    joblib.dump(pipe, tmp_path / "pipe.joblib")
    loaded = joblib.load(tmp_path / "pipe.joblib")
    np.testing.assert_array_equal(loaded.predict_proba(paths), pipe.predict_proba(paths))


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_a_frozen_network_from_elsewhere_keeps_its_weights(tone_clips, name):
    pytest.importorskip("transformers", reason="needs transformers")
    paths, labels, _ = tone_clips
    make = BACKBONES[name][0]
    pipes = [make().set_params(clf__freeze="backbone", clf__max_epochs=n) for n in (1, 3)]
    one, three = (pipe.fit(paths, labels)["clf"].net_.module_.state_dict() for pipe in pipes)
    moved = {key for key, tensor in one.items() if not np.array_equal(tensor, three[key])}
    head = pipes[0]["clf"].net_.module_.head_parameters()
    assert moved == head
