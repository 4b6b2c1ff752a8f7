"""One or several runs as a single HTML page that needs nothing else: no network, no script, no other file.

Everything that comes from files is text to the page's template, which escapes it; figures and pictures are images
within the page. The same input gives the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from maxup_smoothing.analysis.comparison.significance import LEVEL
from maxup_smoothing.analysis.report import images, numbers, overview, views
from maxup_smoothing.analysis.report.comparisons import pairs, require_control
from maxup_smoothing.analysis.report.datasets import Library
from maxup_smoothing.analysis.report.notices import agreement, notices
from maxup_smoothing.analysis.report.overview import caveats, objective
from maxup_smoothing.analysis.report.settings import differing, settings
from maxup_smoothing.analysis.report.subjects import UNKNOWN, ReportRun
from maxup_smoothing.analysis.report.text import filters, finished, shown
from maxup_smoothing.certify.statistics.rounding import radius_text

_HERE = Path(__file__).parent


def build_page(subjects: Sequence[ReportRun], *, data_root: Path | None = None, control: str | None = None) -> str:
    """The page of some runs, as HTML.

    Args:
        subjects: At least one, see `analysis.report.subjects.load_subjects`.
        data_root: Where data sets lie, of which pictures are shown; they are never downloaded.
        control: The run that the others on the same images are compared with first; by default the first of them.

    Raises:
        ValueError: If the control is none of the runs.
        FileNotFoundError: If ``data_root`` is not a folder.
    """
    require_control(subjects, control)
    library = Library(data_root)
    radii = numbers.chosen_radii(subjects)
    shared = numbers.shared_radii(subjects)
    middle = shared[len(shared) // 2]
    few = sorted({shared[0], middle, shared[3 * len(shared) // 4]})
    found, alone = pairs(subjects, control)
    data = [library.of(subject) for subject in subjects]
    class_names = [None if isinstance(one, str) else one.classes for one in data]
    # A further figure is one more view here; the template shows them all.
    shown = [views.votes(subjects), *views.of_classes(subjects, few, class_names), views.samples(subjects)]
    warned = notices(subjects)
    several = len(subjects) > 1
    return (
        _environment([subject.name for subject in subjects])
        .get_template("page.html.j2")
        .render(
            title=overview.title(subjects),
            radius=radius_text(middle),
            terms=terms(subjects),
            origins=[origin(subject) for subject in subjects],
            caveats=caveats(subjects, data),
            alphas=sorted({subject.setting("alpha", source=False) for subject in subjects}),
            level=f"{100 * (1 - LEVEL):.0f}",
            cards=[numbers.card(subject, middle) for subject in subjects],
            notices=warned,
            serious=sum(notice.level != "note" for notice in warned),
            chosen=control is not None,
            agreement=agreement(subjects) if several else None,
            glance=overview.glance(subjects, [radius for radius in few if radius > 0]),
            spread=overview.spread_note(data),
            noise=overview.noise_note(subjects),
            every=sorted({text for subject in subjects if (text := overview.every(subject))}),
            doubtful=[(subject.name, numbers.false_text(subject)) for subject in subjects],
            curve=views.curve(subjects, middle),
            joint=numbers.side_by_side_table(subjects, radii) if several else None,
            tables=[numbers.accuracy_table(subject, radii) for subject in subjects],
            pairs=list(zip(found, views.difference_views(found, subjects), strict=True)),
            decided=[pair for pair in found if pair.verdict],
            alone=[subject.name for subject in alone],
            views=[view for view in shown if view is not None],
            galleries=[images.gallery(subject, one) for subject, one in zip(subjects, data, strict=True)],
            differing=differing(subjects),
            settings=[settings(subject) for subject in subjects],
        )
    ) + "\n"


def _environment(names: Sequence[str]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finished,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters(names))
    return environment


def terms(subjects: Sequence[ReportRun]) -> list[tuple[str, str]]:
    """Names and explanations of r, sigma, n, alpha and ACR, with the values that the runs have."""
    return [
        ("radius r", "no change of the image whose ℓ₂ norm is below r changes the answer, pixels scaled to [0, 1]."),
        ("sigma", f"standard deviation of the noise, in the same units of pixels: {_values(subjects, 'sigma')}."),
        ("n", f"noisy copies of each image whose votes prove its radius: {_values(subjects, 'n')}."),
        ("alpha", f"largest probability that the radius of an image is false: {_values(subjects, 'alpha')}."),
        ("ACR", "average certified radius over all images, 0 for a wrong answer or an abstention."),
    ]


def origin(subject: ReportRun) -> str | None:
    """How a run was trained, as its configuration records it; None where there is none."""
    config = subject.config
    if objective(subject) == UNKNOWN:
        return None
    parts = [f"Trained on the {objective(subject)}"]
    forms = {"m": "m = {}", "sigma": "sigma = {}", "epochs": "{} epochs"}
    parts += [form.format(shown(config[name], 20)) for name, form in forms.items() if config.get(name) is not None]
    return f"{', '.join(parts)}."


def _values(subjects: Sequence[ReportRun], name: str) -> str:
    return " or ".join(dict.fromkeys(subject.setting(name, source=False) for subject in subjects))
