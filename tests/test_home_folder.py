"""A leading ~ is the home folder of the user in every argument for a folder or file."""

import numpy as np
import pytest
import soundfile
from conftest import optional_import
from networks import tiny_cnn
from sklearn.pipeline import make_pipeline

import skaudio
from skaudio import Deltas, MelSpectrogram, PretrainedCNN
from skaudio._cli.main import main
from skaudio.datasets import fetch_fsdd, list_audio, load_folder, write_clips

pd = optional_import("pandas")
# Imported before the home is another one: it makes folders of its own there.
optional_import("matplotlib.font_manager")

WAVES = np.random.default_rng(0).uniform(-0.5, 0.5, (8, 1600)).astype(np.float32)
LABELS = ["dog", "rain"] * 4


def events():
    return pd.DataFrame({"start": [0.0], "end": [1.0], "class": ["dog"], "probability": [0.9]})


def mel(**parameters):
    return MelSpectrogram(sample_rate=8000, n_fft=256, hop_length=64, n_mels=16, **parameters)


def pipe(**parameters):
    settings = {"weights": None, "max_epochs": 1, "batch_size": 8, "random_state": 0}
    return make_pipeline(mel(), PretrainedCNN(tiny_cnn, **{**settings, **parameters}))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home of a user who works in another folder, where nothing may be called ~."""
    home = tmp_path / "home"
    (tmp_path / "work").mkdir()
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(tmp_path / "work")
    yield home
    assert not list((tmp_path / "work").iterdir())


@pytest.fixture
def clips(home):
    """Its folder of clips with labels."""
    write_clips("~/clips", WAVES, LABELS, [0] * 8, sample_rate=8000)
    return home / "clips"


def save(path):
    skaudio.save(mel().fit(WAVES), path)


def report(path):
    skaudio.report(pipe().fit(WAVES, LABELS), WAVES, LABELS, path, held_out=True)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: mel(cache_dir=path).fit_transform(WAVES), id="cache_dir"),
        pytest.param(lambda path: mel(cache_dir=path, duration=0.2).warm(list(WAVES)), id="warm"),
        pytest.param(lambda path: mel(memmap_dir=path).fit(WAVES), id="memmap_dir"),
        pytest.param(lambda path: Deltas(memmap_dir=path).fit(WAVES[:, None]), id="memmap_dir 2"),
        pytest.param(
            lambda path: pipe(checkpoint_dir=path).fit(WAVES, LABELS), id="checkpoint_dir"
        ),
        pytest.param(save, id="save"),
        pytest.param(report, id="report"),
        pytest.param(lambda path: skaudio.write_audacity_labels(events(), path), id="audacity"),
        pytest.param(lambda path: skaudio.write_raven_table(events(), path), id="raven"),
    ],
)
def test_what_is_written_goes_there(home, write):
    write("~/there")
    assert (home / "there").exists()


@pytest.mark.slow
def test_export_onnx_goes_there(home):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    cnn = PretrainedCNN(tiny_cnn, weights=None, max_epochs=1, random_state=0)
    skaudio.export_onnx(make_pipeline(mel(), cnn).fit(WAVES, LABELS), "~/model.onnx")
    assert (home / "model.onnx").exists()


def test_what_is_read_comes_from_there(home, clips):
    save("~/mel.skaudio")
    assert skaudio.load("~/mel.skaudio").n_samples_ == 1600
    paths = [str(clips / "audio" / f"clip_{i:04d}.wav") for i in range(8)]
    assert load_folder("~/clips")[0] == list_audio("~/clips") == paths
    assert list(skaudio.check_audio("~/clips").path) == paths


def test_downloads_are_looked_for_there(home):
    known_hash = "sha256:" + 64 * "0"
    (home / "sets" / f"fsdd-{16 * '0'}" / "recordings").mkdir(parents=True)
    soundfile.write(home / "sets" / f"fsdd-{16 * '0'}" / "recordings" / "7_x_0.wav", WAVES[0], 8000)
    assert list(fetch_fsdd("~/sets", known_hash=known_hash)[1]) == ["7"]


def test_weights_are_read_from_there(home):
    from safetensors.torch import save_file

    save_file(tiny_cnn(3, 2).state_dict(), home / "w.safetensors")
    again = pipe(weights="~/w.safetensors").fit(WAVES, LABELS)
    assert again.predict(WAVES).shape == (8,)


@pytest.mark.slow
def test_options_of_the_command_line_take_it(home, clips, capsys):
    fit = ["fit", "~/clips", "--finetune", "--epochs=1", "--backbone=test_resnet", "--weights=none"]
    options = ["--model=~/m.skaudio", "--cache-dir=~/cache", "--checkpoint-dir=~/checkpoints"]
    assert main([*fit, "-q", *options]) == 0
    assert main(["predict", "~/m.skaudio", "~/clips", "-q"]) == 0
    assert main(["report", "~/m.skaudio", "~/clips", "-o~/r.html", "--held-out", "-q"]) == 0
    assert main(["check", "~/clips/audio/clip_0000.wav", "-q"]) == 0
    names = {path.name for path in home.iterdir()}
    assert names == {"clips", "m.skaudio", "cache", "checkpoints", "r.html"}


def test_a_clip_that_is_called_so_is_itself(home, tmp_path, capsys):
    soundfile.write(tmp_path / "work" / "~", WAVES[0], 8000, format="WAV")
    assert main(["check", "~", "-q"]) == 0  # as the shell makes it of `check *`
    assert "ok" in capsys.readouterr().out
    (tmp_path / "work" / "~").unlink()
