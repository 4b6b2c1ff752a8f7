"""The words that a report uses, one line each, and what each of its runs is: what a reader needs before any number."""

from collections.abc import Sequence

from maxup_smoothing.analysis.report.overview import objective
from maxup_smoothing.analysis.report.subjects import UNKNOWN, Subject, shown


def terms(subjects: Sequence[Subject]) -> list[tuple[str, str]]:
    """Names and explanations of r, sigma, n, alpha and ACR, with the values that the runs have."""
    return [
        ("radius r", "no change of the image whose ℓ₂ norm is below r changes the answer, pixels scaled to [0, 1]."),
        ("sigma", f"standard deviation of the noise, in the same units of pixels: {_values(subjects, 'sigma')}."),
        ("n", f"noisy copies of each image whose votes prove its radius: {_values(subjects, 'n')}."),
        ("alpha", f"largest probability that the radius of an image is false: {_values(subjects, 'alpha')}."),
        ("ACR", "average certified radius over all images, 0 for a wrong answer or an abstention."),
    ]


def origin(subject: Subject) -> str | None:
    """How a run was trained, as its configuration tells it; None where there is none."""
    config = subject.config
    if objective(subject) == UNKNOWN:
        return None
    parts = [f"Trained on the {objective(subject)}"]
    forms = {"m": "m = {}", "sigma": "sigma = {}", "epochs": "{} epochs"}
    parts += [form.format(shown(config[name], 20)) for name, form in forms.items() if config.get(name) is not None]
    return f"{', '.join(parts)}."


def _values(subjects: Sequence[Subject], name: str) -> str:
    return " or ".join(dict.fromkeys(subject.setting(name, source=False) for subject in subjects))
