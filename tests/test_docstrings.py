"""Docstrings are complete, agree with signatures, and their examples run."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest
from api_pages import public_names
from sklearn.base import BaseEstimator

import skaudio

NumpyDocString = pytest.importorskip("numpydoc.docscrape", reason="needs numpydoc").NumpyDocString
validate = pytest.importorskip("numpydoc.validate", reason="needs numpydoc").validate
ROOT = Path(__file__).parents[1]
# What numpydoc asks for and we do not: an extended summary (ES01), See Also (SA01) and an example
# (EX01) everywhere; returned values without a name (RT02). SS05 takes plurals for verbs.
IGNORED = {"ES01", "SA01", "EX01", "RT02", "SS05"}
# Methods and classes in skaudio.nn, and the functions below, say in prose what goes in and out.
PROSE_IGNORED = IGNORED | {"PR01", "PR02", "PR03", "PR04", "RT01", "YD01"}
PROSE = {"init_head", "find_head", "stages", "import_timm", "probe_length", "probe_channels",
         "mel_power", "invert_log_mel"}  # fmt: skip
ESTIMATORS = [
    value
    for value in (getattr(skaudio, name) for name in skaudio.__all__)
    if inspect.isclass(value) and issubclass(value, BaseEstimator)
]


def public_objects():
    """Dotted names of functions, classes, and methods that are ours; and the codes to ignore."""
    for module, names in public_names().items():
        codes = PROSE_IGNORED if module.startswith("skaudio.nn") else IGNORED
        for name in names:
            value = getattr(importlib.import_module(module), name)
            if inspect.isclass(value):
                yield f"{value.__module__}.{value.__qualname__}", codes
                yield from ((method, codes) for method in own_methods(value))
            elif inspect.isroutine(value):
                yield f"{value.__module__}.{name}", PROSE_IGNORED if name in PROSE else IGNORED


def examples():
    """What docstrings of public names show to be typed, and what comes of it."""
    for module, names in public_names().items():
        for name in names:
            value = getattr(importlib.import_module(module), name)
            if inspect.isclass(value) or inspect.isroutine(value):
                yield from doctest.DocTestFinder().find(value, f"{module}.{name}", globs={})


def own_methods(cls):
    """Dotted names of public methods and properties, without those that others define."""
    for name in (name for name in dir(cls) if not name.startswith("_")):
        member = inspect.getattr_static(cls, name)
        function = inspect.unwrap(getattr(member, "fget", None) or getattr(cls, name))
        module = getattr(function, "__module__", None) or ""
        if callable(function) and module.split(".")[0] == "skaudio":
            yield f"{cls.__module__}.{cls.__qualname__}.{name}"


@pytest.mark.parametrize(("name", "ignored"), sorted(dict(public_objects()).items()))
def test_public_docstrings_are_complete(name, ignored):
    assert not [error for error in validate(name)["errors"] if error[0] not in ignored]


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_documented_defaults_are_those_of_the_signature(cls):
    signature = inspect.signature(cls).parameters
    for parameter in NumpyDocString(inspect.getdoc(cls))["Parameters"]:
        stated = re.search(r"default=(.+)$", parameter.type).group(1)
        names = parameter.name.split(", ")
        values = stated.split(", ") if len(names) > 1 and ", " in stated else [stated] * len(names)
        for name, value in zip(names, values, strict=True):
            assert repr(signature[name].default) == value or float(value) == float(
                signature[name].default
            ), name


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_methods_have_docstrings(cls):
    for name in {"fit", "transform", "fit_transform"} & set(dir(cls)):
        assert getattr(cls, name).__doc__


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_estimators_have_an_example(cls):
    assert ">>> " in cls.__doc__


@pytest.mark.parametrize(
    "example", [one for one in examples() if one.examples], ids=lambda example: example.name
)
def test_examples_in_docstrings_run(example):
    assert doctest.DocTestRunner().run(example).failed == 0


def test_public_classes_say_where_users_import_them_from():
    """So do the files that they are pickled to, and tracebacks."""
    for module, names in public_names().items():
        for name in names:
            value = getattr(importlib.import_module(module), name)
            if inspect.isclass(value):
                assert f"{value.__module__}.{value.__qualname__}" == f"{module}.{name}"


def test_the_ci_runs_the_test_command_of_the_readme():
    commands = re.findall(r"```bash\n(.+?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert commands.pop().startswith('python -m pip install ".[plot,table]"\nskaudio ')
    assert commands == [
        "python -m pip install . && python examples/quickstart.py",
        'python -m pip install ".[test]" && python -m pytest -n 2',
        'python -m pip install ".[docs]" && python -m sphinx -W -b html docs docs/_build',
    ]
    run = (ROOT / ".ci" / "run").read_text().replace("\\", "")
    assert all(f"readme_command '{command.split(' -W')[0]}'" in run for command in commands[1:])


def test_classifiers_share_the_training_parameters_and_their_text():
    cnn, mast = skaudio.PretrainedCNN, skaudio.MAST
    ours, theirs = (list(inspect.signature(kind).parameters) for kind in (cnn, mast))
    shared = [name for name in ours[4:] if name in theirs]
    assert len(shared) > 30
    assert ours[-len(shared) :] == theirs[-len(shared) :] == shared
    texts, others = ({one.name: one for one in NumpyDocString(inspect.getdoc(kind))["Parameters"]}
                     for kind in (cnn, mast))  # fmt: skip
    different = {name for name in shared if texts[name].desc != others[name].desc}
    assert different == {"freeze", "weight_decay", "augment"}


def test_documentation_lists_the_parameters_of_a_classifier_before_those_of_training():
    for kind in (skaudio.PretrainedCNN, skaudio.MAST):
        documented = [one.name for one in NumpyDocString(inspect.getdoc(kind))["Parameters"]]
        assert set(documented) == set(inspect.signature(kind).parameters)
        assert documented.index("weights") < documented.index("standardize")
        assert documented[-1] == "verbose"
