"""Statistics of the draws: intervals against a margin, the limit for sigma to 0, and orders of remainders.

All intervals have the level `CONFIDENCE`. One that lies inside 1 ± margin is the same as two one-sided tests, each at
2.5 %, that both reject "off by the margin or more" (TOST); one that lies wholly outside shows that it is off.
"""

# Shapes: I images, G groups, S sigmas.

import math
from dataclasses import dataclass

import numpy as np
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

CONFIDENCE = 0.95
_RESOLVED = 4.0  # standard errors: what is nearer to 0 has no logarithm worth fitting


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its 95 % interval; NaN where it could not be formed."""

    value: float
    low: float
    high: float

    def word(self, centre: float, margin: float) -> str:
        """``holds`` inside centre ± margin, ``fails`` outside, ``undecided`` across an edge or where there is none."""
        if math.isnan(self.low + self.high):
            return "undecided"
        if centre - margin < self.low and self.high < centre + margin:
            return "holds"
        return "fails" if self.high <= centre - margin or self.low >= centre + margin else "undecided"


def mean_interval(values: Array) -> Interval:
    """Student's interval of a mean of independent values, (n,)."""
    if len(values) < 2:
        return Interval(value=float(np.mean(values)) if len(values) else math.nan, low=math.nan, high=math.nan)
    return around(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)), len(values) - 1)


def around(value: float, error: float, freedom: float) -> Interval:
    """Student's interval around an estimate with a standard error and its degrees of freedom."""
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Interval(value=value, low=value - half, high=value + half)


def ratio_interval(above_I: Array, below_I: Array) -> Interval:
    """The sum of ``above_I`` over that of ``below_I``, for images drawn from many: linearised, as in survey sampling.

    No image is divided by its own small number, so images without a gradient need no exception.

    References:
        Cochran (1977), Sampling Techniques, section 6.4.
    """
    ratio = float(above_I.sum() / below_I.sum())
    return mean_interval(ratio + (above_I - ratio * below_I) / below_I.mean())


@dataclass(frozen=True, kw_only=True)
class Limit:
    """D / sigma at one image as b0 + b1 sigma: ``slope`` is b0 over what the law says it is, ``bend`` is b1."""

    slope: Interval
    bend: Interval
    bend_error: float


def limit(first_SG: Array, sigmas: Array, expected: float) -> Limit:
    """The limit of D / sigma for sigma to 0 at one image, and the next coefficient.

    Weighted least squares of (D - sigma max g'z) / sigma on (1, sigma), with weights 1 / sigma^2: with the control
    variate the deviation of D / sigma is in proportion to sigma. The term in sigma is always there; without it
    curvature would pass for a deviation of the limit. Errors are clustered, for the noise of a group is the same for
    all sigmas.

    Args:
        first_SG: D - sigma max g'z.
        sigmas: (S,), at least 3.
        expected: c_m |g|, positive.

    References:
        Cameron and Miller (2015), A practitioner's guide to cluster-robust inference.
    """
    sigma_SG = np.broadcast_to(sigmas[:, None], first_SG.shape)
    design = sm.add_constant(sigma_SG.ravel())
    group = np.broadcast_to(np.arange(first_SG.shape[1]), first_SG.shape).ravel()
    fitted = sm.WLS((first_SG / sigma_SG).ravel(), design, weights=sigma_SG.ravel() ** -2.0).fit(
        cov_type="cluster", cov_kwds={"groups": group}, use_t=True
    )
    freedom = first_SG.shape[1] - 1
    (b0, b1) = map(float, fitted.params)
    # Where the fit is exact a variance may come out a rounding below 0, of which fitted.bse would make NaN.
    error0, error1 = (math.sqrt(max(float(variance), 0.0)) for variance in np.diag(fitted.cov_params()))
    return Limit(
        slope=around(1 + b0 / expected, error0 / expected, freedom),
        bend=around(b1, error1, freedom),
        bend_error=error1,
    )


