"""The smoothed classifier against closed forms."""

import numpy as np
import pytest
import torch
from one_look import certificate
from oracles import HalfSpace, Pixel
from scipy import stats
from smoothed_images import IMAGES, SIGMA

from maxup_smoothing.certify.models.contents import weights_hash
from maxup_smoothing.certify.smoothing import SmoothedClassifier
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.prediction import prediction
from maxup_smoothing.certify.statistics.radius import ABSTAIN, certified_radius


def test_the_radius_of_a_half_space_stays_below_its_margin_and_comes_close(seed: int) -> None:
    """The smoothed half-space is the half-space, so the exact radius is the distance to the plane."""
    g = torch.Generator().manual_seed(seed)
    model = HalfSpace(torch.randn(1, 6, 6, generator=g), 0.1).eval()
    images = torch.randint(256, (40, 1, 6, 6), generator=g, dtype=torch.uint8)
    n, alpha = 4000, 0.001
    smoothed = SmoothedClassifier(model, 2, SIGMA, seed=seed)
    too_large = 0
    for image, proved in zip(images, smoothed.certify(images, n0=400, n=n, alpha=alpha), strict=True):
        margin = model.margin(image / 255)
        too_large += proved.predict != ABSTAIN and (proved.radius > abs(margin) or proved.predict != (margin > 0))
        bound = lower_confidence_bound(proved.n_a, n, alpha) - smoothed.noise.probability_error(36)
        assert proved.radius == pytest.approx(float(certified_radius(bound, SIGMA)), rel=1e-9)
        if 0.2 < abs(margin) < 0.8:  # nearer, selection may take the other class
            # Three standard errors and the bound's own three make at most 0.05 in radius at these probabilities.
            assert proved.radius > abs(margin) - 0.11
    # Each is false with probability at most 0.001; more than 4 of 40 has probability below 1e-9.
    assert too_large <= 4


def test_certify_is_cohens_algorithm() -> None:
    """By hand: the class from the first votes, the bound from the fresh ones, abstention up to one half."""
    selection, estimation = np.array([30, 70, 0]), np.array([10, 985, 5])
    proved = certificate(selection, estimation, 0.001, SIGMA)
    assert (proved.predict, proved.n_a) == (1, 985)
    # scipy.stats.beta.ppf(0.001, 985, 1000 - 985 + 1) = 0.968935..., and sigma * norm.ppf of it
    assert proved.p_a_lower == pytest.approx(stats.beta.ppf(0.001, 985, 16), rel=1e-8)
    assert proved.radius == pytest.approx(SIGMA * stats.norm.ppf(stats.beta.ppf(0.001, 985, 16)), rel=1e-7)
    # The selected class counts, even where the fresh votes prefer another one.
    assert certificate(np.array([70, 30, 0]), estimation, 0.001, SIGMA).predict == ABSTAIN
    # Logits that were not finite cannot be selected, and are samples without a vote for anyone.
    assert certificate(np.array([0, 1, 99]), estimation, 0.001, SIGMA).predict == 1
    invalid = certificate(selection, np.array([0, 400, 600]), 0.001, SIGMA)
    assert (invalid.predict, invalid.radius, invalid.n_a) == (ABSTAIN, 0.0, 400)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([11, 0, 0], 0), ([10, 0, 0], ABSTAIN), ([3, 97, 0], 1), ([50, 50, 0], ABSTAIN), ([3, 0, 97], ABSTAIN)],
)
def test_predict_abstains_unless_the_winner_is_clear(counts: list[int], expected: int) -> None:
    assert prediction(np.array(counts), 0.001) == expected


def test_predict_returns_the_smoothed_class_or_abstains() -> None:
    classes = SmoothedClassifier(Pixel(120 / 255).eval(), 2, SIGMA, seed=0).predict(IMAGES, n=2000)
    # The third image lies on the plane: both classes have probability 1/2, and either answer has chance 0.001 at most.
    assert classes.tolist() == [0, 0, ABSTAIN, ABSTAIN, 1, 1]


def test_float_images_and_8_bit_images_are_the_same_inputs() -> None:
    smoothed = SmoothedClassifier(Pixel().eval(), 2, SIGMA, seed=0)
    ours, theirs = (smoothed.certify(images, n=500) for images in (IMAGES, IMAGES / 255))
    assert [a.counts.tolist() for a in ours] == [b.counts.tolist() for b in theirs]
    [one] = smoothed.certify(IMAGES[0], n=500)
    assert one.counts.tolist() == ours[0].counts.tolist()


def test_a_float_image_between_the_grid_is_moved_and_pays_for_it() -> None:
    """Nine pixels at k / 255 + 0.001 are certified at k / 255, with a radius smaller by their distance, 0.003."""
    smoothed = SmoothedClassifier(Pixel().eval(), 2, SIGMA, seed=0)
    on, off = (smoothed.certify(images, n=500) for images in (IMAGES / 255, (IMAGES / 255 + 0.001).clamp(max=1)))
    for there, here in zip(on[:5], off[:5], strict=True):
        assert here.counts.tolist() == there.counts.tolist()
        if there.radius > 0.003:
            assert here.radius == pytest.approx(there.radius - 0.003, abs=1e-7)
        else:
            assert here.predict == ABSTAIN
    assert off[5].radius == on[5].radius, "the last image was clamped back to where it was"


def test_the_noises_own_error_is_subtracted_from_the_bound() -> None:
    counts = np.array([0, 1000, 0])
    plain, less = (certificate(counts, counts, 0.001, SIGMA, error) for error in (0.0, 1e-3))
    assert less.p_a_lower == pytest.approx(plain.p_a_lower - 1e-3, abs=1e-15)
    assert less.p_a_lower <= plain.p_a_lower - 1e-3
    assert less.radius < plain.radius
    assert certificate(counts, counts, 0.001, SIGMA, 0.9).predict == ABSTAIN


def test_no_images_have_no_certificates() -> None:
    smoothed = SmoothedClassifier(Pixel().eval(), 2, SIGMA)
    assert smoothed.certify(IMAGES[:0], n=100) == []
    assert smoothed.predict(IMAGES[:0], n=100).shape == (0,)


def test_later_changes_to_the_model_do_not_reach_the_certified_one() -> None:
    model = HalfSpace(torch.ones(1, 3, 3), 4.0).eval()
    smoothed = SmoothedClassifier(model, 2, SIGMA, seed=0)
    before = smoothed.certify(IMAGES, n=200)
    digest = smoothed.base.sha256
    with torch.no_grad():
        model.weight.mul_(-1)
    assert [a.counts.tolist() for a in smoothed.certify(IMAGES, n=200)] == [b.counts.tolist() for b in before]
    assert digest != weights_hash(model)
