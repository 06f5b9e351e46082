"""Check the dependencies of skaudio and the sources of its data sets.

    python -m pip install pip-audit
    python benchmarks/reliability/audit.py

checks the installed versions of all direct and indirect dependencies: known vulnerabilities
(pip-audit [1]_), conflicts (`pip check`), yanked releases (pip), licences (package metadata) and
missing minimum versions (pyproject.toml). Writes the row "dependencies" and a section of
docs/reliability.md.

The exit code is 0 if there are no findings, 1 if there are, and 2 if the database of
vulnerabilities could not be queried, in which case pip-audit itself reports "No known
vulnerabilities found" and exits with 0.

References
----------
.. [1] https://github.com/pypa/pip-audit
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from skaudio.datasets import _fetch

sys.path.insert(0, str(Path(__file__).parents[1]))
import pages

ROOT = Path(__file__).parents[2]
EXTRAS = ("plot", "explain", "table", "dask", "ray", "onnx")
COMMAND = "audit.py"
# Short names of licences, and patterns that match package metadata.
LICENCES = (
    ("LGPL", r"lesser general|LGPL"), ("GPL", r"\bGPL|general public"), ("MPL", r"mozilla|\bMPL"),
    ("Apache", r"apache"), ("BSD", r"\bbsd|BSD-|redistribution and use"), ("ISC", r"\bISC"),
    ("PSF", r"python software|\bPSF|\bPython-2"), ("HPND", "HPND"), ("MIT", r"\bMIT"),
    ("Unlicense", "unlicense|CC0"), ("NVIDIA", "nvidia"), ("MIT", "permission is hereby granted"),
)  # fmt: skip


def main():
    """Check everything, print the findings and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pip-audit", default="pip-audit", help="the pip-audit command")
    options = parser.parse_args()
    direct = read_requirements()
    installed = find_installed(direct)
    vulnerable, unasked = ask_pip_audit(options.pip_audit, installed)
    yanked = find_yanked({name: installed[name] for name in direct if name in installed})
    conflicts = [line for line in check_conflicts() if mentions(line, installed)]
    unbounded = [name for name, requirement in direct.items() if not has_minimum(requirement)]
    findings = {
        "known vulnerabilities": vulnerable, "yanked releases": yanked,
        "conflicts (`pip check`)": conflicts,
        "direct dependencies without a minimum version": unbounded,
    }  # fmt: skip
    for what, found in findings.items():
        print(f"{what}: {', '.join(found) or 'none'}")
    if unasked:
        print(f"Vulnerability database NOT QUERIED for {len(unasked)} of {len(installed)}.")
    write_page(direct, installed, findings, unasked)
    return 1 if any(findings.values()) else 2 if unasked else 0


