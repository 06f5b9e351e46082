"""The report: the content of the page, and its behaviour in a browser."""

import base64
import io
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import optional_import
from factories import make_events, write_network
from networks import tiny_cnn
from sklearn.cluster import KMeans
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.metrics import accuracy_score, average_precision_score, f1_score
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skaudio
from skaudio import AudioError, DiffResResampler, MelSpectrogram, PretrainedCNN
from skaudio.nn import pretrained

pytestmark = pytest.mark.slow  # searches are fitted

pd = optional_import("pandas")

RATE, DURATION = 8000, 0.6
MEL = {"sample_rate": RATE, "duration": DURATION, "n_fft": 256, "hop_length": 80, "n_mels": 32}
EVIL = '<script>alert("x")</script>'


@pytest.fixture(autouse=True)
def plt():
    """pyplot without windows; the report must leave no figure open."""
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    yield plt
    assert plt.get_fignums() == before


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Paths of clips, some with markup in their names, and labels of which one is markup."""
    folder = tmp_path_factory.mktemp("clips")
    waves, labels = make_events(24, 3, duration=DURATION)
    names = dict(zip(np.unique(labels), ["dog", "rain & wind", EVIL], strict=True))
    paths = [str(folder / f"<b>{n}" / "a.wav") for n in range(len(waves))]
    for path, wave in zip(paths, waves, strict=True):
        (folder / path).parent.mkdir()
        soundfile.write(path, wave, RATE)
    return paths, np.array([names[label] for label in labels])


def make_pipe(*steps, **mel):
    clf = PretrainedCNN(
        tiny_cnn, weights=None, max_epochs=2, batch_size=8, early_stopping=True, random_state=0
    )
    return make_pipeline(MelSpectrogram(**MEL | mel), *steps, clf)


def average(X):
    """Mean level of every band, scaled to about 1."""
    return X.mean(axis=2) / 5.0


def make_plain(classifier=None):
    """A pipeline that ends with an ordinary classifier, and is quick."""
    last = LogisticRegression(max_iter=1000) if classifier is None else classifier
    return make_pipeline(MelSpectrogram(**MEL), FunctionTransformer(average), last)


@pytest.fixture(scope="module")
def search(clips):
    grid = {"diffresresampler__budget": [0.25, 0.5], "pretrainedcnn__lr": [1e-4, 1e-3]}
    pipe = make_pipe(DiffResResampler(random_state=0))
    return GridSearchCV(pipe, grid, cv=2).fit(*clips)


@pytest.fixture(scope="module")
def plain(clips):
    return make_plain().fit(*clips)


@pytest.fixture(scope="module")
def wrong(clips):
    """Labels of which a third is wrong, so that there are mistakes."""
    labels = clips[1].copy()
    labels[::3] = np.roll(labels, 1)[::3]
    return labels


@pytest.fixture(scope="module")
def file(search, clips, wrong, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    return skaudio.report(search, clips[0], wrong, path, n_mistakes=3)


class Page(HTMLParser):
    """Elements of a page, and the text of tables."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.tables[-1][-1][-1] += data.strip()

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    def table(self, *columns):
        """Rows, as dicts, of the table that has these columns."""
        (found,) = [t for t in self.tables if set(columns) <= set(t[0])]
        return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


def read(path):
    return path.read_text(encoding="utf-8")


def write(tmp_path, *args, **options):
    """The text and the elements of a report."""
    text = read(skaudio.report(*args, tmp_path / "report.html", **options))
    return text, Page(text)


def rows_of_cards(text):
    """Numbers in the paths of the clips that are shown."""
    return [int(n) for n in re.findall(r'<p class="muted">&lt;b&gt;(\d+)/a\.wav</p>', text)]


def test_the_page_needs_nothing_but_itself(file):
    text = read(file)
    page = Page(text)
    addresses = [a[key] for _, a in page.elements for key in ("src", "href", "srcset") if key in a]
    assert len(addresses) >= 10
    assert all(address.startswith("data:") for address in addresses)
    assert "url(" not in text
    assert "@import" not in text
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_labels_and_paths_cannot_bring_markup(file):
    text = read(file)
    assert EVIL not in text
    assert "<b>" not in text
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in text
    assert len(Page(text).all("script")) == 1


