"""Radii of being among the first k: against closed forms, against the exact equation, and against known classifiers."""

import itertools
from collections.abc import Sequence

import mpmath
import numpy as np
import pytest
from scipy import stats

from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound, upper_confidence_bound
from maxup_smoothing.certify.statistics.certificate import Look, limits
from maxup_smoothing.certify.statistics.norms import radius_in
from maxup_smoothing.certify.statistics.radius import two_class_radius
from maxup_smoothing.certify.statistics.top_k import (
    TopK,
    format_top_k,
    parse_top_k,
    rivals,
    top_k_holds,
    top_k_limits,
    top_k_radius,
)

SIGMA = 0.5


def exact(p: float, q: Sequence[float]) -> mpmath.mpf:
    """The theorem's radius over sigma with 40 digits."""
    with mpmath.workdps(40):

        def quantile(value: float) -> mpmath.mpf:
            return mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(value) - 1)

        best = mpmath.mpf(0)
        for t in range(1, len(q) + 1):
            s = min(sum(map(mpmath.mpf, q[len(q) - t :])), 1 - mpmath.mpf(p))
            a, b = quantile(p), quantile(s)
            if t * mpmath.ncdf(a) <= mpmath.ncdf(b):
                continue
            low, high = mpmath.mpf(0), mpmath.mpf(60)
            for _ in range(120):
                middle = (low + high) / 2
                low, high = (middle, high) if t * mpmath.ncdf(a - middle) > mpmath.ncdf(b + middle) else (low, middle)
            best = max(best, low)
        return best


def test_a_top_k_radius_is_never_above_the_exact_one_and_close_to_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(25):
        k = int(rng.integers(1, 5))
        parts = np.maximum(rng.dirichlet(np.full(k + 2, rng.choice([0.1, 1.0, 5.0]))), 1e-9)
        p, q = float(parts[0] * 0.999), np.minimum(np.sort(parts[1 : k + 1])[::-1] * 1.001, 1.0)
        found, right = float(top_k_radius(p, q, SIGMA)), exact(p, q.tolist()) * SIGMA
        assert found <= right
        assert right - found <= 1e-8 * (1 + right)
        assert found == 0 or top_k_holds(p, q, SIGMA, found)
        assert not top_k_holds(p, q, SIGMA, float(right) * (1 + 1e-5) + 1e-5)


@pytest.mark.parametrize(("n_a", "n_b"), [(990, 10), (600, 300), (400, 350), (1000, 0), (0, 1000), (500, 500)])
def test_the_first_class_alone_is_the_joint_certificate(n_a: int, n_b: int) -> None:
    p, q = limits([Look(1000, n_a, n_b, 0.001)], procedure="fixed", bound="joint")
    p_N, q_NK = top_k_limits([n_a], [[n_b]], [1000], 0.001)
    assert float(top_k_radius(p_N, q_NK, SIGMA)[0]) == pytest.approx(float(two_class_radius(p, q, SIGMA)), rel=1e-12)


def test_each_further_class_costs_alpha_and_gains_radius() -> None:
    counts = {0: 500, 1: 300, 2: 150, 3: 50}
    radii = []
    for k in (1, 2, 3):
        p_N, q_NK = top_k_limits([500], [rivals(counts, 0, k)], [1000], 0.001)
        radii.append(float(top_k_radius(p_N, q_NK, SIGMA)[0]))
    assert radii == sorted(radii)
    assert radii[0] > 0


@pytest.mark.parametrize("n", [1, 2])
def test_so_few_votes_prove_nothing_and_nothing_breaks(n: int) -> None:
    p_N, q_NK = top_k_limits([n, 0], [[0, 0], [n, 0]], [n, n], 0.001)
    assert top_k_radius(p_N, q_NK, SIGMA).tolist() == [0.0, 0.0]
    assert float(top_k_radius(1e-20, [0.5, 0.5], SIGMA)) == 0.0


