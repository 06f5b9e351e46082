"""Killed fits that resume with the same bits, and unusable checkpoint files."""

import errno
import logging
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import librosa
import numpy as np
import pytest
import torch
from fit_tools import (
    STEPS,
    DropoutCNN,
    Recorder,
    Tilt,
    assert_same,
    describe_things,
    louder,
    make_classifier,
    needs_callbacks,
)
from networks import TinyCNN
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from skaudio import MAST, Augmentation, DiffResResampler
from skaudio.classifiers.training import _checkpoint
from skaudio.classifiers.training._fit_digest import _describe
from skaudio.classifiers.training._loop import _Net

SETTINGS = {
    "plain": {},
    "average": {"ema_decay": 0.9},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2, "tol": 0.0, "lr": 1e-2,
                       "max_epochs": 8},
    "training loss": {"early_stopping": True, "validation_fraction": None, "ema_decay": 0.9},
    "augmented": {"augment": Augmentation(mixup=0.3, time_mask=0.2, noise_snr_db=(5.0, 20.0))},
    "balanced": {"sampling": "balanced", "gradient_clip_value": 1.0, "optimizer": "adam"},
    "step": {"schedule": "step", "lr_step_size": 2, "lr_gamma": 0.5, "class_weight": "balanced"},
    "frozen": {"freeze": "backbone", "label_smoothing": 0.1},
    "lower precision": {"precision": "bf16"},
    "scaled": {"precision": "fp16"},
    "every second": {"checkpoint_every": 2},
    "numbers of numpy": {"schedule": "step", "lr_step_size": np.int64(2), "lr": np.float32(1e-3),
                         "early_stopping": True, "tol": np.float32(1e-3),
                         "max_epochs": np.int64(4)},
}  # fmt: skip


class Killed(Exception):
    """Stands for a process that ends in the middle of a step."""


@pytest.fixture
def kill_after(monkeypatch):
    """Stop training after a number of steps; return the number of steps left."""
    train_step = _Net.train_step

    def arm(n_steps):
        left = [n_steps]

        def step(self, batch, **params):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return train_step(self, batch, **params)

        monkeypatch.setattr(_Net, "train_step", step)
        return left

    return arm


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_killed_fit_goes_on_with_the_same_bits(hard_images, tmp_path, kill_after, name):
    X, y = hard_images
    whole = make_classifier(**SETTINGS[name]).fit(X, y)
    clf = make_classifier(**SETTINGS[name], checkpoint_dir=tmp_path)
    for n_steps in (STEPS + 2, STEPS + 1):  # in the second epoch, and in the third
        kill_after(n_steps)
        with pytest.raises(Killed):
            clone(clf).fit(X, y)
    left = kill_after(100)
    assert_same(clf.fit(X, y), whole, X)
    n_epochs, done = len(whole.history_), 0 if name == "every second" else 2
    assert 100 - left[0] == (n_epochs - done) * STEPS
    assert n_epochs == 6 if name == "early stopping" else n_epochs == 4


@pytest.mark.parametrize("name", ["plain", "early stopping"])
def test_a_fit_killed_between_its_last_epoch_and_its_end_has_no_further_epoch(
    hard_images, tmp_path, monkeypatch, name
):
    X, y = hard_images
    clf = make_classifier(**SETTINGS[name], checkpoint_dir=tmp_path)

    def die(self, net):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(_checkpoint.Checkpoint, "finish", die)
        with pytest.raises(Killed):
            clf.fit(X, y)
    assert_same(clf.fit(X, y), make_classifier(**SETTINGS[name]).fit(X, y), X)


