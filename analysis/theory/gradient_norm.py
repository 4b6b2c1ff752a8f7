r"""Draws of what MaxUp adds to the loss at each image, from the MaxUp loss that training uses.

**Shares.** ``train.maxup.maxup_loss`` returns one number, the mean over a batch. What it holds of each example is had
from its derivative: give the loss of example b a weight w_b, which is 1. A maximum, a mean, or any other function that
doubles with the losses is, by Euler's theorem, the sum of w_b times its derivative by w_b; and for the maximum over the
copies of each example this derivative is that example's largest loss over the size of the batch. So whatever function
``maxup`` is, its value is divided among the examples, and one that takes the maximum of something else is caught. Its
targets are the numbers of the examples, by which it meets the weights however it arranges the rows.

**Control variates.** D = MaxUp's loss - L is about sigma max_i g'z_i, a number that is known for the drawn noise, and
whose mean is sigma c_m |g| exactly. So D - sigma max_i g'z_i + sigma c_m |g| has the mean of D, whether or not the law
holds, with a variance that is smaller by orders. In the same way sigma^2/2 z'Hz at the copy with the largest g'z has
the mean of the law's curvature term, and its subtraction leaves the O(sigma^3). The noise is drawn a second time for
that, from what train.maxup promises: copy c is a function of (seed, c). If the promise is broken, the estimate has a
larger variance and the same mean.

**What the control variate hides.** Estimates that contain + sigma c_m |g| come out right whatever the constant c_m is.
So the constant, and the noise, have a test of their own: every coordinate of the noise is a normal number, and the mean
over coordinates of its largest value among m copies must be c_m.
"""

# Shapes: I images, G groups of M copies of each, S sigmas, E rows of a batch: R times each of some images.

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maxup_smoothing.analysis.theory.derivatives import Derivatives, dot, hessian_products
from maxup_smoothing.train.maxup import BatchLoss, PerExampleLoss, maxup_loss
from maxup_smoothing.train.perturbations import GaussianNoise, Perturbation
from maxup_smoothing.train.seeds import derive_seed, generator

Array = NDArray[np.float64]
_BATCHES = 8
_AT_ONCE = 1_000_000  # noise values


class MaxUpLoss(Protocol):
    """What is examined; ``train.maxup.maxup_loss`` is one."""

    def __call__(
        self,
        model: nn.Module,
        per_example_loss: PerExampleLoss,
        perturb: Perturbation,
        x: Tensor,
        y: Tensor,
        /,
        *,
        m: int,
        seed: int,
    ) -> BatchLoss:
        """The loss of a batch, in ``BatchLoss.loss``; copy c of the batch is ``perturb`` with (seed, c)."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What m copies gave. The noise of a group is the same for all sigmas.

    Attributes:
        m: Copies in a group.
        sigmas: (S,), ascending.
        gain_SIG: MaxUp's loss minus L.
        linear_IG: The largest g'z among the copies.
        quadratic_IG: z'Hz of the copy that has it.
        batch_G: Which batch a group was in: one that mixes up examples mixes those of one batch.
    """

    m: int
    sigmas: Array
    gain_SIG: Array
    linear_IG: Array
    quadratic_IG: Array
    batch_G: NDArray[np.int64]

    @property
    def first_SIG(self) -> Array:
        """D - sigma max g'z: without bias for what remains of E D after the first order, sigma c_m |g|."""
        return self.gain_SIG - self.sigmas[:, None, None] * self.linear_IG

    @property
    def second_SIG(self) -> Array:
        """Without bias for what remains of E D after the second order; no estimate of a trace is in it."""
        return self.first_SIG - self.sigmas[:, None, None] ** 2 / 2 * self.quadratic_IG


def draw(
    model: nn.Module,
    per_example_loss: PerExampleLoss,
    x_I: Tensor,
    y_I: Tensor,
    local: Derivatives,
    *,
    m: int,
    sigmas: Sequence[float],
    groups: int,
    seed: int,
    maxup: MaxUpLoss = maxup_loss,
    noise: Callable[[float], Perturbation] = GaussianNoise,
    rows: int = 256,
    advance: Callable[[int], None] = lambda passes: None,
) -> Draws:
    """Draw groups of m noisy copies of each image.

    Cost: for each image and group, m + 1 forward passes a sigma, and one product with the Hessian.

    Args:
        model: As ``derivatives.frozen`` returns it.
        per_example_loss: From the model's output and the targets to one loss an example.
        x_I: At least 2 images, float64. A batch holds several, so that one that mixes them up is found out.
        y_I: Targets.
        local: The derivatives at these images.
        m: Copies in a group, at least 1.
        sigmas: Ascending, positive.
        groups: Of each image; a few more may be drawn, for batches of one size.
        seed: Of all noise.
        maxup: What is examined.
        noise: From sigma to a perturbation that adds noise in proportion to it.
        rows: About as many in a batch.
        advance: Called with the number of rows that have passed through the network.

    Raises:
        ValueError: If there are fewer than 2 images, or ``maxup`` does not double with the losses.
    """
    images = len(x_I)
    if images < 2:
        raise ValueError(f"a batch must hold different images, so at least 2 are needed, got {images}.")
    blocks, columns_of = _batches(images, groups, rows)
    groups = columns_of[-1].stop
    gain_SIG = np.empty((len(sigmas), images, groups))
    linear_IG, quadratic_IG = (np.empty((images, groups)) for _ in range(2))
    for number, (block, columns) in enumerate(product(blocks, columns_of)):
        repeats = columns.stop - columns.start
        x_E, y_E, g_E, loss_E = (
            tensor[block].repeat(repeats, *(1,) * (tensor.dim() - 1))  # neighbours are different images
            for tensor in (x_I, y_I, local.gradient_I.to(x_I), local.loss_I.to(x_I))
        )
        own = derive_seed(seed, m, number)

        best_E, z_E = _strongest(noise(1.0), g_E, m, own)
        _, hessian = hessian_products(model, per_example_loss, x_E, y_E)
        linear_IG[block, columns] = _by_image(best_E, repeats)
        quadratic_IG[block, columns] = _by_image(hessian(z_E)[1], repeats)
        for at, sigma in enumerate(sigmas):
            share_E = shares(maxup, model, per_example_loss, noise(sigma), x_E, y_E, m=m, seed=own)
            gain_SIG[at, block, columns] = _by_image(share_E - loss_E, repeats)
            advance(len(x_E) * (m + 1))
    return Draws(
        m=m,
        sigmas=np.asarray(sigmas, dtype=np.float64),
        gain_SIG=gain_SIG,
        linear_IG=linear_IG,
        quadratic_IG=quadratic_IG,
        batch_G=np.repeat(np.arange(len(columns_of)), columns_of[0].stop),
    )


