"""Searches and features on a cluster, and a cache that is filled before."""

import os
import sys
import tracemalloc
from pathlib import Path

import joblib
import numpy as np
import pytest
import soundfile
from networks import CountingMel, tiny_cnn
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skaudio import AudioError, MelSpectrogram, PretrainedCNN

pytestmark = pytest.mark.slow

SETTINGS = {"sample_rate": 8000, "duration": 0.2, "n_fft": 256, "hop_length": 64, "n_mels": 16}


def make_search(mel, n_jobs=None):
    """A search over two hop lengths."""
    clf = PretrainedCNN(tiny_cnn, weights=None, max_epochs=2, batch_size=8, lr=5e-3, random_state=0)
    pipe = Pipeline([("mel", mel), ("clf", clf)])
    grid = {"mel__hop_length": [64, 128]}
    return GridSearchCV(pipe, grid, cv=2, n_jobs=n_jobs, scoring="neg_log_loss", refit=False)


def scores_of(search):
    return [search.cv_results_[f"split{fold}_test_score"] for fold in (0, 1)]


def work_of(cache):
    """What CountingMel has written since it was last asked, sorted."""
    log = cache / "work.log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return sorted(lines)


def start_dask():
    """A cluster of two processes."""
    distributed = pytest.importorskip("distributed", reason="needs Dask's distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    client = distributed.Client(cluster)
    return lambda: (client.close(), cluster.close())


def start_ray():
    """Two processes on this machine; like those of other backends, they must find the tests."""
    ray = pytest.importorskip("ray", reason="needs Ray")
    from ray.util.joblib import register_ray

    paths = {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    }
    ray.init(
        num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False,
        runtime_env={"env_vars": paths},
    )  # fmt: skip
    register_ray()
    return ray.shutdown


@pytest.fixture(params=["dask", pytest.param("ray", marks=pytest.mark.stress)])
def cluster(request):
    """Name of a joblib backend whose workers run."""
    stop = {"dask": start_dask, "ray": start_ray}[request.param]()
    yield request.param
    stop()


# Both libraries warn of what they do among themselves, on start and on shutdown.
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_gives_the_bits_of_one_process_and_decodes_nothing_twice(
    cluster, tone_clips, tmp_path
):
    paths, labels = tone_clips[0][:16], tone_clips[1][:16]
    expected = scores_of(make_search(MelSpectrogram(**SETTINGS)).fit(paths, labels))
    features = MelSpectrogram(**SETTINGS).fit_transform(paths)
    mel = MelSpectrogram(**SETTINGS, n_jobs=2)
    with joblib.parallel_config(cluster, n_jobs=2):
        np.testing.assert_array_equal(mel.fit_transform(paths), features)
        mel.set_params(cache_dir=tmp_path).warm(paths)
        mel = CountingMel(**SETTINGS, cache_dir=tmp_path)
        search = make_search(mel, n_jobs=2).fit(paths, labels)
    np.testing.assert_array_equal(scores_of(search), expected)
    assert work_of(tmp_path) == sorted(f"128 {path}" for path in paths)


def test_after_warm_a_search_decodes_nothing(tone_clips, tmp_path):
    paths, labels, _ = tone_clips
    mel = CountingMel(**SETTINGS, cache_dir=tmp_path)
    assert mel.warm(paths) is mel
    with pytest.raises(NotFittedError, match="not fitted"):
        check_is_fitted(mel)
    assert work_of(tmp_path) == sorted(f"{what} {p}" for p in paths for what in ("decoded", 64))
    search = make_search(mel).set_params(param_grid={"mel__hop_length": [64]})
    search.fit(paths, labels)
    assert work_of(tmp_path) == []
    make_search(mel).fit(paths, labels)
    assert work_of(tmp_path) == sorted(f"128 {p}" for p in paths)


def test_warm_uses_the_length_that_fit_found(tone_clips, tmp_path):
    paths, _, _ = tone_clips
    mel = CountingMel(**{**SETTINGS, "duration": None}, cache_dir=tmp_path)
    with pytest.raises(ValueError, match="duration of MelSpectrogram must be set for warm before"):
        mel.warm(paths)
    mel.fit(paths).warm(paths)
    work_of(tmp_path)
    mel.transform(paths)
    assert work_of(tmp_path) == []


def test_warm_keeps_and_sends_no_spectrogram(tmp_path, monkeypatch):
    monkeypatch.setattr("skaudio.features._extraction.TASK_BYTES", 200_000)
    mel = MelSpectrogram(**{**SETTINGS, "hop_length": 4}, cache_dir=tmp_path, cache_waveforms=False)
    waves = list(np.random.default_rng(0).normal(size=(100, 1600)).astype(np.float32))
    mel.warm(waves[:5])
    tracemalloc.start()
    mel.warm(waves)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < mel.fit_transform(waves).nbytes / 4


def test_warm_without_a_cache_says_so(tone_clips):
    with pytest.raises(ValueError, match="cache_dir of MelSpectrogram must be a folder for warm"):
        MelSpectrogram(**SETTINGS).warm(tone_clips[0])


def test_warm_names_bad_files_and_keeps_the_good_ones(tmp_path):
    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    soundfile.write(good, np.sin(np.arange(1600)) / 2, 8000)
    bad.write_text("no sound")
    mel = CountingMel(**SETTINGS, cache_dir=tmp_path / "cache")
    with pytest.raises(AudioError, match=r"Could not read 1 file as audio:\n.*bad\.wav"):
        mel.warm([bad, good])
    with pytest.warns(UserWarning, match=r"bad\.wav(.|\n)*They are not in the cache") as caught:
        mel.set_params(on_error="warn").warm([bad, good])
    assert caught[0].filename == __file__
    work_of(tmp_path / "cache")
    mel.fit_transform([good])
    assert work_of(tmp_path / "cache") == []


def test_warm_refuses_what_would_keep_nothing(tone_clips, tmp_path):
    mel = MelSpectrogram(duration=0.2, cache_dir=tmp_path, in_network=True, cache_waveforms=False)
    with pytest.raises(ValueError, match="cache_waveforms .* True for warm with in_network=True"):
        mel.warm(tone_clips[0])
