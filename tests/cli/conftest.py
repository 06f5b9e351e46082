"""Fixtures of the tests of the command line."""

import csv
import io

import pytest

from skaudio._cli.main import main


@pytest.fixture
def run(capsys):
    """Run a command: exit code, rows of CSV, and what went to standard error."""

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        if "skaudio[" in err:  # an extra that is not installed
            pytest.skip(err)
        return status, list(csv.reader(io.StringIO(out))), err

    return call
