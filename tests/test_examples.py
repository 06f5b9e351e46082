import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from scipy.special import log_softmax
from sklearn import config_context

from skaudio.datasets import make_sound_events, write_clips
from skaudio.nn.cnn import build_cnn

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"


def load_example(name):
    """The module of an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_main(example, monkeypatch, *options):
    """Run an example as from the command line."""
    monkeypatch.setattr(sys, "argv", ["example.py", *map(str, options)])
    example.main()


def test_the_quickstart_searches_saves_and_reloads(tmp_path, monkeypatch, capsys):
    def make_short(args):
        pipeline, grid = make_pipeline(args)
        return pipeline.set_params(clf__max_epochs=1), grid

    quickstart = load_example("quickstart")
    make_pipeline = quickstart.make_pipeline
    monkeypatch.setattr(quickstart, "make_pipeline", make_short)
    run_main(quickstart, monkeypatch, "--out", tmp_path)
    printed = capsys.readouterr().out
    assert "Searching hop lengths 800, 200 over 4 folds" in printed
    assert "Reloaded model: " in printed
    assert (tmp_path / "model.skaudio").exists()


def test_the_recipe_of_the_paper_runs(tmp_path, monkeypatch, capsys):
    waves, labels, folds = make_sound_events(
        8, 2, duration=1.0, n_folds=2, sample_rate=44_100, random_state=0
    )
    write_clips(tmp_path / "clips", waves, labels, folds, sample_rate=44_100)
    weights = tmp_path / "weights.safetensors"
    save_file(build_cnn("test_resnet", in_channels=3, n_classes=1000).state_dict(), weights)
    recipe = load_example("paper_recipe")
    monkeypatch.setattr(recipe, "SECONDS", 0.5)
    run_main(recipe, monkeypatch, "--data", tmp_path / "clips", "--backbone", "test_resnet",
             "--weights", weights, "--epochs", 1, "--members", 2, "--clips", 4)  # fmt: skip
    assert "ensemble: " in capsys.readouterr().out


def test_the_budget_search_prints_a_table_and_draws_the_curve(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib").use("Agg")
    waves, labels, folds = make_sound_events(12, 2, duration=0.5, n_folds=2, random_state=0)
    write_clips(tmp_path / "clips", waves, labels, folds, sample_rate=16_000)
    example = load_example("budget_search")
    make_pipeline = example.make_pipeline

    def make_small(weights, cache_dir, epochs):
        pipeline = make_pipeline(weights, cache_dir, epochs)
        return pipeline.set_params(
            mel__duration=0.5, clf__backbone="test_resnet", clf__weights=None,
            clf__backbone_options=None,
        )  # fmt: skip

    monkeypatch.setattr(example, "make_pipeline", make_small)
    run_main(example, monkeypatch, "--data", tmp_path / "clips", "--epochs", 1, "--out", tmp_path)
    assert capsys.readouterr().out.count(" ms ") >= 6
    assert (tmp_path / "budget_curve.png").stat().st_size > 5000


def test_the_picture_of_frame_importance_is_drawn(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib").use("Agg")
    example = load_example("frame_importance")
    short = make_sound_events(8, 2, duration=0.6, random_state=0)
    monkeypatch.setattr(example, "make_sound_events", lambda *args, **options: short)
    run_main(example, monkeypatch, "--clip", 0, "--out", tmp_path / "frames.png")
    assert "Accuracy on the training clips" in capsys.readouterr().out
    assert (tmp_path / "frames.png").stat().st_size > 5000


def test_few_labels_are_compared_with_and_without_pretraining(tmp_path, monkeypatch, capsys):
    waves, labels, speakers = make_sound_events(
        24, 2, duration=0.6, n_folds=3, sample_rate=8000, random_state=0
    )
    write_clips(tmp_path, waves, labels, np.sort(speakers), sample_rate=8000)
    table = tmp_path / "meta.csv"
    table.write_text(table.read_text().replace("fold", "speaker"))
    example = load_example("few_labels")
    make_pipeline = example.make_pipeline
    short = {
        "mel__n_jobs": 1, "clf__max_epochs": 1, "clf__pretrain_epochs": 1, "clf__n_threads": 1
    }  # fmt: skip
    monkeypatch.setattr(example, "make_pipeline", lambda p: make_pipeline(p).set_params(**short))
    with config_context(enable_metadata_routing=True):
        run_main(example, monkeypatch, "--data", tmp_path, "--labels", 8)
    printed = capsys.readouterr().out
    assert "8 labelled, 8 unlabelled and 8 test clips." in printed
    assert printed.count("accuracy") == 2


def test_the_sounds_in_a_long_recording_are_found_and_exported(tmp_path, monkeypatch, capsys):
    example = load_example("long_recording")
    run_main(example, monkeypatch, "--minutes", 1, "--out", tmp_path)
    events, hidden = capsys.readouterr().out.split("Events in the recording:")
    found = [line.split() for line in events.splitlines() if line.endswith(tuple("0123456789"))]
    truth = [line.split() for line in hidden.splitlines() if "chirp" in line]
    assert len(found) == len(truth) == 10
    for (_, start, end, *name, _), (place, _, *true_name) in zip(found, truth, strict=True):
        assert abs(float(start) - float(place)) <= 0.5
        assert float(end) - float(start) <= 1.5
        assert name == true_name
    assert len((tmp_path / "labels.txt").read_text().splitlines()) == 10
    assert len((tmp_path / "night.selections.txt").read_text().splitlines()) == 11


class Network:
    """Something that has given logits for one clip."""

    classes_ = np.array(["dog", "rain"])

    def __init__(self, *logits):
        self.logits = np.array([logits])

    def predict_log_proba(self, X):
        return log_softmax(self.logits, axis=1)


def test_the_recipe_averages_logits_not_probabilities():
    networks = [Network(2, 0), Network(2, 0), Network(0, 9)]
    probabilities = np.mean([np.exp(network.predict_log_proba(None)) for network in networks], 0)
    assert probabilities.argmax() == 0
    assert load_example("paper_recipe").predict_together(networks, None) == ["rain"]


def test_a_process_without_torch_answers_like_the_pipeline(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    run_main(load_example("deploy_onnx"), monkeypatch, "--out", tmp_path)
    printed = capsys.readouterr().out
    assert "Large packages in the second process: none." in printed
    assert printed.count("truth: ") == 4
    assert float(printed.split("predict_proba: ")[1]) < 1e-4


def test_the_report_is_written(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib").use("Agg")
    example = load_example("report")
    short = make_sound_events(12, 2, duration=0.5, n_folds=2, random_state=0)
    make_pipeline = example.make_pipeline
    monkeypatch.setattr(example, "make_sound_events", lambda *args, **options: short)
    monkeypatch.setattr(
        example, "make_pipeline", lambda *args: make_pipeline(*args).set_params(clf__max_epochs=1)
    )
    run_main(example, monkeypatch, "--out", tmp_path / "report.html")
    assert "Best: {'diffres__budget'" in capsys.readouterr().out
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("<audio") > 1


def test_the_pictures_of_the_inside_are_drawn(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib").use("Agg")
    pytest.importorskip("captum")
    example = load_example("look_inside")
    short = make_sound_events(24, 2, duration=0.5, n_folds=2, random_state=0)
    make_pipeline = example.make_pipeline
    monkeypatch.setattr(example, "make_sound_events", lambda *args, **options: short)
    monkeypatch.setattr(
        example, "make_pipeline", lambda *args: make_pipeline(*args).set_params(clf__max_epochs=2)
    )
    run_main(example, monkeypatch, "--out", tmp_path)
    assert capsys.readouterr().out.count("Saved") == 3
    for name in ("spectrograms", "saliency", "learning_curve"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
