"""Estimates a run's samples, device hours, time and cost, on one or many devices, from the votes of similar images."""

# Shapes: I images whose votes are known.

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.statistics.sample_size import samples_after_votes
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.radius_table import read

_MANY = 1000  # number of images above which the mean of their samples is taken as normally distributed
_NEEDED = ("n", "n_a", "sigma", "alpha")


@dataclass(frozen=True)
class Votes:
    """Votes of some images, from which the run of similar images is planned.

    Attributes:
        n_a: Votes for the selected class, also if the result was an abstention; shape (I,).
        n: Samples, shape (I,). A rule that stopped early depended only on these votes, so the likelihood is the same.
        error: Error of the law of the noise, as a probability; see ``certify.statistics.certificate.limits``.
    """

    n_a: NDArray[np.int64]
    n: NDArray[np.int64]
    error: float


@dataclass(frozen=True)
class Pilot:
    """The measurements from which a run is planned.

    Attributes:
        votes: Votes of similar images; None if only the speed is known.
        rate: Samples a second of one device, noise included.
        text: Where votes and rate come from, in words.
    """

    votes: Votes | None
    rate: float
    text: str


@dataclass(frozen=True)
class Finished:
    """A finished radius table, as a source of votes.

    Attributes:
        votes: The votes of its rows.
        sigma: Standard deviation of its noise; its votes say nothing about another sigma.
        alpha: The alpha of its rows.
        n0: Largest number of selection samples of its rows; 100 if the table has no such column.
        text: A description of the table, for users.
    """

    votes: Votes
    sigma: float
    alpha: float
    n0: int
    text: str

    def at(self, sigma: float | None) -> float:
        """The sigma of the votes, after a check that the planned run has the same, unless its ``sigma`` is None.

        Raises:
            ValueError: If the two sigmas differ; with the fix.
        """
        if sigma not in (None, self.sigma):
            raise ValueError(
                f"the votes of --votes-from were drawn at sigma {self.sigma:g}, and the run is to be at {sigma:g}; "
                f"pass a table of that sigma, or --sigma {self.sigma:g}."
            )
        return self.sigma


def read_finished(path: str | os.PathLike[str]) -> Finished:
    """Read the votes of a radius table of any procedure, and its manifest if there is one.

    Raises:
        ValueError: If it is not a radius table, has no rows or no votes, or has rows of several sigma or alpha.
        OSError: If it cannot be read.
    """
    table, beside = read(path), manifests.manifest_path(path)
    if missing := [name for name in _NEEDED if name not in table]:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}, so it does not hold the votes; pass a table of `certify run`."
        )
    if len(table) == 0:
        raise ValueError(f"{path} has no rows, hence no votes; pass a table in which some images are certified.")
    for name in ("sigma", "alpha"):
        if table[name].nunique() > 1:
            raise ValueError(f"{path} has rows of several {name}; pass a table of one {name}.")
    manifest = manifests.read(beside) if beside.exists() else {}
    error = manifests.told(manifest, "noise", "probability_error")
    asked = manifests.told(manifest, "notes", "images")
    n_I = table["n"].to_numpy()
    few, most = int(n_I.min()), int(n_I.max())
    rest = f" ({asked:,} were asked for)" if asked is not None and asked > len(table) else ""
    return Finished(
        votes=Votes(table["n_a"].to_numpy(), n_I, error or 0.0),
        sigma=float(table["sigma"][0]),
        alpha=float(table["alpha"][0]),
        n0=max(1, int(table["n0"].max())) if "n0" in table else 100,
        text=f"{len(table):,} images{rest} of {path}, "
        + (f"{most:,} votes each" if few == most else f"{few:,} to {most:,} votes each"),
    )


def given(rate: float, finished: Finished | None) -> Pilot:
    """A pilot from a speed that was measured elsewhere, with the votes of a table if there is one."""
    text = f"speed: {rate:,.6g} samples/s, as given"
    if finished is None:
        return Pilot(None, rate, text)
    return Pilot(finished.votes, rate, f"votes: {finished.text}\n{text}")


def measured(pilot: Pilot, finished: Finished | None) -> Pilot:
    """The measured pilot; if there is a table, its votes replace those of the pilot."""
    if finished is None:
        return pilot
    return Pilot(finished.votes, pilot.rate, f"votes: {finished.text}; the pilot measured only the speed\n{pilot.text}")


def costs(
    pilot: Pilot, rows: Sequence[tuple[str, Sampling]], images: int, devices: int = 1, price: float | None = None
) -> str:
    """A text table of what each of several procedures takes.

    Args:
        pilot: Votes and speed. Without votes, all ``rows`` must be of procedure ``fixed``.
        rows: Names and procedures, without a tolerance.
        images: Number of images to certify.
        devices: Number of devices that share the images, each as fast as the pilot's. Images are independent, so the
            time is that of the device with the most images.
        price: Price of one device for an hour; None leaves the cost out.
    """
    lines = [pilot.text]
    if pilot.votes is None:
        lines += [
            f"exact for {images:,} images, n0 included; what sequential and anytime take depends on the votes:",
            "pass --votes-from TABLE, a radius table of similar images",
        ]
    else:
        lines += [
            f"estimates from these votes for {images:,} similar images, n0 included; the rough 90 % intervals",
            "cover only the choice of the images with votes; hours, time and cost vary in proportion;",
            "images whose radius is close to one of the radii that are decided take the most samples",
        ]
    if devices > 1:
        lines.append(
            f"time on {devices:,} devices of this speed, which take images one by one, if sharing costs no time"
        )
    lines.append(
        f"{'':<23}{'samples an image':>37}{'device hours':>13}{'time':>13}" + ("" if price is None else _right("cost"))
    )
    for name, sampling in rows:
        mean, text = _samples(sampling, pilot.votes)
        hours = images * mean / pilot.rate / 3600
        time = _time(math.ceil(images / devices) * mean / pilot.rate)
        cost = "" if price is None else _right(_money(hours * price))
        lines.append(f"{name:<23}{text:>37}{_number(hours):>13}{time:>13}{cost}")
    return "\n".join(lines)


def _samples(sampling: Sampling, votes: Votes | None) -> tuple[float, str]:
    """The mean number of samples of an image, as a number and as text with its interval."""
    if sampling.procedure == "fixed":  # the votes make no difference
        return float(sampling.n0 + sampling.most), f"{sampling.n0 + sampling.most:,}"
    assert votes is not None
    samples_I = sampling.n0 + samples_after_votes(sampling, votes.n_a, votes.n, votes.error)
    mean, (low, high) = float(samples_I.mean()), _interval(samples_I)
    return mean, f"{mean:,.0f} [{low:,.0f}, {high:,.0f}]"


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """A 90 % interval of the mean: percentiles over 2000 seeded resamples of the images; rough if there are few.

    Above 1000 images it is the normal approximation.
    """
    if len(values) > _MANY:
        half = 1.645 * float(values.std()) / math.sqrt(len(values))
        return float(values.mean()) - half, float(values.mean()) + half
    means = np.random.default_rng(0).choice(values, size=(2000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.05, 0.95])
    return float(low), float(high)


def _time(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{_number(seconds / length)} {unit}"
    return f"{_number(seconds)} s"


def _number(value: float) -> str:
    """A number with three digits, or with all digits before the point."""
    return f"{value:,.0f}" if 100 <= value < 1e8 else f"{value:.3g}"


def _money(value: float) -> str:
    return f"{value:,.2f}" if value < 1e6 else _number(value)


def _right(text: str) -> str:
    return f"{text:>14}"
