"""The smoothed classifier against closed forms, and the engine that counts for it."""

# Shapes: N inputs, S samples; C channels, H height, W width.

from collections.abc import Callable

import numpy as np
import pytest
import torch
from oracles import HalfSpace, Pixel, Sometimes
from scipy import stats
from torch import Tensor, nn

from certify.binomial import lower_confidence_bound
from certify.classifier import BaseClassifier, weights_hash
from certify.engine import Item, count_votes
from certify.noise import ESTIMATION, SELECTION, NoiseSource
from certify.noise.exact import ExactNoise
from certify.noise.floating import BLOCK, FloatNoise
from certify.procedures import certificate, prediction
from certify.radius import ABSTAIN, certified_radius
from certify.smoothing import SmoothedClassifier

Source = Callable[[float, int], NoiseSource]
SIGMA = 0.5
IMAGES = torch.tensor([0, 60, 120, 130, 200, 255], dtype=torch.uint8)[:, None, None, None].expand(6, 1, 3, 3)


@pytest.fixture(params=[ExactNoise, FloatNoise])
def source(request: pytest.FixtureRequest) -> Source:
    kind: Source = request.param
    return kind


def votes(source: Source, batch_size: int, items: list[Item], seed: int = 0) -> np.ndarray:
    classifier = BaseClassifier(Pixel().eval(), 2, batch_size=batch_size)
    return count_votes(classifier, source(SIGMA, seed), items)


def items(samples: int = 300, stage: int = ESTIMATION) -> list[Item]:
    return [Item(image, number, stage, 0, samples) for number, image in enumerate(IMAGES)]


@pytest.mark.parametrize("batch_size", [1, 7, 64, 256, 5000])
def test_votes_do_not_depend_on_the_batch_size(source: Source, batch_size: int) -> None:
    assert votes(source, batch_size, items()).tolist() == votes(source, 100, items()).tolist()


def test_votes_do_not_depend_on_order_company_or_interruption(source: Source) -> None:
    together = votes(source, 64, items())
    assert votes(source, 64, items()[::-1])[::-1].tolist() == together.tolist()
    assert votes(source, 64, items()[2:3]).tolist() == together[2:3].tolist()
    pieces = [Item(IMAGES[2], 2, ESTIMATION, a, b) for a, b in ((0, 100), (100, 101), (101, 300))]
    assert votes(source, 64, pieces).sum(0).tolist() == together[2].tolist()


def test_every_sample_is_counted_once() -> None:
    assert votes(FloatNoise, 64, items(301)).sum(1).tolist() == [301] * 6


def test_noise_streams_differ_between_seeds_inputs_stages_and_samples() -> None:
    image = torch.zeros(1, 4, 4, dtype=torch.uint8)
    drawn = []
    for seed in (0, 1, 2**32, 2**64 - 1):
        noise = FloatNoise(SIGMA, seed)
        for input_id in (0, 1, 7):
            for stage in (SELECTION, ESTIMATION):
                out = torch.empty(200, 1, 4, 4)
                noise.fill(out, image, input_id=input_id, stage=stage, start=0)
                drawn.append(out.flatten(1))
    assert len(torch.unique(torch.cat(drawn), dim=0)) == 4 * 3 * 2 * 200


