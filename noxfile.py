"""One session per task: `nox -s lint`, quick, tests, docs, bench, stress; `nox -l` lists them.

Sessions run in the active environment, created by ``pip install -e ".[test,docs]"``, since a new
one takes gigabytes for torch; ``nox -s tests --force-venv-backend venv`` creates one. Arguments
after ``--`` are passed on, as in ``nox -s quick -- tests/nn``.
"""

from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "quick"]

PYTEST = ("python", "-m", "pytest", "-n", "2")


def _need(session, extra):
    """Install the package with an extra if the session has its own environment."""
    if session.virtualenv.is_sandboxed:
        session.install("-e", f".[{extra}]")


@nox.session
def lint(session):
    """Check style, spelling, imports between rooms, and types."""
    _need(session, "test")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")
    session.run("lint-imports")
    session.run("mypy")


@nox.session
def quick(session):
    """Run the quick tests, in about two minutes."""
    _need(session, "test")
    session.run(*PYTEST, "-m", "quick", *session.posargs)


@nox.session
def tests(session):
    """Run all tests except stress tests, as in the README."""
    _need(session, "test")
    session.run(*PYTEST, *session.posargs)


@nox.session
def stress(session):
    """Run the stress tests: kills, damage, races and repetition; benchmarks run them at length."""
    _need(session, "test")
    session.run(*PYTEST, "-m", "stress", *session.posargs)


@nox.session
def docs(session):
    """Build the documentation and run its gallery; warnings are errors."""
    _need(session, "docs")
    session.run("python", "-m", "sphinx", "-W", "-b", "html", "docs", "docs/_build")


@nox.session
def bench(session):
    """Run a benchmark, as in `nox -s bench -- frontend --help`; without a name, list them."""
    files = Path("benchmarks").rglob("*.py")
    scripts = {path.stem: path for path in files if "__main__" in path.read_text(encoding="utf-8")}
    if not session.posargs:
        session.log(f"Choose one of: {', '.join(sorted(scripts))}")
        return
    name, *arguments = session.posargs
    if name not in scripts:
        session.error(f"{name} is not one of: {', '.join(sorted(scripts))}")
    _need(session, "test")
    session.run("python", str(scripts[name]), *arguments)
