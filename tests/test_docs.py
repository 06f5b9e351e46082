"""Documentation pages: every public name is listed, links are valid, and code runs."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import sklearn
import soundfile
from api_pages import write_api_pages
from joblib.externals.loky import get_reusable_executor
from safetensors.torch import save_file
from sklearn.model_selection import GridSearchCV

import skaudio
from skaudio.datasets import make_sound_events, write_clips
from skaudio.nn.cnn import build_cnn

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# What the code on the pages takes for granted, after the first block of the user guide, which holds
# imports. Everything else it must import or make itself.
PREAMBLE = """
paths, labels, folds = load_folder("recordings")
train_paths, test_paths, more_paths = paths[:12], paths[12:], paths[:8]
train_labels, test_labels = labels[:12], labels[12:]
val_paths, val_labels, new_paths = test_paths, test_labels, test_paths
val_tags = np.eye(2, dtype=int)[(test_labels == "dog").astype(int)]
speakers, trust = np.arange(len(paths)) // 4, np.ones(len(paths))
waves = np.zeros((2, 22_050), np.float32)
grid = {"clf__lr": [1e-3]}
mel = MelSpectrogram(sample_rate=22_050, duration=1.0, n_mels=32)
clf = PretrainedCNN("test_efficientnet", random_state=0)
pipe = Pipeline([("mel", mel), ("clf", clf)]).fit(paths, labels)
"""


def test_the_api_pages_list_every_public_name(tmp_path):
    write_api_pages(tmp_path)
    index, networks = ((tmp_path / f"{stem}.rst").read_text() for stem in ("index", "nn"))
    for name in skaudio.__all__:
        assert f"   {name}\n" in index
    for path in sorted((ROOT / "skaudio").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if "._" in module or not hasattr(importlib.import_module(module), "__all__"):
            continue
        text = networks if ".nn" in module else index
        assert f".. module:: {module}\n" in text
        for name in set(importlib.import_module(module).__all__) - set(skaudio.__all__):
            assert f"   {name}\n" in text, f"{module}.{name}"


def prose(page):
    """Text of a page without blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)


def anchors(page):
    """Names by which headings of a page can be linked, made as git hosts make them."""
    for heading in re.findall(r"^#+ (.+)$", prose(page), flags=re.M):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken_links(page):
    """Links to files or headings that do not exist; addresses of the web are not followed."""
    for link in LINK.findall(prose(page)):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        web = re.match(r"https?://|mailto:", link)
        if not web and not (target.exists() and (not anchor or anchor in anchors(target))):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    assert not list(broken_links(page))


NAME = re.compile(r"`(skaudio(?:\.[A-Za-z]\w*)+)[`(]")


def resolve(name):
    """Return the object of a dotted name, or raise AttributeError."""
    found = skaudio
    for i, part in enumerate(parts := name.split(".")[1:], 2):
        if not hasattr(found, part):
            importlib.import_module(".".join(["skaudio", *parts][:i]))
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_on_the_pages_exist(page):
    for name in set(NAME.findall(page.read_text(encoding="utf-8"))):
        assert resolve(name) is not None, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_tests_on_the_pages_exist(page):
    named = set(re.findall(r"\btest_\w+\.py\b", page.read_text(encoding="utf-8")))
    assert named <= {path.name for path in (ROOT / "tests").rglob("*.py")}


def test_the_version_to_cite_is_that_of_the_package():
    told = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), flags=re.M)
    assert told.group(1) == skaudio.__version__


def test_names_that_do_not_exist_are_found():
    with pytest.raises(ModuleNotFoundError, match="load_clip"):
        resolve("skaudio.load_clip")
    assert resolve("skaudio.audio.load_clip")


def test_broken_links_are_found(tmp_path):
    (tmp_path / "other.md").write_text("# Speed & memory\n")
    page = tmp_path / "page.md"
    page.write_text("# A\n[1](gone.md) [2](other.md#speed) [3](other.md#speed--memory) [4](#a)\n")
    assert list(broken_links(page)) == ["gone.md", "other.md#speed"]


