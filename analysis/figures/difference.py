"""The difference of two curves with its simultaneous band."""

from collections.abc import Sequence

from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from maxup_smoothing.analysis.comparison.difference import DifferenceCurve
from maxup_smoothing.analysis.figures.curves import GREY, new_axes, plain

_INK = "#222222"

_SHORT = 16  # characters of names with which two columns of a legend fit side by side


def limits_of(curves: Sequence[DifferenceCurve]) -> tuple[float, float]:
    """The ends of a scale in points that holds 0 and the bands of all curves, at least one, with some room."""
    low = min(0.0, *(100 * float(curve.band_low.min()) for curve in curves))
    high = max(0.0, *(100 * float(curve.band_high.max()) for curve in curves))
    room = 0.06 * (high - low)
    return low - room, high + room


def draw_difference(
    curve: DifferenceCurve,
    a: str,
    b: str,
    *,
    limits: tuple[float, float] | None = None,
    colours: tuple[str, str] | None = None,
) -> Figure:
    """The difference over the radius, above 0 where ``a`` is better, with both bands.

    The line and its bands are of no run's colour, since they are about both.

    Args:
        curve: The difference.
        a: Name of the first.
        b: Name of the one that it is compared with.
        limits: Ends of the scale in points, for several figures of one scale; by default `limits_of` this curve.
        colours: Of the two where another figure draws them: the side of 0 on which one is ahead is tinted with its.
    """
    figure, axes = new_axes(float(curve.radius[-1]), "certified accuracy,\ndifference in points")
    axes.set_axisbelow("line")  # the grid lies on the bands, which are opaque: so the legend shows what is seen
    axes.set_ylim(limits or limits_of([curve]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda points, _: f"{points:+g}" if points else "0"))
    sides = list[Patch]()
    if colours is not None:
        bottom, top = axes.get_ylim()
        for colour, name, ends in zip(colours, (a, b), ((0, top), (bottom, 0)), strict=True):
            tint = _on_white(colour, 0.13)
            axes.axhspan(*ends, color=tint, linewidth=0, zorder=0)
            sides.append(Patch(color=tint, label=plain(f"{name} certifies more")))
    axes.axhline(0, color=GREY, linewidth=1)
    shown = []
    for lower, upper, strength, name in (
        (curve.band_low, curve.band_high, 0.22, "95 % band, all radii at once"),
        (curve.low, curve.high, 0.42, "95 % interval, each radius by itself"),
    ):
        band = axes.fill_between(
            curve.radius,
            100 * lower,
            100 * upper,
            step="pre",
            color=_on_white(_INK, strength),
            linewidth=0,
            label=name,
        )
        shown.append(band)
    (line,) = axes.plot(
        curve.radius,
        100 * curve.difference,
        color=_INK,
        drawstyle="steps-pre",
        linewidth=1.6,
        label=plain(f"{a} minus {b}"),
    )
    handles, beside = [line, *reversed(shown), *sides], bool(sides) and max(len(a), len(b)) <= _SHORT
    figure.legend(handles=handles, loc="outside lower left", frameon=False, fontsize=10, ncols=2 if beside else 1)
    if not sides:  # which the legend names
        figure.suptitle(plain(f"above 0: {a} certifies more; below: {b} does"), x=0.01, ha="left", fontsize=10)
    return figure


def _on_white(colour: str, strength: float) -> str:
    """The opaque colour that a colour of this strength makes on white."""
    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(colour))
    return to_hex((red, green, blue))
