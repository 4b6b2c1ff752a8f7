"""The figures of a report as images within the page, each with a text that stands for it and how to read it."""

import base64
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from analysis import classes, difference, distributions, figures, groups
from analysis.report_numbers import card
from analysis.report_pairs import Pair
from analysis.report_subjects import Subject, plain_name, shortened
from certify.summary import radius_text
from data.official import CLASSES

_LARGEST_SVG = 200_000  # bytes; a curve of ten thousand steps is smaller as pixels
_MOST_CLASSES = 30
_CROSSING = (
    " Where curves cross at the left, the one that is higher there has more images that are surely wrong, even if it "
    "also has more that are surely right."
)


@dataclass(frozen=True, kw_only=True)
class View:
    """A figure as a data URI; ``alt`` says in words what it shows, ``caption`` how to read it."""

    title: str
    src: str
    alt: str
    caption: str


def curve(subjects: Sequence[Subject], radius: float) -> View:
    """Certified accuracy over the radius of all runs."""
    at = "; ".join(f"{one.name} {card(one, radius).accuracy} %" for one in subjects)
    return View(
        title="Certified accuracy over the radius",
        src=data_uri(figures.draw([one.drawn for one in subjects])),
        alt=f"Falling curves of certified accuracy over the radius. At radius {radius_text(radius)}: {at}.",
        caption="How to read it: at each radius, the share of all images that is classified correctly and proved to "
        "stay so under any smaller change. Higher is better. Shaded: 95 % interval at each radius by itself. Dotted: "
        "the ceiling, the largest radius that so many samples can prove. The drop there is the limit of n, not of the "
        "network: more samples would raise the ceiling.",
    )


def difference_views(pairs: Sequence[Pair]) -> list[View | None]:
    """The difference of the two curves of each pair, all on one scale; None where there is no curve to draw."""
    curves = [_difference(pair) if pair.table else None for pair in pairs]
    known = [curve for curve in curves if curve is not None]
    limits = difference.limits_of(known) if known else None
    return [
        None if curve is None else _difference_view(pair, curve, limits)
        for pair, curve in zip(pairs, curves, strict=True)
    ]


def _difference(pair: Pair) -> difference.DifferenceCurve | None:
    try:
        return difference.difference_curve(pair.subject.run.table, pair.control.run.table)
    except ValueError:
        return None


def _difference_view(pair: Pair, found: difference.DifferenceCurve, limits: tuple[float, float] | None) -> View:
    a, b = pair.subject, pair.control
    figure = difference.draw_difference(found, a.drawn.name, b.drawn.name, limits=limits)
    return View(
        title=f"{a.name} minus {b.name}",
        src=data_uri(figure),
        alt=f"Certified accuracy of {a.name} minus that of {b.name} over the radius: between "
        f"{100 * found.difference.min():+.1f} and {100 * found.difference.max():+.1f} points.",
        caption=f"How to read it: above 0 {a.name} certifies more images, below 0 {b.name} does. Where the narrow band "
        "leaves 0, a difference is shown at that radius, if it was chosen before looking; the wide band covers all "
        "radii at once. All differences of this page have the same scale.",
    )


def votes(subjects: Sequence[Subject]) -> View | None:
    """How the noisy copies of each image voted; None where no table tells."""
    known = [one for one in subjects if "counts" in one.run.table]
    if not known:
        return None
    half = "; ".join(f"{one.name} {(distributions.shares_of_label(one.run.table) <= 0.5).mean():.0%}" for one in known)
    return View(
        title="Votes of the noisy copies",
        src=data_uri(distributions.draw_shares([one.drawn for one in known])),
        alt=f"Distribution of the share of noisy copies classified correctly; images at or below one half: {half}.",
        caption="How to read it: for each share of noisy copies classified correctly, the fraction of images that "
        "reach no more than that. Lower is better, since fewer images have so small a share; images right of 50 % can "
        "be certified, those at the far right widely." + (_CROSSING if len(known) > 1 else ""),
    )


def parts(subject: Subject, radii: Sequence[float], class_names: Sequence[str] | None) -> View | None:
    """Certified accuracy of each class; None where there are too many classes, or one.

    Args:
        subject: The run.
        radii: One to four.
        class_names: Of its data, where that could be read; else those of the data set that the manifest names.
    """
    known = class_names or CLASSES.get(str(subject.told("data", "name")))
    labels = subject.run.table["label"]
    if not 1 < labels.nunique() <= _MOST_CLASSES:
        return None
    fits = known is not None and int(labels.max()) < len(known)
    names = [shortened(plain_name(name)) for name in known] if known is not None and fits else None
    divided = groups.by_class(subject.drawn, names)
    lowest = min(divided, key=lambda part: part.summary.acr)
    return View(
        title=f"Classes of {subject.name}",
        src=data_uri(classes.draw_parts(divided, radii, title=subject.drawn.name)),
        alt=f"Certified accuracy of each of {len(divided)} classes; the lowest average radius has {lowest.name}.",
        caption=f"How to read it ({subject.name}): one row per class, with its number of images, one mark per radius, "
        "with 95 % intervals. An average may hide a class that is hardly ever certified.",
    )


def samples(subjects: Sequence[Subject]) -> View | None:
    """The samples spent on each image by runs that stop early; None where there are none."""
    early = [one for one in subjects if "n" in one.run.table and one.run.summary.procedure not in ("fixed", None)]
    if not early:
        return None
    means = "; ".join(f"{one.name} {distributions.samples_used(one.run.table).mean():,.0f}" for one in early)
    return View(
        title="Samples used",
        src=data_uri(distributions.draw_samples([one.drawn for one in early])),
        alt=f"Distribution of the samples spent on an image; on average {means}.",
        caption="How to read it: how many images (height) took how many noisy samples (logarithmic). Further left is "
        f"cheaper. Mean samples per image: {means}.",
    )


def data_uri(figure: Figure) -> str:
    """The figure as an SVG image, or as a PNG image where that is much smaller; the same characters each time."""
    with warnings.catch_warnings():
        # A name in a script that the figure's font has not: boxes there, and the name itself in the page's text.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        content, kind = figures.encode(figure, ".svg"), "svg+xml"
        if len(content) > _LARGEST_SVG:
            content, kind = figures.encode(figure, ".png"), "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