def test_rivals_are_bounded_together_whatever_the_number_of_classes() -> None:
    # All of the k most probable rivals are below the bounds of the sorted counts, but for alpha; 60 equal rivals are
    # the worst case for a bound that forgets that the largest count was chosen among many.
    rng, alpha, n, k = np.random.default_rng(0), 0.05, 200, 3
    probabilities = np.full(61, 0.7 / 60)
    probabilities[0] = 0.3
    votes_TV = rng.multinomial(n, probabilities, size=4000)
    others_TK = -np.sort(-votes_TV[:, 1:], axis=1)[:, :k]
    p_T, q_TK = top_k_limits(votes_TV[:, 0], others_TK, np.full(len(votes_TV), n), alpha)
    misses = int(((p_T > 0.3) | (q_TK < 0.7 / 60).any(axis=1)).sum())
    assert stats.binomtest(misses, len(votes_TV), alpha, alternative="greater").pvalue > 1e-6
    assert p_T[0] == lower_confidence_bound(votes_TV[0, 0], n, np.nextafter(alpha / 4, 0.0))
    assert q_TK[0, 0] == upper_confidence_bound(others_TK[0, 0], n, np.nextafter(alpha / 4, 0.0))


@pytest.mark.parametrize("cuts", [(-0.6, 0.1, 0.9), (-0.2, 0.0, 0.3), (0.2, 0.5, 1.5)])
@pytest.mark.parametrize("k", [1, 2])
def test_within_the_radius_no_shift_moves_a_class_out_of_the_first_k(cuts: tuple[float, ...], k: int) -> None:
    # f on a line has four classes, one between any two cuts; probabilities under a shift are differences of Phi.
    ends = [-np.inf, *cuts, np.inf]

    def probabilities(at: float) -> np.ndarray:
        return np.diff(stats.norm.cdf((np.array(ends) - at) / SIGMA))

    for at in np.linspace(-1.5, 1.5, 13):
        here = probabilities(at)
        for label in range(4):
            others = np.sort(np.delete(here, label))[::-1][:k]
            radius = float(top_k_radius(here[label] * (1 - 1e-12), np.minimum(others * (1 + 1e-12), 1.0), SIGMA))
            for share, sign in itertools.product(np.linspace(0, 0.9999, 25), (-1, 1)):
                if radius > 0:
                    there = probabilities(at + sign * share * radius)
                    assert (np.delete(there, label) >= there[label]).sum() < k


def test_a_half_space_has_its_distance_as_radius() -> None:
    # Of two classes, with P(label) = Phi(m / sigma), the first one holds up to the plane; bounds here are exact.
    p = float(stats.norm.cdf(0.3 / SIGMA))
    assert float(top_k_radius(p, [1 - p], SIGMA)) == pytest.approx(0.3, rel=1e-9)


@pytest.mark.parametrize("text", ["0:1:0.5", "3:7", "3:7:nan", "3:7:1e999", "3:7:1.2.3", "3:-1:0.5", "a:b:c"])
def test_a_claim_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="k:class:radius"):
        parse_top_k(text)
    assert parse_top_k(format_top_k(TopK(3, 7, 1e-5))) == TopK(3, 7, 1e-5)


@pytest.mark.parametrize("dimension", [1, 2, 3, 784, 3072, 150528])
def test_a_radius_in_linf_is_never_above_the_exact_one_and_next_to_it(dimension: int) -> None:
    radii = np.concatenate([np.random.default_rng(0).uniform(0, 4, 200), [0.0, 5e-324, 1.0, 1e-300]])
    with mpmath.workdps(50):
        for radius, found in zip(radii, radius_in(radii, "linf", dimension), strict=True):
            right = mpmath.mpf(float(radius)) / mpmath.sqrt(dimension)
            assert mpmath.mpf(float(found)) <= right
            assert right < mpmath.mpf(float(np.nextafter(found, np.inf)))
    assert radius_in(radii, "l1").tolist() == radii.tolist()


def test_a_norm_or_dimension_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of l2, l1, linf"):
        radius_in([1.0], "l0")
    with pytest.raises(ValueError, match="number of coordinates"):
        radius_in([1.0], "linf")