def test_a_title_is_escaped_and_dollars_stay(plain, clips, tmp_path):
    text, _ = write(tmp_path, plain, *clips, title=f"$body {EVIL}", n_mistakes=0)
    assert "<h1>$body &lt;script&gt;" in text


def test_every_picture_says_what_it_shows(file):
    page = Page(read(file))
    assert len(page.all("img")) == 3 + 2 + 2  # mistakes, budget, training
    assert all(len(attrs["alt"]) > 10 for attrs in page.all("img"))


def test_the_headline_is_that_of_scikit_learn(search, clips, wrong, file):
    predicted = search.predict(clips[0])
    text = read(file)
    assert f"<dd>{accuracy_score(wrong, predicted):.3f}</dd>" in text
    assert f"<dd>{f1_score(wrong, predicted, average='macro'):.3f}</dd>" in text
    assert f"<dd>{search.best_score_:.3f}</dd>" in text


def test_candidates_are_sorted_by_their_score(search, file):
    rows = Page(read(file)).table("#", "accuracy", "diffresresampler__budget")
    scores = [float(row["accuracy"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert len(rows) == 4
    best = rows[0]
    assert float(best["diffresresampler__budget"]) in (0.25, 0.5)
    assert float(best["accuracy"]) == pytest.approx(search.best_score_, abs=5e-4)
    assert {"fold 1", "fold 2", "fit (s)"} <= set(best)


def test_folds_of_a_search_are_those_of_the_best_candidate(search, file):
    rows = Page(read(file)).table("fold", "accuracy")
    expected = [search.cv_results_[f"split{n}_test_score"][search.best_index_] for n in (0, 1)]
    assert [float(row["accuracy"]) for row in rows] == pytest.approx(expected, abs=5e-4)


def test_classes_and_the_confusion_matrix_add_up(search, clips, wrong, file):
    page, predicted = Page(read(file)), search.predict(clips[0])
    rows = page.table("class", "precision", "recall", "F1")
    assert [int(row["clips"]) for row in rows] == [
        int(np.sum(wrong == row["class"])) for row in rows
    ]
    (matrix,) = [t for t, a in zip(page.tables, page.all("table"), strict=True)
                 if a["class"] == "confusion"]  # fmt: skip
    counts = np.array([[int(cell or 0) for cell in row[1:]] for row in matrix[1:]])
    assert counts.sum() == len(wrong)
    assert np.trace(counts) == np.sum(wrong == predicted)
    assert counts.sum(axis=0).tolist() == [int(row["predicted"]) for row in rows]


def test_mistakes_are_the_most_confident_ones_and_can_be_heard(search, clips, wrong, file):
    text = read(file)
    proba, predicted = search.predict_proba(clips[0]), search.predict(clips[0])
    bad = np.flatnonzero(predicted != wrong)
    worst = bad[np.argsort(-proba[bad].max(axis=1), kind="stable")][:3]
    assert rows_of_cards(text) == worst.tolist()
    shown = re.findall(r'<dd class="predicted">.*?<span>([\d.]+)</span></dd>', text)
    assert [float(p) for p in shown] == pytest.approx(proba[worst].max(axis=1), abs=1e-3)
    sounds = [
        attrs["src"].removeprefix("data:audio/flac;base64,") for attrs in Page(text).all("audio")
    ]
    for row, sound in zip(worst, sounds, strict=True):
        wave, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        assert rate == RATE
        np.testing.assert_allclose(wave, soundfile.read(clips[0][row])[0], atol=1e-4)


def test_frame_importance_stands_below_the_spectrogram(file, search, clips, tmp_path):
    assert read(file).count('<svg class="frames"') == 3
    plain = make_pipe().fit(*clips)
    assert '<svg class="frames"' not in write(tmp_path, plain, *clips)[0]
    average = make_pipe(DiffResResampler(0.5, method="average")).fit(*clips)
    assert '<svg class="frames"' not in write(tmp_path, average, *clips)[0]


def test_without_mistakes_the_least_certain_right_answers_are_shown(plain, clips, tmp_path):
    predicted, certainty = plain.predict(clips[0]), plain.predict_proba(clips[0]).max(axis=1)
    text, _ = write(tmp_path, plain, clips[0], predicted, n_mistakes=2)
    assert "The least certain correct predictions" in text
    assert rows_of_cards(text) == np.argsort(certainty, kind="stable")[:2].tolist()


def test_the_page_says_what_its_numbers_are_worth(plain, clips, tmp_path):
    assert "Was the model trained on these 24 clips?" in write(tmp_path, plain, *clips)[0]
    text, _ = write(tmp_path, plain, *clips, held_out=True)
    assert "24 clips that were held out from training (held_out=True)." in text
    assert "Was the model trained" not in text


def test_labels_that_the_model_does_not_know_are_named(plain, clips, tmp_path):
    strange = clips[1].copy()
    strange[:3] = "cat"
    with pytest.warns(UserWarning, match="The model does not know 'cat': clips with such a label"):
        text, page = write(tmp_path, plain, clips[0], strange)
    assert "does not know &#x27;cat&#x27;: 3 clips with such a label count as mistakes." in text
    (row,) = [row for row in page.table("class", "recall") if row["class"] == "cat"]
    assert (float(row["recall"]), row["clips"], row["predicted"]) == (0.0, "3", "0")
    (tmp_path / "report.html").unlink()
    match = r"y of report must have labels that the model knows, '<script.*'dog', .*, got 0, 1\."
    with pytest.raises(ValueError, match=match):
        skaudio.report(plain, clips[0], [0, 1] * 12, tmp_path / "report.html")
    with pytest.raises(ValueError, match=r"got 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 14 more\."):
        skaudio.report(plain, clips[0], range(24), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_the_subtitle_counts_clips_and_classes(file):
    steps = "MelSpectrogram \N{RIGHTWARDS ARROW} DiffResResampler"
    assert f'<p class="muted">24 clips of 3 classes; {steps}' in read(file)


def test_of_files_and_folders_only_the_names_are_shown(clips, tmp_path):
    cache = tmp_path / "cache"
    search = GridSearchCV(
        make_plain().set_params(memory=str(tmp_path / "memory")),
        {"melspectrogram__cache_dir": [cache]}, cv=2,
    ).fit(*clips)  # fmt: skip
    text, page = write(tmp_path, search, *clips, n_mistakes=0)
    assert str(tmp_path) not in text
    assert page.table("#", "melspectrogram__cache_dir")[0]["melspectrogram__cache_dir"] == "cache"
    assert "cache_dir=&#x27;cache&#x27;" in text
    assert "memory=&#x27;memory&#x27;" in text
    assert search.best_estimator_["melspectrogram"].cache_dir == cache


def test_the_dot_is_explained_where_one_is_drawn(clips, file, tmp_path):
    assert "A dot marks the epoch" in read(file)
    pipe = make_pipe().set_params(pretrainedcnn__early_stopping=False).fit(*clips)
    text, _ = write(tmp_path, pipe, *clips, n_mistakes=0)
    assert "Loss over the epochs" in text
    assert "A dot marks the epoch" not in text


def test_with_folds_every_clip_is_predicted_by_a_model_that_did_not_see_it(clips, tmp_path):
    paths, labels = clips
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    memory = make_plain(Recorder())
    text, page = write(tmp_path, memory, pd.Series(paths), pd.Series(labels), cv=cv)
    assert "by models that were not trained on them, in 3 folds" in text
    rows = page.table("fold", "clips", "accuracy")
    assert [int(row["clips"]) for row in rows] == [8, 8, 8]
    assert {float(row["accuracy"]) for row in rows} == {0.0}  # it is only right on training clips
    assert re.search(r"/a\.wav, fold 1</p>", text)


class Recorder(DummyClassifier):
    """A classifier that memorises its training clips and is wrong on all others."""

    def fit(self, X, y):
        self.seen_ = {row.tobytes(): label for row, label in zip(X, y, strict=True)}
        return super().fit(X, y)

    def predict(self, X):
        return np.array([self.seen_.get(row.tobytes(), "unknown") for row in X])

    predict_proba = property(doc="It gives none.")


def test_learning_curves_of_all_folds_are_drawn(clips, tmp_path):
    text, _ = write(tmp_path, make_pipe(), *clips, cv=2)
    assert "One line per fold." in text
    assert "Loss over the epochs" in text


def make_multilabel(clips):
    """An indicator matrix, the second label with, the third without any clip."""
    labels = np.stack([clips[1] == "dog", clips[1] != EVIL, np.zeros(len(clips[1]))], axis=1)
    return labels.astype(int)


@pytest.mark.filterwarnings("ignore:Label not 2 is present in all training examples")
def test_several_labels_per_clip_are_scored_label_by_label(clips, tmp_path):
    y = make_multilabel(clips)
    pipe = make_plain(OneVsRestClassifier(LogisticRegression(C=1e-5)))
    pipe.fit(clips[0], y)
    text, page = write(tmp_path, pipe, clips[0], pd.DataFrame(y, columns=["dog", EVIL, "none"]))
    rows = page.table("label", "average precision", "F1")
    assert [row["label"] for row in rows] == ["dog", EVIL, "none"]
    proba = pipe.predict_proba(clips[0])
    expected = average_precision_score(y[:, 0], proba[:, 0])
    assert float(rows[0]["average precision"]) == pytest.approx(expected, abs=5e-4)
    assert rows[2]["average precision"] == "\N{EN DASH}"
    assert 'class="confusion"' not in text
    assert "Mean average precision" in text
    assert "<h3>dog missed</h3>" in text
    assert re.search(r"True: [^.]*dog[^.]*\. Predicted: ", text)
    assert EVIL not in text


def test_a_classifier_of_ours_names_its_labels_and_draws_its_curves(clips, tmp_path):
    tags = pd.DataFrame(make_multilabel(clips)[:, :2], columns=["dog", "other"])
    pipe = make_pipe(DiffResResampler(0.5, random_state=0)).fit(clips[0], tags)
    text, page = write(tmp_path, pipe, clips[0], tags.to_numpy())
    rows = page.table("label", "average precision", "F1")
    assert [row["label"] for row in rows] == ["dog", "other"]
    expected = average_precision_score(tags["dog"], pipe.predict_proba(clips[0])[:, 0])
    assert float(rows[0]["average precision"]) == pytest.approx(expected, abs=5e-4)
    assert "Loss over the epochs" in text
    assert len(page.all("audio")) > 0


def test_waveforms_can_be_heard_and_features_cannot(clips, tmp_path):
    waves = np.stack([soundfile.read(path)[0] for path in clips[0]])
    pipe = make_pipe(in_network=True).fit(waves, clips[1])
    _, page = write(tmp_path, pipe, waves, clips[1], n_mistakes=2)
    assert len(page.all("audio")) == 2
    _, page = write(tmp_path, pipe, list(waves), clips[1], n_mistakes=2)
    assert len(page.all("audio")) == 2
    features = np.log(np.abs(np.fft.rfft(waves))[:, :200] + 1e-3)
    text, page = write(tmp_path, LogisticRegression().fit(features, clips[1]), features, clips[1])
    assert page.all("audio") == page.all("img") == []
    assert "To listen, pass paths, or waveforms that the first step processes." in text


@pytest.mark.parametrize("kind", ["bytes", "array", "channels"])
def test_every_kind_of_clip_that_a_pipeline_takes_can_be_heard(clips, tmp_path, kind):
    waves = [soundfile.read(path, dtype="float32")[0] for path in clips[0]]
    if kind == "bytes":
        X = [{"bytes": Path(path).read_bytes(), "path": None} for path in clips[0]]
    elif kind == "array":
        X = [{"array": wave, "sampling_rate": RATE} for wave in waves]
    else:
        X = [np.stack([wave, -wave]) for wave in waves]
    pipe = make_pipe().set_params(melspectrogram__channel="all" if kind == "channels" else "mean")
    _, page = write(tmp_path, pipe.fit(X, clips[1]), X, clips[1], n_mistakes=2)
    assert len(page.all("audio")) == 2
    sound = base64.b64decode(page.all("audio")[0]["src"].partition(",")[2])
    heard, rate = soundfile.read(io.BytesIO(sound), always_2d=True)
    assert rate == RATE
    assert heard.shape == (len(heard), 2 if kind == "channels" else 1)


def test_long_clips_are_cut(tmp_path):
    rng = np.random.default_rng(0)
    waves = [rng.normal(scale=0.1, size=12 * RATE).astype(np.float32) for _ in range(4)]
    mel = MelSpectrogram(**MEL | {"duration": None})
    pipe = make_pipeline(mel, FunctionTransformer(average), LogisticRegression())
    text, page = write(tmp_path, pipe.fit(waves, [0, 1, 0, 1]), waves, [0, 1, 0, 1], n_mistakes=1)
    assert "The first 10 s of 12 s." in text
    sound = page.all("audio")[0]["src"].partition(",")[2]
    assert soundfile.info(io.BytesIO(base64.b64decode(sound))).duration == 10.0
    (picture,) = page.all("img")
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(picture["src"].partition(",")[2])))
    assert image.height == 32
    assert image.width <= 800


def test_classifiers_without_probabilities_are_reported_on(clips, tmp_path, wrong):
    pipe = make_plain(RidgeClassifier()).fit(*clips)
    text, page = write(tmp_path, pipe, clips[0], wrong)
    assert "in the order of X" in text
    rows = rows_of_cards(text)
    assert rows == np.flatnonzero(pipe.predict(clips[0]) != wrong)[:12].tolist()
    assert len(page.all("audio")) == len(rows)


def test_with_many_classes_the_most_frequent_mistakes_are_listed(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 4)), np.repeat(np.arange(45), 2)
    clf = LogisticRegression(max_iter=5).set_params(tol=1e9).fit(X, y)
    text, page = write(tmp_path, clf, X, y)
    assert 'class="confusion"' not in text
    rows = page.table("true", "predicted", "clips")
    assert len(rows) == 40
    assert all(row["true"] != row["predicted"] for row in rows)


def test_of_several_metrics_the_one_that_refits_counts(clips, tmp_path):
    pipe = make_plain()
    scoring = {"acc": "accuracy", "f1": "f1_macro"}
    search = RandomizedSearchCV(
        pipe, {"logisticregression__C": [1e-6, 1e-2], "logisticregression__fit_intercept": [True]},
        n_iter=2, cv=2, scoring=scoring, refit="f1", random_state=0,
    ).fit(*clips)  # fmt: skip
    _, page = write(tmp_path, search, *clips)
    rows = page.table("#", "f1", "logisticregression__C")
    assert float(rows[0]["f1"]) == pytest.approx(search.best_score_, abs=5e-4)
    assert rows[0]["logisticregression__fit_intercept"] == "True"


def test_an_older_file_stays_until_the_page_is_complete(plain, clips, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("older")
    missing = [*clips[0][:-1], str(tmp_path / "missing.wav")]
    with pytest.raises(AudioError, match=r"missing\.wav.*no such file"):
        skaudio.report(plain, missing, clips[1], path)
    assert path.read_text() == "older"
    skaudio.report(plain, *clips, path, n_mistakes=0)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_what_cannot_be_reported_on_says_why(plain, clips, tmp_path):
    paths, labels = clips
    path = tmp_path / "report.html"
    with pytest.raises(NotFittedError, match="not fitted"):
        skaudio.report(make_pipe(), paths, labels, path)
    with pytest.raises(NotFittedError, match="not fitted"):
        skaudio.report(GridSearchCV(make_pipe(), {}), paths, labels, path)
    with pytest.raises(
        ValueError, match="y of report must have one entry per clip of X, 24, got 3"
    ):
        skaudio.report(plain, paths, labels[:3], path)
    with pytest.raises(ValueError, match="labels or an indicator matrix, got continuous values"):
        skaudio.report(plain, paths, np.linspace(0, 1, 24), path)
    with pytest.raises(ValueError, match="must be a classifier, got LinearRegression"):
        skaudio.report(LinearRegression(), paths, labels, path)
    with pytest.raises(ValueError, match="must be a classifier, got KMeans"):
        skaudio.report(KMeans(), paths, labels, path)
    with pytest.raises(ValueError, match="n_mistakes of report must be an int >= 0, got -1"):
        skaudio.report(plain, paths, labels, path, n_mistakes=-1)
    with pytest.raises(ValueError, match="X of report must be a list of paths, got one path"):
        skaudio.report(plain, paths[0], labels, path)
    for bad in (tmp_path, tmp_path / "no" / "report.html"):
        with pytest.raises(ValueError, match="path of report must be a file in a folder"):
            skaudio.report(plain, paths, labels, bad)
    with pytest.raises(ValueError, match="path of report must be a str or PathLike, got 3"):
        skaudio.report(plain, paths, labels, 3)
    assert list(tmp_path.iterdir()) == []


def test_a_search_must_have_refitted(clips, tmp_path):
    pipe = make_plain()
    search = GridSearchCV(pipe, {}, cv=2, refit=False).fit(*clips)
    with pytest.raises(ValueError, match="search with refit=True, got refit=False"):
        skaudio.report(search, *clips, tmp_path / "report.html")


def test_a_missing_matplotlib_is_named_with_the_remedy(plain, clips, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'skaudio\[plot\]'"):
        skaudio.report(plain, *clips, tmp_path / "report.html")


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"needs a browser, none of {', '.join(names)} is here")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser, file):
    """The report in a browser, with all requests and messages."""

    def show(**options):
        tab = context.new_page() if not options else browser.new_context(**options).new_page()
        tab.requests, tab.messages = [], []
        tab.on("request", lambda request: tab.requests.append(request.url))
        tab.on("console", lambda message: tab.messages.append(message.text))
        tab.on("pageerror", lambda error: tab.messages.append(str(error)))
        tab.goto(file.as_uri())
        return tab

    context = browser.new_context()
    yield show
    for context in browser.contexts:
        context.close()


def test_in_a_browser_the_page_asks_for_nothing_and_complains_of_nothing(tab, file):
    page = tab()
    page.wait_for_function("[...document.images].every(image => image.naturalWidth > 0)")
    assert [url for url in page.requests if not url.startswith("data:")] == [file.as_uri()]
    assert page.messages == []


def test_in_a_browser_players_know_how_long_their_clips_are(tab):
    page = tab()
    page.wait_for_function("[...document.querySelectorAll('audio')].every(a => a.duration > 0)")
    durations = page.evaluate("[...document.querySelectorAll('audio')].map(a => a.duration)")
    assert durations == pytest.approx([DURATION] * 3, abs=0.01)


@pytest.mark.parametrize("rate", [2000, 384_000])
def test_in_a_browser_sound_of_any_rate_can_be_played(browser, tmp_path, rate):
    waves = 0.3 * np.random.default_rng(0).normal(size=(8, rate // 2))
    mel = MelSpectrogram(sample_rate=rate, n_fft=rate // 10, hop_length=rate // 100, n_mels=8)
    pipe = make_pipeline(mel, FunctionTransformer(average), LogisticRegression())
    labels = ["dog", "rain"] * 4
    file = skaudio.report(pipe.fit(waves, labels), waves, labels, tmp_path / "a.html", n_mistakes=2)
    page = browser.new_page()
    page.goto(file.as_uri())
    page.wait_for_function(
        "[...document.querySelectorAll('audio')].every(a => a.duration || a.error)"
    )
    found = page.evaluate("[...document.querySelectorAll('audio')].map(a => a.duration)")
    page.close()
    assert found
    assert found == pytest.approx([0.5] * len(found), abs=0.01)


def test_in_a_browser_a_click_on_a_picture_plays_from_there(tab):
    page = tab()
    page.evaluate(
        "document.querySelectorAll('audio').forEach("
        "a => { a.play = () => { a.dataset.played = a.currentTime; } })"
    )
    view = page.locator(".view").nth(1)
    box = view.bounding_box()
    view.click(position={"x": box["width"] / 2, "y": 5})
    played = page.locator("audio").nth(1).get_attribute("data-played")
    assert float(played) == pytest.approx(DURATION / 2, abs=0.02)


@pytest.mark.parametrize("by", ["click", "keyboard"])
def test_in_a_browser_tables_sort(tab, by):
    page = tab()
    table = page.locator("#candidates table")
    names = table.locator("thead th").all_inner_texts()
    column = [name.strip() for name in names].index("pretrainedcnn__lr")
    head = table.locator("thead th").nth(column)

    def press():
        if by == "click":
            head.locator("button").click()
        else:
            head.locator("button").focus()
            page.keyboard.press("Enter")
        cells = table.locator(f"tbody td:nth-child({column + 1})").all_inner_texts()
        return [float(cell) for cell in cells]

    assert head.get_attribute("aria-sort") is None
    assert press() == [1e-3, 1e-3, 1e-4, 1e-4]
    assert head.get_attribute("aria-sort") == "descending"
    assert press() == [1e-4, 1e-4, 1e-3, 1e-3]
    assert head.get_attribute("aria-sort") == "ascending"
    words = page.locator("#classes table.sortable")
    words.locator("thead th button").first.click()
    assert words.locator("tbody td:first-child").all_inner_texts()[0] == EVIL
    assert page.messages == []


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_in_a_browser_nothing_is_wider_than_the_screen(tab, width):
    page = tab(viewport={"width": width, "height": 800})
    page.locator("details summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_in_a_browser_the_table_of_classes_fits_a_phone(tab):
    page = tab(viewport={"width": 390, "height": 800})
    box = "document.querySelector('#classes .scroll')"
    assert page.evaluate(f"{box}.scrollWidth") <= page.evaluate(f"{box}.clientWidth") <= 358


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_counts_in_the_confusion_matrix_can_be_read(tab, scheme):
    page = tab(color_scheme=scheme)
    back = parse_color(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    for kind in ("hit", "miss"):
        for share in np.linspace(0, 1, 11):
            found = page.locator(f"#classes td.{kind}").first.evaluate(
                "(cell, share) => { cell.style.setProperty('--share', share);"
                "const { color, backgroundColor } = getComputedStyle(cell);"
                "return [color, backgroundColor]; }",
                float(share),
            )
            text, cell = map(parse_color, found)
            shown = cell[:3] * cell[3] + back[:3] * (1 - cell[3])
            levels = sorted(luminance(color) for color in (text[:3], shown))
            assert (levels[1] + 0.05) / (levels[0] + 0.05) >= 4.5, (kind, share)


def parse_color(text):
    """Red, green, blue and opacity in [0, 1]."""
    values = np.array([float(n) for n in re.findall(r"[\d.]+(?:e-\d+)?", text)])
    values[:3] /= 1 if text.startswith("color") else 255
    return values if len(values) == 4 else np.append(values, 1.0)


def luminance(color):
    """Relative luminance of WCAG 2."""
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_in_a_browser_the_page_follows_the_colours_of_the_system(tab):
    color = "getComputedStyle(document.body).backgroundColor"
    light, dark = (
        [int(n) for n in re.findall(r"\d+", tab(color_scheme=scheme).evaluate(color))]
        for scheme in ("light", "dark")
    )
    assert min(light) > 200
    assert max(dark) < 60


def make_embedded(**parameters):
    embedding = skaudio.AudioEmbedding("efficientat_mn01", random_state=0, **parameters)
    return make_pipeline(embedding, StandardScaler(), LogisticRegression())


def test_an_embedding_has_players_and_spectrograms_at_the_rate_of_its_network(
    clips, wrong, tmp_path
):
    pipe = make_embedded(weights=None).fit(*clips)
    file = skaudio.report(pipe, clips[0], wrong, tmp_path / "report.html", n_mistakes=2)
    page = Page(file.read_text())
    assert len(page.all("audio")) == 2
    assert len([image for image in page.all("img") if "Spectrogram" in image["alt"]]) == 2
    content = base64.b64decode(page.all("audio")[0]["src"].partition(",")[2])
    wave, rate = soundfile.read(io.BytesIO(content))
    assert rate == 32_000
    assert len(wave) == DURATION * rate
    assert "efficientat_mn01 with random weights" in file.read_text()
    assert "multiply-accumulates per second of sound" in file.read_text()


def test_waveforms_for_an_embedding_have_players(tmp_path):
    waves = np.random.default_rng(0).normal(scale=0.1, size=(4, 32_000))
    pipe = make_embedded(weights=None).fit(waves, list("abab"))
    page = Page(skaudio.report(pipe, waves, list("abab"), tmp_path / "r.html").read_text())
    assert len(page.all("audio")) == 4


def test_the_page_names_the_pretrained_network_its_training_data_and_its_licence(clips, tmp_path):
    network = pretrained.random_network("efficientat_mn01", 0)
    file = write_network(tmp_path / "mn01.safetensors", network)
    pipe = make_embedded(weights=file).fit(*clips)
    text = skaudio.report(pipe, *clips, tmp_path / "r.html", n_mistakes=0).read_text()
    assert "Embeddings are those of efficientat_mn01 (Schmid, Koutini, Widmer" in text
    licence = "trained on AudioSet. Licence of the weights: MIT. Commercial use is allowed."
    assert licence in text
    assert str(tmp_path) not in text
    cnn = skaudio.PretrainedCNN("efficientat_mn01", weights=file, max_epochs=1, random_state=0)
    pipe = make_pipeline(skaudio.PretrainedSpectrogram("efficientat_mn01"), cnn).fit(*clips)
    text = skaudio.report(pipe, *clips, tmp_path / "r.html", n_mistakes=1).read_text()
    assert "Training started from efficientat_mn01 (Schmid, Koutini, Widmer" in text
    assert licence in text
    assert Page(text).all("audio")