def coefficient(found_I: Array, error_I: Array, law_I: Array, law_error_I: Array, *, freedom: float) -> Interval | None:
    """The factor between coefficients that were found and those of the law: 1 if the law is right.

    A line through the origin, over images whose coefficients differ in size and sign. What the errors of ``law_I`` add
    to its squares is taken off, for it would pull the factor towards 0.

    Returns:
        None where there are no coefficients, or those of the law are lost in their errors.
    """
    square = float((law_I**2 - law_error_I**2).sum())
    if len(found_I) == 0 or square <= 0.5 * float((law_I**2).sum()):
        return None
    error = math.sqrt(float((law_I**2 * (error_I**2 + law_error_I**2)).sum())) / square
    return around(float((found_I * law_I).sum()) / square, error, freedom)


def aligned(remainder_SIG: Array, reached: int = -1) -> Array:
    """Mean over images of remainders with one sign, (S, G / 2): positive and negative ones would cancel.

    The sign of each image's remainder is taken from half of the groups, at one sigma, and given to the other half, so
    that chance is not counted as size.

    Args:
        remainder_SIG: What remains in each group.
        reached: Number of the sigma.
    """
    sign_I = np.sign(remainder_SIG[reached, :, ::2].mean(1))
    return np.asarray((sign_I[:, None] * remainder_SIG[:, :, 1::2]).mean(1))


def order(remainder_SG: Array, sigmas: Array, floor: float, blocks: int = 16) -> Interval | None:
    """The exponent k of a remainder that goes as sigma^k: the slope of log |mean| on log sigma.

    Only sigmas at which the mean is resolved enter: beyond 4 standard errors and beyond ``floor``. Each has the
    weight that its standard error gives its logarithm. The interval is a jackknife's over blocks of groups, for the
    sigmas share their noise.

    Args:
        remainder_SG: What remains in each group, as ``aligned`` gives it.
        sigmas: (S,).
        floor: Below this a mean is rounding.
        blocks: Of groups; fewer where there are not so many groups.

    Returns:
        The slope, or None where fewer than 3 sigmas are resolved, or the sign changes between them.
    """
    mean_S = remainder_SG.mean(1)
    error_S = remainder_SG.std(1, ddof=1) / math.sqrt(remainder_SG.shape[1])
    kept = np.abs(mean_S) > np.maximum(_RESOLVED * error_S, floor)
    if kept.sum() < 3 or len(set(np.sign(mean_S[kept]))) > 1:
        return None
    weight = (mean_S[kept] / np.maximum(error_S[kept], 1e-6 * np.abs(mean_S[kept]))) ** 2

    def slope(mean: Array) -> float:
        x, y = np.log(sigmas[kept]), np.log(np.abs(mean[kept]))
        x = x - np.average(x, weights=weight)
        return float((weight * x * y).sum() / (weight * x * x).sum())

    parts = np.array_split(np.arange(remainder_SG.shape[1]), min(blocks, remainder_SG.shape[1]))
    without = np.array([slope(np.delete(remainder_SG, part, axis=1).mean(1)) for part in parts])
    error = math.sqrt((len(parts) - 1) * float(((without - without.mean()) ** 2).mean()))
    return around(slope(mean_S), error, len(parts) - 1)


@dataclass(frozen=True, kw_only=True)
class Across:
    """Mean D / sigma of each image on c_m |g|: a line over the images, and the share of the variance it explains."""

    slope: Interval
    intercept: Interval
    r_squared: float


def across_images(mean_I: Array, expected_I: Array) -> Across:
    """Least squares of D / sigma on c_m |g| over images, with HC3 errors.

    By the law the slope is 1 and the intercept 0. A slope below 1 and an intercept above 0 are the mark of the trace
    term, which varies less between images than the gradient does.

    References:
        MacKinnon and White (1985), Some heteroskedasticity-consistent covariance matrix estimators.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # an image alone with a large gradient leaves no error: NaN
        fitted = sm.OLS(mean_I, sm.add_constant(expected_I)).fit(cov_type="HC3", use_t=True)
        errors = np.asarray(fitted.bse)
    freedom = len(expected_I) - 2
    intercept, slope = (
        around(float(value), float(error), freedom) for value, error in zip(fitted.params, errors, strict=True)
    )
    return Across(slope=slope, intercept=intercept, r_squared=float(fitted.rsquared))
