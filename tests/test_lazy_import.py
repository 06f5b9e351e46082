"""Public names are imported on first use, with clear errors if this fails."""

import os
import subprocess
import sys

import pytest

USES = {
    "from": "from skaudio import AudioError",
    "attribute": "import skaudio; skaudio.AudioError",
    "hasattr": "import skaudio; print(hasattr(skaudio, 'AudioError'))",
}


@pytest.fixture
def run(tmp_path):
    """Run code with a package soundfile whose import fails."""
    (tmp_path / "soundfile").mkdir()

    def run(code, *options, stub):
        (tmp_path / "soundfile" / "__init__.py").write_text("from soundfile import inner\n")
        (tmp_path / "soundfile" / "inner.py").write_text(stub)
        path = os.pathsep.join([str(tmp_path), *sys.path])
        command = [sys.executable, *options, "-c", code]
        env = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(command, env=env, capture_output=True, text=True)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
def test_an_attribute_error_inside_a_dependency_names_the_dependency(run, use):
    done = run(USES[use], stub="import json\njson.no_such_thing\n")
    assert (done.returncode, done.stdout) == (1, "")
    *_, last = done.stderr.strip().splitlines()
    assert last == (
        "ImportError: skaudio.AudioError cannot be imported: the import of soundfile fails with "
        "AttributeError: module 'json' has no attribute 'no_such_thing'."
    )
    assert "inner.py" in done.stderr  # of the cause


@pytest.mark.slow
def test_without_docstrings_the_option_of_python_is_named(run):
    stub = '"""Read and write sound."""\n__doc__.split()\nraise KeyError("with docstrings")\n'
    done = run(USES["from"], "-OO", stub=stub)
    assert "import of soundfile fails with AttributeError: 'NoneType'" in done.stderr
    assert done.stderr.strip().endswith("python -OO removes docstrings, which some packages "
                                        "need: try -O.")  # fmt: skip
    assert "KeyError: 'with docstrings'" in run(USES["from"], "-O", stub=stub).stderr


def test_names_that_do_not_exist_are_still_no_attributes():
    import skaudio

    assert not hasattr(skaudio, "PretrainedRNN")
    with pytest.raises(AttributeError, match="module 'skaudio' has no attribute 'PretrainedRNN'"):
        skaudio.PretrainedRNN  # noqa: B018
