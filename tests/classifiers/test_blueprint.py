"""Blueprints of networks, and the networks built from them."""

import json

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skaudio import MAST, DiffResResampler, PretrainedCNN

SMALL = {"channels": (8, 8, 8, 8), "stem_width": 8}


@pytest.fixture(scope="module")
def pipes():
    """Pipelines with networks that have front ends, and their spectrograms."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 16, 20)).astype(np.float32), ["a", "b"] * 4
    cnn = PretrainedCNN(
        "test_resnet", weights=None, backbone_options=SMALL, max_epochs=1, random_state=0
    )
    return X, [
        make_pipeline(DiffResResampler(0.5), last).fit(X, y)
        for last in (cnn, MAST(max_epochs=1, random_state=0))
    ]


def test_it_is_made_of_plain_values(pipes):
    for pipe in pipes[1]:
        plan = pipe[-1].blueprint()
        assert json.loads(json.dumps(plan))["n_labels"] == 2
        assert plan["image_shape"] == (1, 16, 10)
        assert plan["front_end"][0][0] == "DiffRes"
        assert set(plan["architecture"]) == set(pipe[-1]._shaping)


def test_the_network_that_it_describes_takes_the_weights(pipes):
    X, both = pipes
    for pipe in both:
        clf, images = pipe[-1], torch.from_numpy(X[:, None])
        module = clf.from_blueprint(clf.blueprint())
        module.load_state_dict(clf.net_.module_.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(module.eval()(images), clf.net_.module_(images))


def test_on_meta_it_takes_no_memory(pipes):
    for pipe in pipes[1]:
        module = pipe[-1].from_blueprint(pipe[-1].blueprint(), "meta")
        assert all(weight.is_meta for weight in module.parameters())


def test_parameters_that_were_set_later_and_changes_of_the_copy_mean_nothing(pipes):
    clf = pipes[1][0][-1]
    plan = clf.blueprint()
    plan["architecture"]["backbone"] = "evil"
    assert clf.blueprint()["architecture"]["backbone"] == "test_resnet"
    clf.set_params(backbone_options={"channels": (16, 16, 16, 16)})
    try:
        assert clf.blueprint()["architecture"]["backbone_options"] == SMALL
    finally:
        clf.set_params(backbone_options=SMALL)


def test_one_that_describes_nothing_is_refused(pipes):
    clf = pipes[1][0][-1]
    with pytest.raises(ValueError, match="'evil' is not a front end of skaudio.nn"):
        clf.from_blueprint({**clf.blueprint(), "front_end": [("evil", {})]})
    with pytest.raises(ValueError, match="timm has no model 'evil'"):
        clf.from_blueprint({**clf.blueprint(), "architecture": {"backbone": "evil"}})
    with pytest.raises(NotFittedError, match="not fitted"):
        PretrainedCNN().blueprint()
