import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from one_look import certificate
from scipy import signal, stats

from maxup_smoothing.certify.statistics import certificate as certificates
from maxup_smoothing.certify.statistics.anytime import lower_confidence_sequence, upper_confidence_sequence
from maxup_smoothing.certify.statistics.binomial import LARGEST_N, lower_confidence_bound, upper_confidence_bound
from maxup_smoothing.certify.statistics.certificate import BOUNDS, PROCEDURES, Look, limits, optimistic
from maxup_smoothing.certify.statistics.radius import ceiling_radius, two_class_radius
from maxup_smoothing.certify.statistics.sequential import schedule

# Shapes: (n + 1, n + 1) laws of the votes for A and for B among n; the third class has the others.
SIZES, ALPHA = (20, 50), 0.1
LEVELS = {"sequential": schedule(50, looks=SIZES).levels(ALPHA), "anytime": (ALPHA, ALPHA)}


def law(n: int, p: tuple[float, float, float]) -> NDArray[np.float64]:
    """Probability of each number of votes for A and for B."""
    a, b = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    votes = np.stack([a, b, n - a - b], axis=-1)
    return np.where(a + b <= n, stats.multinomial.pmf(np.maximum(votes, 0), n, p), 0.0)


@cache
def bounds(procedure: str, n: int, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The joint limits of one look, for every number of votes for A and for B."""
    p_a_lower, p_b_upper = np.zeros((n + 1, n + 1)), np.ones((n + 1, n + 1))
    for a in range(n + 1):
        for b in range(n + 1 - a):
            # A was selected; whichever rival leads is the runner-up, by votes and not by name.
            look = Look(n=n, n_a=a, n_b=max(b, n - a - b), level=level)
            p_a_lower[a, b], p_b_upper[a, b] = limits([look], procedure=procedure, bound="joint")
    return p_a_lower, p_b_upper


def miscoverage(procedure: str, p: tuple[float, float, float], levels: tuple[float, ...]) -> float:
    """P(p_a_lower > p_a or p_b_upper < the larger of the others, at any look), by enumeration."""
    alive, drawn, lost = np.ones((1, 1)), 0, 0.0
    for n, level in zip(SIZES, levels, strict=True):
        alive, drawn = signal.convolve2d(alive, law(n - drawn, p)), n
        p_a_lower, p_b_upper = bounds(procedure, n, level)
        wrong = (p_a_lower > p[0]) | (p_b_upper < max(p[1:]))
        lost += alive[wrong].sum()
        alive = np.where(wrong, 0.0, alive)
    return lost


def probabilities() -> list[tuple[float, float, float]]:
    # Just beyond the bounds of the last look, where the errors have their suprema; and ties between the runners-up.
    k, level = np.arange(51), LEVELS["sequential"][1] / 2
    p_a = np.nextafter(lower_confidence_bound(k[4::3], 50, level), 0)
    p_b = np.nextafter(upper_confidence_bound(k[:40:3], 50, level), 1)
    ties = [(p, (1 - p) / 2, (1 - p) / 2) for p in p_a]
    pairs = [(p, q, max(0.0, 1 - p - q)) for p in p_a for q in p_b if p + q <= 1]
    return [*ties, (1 / 3, 1 / 3, 1 / 3), (0.2, 0.4, 0.4), (0.7, 0.3, 0.0), (0.3, 0.7, 0.0), *pairs]


@pytest.mark.parametrize("procedure", ["sequential", "anytime"])
def test_joint_limits_are_wrong_at_any_look_with_probability_at_most_alpha(procedure: str) -> None:
    errors = [miscoverage(procedure, p, LEVELS[procedure]) for p in probabilities()]
    assert len(errors) > 100
    assert max(errors) <= ALPHA * (1 + 1e-9)
    assert max(errors) > (0.6 if procedure == "sequential" else 0.15) * ALPHA


def test_joint_limits_with_the_whole_level_for_each_class_would_be_wrong_too_often() -> None:
    whole = tuple(2 * level for level in LEVELS["sequential"])  # of which `limits` halves each
    errors = [miscoverage("sequential", p, whole) for p in probabilities()]
    assert max(errors) > 1.1 * ALPHA


def test_one_look_at_half_of_alpha_for_each_class_is_wrong_with_at_most_alpha() -> None:
    k, n = np.arange(151), 150
    for p in [(0.5, 0.3, 0.2), (0.4, 0.3, 0.3), (0.9, 0.05, 0.05)]:
        p_a_lower = lower_confidence_bound(k, n, ALPHA / 2)
        p_b_upper = upper_confidence_bound(k, n, ALPHA / 2)
        votes = law(n, p)
        a, b = np.nonzero(votes)
        leader = np.maximum(b, n - a - b)
        wrong = (p_a_lower[a] > p[0]) | (p_b_upper[leader] < p[1])
        assert votes[a, b][wrong].sum() <= ALPHA
    # A rival chosen for having few votes proves nothing about the runner-up; the largest count is what makes it sound.
    votes = law(n, (0.4, 0.3, 0.3))
    a, b = np.nonzero(votes)
    trails = np.minimum(b, n - a - b)
    assert votes[a, b][upper_confidence_bound(trails, n, ALPHA / 2) < 0.3].sum() > 1.3 * ALPHA / 2


# n = 100 000, sigma = 0.5, alpha = 0.001, at the expected counts: another implementation.
@pytest.mark.parametrize(
    ("p_a", "p_b", "one_class", "two_classes"),
    [
        (0.9, 0.1, 0.6324, 0.6319),
        (0.9, 0.05, 0.6324, 0.7217),
        (0.99, 0.005, 1.1450, 1.2033),
        (0.999, 0.0005, 1.5001, 1.5397),
        (0.6, 0.2, 0.1205, 0.2667),
        (0.45, 0.1, 0.0, 0.2813),
        (0.45, 0.3, 0.0, 0.0930),
        (0.7, 0.1, 0.2558, 0.4436),
    ],
)
def test_radius_with_and_without_the_runners_up_votes(
    p_a: float, p_b: float, one_class: float, two_classes: float
) -> None:
    look = Look(n=100_000, n_a=round(p_a * 100_000), n_b=round(p_b * 100_000), level=0.001)
    for bound, radius in [("clopper-pearson", one_class), ("joint", two_classes)]:
        found = two_class_radius(*limits([look], procedure="fixed", bound=bound), 0.5)
        assert found == pytest.approx(radius, abs=5.1e-5)


@given(st.integers(1, 10**6), st.floats(1e-9, 0.4), st.sampled_from([0.0, 1e-12, 1e-4, 0.3]), st.data())
def test_one_look_without_the_runner_up_is_cohens_certificate(
    n: int, alpha: float, error: float, data: st.DataObject
) -> None:
    n_a = data.draw(st.integers(0, n))
    cohen = certificate(np.array([1, 0, 0]), np.array([n_a, 0, n - n_a]), alpha, 0.5, error)
    p_a_lower, p_b_upper = limits(
        [Look(n=n, n_a=n_a, n_b=n - n_a, level=alpha)],
        procedure="fixed",
        bound="clopper-pearson",
        probability_error=error,
    )
    assert p_a_lower == cohen.p_a_lower
    assert two_class_radius(p_a_lower, p_b_upper, 0.5) == cohen.radius


def draw_looks(data: st.DataObject, level: float) -> list[Look]:
    looks, n, n_a, n_b = list[Look](), 0, 0, 0
    for new in data.draw(st.lists(st.integers(1, 5000), min_size=1, max_size=6)):
        a = data.draw(st.integers(0, new))
        n, n_a, n_b = n + new, n_a + a, n_b + data.draw(st.integers(0, new - a))
        looks.append(Look(n=n, n_a=n_a, n_b=n_b, level=level))
    return looks


@given(st.data(), st.sampled_from(["sequential", "anytime"]), st.sampled_from(BOUNDS))
def test_what_one_look_has_shown_later_looks_keep(data: st.DataObject, procedure: str, bound: str) -> None:
    looks = draw_looks(data, 0.01)
    error = data.draw(st.sampled_from([0.0, 1e-6]))
    seen = [
        limits(looks[: j + 1], procedure=procedure, bound=bound, probability_error=error) for j in range(len(looks))
    ]
    alone = [limits([look], procedure=procedure, bound=bound, probability_error=error) for look in looks]
    for j, (p_a_lower, p_b_upper) in enumerate(seen):
        assert p_a_lower == max(a for a, _ in alone[: j + 1])
        # The least that any look leaves to the others, by their votes or by those of A.
        assert p_b_upper == min(b for _, b in alone[: j + 1])
        assert p_a_lower + p_b_upper <= 1 + 1e-15


@given(st.data(), st.sampled_from(PROCEDURES), st.floats(1e-6, 0.01))
def test_a_difference_of_the_laws_widens_both_bounds(data: st.DataObject, procedure: str, error: float) -> None:
    looks = draw_looks(data, 0.01)[-1:]
    p_a_lower, p_b_upper = limits(looks, procedure=procedure, bound="joint")
    a, b = limits(looks, procedure=procedure, bound="joint", probability_error=error)
    assert a == 0 or a < p_a_lower - error + 1e-15
    assert b == 1 or b > p_b_upper + error - 1e-15
    assert a >= p_a_lower - error - 1e-15
    assert b <= p_b_upper + error + 1e-15


def test_each_procedure_uses_its_own_bound() -> None:
    look = Look(n=1000, n_a=700, n_b=200, level=0.01)
    for procedure in ("fixed", "sequential"):
        assert limits([look], procedure=procedure, bound="joint") == (
            float(lower_confidence_bound(700, 1000, 0.005)),
            float(upper_confidence_bound(200, 1000, 0.005)),
        )
    assert limits([look], procedure="anytime", bound="joint") == (
        float(lower_confidence_sequence(700, 1000, 0.005)),
        float(upper_confidence_sequence(200, 1000, 0.005)),
    )
    # With two classes the votes of A bound the other one better than its own do at half the level.
    two = Look(n=1000, n_a=800, n_b=200, level=0.01)
    p_a_lower, p_b_upper = limits([two], procedure="fixed", bound="joint")
    assert p_a_lower == lower_confidence_bound(800, 1000, 0.005)
    assert p_b_upper == 1 - p_a_lower


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("procedure", PROCEDURES)
def test_without_a_look_nothing_is_known(procedure: str, bound: str) -> None:
    assert limits([], procedure=procedure, bound=bound) == (0.0, 1.0)


@given(st.data(), st.sampled_from(PROCEDURES), st.sampled_from(BOUNDS), st.sampled_from([0.0, 1e-6]))
def test_the_best_still_possible_is_no_worse_than_what_is_shown(
    data: st.DataObject, procedure: str, bound: str, error: float
) -> None:
    look = draw_looks(data, 0.01)[-1]
    p_a_lower, p_b_upper = limits([look], procedure=procedure, bound=bound, probability_error=error)
    p_a_upper, p_b_lower = optimistic(look, procedure=procedure, bound=bound, beta=0.01, probability_error=error)
    assert p_a_lower <= p_a_upper
    assert p_b_lower <= p_b_upper
    # A later bound at an unchanged frequency comes closer, and no further than this one.
    if look.n < LARGEST_N // 1000:
        later = Look(n=1000 * look.n, n_a=1000 * look.n_a, n_b=1000 * look.n_b, level=0.01)
        a, b = limits([later], procedure=procedure, bound=bound, probability_error=error)
        assert a <= p_a_upper
        assert b >= p_b_lower


def test_the_best_still_possible_is_the_bound_at_beta() -> None:
    look = Look(n=1000, n_a=700, n_b=200, level=0.01)
    p_a_upper = float(upper_confidence_bound(700, 1000, 0.05))
    assert optimistic(look, procedure="sequential", bound="clopper-pearson", beta=0.05) == (p_a_upper, 1 - p_a_upper)
    assert optimistic(look, procedure="fixed", bound="joint", beta=0.05) == (
        p_a_upper,
        float(lower_confidence_bound(200, 1000, 0.05)),
    )
    assert optimistic(look, procedure="anytime", bound="joint", beta=0.05) == (
        float(upper_confidence_sequence(700, 1000, 0.05)),
        float(lower_confidence_sequence(200, 1000, 0.05)),
    )
    # Certificates will have the difference of the laws taken off, so what is possible has, too.
    assert optimistic(look, procedure="fixed", bound="joint", beta=0.05, probability_error=0.01)[0] == pytest.approx(
        p_a_upper - 0.01, abs=1e-15
    )


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_unanimous_vote_may_still_reach_any_radius(bound: str) -> None:
    look = Look(n=100, n_a=100, n_b=0, level=0.001)
    possible = two_class_radius(*optimistic(look, procedure="fixed", bound=bound, beta=0.05), 1.0)
    assert ceiling_radius(LARGEST_N, 0.4, 1.0) < possible < math.inf


def test_bounds_of_repeated_counts_are_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def lower(k: int, n: int, level: float) -> NDArray[np.float64]:
        computed.append((k, n, level))
        return lower_confidence_sequence(k, n, level)

    monkeypatch.setattr(
        certificates, "_ANYTIME", (certificates._cached(lower), certificates._cached(upper_confidence_sequence))
    )
    seen = [Look(n=n, n_a=n, n_b=0, level=0.001) for n in schedule(100_000).looks]
    once = limits(seen, procedure="anytime", bound="joint")
    assert limits(seen, procedure="anytime", bound="joint") == once
    assert len(computed) == len(set(computed)) == len(seen)


@pytest.mark.parametrize("votes", [(10, -1, 0), (10, 0, -1), (10, 6, 5)])
def test_more_votes_than_samples_are_refused(votes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be parts of n=10"):
        Look(*votes, level=0.1)


def test_impossible_requests_are_refused() -> None:
    looks = [Look(n=10, n_a=9, n_b=1, level=0.01), Look(n=20, n_a=19, n_b=1, level=0.02)]
    with pytest.raises(ValueError, match="fixed allows one look, got 2"):
        limits(looks, procedure="fixed", bound="joint")
    with pytest.raises(ValueError, match="share one level"):
        limits(looks, procedure="anytime", bound="joint")
    with pytest.raises(ValueError, match="procedure must be one of fixed, sequential, anytime, got 'often'"):
        limits(looks, procedure="often", bound="joint")
    with pytest.raises(ValueError, match="bound must be one of clopper-pearson, joint, got 'goodman'"):
        optimistic(looks[0], procedure="sequential", bound="goodman", beta=0.1)
    for error in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"probability_error must be in \[0, 1\)"):
            limits(looks, procedure="sequential", bound="joint", probability_error=error)
    with pytest.raises(ValueError, match="alpha must be in"):
        limits([Look(n=10, n_a=9, n_b=1, level=0.0)], procedure="sequential", bound="joint")
