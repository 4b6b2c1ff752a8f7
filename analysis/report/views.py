"""The figures of a report as images within the page, each with a text that stands for it and how to read it."""

import base64
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from maxup_smoothing.analysis.comparison import difference
from maxup_smoothing.analysis.comparison.text import band_text
from maxup_smoothing.analysis.figures import classes
from maxup_smoothing.analysis.figures import curves as figures
from maxup_smoothing.analysis.figures import votes as distributions
from maxup_smoothing.analysis.figures.difference import draw_difference, limits_of
from maxup_smoothing.analysis.report.comparisons import Pair
from maxup_smoothing.analysis.report.numbers import card
from maxup_smoothing.analysis.report.subjects import ReportRun
from maxup_smoothing.analysis.report.text import plain_name, shortened
from maxup_smoothing.analysis.runs import groups
from maxup_smoothing.analysis.runs.run import Run
from maxup_smoothing.certify.statistics.rounding import radius_text

_LARGEST_SVG = 200_000  # bytes; a curve of ten thousand steps is smaller as pixels
_MOST_CLASSES = 30
_CROSSING = " A curve that is higher at the left has more images that are surely wrong, whatever it does at the right."


@dataclass(frozen=True, kw_only=True)
class View:
    """A figure as a data URI; ``alt`` says what it shows, ``told`` what follows from it, ``caption`` how to read it."""

    title: str
    src: str
    alt: str
    caption: str
    told: str = ""


def curve(subjects: Sequence[ReportRun], radius: float) -> View:
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


def difference_views(pairs: Sequence[Pair], subjects: Sequence[ReportRun]) -> list[View | None]:
    """The difference of the two curves of each pair, all on one scale; None where there is no curve to draw.

    Args:
        pairs: Comparisons among the subjects.
        subjects: All runs in the order in which `curve` draws them, whose colours stand for them here, too.
    """
    curves = [_difference(pair) if pair.table else None for pair in pairs]
    known = [curve for curve in curves if curve is not None]
    limits = limits_of(known) if known else None
    colours = {
        subject.path: colour for subject, (colour, _) in zip(subjects, figures.styles(len(subjects)), strict=True)
    }
    found = list[View | None]()
    for pair, curve in zip(pairs, curves, strict=True):
        of_pair = colours[pair.subject.path], colours[pair.control.path]
        found.append(None if curve is None else _difference_view(pair, curve, limits, of_pair))
    return found


def _difference(pair: Pair) -> difference.DifferenceCurve | None:
    try:
        return difference.difference_curve(pair.subject.run.table, pair.control.run.table)
    except ValueError:
        return None


def _difference_view(
    pair: Pair, found: difference.DifferenceCurve, limits: tuple[float, float] | None, colours: tuple[str, str]
) -> View:
    a, b = pair.subject, pair.control
    figure = draw_difference(found, a.drawn.name, b.drawn.name, limits=limits, colours=colours)
    return View(
        title=f"{a.name} minus {b.name}",
        src=data_uri(figure),
        alt=f"Certified accuracy of {a.name} minus that of {b.name} over the radius: between "
        f"{100 * found.difference.min():+.1f} and {100 * found.difference.max():+.1f} points.",
        told=band_text(found, pair.at, a.name, b.name),
        caption="How to read it: where the narrow band leaves 0, a "
        "difference is shown at that radius, if it was chosen before looking; the wide band holds at all "
        f"{len(found.radius):,} radii at once at which one of the curves steps, and so at every radius. All "
        "differences of this page have the same scale.",
    )


def votes(subjects: Sequence[ReportRun]) -> View | None:
    """How the noisy copies of each image voted; None where no table records."""
    known = [one for one in subjects if "counts" in one.run.table]
    if not known:
        return None
    half = "; ".join(
        f"{one.name} {100 * (distributions.shares_of_label(one.run.table) <= 0.5).mean():.1f} %" for one in known
    )
    return View(
        title="Votes of the noisy copies",
        src=data_uri(distributions.draw_shares([one.drawn for one in known])),
        alt=f"Distribution of the share of noisy copies classified correctly; images at or below one half: {half}.",
        caption="How to read it: pick a share of noisy copies on the horizontal axis; the height says how many images "
        "have at most that share of their copies classified correctly. Lower is better. Images right of the dotted "
        "line can be certified; the further right, the larger their radius." + (_CROSSING if len(known) > 1 else ""),
    )


def of_classes(
    subjects: Sequence[ReportRun], radii: Sequence[float], class_names: Sequence[Sequence[str] | None]
) -> list[View]:
    """Certified accuracy of each class, one figure for all runs with the same classes.

    Runs with too many classes, or one, have none.

    Args:
        subjects: The runs.
        radii: One to four.
        class_names: Of the data of each, where that could be read; else those of the data set its manifest names.
    """
    alike: dict[tuple[object, ...], dict[int, list[Run]]] = {}
    for at, (subject, names) in enumerate(zip(subjects, class_names, strict=True)):
        labels = subject.run.table["label"]
        if 1 < labels.nunique() <= _MOST_CLASSES:
            known = _names_of(subject, names)
            counts = tuple(sorted(labels.value_counts().items()))
            alike.setdefault((known, counts), {})[at] = groups.by_class(subject.drawn, known)
    return [_classes_view(subjects, divided, radii) for divided in alike.values()]


def _names_of(subject: ReportRun, class_names: Sequence[str] | None) -> tuple[str, ...] | None:
    known = class_names or subject.run.class_names
    if known is None or int(subject.run.table["label"].max()) >= len(known):
        return None
    return tuple(shortened(plain_name(name)) for name in known)


def _classes_view(subjects: Sequence[ReportRun], divided: Mapping[int, Sequence[Run]], radii: Sequence[float]) -> View:
    every = figures.styles(len(subjects))
    lowest = "; ".join(
        f"{subjects[at].name} {min(parts, key=lambda part: part.summary.acr).name}" for at, parts in divided.items()
    )
    drawn = {subjects[at].drawn.name: parts for at, parts in divided.items()}
    colours = [every[at][0] for at in divided]
    several = len(divided) < len(subjects)
    return View(
        title="Classes" + (f" of {', '.join(subjects[at].name for at in divided)}" if several else ""),
        src=data_uri(classes.draw_classes(drawn, radii, colours)),
        alt=f"Certified accuracy of each class, by run; the class with the lowest average radius: {lowest}.",
        caption="How to read it: one row per class, with its number of images, one panel per radius, one mark per run "
        "with its 95 % interval. An average may hide a class that is hardly ever certified. Lowest average radius: "
        f"{lowest}.",
    )


def samples(subjects: Sequence[ReportRun]) -> View | None:
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
