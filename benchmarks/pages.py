"""Tables of docs/benchmarks.md, each between two markers that carry its name."""

import platform
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def write_block(name, lines, page=PAGE):
    """Replace what stands between the markers `name begin` and `name end`."""
    start, end = f"<!-- {name} begin -->", f"<!-- {name} end -->"
    before, rest = page.read_text().split(start)
    page.write_text("\n".join([before + start, *lines, end + rest.split(end)[1]]))


def describe_machine():
    """Versions of what decides the speed, and the kind of processor."""
    names = ("numpy", "scipy", "torch", "librosa", "joblib")
    return ", ".join(f"{name} {version(name)}" for name in names) + f", {platform.machine()}"