def tags_of(y):
    return np.column_stack([y == "dog", np.arange(len(y)) % 3 == 0, np.arange(len(y)) < 9]) * 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "fit",
    [
        lambda clf, X, y: clf.fit(X, tags_of(y)),
        lambda clf, X, y: clf.fit(X, y, sample_weight=np.arange(48) % 3, X_val=X[:9], y_val=y[:9]),
        lambda clf, X, y: clf.set_params(early_stopping=True).fit(X, y, groups=np.arange(48) // 4),
        lambda clf, X, y: clf.fit(DiffResResampler(0.5, random_state=0).fit_transform(X), y),
    ],
    ids=["many labels", "weights and validation clips", "groups", "resampler"],
)
def test_whatever_is_trained_on_goes_on(hard_images, tmp_path, kill_after, fit):
    X, y = hard_images
    whole = fit(make_classifier(), X, y)
    clf = make_classifier(checkpoint_dir=tmp_path)
    kill_after(2 * STEPS + 3)
    with pytest.raises(Killed):
        fit(clf, X, y)
    kill_after(100)
    resumed = fit(clf, X, y)
    through = DiffResResampler(0.5, random_state=0).fit_transform(X) if len(whole.frontend_) else X
    assert_same(resumed, whole, through)
    kill_after(0)  # a finished fit is loaded
    assert_same(fit(clone(clf), X, y), whole, through)


@pytest.mark.slow
def test_masked_pretraining_is_not_repeated(hard_images, tmp_path, kill_after, monkeypatch):
    X, y = hard_images
    settings = {"pretrain": "masked", "pretrain_epochs": 2, "max_epochs": 2, "random_state": 0}
    whole = MAST(**settings).fit(X, y, X_unlabeled=X[:7])
    clf = MAST(**settings, checkpoint_dir=tmp_path)
    kill_after(1)
    with pytest.raises(Killed):
        clf.fit(X, y, X_unlabeled=X[:7])
    kill_after(100)
    monkeypatch.setattr("skaudio.classifiers._mast.pretrain_masked", None)
    clf.fit(X, y, X_unlabeled=X[:7])
    assert_same(clf, whole, X)
    assert clf.pretrain_history_ == whole.pretrain_history_
    with pytest.raises(TypeError, match="not callable"):  # other clips without labels
        clone(clf).fit(X, y, X_unlabeled=X[:8])


def test_a_warm_start_goes_on_from_its_own_weights(hard_images, tmp_path, kill_after):
    X, y = hard_images
    first = make_classifier(checkpoint_dir=tmp_path, warm_start=True).fit(X, y)
    copied = make_classifier(checkpoint_dir=tmp_path, warm_start=True).fit(X, y)  # reads the file
    kill_after(STEPS + 2)
    with pytest.raises(Killed):
        first.fit(X, y)
    kill_after(100)
    first.fit(X, y)
    assert first.n_iter_ == 8
    assert_same(first, copied.set_params(checkpoint_dir=None).fit(X, y), X)


def test_a_finished_fit_is_read_and_not_trained_again(hard_images, tmp_path, kill_after):
    X, y = hard_images
    whole = make_classifier(ema_decay=0.9, checkpoint_dir=tmp_path).fit(X, y)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("PretrainedCNN-")
    assert set(load_file(file)) == set(whole.net_.module_.state_dict())  # only weights
    kill_after(0)
    again = make_classifier(ema_decay=0.9, checkpoint_dir=tmp_path).fit(X, y)
    assert_same(again, whole, X)
    assert vars(again).keys() == vars(whole).keys()
    # The file is kept for weights; a warm start has new epochs, and another file.
    with pytest.raises(Killed):
        again.set_params(warm_start=True).fit(X, y)


