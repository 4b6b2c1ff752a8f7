r"""A test of this installation where the truth is known: how many of its certificates are false.

The classifiers here divide the noisy values of one pixel into intervals. Under the exact grid noise the probability of
an interval is a difference of two entries T_j / 2^63 of the noise's table (`certify.noise.grid`), a rational number. So
whether a certificate is true is decided without any tolerance, and thousands of them, each of another input, give the
rate of false ones. By the theorem it is at most alpha. Peeking at the votes with the whole of alpha each time must be
seen to exceed it. Otherwise this test could not have found an error.
"""

# Shapes: B rows of a batch, K classes, E edges between intervals; C channels, H height, W width.

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import torch
from scipy import special, stats
from torch import Tensor, nn

from maxup_smoothing.certify.engine.scheduler import certify_inputs
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import NoiseSource, exact
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.noise.grid import BITS, NoiseTable, noise_table
from maxup_smoothing.certify.statistics.procedure import Sampling

ALPHA, SIGMA = 0.05, 0.5
#: False alarms, at most, of all comparisons with alpha together, and of each comparison of votes.
RATE_ALARM, VOTES_ALARM = 1e-6, 1e-9
_PIXEL, _POSITION = 100, (0, 1, 0)  # the pixel that decides; the others carry noise that must not matter
_BATCH, _AT_ONCE = 512, 100  # more inputs at once cost more to keep account of than they fill batches


@dataclass(frozen=True)
class Intervals:
    """A classifier of the noise N on one pixel, and its probabilities.

    Attributes:
        name: For the report.
        edges: Where the next interval begins, whole numbers, ascending; interval k is class k.
    """

    name: str
    edges: tuple[int, ...]

    @property
    def classes(self) -> int:
        """K."""
        return len(self.edges) + 1

    @cached_property
    def probabilities(self) -> tuple[Fraction, ...]:
        """Of each class, exact, for ``SIGMA``."""
        table = noise_table(SIGMA)
        below = [Fraction(0), *(probability_at_most(table, edge - 1) for edge in self.edges), Fraction(1)]
        return tuple(after - before for before, after in itertools.pairwise(below))

    def runner_up(self, selected: int) -> Fraction:
        """The largest probability of another class than ``selected``."""
        return max(p for number, p in enumerate(self.probabilities) if number != selected)

    def radius(self, selected: int) -> float:
        """The radius that the exact probabilities prove, 0.0 where ``selected`` is not the most probable class."""
        quantiles = special.ndtri([float(self.probabilities[selected]), float(self.runner_up(selected))])
        return max(0.0, SIGMA / 2 * float(quantiles[0] - quantiles[1]))

    def network(self) -> nn.Module:
        """f."""
        return _Network([_PIXEL + edge for edge in self.edges]).eval()


