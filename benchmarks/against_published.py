"""Certified accuracies of a subset, as they would be on the whole set if it is as hard as another method's log says.

    python -m benchmarks.against_published radii.tsv PUBLISHED_LOG

PUBLISHED_LOG is a log of another method on all images of the same test set. Our indicator at a radius is regressed on
its radii, image by image, and the regression is evaluated at its mean over the whole set (a control variate).
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.tables.radius_table import read

RADII = (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75)


def adjusted(values: NDArray[np.float64], control: NDArray[np.float64], whole_mean: float) -> tuple[float, float]:
    """The mean of ``values`` (N,) at the control's whole mean, and the half-width of its 95 % interval."""
    slope = np.cov(values, control)[0, 1] / control.var(ddof=1)
    residual = values - slope * control
    mean = values.mean() - slope * (control.mean() - whole_mean)
    return float(mean), float(1.96 * residual.std(ddof=2) / np.sqrt(len(values)))


def main() -> None:
    """Print a line a radius, and the ACR."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("log")
    options = parser.parse_args()
    ours, log = read(options.table), read(options.log).set_index("idx")
    whole = (log["radius"] * log["correct"]).to_numpy(np.float64)
    control = (log["radius"] * log["correct"]).loc[ours["idx"]].to_numpy(np.float64)
    print(f"{len(ours)} images; ACR of the log {control.mean():.3f} on them, {whole.mean():.3f} on all {len(whole)}")
    correct, radius = ours["correct"].to_numpy(np.float64), ours["radius"].to_numpy(np.float64)
    columns = {f"r = {r:.2f}": correct * (radius >= r) for r in RADII} | {"ACR": correct * radius}
    for name, values in columns.items():
        mean, half = adjusted(values, control, float(whole.mean()))
        print(f"{name:9} raw {values.mean():.4f}   adjusted {mean:.3f} ± {half:.3f}")


if __name__ == "__main__":
    main()
