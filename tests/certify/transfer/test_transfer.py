"""Pairs of answers: exact error rates on tiny spaces, and classifiers whose disagreement is known."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from oracles import Pixel
from scipy import special, stats
from torch import Tensor, nn

from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import ESTIMATION, PAIRS
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound, upper_confidence_bound
from maxup_smoothing.certify.statistics.certificate import Look, limits
from maxup_smoothing.certify.statistics.disagreement import Pairs, format_pairs, lost_pairs, parse_pairs
from maxup_smoothing.certify.statistics.radius import ABSTAIN, two_class_radius
from maxup_smoothing.certify.tables.fields import CERTIFIED
from maxup_smoothing.certify.tables.row import Row
from maxup_smoothing.certify.transfer.run import Timing, answers
from maxup_smoothing.certify.transfer.table import Transfer


def bounds_on_the_deployed(n: int, m: int, settings: Transfer) -> NDArray[np.float64]:
    """The lower bound by votes (rows) and lost pairs (columns)."""
    votes = lower_confidence_bound(np.arange(n + 1), n, settings.votes_alpha)
    pairs = [Pairs(m, lost, lost, settings.level) for lost in range(m + 1)]
    return np.array([[pair.carried(float(p), 1.0, "clopper-pearson")[0] for pair in pairs] for p in votes])


@pytest.mark.parametrize("split", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("n", "m"), [(30, 20), (12, 40), (60, 5)])
def test_the_bound_on_the_deployed_class_errs_at_most_alpha(n: int, m: int, split: float) -> None:
    """Every p_A and every zeta <= p_A on a grid, with the least p_A' they allow, p_A - zeta: votes k and lost pairs d
    are independent binomials, and P(bound(k, d) > p_A - zeta) is a finite sum."""
    settings = Transfer(pairs=m, alpha=0.05, split=split)
    bound = bounds_on_the_deployed(n, m, settings)
    worst = 0.0
    for p, share in itertools.product(np.linspace(0.04, 1, 25), np.linspace(0, 1, 21)):
        zeta = p * share
        weight = np.outer(stats.binom.pmf(np.arange(n + 1), n, p), stats.binom.pmf(np.arange(m + 1), m, zeta))
        worst = max(worst, float(weight[bound > p - zeta].sum()))
    assert 0 < worst <= settings.alpha * (1 + 1e-9)


def test_the_share_of_lost_pairs_in_place_of_its_bound_errs_more_often() -> None:
    """What the test above is able to see."""
    n, m, alpha = 30, 20, 0.05
    bound = lower_confidence_bound(np.arange(n + 1), n, alpha)[:, None] - np.arange(m + 1) / m
    p, zeta = 0.9, 0.05
    weight = np.outer(stats.binom.pmf(np.arange(n + 1), n, p), stats.binom.pmf(np.arange(m + 1), m, zeta))
    assert weight[bound > p - zeta].sum() > 1.5 * alpha


def test_votes_and_pairs_that_share_their_noise_err_at_most_alpha() -> None:
    """The union bound asks for no independence: each sample is a vote and a pair, both A, f alone, or neither."""
    n = 14
    settings = Transfer(pairs=n, alpha=0.1, split=0.5)
    bound = bounds_on_the_deployed(n, n, settings)
    both, alone = np.array([(a, b) for a in range(n + 1) for b in range(n + 1 - a)]).T
    for p_both, share in itertools.product(np.linspace(0, 1, 41), np.linspace(0, 1, 21)):
        p_alone = (1 - p_both) * share
        law = stats.multinomial(n, [p_both, p_alone, max(0.0, 1 - p_both - p_alone)])
        weight = law.pmf(np.stack([both, alone, n - both - alone], axis=1))
        assert weight[bound[both + alone, alone] > p_both].sum() <= settings.alpha * (1 + 1e-9)


def joint_laws() -> Sequence[NDArray[np.float64]]:
    """P(f, f') of three classes: random ones, and f' that gives the others' mass to one of them."""
    generator = np.random.default_rng(0)
    near = [0.9 * np.diag(generator.dirichlet([3, 1, 1])) for _ in range(40)]
    laws = [law + 0.1 * generator.dirichlet([0.3] * 9).reshape(3, 3) for law in near]
    return [
        *laws,
        np.array([[0.5, 0, 0], [0, 0.25, 0], [0, 0.25, 0]]),
        np.array([[0.4, 0, 0], [0, 0.3, 0], [0, 0.3, 0]]),
    ]


def test_both_bounds_of_joint_err_at_most_alpha_together() -> None:
    """Votes (n_a, n_b, n_c) are multinomial, lost pairs binomial with P(f' != f and f' != A)."""
    n, m = 14, 14
    settings = Transfer(pairs=m, alpha=0.2, split=0.5)
    votes = np.array([(a, b, n - a - b) for a in range(n + 1) for b in range(n + 1 - a)])
    looks = [Look(n, int(a), int(max(b, c)), settings.votes_alpha) for a, b, c in votes]
    known = [limits([look], procedure="fixed", bound="joint") for look in looks]
    pairs = [Pairs(m, lost, lost, settings.level) for lost in range(m + 1)]
    found = np.array([[pair.carried(*bounds, "joint") for pair in pairs] for bounds in known])
    worst = 0.0
    for law in joint_laws():
        lost = law.sum() - np.trace(law) - (law[1, 0] + law[2, 0])
        p_a, p_b = law.sum(axis=0)[0], law.sum(axis=0)[1:].max()
        wrong = (found[..., 0] > p_a * (1 + 1e-12)) | (found[..., 1] < p_b * (1 - 1e-12))
        weight = np.outer(stats.multinomial(n, law.sum(axis=1)).pmf(votes), stats.binom.pmf(np.arange(m + 1), m, lost))
        worst = max(worst, float(weight[wrong].sum()))
    assert 0 < worst <= settings.alpha * (1 + 1e-9)


def test_lost_are_the_pairs_that_a_bound_needs(seed: int) -> None:
    """By their definition, one pair at a time; 4 stands for logits that are not finite."""
    generator = np.random.default_rng(seed)
    f_M, g_M = generator.integers(0, 5, (2, 400))
    differing = lost = joint = 0
    for f, g in zip(f_M.tolist(), g_M.tolist(), strict=True):
        differing += f != g
        lost += f == 2 and g != 2
        joint += (f == 2 and g != 2) or any(g == other != f for other in (0, 1, 3, 4))
    assert lost_pairs(f_M, g_M, 2, "clopper-pearson") == (differing, lost)
    assert lost_pairs(f_M, g_M, 2, "joint") == (differing, joint)
    assert lost_pairs(f_M, f_M, 2, "joint") == (0, 0)


def test_zeta_is_bounded_as_the_theory_says() -> None:
    """No lost pair of m: zeta <= 1 - level^(1/m); 7.6e-4 for 10,000 at 0.0005."""
    assert math.isclose(Pairs(10_000, 3, 0, 5e-4).zeta_upper, 1 - 5e-4 ** (1 / 10_000), rel_tol=1e-9)
    assert round(Pairs(10_000, 0, 0, 5e-4).zeta_upper, 5) == 7.6e-4
    assert Pairs(50, 9, 7, 0.01).zeta_upper == upper_confidence_bound(7, 50, 0.01)
    assert Pairs(0, 0, 0, 0.01).zeta_upper == 1.0


def certified(n_a: int, n: int = 1000, bound: str = "clopper-pearson", label: int = 1) -> Row:
    look = Look(n, n_a, n - n_a, 0.001)
    p_a_lower, p_b_upper = limits([look], procedure="fixed", bound=bound)
    radius = float(two_class_radius(p_a_lower, p_b_upper, 0.5))
    return Row(
        idx=3, label=label, predict=1, radius=radius, correct=label == 1, seconds=1.0, n0=10, n=n, n_a=n_a,
        p_a_lower=p_a_lower, sigma=0.5, alpha=0.001, status=CERTIFIED, counts={0: n - n_a, 1: n_a}, selected=1,
        p_b_upper=p_b_upper, procedure="fixed", bound=bound, looks=(look,),
    )  # fmt: skip


@pytest.mark.parametrize("bound", ["clopper-pearson", "joint"])
def test_a_radius_only_shrinks_and_more_with_each_lost_pair(bound: str) -> None:
    settings = Transfer(pairs=2000, alpha=0.001, split=0.5)
    row = certified(950, bound=bound)
    radii = [settings.carry(row, differing=lost, lost=lost).radius for lost in range(0, 400, 20)]
    assert 0 < radii[0] < row.radius
    assert all(later < earlier for earlier, later in itertools.pairwise(radii))
    nothing = settings.carry(row, differing=2000, lost=2000)
    assert (nothing.predict, nothing.radius, nothing.correct) == (ABSTAIN, 0.0, False)
    assert not settings.can_certify(certified(552)), "the votes alone leave nothing"
    assert settings.carry(certified(552), differing=0, lost=0, pairs=0).predict == ABSTAIN


def test_the_noise_is_taken_off_once() -> None:
    """A total variation of 0.01 lowers p_A by 0.01, as in certification, and zeta is not enlarged by it."""
    error = 0.01
    look = Look(1000, 950, 50, 0.001)
    p_a_lower, p_b_upper = limits([look], procedure="fixed", bound="clopper-pearson", probability_error=error)
    radius = float(two_class_radius(p_a_lower, p_b_upper, 0.5))
    row = Row(**{**vars(certified(950)), "p_a_lower": p_a_lower, "p_b_upper": p_b_upper, "radius": radius})
    settings = Transfer(pairs=500, alpha=0.001, split=0.5, probability_error=error)
    new = settings.carry(row, differing=2, lost=1)
    votes = lower_confidence_bound(950, 1000, 0.0005)
    assert math.isclose(new.p_a_lower, votes - error - upper_confidence_bound(1, 500, 0.0005), rel_tol=1e-9)


def test_a_radius_that_is_of_another_input_is_refused() -> None:
    moved = Row(**{**vars(certified(950)), "radius": certified(950).radius / 2})
    with pytest.raises(ValueError, match="another input than the data set's"):
        Transfer(pairs=500, alpha=0.001, split=0.5).voted(moved)


@pytest.mark.parametrize(
    "settings", [{"pairs": 0}, {"split": 0.0}, {"split": 1.0}, {"split": math.nan}, {"alpha": 1.5}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"--pairs|--alpha-share|alpha"):
        Transfer(**{"pairs": 10, "alpha": 0.01, "split": 0.5, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("split", [0.5, 0.1, 0.3, 1 / 3, 0.999])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 1e-12])
def test_votes_and_pairs_spend_no_more_than_alpha(alpha: float, split: float) -> None:
    settings = Transfer(pairs=10, alpha=alpha, split=split)
    spent = Fraction(settings.votes_alpha) + Fraction(settings.level)
    assert Fraction(alpha) * (1 - Fraction(1, 10**9)) < spent <= Fraction(alpha)


def test_pairs_are_read_back_as_written_and_nothing_else_is_read() -> None:
    pairs = Pairs(10_000, 4, 1, 0.0004999999999999999)
    assert parse_pairs(format_pairs(pairs)) == pairs
    for text in (
        "",
        "1:2:3",
        "10:1:2:0.1",
        "10:11:1:0.1",
        "10:1:1:2",
        "10:1:1:nan",
        "-1:0:0:0.1",
        "9:1:1:0.1:1",
        "1e3:0:0:.1",
    ):
        with pytest.raises(ValueError, match="pairs:differing:lost:level"):
            parse_pairs(text)


class Mean(nn.Module):
    """Three classes by the mean of the image; no arithmetic mixes rows."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mean_B = x_BCHW.double().flatten(1).mean(dim=1) + self.shift
        return torch.stack([-((mean_B - centre) ** 2) for centre in (0.3, 0.5, 0.7)], dim=1)


@pytest.mark.parametrize(("first", "second"), [(7, 3), (8, 1), (4, 64), (5, 5)])
def test_both_classifiers_answer_the_very_same_copies(first: int, second: int) -> None:
    """Their answers are those to the noise by its definition, whatever the batch sizes, and 50 pairs are 50."""
    f, g = (BaseClassifier(Mean(shift).eval(), 3, batch_size=size) for shift, size in ((0.0, first), (0.05, second)))
    noise, image_CHW = ExactNoise(0.5, 5), torch.full((1, 4, 4), 128, dtype=torch.uint8)
    copies_NCHW = torch.empty(50, 1, 4, 4)
    noise.fill(copies_NCHW, image_CHW, input_id=9, stage=PAIRS, start=0)
    drawn: list[int] = []
    timing = Timing()
    found = answers(f, g, noise, image_CHW, 9, 50, timing, drawn.append)
    for found_M, shift in zip(found, (0.0, 0.05), strict=True):
        np.testing.assert_array_equal(found_M, Mean(shift)(copies_NCHW).argmax(dim=1).numpy())
    assert sum(drawn) == timing.samples == 50
    assert (found[0] != found[1]).any()


def test_pairs_are_drawn_from_noise_that_no_vote_has_seen() -> None:
    noise, image_CHW = ExactNoise(0.5, 5), torch.full((1, 4, 4), 128, dtype=torch.uint8)
    of_votes, of_pairs = torch.empty(2, 8, 1, 4, 4)
    for copies, stage in ((of_votes, ESTIMATION), (of_pairs, PAIRS)):
        noise.fill(copies, image_CHW, input_id=0, stage=stage, start=0)
    assert (of_votes != of_pairs).flatten(1).any(dim=1).all()


def test_a_half_space_that_moved_keeps_no_more_than_its_own_margin(seed: int) -> None:
    """f answers 1 where the first pixel exceeds 0.5, f' where it exceeds 0.55. They differ between, so that
    zeta = Phi((x - 0.5) / sigma) - Phi((x - 0.55) / sigma), and the true radius of f' is x - 0.55. A transferred radius
    above that comes with probability at most alpha = 1e-8 for each of 4 images; the counts are tested at 1e-7."""
    sigma, m = 0.25, 4000
    noise = ExactNoise(sigma, seed)
    f, g = (BaseClassifier(Pixel(threshold).eval(), 2, batch_size=500) for threshold in (0.5, 0.55))
    settings = Transfer(pairs=m, alpha=1e-8, split=0.5)
    for idx, pixel in enumerate((160, 180, 200, 230)):
        image_CHW = torch.full((1, 1, 1), pixel, dtype=torch.uint8)
        f_M, g_M = answers(f, g, noise, image_CHW, idx, m, Timing())
        differing, lost = lost_pairs(f_M, g_M, 1, "clopper-pearson")
        x = pixel / 255
        # Thresholds lie between grid values, which rounds them by up to half a step.
        zeta = [
            special.ndtr((x - 0.5 + h) / sigma) - special.ndtr((x - 0.55 - h) / sigma) for h in (-0.5 / 255, 0.5 / 255)
        ]
        assert differing == lost
        assert stats.binom.cdf(lost, m, zeta[0]) > 1e-7
        assert stats.binom.sf(lost - 1, m, zeta[1]) > 1e-7
        copies = torch.empty(100_000, 1, 1, 1)
        noise.fill(copies, image_CHW, input_id=idx, stage=ESTIMATION, start=0)
        n_a = int((copies > 0.5).sum())
        row = Row(**{**vars(certified(950)), **_votes(n_a, len(copies), sigma)})
        new = settings.carry(row, differing=differing, lost=lost)
        assert new.radius <= x - 0.55
        assert new.radius > 0.5 * (x - 0.55) - 0.02
        assert row.radius > x - 0.55, "without the transfer the claim would be false"


def _votes(n_a: int, n: int, sigma: float) -> dict[str, object]:
    look = Look(n, n_a, n - n_a, 1e-8)
    p_a_lower, p_b_upper = limits([look], procedure="fixed", bound="clopper-pearson")
    radius = float(two_class_radius(p_a_lower, p_b_upper, sigma))
    return {
        "n": n, "n_a": n_a, "sigma": sigma, "alpha": 1e-8, "looks": (look,), "counts": {0: n - n_a, 1: n_a},
        "p_a_lower": p_a_lower, "p_b_upper": p_b_upper, "radius": radius,
    }  # fmt: skip
