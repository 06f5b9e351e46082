import copy
import operator
import pickle

import joblib
import numpy as np
import pytest
import soundfile
from signals import tone
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

import skaudio
from skaudio import AudioError, MelSpectrogram, PretrainedSpectrogram
from skaudio._spectrograms import differences, recipe_of
from skaudio.audio import load_clip
from skaudio.dsp import MelSettings
from skaudio.features import _extraction
from skaudio.nn._differentiable import DifferentiableArray
from skaudio.nn.pretrained import NETWORKS, Embedder

RATE = 32_000


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Four wav files of 0.5 to 2 s at 16 kHz."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [str(folder / f"{number}.wav") for number in range(4)]
    for number, path in enumerate(paths):
        wave = tone(300.0 * (1 + number), sample_rate=16_000, duration=0.5 + 0.5 * number)
        soundfile.write(path, wave, 16_000)
    return paths


@pytest.mark.parametrize("model", ["efficientat_mn01", "yamnet"])
def test_the_network_receives_the_spectrograms_of_its_training(model):
    record = NETWORKS[model]
    waves = np.random.default_rng(0).normal(size=(2, record.sample_rate)).astype(np.float32)
    log_mel = PretrainedSpectrogram(model).fit_transform(waves)
    assert isinstance(log_mel, DifferentiableArray)
    scale = record.input_layer()
    tensors = [log_mel.frontend(t)[0] for t in (as_tensor(log_mel.inputs),)]
    wanted = Embedder(record, record.build()).spectrograms(as_tensor(waves))
    np.testing.assert_array_equal(scale(tensors[0]).numpy(), wanted.numpy())
    np.testing.assert_array_equal(np.asarray(log_mel), tensors[0].numpy())


def as_tensor(array):
    import torch

    return torch.from_numpy(array)


def test_paths_and_waveforms_at_the_rate_of_the_network_give_the_same(clips):
    step = PretrainedSpectrogram("efficientat_mn01")
    found = step.fit_transform(clips)
    assert step.n_samples_ == 2 * RATE
    assert found.shape == (4, 1, 128, 200)
    waves = [load_clip(path, sample_rate=RATE) for path in clips]
    np.testing.assert_array_equal(np.asarray(step.transform(waves)), np.asarray(found))


def test_clips_have_at_least_the_minimum_of_the_network(clips):
    step = PretrainedSpectrogram("efficientat_mn01").fit(clips[:1])
    assert step.n_samples_ == RATE
    rule = r"duration of PretrainedSpectrogram must be from 1, the minimum of 'efficientat_mn01'"
    with pytest.raises(ValueError, match=rule):
        PretrainedSpectrogram("efficientat_mn01", duration=0.5).fit(clips)
    step = PretrainedSpectrogram("efficientat_mn01", duration=1.5, fill_mode="repeat")
    waves = step.fit_transform(clips).inputs[:, 0, 0]
    np.testing.assert_array_equal(waves[0, : RATE // 2], waves[0, RATE // 2 : RATE])


def test_a_shorter_hop_gives_more_frames(clips):
    step = PretrainedSpectrogram("efficientat_mn01", hop_length=80)
    assert step.fit_transform(clips).shape == (4, 1, 128, 800)


def test_clone_and_set_params_choose_another_network(clips):
    step = clone(PretrainedSpectrogram("efficientat_mn01")).set_params(model="yamnet")
    assert step.fit_transform(clips).shape[2] == 64
    step.set_params(model="efficientat_mn01")
    with pytest.raises(ValueError, match="model of PretrainedSpectrogram must be 'yamnet', as in"):
        step.transform(clips)
    for name in ("efficientat_mn99", None, 3):
        with pytest.raises(ValueError, match="model of PretrainedSpectrogram must be one of 'eff"):
            PretrainedSpectrogram(name).fit(clips)


def test_waveforms_are_cached_also_for_mel_spectrogram(clips, tmp_path, monkeypatch):
    reads = []
    read = _extraction.read_clip
    monkeypatch.setattr(
        _extraction, "read_clip", lambda clip, **given: reads.append(clip) or read(clip, **given)
    )
    for model in ("efficientat_mn01", "efficientat_mn04"):
        PretrainedSpectrogram(model, cache_dir=tmp_path, duration=1.0).fit_transform(clips)
    MelSpectrogram(sample_rate=RATE, cache_dir=tmp_path, duration=1.0).fit_transform(clips)
    assert len(reads) == len(clips)


def test_files_that_cannot_be_read_are_errors_or_silence(clips, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    step = PretrainedSpectrogram("efficientat_mn01", duration=1.0)
    with pytest.raises(AudioError, match=r"bad\.wav"):
        step.fit_transform([*clips, bad])
    step.set_params(on_error="warn")
    with pytest.warns(UserWarning, match="Their rows contain silence"):
        found = step.fit_transform([*clips, bad])
    np.testing.assert_allclose(np.asarray(found)[4], np.log(1e-5), rtol=1e-6)


def test_waveforms_may_be_in_a_file(clips, tmp_path):
    step = PretrainedSpectrogram("efficientat_mn01", memmap_dir=tmp_path)
    found = step.fit_transform(clips)
    assert isinstance(found.inputs, np.memmap)


def test_saved_steps_and_results_give_the_same_bits(clips, tmp_path):
    step = PretrainedSpectrogram("yamnet", hop_length=80).fit(clips)
    found = step.transform(clips)
    skaudio.save(make_pipeline(step), tmp_path / "step.skaudio")
    loaded = skaudio.load(tmp_path / "step.skaudio")
    np.testing.assert_array_equal(np.asarray(loaded.transform(clips)), np.asarray(found))
    again = pickle.loads(pickle.dumps(found[1:]))
    np.testing.assert_array_equal(np.asarray(again), np.asarray(found)[1:])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"hop_length": 0}, "hop_length .* must be an int >= 1 or None, got 0"),
        ({"hop_length": 10**9}, "hop_length .* must be at most 65536, got 1000000000"),
        ({"hop_length": 1, "duration": 600.0}, "hop_length .* must give at most .* raise it"),
        ({"duration": 1e9}, r"duration .* must be from 1, the minimum .* got 1000000000\.0"),
        ({"fill_mode": "reflect"}, "fill_mode .* must be one of 'constant', 'repeat', got"),
    ],
)
def test_parameters_out_of_range_are_errors(clips, parameters, message):
    with pytest.raises(ValueError, match=message.replace(".*", "of PretrainedSpectrogram", 1)):
        PretrainedSpectrogram("efficientat_mn01", **parameters).fit(clips)


