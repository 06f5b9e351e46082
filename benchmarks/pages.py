"""Tables of the pages in docs, each between two markers that carry its name."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
RELIABILITY = DOCS / "reliability.md"
SUMMARY = Path(__file__).parent / "results" / "reliability.json"
# The rows of the table at the top of the page on reliability, in their order.
ROWS = (
    "hostile files", "lengths", "containers of paths", "files in memory", "mutants",
    "code mutants", "parameters", "kills", "full disk", "two processes", "folders", "output",
    "no locks", "folders of caches", "names that are no text", "resumed fits", "model files",
    "seeds", "threads", "forked children", "fits in a row", "ten thousand clips", "dependencies",
    "lowest versions",
)  # fmt: skip


def write_block(name, lines, page=PAGE):
    """Replace what stands between the markers `name begin` and `name end`."""
    start, end = f"<!-- {name} begin -->", f"<!-- {name} end -->"
    before, rest = page.read_text().split(start)
    page.write_text("\n".join([before + start, *lines, end + rest.split(end)[1]]))


def write_row(name, tried, result, command):
    """Keep a row of the table at the top of the page on reliability, and write the table anew.

    `name` is one of `ROWS`; `tried` says what and how many, `result` what came of it.
    """
    rows = json.loads(SUMMARY.read_text()) if SUMMARY.exists() else {}
    rows[name] = [tried, result, f"`{command}`"]
    rows = {name: rows[name] for name in ROWS if name in rows}
    SUMMARY.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    lines = ["| what | tried | result | command |", "|---|---|---|---|"]
    lines += [f"| {' | '.join([name, *cells])} |" for name, cells in rows.items()]
    write_block("summary", lines, RELIABILITY)


def describe_machine():
    """Versions of what decides the speed, and the kind of processor."""
    names = ("numpy", "scipy", "torch", "librosa", "joblib")
    return ", ".join(f"{name} {version(name)}" for name in names) + f", {platform.machine()}"
