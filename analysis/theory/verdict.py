"""From draws to a verdict: for each m, where the law holds, where it does not, and what cannot be told.

Smooth networks are judged image by image, with a margin of 1 %. Networks with kinks are judged as a data set, with a
margin of 5 %: between kinks that are closer than sigma the loss at one image has no gradient that the law could be
about. Three things are judged: the mean of the largest of m noise values, which must be c_m within 1 %; MaxUp's gain
over these images at the smallest sigma; and, for a smooth network, the limit at each image. A verdict is

* FAIL, if one of the three is shown to be off by its margin;
* PASS, if all three are shown to be within it. Images whose gain is lost in rounding do not count: a confident network
  has hardly a gradient there;
* NO VERDICT otherwise: intervals are too wide, no sigma is small enough for the law at some images, or no image stands
  out from rounding.
"""

# Shapes: I images, G groups, S sigmas, R images of noise.

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.analysis.theory.regression import (
    Across,
    Interval,
    across_images,
    aligned,
    coefficient,
    limit,
    mean_interval,
    order,
    ratio_interval,
)

Array = NDArray[np.float64]
Word = Literal["PASS", "FAIL", "NO VERDICT"]

SMOOTH_MARGIN, KINKED_MARGIN, NOISE_MARGIN = 0.01, 0.05, 0.01
#: The law is fitted where sigma |H|_F / |g| is at most this: a range that is known before MaxUp is drawn.
REACH = 0.1
_ROUNDED = 1e-3  # an image counts where rounding is below this share of sigma c_m |g|


