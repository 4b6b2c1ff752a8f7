"""The estimator: what MaxUp's loss holds of each example, its control variates, and the derivatives they rest on."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxup_smoothing.analysis.theory.constants import moment
from maxup_smoothing.analysis.theory.derivatives import (
    Derivatives,
    corners,
    cross_entropy,
    derivatives_at,
    frozen,
    kinks,
)
from maxup_smoothing.analysis.theory.gradient_norm import Array, Draws, draw, shares
from maxup_smoothing.analysis.theory.networks import toy, toy_inputs
from maxup_smoothing.train.maxup import BatchLoss, maxup_loss
from maxup_smoothing.train.perturbations import GaussianNoise
from maxup_smoothing.train.seeds import generator

D = 6
HESSIAN = torch.diag(torch.tensor([3.0, -1.0, 0.5, 2.0, 0.0, 1.5], dtype=torch.float64))
SLOPES = torch.tensor([[1.0, 2, 0, 0, -1, 0.5], [0, 0, 3, 0, 0, 0], [0.2, 0.1, 0, 0.4, 0, 0]], dtype=torch.float64)


def quadratic(x_ED: Tensor, y_E: Tensor) -> Tensor:
    """The loss a'x + x'Hx / 2 whose slope a is that of class y; at x = 0 its gradient is a."""
    return (x_ED * SLOPES[y_E]).sum(1) + (x_ED @ HESSIAN * x_ED).sum(1) / 2 + 5


def linear(x_ED: Tensor, y_E: Tensor) -> Tensor:
    return (x_ED * SLOPES[y_E]).sum(1) + 5


X, Y = torch.zeros(3, D, dtype=torch.float64), torch.arange(3)


def around(loss: Any, seed: int = 0, model: nn.Module | None = None, x: Tensor = X, y: Tensor = Y) -> Derivatives:
    return derivatives_at(model or nn.Identity(), loss, x, y, probes=16, generator=torch.Generator().manual_seed(seed))


def estimate_SIG(drawn: Draws, constant: float, norm_I: Array) -> Array:
    """Without bias for E D if ``constant`` is c_m: D - sigma max g'z + sigma c_m |g|."""
    return drawn.first_SIG + drawn.sigmas[:, None, None] * constant * norm_I[:, None]


def test_share_of_an_example_is_its_worst_copys_loss() -> None:
    model, (x, y) = frozen(toy("tanh", inputs=10, width=8)), toy_inputs(5, size=10)
    found = shares(maxup_loss, model, cross_entropy, GaussianNoise(0.5), x, y, m=3, seed=7)
    for example in range(5):
        losses = []
        for copy in range(3):
            noisy, _ = GaussianNoise(0.5)(x, y, generator(x.device, 7, copy))
            losses.append(float(cross_entropy(model(noisy[example : example + 1]), y[example : example + 1])))
        assert float(found[example]) == pytest.approx(max(losses), rel=1e-12)


def test_loss_that_does_not_double_with_the_losses_is_refused() -> None:
    def softened(*args: Any, m: int, seed: int) -> BatchLoss:
        return maxup_loss(*args, m=m, seed=seed, reduction="logsumexp")

    with pytest.raises(ValueError, match="double"):
        shares(softened, nn.Identity(), quadratic, GaussianNoise(0.5), X, Y, m=3, seed=7)


def test_linear_loss_obeys_the_law_in_every_single_draw(seed: int) -> None:
    drawn = draw(nn.Identity(), linear, X, Y, around(linear), m=4, sigmas=(0.01, 1.0), groups=16, seed=seed)
    # D is sigma max g'z itself, so nothing remains: no statistics here.
    assert np.abs(drawn.first_SIG).max() < 1e-13
    assert drawn.gain_SIG.std() > 0.1


def test_one_copy_of_a_quadratic_loss_leaves_nothing_after_the_second_order(seed: int) -> None:
    drawn = draw(nn.Identity(), quadratic, X, Y, around(quadratic), m=1, sigmas=(0.1, 3.0), groups=16, seed=seed)
    assert np.abs(drawn.second_SIG).max() < 1e-12
    assert np.abs(drawn.first_SIG).max() > 0.1