@pytest.fixture(params=[16, 24], ids=["square", "oblong"])
def log_mel(request):
    """Spectrograms of six clips, 16 bands and 16 or 24 frames."""
    n_samples = 64 * (request.param - 1)
    waves = np.random.default_rng(0).normal(scale=0.1, size=(6, n_samples)).astype(np.float32)
    return MelSpectrogram(sample_rate=8000, n_fft=256, hop_length=64, n_mels=16).fit_transform(
        waves
    )


def test_spectrograms_carry_their_recipe_as_long_as_they_are_themselves(log_mel, tmp_path):
    recipe = log_mel.recipe
    assert recipe["sample_rate"] == 8000
    assert recipe["fmax"] == 4000
    joblib.dump(log_mel, tmp_path / "x.joblib")
    same = [
        log_mel[1:], log_mel[[0, 2]], log_mel[np.arange(6) > 2], log_mel[[1, 2], ...],
        log_mel.copy(), log_mel.copy("F"), copy.copy(log_mel), copy.deepcopy(log_mel),
        pickle.loads(pickle.dumps(log_mel)), log_mel[2:][1:], joblib.load(tmp_path / "x.joblib"),
        log_mel.transpose(0, 1, 2), log_mel.transpose(0, 2, 1).transpose(0, 2, 1),
    ]  # fmt: skip
    for number, other in enumerate(same):
        assert recipe_of(other) == recipe, number


def test_changed_spectrograms_are_plain_arrays(log_mel):
    changed = [
        log_mel + 1, np.exp(log_mel), log_mel[:, :8], log_mel[:, ::-1], np.flip(log_mel, 1),
        log_mel[:, np.arange(16)[::-1]], np.concatenate([log_mel, log_mel]), log_mel.mean(0),
        log_mel[0], np.asarray(log_mel), log_mel.transpose(1, 0, 2),
    ]  # fmt: skip
    for number, other in enumerate(changed):
        assert type(other) is np.ndarray, number
    for method in ("reshape", "astype", "take"):
        given = {"reshape": (6, -1), "astype": ("f8",), "take": ([0],)}[method]
        assert recipe_of(getattr(log_mel, method)(*given)) is None
    assert recipe_of(log_mel.T) is None
    assert type(log_mel.mean()) is np.float32
    assert hash(log_mel.max()) == hash(np.asarray(log_mel).max())
    assert np.linalg.norm(log_mel) == np.linalg.norm(np.asarray(log_mel))


def flip_in_place(array):
    array[:] = array[:, ::-1]


@pytest.mark.parametrize(
    "change",
    [
        lambda array: operator.isub(array, array.mean()),
        lambda array: np.exp(array, out=array),
        flip_in_place,
        lambda array: np.add.at(array, [0], 1.0),
    ],
)
def test_changes_in_place_take_the_recipe_away(log_mel, change):
    before = np.array(log_mel)
    change(log_mel)
    assert recipe_of(log_mel) is None
    assert not np.array_equal(log_mel, before)


def test_transposed_spectrograms_say_so(log_mel):
    wanted = log_mel.recipe
    view = log_mel.transpose(0, 2, 1)
    turned = [
        view, np.swapaxes(log_mel, 1, 2), np.moveaxis(log_mel, 2, 1), view.copy(), view[[0, 2]],
        log_mel[1:].swapaxes(-1, -2)[1:], np.transpose(log_mel, (0, 2, 1)),
    ]  # fmt: skip
    for number, other in enumerate(turned):
        found = differences(recipe_of(other), wanted)
        assert found == ["axes='frames, bands' instead of 'bands, frames'"], number


def test_files_mapped_to_memory_carry_it_as_a_whole(tmp_path):
    waves = np.random.default_rng(0).normal(scale=0.1, size=(6, 960)).astype(np.float32)
    log_mel = MelSpectrogram(sample_rate=8000, memmap_dir=tmp_path).fit_transform(waves)
    assert type(log_mel) is np.memmap
    assert recipe_of(log_mel)["sample_rate"] == 8000
    assert recipe_of(log_mel[1:]) is None


def test_settings_that_change_nothing_are_no_part_of_a_recipe():
    settings = [MelSettings(center=False, pad_mode=mode) for mode in ("constant", "reflect")]
    assert settings[0].recipe() == settings[1].recipe()
    assert MelSettings(fmax=11_025.0).recipe() == MelSettings().recipe()
    assert MelSettings(win_length=2048).recipe() == MelSettings().recipe()