@dataclass(frozen=True, kw_only=True)
class LawEvidence:
    """What the verdict is about, as arrays; see ``gradient_norm.Draws`` and ``derivatives.Derivatives``.

    Attributes:
        m: Copies in a group.
        constant: c_m, the constant on trial.
        second: E[M_m^2].
        sigmas: (S,), ascending.
        gain_SIG: MaxUp's loss minus L.
        first_SIG: What remains after the first order.
        second_SIG: What remains after the second order.
        largest_R: The largest of m noise values, its mean over the coordinates of each of R images.
        norm_I: |g|.
        curvature_I: tr H + (E[M_m^2] - 1) g'Hg / |g|^2.
        trace_error_I: Standard error of the trace in it.
        frobenius_I: |H|_F.
        rounding_I: By how much a loss may be off.
        batch_G: Which batch a group was in.
    """

    m: int
    constant: float
    second: float
    sigmas: Array
    gain_SIG: Array
    first_SIG: Array
    second_SIG: Array
    largest_R: Array
    norm_I: Array
    curvature_I: Array
    trace_error_I: Array
    frobenius_I: Array
    rounding_I: Array
    batch_G: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class AtSigma:
    """One sigma.

    ``pooled`` is what MaxUp adds to the loss of the data set over what the law says: its interval is for images drawn
    from many, that of ``drawn`` for these images, with the noise alone. ``plain`` is ``pooled`` without control
    variate, ``predicted`` the law to second order. ``word`` says ``holds`` by the former interval and ``fails`` by the
    latter: that it is off is a fact about these images, that it is not is to be one about others too. ``images`` counts
    the judgements at 1 % of single images (``unresolved``: lost in rounding), ``quartiles`` are of their ratios.
    """

    sigma: float
    pooled: Interval
    drawn: Interval
    plain: Interval
    predicted: float
    word: str
    images: Counter[str]
    quartiles: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What m copies say.

    Attributes:
        word: PASS, FAIL or NO VERDICT.
        why: In words.
        margin: The pooled ratio may be off by this much.
        noise: The mean largest of m noise values over c_m.
        limits: Judgements at 1 % of the limit of D / (sigma c_m |g|) for sigma to 0, image by image.
        limit_off: The largest deviation from 1 among these limits; NaN where there are none.
        curvature: The coefficient of sigma^2, over all images, over what the law says; None where it was not fitted.
        orders: Exponents of what remains after the first and after the second order; None where it is not resolved.
        remainders: What remains after the first and after the second order, mean over images, at each sigma; None where
            it does not stand out from chance (by 4 standard errors) or rounding.
        holds_to: The largest sigma up to which every pooled ratio is shown to be within the margin; None for none.
        at: Each sigma.
        across: Line over the images at the smallest sigma.
    """

    m: int
    constant: float
    second: float
    word: Word
    why: str
    margin: float
    noise: Interval
    limits: Counter[str]
    limit_off: float
    curvature: Interval | None
    orders: tuple[Interval | None, Interval | None]
    remainders: tuple[tuple[Interval | None, ...], tuple[Interval | None, ...]]
    holds_to: float | None
    at: tuple[AtSigma, ...]
    across: Across


def judge(evidence: LawEvidence, *, smooth: bool) -> Verdict:
    """The verdict on one network and one m.

    Raises:
        ValueError: If c_m is not positive (m = 1 has no maximum), or no image has a gradient.
    """
    if not evidence.constant > 0:
        raise ValueError(f"the law is about m of at least 2 copies, got m = {evidence.m}.")
    if not evidence.norm_I.sum() > 0:
        raise ValueError("the gradient of the loss is 0 at every image; there is no gradient norm to check.")
    margin = SMOOTH_MARGIN if smooth else KINKED_MARGIN
    noise = mean_interval(evidence.largest_R / evidence.constant)
    at = tuple(_at(evidence, number, margin) for number in range(len(evidence.sigmas)))
    holding = next((number for number, one in enumerate(at) if one.word != "holds"), len(at))
    limits, off, curvature = _limits(evidence)
    word, why = _verdict(noise, at[0], limits, off, margin, smooth)
    return Verdict(
        m=evidence.m,
        constant=evidence.constant,
        second=evidence.second,
        word=word,
        why=why,
        margin=margin,
        noise=noise,
        limits=limits,
        limit_off=off,
        curvature=curvature,
        orders=_orders(evidence),
        remainders=(_remainder(evidence, evidence.first_SIG), _remainder(evidence, evidence.second_SIG)),
        holds_to=at[holding - 1].sigma if holding else None,
        at=at,
        across=across_images(_estimate(evidence, 0).mean(1) / at[0].sigma, evidence.constant * evidence.norm_I),
    )


def _verdict(
    noise: Interval, smallest: AtSigma, limits: Counter[str], off: float, margin: float, smooth: bool
) -> tuple[Word, str]:
    """What is shown to be wrong, or else what could not be shown."""
    pooled = smallest.pooled
    # (name, judgement, what was found)
    claims = [
        ("the largest of m noise values", noise.word(1, NOISE_MARGIN), f"{noise.value:.4f} c_m"),
        (f"the gain at sigma = {smallest.sigma:g}", smallest.word, f"{pooled.value:.4f} sigma c_m |g|"),
    ]
    if smooth:
        order_of_weight = ("fails", "undecided", "holds")
        worst = next((word for word in order_of_weight if limits[word]), "undecided")
        found = f"off by up to {off:.2%} at {limits['fails']} of {limits.total()} images beyond the margin"
        claims.append(("the limit at each image", worst, found))
    for judgement, word in (("fails", "FAIL"), ("undecided", "NO VERDICT")):
        named = [f"{name} is {found}" for name, said, found in claims if said == judgement]
        if named:
            text = "; ".join(named) + ("" if judgement == "fails" else ", which decides nothing at its interval")
            return ("FAIL" if word == "FAIL" else "NO VERDICT"), text
    lost = f"; {limits['unresolved']} of {limits.total()} images are lost in rounding" if limits["unresolved"] else ""
    return "PASS", f"all within {margin:.0%}{lost if smooth else ''}"


def _estimate(evidence: LawEvidence, number: int) -> Array:
    """(I, G) without bias for E D at one sigma."""
    law_I = evidence.sigmas[number] * evidence.constant * evidence.norm_I
    return evidence.first_SIG[number] + law_I[:, None]


def _resolved(evidence: LawEvidence, number: int) -> NDArray[np.bool_]:
    """(I,): images whose rounding does not matter at this sigma."""
    law_I = evidence.sigmas[number] * evidence.constant * evidence.norm_I
    return np.asarray((law_I > 0) & (evidence.rounding_I <= _ROUNDED * law_I))


def _at(evidence: LawEvidence, number: int, margin: float) -> AtSigma:
    sigma = float(evidence.sigmas[number])
    law_I = sigma * evidence.constant * evidence.norm_I
    estimate_IG = _estimate(evidence, number)
    pooled = ratio_interval(estimate_IG.mean(1), law_I)
    resolved = _resolved(evidence, number)
    ratios = [mean_interval(values / law) for values, law in zip(estimate_IG[resolved], law_I[resolved], strict=True)]
    words = Counter(ratio.word(1, SMOOTH_MARGIN) for ratio in ratios)
    words["unresolved"] = int((~resolved).sum())
    values = [ratio.value for ratio in ratios] or [math.nan]
    low, middle, high = (float(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
    # By batch, for an implementation that mixes up examples makes the groups of a batch depend on each other.
    gain_G = estimate_IG.sum(0) / law_I.sum()
    drawn = mean_interval(np.array([gain_G[evidence.batch_G == batch].mean() for batch in np.unique(evidence.batch_G)]))
    word = "fails" if drawn.word(1, margin) == "fails" else pooled.word(1, margin)
    trusted = evidence.rounding_I.sum() <= _ROUNDED * law_I.sum()
    return AtSigma(
        sigma=sigma,
        pooled=pooled,
        drawn=drawn,
        plain=ratio_interval(evidence.gain_SIG[number].mean(1), law_I),
        predicted=1 + sigma**2 / 2 * float(evidence.curvature_I.sum() / law_I.sum()),
        word=word if trusted else "undecided",
        images=words,
        quartiles=(low, middle, high),
    )


def _limits(evidence: LawEvidence) -> tuple[Counter[str], float, Interval | None]:
    """Judgements of the limit at each image, its largest deviation, and the pooled coefficient of sigma^2."""
    words, off = Counter[str](), math.nan
    bends, errors, laws, law_errors = list[float](), list[float](), list[float](), list[float]()
    resolved_SI = np.array([_resolved(evidence, number) for number in range(len(evidence.sigmas))])
    for image, norm in enumerate(evidence.norm_I):
        kept = resolved_SI[:, image] & (evidence.sigmas * evidence.frobenius_I[image] <= REACH * norm)
        if kept.sum() < 3:
            words["unresolved" if resolved_SI[:, image].sum() < 3 else "undecided"] += 1
            continue
        fitted = limit(evidence.first_SIG[kept, image], evidence.sigmas[kept], evidence.constant * float(norm))
        words[fitted.slope.word(1, SMOOTH_MARGIN)] += 1
        off = float(np.nanmax([off, abs(fitted.slope.value - 1)]))
        bends.append(fitted.bend.value)
        errors.append(fitted.bend_error)
        laws.append(evidence.curvature_I[image] / 2)
        law_errors.append(evidence.trace_error_I[image] / 2)
    columns = (np.array(column) for column in (bends, errors, laws, law_errors))
    return words, off, coefficient(*columns, freedom=evidence.first_SIG.shape[2] - 1)


def _reached(evidence: LawEvidence) -> int:
    """Number of the last sigma that the law reaches, over all images; -1 for none."""
    return int((evidence.sigmas * evidence.frobenius_I.sum() <= REACH * evidence.norm_I.sum()).sum()) - 1


def _orders(evidence: LawEvidence) -> tuple[Interval | None, Interval | None]:
    """Exponents of what remains over the sigmas that the law reaches."""
    reached = slice(_reached(evidence) + 1)
    if reached.stop == 0:
        return None, None
    floor = float(10 * evidence.rounding_I.mean())
    sigmas: Array = evidence.sigmas[reached]
    first, second = (
        order(aligned(remainder_SIG[reached]), sigmas, floor)
        for remainder_SIG in (evidence.first_SIG, evidence.second_SIG)
    )
    return first, second


def _remainder(evidence: LawEvidence, remainder_SIG: Array) -> tuple[Interval | None, ...]:
    floor = evidence.rounding_I.mean()
    found = [mean_interval(remainder_G) for remainder_G in aligned(remainder_SIG, _reached(evidence))]
    return tuple(one if abs(one.value) > max(one.high - one.low, floor) else None for one in found)


def summary(verdicts: Sequence[Verdict]) -> Word:
    """One word for several m: FAIL if one fails, PASS if all pass."""
    words = {verdict.word for verdict in verdicts}
    return "FAIL" if "FAIL" in words else "PASS" if words == {"PASS"} else "NO VERDICT"


@dataclass(frozen=True, kw_only=True)
class Study:
    """The law tried on one network.

    Attributes:
        name: Of the network.
        images: Where the images are from, in words.
        count: How many.
        groups: Of m copies, at each image.
        sigma: Of training; None if unknown.
        nudge: Noise by which the images were moved beforehand.
        kinks: Operations whose gradient jumps.
        smooth: By which standard it was judged.
        corners: Images in which the loss has no gradient.
        reach: The sigma at which sigma |H|_F is a tenth of |g|, over all images: the law is not to be asked for more.
        word: PASS, FAIL or NO VERDICT, of all m together.
        verdicts: One for each m.
    """

    name: str
    images: str
    count: int
    groups: int
    sigma: float | None
    nudge: float
    kinks: tuple[str, ...]
    smooth: bool
    corners: int
    reach: float
    word: Word
    verdicts: tuple[Verdict, ...]
