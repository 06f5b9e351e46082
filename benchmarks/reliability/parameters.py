"""Give every public parameter values of all kinds: each is right, or a ValueError that names it.

Run from the repository; it takes some minutes and writes a row of docs/reliability.md:

    python benchmarks/reliability/parameters.py --examples 200

`tests/parameter_trials.py` says what a value must do, `tests/parameter_targets.py` what is called.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from hypothesis.errors import Flaky

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from pages import write_row
from parameter_targets import targets
from parameter_trials import Fault, try_parameter


def main():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, default=200, help="values of every parameter")
    parser.add_argument("--only", default="", help="targets whose names start with this")
    options = parser.parse_args()
    outcomes, faults, count = Counter(), [], 0
    for target in targets().values():
        if not target.name.startswith(options.only):
            continue
        for name in target.parameters:
            count += 1
            try:
                outcomes += try_parameter(target, name, options.examples)
            except (Fault, Flaky) as err:
                faults.append(f"{target.name}({name}=...): {err}")
                print(faults[-1], flush=True)
    print(f"{count} parameters, {dict(outcomes)}, {len(faults)} with faults")
    if not options.only:
        write_row(
            "parameters",
            f"{outcomes.total():,} values of all kinds for {count} parameters of "
            f"{len(targets())} classes, methods and functions",
            f"{outcomes['right']:,} do their work, {outcomes['refused']:,} are a `ValueError` that "
            f"names the parameter; {len(faults)} parameters with another outcome",
            f"python benchmarks/reliability/parameters.py --examples {options.examples}",
        )


if __name__ == "__main__":
    main()
