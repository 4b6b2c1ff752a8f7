"""One or several runs as a single HTML page that needs nothing else: no network, no script, no other file.

Everything that comes from files is text to the page's template, which escapes it; figures and pictures are images
within the page. The same input gives the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis import report_glance, report_numbers, report_pictures, report_terms, report_views
from analysis.pairs import LEVEL
from analysis.report_caveats import caveats
from analysis.report_library import Library
from analysis.report_notices import agreement, notices
from analysis.report_pairs import pairs, require_control
from analysis.report_settings import differing, settings
from analysis.report_subjects import Subject
from analysis.report_text import filters, finished
from certify.summary import radius_text

_TEMPLATES = Path(__file__).with_name("templates")


def build_page(subjects: Sequence[Subject], *, data_root: Path | None = None, control: str | None = None) -> str:
    """The page of some runs, as HTML.

    Args:
        subjects: At least one, see `analysis.report_subjects.load_subjects`.
        data_root: Where data sets lie, of which pictures are shown; they are never downloaded.
        control: The run that the others on the same images are compared with first; by default the first of them.

    Raises:
        ValueError: If the control is none of the runs.
        FileNotFoundError: If ``data_root`` is no folder.
    """
    require_control(subjects, control)
    library = Library(data_root)
    radii = report_numbers.chosen_radii(subjects)
    shared = report_numbers.shared_radii(subjects)
    middle = shared[len(shared) // 2]
    few = sorted({shared[0], middle, shared[3 * len(shared) // 4]})
    found, alone = pairs(subjects, control)
    data = [library.of(subject) for subject in subjects]
    parts = report_views.parts(subjects, few, [None if isinstance(one, str) else one.classes for one in data])
    views = [report_views.votes(subjects), *parts, report_views.samples(subjects)]
    warned = notices(subjects)
    several = len(subjects) > 1
    return (
        _environment([subject.name for subject in subjects])
        .get_template("report.html.j2")
        .render(
            title=report_glance.title(subjects),
            radius=radius_text(middle),
            terms=report_terms.terms(subjects),
            origins=[report_terms.origin(subject) for subject in subjects],
            caveats=caveats(subjects, data),
            alphas=sorted({subject.setting("alpha", source=False) for subject in subjects}),
            level=f"{100 * (1 - LEVEL):.0f}",
            cards=[report_numbers.card(subject, middle) for subject in subjects],
            notices=warned,
            serious=sum(notice.level != "note" for notice in warned),
            chosen=control is not None,
            agreement=agreement(subjects) if several else None,
            glance=report_glance.glance(subjects, [radius for radius in few if radius > 0]),
            spread=report_glance.spread_note(data),
            noise=report_glance.noise_note(subjects),
            every=sorted({text for subject in subjects if (text := report_glance.every(subject))}),
            doubtful=[(subject.name, report_numbers.false_text(subject)) for subject in subjects],
            curve=report_views.curve(subjects, middle),
            joint=report_numbers.joint_table(subjects, radii) if several else None,
            tables=[report_numbers.accuracy_table(subject, radii) for subject in subjects],
            pairs=list(zip(found, report_views.difference_views(found, subjects), strict=True)),
            decided=[pair for pair in found if pair.verdict],
            alone=[subject.name for subject in alone],
            views=[view for view in views if view is not None],
            galleries=[report_pictures.gallery(subject, one) for subject, one in zip(subjects, data, strict=True)],
            differing=differing(subjects),
            settings=[settings(subject) for subject in subjects],
        )
    ) + "\n"


def _environment(names: Sequence[str]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finished,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters(names))
    return environment