def test_derivatives_of_a_quadratic_loss_are_known(seed: int) -> None:
    found = around(quadratic, seed)
    norm = SLOPES.norm(dim=1)
    assert torch.allclose(found.gradient_I, SLOPES)
    assert torch.allclose(found.norm_I, norm)
    assert torch.allclose(found.along_I, (SLOPES @ HESSIAN * SLOPES).sum(1) / norm**2)
    # Probes of random signs give the trace of a diagonal matrix without error.
    assert torch.allclose(found.trace_I, HESSIAN.trace().expand(3))
    assert torch.allclose(found.trace_error_I, torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(found.frobenius_I, HESSIAN.norm().expand(3))
    expected = HESSIAN.trace() + (moment(4, 2) - 1) * found.along_I
    assert torch.allclose(found.curvature_I(moment(4, 2)), expected)


def test_trace_agrees_with_the_whole_hessian(seed: int) -> None:
    model, (x, y) = frozen(toy("tanh", inputs=10, width=8)), toy_inputs(1, size=10)
    found = derivatives_at(model, cross_entropy, x, y, probes=1000, generator=torch.Generator().manual_seed(seed))
    hessian: Any = torch.autograd.functional.hessian(lambda row: cross_entropy(model(row), y).sum(), x)
    whole = hessian.reshape(10, 10)
    # A correct trace is 5 standard errors off with probability 6e-7.
    assert abs(float(found.trace_I - whole.trace())) < 5 * float(found.trace_error_I)
    assert float(found.frobenius_I) == pytest.approx(float(whole.norm()), rel=0.2)
    assert float(found.along_I) == pytest.approx(
        float(found.gradient_I[0] @ whole @ found.gradient_I[0] / found.norm_I[0] ** 2), rel=1e-9
    )


def test_control_variate_is_unbiased_where_the_law_does_not_hold(seed: int) -> None:
    model, (x, y), sigma, m = frozen(toy("tanh", inputs=20, width=16)), toy_inputs(4, size=20), 1.0, 4
    local = around(cross_entropy, model=model, x=x, y=y)
    norm = local.norm_I.numpy()
    drawn = draw(model, cross_entropy, x, y, local, m=m, sigmas=(sigma,), groups=2000, seed=seed)
    estimate = estimate_SIG(drawn, moment(m, 1), norm)[0].mean(0)

    # The plain way, with other noise.
    noise = torch.Generator().manual_seed(seed)
    x_GIMD = x[:, None] + sigma * torch.randn(4000, 4, m, 20, dtype=x.dtype, generator=noise)
    with torch.no_grad():
        logits = model(x_GIMD).flatten(0, 2)
    y_GIM = y[None, :, None].expand(4000, 4, m)
    plain = (cross_entropy(logits, y_GIM.flatten()).unflatten(0, (4000, 4, m)).amax(2) - local.loss_I).mean(1).numpy()

    error = np.sqrt(estimate.var(ddof=1) / len(estimate) + plain.var(ddof=1) / len(plain))
    # By chance they differ by 5 standard errors with probability 6e-7; the law is further off, and so is a control
    # variate with the constant of 6 copies.
    assert abs(estimate.mean() - plain.mean()) < 5 * error
    assert abs(sigma * moment(m, 1) * norm.mean() - plain.mean()) > 10 * error
    assert abs(estimate_SIG(drawn, moment(6, 1), norm).mean() - plain.mean()) > 5 * error


def test_control_variate_makes_small_sigmas_a_thousand_times_as_precise(seed: int) -> None:
    model, (x, y) = frozen(toy("tanh", inputs=20, width=16)), toy_inputs(4, size=20)
    drawn = draw(
        model,
        cross_entropy,
        x,
        y,
        around(cross_entropy, model=model, x=x, y=y),
        m=4,
        sigmas=(1e-3,),
        groups=64,
        seed=seed,
    )
    assert drawn.gain_SIG[0, 0].var() > 1e3 * drawn.first_SIG[0, 0].var()


def test_noise_that_breaks_the_promise_costs_precision_but_not_the_mean(seed: int) -> None:
    def other_noise(*args: Any, m: int, seed: int) -> BatchLoss:
        return maxup_loss(*args, m=m, seed=seed + 1)

    sigma, m, local = 1e-3, 4, around(quadratic)
    drawn = draw(nn.Identity(), quadratic, X, Y, local, m=m, sigmas=(sigma,), groups=4000, seed=seed, maxup=other_noise)
    law = sigma * moment(m, 1) * local.norm_I.numpy()
    ratio = estimate_SIG(drawn, moment(m, 1), local.norm_I.numpy())[0] / law[:, None]
    error = ratio.std(1, ddof=1) / np.sqrt(4000)
    assert np.all(error > 0.01)  # nothing is gained any more: Var M / c^2 twice is 0.93, over 4000 groups
    assert np.all(np.abs(ratio.mean(1) - 1) < 5 * error + 0.01)  # curvature adds less than 0.01; chance, 2e-6


def test_batches_hold_different_images_and_blocks_cover_all_of_them() -> None:
    x, y = toy_inputs(7, size=10)
    model = frozen(toy("tanh", inputs=10, width=8))
    local = around(cross_entropy, model=model, x=x, y=y)
    seen = list[Tensor]()

    def watching(model: nn.Module, loss: Any, perturb: Any, x: Tensor, y: Tensor, **how: Any) -> BatchLoss:
        seen.append(x)
        return maxup_loss(model, loss, perturb, x, y, **how)

    drawn = draw(model, cross_entropy, x, y, local, m=2, sigmas=(0.1,), groups=20, seed=0, maxup=watching, rows=4)
    assert drawn.gain_SIG.shape == (1, 7, len(drawn.batch_G))
    assert len(drawn.batch_G) >= 20
    assert all(len(batch.unique(dim=0)) > 1 for batch in seen)
    assert sum(len(batch) for batch in seen) == 7 * len(drawn.batch_G)
    with pytest.raises(ValueError, match="at least 2"):
        draw(model, cross_entropy, x[:1], y[:1], local, m=2, sigmas=(0.1,), groups=20, seed=0)


def test_kinks_are_found_in_functions_as_well_as_in_layers() -> None:
    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.max_pool1d(F.relu(x)[:, None], 2)[:, 0]

    x, y = toy_inputs(2, size=20, classes=10)
    assert len(kinks(Functional(), cross_entropy, x, y)) == 2
    assert len(kinks(frozen(toy("relu", inputs=20, width=8)), cross_entropy, x, y)) == 1
    for smooth in ("tanh", "softplus"):
        assert kinks(frozen(toy(smooth, inputs=20, width=8)), cross_entropy, x, y) == ()
    for layer in (nn.GELU(), nn.SiLU(), nn.Sigmoid(), nn.ELU()):
        assert kinks(layer, cross_entropy, x, y) == ()


def test_even_background_under_max_pooling_is_a_corner(seed: int) -> None:
    model = nn.Sequential(nn.MaxPool1d(4), nn.Linear(5, 3, dtype=torch.float64))
    even = torch.zeros(2, 20, dtype=torch.float64)
    uneven = torch.randn(2, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for x, corner in ((even, True), (uneven, False)):
        local = around(cross_entropy, model=model, x=x, y=torch.tensor([0, 2]))
        found = corners(
            model, cross_entropy, x, torch.tensor([0, 2]), local.norm_I, generator=torch.Generator().manual_seed(seed)
        )
        assert bool((found > 1e-2).all() if corner else (found < 1e-3).all())


def test_the_examined_model_stays_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    copy = frozen(model)
    assert model.training
    assert not copy.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in copy.parameters()} == {torch.float64}
    assert all(parameter.requires_grad for parameter in model.parameters())