def read_requirements():
    """Requirements of pyproject.toml by canonical name, including `EXTRAS`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in EXTRAS:
        lines += project["optional-dependencies"][extra]
    found = {}
    for requirement in map(Requirement, lines):
        found.setdefault(canonicalize_name(requirement.name), requirement)
    return found


def has_minimum(requirement):
    """Whether a requirement has a lower bound, and neither a pinned version nor a URL."""
    operators = {specifier.operator for specifier in requirement.specifier}
    return ">=" in operators and not operators & {"==", "==="} and requirement.url is None


def find_installed(direct):
    """Versions of the installed direct and indirect dependencies."""
    waiting, found = list(direct.values()), {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = package.version
        for other in map(Requirement, package.requires or ()):
            extras = requirement.extras or {""}
            if not other.marker or any(other.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(other)
    return dict(sorted(found.items()))


def write_pins(folder, installed):
    """Write a requirements file, without local version labels such as "+cpu"."""
    pins = Path(folder, "pins.txt")
    pins.write_text("".join(f"{n}=={v.partition('+')[0]}\n" for n, v in installed.items()))
    return pins


def ask_pip_audit(command, installed):
    """Known vulnerabilities, and packages for which the database could not be queried."""
    if shutil.which(command) is None:
        raise SystemExit(f"{command} is missing: python -m pip install pip-audit")
    with tempfile.TemporaryDirectory() as folder:
        asked = [command, "-r", write_pins(folder, installed), "--no-deps", "--disable-pip",
                 "--format", "json", "--progress-spinner", "off"]  # fmt: skip
        answer = subprocess.run(asked, capture_output=True, text=True)
    if not answer.stdout.strip():  # it gives up if the host does not respond
        return [], list(installed)
    packages = json.loads(answer.stdout)["dependencies"]
    vulnerable = [
        f"{package['name']} {package['version']}: {bug['id']}"
        for package in packages
        for bug in package.get("vulns", ())
    ]
    return vulnerable, [package["name"] for package in packages if "skip_reason" in package]


def find_yanked(installed):
    """Yanked releases, from the warnings of pip."""
    with tempfile.TemporaryDirectory() as folder:
        asked = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed",
                 "--no-deps", "-r", write_pins(folder, installed)]  # fmt: skip
        answer = subprocess.run(asked, capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(f"pip cannot find the releases: {answer.stderr.strip().splitlines()[-1]}")
    return re.findall(r"yanked version: '(\S+)' candidate \(version (?:\S+)", answer.stderr)


def check_conflicts():
    """Lines of `pip check`."""
    answer = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    return answer.stdout.splitlines() if answer.returncode else []


def mentions(line, installed):
    """Whether a line of `pip check` is about a dependency of skaudio."""
    return canonicalize_name(line.split()[0]) in installed


def licence(name):
    """Short name of a package's licence."""
    metadata = distribution(name).metadata
    classifiers = [c for c in metadata.get_all("Classifier", []) if c.startswith("License")]
    texts = [metadata.get("License-Expression"), *classifiers, metadata.get("License")]
    for text in filter(None, texts):
        found = [(re.search(pattern, text, re.IGNORECASE), short) for short, pattern in LICENCES]
        found = sorted((match.start(), short) for match, short in found if match)
        if found:
            return found[0][1]  # "BSD-3-Clause AND MIT": the first one covers most of the package
    return "unknown"


def write_page(direct, installed, findings, unasked):
    """Write the section and the row of docs/reliability.md."""
    lines = ["| dependency | declared | checked | licence |", "|---|---|---|---|"]
    for name, requirement in sorted(direct.items()):
        version = installed.get(name, "not installed")
        kind = licence(name) if name in installed else ""
        lines.append(f"| {name} | {requirement.specifier} | {version.partition('+')[0]} | {kind} |")
    others = {name: licence(name) for name in installed if name not in direct}
    kinds = {kind: [n for n, k in others.items() if k == kind] for kind in others.values()}
    counts = (f"{kind} {len(names)}" for kind, names in sorted(kinds.items()))
    lines += ["", f"{len(others)} indirect dependencies: {', '.join(counts)}."]
    if "unknown" in kinds:
        lines += [f"No licence in the metadata: {', '.join(kinds['unknown'])}."]
    lines += ["", "| data set | verified by | limit of extracted files |", "|---|---|---|"]
    for source in (_fetch._ESC50, _fetch._FSDD, _fetch._SPEECH_COMMANDS):
        checked = "SHA-256 of the archive" if source.known_hash else "SHA-256 of all recordings"
        lines.append(f"| {source.name} | {checked} | {source.max_bytes >> 20} MiB |")
    pages.write_block("supply", lines, pages.RELIABILITY)
    told = [f"{len(found)} {what}" for what, found in findings.items() if what[:5] != "known"]
    known = f"{len(findings['known vulnerabilities'])} known vulnerabilities"
    if unasked:
        known = f"**vulnerabilities: unknown, the database could not be queried for {len(unasked)} "
        known += f"of {len(installed)}**, {len(findings['known vulnerabilities'])} in the others"
    pages.write_row(
        "dependencies",
        f"{len(direct)} direct and {len(others)} indirect dependencies",
        "; ".join([known, *told]),
        COMMAND,
    )


if __name__ == "__main__":
    sys.exit(main())
