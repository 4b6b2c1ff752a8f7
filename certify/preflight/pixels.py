"""Checks that pixels and sigma are in the units in which radii are measured."""

# Shapes: I images; C channels, H height, W width.

from collections.abc import Iterator

from maxup_smoothing.certify.preflight.finding import FACT, WARNING, Finding
from maxup_smoothing.certify.preflight.subject import Subject

_WIDE = 2.0  # sigma above which a warning is given; published tables end at sigma 1
_SPAN, _FLAT = 64, 2.5  # smallest usual range of all images, and standard deviation of one, in grey levels of 256
_MANY = 0.5  # share of nearly constant images above which a warning is given


def pixel_findings(subject: Subject) -> Iterator[Finding]:
    """Report the range of the pixels, nearly constant images, and a sigma that is large for that range."""
    x_ICHW = subject.images_ICHW
    low, high, total = int(x_ICHW.min()), int(x_ICHW.max()), len(x_ICHW)
    spread_I = x_ICHW.float().flatten(1).std(dim=1, correction=0)
    flat = int((spread_I < _FLAT).sum())
    span = (high - low) / 255
    seen = f"values of {total} images lie in {low} … {high}, of possible 0 … 255"
    if high - low < _SPAN:
        yield Finding(
            level=WARNING,
            check="pixels",
            seen=f"{seen}; sigma {subject.sigma:g} is {subject.sigma / max(span, 1 / 255):.3g} times that range",
            meaning="f gets pixels divided by 255, so these images are nearly constant; radii are in that scale",
            fix="scale the images so that white is 255 (multiply floats in [0, 1] by 255 before the cast to uint8)",
        )
    elif flat > _MANY * total:
        yield Finding(
            level=WARNING,
            check="pixels",
            seen=f"{seen}, but {flat} of the {total} images have nearly one value each",
            meaning="f can see hardly anything in them",
            fix="look at some of them, and check that the file holds the right images and the right channels",
        )
    else:
        mean = float(x_ICHW.float().mean()) / 255
        yield Finding(
            level=FACT, check="pixels", seen=f"{seen}: [{low / 255:.3g}, {high / 255:.3g}] for f, mean {mean:.3g}"
        )
    if subject.sigma > _WIDE and subject.about.get("sigma") != subject.sigma:
        yield Finding(
            level=WARNING,
            check="sigma",
            seen=f"sigma {subject.sigma:g} is {subject.sigma:g} times the range from black to white",
            meaning="such noise hides nearly everything in the images, unless sigma was meant in other units",
            fix=f"give sigma in [0, 1] pixel units: {subject.sigma:g} of 255 levels is {subject.sigma / 255:.2g}; a "
            "sigma in normalised units is multiplied by the normalisation's standard deviation",
        )
