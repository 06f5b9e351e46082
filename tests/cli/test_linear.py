"""The commands with embeddings and a linear classifier, as `fit` trains it by default."""

import json
import re
import shutil

import numpy as np
import pytest
import soundfile
from factories import write_network
from signals import tone

import skaudio
from skaudio._cli.main import main
from skaudio.classifiers import _weights
from skaudio.features._audio_embedding import EmbeddingExtractor
from skaudio.nn import pretrained
from skaudio.nn.pretrained import random_network

RATE = 8000


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six clips of various lengths in each of two class folders."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for label, freq in (("low", 400), ("high", 2000)):
        (folder / label).mkdir()
        for number in range(6):
            duration = 0.2 + 0.1 * number
            wave = tone(freq * rng.uniform(0.9, 1.1), sample_rate=RATE, duration=duration)
            soundfile.write(folder / label / f"{number}.wav", wave, RATE)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with random weights of the smallest network."""
    file = tmp_path_factory.mktemp("weights") / "mn01.safetensors"
    return write_network(file, random_network("efficientat_mn01", 0))


@pytest.fixture(scope="module")
def network(weights):
    return ["--network", "efficientat_mn01", "--weights", weights]


@pytest.fixture(scope="module")
def model(tmp_path_factory, data, network):
    file = tmp_path_factory.mktemp("model") / "m.skaudio"
    assert main(["fit", str(data), "--model", str(file), "-q", *map(str, network)]) == 0
    return file


def count_embeddings(monkeypatch):
    compute, waves = EmbeddingExtractor._compute, []

    def counting(self, wave):
        waves.append(wave)
        return compute(self, wave)

    monkeypatch.setattr(EmbeddingExtractor, "_compute", counting)
    return waves


def add_table(data, folder, column, values):
    """A meta.csv over the clips of both classes."""
    rows = [("filename", "category", column)]
    for value, path in zip(values, sorted(data.rglob("*.wav")), strict=True):
        name = f"{path.parent.name}_{path.name}"
        shutil.copy(path, folder / name)
        rows.append((name, path.parent.name, value))
    (folder / "meta.csv").write_text("\n".join(map(",".join, rows)))


def test_fit_embeds_every_clip_once_and_prints_accuracy_beside_the_majority(
    run, data, network, tmp_path, monkeypatch
):
    waves = count_embeddings(monkeypatch)
    status, rows, err = run("fit", data, "--model", tmp_path / "m.skaudio", *network)
    assert status == 0
    assert len(waves) == 12
    assert rows[0] == ["fold", "n_train", "n_test", "accuracy"]
    assert sum(int(row[2]) for row in rows[1:]) == 12
    mean = np.mean([float(row[3]) for row in rows[1:]])
    assert f"skaudio: mean accuracy {mean:.3f}, standard deviation " in err
    assert "; always predicting 'high' would reach 0.500\n" in err
    assert mean > 0.8
    pipe = skaudio.load(tmp_path / "m.skaudio")
    assert [type(step).__name__ for _, step in pipe.steps] == [
        "AudioEmbedding", "StandardScaler", "LogisticRegression"
    ]  # fmt: skip
    assert f"with C={pipe['clf'].C:g}\n" in err


@pytest.mark.parametrize(
    ("column", "values", "sizes"),
    [
        ("fold", "aabbcc" * 2, [("a", 4), ("b", 4), ("c", 4)]),
        ("site", "aabbbb" * 2, [("1", 8), ("2", 4)]),
    ],
)
def test_folds_and_groups_of_the_table_are_honoured(
    run, data, network, tmp_path, column, values, sizes
):
    add_table(data, tmp_path, column, values)
    fit = ("fit", tmp_path, "--model", tmp_path / "m", "--group", column, *network)
    status, rows, _ = run(*fit)
    assert status == 0
    assert [(row[0], int(row[2])) for row in rows[1:]] == sizes


def test_a_class_with_one_clip_leaves_only_the_estimate_out(run, data, network, tmp_path):
    (tmp_path / "data" / "low").mkdir(parents=True)
    shutil.copytree(data / "high", tmp_path / "data" / "high")
    shutil.copy(data / "low" / "1.wav", tmp_path / "data" / "low")
    fit = ("fit", tmp_path / "data", "--model", tmp_path / "m", *network)
    status, rows, err = run(*fit)
    assert (status, rows) == (0, [])
    told = "--cv needs at least two clips per class, but 'low' has one\n"
    assert f"skaudio: the accuracy is not estimated: {told}" in err
    assert "trained on 7 clips of 2 classes" in err
    assert run(*fit, "--cv") == (2, [], f"skaudio: error: {told}")


def test_one_class_is_not_enough(run, data, network, tmp_path):
    names = [f"{number}.wav,low" for number in range(6)]
    shutil.copytree(data / "low", tmp_path / "data")
    (tmp_path / "data" / "meta.csv").write_text("\n".join(["filename,category", *names]))
    told = "skaudio: error: DATA must have clips of at least two classes, got one\n"
    fit = ("fit", tmp_path / "data", "--model", tmp_path / "m", *network)
    assert run(*fit) == (2, [], told)


def test_folds_that_leave_one_class_for_training_are_named(run, data, network, tmp_path):
    add_table(data, tmp_path, "fold", "a" * 6 + "b" * 6)
    fit = ("fit", tmp_path, "--model", tmp_path / "m", *network)
    status, rows, err = run(*fit)
    assert (status, rows) == (0, [])
    assert "two classes outside of every test fold, but outside of 'a' there is one\n" in err
    assert run(*fit, "--cv")[0] == 2


def test_the_cache_serves_a_second_fit(run, data, network, tmp_path, monkeypatch):
    fit = ("fit", data, "--model", tmp_path / "m", "--cache-dir", tmp_path / "c", *network)
    first = run(*fit)
    waves = count_embeddings(monkeypatch)
    assert run(*fit) == first
    assert waves == []


def test_unreadable_clips_are_skipped_on_request(run, data, network, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "low" / "1.wav").write_text("no sound")
    fit = ("fit", tmp_path / "data", "--model", tmp_path / "m", *network)
    status, rows, err = run(*fit)
    assert (status, rows) == (1, [])
    assert "low/1.wav: libsndfile says" in err
    assert err.endswith("error: nothing was saved; use --skip-bad to skip such clips\n")
    status, _, err = run(*fit, "--skip-bad")
    assert status == 1
    assert "trained on 11 clips of 2 classes" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--network", "mn04"], "--network must be one of 'efficientat_mn01', .* got 'mn04'"),
        (["--network", "yamnet"], "--weights must be a file with the weights of yamnet, which"),
        (["--network", "efficientat_mn01"], r"weights of efficientat_mn01 cannot be downloaded "
         r"\(no network\): download https://\S+\.pt on another .* give the file to --weights$"),
        (["--network", "efficientat_mn02", "--weights", "FILE"],
         "--weights must be the path of a file with the weights of 'efficientat_mn02'"),
        (["--network", "efficientat_mn01", "--weights", "no.pt"], "--weights must be .*'no.pt'"),
        (["--network", "efficientat_mn01", "--epochs", "3", "--duration", "1"],
         "--duration, --epochs can only be used with --finetune"),
        (["--weights", "none"], "--weights none can only be used with --finetune"),
        (["--finetune", "--weights", "hub"], "--weights hub cannot be combined with --finetune"),
        (["--finetune", "--backbone", "yamnet"], "--backbone must be a network of timm, got ya"),
        (["--finetune", "--network", "yamnet"], "--network cannot be combined with --finetune"),
        (["--finetune"], r"ImageNet weights of mobilenetv2_100 cannot be downloaded \(no hub\): "
         "download the file on another machine, and give it to --weights, or .* --weights none$"),
        ([], r"weights of efficientat_mn04 cannot be .* https://\S+/mn04_\S+\.pt on another"),
        (["--network", "efficientat_mn01", "--weights", "FILE", "--device", "tpu"],
         "--device must be 'auto' or a torch device"),
        (["--network", "efficientat_mn01", "--weights", "FILE", "--cache-dir", __file__],
         "--cache-dir must be a folder"),
    ],
)  # fmt: skip
def test_options_are_checked_before_clips(
    run, data, weights, tmp_path, monkeypatch, options, message
):
    def refuse(url, checksum, file, *, progress):
        raise ConnectionError("no network")

    def refuse_imagenet(name, options):
        raise OSError("no hub")

    monkeypatch.setattr(pretrained, "download", refuse)
    monkeypatch.setattr(_weights, "fetch_imagenet", refuse_imagenet)
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "low" / "1.wav").write_text("no sound")
    given = [weights if option == "FILE" else option for option in options]
    status, rows, err = run("fit", tmp_path / "data", "--model", tmp_path / "m", "--skip-bad",
                            *given)  # fmt: skip
    assert (status, rows, err.count("\n")) == (2, [], 1)
    assert re.search(f"^skaudio: error: .*{message}", err)
    assert not (tmp_path / "m").exists()


def test_files_of_any_length_are_classified_as_a_whole_or_in_windows(run, model, tmp_path):
    wave = [tone(freq, sample_rate=RATE, duration=2.0) for freq in (400, 2000)]
    soundfile.write(tmp_path / "long.wav", np.concatenate(wave), RATE)
    status, rows, err = run("predict", model, tmp_path / "long.wav", "--device", "cpu")
    assert (status, len(rows), err) == (0, 2, "")
    status, rows, _ = run("predict", model, tmp_path / "long.wav", "--window", 1)
    assert status == 0
    assert [row[3] for row in rows[1:]] == ["low", "low", "high", "high"]
    for option in ("--hop", "--events"):
        status, rows, err = run("predict", model, tmp_path / "long.wav", option, 0.5)
        assert (status, rows) == (2, [])
        assert err.startswith(f"skaudio: error: {option} needs --window, because the clips of")


@pytest.mark.slow
@pytest.mark.parametrize("how", [[], ["--cv"]])
def test_a_report_uses_the_weights_of_the_model_without_file_or_hub(
    run, model, data, tmp_path, monkeypatch, how
):
    waves = count_embeddings(monkeypatch)
    monkeypatch.setattr(pretrained, "download", None)
    status, _, err = run("report", model, data, "-o", tmp_path / "r.html", *how)
    assert status == 0
    assert err.endswith(f"skaudio: wrote {tmp_path / 'r.html'}\n")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<audio") > 0
    assert str(tmp_path) not in page
    assert ("Fold 5" in page) == bool(how)
    assert not how or len(waves) == 12 + 2  # every clip once, and two runs to measure the cost


def test_networks_are_listed_in_columns_or_for_programs(run, capsys):
    pytest.importorskip("pandas", reason="needs pandas")
    assert main(["networks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(pretrained.NETWORKS)
    assert len({line.index(word) for line, word in zip(lines[:2], ("licence", "MIT"),
                                                       strict=True)}) == 1  # fmt: skip
    assert re.fullmatch(r"yamnet +16000 .* file +Apache.*", lines[-1])
    assert main(["networks", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[-1]["network"] == "yamnet"
    assert rows[-1]["url"] is None
    assert run("networks", "--format", "csv")[1][0][:2] == ["network", "sample_rate"]