def shares(
    maxup: MaxUpLoss,
    model: nn.Module,
    per_example_loss: PerExampleLoss,
    perturb: Perturbation,
    x_E: Tensor,
    y_E: Tensor,
    *,
    m: int,
    seed: int,
) -> Tensor:
    """What MaxUp's loss holds of each example, (E,); their mean is that loss. For the maximum, the worst copy's loss.

    Raises:
        ValueError: If the loss is not the mean of its shares: it is then no function that doubles with the losses.
    """
    weight_E = torch.ones(len(x_E), dtype=x_E.dtype, device=x_E.device, requires_grad=True)

    def weighted(output: Tensor, number: Tensor) -> Tensor:
        return weight_E[number] * per_example_loss(output, y_E[number])

    number_E = torch.arange(len(x_E), device=x_E.device)
    loss = maxup(model, weighted, perturb, x_E, number_E, m=m, seed=seed).loss
    share_E = torch.autograd.grad(loss, weight_E)[0] * len(x_E)
    whole, mean = float(loss.detach()), float(share_E.mean())
    if not math.isclose(mean, whole, rel_tol=1e-9, abs_tol=1e-300):
        raise ValueError(
            f"the loss, {whole:g}, is not the mean of its shares, {mean:g}: only functions that double with the "
            "losses, such as a maximum or a mean, can be examined."
        )
    return share_E.detach()


def largest_noise(noise: Callable[[float], Perturbation], like: Tensor, *, m: int, seed: int, count: int) -> Array:
    """The largest of m noise values: its mean over the coordinates of an image, for as many images as it takes.

    Args:
        noise: From sigma to a perturbation; its copies for sigma = 1 are drawn as those of a batch of MaxUp are.
        like: One image, for the shape and dtype.
        m: Copies.
        seed: Of the noise.
        count: Of coordinates; about so many are drawn m times, at least those of 16 images.

    Returns:
        float64, one an image.
    """
    rows = max(16, math.ceil(count / like.numel()))
    found, step = [], max(1, _AT_ONCE // like.numel())
    for first in range(0, rows, step):
        zero_E = like.new_zeros(min(step, rows - first), *like.shape)
        largest_E = torch.full_like(zero_E, -math.inf)
        for number in range(m):
            z_E, _ = noise(1.0)(zero_E, zero_E, generator(like.device, derive_seed(seed, m, first), number))
            largest_E = torch.maximum(largest_E, z_E)
        found.append(largest_E.flatten(1).mean(1).cpu().numpy())
    return np.concatenate(found)


def _strongest(noise: Perturbation, g_E: Tensor, m: int, seed: int) -> tuple[Tensor, Tensor]:
    """The largest g'z among m copies, (E,), and the z that has it."""
    for number in range(m):
        z_E = noise(torch.zeros_like(g_E), g_E, generator(g_E.device, seed, number))[0]
        inner_E = dot(g_E, z_E)
        if number == 0:
            best_E, best_z_E = inner_E, z_E
            continue
        larger_E = inner_E > best_E
        best_E = torch.where(larger_E, inner_E, best_E)
        best_z_E = torch.where(larger_E.reshape(-1, *(1,) * (z_E.dim() - 1)), z_E, best_z_E)
    return best_E, best_z_E


def _by_image(value_E: Tensor, repeats: int) -> Array:
    return value_E.reshape(repeats, -1).T.cpu().numpy()


def _batches(images: int, groups: int, rows: int) -> tuple[list[slice], list[slice]]:
    """Blocks of images, each of at least 2, and of groups, all of one size: a batch is one of each, of about ``rows``.

    There are at least 8 blocks of groups, so that they can be told from one another, and as many groups as asked for or
    a few more.
    """
    count = max(1, min(images // 2, math.ceil(images / rows)))
    edges = [images * block // count for block in range(count + 1)]
    largest = max(stop - first for first, stop in pairwise(edges))
    batches = max(_BATCHES, math.ceil(groups / max(1, rows // largest)))
    repeats = math.ceil(groups / batches)
    return (
        [slice(first, stop) for first, stop in pairwise(edges)],
        [slice(batch * repeats, (batch + 1) * repeats) for batch in range(batches)],
    )
