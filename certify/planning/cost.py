"""What a run takes, on one device or many: samples, device hours, time and cost, from votes of images like its own."""

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

_MANY = 1000  # images from which on the mean of their samples is taken for normal
_NEEDED = ("n", "n_a", "sigma", "alpha")


@dataclass(frozen=True)
class Votes:
    """Votes of some images, by which others like them are planned.

    Attributes:
        n_a: For the class that was selected, also where the result was an abstention; shape (I,).
        n: Samples, shape (I,). Where a rule stopped early it was by these votes, so the likelihood is the same.
        error: Of the law of the noise; see ``certify.statistics.certificate.limits``.
    """

    n_a: NDArray[np.int64]
    n: NDArray[np.int64]
    error: float


@dataclass(frozen=True)
class Pilot:
    """What a run is planned by.

    Attributes:
        votes: None if only the speed is known.
        rate: Samples a second of one device, noise included.
        text: Where both come from, in words.
    """

    votes: Votes | None
    rate: float
    text: str


@dataclass(frozen=True)
class Finished:
    """A radius table, as a source of votes.

    Attributes:
        votes: Of its rows.
        sigma: Of its noise; at another one these votes say nothing.
        alpha: Of its rows.
        n0: Of its rows, 100 where they do not tell.
        text: What it is, in words.
    """

    votes: Votes
    sigma: float
    alpha: float
    n0: int
    text: str

    def at(self, sigma: float | None) -> float:
        """The noise of its votes, which must be that of the run that is planned, if this one is known.

        Raises:
            ValueError: With the fix.
        """
        if sigma not in (None, self.sigma):
            raise ValueError(
                f"the votes of --votes-from were drawn at sigma {self.sigma:g}, and the run is to be at {sigma:g}; "
                f"pass a table of that sigma, or --sigma {self.sigma:g}."
            )
        return self.sigma


def read_finished(path: str | os.PathLike[str]) -> Finished:
    """The votes of a radius table, of any procedure, with its manifest if there is one.

    Raises:
        ValueError: If it is no radius table, has no rows or no votes, or its rows are of several sigma or alpha.
        OSError: If it cannot be read.
    """
    table, beside = read(path), manifests.manifest_path(path)
    if missing := [name for name in _NEEDED if name not in table]:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}: it does not tell the votes; pass a table of `certify run`."
        )
    if len(table) == 0:
        raise ValueError(f"{path} has no rows, hence no votes; pass a table in which some images are certified.")
    for name in ("sigma", "alpha"):
        if table[name].nunique() > 1:
            raise ValueError(f"{path} has rows of several {name}; pass a table of one.")
    manifest = manifests.read(beside) if beside.exists() else {}
    error = manifests.told(manifest, "noise", "probability_error")
    asked = manifests.told(manifest, "notes", "images")
    n_I = table["n"].to_numpy()
    few, most = int(n_I.min()), int(n_I.max())
    rest = f" ({asked:,} were asked for)" if type(asked) is int and asked > len(table) else ""
    return Finished(
        votes=Votes(table["n_a"].to_numpy(), n_I, float(error) if type(error) is float and 0 <= error < 1 else 0.0),
        sigma=float(table["sigma"][0]),
        alpha=float(table["alpha"][0]),
        n0=max(1, int(table["n0"].max())) if "n0" in table else 100,
        text=f"{len(table):,} images{rest} of {path}, "
        + (f"{most:,} votes each" if few == most else f"{few:,} to {most:,} votes each"),
    )


def given(rate: float, finished: Finished | None) -> Pilot:
    """A speed that was measured elsewhere, with the votes of a table if there is one."""
    text = f"speed: {rate:,.6g} samples/s, as given"
    if finished is None:
        return Pilot(None, rate, text)
    return Pilot(finished.votes, rate, f"votes: {finished.text}\n{text}")


def measured(pilot: Pilot, finished: Finished | None) -> Pilot:
    """The speed of a pilot, with the votes of a table if there is one."""
    if finished is None:
        return pilot
    return Pilot(finished.votes, pilot.rate, f"votes: {finished.text}; the pilot told the speed alone\n{pilot.text}")


def costs(
    pilot: Pilot, rows: Sequence[tuple[str, Sampling]], images: int, devices: int = 1, price: float | None = None
) -> str:
    """A table of what each of several ways to certify takes.

    Args:
        pilot: Without votes, ``rows`` must be of procedure ``fixed``.
        rows: Names, and procedures without a tolerance.
        images: How many are to be certified.
        devices: How many share them, each as fast as the pilot's. Images are independent, so the time is that of the
            device which gets most of them.
        price: Of an hour of one device.
    """
    lines = [pilot.text]
    if pilot.votes is None:
        lines += [
            f"exact for {images:,} images, n0 included; what sequential and anytime take depends on the votes:",
            "pass --votes-from TABLE, a radius table of images like those",
        ]
    else:
        lines += [
            f"estimates from these votes for {images:,} images like those, n0 included; the rough 90 %",
            "intervals, in proportion also of hours, time and cost, cover only which images voted; those whose",
            "radius is close to one that is decided take most",
        ]
    if devices > 1:
        lines.append(
            f"time on {devices:,} devices of this speed, which take images one by one and lose no time over it"
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
    """Mean samples of an image, and the same in words with its interval."""
    if sampling.procedure == "fixed":  # the votes make no difference
        return float(sampling.n0 + sampling.most), f"{sampling.n0 + sampling.most:,}"
    assert votes is not None
    samples_I = sampling.n0 + samples_after_votes(sampling, votes.n_a, votes.n, votes.error)
    mean, (low, high) = float(samples_I.mean()), _interval(samples_I)
    return mean, f"{mean:,.0f} [{low:,.0f}, {high:,.0f}]"


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """90 % interval of the mean: percentiles over 2000 seeded resamples of the images, rough where they are few."""
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
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if 100 <= value < 1e8 else f"{value:.3g}"


def _money(value: float) -> str:
    return f"{value:,.2f}" if value < 1e6 else _number(value)


def _right(text: str) -> str:
    return f"{text:>14}"
