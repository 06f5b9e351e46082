"""One session per task: `nox -s lint`, quick, tests, docs, bench, stress; `nox -l` lists them.

They run in the environment that is active, made by ``pip install -e ".[test,docs]"``, because
every further one takes gigabytes for torch. ``nox -s tests --force-venv-backend venv`` makes one.
What stands behind ``--`` goes to the command, as in ``nox -s quick -- tests/nn``.
"""

from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "quick"]

PYTEST = ("python", "-m", "pytest", "-n", "2")
FORMATTED = ("skaudio", "tests", "benchmarks", "examples", "noxfile.py")


def _need(session, extra):
    """Install the package with an extra, where the session has an environment of its own."""
    if session.virtualenv.is_sandboxed:
        session.install("-e", f".[{extra}]")


@nox.session
def lint(session):
    """Style, spelling, imports between rooms, types."""
    _need(session, "test")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", *FORMATTED)
    session.run("codespell")
    session.run("lint-imports")
    session.run("mypy")


@nox.session
def quick(session):
    """The quick part of the tests, in some two minutes."""
    _need(session, "test")
    session.run(*PYTEST, "-m", "quick", *session.posargs)


@nox.session
def tests(session):
    """All tests, as the README runs them."""
    _need(session, "test")
    session.run(*PYTEST, *session.posargs)


@nox.session
def stress(session):
    """Tests that kill, damage, race and repeat; benchmarks do so at length."""
    _need(session, "test")
    session.run(*PYTEST, "-m", "stress", *session.posargs)


@nox.session
def docs(session):
    """Build the documentation, examples included; a warning is an error."""
    _need(session, "docs")
    session.run("python", "-m", "sphinx", "-W", "-b", "html", "docs", "docs/_build")


@nox.session
def bench(session):
    """Run a script of benchmarks: `nox -s bench -- frontend --help`; without a name, list them."""
    files = Path("benchmarks").rglob("*.py")
    scripts = {path.stem: path for path in files if "__main__" in path.read_text(encoding="utf-8")}
    if not session.posargs:
        session.log(f"Name one of: {', '.join(sorted(scripts))}")
        return
    name, *arguments = session.posargs
    if name not in scripts:
        session.error(f"{name} is none of: {', '.join(sorted(scripts))}")
    _need(session, "test")
    session.run("python", str(scripts[name]), *arguments)
