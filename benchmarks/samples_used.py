"""How many samples does a procedure that stops early save, and does it certify the same images?

    python -m benchmarks.samples_used FIXED EARLY …

Radius tables of `certify run` on the same images with the same seed: FIXED with a fixed number of samples, each EARLY
with --procedure sequential or anytime and the radii that its manifest names. Where a radius is decided, the two tables
are compared image by image. Tables of `certify predict` likewise, EARLY with --procedure sequential.
"""

import argparse
from pathlib import Path

import pandas as pd
from scipy import stats

from maxup_smoothing.certify.tables import manifest
from maxup_smoothing.certify.tables.radius_table import read


def compare(fixed: pd.DataFrame, early: pd.DataFrame, radii: list[float]) -> str:
    """A line a radius, and one on the samples."""
    one, other = (table.set_index("idx").sort_index() for table in (fixed, early))
    if not one.index.equals(other.index):
        raise SystemExit("the tables hold different images; certify the same ones.")
    lines = []
    for radius in radii:
        at = [((table["correct"] == 1) & (table["radius"] >= radius)) for table in (one, other)]
        lost, won = (at[0] & ~at[1]).sum(), (at[1] & ~at[0]).sum()
        lines.append(f"  r = {radius:<5g} {at[0].sum():>5} {at[1].sum():>5} of {len(one)}; {lost} lost, {won} won")
    used, base = ((table["n0"] + table["n"]).mean() for table in (other, one))
    median = other["n"].median()
    return "\n".join(
        [*lines, f"  samples an image {used:,.0f} (median n {median:,.0f}), {base / used:.1f} times fewer"]
    )


def compare_predictions(fixed: pd.DataFrame, early: pd.DataFrame) -> str:
    """Answers of both, with the exact McNemar test of those that are right, and the samples."""
    one, other = (table.set_index("idx").sort_index() for table in (fixed, early))
    if not one.index.equals(other.index):
        raise SystemExit("the tables hold different images; predict the same ones.")
    lost, won = (one["correct"] > other["correct"]).sum(), (one["correct"] < other["correct"]).sum()
    p_value = stats.binomtest(int(won), int(lost + won)).pvalue if lost + won else 1.0
    n = other["n"]
    return (
        f"  right {one['correct'].sum()} {other['correct'].sum()} of {len(one)}; {lost} lost, {won} won (McNemar p "
        f"{p_value:.2g}); abstained {(one['predict'] == -1).sum()} {(other['predict'] == -1).sum()}; "
        f"{(one['predict'] != other['predict']).sum()} answers differ\n"
        f"  samples an image {n.mean():,.1f} (median {n.median():,.0f}), {one['n'].mean() / n.mean():.1f} times fewer; "
        f"{(n <= 100).mean():.1%} of the images took at most 100"
    )


def main() -> None:
    """Print a paragraph for each table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", type=Path, metavar="FIXED")
    parser.add_argument("early", type=Path, nargs="+", metavar="EARLY")
    options = parser.parse_args()
    if manifest.read(manifest.manifest_path(options.fixed))["sampling"]["procedure"] == "predict":
        for path in options.early:
            tables = (pd.read_csv(file, sep="\t") for file in (options.fixed, path))
            print(f"{path.name}\n{compare_predictions(*tables)}")
        return
    fixed = read(options.fixed)
    for path in options.early:
        sampling = manifest.read(manifest.manifest_path(path))["sampling"]
        radii = sampling["radii"]
        print(f"{path.name}: {sampling['procedure']}, {sampling['bound']}, radii {', '.join(map(str, radii))}")
        print(compare(fixed, read(path), radii), end="\n\n")


if __name__ == "__main__":
    main()
