"""Accuracy curves beside logs (``…_acc``): radii and certified accuracies, in two columns or in two lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from maxup_smoothing.certify.logs.log import Given, Log, frame
from maxup_smoothing.certify.logs.source import Source, numbered, split
from maxup_smoothing.certify.tables.fields import NOT_NEGATIVE

_EXPECTED = (
    "expected a radius and an accuracy a line, or two lines, radii in the first and accuracies in the second: radii "
    "rise from 0 or more, and accuracies are in [0, 1] and never rise"
)
_ADVICE = "write a radius and an accuracy a line, under the line `radius accuracy`"
_RADIUS = ("radius", "radii", "r", "eps", "epsilon")
_ACCURACY = ("accuracy", "acc", "certified_accuracy", "certified", "cert_acc")
_Points: TypeAlias = tuple[list[float], list[float]]
_HEADERS = [(radius, accuracy) for radius in _RADIUS for accuracy in _ACCURACY]


@dataclass(frozen=True)
class CurveLog:
    """Radii and accuracies, a pair a line, perhaps under ``radius accuracy``; or a line of each."""

    name: str = "curve"
    project: str = "alinlab and jh-jeong, analyze"

    def matches(self, source: Source) -> bool:
        """Whether the first line is at least two decimal numbers, or names the two columns."""
        if not source.whole:
            return False
        first = split(source.whole[0][1].lower())
        if tuple(first) in _HEADERS:
            return True
        grid = numbered(source)
        if not grid or len(grid[0][1]) < 2:
            return False
        # Whole numbers in the first column are those of images, and alone they are votes; but two lines may be a curve.
        decimal = any("." in text for _, texts in grid for text in texts)
        two_lines = _is_two_lines(grid) and _curve_of_lines(source, grid) is not None
        return two_lines or (decimal and not _may_be_images(grid))

    def read(self, source: Source, given: Given) -> Log:
        """The curve: ``radius`` rising, ``accuracy`` in [0, 1] and never rising.

        Which way the file is to be read its values decide.

        Raises:
            ValueError: If it can be read in no way, or in both.
        """
        named = tuple(split(source.whole[0][1].lower())) in _HEADERS
        grid = numbered(source, _HEADERS)
        if not grid:
            raise source.error(source.whole[0][0], f"{_EXPECTED}.")
        of_lines = _curve_of_lines(source, grid) if _is_two_lines(grid) and not named else None
        if of_lines is not None and _may_be_images(grid):
            raise ValueError(f"{source.path} may be a curve or radii of images; {_ADVICE}.")
        try:
            found = _curve_of_columns(source, grid)
        except ValueError:
            if of_lines is None:
                raise
            found = of_lines
        else:
            if of_lines is not None:
                raise ValueError(
                    f"{source.path} can be read both ways, a radius and an accuracy a line, or a line of "
                    f"each; {_ADVICE}."
                )
        radii, accuracies = found
        notes = (
            "images, n and alpha are not told: no interval can be drawn.",
            "accuracies may be those of radii beside the printed ones: a grid of i * step in floating point lies above "
            "0.35 at i = 70, step = .005.",
            *(["radii are in the first line and accuracies in the second."] if found is of_lines else []),
        )
        return Log(table=frame({"radius": radii, "accuracy": accuracies}), dialect=self.name, kind="curve", notes=notes)


def _may_be_images(grid: Sequence[tuple[int, list[str]]]) -> bool:
    return all(texts[0].isdecimal() and len(texts) in (2, 4, 5) for _, texts in grid)


def _is_two_lines(grid: Sequence[tuple[int, list[str]]]) -> bool:
    return len(grid) == 2 and len(grid[0][1]) == len(grid[1][1])


def _curve_of_lines(source: Source, grid: Sequence[tuple[int, list[str]]]) -> _Points | None:
    """Radii in the first of two lines and accuracies in the second; None if their values refute that."""
    (_, radii), (number, accuracies) = grid
    try:
        return _curve(source, [number] * len(radii), radii, accuracies)
    except ValueError:
        return None


def _curve_of_columns(source: Source, grid: Sequence[tuple[int, list[str]]]) -> _Points:
    """A radius and an accuracy a line.

    Raises:
        ValueError: If a line is not so, with its number.
    """
    for number, texts in grid:
        if len(texts) != 2:
            raise source.error(number, f"{_EXPECTED}.")
    columns = zip(*(texts for _, texts in grid), strict=True)
    return _curve(source, [number for number, _ in grid], *columns)


def _curve(source: Source, numbers: Sequence[int], radii: Sequence[str], accuracies: Sequence[str]) -> _Points:
    """Radii and accuracies as numbers.

    Raises:
        ValueError: If one is not a number in its range, radii do not rise, or accuracies rise; with its line.
    """
    found: _Points = [], []
    for number, first, second in zip(numbers, radii, accuracies, strict=True):
        try:
            radius, accuracy = NOT_NEGATIVE.read(first, "radius"), NOT_NEGATIVE.read(second, "accuracy")
        except ValueError as error:
            raise source.error(number, f"{str(error)[:-1]}; {_EXPECTED}.") from None
        if accuracy > (found[1][-1] if found[1] else 1) or (found[0] and radius <= found[0][-1]):
            raise source.error(number, f"got the radius {first} and the accuracy {second}; {_EXPECTED}.")
        found[0].append(radius)
        found[1].append(accuracy)
    return found
