"""MaxUp at the edge: how far copies move, and the whole objective against a loop."""

# Shapes: B examples, M candidates, K classes.

import statistics

import pytest
import torch
from scipy import stats
from tiny_training import (
    SHAPE,
    SIGMA,
    STEP,
    B,
    K,
    ascent_direction,
    assert_same,
    batch,
    cross_entropy,
    divergence,
    logits_table,
    mean,
    network,
    noise,
    noises_of,
    objective,
    over_examples,
    regrouped,
    softmax,
)
from torch import Tensor, nn

from maxup_smoothing.train.objectives.worst_copy import at_the_edge, first_copy, shift, sureness
from maxup_smoothing.train.step import Step

C_5 = 1.162964473641  # the expected largest of five standard normal numbers


def sureness_loop(table_BMK: Tensor, y: Tensor) -> list[float]:
    """Image by image, copy by copy: mean over standard deviation of the margins."""
    found = []
    for logits_MK, label in zip(table_BMK.tolist(), y.tolist(), strict=True):
        margins = [row[label] - max(row[:label] + row[label + 1 :]) for row in logits_MK]
        found.append(statistics.mean(margins) / statistics.stdev(margins))
    return found


def moved_loop(model: nn.Module, x: Tensor, y: Tensor, noises: list[Tensor], lengths: list[float]) -> Tensor:
    """Each image after one step of its own length up its loss, within the cube."""
    rows = []
    for b, length in enumerate(lengths):
        way = ascent_direction(model, x[b], y[b], [one[b] for one in noises])
        change = (x[b] + 2 * length * way).clamp(0, 1) - x[b]
        rows.append(x[b] + change * min(1.0, length / max(float(change.norm()), 1e-30)))
    return torch.stack(rows)


def test_sureness_is_the_mean_margin_over_its_standard_deviation(seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    table_BMK = logits_table(model, x, noises_of(x, B)).detach()
    found = sureness(table_BMK, y)
    torch.testing.assert_close(found, torch.tensor(sureness_loop(table_BMK, y), dtype=torch.float64))
    for wrong_BMK in (regrouped(table_BMK), over_examples(table_BMK)):
        assert (found - torch.tensor(sureness_loop(wrong_BMK, y), dtype=torch.float64)).abs().max() > 0.1


def test_only_what_exceeds_the_worst_of_m_is_used_up_to_the_reach() -> None:
    found = shift(torch.tensor([-2.0, 0.0, C_5, C_5 + 0.5, C_5 + 2.0, 9.0]), m=5, sigma=0.25, reach=2.0)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 0.0, 0.125, 0.5, 0.5]))


