"""Tasks other than classification, tested with a regressor that only exists here."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from networks import tiny_cnn
from sklearn.base import RegressorMixin, clone
from sklearn.pipeline import make_pipeline
from torch import nn

from skaudio import cost, export_onnx
from skaudio.classifiers._labels import Task
from skaudio.classifiers._timm_backbone import TimmBackbone


class SquaredLoss(nn.Module):
    def forward(self, outputs, target):
        return (outputs - target).square().mean(dim=1)


class OneNumber(Task):
    score_name = "error"

    def describe(self):
        return "one number per clip"

    def match(self, others):
        return True

    cover = match

    def check(self, owner, label):
        pass

    def targets(self, y):
        return y.astype(np.float32)[:, None]

    def criterion(self, owner, y):
        return SquaredLoss()

    def score(self, logits, target):
        return (logits - target).abs()

    def decide(self, owner, logits):
        return logits[:, 0]


@dataclass(kw_only=True, repr=False, eq=False)
class Regressor(RegressorMixin, TimmBackbone):
    """Predict a number."""

    def fit(self, X, y, X_val=None, y_val=None):
        return self._fit(X, y, None, X_val, y_val, None)

    def predict(self, X):
        return self._labels.decide(self, self._logits(X))

    @property
    def _labels(self):
        return OneNumber(self._label_names)

    def _task_of(self, y, names, label):
        return y, OneNumber(np.array(["y"]))


def make_regressor(**parameters):
    return Regressor(tiny_cnn, weights=None, random_state=0, **parameters)


@pytest.fixture
def loud():
    """Noise whose mean is to be predicted."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=64)
    X = y[:, None, None] + rng.normal(size=(64, 16, 12))
    return X.astype(np.float32), y


def test_a_network_learns_numbers(loud):
    X, y = loud
    model = make_regressor(max_epochs=15, lr=1e-2, early_stopping=True).fit(X, y)
    assert model.score(X, y) > 0.9
    assert not hasattr(model, "classes_")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))


def test_the_history_has_the_score_of_the_task(loud):
    X, y = loud
    model = make_regressor(max_epochs=2).fit(X, y, X_val=X[:8], y_val=y[:8])
    assert model.history_[-1]["valid_error"] == pytest.approx(
        np.abs(model.predict(X[:8]) - y[:8]).mean(), rel=1e-5
    )


def test_a_warm_start_goes_on(loud):
    model = make_regressor(max_epochs=1, warm_start=True)
    assert model.fit(*loud).fit(*loud).n_iter_ == 2


def test_parameters_that_need_classes_are_those_of_classifiers(loud):
    model = clone(make_regressor())
    assert not {"threshold", "class_weight", "sampling", "label_smoothing"} & set(
        model.get_params()
    )


def test_the_cost_of_any_network_is_counted(loud):
    pipe = make_pipeline(make_regressor(max_epochs=1)).fit(*loud)
    assert cost(pipe, loud[0][:1], n_repeats=1).n_frames_out == 12


def test_only_classifiers_are_exported(loud, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    pipe = make_pipeline(make_regressor(max_epochs=1)).fit(*loud)
    with pytest.raises(ValueError, match="must end with a skaudio classifier, .* got Regressor"):
        export_onnx(pipe, tmp_path / "model.onnx")