def test_a_finished_fit_is_read_from_a_folder_that_nobody_may_write_to(
    hard_images, tmp_path, monkeypatch
):
    X, y = hard_images
    whole = make_classifier(max_epochs=1, checkpoint_dir=tmp_path).fit(X, y)

    def refuse(*args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(_checkpoint, "atomic_file", refuse)
    assert_same(make_classifier(max_epochs=1, checkpoint_dir=tmp_path).fit(X, y), whole, X)


@pytest.mark.slow
def test_folds_and_candidates_share_a_folder_and_a_search_goes_on(
    hard_images, tmp_path, kill_after
):
    X, y = hard_images
    grid = {"lr": [1e-3, 5e-3]}
    whole = GridSearchCV(make_classifier(max_epochs=2), grid, cv=2).fit(X, y)
    clf = make_classifier(max_epochs=2, checkpoint_dir=tmp_path)
    kill_after(16)  # a fold has three steps in an epoch: in the third fit of five
    with pytest.raises(Killed):
        GridSearchCV(clf, grid, cv=2, error_score="raise").fit(X, y)
    left = kill_after(100)
    search = GridSearchCV(clf, grid, cv=2).fit(X, y)
    assert 100 - left[0] == 4 * 2 * 3 + 2 * STEPS - 15
    assert len(list(tmp_path.iterdir())) == 5
    for key in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(search.cv_results_[key], whole.cv_results_[key])
    assert_same(search.best_estimator_, whole.best_estimator_, X)


def darker(x):
    return x - 1.0


@pytest.fixture
def fits(monkeypatch):
    """The names of the fits that begin; they end there."""
    names = []

    def begin(owner, fit):
        names.append(fit)
        raise Killed

    monkeypatch.setattr("skaudio.classifiers._network.Checkpoint", begin)
    return names


CHANGES = {
    "rate": {"lr": 4e-3}, "seed": {"random_state": 1}, "epochs": {"max_epochs": 2},
    "class weights": {"class_weight": {"dog": 2}}, "threads": {"n_threads": 2},
    "augmentation": {"augment": Augmentation(mixup=0.2)}, "function": {"augment": louder},
    "another function": {"augment": darker}, "object": {"augment": Tilt(0.1)},
    "network": {"backbone": TinyCNN}, "precision": {"precision": "bf16"},
    "the same network, perhaps": {"backbone": lambda c, n: DropoutCNN(c, n)},
    "average": {"ema_decay": 0.5}, "standardize": {"standardize": False},
}  # fmt: skip


@pytest.mark.slow
def test_whatever_decides_the_result_makes_another_fit(hard_images, tmp_path, fits):
    clf = make_classifier(augment=Tilt(0.2), checkpoint_dir=tmp_path)
    for change in ({}, *CHANGES.values()):
        with pytest.raises(Killed):
            clone(clf).set_params(**change).fit(*hard_images)
    assert len(set(fits)) == len(CHANGES) + 1


def scaled_by(factor):
    def scaled(x, *, factor=factor):
        return x * factor

    return scaled


def typed_in(factor):
    """A function without a file, as of a notebook's process."""
    names = {"__name__": "__main__"}
    exec(f"class Typed:\n    def __call__(self, x):\n        return x * {factor}", names)
    return names["Typed"]


def inheriting(factor):
    class Above:
        by = factor

        def __call__(self, x):
            return x * self.by

    class Below(Above):
        pass

    return Below()


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor):
        self.factor = factor


def of_a_notebook(code, **names):
    """What code that was typed in calls `augment`."""
    names = {"__name__": "__main__", "np": np, **names}
    exec(code, names)
    return names["augment"]


def of_a_module(name, code):
    """A module of the user with functions that other functions of his name."""
    module = ModuleType(name)
    exec(code, vars(module))
    module.__file__ = f"/home/user/{name}.py"
    return module


NAMING_GLOBALS = {
    "number": lambda n: of_a_notebook("def augment(x): return x * FACTOR", FACTOR=n),
    "inner function": lambda n: of_a_notebook(
        "def augment(x): return [(lambda y: y * FACTOR)(y) for y in x]", FACTOR=n
    ),
    "helper": lambda n: of_a_notebook(
        f"def help(x): return x * {n}\ndef augment(x): return help(x)"
    ),
    "helper's number": lambda n: of_a_notebook(
        "def help(x): return x * FACTOR\ndef augment(x): return help(x)", FACTOR=n
    ),
    "module": lambda n: of_a_notebook(
        "def augment(x): return settings.scale(x)",
        settings=of_a_module("settings", f"FACTOR = {n}\ndef scale(x): return x * FACTOR"),
    ),
    "array": lambda n: of_a_notebook("def augment(x): return x + NOISE", NOISE=np.full(10**5, n)),
    "tensor": lambda n: of_a_notebook(
        "def augment(x): return x + NOISE", NOISE=torch.full((10**4,), n, dtype=torch.bfloat16)
    ),
    "object": lambda n: of_a_notebook("def augment(x): return TILT(x)", TILT=Tilt(n)),
    "method": lambda n: of_a_notebook(
        "class Louder:\n    def __call__(self, x): return x * FACTOR\naugment = Louder()", FACTOR=n
    ),
    "property": lambda n: of_a_notebook(
        "class Louder:\n    @property\n    def by(self): return FACTOR\naugment = Louder()",
        FACTOR=n,
    ),
    "method of a class": lambda n: of_a_notebook(
        "class Louder:\n    @staticmethod\n    def by(x): return x * FACTOR\naugment = Louder.by",
        FACTOR=n,
    ),
}


