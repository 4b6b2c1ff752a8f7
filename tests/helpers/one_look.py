"""CERTIFY with one look, as Cohen et al. (2019) state it, for votes that a test has made."""

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.statistics.certificate import Certificate, certificate_of, look_at


def certificate(
    selection_V: NDArray[np.int64],
    estimation_V: NDArray[np.int64],
    alpha: float,
    sigma: float,
    probability_error: float = 0.0,
    bound: str = "clopper-pearson",
) -> Certificate:
    """Cohen's CERTIFY from the votes of its two stages.

    The class is the most frequent of the selection samples. With probability at least 1 - alpha over the estimation
    samples the certificate is true or an abstention.

    Args:
        selection_V: int64, (K + 1,), votes of the n0 selection samples; the last entry (no class) cannot win.
        estimation_V: int64, (K + 1,), votes of n fresh samples.
        alpha: Failure probability, in (0, 1).
        sigma: Standard deviation of the noise, positive.
        probability_error: How far the law of the samples may be from N(0, sigma^2), in total variation; subtracted
            from the bound.
        bound: One of ``certify.statistics.certificate.BOUNDS``.

    References:
        Cohen et al. (2019), section 3.2.2.
    """
    selected = int(selection_V[:-1].argmax())
    looks = [look_at(estimation_V, selected, alpha)]
    return certificate_of(
        looks, selected, estimation_V, sigma=sigma, procedure="fixed", bound=bound, probability_error=probability_error
    )
