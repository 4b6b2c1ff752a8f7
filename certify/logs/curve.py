"""Accuracy curves beside logs (``…_acc``): a radius and a certified accuracy a line."""

import re
from dataclasses import dataclass

from certify.logs.log import Given, Log, Source, frame
from certify.row import PARSERS

_LINE = re.compile(r"[0-9]+\.[0-9]+\t[0-9]+\.[0-9]+")


@dataclass(frozen=True)
class Curve:
    """``radius<TAB>accuracy``, without a header."""

    name: str = "curve"
    project: str = "alinlab and jh-jeong, analyze"

    def matches(self, source: Source) -> bool:
        """Whether the first line is two decimal numbers."""
        return bool(source.body) and _LINE.fullmatch(source.body[0][1].strip()) is not None

    def read(self, source: Source, given: Given) -> Log:
        """The curve: ``radius`` rising, ``accuracy`` in [0, 1] and never rising.

        Raises:
            ValueError: If a line is not so.
        """
        radii: list[float] = []
        accuracies: list[float] = []
        for number, line in source.body:
            if not _LINE.fullmatch(line.strip()):
                raise source.error(number, "expected a radius and an accuracy, tab-separated.")
            try:
                radius, accuracy = (PARSERS["radius"](text) for text in line.strip().split("\t"))
            except ValueError as error:
                raise source.error(number, f"radius and accuracy must be {error}.") from None
            if accuracy > (accuracies[-1] if accuracies else 1) or (radii and radius <= radii[-1]):
                raise source.error(number, "radii must rise, and accuracies be in [0, 1] and not rise.")
            radii.append(radius)
            accuracies.append(accuracy)
        notes = (
            "images, n and alpha are not told: no interval can be drawn.",
            "accuracies may be those of radii beside the printed ones: a grid of i * step in floating point lies above "
            "0.35 at i = 70, step = .005.",
        )
        return Log(table=frame({"radius": radii, "accuracy": accuracies}), dialect=self.name, kind="curve", notes=notes)