@pytest.mark.parametrize("make", NAMING_GLOBALS.values(), ids=NAMING_GLOBALS)
def test_what_a_function_names_is_part_of_it(make):
    one, two, other = (_describe(make(n), ()) for n in (1, 1, 2))
    assert one == two
    assert one != other


def test_packages_and_what_changes_by_itself_are_not_looked_into():
    names = {"librosa": librosa, "log": logging.getLogger("test"), "plain": logging.Logger}
    augment = of_a_notebook("def augment(x): log.info(librosa.stft(x)); return plain(x)", **names)
    before = _describe(augment, ())
    logging.getLogger("test.another").addHandler(logging.NullHandler())
    assert _describe(augment, ()) == before
    assert len(before) < 20_000


def test_functions_that_call_each_other_have_an_end():
    code = "def augment(x): return other(x - 1)\ndef other(x): return x and augment(x)"
    assert _describe(of_a_notebook(code), ()) == _describe(of_a_notebook(code), ())


def test_a_constant_of_augment_that_has_changed_makes_another_fit(hard_images, tmp_path, fits):
    augment = of_a_notebook("def augment(waves, rng): return waves * FACTOR", FACTOR=0.5)
    for factor in (0.5, 0.5, 0.25):
        augment.__globals__["FACTOR"] = factor
        with pytest.raises(Killed):
            make_classifier(augment=augment, checkpoint_dir=tmp_path).fit(*hard_images)
    assert fits[0] == fits[1] != fits[2]


@pytest.mark.parametrize(
    "make",
    [
        scaled_by,
        typed_in,
        lambda n: typed_in(n).__call__,
        lambda n: typed_in(n)(),
        inheriting,
        Slotted,
        np.random.RandomState,
        np.random.default_rng,
        lambda n: torch.Generator().manual_seed(n),
    ],
)
def test_objects_that_do_different_things_are_told_apart(make):
    one, two, other = (_describe(partial(louder, make(n)), ()) for n in (1, 1, 2))
    assert one == two
    assert one != other


def test_neither_order_nor_what_is_not_there_yet_matters():
    def recursive(x):
        return unset(x)

    assert _describe({"a": 1, "b": 2}, ()) == _describe({"b": 2, "a": 1}, ())
    assert "recursive" in _describe(recursive, ())
    if False:
        unset = recursive


def test_another_timm_makes_another_fit(hard_images, tmp_path, fits, monkeypatch):
    from importlib.metadata import version

    for number in ("1.0", "2.0"):
        monkeypatch.setattr(
            "skaudio.classifiers.training._fit_digest.version",
            lambda name, number=number: number if name == "timm" else version(name),
        )
        with pytest.raises(Killed):
            make_classifier(checkpoint_dir=tmp_path).fit(*hard_images)
    assert len(set(fits)) == 2


