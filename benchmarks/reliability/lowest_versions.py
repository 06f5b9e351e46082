"""Run the tests with the lowest versions that pyproject.toml allows, in a new environment.

    python benchmarks/reliability/lowest_versions.py --python python3.10

creates the environment (about 6 GB, half of it torch), installs this package with every dependency
of `[project.dependencies]` and of the chosen extras pinned to its minimum, verifies these versions,
and runs the tests. Indirect dependencies have the newest versions that pip finds, so deprecation
warnings of old releases are not errors here. The script needs Python >= 3.11; the tests run with
`--python`.

    python benchmarks/reliability/lowest_versions.py --environment FOLDER tests/audio/test_load.py

keeps the environment in FOLDER, reuses an existing one, and runs only some tests; the page is
written only after a run of all tests.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import tomllib
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

sys.path.insert(0, str(Path(__file__).parents[1]))
import pages

ROOT = Path(__file__).parents[2]
EXTRAS = "plot,explain,table,dask"
# Packages of the extra `test` that the tests require; tests of others are skipped.
TEST_PACKAGES = ("hypothesis", "imbalanced-learn", "numpydoc", "pytest", "pytest-xdist", "rich",
                 "skops")  # fmt: skip


def main():
    """Install, run the tests and write the row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="Python of the environment")
    parser.add_argument("--environment", type=Path, help="its folder; default: temporary")
    parser.add_argument("--extras", default=EXTRAS, help=f"extras to install; default: {EXTRAS}")
    parser.add_argument("--processes", type=int, default=2, help="processes of pytest; default: 2")
    parser.add_argument("tests", nargs="*", help="test files; default: all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        environment = (options.environment or Path(temporary, "environment")).absolute()
        lowest = lowest_versions(options.extras.split(","))
        python = install(environment, options.python, options.extras, lowest)
        found = check_versions(python, lowest)
        closing, code = run_tests(python, options.processes, options.tests)
    print(closing)
    if not options.tests:
        write_page(found, closing)
    return code


def lowest_versions(extras):
    """Minimum of every dependency by canonical name, the highest where several are declared."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    wanted += [line for line in optional["test"] if Requirement(line).name in TEST_PACKAGES]
    lowest = {}
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        minima = [Version(s.version) for s in requirement.specifier if s.operator == ">="]
        if name in lowest:
            minima.append(lowest[name])
        if minima:
            lowest[name] = max(minima)
    return lowest


def install(environment, python, extras, lowest):
    """Create the environment unless it exists, install everything, return its Python."""
    folder = "Scripts" if os.name == "nt" else "bin"
    inside = environment / folder / "python"
    if not environment.exists():
        subprocess.run([python, "-m", "venv", environment], check=True)
    constraints = environment / "lowest.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in lowest.items()))
    what = [f"{ROOT}[{extras}]", *TEST_PACKAGES]
    subprocess.run([inside, "-m", "pip", "install", "-q", "-c", constraints, *what], check=True)
    subprocess.run([inside, "-m", "pip", "check"], check=True)
    return inside


def check_versions(python, lowest):
    """Versions in the environment; exit if one is not the lowest."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True, text=True
    )
    installed = {canonicalize_name(p["name"]): p["version"] for p in json.loads(listed.stdout)}
    wrong = {
        name: installed.get(name)
        for name, version in lowest.items()
        if installed.get(name) not in SpecifierSet(f"=={version}")  # 2.6.0+cu124 is in ==2.6
    }
    if wrong:
        raise SystemExit(f"Not at the lowest version: {wrong}")
    return {name: installed[name] for name in lowest}


def run_tests(python, processes, tests):
    """Last line and exit code of pytest."""
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(processes)]
    command += ["-m", "", "-W", "default::DeprecationWarning", "-rfE", *tests]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True
    ) as process:
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    closing = next(line for line in reversed(lines) if re.search(r"\d+ (passed|failed)", line))
    return closing.strip("= \n"), process.returncode


def write_page(found, closing):
    """Write the row of the summary."""
    names = ("numpy", "torch", "scikit-learn", "librosa", "timm", "skorch")
    versions = ", ".join(f"{name} {found[name].partition('+')[0]}" for name in names)
    counts = re.sub(r" in .*|, \d+ warnings?", "", closing)
    pages.write_row(
        "lowest versions",
        f"all tests with the minimum versions of {len(found)} dependencies: {versions}, ...",
        counts,
        "lowest_versions.py --python python3.10",
    )


if __name__ == "__main__":
    sys.exit(main())
