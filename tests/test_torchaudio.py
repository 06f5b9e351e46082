import builtins
import sys

import pytest

import skaudio
from skaudio._optional import import_torchaudio


@pytest.fixture
def fresh_modules(monkeypatch):
    """torchaudio not yet imported, and everything as before afterwards."""
    saved = {name: module for name, module in sys.modules.items()
             if name.split(".")[0] == "torchaudio"}  # fmt: skip
    for name in saved:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]
    sys.modules.update(saved)


def refuse(monkeypatch, error, *, also_without_extension=False):
    """Make the import of torchaudio fail as a wheel for another torch does."""
    original = builtins.__import__

    def import_(name, *args, **kwargs):
        broken = also_without_extension or "torchaudio._extension" not in sys.modules
        if name.split(".")[0] == "torchaudio" and broken:
            raise error
        return original(name, *args, **kwargs)

    monkeypatch.setattr("importlib.import_module", import_)


def test_masks_and_mel_work_in_whatever_mode_this_machine_has():
    torchaudio, mode = import_torchaudio()
    if mode == "absent":
        pytest.skip("torchaudio cannot be imported here")
    torch = sys.modules["torch"]
    mel = torchaudio.transforms.MelSpectrogram(8000, n_fft=256, n_mels=8)(torch.ones(1, 800))
    assert torchaudio.transforms.TimeMasking(2)(mel).shape == mel.shape


def test_a_second_import_reports_the_same_mode():
    assert import_torchaudio()[1] == import_torchaudio()[1]


@pytest.mark.parametrize("error", [OSError("libc10_cuda"), RuntimeError("CUDA versions")])
def test_a_compiled_part_that_does_not_match_is_left_out(fresh_modules, monkeypatch, error):
    refuse(monkeypatch, error)
    torchaudio, mode = import_torchaudio()
    assert mode == "python"
    assert torchaudio.__name__ == "torchaudio"


def test_a_torchaudio_that_fails_altogether_is_absent(fresh_modules, monkeypatch):
    refuse(monkeypatch, RuntimeError("broken"), also_without_extension=True)
    assert import_torchaudio() == (None, "absent")
    assert "torchaudio._extension" not in sys.modules


def test_a_torchaudio_that_is_not_installed_is_absent(fresh_modules, monkeypatch):
    refuse(monkeypatch, ModuleNotFoundError("torchaudio"))
    assert import_torchaudio() == (None, "absent")


def test_show_versions_lists_packages_and_the_mode_of_torchaudio(capsys):
    skaudio.show_versions()
    shown = capsys.readouterr().out
    assert f"skaudio: {skaudio.__version__}" in shown
    assert "(mode: " in shown
    assert "libsndfile" in shown
