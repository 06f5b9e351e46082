"""Write tables into the pages of docs, each between two markers with its name."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
RELIABILITY = DOCS / "reliability.md"
SUMMARY = Path(__file__).parent / "results" / "reliability.json"
# Rows of the summary at the top of docs/reliability.md, in order.
ROWS = (
    "hostile files", "lengths", "containers of paths", "files in memory", "damaged files",
    "code mutants", "parameters", "kills", "full disks", "concurrent processes", "folders",
    "output", "no file locks", "cache folders", "undecodable names", "resumed fits", "model files",
    "seeds", "threads", "forked processes", "repeated fits", "ten thousand clips", "dependencies",
    "lowest versions",
)  # fmt: skip


def write_block(name, lines, page=PAGE):
    """Replace the text between the markers `name begin` and `name end`."""
    start, end = f"<!-- {name} begin -->", f"<!-- {name} end -->"
    before, rest = page.read_text().split(start)
    page.write_text("\n".join([before + start, *lines, end + rest.split(end)[1]]))


def write_row(name, tried, result, command):
    """Store a row of the summary of docs/reliability.md, and rewrite the summary.

    `name` is one of `ROWS`; `tried` and `result` are cells of the table; `command` is a script of
    benchmarks/reliability with its options.
    """
    rows = json.loads(SUMMARY.read_text()) if SUMMARY.exists() else {}
    rows[name] = [tried, result, f"`{command}`"]
    rows = {name: rows[name] for name in ROWS if name in rows}
    SUMMARY.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    lines = ["| test | tried | result | command |", "|---|---|---|---|"]
    lines += [f"| {' | '.join([name, *cells])} |" for name, cells in rows.items()]
    write_block("summary", lines, RELIABILITY)


def describe_machine():
    """Versions of the packages that determine speed, and the processor architecture."""
    names = ("numpy", "scipy", "torch", "librosa", "joblib")
    return ", ".join(f"{name} {version(name)}" for name in names) + f", {platform.machine()}"
