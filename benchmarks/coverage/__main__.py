"""How often what is said comes true, on simulated X-rays of which the truth is known: the tables of docs/evaluation.md.

    python -m benchmarks.coverage                          # all of them
    python -m benchmarks.coverage intervals --repeats 500  # one, with fewer samples

The same seed gives the same table.
"""

import argparse
import importlib

import pandas as pd

SUBJECTS = ("intervals", "calibration", "operating_points", "optimism", "seeds")


def main() -> None:
    """Simulate, and print each table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"any of {', '.join(SUBJECTS)} (default: all)")
    parser.add_argument(
        "--repeats", type=int, default=1000, help="simulated samples for each row (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if unknown := sorted(set(given.subjects) - set(SUBJECTS)):
        parser.error(f"found {', '.join(unknown)}, expected any of {', '.join(SUBJECTS)}")
    for subject in given.subjects or SUBJECTS:
        module = importlib.import_module(f"benchmarks.coverage.{subject}")
        table: pd.DataFrame = module.simulate(given.repeats, given.seed)
        print(f"{subject}: {module.__doc__.splitlines()[0]}", table.to_string(), sep="\n", end="\n\n", flush=True)


if __name__ == "__main__":
    main()