def test_on_a_half_space_the_worst_copy_lands_on_the_boundary(seed: int) -> None:
    r"""With margin w (x - 1/2) the candidates' margins are N(w (x - 1/2), sigma^2 |w|^2): their sureness estimates
    z = (distance to the boundary) / sigma, the shift sigma (z - c_m), and the worst of m copies of the moved image has
    the expected margin w (x - 1/2) - |w| sigma (z - c_m) - |w| sigma c_m = 0."""
    m, sigma, w = 5, 0.1, torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    model = nn.Linear(2, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.cat([w / 2, -w / 2]))
        model.bias.copy_(torch.tensor([-w.sum() / 4, w.sum() / 4]))
    noise_MB2 = sigma * torch.randn(m, 4000, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x, y = torch.tensor([[0.64, 0.68]], dtype=torch.float64).expand(4000, 2), torch.zeros(4000, dtype=torch.int64)
    distance = float((w @ (x[0] - 0.5)) / w.norm())
    exact = torch.full((4000,), distance / sigma, dtype=torch.float64)
    copies = at_the_edge(model, x, y, list(x + noise_MB2), shift(exact, m=m, sigma=sigma, reach=9.0))
    margin_MB = torch.stack([(w @ (copy - 0.5).T)[0] / w.norm() for copy in copies])
    # The mean of 4,000 minima of five has a standard deviation of .67 sigma / sqrt(4,000): five of them.
    assert abs(float(margin_MB.amin(0).mean())) < 5 * 0.67 * sigma / 4000**0.5
    assert abs(float(margin_MB.mean()) - C_5 * sigma) < 5 * sigma / 20000**0.5


def test_the_objective_equals_its_loop(seed: int) -> None:
    model, lam, eta, reach, sigma = network(seed), 7.0, 0.5, 1.5, 0.05
    x, _ = batch(model, seed)
    right = logits_table(model, x, [torch.zeros_like(x)])[:, 0].argmax(1)
    y = torch.where(torch.arange(B) < 3, right, (right + 1) % K)
    asked = objective("consistency", sigma=sigma, m=2, lam=lam, eta=eta, worst_of=5, graded=True, reach=reach)
    result = asked(model, x, y, STEP)
    candidates = [noise(x, copy, sigma=sigma) for copy in range(6)]
    z_B = sureness_loop(logits_table(model, x, candidates[:5]), y)
    lengths = [sigma * min(max(z - C_5, 0.0), reach) for z in z_B]
    assert max(lengths) > 0
    assert min(lengths) == 0
    chosen = first_copy(asked, model, x, y, STEP).copy - x
    noises = [chosen, candidates[5]]
    table_BMK = logits_table(model, moved_loop(model, x, y, noises, lengths), noises)
    expected = []
    for logits_MK, label in zip(table_BMK, y, strict=True):
        p_MK = [softmax(logits_K) for logits_K in logits_MK]
        mean_K = torch.stack(p_MK).mean(0)
        entropy = -sum((p * p.log() for p in mean_K), torch.zeros(()))
        agree = mean([divergence(mean_K, p_K) for p_K in p_MK])
        expected.append(cross_entropy(logits_MK[0], label) + lam * agree + eta * entropy)
    assert_same(model, result.loss, mean(expected))
    unmoved = objective("consistency", sigma=sigma, m=2, lam=lam, eta=eta, worst_of=5, graded=True)(model, x, y, STEP)
    assert (result.loss - unmoved.loss).abs().item() > 1e-3


def test_images_that_no_copy_is_right_about_stay(seed: int) -> None:
    model = network(seed)
    x = torch.rand(B, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y = logits_table(model, x, [torch.zeros_like(x)])[:, 0].argmin(1)
    asked = objective("consistency", m=2, worst_of=5, graded=True, reach=2.0)
    chosen = first_copy(asked, model, x, y, STEP)
    assert chosen.sureness_B is not None
    hopeless = chosen.sureness_B < 0
    assert hopeless.any()
    lengths = shift(chosen.sureness_B, m=5, sigma=SIGMA, reach=2.0)
    (copy,) = at_the_edge(model, x, y, [chosen.copy], lengths)
    torch.testing.assert_close(copy[hopeless], chosen.copy[hopeless])


def test_the_reach_grows_with_the_warm_up() -> None:
    model = network(0, confidence=3.0)
    x, y = batch(model, 0)
    found = []
    for changes, epoch in (({"reach": 2.0, "warmup": 4, "lam": 0.0}, 1), ({"reach": 1.0, "lam": 0.0}, 0)):
        asked = objective("consistency", m=2, eta=0.0, worst_of=5, graded=True, **changes)
        found.append(asked(model, x, y, Step(STEP.seed, epoch)).loss)
    torch.testing.assert_close(found[0], found[1])


def test_reach_without_graded_copies_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"reach = 2\.0 has no effect: it is read with graded = true; leave it out"):
        objective("consistency", m=2, worst_of=5, reach=2.0)
    with pytest.raises(ValueError, match=r"reach must be at least 0, got -1"):
        objective("consistency", m=2, worst_of=5, graded=True, reach=-1.0)


def test_equal_candidates_are_sure_and_finite() -> None:
    logits_BMK = torch.zeros(2, 4, K)
    logits_BMK[0, :, 1] = 3.0
    found = sureness(logits_BMK, torch.tensor([1, 1]))
    assert found.isfinite().all()
    assert found[0] > 1e3
    assert found[1] == 0


def test_c_5_is_the_expected_maximum() -> None:
    z = torch.linspace(-9, 9, 200_001, dtype=torch.float64).numpy()
    density = 5 * stats.norm.pdf(z) * stats.norm.cdf(z) ** 4
    assert abs(float((z * density).sum() * (z[1] - z[0])) - C_5) < 1e-9
