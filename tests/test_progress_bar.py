"""Progress output works without a console, as in pythonw and frozen programs."""

import sys

import numpy as np
import pytest
import soundfile
from networks import tiny_cnn
from sklearn.pipeline import make_pipeline

import skaudio
from skaudio import MAST, MelSpectrogram, PretrainedCNN, check_audio, predict_windows
from skaudio._optional import print_line, progress_bar, some_stderr


@pytest.fixture(params=[("stdout",), ("stderr",), ("stdout", "stderr")], ids="+".join)
def no_console(request, monkeypatch):
    """A process without these standard streams."""
    for name in request.param:
        monkeypatch.setattr(sys, name, None)


@pytest.fixture(scope="module")
def images():
    """Noise with labels."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 16, 48)).astype(np.float32), np.arange(12) % 2


@pytest.mark.usefixtures("no_console")
@pytest.mark.parametrize("verbose", [0, 1])
def test_fits_need_no_console(images, tmp_path, verbose):
    settings = {"max_epochs": 2, "random_state": 0, "verbose": verbose}
    stopping = {"early_stopping": True, "n_iter_no_change": 1, "validation_fraction": 0.5}
    cnn = PretrainedCNN(tiny_cnn, weights=None, checkpoint_dir=tmp_path, **stopping, **settings)
    for _ in range(2):  # the second one prints that the fit had finished
        assert cnn.fit(*images).predict(images[0]).shape == (12,)
    cnn.partial_fit(*images)
    mast = MAST(pretrain="masked", pretrain_epochs=1, **settings)
    assert mast.fit(*images).predict(images[0]).shape == (12,)


@pytest.mark.usefixtures("no_console")
def test_bars_and_tables_need_no_console(images, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.linspace(-0.5, 0.5, 8000), 8000)
    paths = [str(tmp_path / "a.wav")] * 2
    mel = MelSpectrogram(sample_rate=8000, duration=0.5, n_mels=16, verbose=1)
    cnn = PretrainedCNN(tiny_cnn, weights=None, max_epochs=1, batch_size=2)
    pipe = make_pipeline(mel, cnn).fit(paths, ["a", "b"])
    assert len(predict_windows(pipe, paths[0], verbose=1))
    assert list(check_audio(paths, verbose=1).status) == ["ok", "ok"]
    skaudio.show_versions()


def test_an_epoch_is_a_line_of_the_table_where_it_is_wanted(images, capsys):
    cnn = PretrainedCNN(tiny_cnn, weights=None, max_epochs=2, random_state=0)
    cnn.fit(*images)
    assert capsys.readouterr().out == ""
    cnn.set_params(verbose=1).fit(*images)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["epoch", "train_loss"]
    assert [line.split()[0] for line in lines[2:]] == ["1", "2"]


def test_a_bar_is_shown_only_where_it_is_wanted_and_can_be(monkeypatch, capsys):
    for verbose in (0, 1):
        with progress_bar(3, "clip", "owner", verbose) as bar:
            bar.update(2)
        assert ("2/3" in capsys.readouterr().err) == bool(verbose)
    monkeypatch.setattr(sys, "stderr", None)
    with progress_bar(3, "clip", "owner", 1) as bar:
        bar.update(2)


def test_bars_of_other_libraries_find_a_standard_error(monkeypatch):
    from huggingface_hub.utils import tqdm

    monkeypatch.setattr(sys, "stderr", None)
    with some_stderr(), tqdm(total=2) as bar:
        bar.update(2)
    assert sys.stderr is None


def test_lines_are_written_at_once(capsys):
    print_line("epoch")
    assert capsys.readouterr().out == "epoch\n"