def test_other_data_make_another_fit(hard_images, tmp_path, fits):
    X, y = hard_images
    weight, other_y = np.ones(48), y.copy()
    other_y[0] = "rain"
    changed = [array.copy() for array in (X, weight, X[:4])]
    for array in changed:
        array.flat[0] += 1e-3
    other_X, other_weight, other_val = changed
    for data in (
        (X, y, weight, X[:4]), (other_X, y, weight, X[:4]), (X, other_y, weight, X[:4]),
        (X, y, other_weight, X[:4]), (X, y, weight, other_val), (X[::-1], y[::-1], weight, X[:4]),
        (X[:, None, :, :10].repeat(2, axis=1), y, weight, X[:4, None, :, :10].repeat(2, axis=1)),
    ):  # fmt: skip
        with pytest.raises(Killed):
            make_classifier(checkpoint_dir=tmp_path).fit(*data, y_val=y[:4])
    assert len(set(fits)) == len(fits) == 7


def test_what_does_not_matter_is_the_same_fit(hard_images, tmp_path, kill_after, capsys):
    X, y = hard_images
    settings = {"max_epochs": 1, "augment": louder, "checkpoint_dir": tmp_path / "a"}
    make_classifier(**settings).fit(X, y)
    kill_after(0)
    shutil.move(tmp_path / "a", tmp_path / "b")
    changed = {"verbose": 1, "checkpoint_every": 3, "checkpoint_dir": tmp_path / "b"}
    make_classifier(**settings | changed).fit(X.astype(np.float64), y.tolist())


@pytest.fixture
def interrupted(hard_images, tmp_path, kill_after):
    """A fit that was killed in its third epoch, and the file that it has left."""
    clf = make_classifier(checkpoint_dir=tmp_path)
    kill_after(2 * STEPS + 1)
    with pytest.raises(Killed):
        clf.fit(*hard_images)
    (file,) = tmp_path.iterdir()
    kill_after(100)
    return clf, file


def change_header(file, **changes):
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    save_file(load_file(file), file, {**header, **changes})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file: file.write_bytes(b""), "header"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "buffer|incomplete|Incomplete"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\x7f"), "altered or is damaged"),
        (lambda file: change_header(file, format="2"), "its format is 2, not 1"),
        (lambda file: change_header(file, fit="0" * 32), "belongs to another fit"),
        (lambda file: save_file({}, file), "its format is None"),
        (lambda file: save_file({}, file, {"format": "1"}), "'fit'"),
    ],
    ids=[
        "empty",
        "truncated",
        "altered",
        "another format",
        "another fit",
        "no checkpoint",
        "incomplete",
    ],
)
def test_a_spoiled_checkpoint_is_named_and_training_starts_anew(
    hard_images, interrupted, kill_after, spoil, reason
):
    clf, file = interrupted
    spoil(file)
    left = kill_after(100)
    with pytest.warns(UserWarning, match=rf"starts training over.*{file.name}.*({reason})"):
        clf.fit(*hard_images)
    assert 100 - left[0] == 4 * STEPS
    assert_same(clf, make_classifier().fit(*hard_images), hard_images[0])


def test_no_changed_byte_goes_unnoticed(interrupted):
    clf, file = interrupted
    content, fit = file.read_bytes(), file.stem.partition("-")[2]
    assert _checkpoint.Checkpoint(clf, fit).state is not None
    header = 8 + int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(0)
    places = [*rng.choice(header, 150, replace=False), *rng.choice(len(content), 50)]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        file.write_bytes(changed)
        with pytest.warns(UserWarning, match="cannot be used"):
            assert _checkpoint.Checkpoint(clf, fit).state is None


def test_a_full_disk_says_so_and_leaves_the_earlier_checkpoint(
    hard_images, tmp_path, kill_after, monkeypatch
):
    X, y = hard_images
    clf = make_classifier(max_epochs=1).fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(max_epochs=4, checkpoint_dir=tmp_path)
    written = []

    def full(number):
        written.append(number)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("skaudio._files.os.fsync", full)
        rule = r"checkpoint_dir of PretrainedCNN cannot be written to \(No space left .*free space"
        with pytest.raises(OSError, match=rule) as caught:
            clf.fit(X, y)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert len(list(tmp_path.iterdir())) == 1
    left = kill_after(100)
    assert_same(clf.fit(X, y), make_classifier().fit(X, y), X)
    assert 100 - left[0] == 2 * STEPS + 4 * STEPS  # two epochs, and all of the other fit