def sections(page):
    """Heading and joined Python blocks of every section that has some.

    A block after the comment ``<!-- not run: REASON -->`` is left out.
    """
    for section in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.M):
        blocks = re.findall(
            r"(<!-- not run: .+? -->\n)?^```python\n(.*?)^```", section, flags=re.DOTALL | re.M
        )
        code = "\n".join(block for skipped, block in blocks if not skipped)
        if code:
            yield section.splitlines()[0], code


def imports():
    """The imports that all sections share, as the user guide shows them."""
    guide = (DOCS / "user_guide.md").read_text(encoding="utf-8")
    return re.search(r"^```python\n(.*?)^```", guide, flags=re.DOTALL | re.M).group(1)


def shown_code():
    for page in (ROOT / "README.md", DOCS / "user_guide.md"):
        yield from (pytest.param(code, id=f"{page.name}-{title}") for title, code in sections(page))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A working folder with the files that the pages name."""
    folder = tmp_path_factory.mktemp("guide")
    waves, labels, folds = make_sound_events(
        24, 2, duration=0.8, n_folds=2, sample_rate=22_050, random_state=0
    )
    labels = np.where(labels == labels[0], "dog", "rain")
    write_clips(folder / "recordings", waves, labels, folds, sample_rate=22_050)
    for name in ("new", "dog", "clip"):
        soundfile.write(folder / f"{name}.wav", waves[0], 22_050)
    soundfile.write(folder / "night.flac", waves[:10].ravel(), 22_050)
    rows = (f"{label == 'rain':d},{label == 'dog':d}" for label in labels)
    (folder / "tags.csv").write_text("\n".join(["rain,dog", *rows]) + "\n")
    network = build_cnn("test_efficientnet", in_channels=3, n_classes=1000)
    save_file(network.state_dict(), folder / "model.safetensors")
    return folder


@pytest.fixture
def fresh_workers():
    """Workers of loky that start in the working folder, and none that are left for other tests.

    One that has computed spectrograms grows when it loads torch, which loky takes for a leak.
    """
    get_reusable_executor().shutdown(wait=True)
    yield
    get_reusable_executor().shutdown(wait=True)


# Sections that say they need a newer scikit-learn than the lowest.
NEEDS_SKLEARN = {"sample_weight=trust": (1, 8)}


@pytest.mark.slow
@pytest.mark.parametrize("code", shown_code())
def test_code_on_the_pages_runs(code, recordings, monkeypatch, fresh_workers):
    """As printed, but one epoch, two folds, one second, and the smallest network of the family."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    for text, version in NEEDS_SKLEARN.items():
        if text in code and tuple(map(int, sklearn.__version__.split(".")[:2])) < version:
            pytest.skip(f"needs scikit-learn {version[0]}.{version[1]}")
    for cls in (skaudio.PretrainedCNN, skaudio.MAST):
        short = {name: 1 for name in cls.__init__.__kwdefaults__ if name.endswith("_epochs")}
        monkeypatch.setattr(cls.__init__, "__kwdefaults__", cls.__init__.__kwdefaults__ | short)
    defaults = GridSearchCV.__init__.__kwdefaults__ | {"cv": 2}
    monkeypatch.setattr(GridSearchCV.__init__, "__kwdefaults__", defaults)
    monkeypatch.setattr(
        "skaudio.classifiers._weights.fetch_imagenet",
        lambda name, options: build_cnn(name, in_channels=3, n_classes=1000).state_dict(),
    )
    monkeypatch.chdir(recordings)
    code = code.replace("mobilenetv2_100", "test_efficientnet")
    code = code.replace("duration=5.0", "duration=1.0").replace("window=3.0", "window=1.0")
    code = re.sub(r"_epochs=\d+", "_epochs=1", code)
    code = re.sub(r"KFold\(5\)", "KFold(2)", code)
    code = re.sub(r"n_jobs=\d+", "n_jobs=2", code)
    try:
        exec(compile(imports() + PREAMBLE + code, "page", "exec"), {"__name__": "page"})
    except ModuleNotFoundError as err:
        if err.name.startswith("skaudio"):
            raise
        pytest.skip(f"needs {err.name}, which is not installed")
    plt.close("all")