class _Network(nn.Module):
    def __init__(self, edges: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("edges_E", torch.tensor(edges, dtype=torch.float32))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        channel, row, column = _POSITION
        value_B = (x_BCHW[:, channel, row, column] * 255).round().contiguous()
        edges_E = self.get_buffer("edges_E")
        label_B = torch.searchsorted(edges_E, value_B, right=True)
        return nn.functional.one_hot(label_B, len(edges_E) + 1).to(x_BCHW.dtype)


# Of n = 100 votes for the first one's class 1 the bound is false with probability 0.0498, nearly all of alpha.
THRESHOLD = Intervals("threshold", (-37,))
RIVALS = Intervals("4 rivals", (-32, 39, 90, 156))  # 0.40, 0.22, 0.14, 0.13, 0.11
TIE = Intervals("tied rivals", (-86, 87))  # N and -N have the same law, so the two rivals' probabilities are equal
# Selecting a class by the samples that then estimate it would choose the luckiest of eight.
EQUALS = Intervals("8 equals", (-147, -86, -41, 0, 41, 86, 147))


class Peeking(Sampling):
    """The error that this test must find: the whole of alpha at every look."""

    @cached_property
    def schedule(self) -> tuple[tuple[int, float], ...]:
        """The looks of ``sequential`` without its division of alpha."""
        return tuple((look, self.alpha) for look, _ in super().schedule)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Some trials of one procedure.

    Attributes:
        truth: The classifier.
        trials: How many certificates.
        name: ``fixed``, ``sequential``, ``anytime`` or ``peeking``, which must be found false.
        bound: See ``certify.statistics.certificate.BOUNDS``.
        n0: Selection samples.
        n: Estimation samples, at most.
    """

    truth: Intervals
    trials: int
    name: str
    bound: str = "clopper-pearson"
    n0: int = 20
    n: int = 100

    @property
    def sampling(self) -> Sampling:
        """The procedure, which where it may stop early decides the exact radius, the hardest one there is."""
        procedure = "sequential" if self.name == "peeking" else self.name
        best = max(range(self.truth.classes), key=lambda number: self.truth.probabilities[number])
        return (Peeking if self.name == "peeking" else Sampling)(
            sigma=SIGMA,
            n0=self.n0,
            n=self.n,
            alpha=ALPHA,
            procedure=procedure,
            bound=self.bound,
            radii=None if procedure == "fixed" else (self.truth.radius(best),),
            looks=(10, 15, 22, 33, 50, 75, 110, 160, self.n) if procedure == "sequential" else None,
        )


def plans(quick: bool) -> list[Plan]:
    """What is tried: every procedure with every bound, and the error that must be found."""

    def few(trials: int, when_quick: int) -> int:
        return when_quick if quick else trials

    return [
        Plan(truth=THRESHOLD, name="fixed", trials=few(3000, 800)),
        Plan(truth=EQUALS, name="fixed", trials=few(2000, 500), n0=64, n=64),
        Plan(truth=RIVALS, name="fixed", trials=few(2000, 500), bound="joint"),
        Plan(truth=TIE, name="fixed", trials=few(2000, 500), bound="joint"),
        Plan(truth=THRESHOLD, name="sequential", trials=few(800, 120), n=240),
        Plan(truth=RIVALS, name="sequential", trials=few(800, 120), n=240, bound="joint"),
        Plan(truth=THRESHOLD, name="anytime", trials=few(400, 60), n=160),
        Plan(truth=RIVALS, name="anytime", trials=few(400, 60), n=160, bound="joint"),
        Plan(truth=THRESHOLD, name="peeking", trials=few(1000, 900), n=240),
    ]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a plan.

    Attributes:
        plan: The plan.
        false: Certificates with a bound on the wrong side of the exact probability, or too large a radius.
        samples_lost: Whether any certificate has other numbers of samples than the procedure's.
        votes_p_value: Chi-square of the votes against the exact probabilities; None where stopping depends on them.
        share: Of ``RATE_ALARM`` that this comparison with alpha may spend.
    """

    plan: Plan
    false: int
    samples_lost: bool
    votes_p_value: float | None
    share: float

    @property
    def excessive(self) -> bool:
        """Whether so many are false that a rate of alpha does not explain it: exact, one-sided."""
        test = stats.binomtest(self.false, self.plan.trials, ALPHA, alternative="greater")
        return bool(test.pvalue < RATE_ALARM * self.share)

    @property
    def verdict(self) -> str:
        """``ok`` or ``caught``, or what is wrong."""
        if self.samples_lost:
            return "SAMPLES LOST"
        if self.votes_p_value is not None and self.votes_p_value < VOTES_ALARM:
            return "WRONG VOTES"
        if self.plan.name == "peeking":
            return "caught" if self.excessive else "NOT CAUGHT"
        return "TOO MANY" if self.excessive else "ok"

    @property
    def passed(self) -> bool:
        """Whether it is as it must be."""
        return self.verdict in ("ok", "caught")


def try_out(
    todo: Sequence[Plan],
    noise: NoiseSource,
    report: Callable[[int, int], None] = lambda samples, plans: None,
) -> list[Outcome]:
    """Carry plans out with the engine that certifies data sets.

    Args:
        todo: The plans.
        noise: Of ``SIGMA``.
        report: Called with the numbers of samples drawn and of plans finished since the last call.
    """
    outcomes, first = [], 0
    for plan in todo:
        outcomes.append(_try(plan, noise, first, 1 / len(todo), lambda samples: report(samples, 0)))
        first += plan.trials  # no two trials share noise
        report(0, 1)
    return outcomes


def equal_versions() -> dict[str, bool]:
    """Devices here, and whether the version of the noise for each equals the definition, in NumPy, to the bit."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    equal = dict.fromkeys(devices, True)
    for sigma, start in ((0.12, 0), (0.5, 2**20), (4.0, 2**32 - 32)):
        counter = {"seed": 2**63 + 5, "input_id": 2**31 + 3, "stage": 1, "start": start}
        image_CHW = torch.arange(105, dtype=torch.uint8).view(3, 5, 7)
        expected_BCHW = torch.empty(32, 3, 5, 7)
        exact.fill_rows(expected_BCHW, image_CHW, noise_table(sigma), **counter)
        of_sample = {name: counter[name] for name in ("input_id", "stage", "start")}
        for device in devices:
            found_BCHW = torch.empty(32, 3, 5, 7, device=device)
            ExactNoise(sigma, counter["seed"]).fill(found_BCHW, image_CHW.to(device), **of_sample)
            equal[device] &= torch.equal(found_BCHW.cpu(), expected_BCHW)
    return equal


def probability_at_most(table: NoiseTable, j: int) -> Fraction:
    """P(N <= j), exact."""
    place = j - table.lowest
    if not 0 <= place < len(table.thresholds):
        return Fraction(int(place >= 0))
    return Fraction(int(table.thresholds[place]), 2**BITS)


def _try(plan: Plan, noise: NoiseSource, first: int, share: float, advance: Callable[[int], None]) -> Outcome:
    truth, sampling = plan.truth, plan.sampling
    f = BaseClassifier(truth.network(), truth.classes, batch_size=_BATCH)
    image_CHW = torch.full((1, 2, 2), _PIXEL, dtype=torch.uint8)
    radii = [truth.radius(selected) * (1 + 1e-12) for selected in range(truth.classes)]
    allowed = {look for look, _ in sampling.schedule}
    votes_V = np.zeros(truth.classes + 1, dtype=np.int64)
    false, finished, lost = 0, 0, False
    ids = range(first, first + plan.trials)
    groups = (
        [(number, image_CHW) for number in ids[start : start + _AT_ONCE]] for start in range(0, len(ids), _AT_ONCE)
    )
    everything = (certify_inputs(f, noise, group, sampling, advance) for group in groups)
    for _, proved, _ in itertools.chain.from_iterable(everything):
        false += (
            Fraction(proved.p_a_lower) > truth.probabilities[proved.selected]
            or Fraction(proved.p_b_upper) < truth.runner_up(proved.selected)
            or proved.radius > radii[proved.selected]
        )
        votes_V += proved.counts
        finished += 1
        lost |= proved.n not in allowed or int(proved.counts.sum()) != proved.n or proved.counts[-1] != 0
    p_value = None
    if plan.name == "fixed" and not lost:
        expected = [float(p) * int(votes_V.sum()) for p in truth.probabilities]
        p_value = float(stats.chisquare(votes_V[:-1], expected).pvalue)
    return Outcome(
        plan=plan, false=false, samples_lost=lost or finished != plan.trials, votes_p_value=p_value, share=share
    )
