"""Pixels and sigma: are both in the units that radii are measured in?"""

# Shapes: I images; C channels, H height, W width.

from collections.abc import Iterator

from maxup_smoothing.certify.preflight.finding import FACT, WARNING, Finding
from maxup_smoothing.certify.preflight.subject import Subject

_WIDE = 2.0  # published tables end at sigma 1
_SPAN, _FLAT, _MANY = 64, 2.5, 0.5  # grey levels of 256; standard deviation in them; share of the images


def pixel_findings(subject: Subject) -> Iterator[Finding]:
    """The range that the images use, how flat they are, and sigma against that."""
    x_ICHW = subject.images_ICHW
    low, high, total = int(x_ICHW.min()), int(x_ICHW.max()), len(x_ICHW)
    spread_I = x_ICHW.float().flatten(1).std(dim=1, correction=0)
    flat = int((spread_I < _FLAT).sum())
    span = (high - low) / 255
    seen = f"pixels of {total} images lie in {low} … {high} of 0 … 255"
    if high - low < _SPAN:
        yield Finding(
            level=WARNING,
            check="pixels",
            seen=f"{seen}; sigma {subject.sigma:g} is {subject.sigma / max(span, 1 / 255):.2g} times that range",
            meaning="images are divided by 255, so that these are nearly constant, and radii refer to that scale",
            fix="scale them so that white is 255 (floats in [0, 1] by 255, before they are cast to uint8)",
        )
    elif flat > _MANY * total:
        yield Finding(
            level=WARNING,
            check="pixels",
            seen=f"{seen}, but {flat} of the {total} images have nearly one value each",
            meaning="there is little to be seen in them",
            fix="look at some of them: are these the images, and the right channel of them?",
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
            meaning="hardly anything is left of the images, unless sigma was meant in other units",
            fix=f"sigma is in [0, 1] pixel units: {subject.sigma:g} of 255 levels is {subject.sigma / 255:.2g}, and "
            "one in normalised units is multiplied by their standard deviation",
        )