def test_a_folder_that_goes_away_is_made_again(hard_images, tmp_path, monkeypatch):
    folder = tmp_path / "deep" / "folder"
    clf = make_classifier(checkpoint_dir=folder)
    save = _checkpoint.Checkpoint.save

    def tidy(self, net, rng):
        shutil.rmtree(folder)
        save(self, net, rng)

    monkeypatch.setattr(_checkpoint.Checkpoint, "save", tidy)
    clf.fit(*hard_images)
    assert len(list(folder.iterdir())) == 1


def test_what_killed_writers_have_left_goes_with_the_next_checkpoint(hard_images, tmp_path):
    orphan, other = tmp_path / f".skaudio-{'0' * 32}.safetensors", tmp_path / "notes"
    for file in (orphan, other):
        file.touch()
    make_classifier(max_epochs=1, checkpoint_dir=tmp_path).fit(*hard_images)
    assert [file.exists() for file in (orphan, other)] == [False, True]


@pytest.mark.parametrize(
    ("parameters", "rule"),
    [
        ({"random_state": None}, "random_state of PretrainedCNN must be an int if .*got None"),
        (
            {"random_state": np.random.RandomState(0)},
            "random_state .* must be an int .*RandomState",
        ),
        ({"callbacks": [Callback()]}, "callbacks of PretrainedCNN must be None if .*state"),
        ({"checkpoint_every": 0}, "checkpoint_every of PretrainedCNN must be an int >= 1, got 0"),
        ({"checkpoint_dir": 3}, "checkpoint_dir of PretrainedCNN must be a str or PathLike, got 3"),
        ({"checkpoint_dir": ""}, "checkpoint_dir of PretrainedCNN must be the path of a folder"),
        ({"checkpoint_dir": __file__}, "checkpoint_dir of PretrainedCNN must be a folder that can"),
    ],
)
def test_wrong_parameters_are_refused_with_the_reason(hard_images, tmp_path, parameters, rule):
    with pytest.raises(ValueError, match=rule):
        make_classifier(**{"checkpoint_dir": tmp_path, **parameters}).fit(*hard_images)


@pytest.mark.parametrize("method", ["diffres", "conv-average"])
@pytest.mark.parametrize("seed", [None, np.random.RandomState(0)])
def test_weights_that_an_earlier_step_draws_without_a_seed_are_refused(
    hard_images, tmp_path, method, seed
):
    X, y = hard_images
    resampler = DiffResResampler(0.5, method=method, random_state=seed)
    rule = r"checkpoint_dir .* must be None if .* without a seed, .*Resampler\(random_state=0"
    with pytest.raises(ValueError, match=rule):
        make_pipeline(resampler, make_classifier(checkpoint_dir=tmp_path)).fit(X, y)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "parameters", [{"random_state": 0}, {"method": "average"}, {"method": "average-max"}]
)
def test_weights_of_an_earlier_step_that_are_always_the_same_are_accepted(
    hard_images, tmp_path, parameters
):
    pipe = make_pipeline(
        DiffResResampler(0.5, **parameters), make_classifier(checkpoint_dir=tmp_path, max_epochs=1)
    )
    for _ in range(2):
        clone(pipe).fit(*hard_images)
    assert len(list(tmp_path.iterdir())) == 1


def test_with_verbose_a_fit_says_what_it_found(hard_images, interrupted, capsys):
    clf, file = interrupted
    clf.fit(*hard_images)
    assert capsys.readouterr().out == ""
    clf.set_params(verbose=1).fit(*hard_images)
    told = f"PretrainedCNN had finished: 4 of 4 epochs are in {file}\n"
    assert capsys.readouterr().out == told


def test_with_verbose_a_fit_that_goes_on_says_so(hard_images, interrupted, capsys):
    clf, file = interrupted
    clf.set_params(verbose=1).fit(*hard_images)
    told = f"PretrainedCNN resumes: 2 of 4 epochs are in {file}\n"
    assert capsys.readouterr().out.startswith(told)