@pytest.mark.parametrize("start", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_samples_are_the_same_when_asked_for_out_of_order(start: int) -> None:
    image = torch.zeros(1, 2, 2, dtype=torch.uint8)
    whole, part = torch.empty(4 * BLOCK, 1, 2, 2), torch.empty(BLOCK, 1, 2, 2)
    noise = FloatNoise(SIGMA, 3)
    noise.fill(whole, image, input_id=5, stage=0, start=0)
    noise.fill(part, image, input_id=5, stage=0, start=start)
    assert torch.equal(part, whole[start : start + BLOCK])


def test_noise_has_the_law_that_the_theorem_needs(seed: int) -> None:
    image = torch.full((1, 4, 4), 51, dtype=torch.uint8)
    out = torch.empty(2000, 1, 4, 4)
    FloatNoise(SIGMA, seed).fill(out, image, input_id=0, stage=0, start=0)
    noise = (out - 0.2).double().flatten().numpy()
    # 32,000 draws: the right law is refused with probability 1e-6, a sigma 10 % off is accepted with less.
    assert stats.kstest(noise, stats.norm(0, SIGMA).cdf).pvalue > 1e-6
    assert stats.kstest(noise, stats.norm(0, SIGMA * 1.1).cdf).pvalue < 1e-6


def test_votes_follow_the_known_probability(source: Source, seed: int) -> None:
    n = 20_000
    counts = votes(source, 500, items(n), seed)
    for image, row in zip(IMAGES, counts, strict=True):
        # The exact noise of a whole pixel exceeds 127.5 exactly when the Gaussian does that it is the rounding of.
        p = Pixel().probability(float(image[0, 0, 0]) / 255, SIGMA)
        # Six tests, each refusing the truth with probability 1e-7.
        assert stats.binomtest(int(row[1]), n, p).pvalue > 1e-7
        assert stats.binomtest(int(row[1]), n, p + 0.03).pvalue < 1e-7


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


def test_logits_that_are_not_finite_are_counted_and_never_voted() -> None:
    classifier = BaseClassifier(Sometimes().eval(), 2, batch_size=64)
    [row] = count_votes(classifier, FloatNoise(SIGMA, 0), [Item(IMAGES[2], 0, ESTIMATION, 0, 5000)])
    inside = stats.norm.cdf(1, 120 / 255, SIGMA) - stats.norm.cdf(0, 120 / 255, SIGMA)
    assert row[1] == 0
    assert row.sum() == 5000
    assert stats.binomtest(int(row[0]), 5000, inside).pvalue > 1e-6


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


@pytest.mark.parametrize("num_classes", [2, 4])
def test_a_number_of_classes_that_is_not_the_models_is_refused(num_classes: int) -> None:
    """With fewer, votes for the last class would be taken for invalid ones, and others for the next image's."""
    with pytest.raises(ValueError, match=f"and {num_classes} classes; num_classes must be the number of its logits"):
        SmoothedClassifier(Pixel(classes=3).eval(), num_classes, SIGMA).certify(IMAGES, n=100)


class CoupledRows(nn.Module):
    """In evaluation mode, and yet each answer depends on the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, affine=False, track_running_stats=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return Pixel(0.0)(self.norm(x_BCHW))


class AlwaysDropping(nn.Module):
    """Dropout that evaluation mode does not switch off."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return Pixel()(nn.functional.dropout(x_BCHW, 0.5, training=True))


@pytest.mark.parametrize("model", [CoupledRows(), AlwaysDropping()])
def test_a_model_whose_rows_are_not_independent_is_refused(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="not independent, and a certificate would be void"):
        SmoothedClassifier(model.eval(), 2, SIGMA).certify(IMAGES, n=100)


def test_no_images_have_no_certificates() -> None:
    smoothed = SmoothedClassifier(Pixel().eval(), 2, SIGMA)
    assert smoothed.certify(IMAGES[:0], n=100) == []
    assert smoothed.predict(IMAGES[:0], n=100).shape == (0,)


def test_float_noise_is_never_smaller_than_sigma() -> None:
    """float32(0.12) lies below 0.12; noise multiplied by it would be smaller than the radius assumes."""
    assert float(np.float32(0.12)) < 0.12
    out = torch.empty(2, 1, 1, 1)
    FloatNoise(0.12, 0).fill(out, torch.zeros(1, 1, 1, dtype=torch.uint8), input_id=0, stage=0, start=0)
    unit = torch.empty(2, 1, 1, 1)
    FloatNoise(1.0, 0).fill(unit, torch.zeros(1, 1, 1, dtype=torch.uint8), input_id=0, stage=0, start=0)
    assert torch.equal(out, unit * np.nextafter(np.float32(0.12), np.float32(1)).item())


def test_later_changes_to_the_model_do_not_reach_the_certified_one() -> None:
    model = HalfSpace(torch.ones(1, 3, 3), 4.0).eval()
    smoothed = SmoothedClassifier(model, 2, SIGMA, seed=0)
    before = smoothed.certify(IMAGES, n=200)
    digest = smoothed.base.sha256
    with torch.no_grad():
        model.weight.mul_(-1)
    assert [a.counts.tolist() for a in smoothed.certify(IMAGES, n=200)] == [b.counts.tolist() for b in before]
    assert digest != weights_hash(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": 0.0}, "sigma must be a positive number, got 0"),
        ({"sigma": float("nan")}, "sigma must be a positive number, got nan"),
        ({"sigma": 127.5}, "looks like 0-255 units.*pass 0.5"),
        ({"dtype": "float8"}, "dtype must be one of float32, bfloat16, float16, got 'float8'"),
        ({"noise": "fast"}, "noise must be one of exact, float, got 'fast'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmoothedClassifier(Pixel().eval(), 2, **{"sigma": SIGMA, **arguments})  # type: ignore[arg-type]


def test_a_model_in_training_mode_is_refused_even_in_one_module() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(9, 2)).eval()
    model[1].train()
    with pytest.raises(ValueError, match=r"training mode \(1\).*call model.eval\(\) first"):
        SmoothedClassifier(model, 2, SIGMA)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.to(torch.int64), "images must be uint8, or floats"),
        (IMAGES[0, 0], "of shape"),
        (IMAGES.float(), r"float images must lie in \[0, 1\], got 0 to 255; divide"),
        (IMAGES / 255 - 0.5, "move a normalisation into the model"),
        (IMAGES / torch.zeros(()), r"must lie in \[0, 1\]"),
    ],
)
def test_images_in_other_units_are_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmoothedClassifier(Pixel().eval(), 2, SIGMA).certify(images)


def test_budgets_that_could_only_abstain_are_refused_with_what_is_needed() -> None:
    smoothed = SmoothedClassifier(Pixel().eval(), 2, SIGMA)
    with pytest.raises(ValueError, match=r"n = 9 samples cannot certify anything at alpha = 0.001; at least 10"):
        smoothed.certify(IMAGES, n=9)
    with pytest.raises(ValueError, match="n = 2000000000 is more than 1000000000"):
        smoothed.certify(IMAGES, n=2 * 10**9)
    with pytest.raises(ValueError, match=r"with n = 10 samples PREDICT always abstains.*at least 11"):
        smoothed.predict(IMAGES, n=10)
    with pytest.raises(ValueError, match="n0, the selection samples, must be at least 1"):
        smoothed.certify(IMAGES, n0=0)
    with pytest.raises(ValueError, match="alpha must lie between 0 and 1, got 1"):
        smoothed.certify(IMAGES, alpha=1.0)
