"""Docstrings are complete, agree with signatures, and their examples run."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

import skaudio

ROOT = Path(__file__).parents[1]
MODULES = ["skaudio.audio", "skaudio.dsp", "skaudio.datasets", "skaudio.nn.cnn",
           "skaudio.nn.layers", "skaudio.nn.augment", "skaudio.nn.weights", "skaudio.nn.diffres",
           "skaudio.nn.merging", "skaudio.nn.attention", "skaudio.nn.mvit",
           "skaudio.nn.mvit_weights",
           "skaudio.nn.masked", "skaudio.nn.pcen", "skaudio.nn.cepstrum", "skaudio.nn.derivatives",
           "skaudio.inspection"]  # fmt: skip
# Missing summary, parameters undocumented, unknown, in another order, without type or
# description, and missing returns.
RULES = {"GL08", "SS03", "PR01", "PR02", "PR03", "PR04", "PR07", "RT01", "RT03"}
# These say in prose what goes in and out; their parameters are explained where they come from.
PROSE = {"init_head", "find_head", "stages", "import_timm", "probe_length", "probe_channels",
         "mel_power", "invert_log_mel"}  # fmt: skip
ESTIMATORS = [skaudio.MelSpectrogram, skaudio.DiffResResampler, skaudio.PretrainedCNN,
              skaudio.MAST, skaudio.PCEN, skaudio.MFCC, skaudio.Deltas]  # fmt: skip


def public_objects():
    """Dotted names of everything that users may call."""
    yield from (f"skaudio.{name}" for name in skaudio.__all__)
    for module in map(importlib.import_module, MODULES):
        functions = (name for name in module.__all__ if inspect.isroutine(getattr(module, name)))
        yield from (f"{module.__name__}.{name}" for name in functions)


@pytest.mark.parametrize("name", sorted(set(public_objects())))
def test_public_docstrings_are_complete(name):
    rules = {"GL08", "SS03"} if name.rpartition(".")[2] in PROSE else RULES
    home = importlib.import_module(name.rpartition(".")[0])
    full = getattr(home, name.rpartition(".")[2])
    errors = validate(f"{full.__module__}.{full.__qualname__}")["errors"]
    assert not [error for error in errors if error[0] in rules]


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
    for name in ("fit", "transform", "fit_transform"):
        assert getattr(cls, name).__doc__


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_examples_in_docstrings_run(cls):
    examples = doctest.DocTestFinder(recurse=False).find(cls, globs={})
    results = [doctest.DocTestRunner().run(example) for example in examples]
    assert sum(result.attempted for result in results) > 0
    assert sum(result.failed for result in results) == 0


def test_the_ci_runs_the_test_command_of_the_readme():
    commands = re.findall(r"```bash\n(.+?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert commands == [
        "python -m pip install . && python examples/quickstart.py",
        'python -m pip install ".[test]" && python -m pytest',
    ]
    assert "README.md" in (ROOT / ".ci" / "run").read_text()
