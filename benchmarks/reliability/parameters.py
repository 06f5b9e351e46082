"""Pass values of many types to every public parameter.

    python benchmarks/reliability/parameters.py --examples 200     # some minutes

Each value must be accepted or raise a ValueError that names the parameter.
`tests/parameter_trials.py` defines the outcomes, `tests/parameter_targets.py` lists what is called.
Writes a row of the summary of docs/reliability.md.
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
    parser.add_argument("--examples", type=int, default=200, help="values per parameter")
    parser.add_argument("--only", default="", help="only targets whose names start with this")
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
            f"{outcomes.total():,} values of many types for {count} parameters of "
            f"{len(targets())} classes, methods and functions",
            f"{outcomes['right']:,} accepted, {outcomes['refused']:,} raised a `ValueError` that "
            f"names the parameter; {len(faults)} parameters with another outcome",
            f"parameters.py --examples {options.examples}",
        )


if __name__ == "__main__":
    main()
