"""l2 attacks on the soft smoothed classifier: on the mean prediction over a few fixed noise copies.

An attack lowers log mean_i softmax(f(x' + noise_i))_y for given noises. The noise is the same at every step, so an
attack is a deterministic function of image, class and noises. All attacks use the model in evaluation mode, without
gradients of its parameters, and leave modes, buffers and ``requires_grad`` as they were.

References:
    Salman et al. (2019), "Provably robust deep learning via adversarially trained smoothed classifiers", section 2.2.
    Rony et al. (2019), "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and
    defenses", algorithm 1. Jeong et al. (2021), "SmoothMix", section 3.1.
"""

# Shapes: B images, M noise copies, K classes. Images and noises are (B, C, H, W), tensors named D (B, 1, 1, 1).

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from maxup_smoothing.train.step import full_precision, without_trace


@contextmanager
def attacking(model: nn.Module) -> Iterator[None]:
    """Inside, gradients reach inputs only, in evaluation mode; afterwards ``model`` is as it was."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with without_trace(model, "eval"), torch.enable_grad():
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
            # Autocast keeps the weights it cast; those cast without gradient would cut off the next pass's.
            torch.clear_autocast_cache()


def log_mean_probability(model: nn.Module, x: Tensor, noises: Sequence[Tensor]) -> Tensor:
    """Logarithm of the mean over the noises of the softmax at ``x`` plus noise, (B, K)."""
    log_p_BMK = torch.stack([full_precision(model(x + noise)).log_softmax(1) for noise in noises], dim=1)
    return log_p_BMK.logsumexp(1) - math.log(len(noises))


def pgd(
    model: nn.Module, x: Tensor, y: Tensor, noises: Sequence[Tensor], *, epsilon: float | Tensor, steps: int
) -> Tensor:
    """Projected gradient ascent from x, in steps of length 2 epsilon / steps.

    Cost: ``steps`` forward and backward passes a noise, without gradients of weights. Images are clamped
    to [0, 1], then projected onto the ball. Unlike in Salman et al. one whose gradient vanishes stays where it is.

    Args:
        model: From (B, C, H, W) to (B, K).
        x: Images in [0, 1].
        y: True classes, (B,).
        noises: M noise tensors, shape of ``x``.
        epsilon: Largest l2 distance from ``x``, at least 0; one for each image as (B, 1, 1, 1).
        steps: At least 1.

    Returns:
        Images in [0, 1] at most epsilon from ``x``, detached.
    """
    moved = x.detach()
    with attacking(model):
        for _ in range(steps):
            _, gradient = _loss_gradient(model, moved, y, noises)
            moved = (moved + (2 * epsilon / steps) * unit(gradient)).clamp(0, 1)
            # Towards x, which lies in the cube, a convex set: so the projected image does, too.
            moved = x + limited(moved - x, epsilon)
    return moved.detach().clamp(0, 1)  # again for rounding


def ddn(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    noises: Sequence[Tensor],
    *,
    epsilon: float | Tensor,
    steps: int,
    gamma: float = 0.05,
) -> Tensor:
    """Decoupled direction and norm: the norm shrinks while the mean prediction is wrong, and grows while it is right.

    The norm begins at epsilon; the step along the normalised gradient falls from 1 to 0.01 as a cosine. What is
    returned is the smallest change at which the prediction was seen wrong.

    Differences from Rony et al.: the norm begins at epsilon, not at 1; nothing is rounded to 256 levels; the norm
    has no other limit while it grows; an image whose gradient vanishes takes no step; what clamping to [0, 1] cut
    off is not carried to the next step; if no change was seen to succeed, the last one (which is not looked at) is
    taken; and, as in Salman et al., predictions are means over noises, and epsilon limits the result.

    Cost, arguments and result as of ``pgd``; ``gamma`` in (0, 1) is the relative change of the norm.
    """
    change = torch.zeros_like(x)
    best = change
    norm_D, best_norm_D = torch.ones_like(_norm(x)) * epsilon, torch.full_like(_norm(x), math.inf)
    with attacking(model):
        for k in range(steps):
            wrong_D, gradient = _loss_gradient(model, x + change, y, noises)
            better_D = wrong_D & (_norm(change) < best_norm_D)
            best, best_norm_D = torch.where(better_D, change, best), torch.where(better_D, _norm(change), best_norm_D)
            length = 0.01 + (1 - 0.01) * (1 + math.cos(math.pi * k / steps)) / 2
            norm_D = torch.where(wrong_D, norm_D * (1 - gamma), norm_D * (1 + gamma))
            change = (x + norm_D * unit(change + length * unit(gradient))).clamp(0, 1) - x
    change = torch.where(best_norm_D.isinf(), change, best)
    return (x + limited(change, epsilon)).detach().clamp(0, 1)


def ascend(
    model: nn.Module, x: Tensor, y: Tensor, noises: Sequence[Tensor], *, step_size: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Gradient ascent from x in steps of fixed length within [0, 1], and without a limit on the distance.

    Cost and arguments as of ``pgd``.

    Returns:
        The images after the first and after the last step, detached.
    """
    moved = first = x.detach()
    with attacking(model):
        for k in range(steps):
            _, gradient = _loss_gradient(model, moved, y, noises)
            moved = (moved + step_size * unit(gradient)).clamp(0, 1)
            first = moved if k == 0 else first
    return first, moved


def unit(vector: Tensor) -> Tensor:
    """Each example's vector at length 1; 0 where it is 0."""
    # The largest entry first: the squares of a confident model's gradients underflow.
    dims = tuple(range(1, vector.dim()))
    vector = vector / _nonzero(vector.abs().amax(dims, keepdim=True))
    return vector / _nonzero(_norm(vector))


def limited(vector: Tensor, norm: float | Tensor) -> Tensor:
    """Each example's vector, shortened to length ``norm`` if it is longer."""
    return vector * (norm / _nonzero(_norm(vector))).clamp_max(1)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim())), keepdim=True)


def _nonzero(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1)


def _loss_gradient(model: nn.Module, x: Tensor, y: Tensor, noises: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Where the mean prediction is wrong, (B, 1, 1, 1), and the gradient of -log mean probability of the class y."""
    x = x.detach().requires_grad_(True)
    log_mean_BK = log_mean_probability(model, x, noises)
    loss_B = -log_mean_BK.gather(1, y[:, None]).squeeze(1)
    (gradient,) = torch.autograd.grad(loss_B.sum(), x)
    wrong_B = log_mean_BK.detach().argmax(1) != y
    return wrong_B.reshape(-1, *(1,) * (x.dim() - 1)), gradient
