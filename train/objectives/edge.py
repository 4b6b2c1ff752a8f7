r"""MaxUp at the edge: the copies of a sure image are moved until the worst of them would just be classified wrongly.

The worst of many copies of an image far from every boundary is still sure, and teaches nothing. Let :math:`z` be the
mean of the margins of the image's m candidates (logit of its class minus the largest other one) over their standard
deviation. Were the margin linear, the worst candidate would stand :math:`c_m` deviations below the mean, on average,
and a shift of the image by :math:`\sigma (z - c_m)` against the margin would bring it to the boundary. So all copies
of an image move by one step of length

:math:`\sigma \min(\max(z - c_m, 0), reach)`

along the gradient of their mean prediction's loss, within [0, 1], and keep their noise. Images that are not sure, and
all images early in training, stay where they are: the curriculum is the network's own.

Cost: a forward and a backward pass a copy, the backward one without gradients of weights.

References:
    This project. One step of Salman et al. (2019), section 2.2, as far as each image's confidence allows; c_m as in
    Gong et al. (2020), arXiv:2002.09024, theorem 1.
"""

# Shapes: B images, M candidates for the worst copy, K classes.

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maxup_smoothing.train.objectives.attacks import pgd
from maxup_smoothing.train.objectives.gradient_penalty import expected_maximum


def sureness(logits_BMK: Tensor, y_B: Tensor) -> Tensor:
    """Mean over standard deviation of the margins of each image's candidates, (B,); there must be at least two."""
    index_BM1 = y_B[:, None, None].expand(-1, logits_BMK.shape[1], 1)
    own_BM = logits_BMK.gather(2, index_BM1).squeeze(2)
    margin_BM = own_BM - logits_BMK.scatter(2, index_BM1, -torch.inf).amax(2)
    return margin_BM.mean(1) / margin_BM.std(1).clamp_min(1e-6)


def shift(sureness_B: Tensor, *, m: int, sigma: float, reach: float) -> Tensor:
    """How far each image is moved, in [0, 1] pixel units, given the sureness of its m candidates, (B,)."""
    return sigma * (sureness_B - expected_maximum(m)).clamp(0, reach)


def at_the_edge(model: nn.Module, x: Tensor, y: Tensor, copies: Sequence[Tensor], shift_B: Tensor) -> list[Tensor]:
    """The copies of each image, all moved by one step of its own length; their noise is what they differ by from x."""
    noises = [copy - x for copy in copies]
    moved = pgd(model, x, y, noises, epsilon=shift_B.reshape(-1, *(1,) * (x.dim() - 1)), steps=1)
    return [moved + noise for noise in noises]
