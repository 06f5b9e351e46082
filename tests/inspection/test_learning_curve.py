"""LearningCurveDisplay."""

import numpy as np
import pytest
from networks import tiny_cnn
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from skaudio import PretrainedCNN
from skaudio.inspection import LearningCurveDisplay

pytestmark = pytest.mark.usefixtures("plt")


def make_clf(**params):
    settings = {"max_epochs": 3, "batch_size": 8, "random_state": 0}
    return PretrainedCNN(tiny_cnn, weights=None, **settings | params)


def lines(ax):
    """Values of the lines of a panel, without marks."""
    return [line.get_ydata().tolist() for line in ax.lines if line.get_marker() != "o"]


def marks(ax):
    """Epochs that are marked."""
    return [int(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "o"]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_without_validation_only_the_training_loss_is_drawn(images):
    clf = make_clf().fit(*images)
    display = LearningCurveDisplay.from_estimator(clf)
    assert lines(display.ax_) == [[row["train_loss"] for row in clf.history_]]
    assert display.ax_.get_xlabel() == "Epoch"
    assert (legend(display.ax_), marks(display.ax_)) == (["Training"], [])


class Look(Callback):
    """Remembers which epoch early stopping goes back to."""

    def on_train_end(self, net, **kwargs):
        self.best_epoch_ = dict(net.callbacks_)["stopping"].best_epoch_


def test_with_validation_both_losses_and_the_accuracy_are_drawn(images):
    pipe = make_pipeline(make_clf(early_stopping=True)).fit(*images)
    display = LearningCurveDisplay.from_estimator(pipe)
    loss, accuracy = display.ax_
    columns = {name: [row[name] for row in pipe[-1].history_] for name in pipe[-1].history_[0]}
    assert lines(loss) == [columns["train_loss"], columns["valid_loss"]]
    assert lines(accuracy) == [columns["valid_accuracy"]]
    assert legend(loss) == ["Training", "Validation", "weights kept"]
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("Loss", "Accuracy")


@pytest.mark.parametrize("lr", [1e-3, 0.5])
@pytest.mark.parametrize("tol", [1e-4, 0.05])
def test_the_mark_is_where_early_stopping_went_back_to(images, lr, tol):
    clf = make_clf(early_stopping=True, lr=lr, tol=tol, max_epochs=6, n_iter_no_change=3,
                   callbacks=[Look()])  # fmt: skip
    clf.fit(*images)
    loss, accuracy = LearningCurveDisplay.from_estimator(clf).ax_
    assert marks(loss) == marks(accuracy) == [dict(clf.net_.callbacks_)["user_0"].best_epoch_]


def test_the_training_loss_is_marked_where_that_is_what_was_watched(images):
    clf = make_clf(early_stopping=True, validation_fraction=None, callbacks=[Look()]).fit(*images)
    ax = LearningCurveDisplay.from_estimator(clf).ax_
    assert marks(ax) == [dict(clf.net_.callbacks_)["user_0"].best_epoch_]


@pytest.mark.slow
def test_nothing_is_marked_where_nothing_was_gone_back_to(images):
    further = make_clf(early_stopping=True).fit(*images).partial_fit(*images)
    warm = make_clf(early_stopping=True, warm_start=True).fit(*images)
    for clf in (further, warm):
        assert marks(LearningCurveDisplay.from_estimator(clf).ax_[0]) == []


@pytest.mark.slow
def test_folds_are_lines_of_the_same_colours(images):
    clf = make_clf(early_stopping=True)
    folds = cross_validate(make_pipeline(clf), *images, cv=3, return_estimator=True)["estimator"]
    loss, accuracy = LearningCurveDisplay.from_estimator(folds).ax_
    assert len(lines(loss)) == 6
    assert len(lines(accuracy)) == len(marks(accuracy)) == 3
    assert len({line.get_color() for line in accuracy.lines}) == 1


@pytest.mark.slow
def test_of_a_search_the_best_estimator_counts(images):
    search = GridSearchCV(make_clf(), {"lr": [1e-3, 1e-2]}, cv=2).fit(*images)
    drawn = lines(LearningCurveDisplay.from_estimator(search).ax_)
    assert drawn == [[row["train_loss"] for row in search.best_estimator_.history_]]
    unfitted = GridSearchCV(make_clf(), {"lr": [1e-3]}, cv=2, refit=False).fit(*images)
    with pytest.raises(ValueError, match="search with refit=True, got refit=False"):
        LearningCurveDisplay.from_estimator(unfitted)


def test_a_history_is_drawn_into_axes_that_are_given(plt):
    figure, ax = plt.subplots()
    history = [{"epoch": n, "train_loss": 1.0 / n} for n in (1, 2, 3)]
    display = LearningCurveDisplay.from_history(history, best_epoch=2, ax=ax)
    assert (display.ax_, display.figure_) == (ax, figure)
    assert (lines(ax), marks(ax)) == ([[1.0, 1 / 2, 1 / 3]], [2])
    assert all(np.mod(ax.xaxis.get_major_locator().tick_values(1, 3), 1) == 0)


def test_what_cannot_be_drawn_says_why(images):
    call = LearningCurveDisplay.from_estimator
    with pytest.raises(NotFittedError, match="not fitted"):
        call(make_clf())
    flat = images[0].reshape(len(images[0]), -1)
    with pytest.raises(ValueError, match="must have history_, .* got LogisticRegression"):
        call(LogisticRegression().fit(flat, images[1]))
    with pytest.raises(ValueError, match="must contain at least one classifier, got"):
        call([])
    with pytest.raises(ValueError, match="list of dicts with 'epoch' and 'train_loss'"):
        LearningCurveDisplay.from_history([])
    with pytest.raises(ValueError, match="one of the 1 epochs of the history, got 2"):
        LearningCurveDisplay.from_history([{"epoch": 1, "train_loss": 1.0}], best_epoch=2)