def test_chunks_are_not_kept(hard_images, tmp_path):
    make_classifier(checkpoint_dir=tmp_path).partial_fit(*hard_images, classes=["dog", "rain"])
    assert list(tmp_path.iterdir()) == []


@needs_callbacks
def test_a_fit_that_a_callback_ended_leaves_nothing(hard_images, tmp_path):
    clf = make_classifier(checkpoint_dir=tmp_path).set_callbacks(Recorder(stop_after=2))
    assert clf.fit(*hard_images).n_iter_ == 2
    assert list(tmp_path.iterdir()) == []


@needs_callbacks
def test_callbacks_hear_of_the_epochs_that_are_still_to_come(hard_images, interrupted):
    clf, _ = interrupted
    recorder = Recorder()
    clf.set_callbacks(recorder).fit(*hard_images)
    assert [part.n_iter_ for part, _ in recorder.scores] == [3, 4]


# Imports once, and trains in forks of itself. They end in the middle of an instruction after a
# random time of the processor, which a busy machine does not change, as no handler is set.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np, torch
sys.path.insert(0, sys.argv[2])
from skorch.callbacks import Callback
from fit_tools import describe_things, fits_for_kills
print(describe_things().encode())
torch.set_num_threads(1)
draw, folder = random.Random(0), Path(sys.argv[1])

def result(clf, X):
    weights = clf.net_.module_.state_dict().values()
    return [clf.predict_proba(X), *(t.numpy() for t in weights)]

for clf, X, y in fits_for_kills(folder):
    whole = type(clf)(**{**clf.get_params(deep=False), "checkpoint_dir": None}).fit(X, y)
    start = time.process_time()
    whole.fit(X, y)
    length = time.process_time() - start
    for kills in range(3):
        child = os.fork()
        if child == 0:
            if kills < 2:
                signal.setitimer(signal.ITIMER_PROF, draw.uniform(0.2, 0.9) * length)
            clf.fit(X, y)
            np.savez(folder / "result.npz", *result(clf, X))
            os._exit(0)
        draw.random()
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            assert status == 0
            break
    found = np.load(folder / "result.npz").values()
    same = all(map(np.array_equal, found, result(whole, X)))
    print(kills, same, whole.history_ == clf.fit(X, y).history_)

class Tell(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) > 1:  # by then the first one is kept
            (folder / "epoch").touch()

# Ctrl-C from outside, without a checkpoint.
clf, X, y = next(fits_for_kills(folder))
clf.set_params(checkpoint_dir=None, schedule=None, warmup=0)
child = os.fork()
if child == 0:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        clf.set_params(max_epochs=100_000, callbacks=[Tell()]).fit(X, y)
    except KeyboardInterrupt:
        np.savez(folder / "interrupted.npz", clf.n_iter_, *result(clf, X))
        os._exit(0)
while not (folder / "epoch").exists():
    time.sleep(0.001)
os.kill(child, signal.SIGINT)
assert os.waitpid(child, 0)[1] == 0
n_iter, *found = np.load(folder / "interrupted.npz").values()
stopped = clf.set_params(max_epochs=int(n_iter)).fit(X, y)
print(n_iter, all(map(np.array_equal, found, result(stopped, X))))
"""


@pytest.mark.stress
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_fits_of_killed_processes_go_on_with_the_same_bits(tmp_path):
    command = [sys.executable, "-c", KILLER, str(tmp_path), str(Path(__file__).parents[1])]
    other = {**os.environ, "PYTHONHASHSEED": "1"}  # sets in another order
    run = subprocess.run(command, capture_output=True, text=True, env=other)
    assert run.returncode == 0, run.stderr
    described, *lines = run.stdout.splitlines()
    assert described == repr(describe_things().encode())
    results = [line.split() for line in lines]
    assert [result[1:] for result in results] == [["True", "True"]] * 2 + [["True"]]
    assert min(int(result[0]) for result in results) > 0  # kills, and epochs
